# SPDX-License-Identifier: BSD-2-Clause
"""A directory of the host that publishes what is renamed into it: what arrives, in what way, and who sees what when."""

import ctypes
import errno
import os
import stat
import struct
import time

import harness
import inbox
from harness import LIBC, NOBODY, RENAME_EXCHANGE, lmdbfs, read_file, rename_with, run, wait_for, write_file

ATTRIB, MOVED_TO, CREATE, DELETE, DELETE_SELF = 0x4, 0x80, 0x100, 0x200, 0x400


class Arriving(inbox.InboxCase):
    """Every way for a thing to get into the directory."""

    def test_file_link_symlink_tree(self):
        with self.mounted() as mount:
            self.put("file", b"moved")
            linked = self.make_file("outside/linked", b"linked")
            os.link(linked, os.path.join(self.inbox, "link"))
            os.symlink("somewhere/else", os.path.join(self.inbox, "symlink"))
            self.put_tree({"a/b/deep": b"deep", ".hidden": b"dots inside are names like others", "large": bytes(3_000_000)})
            self.drain(mount)
            self.assertEqual(sorted(os.listdir(mount.path)), ["file", "link", "symlink", "tree"])
            self.assertEqual(self.read(mount, "file", "link", "tree/a/b/deep"), [b"moved", b"linked", b"deep"])
            self.assertEqual(os.readlink(mount / "symlink"), "somewhere/else")
            self.assertEqual(read_file(mount / "tree/large"), bytes(3_000_000))
            self.assertTrue(harness.is_sealed(mount / "tree/large"))
            self.assertEqual(read_file(linked), b"linked", "a link was taken, not the file")
            self.assertEqual(self.taken(), [])
            self.assertEqual(os.listdir(mount.staging), [], "what is on its way is nobody's business")
        self.assert_clean()

    @staticmethod
    def read(mount, *names):
        return [read_file(mount / name) for name in names]

    def test_attributes(self):
        """Owners, modes, times and hard links within a tree are those that it arrived with."""
        top = self.make_tree({"script": b"#!/bin/sh\n", "sub/one": b"two names", "late": b"x"})
        os.link(os.path.join(top, "sub/one"), os.path.join(top, "other"))
        os.symlink("script", os.path.join(top, "symlink"))
        for number, (name, mode) in enumerate((("script", 0o4755), ("sub/one", 0o640), ("late", 0o444), ("sub", 0o2750))):
            path = os.path.join(top, name)
            os.chown(path, 1000 + number, 2000 + number)
            os.chmod(path, mode)
            os.utime(path, ns=(10**18 + number, 10**18 + 7 * number))
        os.lchown(os.path.join(top, "symlink"), 77, 78)
        os.utime(top, ns=(5, 6))
        names = ["", "script", "sub/one", "other", "late", "sub", "symlink"]
        before = {name: os.lstat(os.path.join(top, name)) for name in names}
        with self.mounted() as mount:
            os.rename(top, os.path.join(self.inbox, "tree"))
            self.drain(mount)
            for name, old in before.items():
                new = os.lstat(mount / os.path.join("tree", name))
                writable = 0o222 if stat.S_ISREG(old.st_mode) else 0
                self.assertEqual(new.st_mode, old.st_mode & ~writable, name)
                self.assertEqual((new.st_uid, new.st_gid), (old.st_uid, old.st_gid), name)
                self.assertEqual(new.st_mtime_ns, old.st_mtime_ns, name)
            self.assertEqual(os.stat(mount / "tree/other").st_ino, os.stat(mount / "tree/sub/one").st_ino)
            self.assertEqual(os.stat(mount / "tree/other").st_nlink, 2)
        self.assert_clean()

    def test_other_users(self):
        """Who may write in the directory publishes, as himself."""
        os.chmod(self.inbox, 0o1777)
        theirs = self.path("theirs")
        os.mkdir(theirs)
        os.chown(theirs, NOBODY, NOBODY)

        def publish():
            write_file(os.path.join(theirs, "tmp"), b"mine")
            os.rename(os.path.join(theirs, "tmp"), os.path.join(self.inbox, "file"))

        with self.mounted("allow_other") as mount:
            harness.as_user(publish)
            self.drain(mount)
            found = os.stat(mount / "file")
            self.assertEqual((found.st_uid, found.st_gid), (NOBODY, NOBODY))
            with self.assert_errno(errno.EACCES, errno.EPERM):
                harness.as_user(os.listdir, os.path.join(self.inbox, ".taken"))

    def test_programs_that_write_in_place(self):
        tree = self.make_tree({f"d{n % 7}/f{n}": os.urandom(n * 17) for n in range(200)}, "source")
        files = {}
        for directory, _, names in os.walk(tree):
            files |= {os.path.relpath(os.path.join(directory, n), tree): read_file(os.path.join(directory, n)) for n in names}
        with harness.small_disk(self.directory) as disk, self.mounted() as mount:
            run("cp", "-a", tree, os.path.join(self.inbox, "cp"))
            run("rsync", "-a", tree + "/", os.path.join(self.inbox, "rsync"))
            run("cp", os.path.join(tree, "d1/f1"), os.path.join(self.inbox, "single"))
            write_file(os.path.join(disk, "foreign"), b"over there")
            run("mv", os.path.join(disk, "foreign"), self.inbox)
            self.drain(mount)
            self.assert_files(mount / "cp", files)
            self.assert_files(mount / "rsync", files)
            self.assertEqual(self.read(mount, "single", "foreign"), [files["d1/f1"], b"over there"])
        self.assert_clean()

    def wait_until_quiet(self, path):
        wait_for(lambda: time.time() - os.stat(path).st_ctime > 1.5, what="the file is older than what counts as quiet")

    def test_half_written_files_are_left_alone(self):
        with self.mounted() as mount:
            path = os.path.join(self.inbox, "slow")
            top = os.path.join(self.inbox, "tree")
            os.mkdir(top)
            with open(path, "wb") as file, open(os.path.join(top, "inner"), "wb") as inner:
                for half in (file, inner):
                    half.write(b"first half")
                    half.flush()
                self.wait_until_quiet(inner.name)
                self.put("marker")
                wait_for(lambda: os.path.exists(mount / "marker"))
                wait_for(lambda: self.counters(mount)["waiting"] == 2)
                self.assertEqual(self.remains(), ["slow", "tree"])
                self.assertEqual(os.listdir(mount.path), ["marker"])
                for half in (file, inner):
                    half.write(b", second half")
            self.drain(mount)
            self.assertEqual(self.read(mount, "slow", "tree/inner"), [b"first half, second half"] * 2)

    def test_renamed_while_it_is_written(self):
        """It waits for its writer, and others pass."""
        with self.mounted() as mount, open(self.make_file("outside/open"), "r+b") as file:
            os.rename(file.name, os.path.join(self.inbox, "open"))
            for number in range(20):
                self.put(f"pass{number}")
            wait_for(lambda: self.counters(mount) == {"published": 20, "rejected": 0, "waiting": 1})
            file.write(b"what was written last")
            file.close()
            self.drain(mount)
            self.assertEqual(read_file(mount / "open"), b"what was written last")

    def test_a_directory_that_is_never_quiet(self):
        """In it, what has been finished for long is published nevertheless."""
        with self.mounted() as mount:
            os.makedirs(os.path.join(self.inbox, "busy/sub"))
            write_file(os.path.join(self.inbox, "busy/sub/done"), b"done")

            def touched():
                write_file(os.path.join(self.inbox, "busy/now"), b"again")
                return os.path.exists(mount / "busy/sub/done")

            wait_for(touched)
            self.assertEqual(read_file(mount / "busy/sub/done"), b"done")
            self.drain(mount)
            self.assert_files(mount / "busy", {"sub/done": b"done", "now": b"again"})

    def test_dot_names_are_temporary(self):
        with self.mounted() as mount:
            write_file(os.path.join(self.inbox, ".file.Xa41"), b"x")
            os.rename(self.make_tree({"a": b"a"}), os.path.join(self.inbox, ".tree"))
            self.put("marker")
            wait_for(lambda: os.path.exists(mount / "marker"))
            self.wait_until_quiet(os.path.join(self.inbox, ".file.Xa41"))
            self.put("marker2")
            wait_for(lambda: os.path.exists(mount / "marker2"))
            self.assertEqual(self.remains(), [".file.Xa41", ".tree"])
            os.rename(os.path.join(self.inbox, ".tree"), os.path.join(self.inbox, "tree"))
            wait_for(lambda: os.path.exists(mount / "tree/a"))
            self.assertEqual(sorted(os.listdir(mount.path)), ["marker", "marker2", "tree"])


