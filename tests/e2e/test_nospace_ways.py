# SPDX-License-Identifier: BSD-2-Clause
"""Each way to fill a disk ends with ENOSPC, in time, and all goes on when something was removed."""

import contextlib
import errno
import mmap
import os

import harness
import versions
from harness import publish, read_file, wait_sealed, write_file
from small_disk import FullByOneWay


class Content(FullByOneWay):
    def test_write(self):
        """By fsync at the latest."""

        def step(index):
            os.write(file.fileno(), os.urandom(self.PIECE))
            os.fsync(file.fileno())

        with open(self.mount / "full/file", "wb", buffering=0) as file:
            self.until_full(step, 400)
            os.ftruncate(file.fileno(), 1000)
        self.assert_goes_on()

    def test_write_without_fsync(self):
        """Who only closes and renames must not come to believe in a file whose end is missing."""
        publish(self.mount / "full/target", b"old")
        content = os.urandom(20 << 20)
        told = False
        try:
            write_file(self.mount / "full/temporary", content)
            os.rename(self.mount / "full/temporary", self.mount / "full/target")
        except OSError as error:
            self.assertEqual(error.errno, errno.ENOSPC)
            told = True
        self.assertEqual(read_file(self.mount / "full/target"), b"old" if told else content)
        self.assert_goes_on()

    def test_fallocate(self):
        with open(self.mount / "full/file", "wb", buffering=0) as file:
            step = lambda index: os.posix_fallocate(file.fileno(), index * 1_000_000, 1_000_000)  # noqa: E731
            self.until_full(step, 40)
            os.ftruncate(file.fileno(), 0)
        self.assert_goes_on()

    def test_mapping(self):
        """msync has to tell. What was stored before stays readable through the mapping."""
        with open(self.mount / "full/file", "w+b", buffering=0) as file:
            os.ftruncate(file.fileno(), 40 << 20)
            with mmap.mmap(file.fileno(), 40 << 20) as mapping:

                def step(index):
                    start = index << 20
                    mapping[start : start + (1 << 20)] = os.urandom(1 << 20)
                    mapping.flush(start, 1 << 20)

                self.until_full(step, 40)
            os.ftruncate(file.fileno(), 0)
        self.assert_goes_on()

    def test_publishing(self):
        def step(index):
            name = f"full/{index}"
            content = versions.content(name, 1, self.PIECE)
            publish(self.mount / name, content, self.mount / ".temporary")
            self.kept[name] = content

        self.until_full(step, 400)
        self.drop_full()

    def drop_full(self):
        """What was published before it was full is there, and can go."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.mount / ".temporary")
        self.assert_all_there(self.mount.path, self.kept)
        for name in [name for name in self.kept if name.startswith("full/")]:
            del self.kept[name]
        self.assert_goes_on()

    def test_small_files(self):
        def step(index):
            name = f"full/{index}"
            content = versions.content(name, 1, 1500)
            write_file(self.mount / name, content)
            wait_sealed(self.mount / name)
            self.kept[name] = content

        self.take_room_but(3 << 20)
        self.until_full(step, 20_000)
        self.drop_full()


if __name__ == "__main__":
    harness.main()
