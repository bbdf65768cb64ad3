# SPDX-License-Identifier: BSD-2-Clause
"""Whole trees in by import and out by export: what comes out is what went in."""

import os
import pty
import random
import select
import signal
import socket
import stat
import subprocess
import time

import harness
import trees
from harness import LMDBFS, lmdbfs, mounted, read_file, run, store_stat, write_file


class RoundTrip(harness.Case):
    def round_trip(self, tree):
        lmdbfs("import", self.store, tree)
        lmdbfs("export", self.store, self.path("out"))
        trees.assert_same(self, tree, self.path("out"))
        self.assert_clean()

    def test_real_data(self):
        tree = trees.real_tree(self.directory)
        self.round_trip(tree)
        run("diff", "-r", tree, self.path("out"))
        figures = store_stat(self.store)
        scanned = trees.scan(tree)
        self.assertEqual(figures["files"], sum("size" in facts for facts in scanned.values()))
        self.assertEqual(figures["bytes"], sum(facts.get("size", 0) for facts in scanned.values()))
        self.assertLess(figures["file_bytes"], 3 * figures["bytes"])

    def test_random_trees(self):
        for seed in range(harness.scaled(6, least=2)):
            with self.subTest(seed=seed):
                tree = self.path(f"tree{seed}")
                self.store = self.path(f"store{seed}")
                trees.make_tree(tree, seed)
                lmdbfs("import", self.store, tree)
                lmdbfs("export", self.store, self.path(f"out{seed}"))
                trees.assert_same(self, tree, self.path(f"out{seed}"))
                self.assert_clean()

    def test_what_is_written_through_the_mount_comes_out_too(self):
        tree = self.path("tree")
        trees.make_tree(tree, "mount")
        with mounted(self.store) as mount:
            run("cp", "-a", tree + "/.", mount.path)
            trees.assert_same(self, tree, mount.path, published=True)
        lmdbfs("export", self.store, self.path("out"))
        trees.assert_same(self, tree, self.path("out"))
        self.assert_clean()

    def test_huge_file(self):
        size = harness.scaled(300 << 20, least=20 << 20) + 12345
        os.mkdir(self.path("tree"))
        trees.write_random(self.path("tree", "huge"), size, random.Random("huge"))
        self.round_trip(self.path("tree"))
        with mounted(self.store) as mount:
            run("cmp", self.path("tree", "huge"), mount / "huge")
            run("cp", mount / "huge", mount / "copy")
            run("cmp", self.path("tree", "huge"), mount / "copy")
        self.assert_clean()

    def test_depth(self):
        """Paths far beyond PATH_MAX, which only a walk by directory descriptors can reach."""
        names = ["d" * 200] * 50 + ["s"] * harness.scaled(1000, least=100)
        os.mkdir(self.path("tree"))
        self.descend(self.path("tree"), names, make=True)
        try:
            lmdbfs("import", self.store, self.path("tree"))
            lmdbfs("export", self.store, self.path("out"))
            self.descend(self.path("out"), names, make=False)
            self.assert_clean()
            with mounted(self.store) as mount:
                self.descend(mount.path, names, make=False)
        finally:
            for name in ("tree", "out"):
                run("rm", "-rf", self.path(name))

    def descend(self, root, names, make):
        directory = os.open(root, os.O_RDONLY)
        for name in names:
            if make:
                os.mkdir(name, dir_fd=directory)
            below = os.open(name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=directory)
            os.close(directory)
            directory = below
        flags = os.O_WRONLY | os.O_CREAT if make else os.O_RDONLY
        with os.fdopen(os.open("bottom", flags, dir_fd=directory), "wb" if make else "rb") as file:
            if make:
                file.write(b"found")
            else:
                self.assertEqual(file.read(), b"found")
        os.close(directory)

    def test_sparse_file(self):
        os.mkdir(self.path("tree"))
        with open(self.path("tree", "sparse"), "wb") as file:
            file.seek(50 << 20)
            file.write(b"end")
        self.round_trip(self.path("tree"))

    def test_empty_tree(self):
        os.mkdir(self.path("tree"))
        lmdbfs("import", self.store, self.path("tree"))
        lmdbfs("export", self.store, self.path("out"))
        self.assertEqual(os.listdir(self.path("out")), [])

    def test_directory_with_many_names(self):
        os.mkdir(self.path("tree"))
        for index in range(harness.scaled(20_000, least=2000)):
            write_file(self.path("tree", f"name-{index}"), b"%d" % index)
        self.round_trip(self.path("tree"))


