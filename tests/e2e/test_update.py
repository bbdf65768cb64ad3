# SPDX-License-Identifier: BSD-2-Clause
"""Changing a mounted store: the three shapes of update, everything else that changes a name, and real programs."""

import errno
import fcntl
import mmap
import os
import random
import stat
import tempfile
import time

import harness
import trees
from harness import (RENAME_EXCHANGE, RENAME_NOREPLACE, RENAME_WHITEOUT, as_user, lmdbfs, mounted, publish, read_file,
                     rename_with, run, wait_sealed, write_file)  # fmt: skip

SIZES = (0, 1, 1925, 1926, 1927, 4079, 4080, 4081, 4096, 131071, 131072, 131073, 400_000)


class MountedCase(harness.Case):
    """A test on a fresh mount, and a clean store afterwards."""

    options = ()

    def setUp(self):
        super().setUp()
        self.addCleanup(self.assert_clean)
        self.mount = self.enterContext(mounted(self.store, *self.options))

    def contents(self, *names):
        return [read_file(self.mount / name) for name in names]


class Publishing(MountedCase):
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
        for size in SIZES:
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
        for size in SIZES:
            content = os.urandom(size)
            for update in self.shapes(self.mount / "file", content):
                publish(self.mount / "file", b"old")
                update()
                self.assertEqual(read_file(self.mount / "file"), content)

    def test_under_the_final_name(self):
        for size in SIZES:
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
        self.assertEqual(sorted(found), sorted(b"writer%d %04d" % (number, index) for number in range(4) for index in range(lines)))

    def test_holes(self):
        """fallocate() on a file that is being written does what it does on a disk."""
        paths = [self.mount / "file", self.path("file")]
        files = [open(path, "w+b", buffering=0) for path in paths]  # noqa: SIM115
        for path, file in zip(paths, files):
            file.write(b"x" * 300_000)
            for arguments in (["-p", "-o", "8192", "-l", "8192"], ["-z", "-o", "100000", "-l", "5000"],
                              ["-z", "-o", "299000", "-l", "5000"], ["-l", "400000"], ["-n", "-l", "500000"]):  # fmt: skip
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
            with open(self.mount / "temporary", "w+b") as file:
                file.truncate(size)
                with mmap.mmap(file.fileno(), size) as view:
                    view[:] = b"m" * size
                    os.rename(self.mount / "temporary", self.mount / "file")
                    view[-1:] = b"!"
            wait_sealed(self.mount / "file")
            self.assertEqual(read_file(self.mount / "file"), b"m" * (size - 1) + b"!")

    def test_portage(self):
        """flat_hash: mkstemp in the root, write, stat, chmod, rename; on ENOENT the directory is made first."""
        for round_ in range(2):
            for index in range(harness.scaled(100, least=20)):
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
        self.assertEqual(sorted(os.listdir(self.mount.path)), sorted({f"cat-{index % 7}" for index in range(harness.scaled(100, least=20))}))

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


class Staging(MountedCase):
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
        for index, size in enumerate(SIZES):
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
            self.assertEqual(set(self.contents(*[f"current/{index}" for index in range(20)])), {b"version %d" % version})
            self.assertTrue(harness.is_sealed(self.mount / "current/3"))

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


