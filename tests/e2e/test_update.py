# SPDX-License-Identifier: BSD-2-Clause
"""The three shapes of update: by way of staging, by a temporary file anywhere, under the final name."""

import errno
import mmap
import os
import stat
import tempfile
import time

import harness
import trees
from harness import (
    RENAME_EXCHANGE, lmdbfs, mounted, publish, read_file, rename_with, run, wait_sealed, write_file,
)


class Publishing(harness.MountedCase):
    def shapes(self, path, content):
        """Every shape of update, to be done to `path`."""
        staged = os.path.join(self.mount.staging, "new")
        root = self.mount / ".temporary"
        beside = path + ".tmp"
        for temporary in (staged, beside, root):
            yield lambda temporary=temporary: publish(path, content, temporary)
        yield lambda: self.publish_open(path, content, beside)
        yield lambda: self.publish_open(path, content, staged)

    @staticmethod
    def publish_open(path, content, temporary):
        """Renamed while still open, with the second half of the content in a buffer until the close."""
        with open(temporary, "wb", buffering=1 << 20) as file:
            file.write(content[: len(content) // 2])
            file.flush()
            file.write(content[len(content) // 2 :])
            os.rename(temporary, path)

    def test_shapes(self):
        os.mkdir(self.mount / "directory")
        for size in trees.FEW_SIZES:
            for name in ("file", "directory/file"):
                path = self.mount / name
                old = None
                for number, update in enumerate(self.shapes(path, os.urandom(size))):
                    with self.subTest(size=size, name=name, shape=number):
                        update()
                        content = read_file(path)
                        self.assertEqual(len(content), size)
                        if size:
                            wait_sealed(path)
                        self.assertEqual(read_file(path), content)
                        new = os.stat(path).st_ino
                        self.assertNotEqual(new, old)
                        old = new
        self.assertEqual(sorted(os.listdir(self.mount.path)), ["directory", "file"])
        self.assertEqual(os.listdir(self.mount.staging), [])

    def test_content_after_every_shape(self):
        for size in trees.FEW_SIZES:
            content = os.urandom(size)
            for update in self.shapes(self.mount / "file", content):
                publish(self.mount / "file", b"old")
                update()
                self.assertEqual(read_file(self.mount / "file"), content)

    def test_under_the_final_name(self):
        for size in trees.FEW_SIZES:
            content = os.urandom(size)
            path = self.mount / f"file{size}"
            write_file(path, content)
            self.assertEqual(read_file(path), content)
            if size:
                wait_sealed(path)
                with self.assert_errno(errno.EPERM):
                    write_file(path, b"again")
            self.assertEqual(read_file(path), content)

    def test_file_with_writers_is_sealed_by_the_last(self):
        path = self.mount / "file"
        with open(path, "wb") as first:
            with open(path, "ab") as second:
                second.write(b"second")
            first.write(b"first!")
            first.flush()
            self.assertFalse(harness.is_sealed(path))
            descriptor = os.dup(first.fileno())
        self.assertEqual(os.write(descriptor, b" more"), 5)
        self.assertFalse(harness.is_sealed(path))
        os.close(descriptor)
        wait_sealed(path)
        self.assertEqual(read_file(path), b"first! more")

    def test_writing_and_reading_an_unsealed_file(self):
        """Until it is closed it is an ordinary file."""
        with open(self.mount / "file", "w+b", buffering=0) as file:
            file.write(b"0123456789" * 1000)
            self.assertEqual(os.pread(file.fileno(), 10, 5), b"5678901234")
            os.pwrite(file.fileno(), b"X", 5)
            file.truncate(20)
            self.assertEqual(os.stat(self.mount / "file").st_size, 20)
            self.assertEqual(read_file(self.mount / "file"), b"01234X67890123456789")
            file.truncate(30)
            os.fsync(file.fileno())
            os.fdatasync(file.fileno())
            os.posix_fallocate(file.fileno(), 0, 40)
            self.assertEqual(os.fstat(file.fileno()).st_size, 40)
            os.lseek(file.fileno(), 1 << 20, os.SEEK_SET)
            file.write(b"far")
        wait_sealed(self.mount / "file")
        self.assertEqual(read_file(self.mount / "file"), b"01234X67890123456789" + bytes((1 << 20) - 20) + b"far")

    def test_appending_from_several_processes(self):
        lines = harness.scaled(500, least=100)

        def append(name):
            with open(self.mount / "log", "ab", buffering=0) as file:
                for index in range(lines):
                    file.write(b"%s %04d\n" % (name, index))

        with open(self.mount / "log", "ab"):
            children = [harness.Child(append, b"writer%d" % number) for number in range(4)]
            for child in children:
                child.result()
        found = read_file(self.mount / "log").splitlines()
        expected = [b"writer%d %04d" % (number, index) for number in range(4) for index in range(lines)]
        self.assertEqual(sorted(found), expected)

    def test_holes(self):
        """fallocate() on a file that is being written does what it does on a disk."""
        paths = [self.mount / "file", self.path("file")]
        files = [open(path, "w+b", buffering=0) for path in paths]
        for path, file in zip(paths, files):
            file.write(b"x" * 300_000)
            for arguments in (["-p", "-o", "8192", "-l", "8192"], ["-z", "-o", "100000", "-l", "5000"],
                              ["-z", "-o", "299000", "-l", "5000"], ["-l", "400000"], ["-n", "-l", "500000"]):
                run("fallocate", *arguments, path)
        contents = [os.pread(file.fileno(), 1 << 20, 0) for file in files]
        self.assertEqual(len(contents[0]), 400_000)
        self.assertEqual(contents[0], contents[1])
        for file in files:
            file.close()
        wait_sealed(paths[0])
        run("cmp", *paths)
        with open(paths[0], "rb") as file:
            self.assertEqual(os.lseek(file.fileno(), 0, os.SEEK_DATA), 0)
            self.assertLessEqual(os.lseek(file.fileno(), 0, os.SEEK_HOLE), 400_000)

    def test_direct_and_synchronous_writes(self):
        for flags in (os.O_DIRECT, os.O_SYNC, os.O_DSYNC, os.O_DIRECT | os.O_APPEND):
            descriptor = os.open(self.mount / "temporary", os.O_WRONLY | os.O_CREAT | flags)
            buffer = mmap.mmap(-1, 8192)  # aligned, as O_DIRECT wants it
            buffer[:] = os.urandom(8192)
            for _ in range(40):
                self.assertEqual(os.write(descriptor, buffer), 8192)
            os.close(descriptor)
            os.rename(self.mount / "temporary", self.mount / "file")
            self.assertEqual(read_file(self.mount / "file"), buffer[:] * 40)

    def test_writable_mapping_of_a_new_file(self):
        """Pages changed through a mapping are in the file, also those changed last before the rename."""
        for size in (4096, 300_000):
            content = harness.publish_mapped(self.mount / "file", size)
            wait_sealed(self.mount / "file")
            self.assertEqual(read_file(self.mount / "file"), content)

    def test_many_mapped_files_at_a_time(self):
        for path, content in harness.publish_many_mapped(self.mount).items():
            wait_sealed(path)
            self.assertEqual(read_file(path), content)

    def test_portage(self):
        """flat_hash: mkstemp in the root, write, stat, chmod, rename; on ENOENT the directory is made first."""
        count = harness.scaled(100, least=20)
        for round_ in range(2):
            for index in range(count):
                content = b"DEPEND=%d %d\n" % (round_, index) * (index * 3)
                target = self.mount / f"cat-{index % 7}/package-{index}"
                descriptor, temporary = tempfile.mkstemp(dir=self.mount.path)
                with os.fdopen(descriptor, "wb") as file:
                    file.write(content)
                self.assertEqual(os.stat(temporary).st_size, len(content))
                os.chmod(temporary, 0o644)
                try:
                    os.rename(temporary, target)
                except FileNotFoundError:
                    os.mkdir(os.path.dirname(target))
                    os.rename(temporary, target)
                self.assertEqual(read_file(target), content)
                self.assertEqual(stat.S_IMODE(os.stat(target).st_mode) & ~0o222, 0o444)
        self.assertEqual(sorted(os.listdir(self.mount.path)), [f"cat-{index}" for index in range(7)])

    def test_exclusive_creation(self):
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        os.close(os.open(self.mount / "lock", flags, 0o600))
        self.assertEqual(stat.S_IMODE(os.stat(self.mount / "lock").st_mode) & 0o577, 0o400)
        with self.assert_errno(errno.EEXIST):
            os.open(self.mount / "lock", flags)
        os.symlink("nowhere", self.mount / "link")
        with self.assert_errno(errno.EEXIST):
            os.open(self.mount / "link", flags)
        os.unlink(self.mount / "lock")
        os.close(os.open(self.mount / "lock", flags))

    def test_one_of_many_gets_the_lock_file(self):
        def take(number):
            won = 0
            for index in range(harness.scaled(100, least=20)):
                try:
                    os.close(os.open(self.mount / f"lock{index}", os.O_CREAT | os.O_EXCL | os.O_WRONLY))
                    won += 1
                except FileExistsError:
                    pass
            return won

        children = [harness.Child(take, number) for number in range(4)]
        self.assertEqual(sum(child.result() for child in children), harness.scaled(100, least=20))

    def test_empty_files(self):
        write_file(self.mount / "empty", b"")
        self.assertEqual(os.stat(self.mount / "empty").st_size, 0)
        publish(self.mount / "full", b"x")
        publish(self.mount / "full", b"")
        self.assertEqual(read_file(self.mount / "full"), b"")
        write_file(self.mount / "empty", b"filled later")  # as touch, then a program that fills it
        self.assertEqual(read_file(self.mount / "empty"), b"filled later")
        wait_sealed(self.mount / "empty")

    def test_mode_and_times_survive_sealing(self):
        with open(self.mount / "file", "wb") as file:
            file.write(b"x" * 5000)
            os.fchmod(file.fileno(), 0o751)
            os.fchown(file.fileno(), 12, 34)
            os.utime(file.fileno(), ns=(1_234_567_890_123_456_789, 1_111_111_111_987_654_321))
        wait_sealed(self.mount / "file")
        status = os.stat(self.mount / "file")
        self.assertEqual((stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid), (0o551, 12, 34))
        self.assertEqual(status.st_mtime_ns, 1_111_111_111_987_654_321)

    def test_modification_time_is_that_of_the_last_write(self):
        with open(self.mount / "file", "wb", buffering=0) as file:
            before = time.time_ns()
            file.write(b"x" * 5000)
            after = time.time_ns()
        wait_sealed(self.mount / "file")
        tick = 10_000_000  # the kernel's coarse clock
        self.assertTrue(before - tick <= os.stat(self.mount / "file").st_mtime_ns <= after + tick)

    def test_old_times(self):
        publish(self.mount / "file", b"x")
        for nanoseconds in (0, 1, -1, -10**18, 5 * 10**18):
            os.utime(self.mount / "file", ns=(nanoseconds, nanoseconds))
            self.assertEqual(os.stat(self.mount / "file").st_mtime_ns, nanoseconds)


class PublishingWithOpen(Publishing):
    """Where the kernel asks to open and to close, and the store counts the writers."""

    options = ("records=large",)


class Staging(harness.MountedCase):
    def staged(self, *names):
        return os.path.join(self.mount.staging, *names)

    def test_ordinary_files(self):
        """Opened, written and closed any number of times, and sealed only when they leave."""
        path = self.staged("file")
        expected = b""
        for index in range(10):
            with open(path, "ab") as file:
                file.write(b"line %d\n" % index)
            expected += b"line %d\n" % index
            self.assertEqual(read_file(path), expected)
        with open(path, "r+b") as file:
            file.write(b"LINE")
        os.truncate(path, len(expected) - 1)
        expected = b"LINE" + expected[4:-1]
        self.assertEqual(read_file(path), expected)
        self.assertFalse(harness.is_sealed(path))
        os.rename(path, self.mount / "file")
        self.assertTrue(harness.is_sealed(self.mount / "file"))
        self.assertEqual(read_file(self.mount / "file"), expected)
        with self.assert_errno(errno.EPERM):
            write_file(self.mount / "file", b"")

    def test_directory_renamed_out(self):
        os.makedirs(self.staged("tree/a/b"))
        expected = {}
        for index, size in enumerate(trees.FEW_SIZES):
            name = f"tree/a/{'b/' if index % 2 else ''}{index}"
            expected[name] = os.urandom(size)
            write_file(self.staged(name), expected[name])
            with open(self.staged(name), "ab") as file:
                file.write(b"more")
            expected[name] += b"more"
        os.symlink("a", self.staged("tree/link"))
        os.rename(self.staged("tree"), self.mount / "tree")
        for name, content in expected.items():
            self.assertEqual(read_file(self.mount / name), content)
            self.assertTrue(harness.is_sealed(self.mount / name), name)
        self.assertEqual(os.readlink(self.mount / "tree/link"), "a")
        self.assertEqual(os.listdir(self.mount.staging), [])

    def test_directory_exchanged_with_a_published_one(self):
        for version in range(5):
            os.makedirs(self.staged("next"))
            for index in range(20):
                write_file(self.staged(f"next/{index}"), b"version %d" % version)
            if version == 0:
                os.rename(self.staged("next"), self.mount / "current")
            else:
                rename_with(RENAME_EXCHANGE, self.staged("next"), self.mount / "current")
                self.assertEqual(read_file(self.staged("next/0")), b"version %d" % (version - 1))
                run("rm", "-r", self.staged("next"))
            names = [f"current/{index}" for index in range(20)]
            self.assertEqual(set(self.contents(*names)), {b"version %d" % version})
            self.assertTrue(harness.is_sealed(self.mount / "current/3"))

    def stage(self, name, directories, files):
        """A tree of so many files in each of so many directories. Returns their contents by name."""
        expected = {}
        for directory in range(directories):
            os.makedirs(self.staged(name, str(directory)))
            for index in range(files):
                expected[f"{directory}/{index}"] = b"%d of %d" % (index, directory) * (500 if index % 20 == 0 else 1)
                write_file(self.staged(name, str(directory), str(index)), expected[f"{directory}/{index}"])
        return expected

    def test_large_directory_renamed_out(self):
        """More files than are released by the rename itself: all there at once, and closed to writers."""
        expected = self.stage("tree", 10, 200)
        other = self.stage("other", 2, 200)
        os.rename(self.staged("tree"), self.mount / "tree")
        for name in reversed(expected):
            with self.assert_errno(errno.EPERM), open(self.mount / f"tree/{name}", "r+b", buffering=0) as file:
                file.write(b"x")
        for name in other:
            with open(self.staged("other", name), "ab") as file:
                file.write(b"more")
        for name, content in expected.items():
            self.assertEqual(read_file(self.mount / f"tree/{name}"), content)
            wait_sealed(self.mount / f"tree/{name}")
        os.rename(self.staged("other"), self.mount / "other")
        for name, content in other.items():
            self.assertEqual(read_file(self.mount / f"other/{name}"), content + b"more")

    def test_daemon_killed_after_a_large_directory_was_renamed_out(self):
        """Whatever was left to do is done by the next start."""
        expected = self.stage("tree", 10, 200)
        os.rename(self.staged("tree"), self.mount / "tree")
        harness.sync(self.mount.path)
        self.mount.kill()
        with mounted(self.store, *self.options, at=self.path("again")) as mount:
            for name, content in expected.items():
                self.assertEqual(read_file(mount / f"tree/{name}"), content)
                self.assertTrue(harness.is_sealed(mount / f"tree/{name}"), name)
        self.assert_clean()

    def test_directory_with_a_file_still_open(self):
        os.mkdir(self.staged("tree"))
        with open(self.staged("tree/open"), "wb", buffering=0) as file:
            file.write(b"before")
            os.rename(self.staged("tree"), self.mount / "tree")
            file.write(b" after")
            self.assertEqual(read_file(self.mount / "tree/open"), b"before after")
        wait_sealed(self.mount / "tree/open")
        self.assertEqual(read_file(self.mount / "tree/open"), b"before after")

    def test_linked_out(self):
        write_file(self.staged("file"), b"content")
        os.link(self.staged("file"), self.mount / "file")
        self.assertEqual(read_file(self.mount / "file"), b"content")
        wait_sealed(self.mount / "file")
        os.unlink(self.staged("file"))
        self.assertEqual(read_file(self.mount / "file"), b"content")

    def test_published_file_moved_in(self):
        publish(self.mount / "file", b"content")
        os.rename(self.mount / "file", self.staged("file"))
        self.assertEqual(read_file(self.staged("file")), b"content")
        os.rename(self.staged("file"), self.mount / "again")
        self.assertEqual(read_file(self.mount / "again"), b"content")


class StagingWithOpen(Staging):
    options = ("records=large",)


class Persistence(harness.Case):
    """What was done through one mount is there in the next, and in an export."""

    def test_everything_is_there_after_a_remount(self):
        with mounted(self.store) as mount:
            trees.make_tree(mount.path, "persistence", files=100)
            expected = trees.scan(mount.path)
        with mounted(self.store) as mount:
            trees.assert_same(self, expected, mount.path, published=True)
        self.assert_clean()
        lmdbfs("export", self.store, self.path("out"))
        trees.assert_same(self, expected, self.path("out"), published=True)

    def test_staging_is_left_as_it_was(self):
        with mounted(self.store) as mount:
            write_file(os.path.join(mount.staging, "file"), b"half")
            os.mkdir(os.path.join(mount.staging, "directory"))
        with mounted(self.store) as mount:
            self.assertEqual(sorted(os.listdir(mount.staging)), ["directory", "file"])
            with open(os.path.join(mount.staging, "file"), "ab") as file:
                file.write(b" and half")
            os.rename(os.path.join(mount.staging, "file"), mount / "file")
            self.assertEqual(read_file(mount / "file"), b"half and half")

    def test_fsync_and_syncfs(self):
        with mounted(self.store) as mount:
            with open(mount / "file", "wb") as file:
                file.write(b"x")
                file.flush()
                os.fsync(file.fileno())
            directory = os.open(mount.path, os.O_RDONLY)
            os.fsync(directory)
            os.close(directory)
            run("sync", "-f", mount.path)
            run("sync", mount / "file")
            mount.kill()
        with mounted(self.store) as mount:
            self.assertEqual(read_file(mount / "file"), b"x")


if __name__ == "__main__":
    harness.main()