class Seeing(inbox.InboxCase):
    """What users of the mount see, and when."""

    def test_at_once_in_spite_of_caches(self):
        for options in ((), ("ro",), ("records=large",)):
            with self.subTest(options=options), self.mounted(*options) as mount:
                self.look(mount)
            run("rm", "-rf", self.store)

    def look(self, mount):
        self.put_tree({"old": b"old"}, "dir")
        self.drain(mount)
        for _ in range(3):  # the kernel remembers that there is none, and the listing
            self.assertFalse(os.path.exists(mount / "dir/new"))
            self.assertFalse(os.path.exists(mount / "top"))
            self.assertEqual(os.listdir(mount / "dir"), ["old"])
            self.assertEqual(os.listdir(mount.path), ["dir"])
        lookups = [mount.stats()['lmdbfs_requests_total{op="lookup"}'] for _ in range(2)]
        self.assertFalse(os.path.exists(mount / "dir/new") or os.path.exists(mount / "top"))
        lookups.append(mount.stats()['lmdbfs_requests_total{op="lookup"}'])
        self.assertEqual(lookups[2] - lookups[1], lookups[1] - lookups[0], "it was not in the cache: this shows nothing")
        with open(mount / "dir/old", "rb") as reader:
            before = os.stat(mount / "dir")
            self.put("top", b"top")
            self.put_tree({"new": b"new", "old": b"replaced", "sub/x": b"x"}, "dir")
            self.drain(mount)
            self.assertEqual(sorted(os.listdir(mount.path)), ["dir", "top"])
            self.assertEqual(sorted(os.listdir(mount / "dir")), ["new", "old", "sub"])
            self.assert_files(mount.path, {"top": b"top", "dir/new": b"new", "dir/old": b"replaced", "dir/sub/x": b"x"})
            self.assertEqual(reader.read(), b"old", "who has the old version open keeps it")
            self.assertEqual(os.fstat(reader.fileno()).st_nlink, 0)
            self.assertGreater(os.stat(mount / "dir").st_mtime_ns, before.st_mtime_ns)

    def test_merging(self):
        """A directory that exists keeps its attributes and its other names."""
        with self.mounted() as mount:
            os.mkdir(mount / "dir", 0o750)
            os.chown(mount / "dir", 5, 6)
            harness.publish(mount / "dir/stays", b"stays")
            harness.publish(mount / "dir/replaced", b"old")
            tree = self.make_tree({"replaced": b"new", "added/x": b"x"}, "dir")
            os.chmod(tree, 0o700)
            os.symlink("stays", os.path.join(tree, "link"))
            os.rename(tree, os.path.join(self.inbox, "dir"))
            self.drain(mount)
            found = os.stat(mount / "dir")
            self.assertEqual((stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid), (0o750, 5, 6))
            self.assertEqual(os.readlink(mount / "dir/link"), "stays")
            self.assert_files(mount / "dir", {"stays": b"stays", "replaced": b"new", "added/x": b"x", "link": b"stays"})

    def test_new_directories_appear_whole(self):
        count = harness.scaled(500, least=50)
        with self.mounted() as mount:

            def watch():
                seen = set()
                while not os.path.exists(self.path("stop")):
                    try:
                        seen.add(len(os.listdir(mount / "tree")))
                    except FileNotFoundError:
                        seen.add(0)
                return seen

            watcher = harness.Child(watch)
            self.put_tree({f"{n}": b"x" * n for n in range(count)})
            self.drain(mount)
            wait_for(lambda: len(os.listdir(mount / "tree")) == count)
            write_file(self.path("stop"), b"")
            self.assertLessEqual(watcher.result(), {0, count})

    def test_order(self):
        """Names are published in the order in which they arrived: one that is there was preceded by all before it."""
        count = harness.scaled(600, least=50)
        with self.mounted() as mount:

            def watch():
                steps, low = set(), 0
                while low < count:
                    there = [number for number in range(low, count) if os.path.exists(mount / f"n{number}")]
                    if there and not os.path.exists(mount / f"n{max(there) - 1}") and max(there) > 0:
                        return f"{max(there)} was there, and not the one before it"
                    if there:
                        low = max(there) + 1
                        steps.add(low)
                return len(steps)

            watcher = harness.Child(watch)
            for number in range(count):
                self.put(f"n{number}", b"%d" % number)
            self.assertIsInstance(watcher.result(), int, watcher.result())
            self.drain(mount)
            self.assertEqual([read_file(mount / f"n{number}") for number in range(count)],
                             [b"%d" % number for number in range(count)])

    def test_order_of_what_is_replaced(self):
        """A name may be replaced in the inbox before it was taken. What is published arrived after all that was before."""
        rounds = harness.scaled(3000, least=200)
        with self.mounted() as mount:
            for name in ("a", "b"):
                self.put(name, b"0")
            self.drain(mount)

            def watch():
                changes, now = 0, 0
                while now < rounds:
                    for name, other in (("a", "b"), ("b", "a")):
                        known, before, now = (int(read_file(mount / which)) for which in (other, name, name))
                        # It changed after the other was seen. a arrives before b in every round.
                        if now != before and (now <= known if name == "a" else now < known):
                            return f"{name} became {now} after {other} was {known}"
                        changes += now != before
                self.assertGreater(changes, 0, "no change was seen: this shows nothing")
                return rounds

            watcher = harness.Child(watch)
            for number in range(1, rounds + 1):
                self.put("a", b"%d" % number)
                self.put("b", b"%d" % number)
            self.assertEqual(watcher.result(), rounds)
            self.drain(mount)
            self.assertEqual(self.counters(mount)["rejected"], 0)

    def test_names_never_vanish(self):
        """Whoever opens or lists what is being replaced finds the old file or the new one, whole."""
        rounds = harness.scaled(1500, least=100)
        with self.mounted() as mount:
            self.put("file", b"0" * 5000)
            self.drain(mount)
            stop = self.path("stop")

            def look():
                seen = set()
                while not os.path.exists(stop):
                    content = read_file(mount / "file")
                    if content != content[:1] * 5000 or os.listdir(mount.path) != ["file"]:
                        return content[:20]
                    seen.add(os.stat(mount / "file").st_ino)
                return len(seen)

            lookers = [harness.Child(look) for _ in range(3)]
            for number in range(rounds):
                self.put("file", b"%d" % (number % 10) * 5000)
            self.drain(mount)
            write_file(stop, b"")
            for looker in lookers:
                self.assertGreater(looker.result(), 1)

    def test_renamed_by_users_meanwhile(self):
        """Users rename the very names that are being replaced: the kernel believes what the store holds."""
        rounds = harness.scaled(300, least=100)
        with self.mounted() as mount:
            self.put("file", b"first")
            self.put_tree({str(number): b"of a user" for number in range(5 * rounds)}, "moved")
            self.drain(mount)
            stop = self.path("stop")

            def move(first):
                for number in range(first, 5 * rounds, 3):
                    rename_with(RENAME_EXCHANGE, mount / "file", mount / f"moved/{number}")
                    if os.path.exists(stop):
                        break
                return number

            movers = [harness.Child(move, first) for first in range(3)]
            for number in range(rounds):
                self.put("file", b"%d" % number)
                wait_for(lambda: not self.remains())
            self.drain(mount)
            write_file(stop, b"")
            for mover in movers:
                self.assertGreater(mover.result(), 3)
            lmdbfs("export", self.store, self.path("out"), "moved")
            names = [str(number) for number in range(5 * rounds)]
            # By name: a listing would put it right.
            self.assertEqual({name: read_file(mount / f"moved/{name}") for name in names},
                             {name: read_file(self.path("out", name)) for name in names})

    def test_watchers(self):
        """What inotify tells of what the daemon does by itself: nothing about names, the end of a replaced file."""
        with self.mounted() as mount:
            self.put("file", b"old")
            self.put("linked", b"two names")
            self.put_tree({"x": b"x"}, "dir")
            self.drain(mount)
            os.link(mount / "linked", mount / "other")
            descriptor = LIBC.inotify_init1(os.O_NONBLOCK)
            self.addCleanup(os.close, descriptor)
            wanted = ATTRIB | MOVED_TO | CREATE | DELETE | DELETE_SELF
            watches = {}
            for name in ("", "file", "linked", "dir"):
                path = os.fsencode(mount / name)
                watches[LIBC.inotify_add_watch(descriptor, ctypes.c_char_p(path), wanted)] = name
            for name in ("new", "file", "linked"):
                self.put(name, b"new")
            self.put_tree({"x": b"new", "y": b"y"}, "dir")
            self.drain(mount)
            harness.publish(mount / "marker", b"x")
            events = []

            def heard():
                try:
                    data = os.read(descriptor, 65536)
                except BlockingIOError:
                    return False
                while data:
                    watch, mask, _, length = struct.unpack_from("iIII", data)
                    events.append((watches[watch], data[16 : 16 + length].rstrip(b"\0"), mask & wanted))
                    data = data[16 + length :]
                return ("", b"marker", MOVED_TO) in events

            wait_for(heard)
            ours = [event for event in events if not event[1].startswith(b"marker") and event[2]]
            self.assertEqual(ours, [("file", b"", DELETE_SELF)])