class Names(MountedCase):
    def test_directories(self):
        os.mkdir(self.mount / "a")
        with self.assert_errno(errno.EEXIST):
            os.mkdir(self.mount / "a")
        os.makedirs(self.mount / "a/b/c")
        with self.assert_errno(errno.ENOTEMPTY, errno.EEXIST):
            os.rmdir(self.mount / "a")
        with self.assert_errno(errno.EISDIR):
            os.unlink(self.mount / "a")
        write_file(self.mount / "file", b"x")
        with self.assert_errno(errno.ENOTDIR):
            os.rmdir(self.mount / "file")
        with self.assert_errno(errno.ENOTDIR):
            os.mkdir(self.mount / "file/below")
        with self.assert_errno(errno.ENOENT):
            os.rmdir(self.mount / "missing")
        os.rmdir(self.mount / "a/b/c")
        os.rmdir(self.mount / "a/b")
        os.rmdir(self.mount / "a")
        self.assertEqual(os.listdir(self.mount.path), ["file"])

    def test_unlink(self):
        publish(self.mount / "file", b"x")
        os.unlink(self.mount / "file")
        self.assertFalse(os.path.exists(self.mount / "file"))
        with self.assert_errno(errno.ENOENT):
            os.unlink(self.mount / "file")

    def test_removed_file_can_still_be_written_and_read(self):
        with open(self.mount / "file", "w+b", buffering=0) as file:
            file.write(b"one ")
            os.unlink(self.mount / "file")
            file.write(b"two")
            self.assertEqual(os.pread(file.fileno(), 10, 0), b"one two")
            self.assertEqual(os.fstat(file.fileno()).st_nlink, 0)
        self.assertEqual(os.listdir(self.mount.path), [])

    def test_longest_names(self):
        for name in ("n" * 255, "ü" * 127):
            path = self.mount / name
            write_file(path, b"x")
            os.rename(path, self.mount / ("m" * 255))
            self.assertEqual(os.listdir(self.mount.path), ["m" * 255])
            os.unlink(self.mount / ("m" * 255))
        write_file(self.mount / "file", b"x")
        long = self.mount / ("n" * 256)
        for action in (
            lambda: write_file(long, b""),
            lambda: os.mkdir(long),
            lambda: os.symlink("x", long),
            lambda: os.link(self.mount / "file", long),
            lambda: os.rename(self.mount / "file", long),
            lambda: os.stat(long),
            lambda: os.unlink(long),
        ):
            with self.assert_errno(errno.ENAMETOOLONG):
                action()
        self.assertEqual(os.listdir(self.mount.path), ["file"])

    def test_names_of_all_bytes(self):
        names = {bytes([byte]) for byte in range(1, 256)} - {b"/", b"."} | {b"\xff" * 255, b"\n" * 255, b"x" + bytes(range(1, 47))}
        for name in names:
            publish(self.mount / name, name, self.mount / b"temporary")
        self.assertEqual(set(os.listdir(os.fsencode(self.mount.path))), names)
        for name in names:
            self.assertEqual(read_file(self.mount / name), name)

    def test_symbolic_links(self):
        for target in (b"x", b"\xff\n", b"/absolute", b"t" * 4095):
            os.symlink(target, self.mount / b"link")
            self.assertEqual(os.readlink(self.mount / b"link"), target)
            self.assertEqual(os.lstat(self.mount / "link").st_size, len(target))
            os.unlink(self.mount / "link")
        with self.assert_errno(errno.ENAMETOOLONG):
            os.symlink("t" * 4096, self.mount / "link")
        with self.assert_errno(errno.ENOENT):
            os.symlink("", self.mount / "link")
        os.symlink("file", self.mount / "link")
        os.chown(self.mount / "link", 5, 6, follow_symlinks=False)
        os.utime(self.mount / "link", ns=(1, 2), follow_symlinks=False)
        status = os.lstat(self.mount / "link")
        self.assertEqual((status.st_uid, status.st_gid, status.st_mtime_ns), (5, 6, 2))

    def test_hard_links(self):
        publish(self.mount / "a", b"content")
        os.mkdir(self.mount / "directory")
        os.link(self.mount / "a", self.mount / "directory/b")
        self.assertEqual(os.stat(self.mount / "a").st_nlink, 2)
        self.assertEqual(os.stat(self.mount / "directory/b").st_ino, os.stat(self.mount / "a").st_ino)
        with self.assert_errno(errno.EEXIST):
            os.link(self.mount / "a", self.mount / "directory/b")
        with self.assert_errno(errno.EPERM):
            os.link(self.mount / "directory", self.mount / "other")
        os.rename(self.mount / "a", self.mount / "directory/b")  # two names of one file: nothing happens
        self.assertTrue(os.path.exists(self.mount / "a"))
        publish(self.mount / "a", b"replaced")
        self.assertEqual(read_file(self.mount / "directory/b"), b"content")
        self.assertEqual(os.stat(self.mount / "directory/b").st_nlink, 1)
        os.symlink("x", self.mount / "link")
        os.link(self.mount / "link", self.mount / "link2", follow_symlinks=False)
        self.assertEqual(os.readlink(self.mount / "link2"), "x")

    def test_unnamed_files(self):
        """O_TMPFILE, then linkat() through /proc."""
        for size in SIZES:
            content = os.urandom(size)
            descriptor = os.open(self.mount.path, os.O_TMPFILE | os.O_RDWR, 0o644)
            os.write(descriptor, content)
            self.assertEqual(os.fstat(descriptor).st_nlink, 0)
            # Only with a directory descriptor does Python call linkat(), which can follow the link in /proc.
            os.link(f"/proc/self/fd/{descriptor}", self.mount / f"file{size}", src_dir_fd=descriptor)
            self.assertEqual(read_file(self.mount / f"file{size}"), content)
            os.close(descriptor)
            if size:
                wait_sealed(self.mount / f"file{size}")
            self.assertEqual(read_file(self.mount / f"file{size}"), content)
        descriptor = os.open(self.mount.path, os.O_TMPFILE | os.O_WRONLY)
        os.write(descriptor, b"never linked")
        os.close(descriptor)
        with tempfile.TemporaryFile(dir=self.mount.path) as file:
            file.write(b"x")
        self.assertEqual(len(os.listdir(self.mount.path)), len(SIZES))
        self.wait_for_no_orphans()

    def wait_for_no_orphans(self):
        harness.wait_for(lambda: harness.store_stat(self.store)["orphans"] == 0, what="no orphans")

    def test_special_files_are_refused(self):
        with self.assert_errno(errno.EPERM, errno.ENOSYS, errno.ENOTSUP):
            os.mkfifo(self.mount / "fifo")
        with self.assert_errno(errno.EPERM, errno.ENOSYS, errno.ENOTSUP):
            os.mknod(self.mount / "device", stat.S_IFCHR | 0o600, os.makedev(1, 3))
        os.mknod(self.mount / "file", stat.S_IFREG | 0o644)
        self.assertEqual(read_file(self.mount / "file"), b"")
        self.assertEqual(os.listdir(self.mount.path), ["file"])


