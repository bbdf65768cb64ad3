# SPDX-License-Identifier: BSD-2-Clause
"""An inbox when things go wrong: crashes, a full disk, a bad one, what can't be published, and an early end."""

import os
import random
import subprocess
import threading
import time

import harness
import inbox
from harness import LMDBFS, lmdbfs, read_file, run, wait_for, write_file

RESERVED = "this name is reserved in the root of a store"
SPECIAL = "a device, pipe or socket; a store has no such files"
DIRECTORY_THERE = "there is a directory of this name"
OTHER_THERE = "there is something else than a directory of this name"


# A sanitizer's own memory is many times that of the program: such a build only shows that every byte is right.
SANITIZED = b"__asan_init" in read_file(LMDBFS)


class Rejecting(inbox.InboxCase):
    def test_reasons(self):
        with self.mounted() as mount:
            os.makedirs(mount / "directory/sub")
            harness.publish(mount / "file", b"file")
            self.put("directory", b"a file over a directory")
            self.put_tree({"x": b"a directory over a file"}, "file")
            self.put(".lmdbfs", b"reserved")
            os.mkfifo(self.path("outside/fifo"))
            os.rename(self.path("outside/fifo"), os.path.join(self.inbox, "fifo"))
            tree = self.make_tree({"good": b"good", "directory/sub": b"file over directory", "directory/new": b"new"})
            os.mkfifo(os.path.join(tree, "directory/pipe"))
            os.rename(os.path.join(tree), os.path.join(self.inbox, "tree"))
            self.drain(mount)
            self.assertEqual(self.rejected(), {
                "directory": DIRECTORY_THERE, "file": OTHER_THERE, ".lmdbfs": RESERVED, "fifo": SPECIAL,
                "tree/directory/pipe": SPECIAL,
            })
            self.assertEqual(read_file(os.path.join(self.inbox, ".rejected/directory")), b"a file over a directory")
            self.assertEqual(read_file(os.path.join(self.inbox, ".rejected/file/x")), b"a directory over a file")
            self.assert_files(mount.path, {
                "file": b"file", "tree/good": b"good", "tree/directory/sub": b"file over directory",
                "tree/directory/new": b"new",
            })
            self.assertEqual(self.counters(mount), {"published": 1, "rejected": 5, "waiting": 0})
        self.assert_clean()

    def test_parts_of_a_tree(self):
        """The good parts of a tree that meets one that exists are published, each of the others is rejected."""
        with self.mounted() as mount:
            os.makedirs(mount / "tree/a/directory")
            harness.publish(mount / "tree/a/file", b"old")
            self.put_tree({"a/directory": b"1", "a/file/x": b"2", "a/good": b"3"})
            self.drain(mount)
            self.assertEqual(self.rejected(), {"tree/a/directory": DIRECTORY_THERE, "tree/a/file": OTHER_THERE})
            self.assert_files(mount / "tree", {"a/file": b"old", "a/good": b"3"})

    def test_names_that_are_taken(self):
        """Nothing that was rejected is ever replaced or lost."""
        with self.mounted() as mount:
            os.mkdir(mount / "name")
            os.mkdir(mount / ("l" * 255))
            for number in range(4):
                self.put("name", b"%d" % number)
                self.put("l" * 255, b"%d" % number)
                self.drain(mount)
            place = os.path.join(self.inbox, ".rejected")
            found = sorted(name for name in os.listdir(place) if not name.endswith(".reason"))
            self.assertEqual(len(found), 8)
            self.assertEqual([read_file(os.path.join(place, name)) for name in found if name.startswith("name")],
                             [b"0", b"1", b"2", b"3"])
            for name in found:
                self.assertEqual(read_file(os.path.join(place, name + ".reason")).decode(), DIRECTORY_THERE + "\n")

    def test_lines_in_the_log(self):
        os.mkdir(self.path("mnt"))
        with open(self.path("log"), "wb") as log:
            daemon = subprocess.Popen([LMDBFS, "mount", "-f", "-o", f"inbox={self.inbox}", self.store, self.path("mnt")],
                                      stderr=log)
            self.addCleanup(daemon.kill)
            wait_for(lambda: harness.is_mounted(self.path("mnt")))
            os.mkdir(self.path("mnt/name"))
            for _ in range(50):
                self.put("name")
                wait_for(lambda: not self.remains())
            wait_for(lambda: len(self.rejected()) == 50)
            run("umount", self.path("mnt"))
            self.assertEqual(daemon.wait(harness.DAEMON_EXIT_LIMIT), 0)
        lines = read_file(self.path("log")).decode().splitlines()
        self.assertEqual(lines[0], f"lmdbfs: inbox: name is in .rejected now: {DIRECTORY_THERE}")
        self.assertEqual(len(lines), 32)
        self.assertTrue(lines[-1].endswith("; no more lines about such"))

    def test_unreadable_files(self):
        """A damaged file on the inbox's own filesystem, which is of another kind as well, is rejected; others are not."""
        other, bad = self.path("other"), os.urandom(300_000)
        for name, content in (("bad", bad), ("good", b"good")):
            self.make_file(f"import/{name}", content)
        lmdbfs("import", other, self.path("import"))
        with open(harness.data_file(other), "r+b") as file:
            data = file.read()
            file.seek(data.index(bad[200_000:200_100]))
            file.write(b"#")
        with harness.mounted(other) as source:
            os.mkdir(source / "in")
            with self.mounted(inbox=source / "in") as mount:
                for name in ("bad", "good"):
                    os.rename(source / name, source / os.path.join("in", name))
                wait_for(lambda: self.counters(mount) == {"published": 1, "rejected": 1, "waiting": 0})
                self.assert_files(mount.path, {"good": b"good"})
                self.assertEqual(read_file(source / "in/.rejected/bad.reason").decode(), "Input/output error\n")
        self.assert_clean()


