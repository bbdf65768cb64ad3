# SPDX-License-Identifier: BSD-2-Clause
"""A store on a disk so small that a test can fill it."""

import contextlib
import errno
import os

import harness
import versions
from harness import mounted, publish, read_file, run, store_stat, wait_for


class SmallDisk(harness.Case):
    def setUp(self):
        super().setUp()
        self.disk = self.enterContext(harness.small_disk(self.directory, 64))
        self.store = os.path.join(self.disk, "store")

    def mounted(self):
        return mounted(self.store, at=self.path("mnt"))

    def fill(self, mount, size, pattern="fill{}"):
        """Publish until the disk is full. Returns the contents by name, and the error is always the right one."""
        done = {}
        while True:
            self.assertLess(len(done) * size, 100 << 20, "64 MiB hold more than 100?")
            name = pattern.format(len(done))
            content = versions.content(name, len(done), size)
            try:
                publish(mount / name, content, mount / ".temporary")
            except OSError as error:
                self.assertEqual(error.errno, errno.ENOSPC, error)
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(mount / ".temporary")
                return done
            done[name] = content

    def assert_all_there(self, root, contents):
        for name, content in contents.items():
            self.assertEqual(read_file(os.path.join(root, name)), content)

    def take_room(self, left):
        """Fill the disk with something else, but for `left` bytes."""
        status = os.statvfs(self.disk)
        with open(os.path.join(self.disk, "ballast"), "wb") as file:
            os.posix_fallocate(file.fileno(), 0, status.f_bavail * status.f_frsize - left)

    @staticmethod
    def removed(path, remove=os.unlink):
        """False if it has to be tried again: a reader's moment of the store can hold the last pages that were free."""
        try:
            remove(path)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            return False
        return True


class FullByOneWay(SmallDisk):
    """Something to keep, something to remove, and the question whether it all goes on then: in the same mount."""

    ROOM = 24 << 20  # of which half is kept and removed
    PIECE = 100_000

    def setUp(self):
        super().setUp()
        self.take_room(self.ROOM)
        self.mount = self.enterContext(self.mounted())
        self.kept = {f"kept{size}": versions.content(f"kept{size}", 1, size) for size in (*versions.SIZES, 3_000_000)}
        for name, content in self.kept.items():
            publish(self.mount / name, content)
        os.mkdir(self.mount / "removed")
        for index in range(60):
            publish(self.mount / f"removed/{index}", os.urandom(self.PIECE))
        os.mkdir(self.mount / "full")

    def until_full(self, step, most):
        """Call step(index) until it fails, which has to be with ENOSPC. Returns the number of it."""
        for index in range(most):
            try:
                step(index)
            except OSError as error:
                self.assertEqual(error.errno, errno.ENOSPC, error)
                return index
        return self.fail(f"the disk took {most} of them")

    def assert_goes_on(self):
        """Nothing that was published is lost, and there is room again when something is removed."""
        self.assert_all_there(self.mount.path, self.kept)
        self.assert_clean()
        for index in range(60):
            wait_for(lambda path=self.mount / f"removed/{index}": self.removed(path), what="there is room to remove")
        wait_for(lambda: store_stat(self.store)["orphans"] == 0, what="no orphans")
        self.kept["again"] = versions.content("again", 2, 2_000_000)
        wait_for(lambda: self.removed(self.mount / "again", lambda path: publish(path, self.kept["again"])),
                 what="there is room again")
        for index in range(100):
            publish(self.mount / f"small{index}", b"%d" % index)
            os.mkdir(self.mount / f"directory{index}")
            os.symlink(f"{index}", self.mount / f"link{index}")
        self.assert_all_there(self.mount.path, self.kept)
        run("rm", "-r", self.mount / "full")
        self.assert_clean()
        self.assert_all_there(self.mount.path, self.kept)

    def take_room_but(self, left):
        """Leave so little that many small things fill it soon."""
        harness.sync(self.mount.path)  # room that was promised is room that statvfs still shows
        status = os.statvfs(self.disk)
        with open(os.path.join(self.disk, "more ballast"), "wb") as file:
            os.posix_fallocate(file.fileno(), 0, status.f_bavail * status.f_frsize - left)