class Renaming(MountedCase):
    def test_directories_with_open_files_and_working_directories(self):
        os.makedirs(self.mount / "a/b")
        publish(self.mount / "a/b/file", b"content")
        os.mkdir(self.mount / "c")
        before = os.getcwd()
        os.chdir(self.mount / "a/b")
        try:
            with open("file", "rb") as file:
                os.rename(self.mount / "a", self.mount / "c/d")
                self.assertEqual(os.getcwd(), self.mount / "c/d/b")
                self.assertEqual(file.read(), b"content")
                self.assertEqual(read_file("file"), b"content")
                write_file("new", b"new")
                self.assertEqual(os.path.realpath(".."), self.mount / "c/d")
        finally:
            os.chdir(before)
        self.assertEqual(self.contents("c/d/b/file", "c/d/b/new"), [b"content", b"new"])

    def test_into_itself(self):
        os.makedirs(self.mount / "a/b/c")
        for target in ("a/b/c/d", "a/d"):
            with self.assert_errno(errno.EINVAL):
                os.rename(self.mount / "a", self.mount / target)
        with self.assert_errno(errno.ENOTEMPTY, errno.EINVAL):
            os.rename(self.mount / "a/b/c", self.mount / "a")
        with self.assert_errno(errno.EINVAL):
            rename_with(RENAME_EXCHANGE, self.mount / "a", self.mount / "a/b/c")
        self.assertTrue(os.path.isdir(self.mount / "a/b/c"))

    def test_kinds(self):
        os.mkdir(self.mount / "empty")
        os.makedirs(self.mount / "full/below")
        os.mkdir(self.mount / "directory")
        publish(self.mount / "file", b"x")
        with self.assert_errno(errno.EISDIR):
            os.rename(self.mount / "file", self.mount / "empty")
        with self.assert_errno(errno.ENOTDIR):
            os.rename(self.mount / "empty", self.mount / "file")
        with self.assert_errno(errno.ENOTEMPTY, errno.EEXIST):
            os.rename(self.mount / "directory", self.mount / "full")
        with self.assert_errno(errno.ENOENT):
            os.rename(self.mount / "missing", self.mount / "other")
        os.rename(self.mount / "directory", self.mount / "empty")
        self.assertEqual(sorted(os.listdir(self.mount.path)), ["empty", "file", "full"])

    def test_noreplace(self):
        publish(self.mount / "a", b"a")
        publish(self.mount / "b", b"b")
        with self.assert_errno(errno.EEXIST):
            rename_with(RENAME_NOREPLACE, self.mount / "a", self.mount / "b")
        self.assertEqual(self.contents("a", "b"), [b"a", b"b"])
        rename_with(RENAME_NOREPLACE, self.mount / "a", self.mount / "c")
        self.assertEqual(self.contents("b", "c"), [b"b", b"a"])

    def test_noreplace_has_one_winner(self):
        def take(number):
            won = 0
            for index in range(harness.scaled(100, least=20)):
                write_file(self.mount / f".temporary{number}", b"%d" % number)
                try:
                    rename_with(RENAME_NOREPLACE, self.mount / f".temporary{number}", self.mount / f"key{index}")
                    won += 1
                except FileExistsError:
                    os.unlink(self.mount / f".temporary{number}")
            return won

        children = [harness.Child(take, number) for number in range(4)]
        self.assertEqual(sum(child.result() for child in children), harness.scaled(100, least=20))

    def test_exchange(self):
        publish(self.mount / "file", b"file")
        publish(self.mount / "other", b"other")
        os.makedirs(self.mount / "directory/below")
        os.makedirs(self.mount / "second/inside")
        rename_with(RENAME_EXCHANGE, self.mount / "file", self.mount / "other")
        self.assertEqual(self.contents("file", "other"), [b"other", b"file"])
        rename_with(RENAME_EXCHANGE, self.mount / "directory", self.mount / "second")
        self.assertEqual(os.listdir(self.mount / "directory"), ["inside"])
        self.assertEqual(os.listdir(self.mount / "second"), ["below"])
        rename_with(RENAME_EXCHANGE, self.mount / "file", self.mount / "directory")
        self.assertEqual(os.listdir(self.mount / "file"), ["inside"])
        self.assertEqual(read_file(self.mount / "directory"), b"other")
        rename_with(RENAME_EXCHANGE, self.mount / "other", self.mount / "second/below")
        self.assertEqual(read_file(self.mount / "second/below"), b"file")
        self.assertEqual(os.listdir(self.mount / "other"), [])
        with self.assert_errno(errno.ENOENT):
            rename_with(RENAME_EXCHANGE, self.mount / "other", self.mount / "missing")
        self.assertEqual(os.path.realpath(self.mount / "file/inside/.."), self.mount / "file")

    def test_whiteout(self):
        publish(self.mount / "a", b"a")
        with self.assert_errno(errno.EINVAL):
            rename_with(RENAME_WHITEOUT, self.mount / "a", self.mount / "b")
        self.assertEqual(os.listdir(self.mount.path), ["a"])

    def test_onto_itself(self):
        publish(self.mount / "a", b"a")
        os.rename(self.mount / "a", self.mount / "a")
        self.assertEqual(self.contents("a"), [b"a"])

    def test_other_filesystems(self):
        publish(self.mount / "a", b"a")
        with self.assert_errno(errno.EXDEV):
            os.rename(self.mount / "a", self.path("a"))
        with self.assert_errno(errno.EXDEV):
            os.link(self.mount / "a", self.path("a"))
        run("mv", self.mount / "a", self.path("a"))
        self.assertEqual(read_file(self.path("a")), b"a")
        run("mv", self.path("a"), self.mount / "b")
        self.assertEqual(self.contents("b"), [b"a"])

    def test_same_as_on_a_disk(self):
        """Random changes to the mount and to a directory of the disk: the same errors, and the same tree at the end."""
        for seed in range(harness.scaled(8, least=3)):
            with self.subTest(seed=seed):
                maker = random.Random(seed)
                roots = [self.mount / f"tree{seed}", self.path(f"tree{seed}")]
                for root in roots:
                    os.mkdir(root)
                for step in range(400):
                    change = self.random_change(maker, step)
                    outcomes = [self.outcome(change, root) for root in roots]
                    self.assertEqual(outcomes[0], outcomes[1], f"step {step}: {change}")
                trees.assert_same(self, roots[0], roots[1], published=True, with_times=False)

    @staticmethod
    def random_change(maker, step):
        def path():
            return "/".join(maker.choice("abc") for _ in range(maker.randint(1, 3)))

        kind = maker.choice(("create", "create", "mkdir", "mkdir", "unlink", "rmdir", "link", "symlink", "rename", "rename",
                             "rename", "noreplace", "exchange", "chmod", "list"))  # fmt: skip
        return kind, path(), path(), step

    @staticmethod
    def outcome(change, root):
        kind, first, second, step = change
        first, second = os.path.join(root, first), os.path.join(root, second)
        flags = {"noreplace": RENAME_NOREPLACE, "exchange": RENAME_EXCHANGE}
        try:
            if kind == "create":
                descriptor = os.open(first, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
                os.write(descriptor, b"%d" % step * (step * step % 977))
                os.close(descriptor)
            elif kind in flags:
                rename_with(flags[kind], first, second)
            elif kind in ("link", "rename"):
                getattr(os, kind)(first, second)
            elif kind == "symlink":
                os.symlink(f"target{step}", first)
            elif kind == "chmod":
                if os.path.isfile(first):  # links lead to nowhere, and a directory would lose its search bits
                    os.chmod(first, 0o444 | step % 2)
            elif kind == "list":
                return sorted(os.listdir(first))
            else:
                getattr(os, kind)(first)
        except OSError as error:
            return errno.errorcode[error.errno]
        return "done"


class ManyProcesses(MountedCase):
    """Processes that get into each other's way, on the same few names."""

    def disturb(self, root, seed, stop):
        """Random changes until told to stop. Returns how many succeeded; errors must be those that a disk could give."""
        maker = random.Random(seed)
        done = step = 0
        while not os.path.exists(stop):
            step += 1
            outcome = Renaming.outcome(Renaming.random_change(maker, step), root)
            done += outcome == "done"
            if outcome in ("EIO", "ESTALE", "ENOTCONN", "ENOSPC", "EFAULT", "ENOSYS"):
                return outcome
        return done

    def test_kernel_and_store_agree_afterwards(self):
        root = self.mount / "tree"
        os.mkdir(root)
        for round_ in range(harness.scaled(5, least=2)):
            stop = self.path(f"stop{round_}")
            children = [harness.Child(self.disturb, root, f"{round_} {number}", stop) for number in range(6)]
            time.sleep(1.5)  # the length of a round
            write_file(stop, b"")
            for child in children:
                self.assertGreater(child.result(), 20)
            self.assert_clean()
            seen = trees.scan(root)  # by what the kernel remembers
            self.assert_same_in_the_store(seen)

    def assert_same_in_the_store(self, seen):
        out = self.path("out")
        lmdbfs("export", self.store, out, "tree")
        trees.assert_same(self, seen, trees.scan(out), published=True)
        run("rm", "-rf", out)

    def test_one_directory_filled_by_many(self):
        count = harness.scaled(300, least=50)

        def fill(number):
            for index in range(count):
                publish(self.mount / f"{number}-{index}", b"%d" % index, self.mount / f".temporary{number}")

        for child in [harness.Child(fill, number) for number in range(6)]:
            child.result()
        self.assertEqual(sorted(os.listdir(self.mount.path)), sorted(f"{number}-{index}" for number in range(6) for index in range(count)))

    def test_many_files_open_for_writing(self):
        """More than the daemon could keep open at the limits that it usually starts with."""
        count = harness.scaled(3000, least=1500)
        files = [open(self.mount / f"{index}", "wb", buffering=0) for index in range(count)]  # noqa: SIM115
        for index, file in enumerate(files):
            file.write(b"%d" % index)
        for file in files:
            file.close()
        for index in range(count):
            self.assertEqual(read_file(self.mount / f"{index}"), b"%d" % index)


class Attributes(MountedCase):
    options = ("allow_other",)

    def test_umask(self):
        before = os.umask(0o027)
        try:
            write_file(self.mount / "file", b"x")
            os.mkdir(self.mount / "directory")
        finally:
            os.umask(before)
        wait_sealed(self.mount / "file")
        self.assertEqual(stat.S_IMODE(os.stat(self.mount / "file").st_mode), 0o440)
        self.assertEqual(stat.S_IMODE(os.stat(self.mount / "directory").st_mode), 0o750)

    def test_chmod_and_chown(self):
        os.mkdir(self.mount / "directory")
        for mode in (0o700, 0o1777, 0o2755, 0o000, 0o6711):
            os.chmod(self.mount / "directory", mode)
            self.assertEqual(stat.S_IMODE(os.stat(self.mount / "directory").st_mode), mode)
        publish(self.mount / "file", b"x")
        wait_sealed(self.mount / "file")
        os.chmod(self.mount / "file", 0o4755)
        self.assertEqual(stat.S_IMODE(os.stat(self.mount / "file").st_mode), 0o4555)
        os.chown(self.mount / "file", 1, 2)
        status = os.stat(self.mount / "file")
        self.assertEqual((status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)), (1, 2, 0o555))
        os.chown(self.mount / "file", -1, 4_000_000_000)
        self.assertEqual((os.stat(self.mount / "file").st_uid, os.stat(self.mount / "file").st_gid), (1, 4_000_000_000))

    def test_new_files_belong_to_their_maker(self):
        os.chmod(self.mount.path, 0o777)

        def make():
            write_file(self.mount / "file", b"x")
            os.mkdir(self.mount / "directory")
            os.symlink("x", self.mount / "link")
            write_file(os.path.join(self.mount.staging, "staged"), b"x")

        if not stat.S_IMODE(os.stat(self.mount.staging).st_mode) & 0o002:
            os.chmod(self.mount.staging, 0o1777)
        as_user(make)
        for name in ("file", "directory", "link", ".lmdbfs/staging/staged"):
            status = os.lstat(self.mount / name)
            self.assertEqual((status.st_uid, status.st_gid), (harness.NOBODY, harness.NOBODY), name)

    def test_an_ordinary_user_can_do_every_shape_in_a_directory_of_their_own(self):
        os.mkdir(self.mount / "home")
        os.chown(self.mount / "home", harness.NOBODY, harness.NOBODY)
        home = self.mount / "home"

        def work():
            for index in range(20):
                publish(os.path.join(home, f"{index % 3}"), b"%d" % index)
            write_file(os.path.join(home, "final"), b"final")
            os.makedirs(os.path.join(home, "a/b"))
            os.rename(os.path.join(home, "a"), os.path.join(home, "c"))
            os.utime(os.path.join(home, "final"), ns=(5, 7))
            os.chmod(os.path.join(home, "final"), 0o600)
            return sorted(os.listdir(home)), read_file(os.path.join(home, "0"))

        self.assertEqual(as_user(work), (["0", "1", "2", "c", "final"], b"18"))
        self.assertEqual(os.stat(self.mount / "home/final").st_mtime_ns, 7)

    def test_set_gid_directories_hand_down_their_group(self):
        os.mkdir(self.mount / "shared")
        os.chown(self.mount / "shared", 0, 1234)
        os.chmod(self.mount / "shared", 0o2777)
        os.mkdir(self.mount / "shared/below")
        write_file(self.mount / "shared/file", b"x")
        self.assertEqual(os.stat(self.mount / "shared/file").st_gid, 1234)
        status = os.stat(self.mount / "shared/below")
        self.assertEqual((status.st_gid, status.st_mode & stat.S_ISGID), (1234, stat.S_ISGID))

    def test_sticky_directories(self):
        os.mkdir(self.mount / "tmp")
        os.chmod(self.mount / "tmp", 0o1777)
        publish(self.mount / "tmp/of-root", b"x")
        with self.assert_errno(errno.EPERM, errno.EACCES):
            as_user(os.unlink, self.mount / "tmp/of-root")
        with self.assert_errno(errno.EPERM, errno.EACCES):
            as_user(os.rename, self.mount / "tmp/of-root", self.mount / "tmp/other")

    def test_times_in_nanoseconds(self):
        publish(self.mount / "file", b"x")
        os.mkdir(self.mount / "directory")
        for name in ("file", "directory"):
            os.utime(self.mount / name, ns=(1_600_000_000_000_000_001, 1_500_000_000_999_999_999))
            self.assertEqual(os.stat(self.mount / name).st_mtime_ns, 1_500_000_000_999_999_999)
        run("touch", self.mount / "file")
        self.assertAlmostEqual(os.stat(self.mount / "file").st_mtime, time.time(), delta=60)

    def test_times_of_directories_change_with_their_names(self):
        os.mkdir(self.mount / "directory")
        directory = self.mount / "directory"
        for change in (
            lambda: write_file(directory + "/file", b"x"),
            lambda: os.rename(directory + "/file", directory + "/other"),
            lambda: os.link(directory + "/other", directory + "/link"),
            lambda: os.unlink(directory + "/other"),
            lambda: os.mkdir(directory + "/below"),
            lambda: os.rmdir(directory + "/below"),
            lambda: os.symlink("x", directory + "/symlink"),
        ):
            os.utime(directory, ns=(0, 0))
            change()
            self.assertGreater(os.stat(directory).st_mtime, 1_000_000_000)