class Importing(harness.Case):
    def test_links_are_kept(self):
        self.make_file("tree/a/file", b"x" * 5000)
        os.mkdir(self.path("tree", "b"))
        os.link(self.path("tree", "a", "file"), self.path("tree", "b", "same"))
        os.symlink("../a/file", self.path("tree", "b", "link"))
        lmdbfs("import", self.store, self.path("tree"))
        with mounted(self.store) as mount:
            self.assertEqual(os.stat(mount / "a/file").st_nlink, 2)
            self.assertEqual(os.stat(mount / "a/file").st_ino, os.stat(mount / "b/same").st_ino)
            self.assertEqual(os.readlink(mount / "b/link"), "../a/file")
        self.assertEqual(store_stat(self.store)["files"], 1)

    def test_special_files_are_named_and_skipped(self):
        self.make_file("tree/file")
        os.mkfifo(self.path("tree", "a-fifo"))
        os.mknod(self.path("tree", "a-device"), stat.S_IFCHR | 0o600, os.makedev(1, 3))
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(self.path("tree", "a-socket"))
            done = lmdbfs("import", self.store, self.path("tree"))
        for name in ("a-fifo", "a-device", "a-socket"):
            self.assertIn(name, done.stderr)
        lmdbfs("export", self.store, self.path("out"))
        self.assertEqual(os.listdir(self.path("out")), ["file"])

    def test_reserved_name(self):
        """A tree that has our own reserved name in its root doesn't get to hide the real one."""
        self.make_file("tree/.lmdbfs/staging/file")
        self.make_file("tree/file")
        done = lmdbfs("import", self.store, self.path("tree"), check=False)
        self.assertIn(".lmdbfs", done.stderr)
        self.assert_clean()
        with mounted(self.store) as mount:
            self.assertEqual(os.listdir(mount.staging), [])
            self.assertTrue(os.path.exists(os.path.join(mount.path, ".lmdbfs", "stats")))

    def test_import_again_replaces(self):
        tree = self.path("tree")
        self.make_file("tree/changed", b"old" * 3000)
        self.make_file("tree/same", b"same")
        self.make_file("tree/becomes-link", b"file")
        os.symlink("x", self.path("tree", "becomes-file"))
        lmdbfs("import", self.store, tree)
        self.make_file("tree/changed", b"new" * 1000)
        os.unlink(self.path("tree", "becomes-link"))
        os.symlink("y", self.path("tree", "becomes-link"))
        os.unlink(self.path("tree", "becomes-file"))
        self.make_file("tree/becomes-file", b"z")
        self.make_file("tree/added", b"more")
        lmdbfs("import", self.store, tree)
        lmdbfs("export", self.store, self.path("out"))
        trees.assert_same(self, tree, self.path("out"))
        self.assert_clean()
        figures = store_stat(self.store)
        self.assertEqual((figures["files"], figures["symlinks"], figures["orphans"]), (4, 1, 0))

    def test_importing_again_and_again_does_not_grow_the_store(self):
        trees.make_tree(self.path("tree"), "again", files=60)
        lmdbfs("import", self.store, self.path("tree"))
        lmdbfs("import", self.store, self.path("tree"))
        before = store_stat(self.store)
        for _ in range(3):
            lmdbfs("import", self.store, self.path("tree"))
        after = store_stat(self.store)
        for figure in ("records", "files", "directories", "symlinks", "bytes", "extents", "orphans"):
            self.assertEqual(after[figure], before[figure], figure)
        self.assertLessEqual(after["file_bytes"], before["file_bytes"] * 1.5)

    def test_import_never_loses_what_it_does_not_replace(self):
        self.make_file("first/only-here", b"1")
        self.make_file("first/shared/a", b"1")
        self.make_file("second/shared/b", b"2")
        lmdbfs("import", self.store, self.path("first"))
        lmdbfs("import", self.store, self.path("second"))
        with mounted(self.store) as mount:
            self.assertEqual(sorted(os.listdir(mount.path)), ["only-here", "shared"])
            self.assertEqual(sorted(os.listdir(mount / "shared")), ["a", "b"])

    def test_tree_that_changes_meanwhile(self):
        """What vanishes on the way is no reason to stop."""
        for index in range(3000):
            self.make_file(f"tree/{index % 30}/{index}", b"x" * 3000)
        stop = self.path("stop")

        def disturb():
            maker = random.Random("disturb")
            while not os.path.exists(stop):
                directory = self.path("tree", str(maker.randrange(30)))
                for name in os.listdir(directory)[:20]:
                    os.unlink(os.path.join(directory, name))
                for index in range(20):
                    write_file(os.path.join(directory, f"new{maker.random()}"), b"y" * index)
                os.rename(directory, directory + "-renamed")
                os.rename(directory + "-renamed", directory)

        child = harness.Child(disturb)
        try:
            for number in range(harness.scaled(10, least=3)):
                lmdbfs("import", self.path(f"store{number}"), self.path("tree"))
                self.assert_clean(self.path(f"store{number}"))
                self.assertGreater(store_stat(self.path(f"store{number}"))["files"], 1000)
        finally:
            write_file(stop, b"")
        child.result()

    def test_kinds_that_clash(self):
        """A file where the store has a directory, and the reverse: replaced or refused in one line, never damaged."""
        self.make_file("first/name/below", b"1")
        self.make_file("second/name", b"2")
        for order in (("first", "second"), ("second", "first")):
            with self.subTest(order):
                self.store = self.path("store-" + order[0])
                lmdbfs("import", self.store, self.path(order[0]))
                done = lmdbfs("import", self.store, self.path(order[1]), check=False)
                self.assertIn(done.returncode, (0, 1))
                if done.returncode == 1:
                    self.assertIn("name", done.stderr)
                self.assert_clean()

    def test_destination(self):
        self.make_file("tree/file", b"x")
        lmdbfs("import", self.store, self.path("tree"), "a/b/c")
        lmdbfs("import", self.store, self.path("tree"), "/d/")
        lmdbfs("import", self.store, self.path("tree"), "/")
        with mounted(self.store) as mount:
            for place in ("a/b/c/file", "d/file", "file"):
                self.assertEqual(read_file(mount / place), b"x")
            self.assertEqual(sorted(os.listdir(mount.path)), ["a", "d", "file"])

    def test_bad_arguments(self):
        file = self.make_file("file")
        missing = self.path("missing")
        self.assert_refused("import", self.store, missing, says=[missing])
        self.assert_refused("import", self.store, file, says=[file])
        self.make_file("tree/file")
        lmdbfs("import", self.store, self.path("tree"))
        self.assert_refused("import", self.store, self.path("tree"), "file/below", says=["file"])
        self.assert_refused("import", self.store, self.path("tree"), ".lmdbfs/staging", says=[".lmdbfs"])
        self.assert_refused("import", self.store, self.path("tree"), "n" * 256)
        self.assert_clean()

    def test_tree_below_the_store_itself(self):
        """A store must not swallow itself: its own directory as the tree would never end."""
        self.make_file("file")
        lmdbfs("import", self.store, self.directory, check=False, timeout=60)
        self.assert_clean()

    def test_quiet_when_nobody_watches(self):
        trees.make_tree(self.path("tree"), "quiet")
        done = lmdbfs("import", self.store, self.path("tree"))
        self.assert_one_line(done.stdout + done.stderr)
        self.assertRegex(done.stdout + done.stderr, r"\d+ files")

    def test_progress_on_a_terminal(self):
        os.mkdir(self.path("tree"))
        size = harness.scaled(64 << 20, least=8 << 20)
        for index in range(4):
            trees.write_random(self.path("tree", f"{index}"), size, random.Random(index))
        trees.make_tree(self.path("tree", "small"), "progress", files=300, sizes=[10, 2000])
        text = self.run_on_terminal("import", self.store, self.path("tree"))
        self.assertIn("\r", text.replace("\r\n", "\n"))
        self.assertIn("files", text)
        self.assertRegex(text, r"[KMG]i?B/s")
        self.assertRegex(text.splitlines()[-1], r"\d+ files")

    def run_on_terminal(self, *arguments):
        ours, theirs = pty.openpty()
        process = subprocess.Popen([LMDBFS, *arguments], stdin=theirs, stdout=theirs, stderr=theirs)
        os.close(theirs)
        text = b""
        end = time.monotonic() + harness.COMMAND_LIMIT
        while time.monotonic() < end and select.select([ours], [], [], harness.COMMAND_LIMIT)[0]:
            try:
                part = os.read(ours, 65536)
            except OSError:  # EIO: the other side has closed
                break
            text += part
        os.close(ours)
        self.assertEqual(process.wait(timeout=10), 0, text)
        return text.decode()