class Ending(inbox.InboxCase):
    def test_unmounted_early(self):
        """What was not published is there at the next mount, and then published once."""
        files = {f"d{number % 9}/f{number}": b"%d" % number for number in range(harness.scaled(3000, least=300))}
        with self.mounted():
            self.put_tree(files)
            for number in range(300):
                self.put(f"single{number}", b"single")
            wait_for(lambda: not self.remains())
        with self.mounted("ro") as mount:
            self.drain(mount)
            self.assert_files(mount / "tree", files)
            self.assertEqual(len(os.listdir(mount.path)), 301)
            self.assertEqual(self.taken(), [])
        self.assert_clean()

    def test_killed(self):
        """However the daemon dies, each file is published exactly once, not again over what came later."""
        chance = random.Random("inbox")
        dropped, moved = [], set()
        with self.mounted() as mount:
            os.mkdir(mount / "done")
            os.mkdir(mount / "tree")
        for round_ in range(harness.scaled(12, least=4)):
            with self.mounted("sync") as mount:
                stop = threading.Event()
                mover = threading.Thread(target=self.move_on, args=(mount, moved, stop))
                mover.start()
                burst = self.path(f"outside/{round_}")
                os.mkdir(burst)
                for number in range(60):
                    name = f"r{round_}n{number}"
                    write_file(os.path.join(burst, name), name.encode() * chance.choice((1, 500, 50_000)))
                    dropped.append(name)
                parts = {f"r{round_}t{number}": b"part" for number in range(20)}
                wait_for(lambda: "tree" not in self.remains(), what="the tree of the last round is taken")
                self.put_tree(parts)
                dropped += [f"tree/{name}" for name in parts]
                for name in os.listdir(burst):
                    os.rename(os.path.join(burst, name), os.path.join(self.inbox, name))
                time.sleep(chance.random() * 0.12)  # the moment is the test, not a wait for something
                mount.kill()
                stop.set()
                mover.join()
        with self.mounted() as mount:
            self.drain(mount)
            there = {name for name in os.listdir(mount.path) if name not in ("done", "tree")}
            there |= {f"tree/{name}" for name in os.listdir(mount / "tree")}
            done = {name.replace("+", "/") for name in os.listdir(mount / "done")}
            self.assertEqual(there & done, set(), "published again, behind the back of who had moved it on")
            self.assertEqual(there | done, set(dropped))
            self.assertLessEqual(moved, done)
            self.assertEqual(self.counters(mount)["rejected"], 0)
            for name in there | done:
                content = read_file(mount / (name if name in there else "done/" + name.replace("/", "+")))
                self.assertIn(content, [b"part"] if "/" in name else [name.encode() * n for n in (1, 500, 50_000)])
        self.assertGreater(len(moved), 0, "nothing was moved on: this shows nothing")
        self.assertEqual(self.taken(), [])
        self.assert_clean()

    @staticmethod
    def move_on(mount, moved, stop):
        """Whatever appears is renamed by a user of the mount: should it be published again, there would be two."""
        while not stop.is_set():
            try:
                names = [name for name in os.listdir(mount.path) if name not in ("done", "tree")]
                names += [f"tree/{name}" for name in os.listdir(mount / "tree")]
                for name in names:
                    os.rename(mount / name, mount / ("done/" + name.replace("/", "+")))
                    moved.add(name)
            except OSError as error:
                if error.errno not in harness.GONE:
                    raise
                return

    def test_other_store(self):
        """What was taken for one store isn't published in another one, and not forgotten either."""
        with self.mounted() as mount, open(self.make_file("outside/open"), "r+b") as file:
            os.rename(file.name, os.path.join(self.inbox, "open"))
            wait_for(lambda: not self.remains())
            mount.kill()
        with harness.mounted(self.path("store2"), f"inbox={self.inbox}") as mount:
            self.put("file")
            self.drain(mount)
            self.assertEqual(os.listdir(mount.path), ["file"])
        with self.mounted() as mount:
            self.drain(mount)
            self.assertEqual(os.listdir(mount.path), ["open"])