class Mounting(inbox.InboxCase):
    def test_what_arrived_before(self):
        """What lies there when it is mounted is published in the order of arrival, which the inode numbers show."""
        names = [f"n{(number * 7919) % 1000:03}" for number in range(harness.scaled(400, least=300))]
        with self.mounted():
            pass
        for name in names:
            self.put(name, name.encode())
        self.put_tree({"x": b"x"})
        with self.mounted() as mount:
            self.drain(mount)
            numbers = [os.stat(mount / name).st_ino for name in names]
            self.assertEqual([read_file(mount / name) for name in names], [name.encode() for name in names])
            # Those that arrived within one tick of the clock have no order.
            inversions = sum(one > other for one, other in zip(numbers, numbers[1:]))
            self.assertLess(inversions, len(names) // 2)
            halves = [numbers[: len(names) // 2], numbers[len(names) // 2 :]]
            self.assertLess(sum(halves[0]) / len(halves[0]), sum(halves[1]) / len(halves[1]))
            self.assertEqual(read_file(mount / "tree/x"), b"x")
        self.assert_clean()

    def test_read_only_mount(self):
        """Nobody can write through the mount, also if the store didn't exist before."""
        with self.mounted("ro") as mount:
            self.put("file", b"1")
            self.put_tree({"a/b": b"b"})
            self.drain(mount)
            self.assert_files(mount.path, {"file": b"1", "tree/a/b": b"b"})
            for change in (
                lambda: write_file(mount / "new", b"x"),
                lambda: os.unlink(mount / "file"),
                lambda: os.mkdir(mount / "d"),
                lambda: os.open(mount / "file", os.O_WRONLY),
                lambda: os.chmod(mount / "file", 0o600),
            ):
                with self.assert_errno(errno.EROFS):
                    change()
            self.put("file", b"2")
            self.drain(mount)
            self.assertEqual(read_file(mount / "file"), b"2")
            self.assert_refused("import", self.store, self.outside, says=[self.store])
        self.assert_clean()

    def test_stat(self):
        with self.mounted() as mount:
            self.put("file")
            os.rename(self.make_file("outside/.x"), os.path.join(self.inbox, ".lmdbfs"))
            wait_for(lambda: self.counters(mount) == {"published": 1, "rejected": 1, "waiting": 0})
            text = lmdbfs("stat", mount.path).stdout
            self.assertRegex(text, rf"\ninbox {self.inbox}\n +published +1\n +rejected +1 .*\n +waiting +0\n")
        with harness.mounted(self.store) as mount:
            self.assertNotIn("inbox", lmdbfs("stat", mount.path).stdout)

    def test_directory_is_made(self):
        place = self.path("new")
        with self.mounted(inbox=place) as mount:
            self.assertEqual(stat.S_IMODE(os.stat(place).st_mode), 0o700)
            os.rename(self.make_file("outside/file"), os.path.join(place, "file"))
            wait_for(lambda: os.path.exists(mount / "file"))

    def test_wrong_directories(self):
        mountpoint = self.path("mnt")
        os.mkdir(mountpoint)
        os.mkdir(self.store)
        wrong = {
            mountpoint: "in each other", os.path.join(mountpoint, "in"): "in each other",
            os.path.join(self.store, "in"): "in each other", self.directory: "in each other", "/": "in each other",
            self.make_file("file"): "ot a directory", self.path("no/such"): "No such file",
        }
        for place, words in wrong.items():
            with self.subTest(place=place):
                self.assert_refused("mount", "-o", f"inbox={place}", self.store, mountpoint, says=[words])
        self.assert_refused("mount", "-o", "inbox=", self.store, mountpoint, code=2, says=["inbox"])
        os.mkdir(self.path("foreign"))
        os.mkdir(self.path("foreign/.taken"))
        os.chown(self.path("foreign/.taken"), NOBODY, NOBODY)
        self.assert_refused("mount", "-o", f"inbox={self.path('foreign')}", self.store, mountpoint, says=[".taken"])
        os.mkdir(self.path("mnt2"))
        with self.mounted():
            self.assert_refused("mount", "-o", f"inbox={self.inbox}", self.path("store2"), self.path("mnt2"),
                                says=["another mount"])
        self.assertFalse(harness.is_mounted(mountpoint))


if __name__ == "__main__":
    harness.main()