class Interrupted(harness.Case):
    def setUp(self):
        super().setUp()
        self.tree = self.path("tree")
        maker = random.Random("interrupted")
        for index in range(harness.scaled(4000, least=1000)):
            self.make_file(f"tree/{index % 40}/{index}", maker.randbytes(maker.choice((100, 3000, 10_000, 40_000))))
        start = time.monotonic()
        lmdbfs("import", self.path("trial"), self.tree)
        self.duration = time.monotonic() - start

    def interrupt(self, number, moment):
        """Import with a signal at that part of the usual duration. Returns the exit code and what was said."""
        process = subprocess.Popen([LMDBFS, "import", self.store, self.tree], stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, text=True)
        try:
            process.wait(timeout=moment * self.duration)
        except subprocess.TimeoutExpired:
            process.send_signal(number)
        _, error = process.communicate(timeout=60)
        return process.returncode, error

    def assert_part_of_tree(self):
        """Whatever is in the store is exactly as in the tree."""
        if not os.path.isdir(os.path.join(self.store, "staging")):  # still being made: the next import does it
            return self.assert_made_by_the_next_import()
        self.assert_clean()
        out = self.path("part")
        lmdbfs("export", self.store, out)
        count = 0
        for path, facts in trees.scan(out).items():
            if facts["type"] == stat.S_IFREG:
                self.assertEqual(read_file(os.path.join(os.fsencode(out), path)),
                                 read_file(os.path.join(os.fsencode(self.tree), path)))
                count += 1
        run("rm", "-rf", out)
        return count

    def assert_made_by_the_next_import(self):
        os.makedirs(self.path("empty"), exist_ok=True)
        lmdbfs("import", self.store, self.path("empty"))
        self.assert_clean()
        self.assertEqual(store_stat(self.store)["files"], 0)
        return 0

    def test_killed_while_the_store_is_made(self):
        maker = random.Random("made")
        for number in (signal.SIGINT, signal.SIGKILL):
            for _ in range(harness.scaled(40, least=10)):
                run("rm", "-rf", self.store)
                self.interrupt(number, maker.uniform(0, 0.01) / self.duration)
                self.assert_part_of_tree()

    def interrupt_at_many_moments(self, number, codes):
        maker = random.Random(number)
        interrupted = 0
        for _ in range(harness.scaled(12, least=4)):
            run("rm", "-rf", self.store)
            code, error = self.interrupt(number, maker.random())
            if code == -number and not os.path.exists(self.store):
                interrupted += 1
                continue  # before the program had begun
            self.assertIn(code, codes)
            if code != 0:
                interrupted += 1
            if code == 1:
                self.assert_one_line(error)
            self.assert_part_of_tree()
        self.assertGreater(interrupted, 0, "every import was over before its signal")
        lmdbfs("import", self.store, self.tree)
        lmdbfs("export", self.store, self.path("out"))
        trees.assert_same(self, self.tree, self.path("out"))
        self.assert_clean()

    def test_interrupted_by_the_user(self):
        self.interrupt_at_many_moments(signal.SIGINT, (0, 1))

    def test_killed(self):
        self.interrupt_at_many_moments(signal.SIGKILL, (0, -signal.SIGKILL))


