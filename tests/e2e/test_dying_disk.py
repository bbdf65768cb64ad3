# SPDX-License-Identifier: BSD-2-Clause
"""A disk that fails now and then: the caller gets EIO, what was there before stays, the store stays valid."""

import contextlib
import ctypes
import errno
import mmap
import os
import re
import subprocess

import harness
import versions
from harness import DAEMON_EXIT_LIMIT, LMDBFS, lmdbfs, mounted, publish, read_file, run, wait_for, write_file

SOURCE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "dying_disk.c")

READ, WRITE, SYNC = 1, 2, 4
DATA, STAGING = 1, 2
METAS = 8192  # bytes of data.mdb before its pages
END = (1 << 63) - 1


class Faults(ctypes.Structure):
    """As in dying_disk.c."""

    _fields_ = [("calls", ctypes.c_uint32), ("files", ctypes.c_uint32), ("from_", ctypes.c_uint64),
                ("to", ctypes.c_uint64), ("error", ctypes.c_uint32), ("hits", ctypes.c_uint32)]


class DyingDisk(harness.Case):
    def setUp(self):
        super().setUp()
        self.library = self.path("dying_disk.so")
        run("cc", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-O1", "-o", self.library, SOURCE, "-ldl")
        with open(self.path("faults"), "w+b") as file:
            file.truncate(mmap.PAGESIZE)
            self.map = mmap.mmap(file.fileno(), mmap.PAGESIZE)
        self.faults = Faults.from_buffer(self.map)
        self.point = self.path("mnt")
        os.mkdir(self.point)
        self.contents = {}
        self.undecided = {}
        with mounted(self.store, at=self.point) as mount:
            for size in (*versions.SIZES, 3_000_000):
                self.contents[f"before{size}"] = versions.content(f"before{size}", 1, size)
                publish(mount / f"before{size}", self.contents[f"before{size}"])

    @contextlib.contextmanager
    def mounted(self):
        """A mount with the dying disk below it. Its log can be read by self.log()."""
        environment = {**os.environ, "LD_PRELOAD": self.library, "LMDBFS_TEST_FAULTS": self.path("faults")}
        environment["ASAN_OPTIONS"] = os.environ.get("ASAN_OPTIONS", "") + ":verify_asan_link_order=0"
        with open(self.path("log"), "w", encoding="utf-8") as log:
            daemon = subprocess.Popen([LMDBFS, "mount", "-f", self.store, self.point], stderr=log, env=environment)
        try:
            wait_for(lambda: harness.is_mounted(self.point), what="mounted")
            yield self.point
        finally:
            self.heal()
            run("umount", self.point)
            self.assertEqual(daemon.wait(DAEMON_EXIT_LIMIT), 0)

    def fail(self, calls=None, files=0, from_=0, to=END, error=errno.EIO):
        """From now on these calls fail. (With one argument it is unittest's.)"""
        if not isinstance(calls, int):
            super().fail(calls)
        self.faults.files, self.faults.from_, self.faults.to, self.faults.error = files, from_, to, error
        self.faults.hits = 0
        self.faults.calls = calls

    def heal(self):
        self.faults.calls = 0

    def log(self):
        with open(self.path("log"), encoding="utf-8") as file:
            return file.read().splitlines()

    def assert_all_there(self):
        for name, content in self.contents.items():
            self.assertEqual(read_file(os.path.join(self.point, name)), content, name)
        for name, contents in self.undecided.items():
            path = os.path.join(self.point, name)
            self.assertIn(read_file(path) if os.path.exists(path) else None, contents, name)

    def undecide(self, name, new):
        """A change of this name was made and could not be committed: who looks may see it or not, but nothing else."""
        self.undecided[name] = (self.contents.pop(name), new)

    def publish(self, name, size=5000, version=1):
        content = versions.content(name, version, size)
        publish(os.path.join(self.point, name), content)
        self.contents[name] = content

    def assert_whole_afterwards(self):
        """The next mount, on a good disk, has everything, and goes on."""
        self.assert_clean()
        with mounted(self.store, at=self.point):
            self.assert_all_there()
            self.publish("afterwards")
            self.assert_all_there()
        self.assert_clean()

    def test_reading_content(self):
        with self.mounted() as point:
            self.fail(READ, DATA, METAS)
            for size in (65_536, 200_001, 3_000_000):
                with self.assert_errno(errno.EIO):
                    read_file(os.path.join(point, f"before{size}"))
            self.assertGreater(self.faults.hits, 0)
            self.publish("beside")
            self.heal()
            self.assert_all_there()
        self.assert_whole_afterwards()

    def changes(self):
        """Everything that has to be committed, with what it would have left behind."""
        point = self.point
        os.makedirs(os.path.join(point, "directory"), exist_ok=True)
        write_file(os.path.join(point, ".lmdbfs/staging/new"), versions.content("new", 1, 70_000))
        new, target = os.path.join(point, ".lmdbfs/staging/new"), os.path.join(point, "before500")
        return [
            lambda: self.durable(os.rename, new, target),
            lambda: self.durable(os.mkdir, os.path.join(point, "made")),
            lambda: self.durable(os.symlink, "target", os.path.join(point, "link")),
            lambda: self.durable(os.link, target, os.path.join(point, "linked")),
            lambda: self.durable(os.unlink, os.path.join(point, "before4000")),
            lambda: self.durable(os.rmdir, os.path.join(point, "directory")),
            lambda: self.durable(os.chmod, target, 0o400),
        ]

    def durable(self, change, *arguments):
        """Do it and wait until it is on disk: one of the two has to say if it can't be."""
        change(*arguments)
        descriptor = os.open(self.point, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def refuse_changes(self, calls, from_, to):
        with self.mounted():
            changes = self.changes()
            self.undecide("before500", versions.content("new", 1, 70_000))
            self.undecide("before4000", None)
            self.fail(calls, DATA, from_, to)
            for number, change in enumerate(changes):
                with self.subTest(number), self.assert_errno(errno.EIO, errno.EROFS):
                    change()
            self.assertGreater(self.faults.hits, 0)
            self.assert_all_there()
            yield
        log = self.log()
        self.assertLessEqual(len(log), 3, log)
        self.assert_whole_afterwards()

    def test_writing_pages(self):
        """The mount goes on when the disk does, or says that it does not."""
        for _ in self.refuse_changes(WRITE, METAS, END):
            self.heal()
            self.go_on_or_say_so()

    def test_writing_meta_pages(self):
        """LMDB gives up then. So may the mount, as far as changes are concerned, and says so."""
        for _ in self.refuse_changes(WRITE, 0, METAS):
            self.heal()
            self.go_on_or_say_so()

    def test_syncing(self):
        for _ in self.refuse_changes(SYNC, 0, END):
            self.heal()
            self.go_on_or_say_so()

    def go_on_or_say_so(self):
        try:
            self.publish("again")
        except OSError as error:
            self.assertIn(error.errno, (errno.EIO, errno.EROFS))
            self.contents.pop("again", None)
            self.assertEqual(len([line for line in self.log() if re.search("read-only|no more are taken", line)]), 1, self.log())
        self.assert_all_there()

    def test_writing_staged_bytes(self):
        with self.mounted() as point:
            with open(os.path.join(point, "file"), "wb", buffering=0) as file:
                self.fail(WRITE, STAGING)
                with self.assert_errno(errno.EIO):
                    os.write(file.fileno(), bytes(300_000))
                    os.fsync(file.fileno())
                self.assertGreater(self.faults.hits, 0)
            self.assert_all_there()
            self.heal()
            os.unlink(os.path.join(point, "file"))
            self.publish("file")
        self.assert_whole_afterwards()

    def test_syncing_staged_bytes(self):
        """Neither fsync nor a rename that needs it may claim success."""
        with self.mounted() as point:
            with open(os.path.join(point, "new"), "wb", buffering=0) as file:
                file.write(bytes(300_000))
                self.fail(SYNC, STAGING)
                with self.assert_errno(errno.EIO):
                    os.fsync(file.fileno())
                with self.assert_errno(errno.EIO, errno.EROFS):
                    self.durable(os.rename, os.path.join(point, "new"), os.path.join(point, "before500"))
                self.undecide("before500", bytes(300_000))
                self.assertGreater(self.faults.hits, 0)
                self.assert_all_there()
                self.heal()
            self.go_on_or_say_so()
        self.assert_whole_afterwards()

    def test_reading_staged_bytes(self):
        """What can't be read can't be published, and is not lost: it is published when it can be."""
        with self.mounted() as point:
            content = versions.content("new", 1, 300_000)
            write_file(os.path.join(point, ".lmdbfs/staging/new"), content)
            self.fail(READ, STAGING)
            with contextlib.suppress(OSError):
                os.rename(os.path.join(point, ".lmdbfs/staging/new"), os.path.join(point, "new"))
            self.heal()
            if not os.path.exists(os.path.join(point, "new")):
                os.rename(os.path.join(point, ".lmdbfs/staging/new"), os.path.join(point, "new"))
            self.contents["new"] = content
            self.assert_all_there()
        self.assert_whole_afterwards()
        self.assertEqual(lmdbfs("check", self.store).stderr, "")


if __name__ == "__main__":
    harness.main()