class LittleRoom(inbox.InboxCase):
    def test_full_disk(self):
        """It waits for room, in order, and goes on by itself."""
        with harness.small_disk(self.directory) as disk:
            self.store = os.path.join(disk, "store")
            with self.mounted() as mount:
                harness.publish(mount / "before", b"before")
                ballast = os.path.join(disk, "ballast")
                room = os.statvfs(disk)
                run("fallocate", "-l", str(room.f_bavail * room.f_frsize - (9 << 20)), ballast)
                large = os.urandom(12 << 20)
                self.put("large", large)
                self.put_tree({"x": b"x"})
                wait_for(lambda: not self.remains() or self.counters(mount)["waiting"] >= 1)
                tries = mount.stats()["lmdbfs_store_commits_total"]
                wait_for(lambda: mount.stats()["lmdbfs_store_commits_total"] > tries + 20, what="it is tried again")
                self.assertEqual(os.listdir(mount.path), ["before"])
                self.assertEqual(self.counters(mount)["rejected"], 0)
                self.assertEqual(read_file(mount / "before"), b"before")
                os.unlink(ballast)
                self.drain(mount)
                self.assertEqual(read_file(mount / "large"), large)
                self.assertEqual(read_file(mount / "tree/x"), b"x")
                self.assertEqual(self.rejected(), {})
            self.assert_clean()

    def test_memory(self):
        """A tree of many names takes no more memory than a few."""
        count = harness.scaled(20_000, least=2000)
        tree = self.make_tree({})
        for number in range(count):
            if number % 1000 == 0:
                os.mkdir(os.path.join(tree, f"d{number}"))
            write_file(os.path.join(tree, f"d{number // 1000 * 1000}", f"name-of-a-file-{number}"), b"%d" % number * 50)
        for number in range(count // 2):  # subdirectories by the thousand, in one
            os.mkdir(os.path.join(tree, "d0", f"sub{number}"))
        with self.mounted() as mount:
            before = most = mount.stats()["lmdbfs_memory_bytes"]
            os.rename(tree, os.path.join(self.inbox, "tree"))
            while not os.path.exists(mount / "tree"):
                most = max(most, mount.stats()["lmdbfs_memory_bytes"])
            self.drain(mount)
            self.assertEqual(sum(len(names) for _, _, names in os.walk(mount / "tree")), count)
            if not SANITIZED:
                self.assertLess(most - before, 12 << 20)


if __name__ == "__main__":
    harness.main()