class Exporting(harness.Case):
    def setUp(self):
        super().setUp()
        self.make_file("tree/a/file", b"file")
        self.make_file("tree/a/b/deep", b"deep" * 2000)
        self.make_file("tree/other", b"other")
        lmdbfs("import", self.store, self.path("tree"))

    def test_part_of_the_store(self):
        lmdbfs("export", self.store, self.path("out"), "a")
        trees.assert_same(self, self.path("tree", "a"), self.path("out"))
        lmdbfs("export", self.store, self.path("out2"), "/a/b/")
        trees.assert_same(self, self.path("tree", "a", "b"), self.path("out2"))

    def test_into_a_directory_with_files(self):
        self.make_file("out/other", b"in the way")
        self.make_file("out/stays", b"stays")
        os.makedirs(self.path("out", "a"))
        os.symlink(self.path("outside"), self.path("out", "a", "file"))
        lmdbfs("export", self.store, self.path("out"))
        self.assertEqual(read_file(self.path("out", "other")), b"other")
        self.assertEqual(read_file(self.path("out", "stays")), b"stays")
        self.assertEqual(read_file(self.path("out", "a", "file")), b"file")
        self.assertFalse(os.path.exists(self.path("outside")), "written through a symbolic link")

    def test_bad_arguments(self):
        file = self.make_file("file")
        self.assert_refused("export", self.store, file, says=[file])
        self.assert_refused("export", self.store, self.path("out"), "no/such", says=["no/such"])
        self.assert_refused("export", self.path("missing"), self.path("out"), says=[self.path("missing")])

    def test_permissions_of_published_files_come_back(self):
        """A mount shows no write bits; the export has them as they were given."""
        with mounted(self.store) as mount:
            write_file(mount / "new", b"x")
            harness.wait_sealed(mount / "new")
            os.chmod(mount / "new", 0o664)
            self.assertEqual(stat.S_IMODE(os.stat(mount / "new").st_mode), 0o444)
        lmdbfs("export", self.store, self.path("out"))
        self.assertEqual(stat.S_IMODE(os.stat(self.path("out", "new")).st_mode), 0o664)

    def test_full_target_disk(self):
        self.make_file("tree/large", os.urandom(20 << 20))
        lmdbfs("import", self.store, self.path("tree"))
        with harness.small_disk(self.directory, 16) as disk:
            error = self.assert_refused("export", self.store, disk)
            self.assertRegex(error, "(?i)no space|disk full")


if __name__ == "__main__":
    harness.main()