class Programs(MountedCase):
    def test_cp_mv_install(self):
        source = self.make_file("source", os.urandom(50_000))
        os.chmod(source, 0o640)
        run("cp", source, self.mount / "copied")
        run("cp", "-p", source, self.mount / "kept")
        run("install", "-m", "755", "-D", source, self.mount / "installed/bin/program")
        run("mv", self.mount / "copied", self.mount / "moved")
        run("mv", "-n", self.mount / "kept", self.mount / "moved", check=False)
        run("cp", "-al", self.mount / "installed", self.mount / "linked")
        for name in ("moved", "kept", "installed/bin/program", "linked/bin/program"):
            run("cmp", source, self.mount / name)
        self.assertEqual(os.stat(self.mount / "kept").st_mtime_ns, os.stat(source).st_mtime_ns)
        self.assertEqual(os.stat(self.mount / "installed/bin/program").st_nlink, 2)
        run("install", "-m", "644", source, self.mount / "installed/bin/program")  # over a published file
        run("cp", "--remove-destination", source, self.mount / "moved")
        wait_sealed(self.mount / "moved")
        self.assertNotEqual(run("cp", source, self.mount / "moved", check=False).returncode, 0)

    def test_rsync(self):
        tree = self.path("tree")
        trees.make_tree(tree, "rsync", files=80)
        for round_ in range(2):
            run("rsync", "-aHX", "--numeric-ids", tree + "/", self.mount.path)
            trees.assert_same(self, tree, self.mount.path, published=True)
            for path in list(trees.scan(tree))[:: 10 + round_]:
                path = os.path.join(os.fsencode(tree), path)
                if os.path.isfile(path) and not os.path.islink(path):
                    write_file(path, os.urandom(3000))

    def test_rsync_again_changes_nothing(self):
        """Its own comparison finds only the write bits that a published file doesn't show."""
        tree = self.path("tree")
        trees.make_tree(tree, "rsync", files=40, plain=True)
        run("rsync", "-aH", tree + "/", self.mount.path)
        before = {path: os.lstat(self.mount / path).st_ino for path in trees.scan(self.mount.path)}
        run("rsync", "-aH", tree + "/", self.mount.path)
        self.assertEqual({path: os.lstat(self.mount / path).st_ino for path in trees.scan(self.mount.path)}, before)
        run("rsync", "-aH", "--delete", "--delay-updates", tree + "/", self.mount.path)
        trees.assert_same(self, tree, self.mount.path, published=True)

    def test_tar(self):
        tree = self.path("tree")
        trees.make_tree(tree, "tar", files=80)
        run("tar", "-C", tree, "-cf", self.path("archive"), ".")
        for _ in range(2):  # the second time over what is already there
            run("tar", "-C", self.mount.path, "--numeric-owner", "-xpf", self.path("archive"))
            trees.assert_same(self, self.unpacked_elsewhere(), self.mount.path, published=True, with_times=False)

    def unpacked_elsewhere(self):
        os.makedirs(self.path("plain"), exist_ok=True)
        run("tar", "-C", self.path("plain"), "--numeric-owner", "-xpf", self.path("archive"))
        return self.path("plain")

    def make_repository(self):
        repository = self.path("repository")
        run("git", "init", "-q", "-b", "main", repository)
        for number in range(5):
            for index in range(60):
                self.make_file(f"repository/{index % 5}/file{index}", os.urandom(100 * index) + b"%d" % number)
            self.git(repository, "add", "-A")
            self.git(repository, "commit", "-q", "-m", f"number {number}")
        return repository

    @staticmethod
    def git(directory, *arguments):
        return run("git", "-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "safe.directory=*", "-C", directory,
                   *arguments).stdout  # fmt: skip

    def test_git(self):
        repository = self.make_repository()
        bare = self.mount / "bare.git"
        run("git", "clone", "-q", "--bare", "--no-local", repository, bare)
        self.git(bare, "fsck", "--full", "--strict")
        self.assertEqual(self.git(bare, "rev-parse", "main"), self.git(repository, "rev-parse", "main"))
        self.make_file("repository/new", b"new")
        self.git(repository, "add", "-A")
        self.git(repository, "commit", "-q", "-m", "new")
        self.git(repository, "push", "-q", bare, "main")
        self.git(bare, "gc", "-q")
        self.git(bare, "fsck", "--full", "--strict")
        run("git", "clone", "-q", bare, self.path("back"))
        run("diff", "-r", "-x", ".git", repository, self.path("back"))

    def test_git_work_tree(self):
        """Without its logs, to which git appends: published files don't grow."""
        repository = self.make_repository()
        work = self.mount / "work"
        run("git", "-c", "core.logAllRefUpdates=false", "clone", "-q", "--no-hardlinks", repository, work)
        self.git(work, "config", "core.logAllRefUpdates", "false")
        self.assertEqual(self.git(work, "status", "--porcelain"), "")
        write_file(work + "/another", b"x")
        self.git(work, "add", "-A")
        self.git(work, "commit", "-q", "-m", "in the mount")
        self.git(work, "checkout", "-q", "HEAD~3")
        self.git(work, "checkout", "-q", "main")
        self.git(work, "fsck", "--full", "--strict")
        self.assertEqual(self.git(work, "status", "--porcelain"), "")

    def test_python_replace(self):
        for index in range(50):
            with tempfile.NamedTemporaryFile("wb", dir=self.mount.path, delete=False) as file:
                file.write(b"%d" % index * index)
                file.flush()
                os.fsync(file.fileno())
            os.replace(file.name, self.mount / "value")
            self.assertEqual(read_file(self.mount / "value"), b"%d" % index * index)
        self.assertEqual(os.listdir(self.mount.path), ["value"])

    def test_programs_run_from_the_mount(self):
        run("install", "-m", "755", "/usr/bin/printf", self.mount / "printf")
        wait_sealed(self.mount / "printf")
        self.assertEqual(run(self.mount / "printf", "%d", "42").stdout, "42")
        write_file(self.mount / "script", b"#!/bin/sh\necho hello\n")
        os.chmod(self.mount / "script", 0o755)
        wait_sealed(self.mount / "script")
        self.assertEqual(run(self.mount / "script").stdout, "hello\n")

    def test_shell_redirection(self):
        script = 'cd "$0" && echo one >file.new && mv file.new file && echo two >file.new && mv -f file.new file && cat file'
        self.assertEqual(run("sh", "-c", script, self.mount.path).stdout, "two\n")

    def test_trees_by_cp_and_rm(self):
        tree = self.path("tree")
        trees.make_tree(tree, "cp", files=80)
        run("cp", "-a", tree, self.mount / "first")
        run("cp", "-a", self.mount / "first", self.mount / "second")
        trees.assert_same(self, tree, self.mount / "second", published=True)
        run("rm", "-rf", self.mount / "first")
        trees.assert_same(self, tree, self.mount / "second", published=True)
        run("rm", "-rf", self.mount / "second")
        self.assertEqual(os.listdir(self.mount.path), [])

    def test_locks(self):
        """flock() and fcntl() work as everywhere, on published files too."""
        publish(self.mount / "file", b"x")
        with open(self.mount / "file", "rb") as first, open(self.mount / "file", "rb") as second:
            fcntl.flock(first, fcntl.LOCK_EX)
            with self.assert_errno(errno.EAGAIN):
                fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)


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
