# SPDX-License-Identifier: BSD-2-Clause
"""What the contenders' bytes lie on: the arena itself, which is ext4, or an image of another filesystem in it."""

import shutil

from corpus import BenchError, command

MAKERS = {
    "xfs": ("mkfs.xfs", "-q", "-m", "reflink=1"),
    "btrfs": ("mkfs.btrfs", "-q"),
}


class Ground:
    """A filesystem of its own in the arena, on a loop device. It ends with remove(), whatever has been reached."""

    def __init__(self, arena, filesystem, size):
        self.filesystem, self.size = filesystem, size
        self.image = arena.dir / f"{filesystem}.img"
        self.dir = arena.dir / filesystem
        self.direct = False  # True: the image's own pages are not cached a second time

    def prepare(self):
        with open(self.image, "wb") as file:
            file.truncate(self.size)
        # In one piece, or the order in which the image fills up would be measured too.
        command("fallocate", "-l", self.size, self.image)
        command(*MAKERS[self.filesystem], self.image)
        self.dir.mkdir()
        try:
            device = command("losetup", "--find", "--show", "--direct-io=on", self.image).strip()
        except BenchError:  # the disk below can't
            self._detach()
            device = command("losetup", "--find", "--show", self.image).strip()
        self.direct = command("losetup", "-n", "-O", "DIO", device).strip() == "1"
        command("mount", device, self.dir)

    def remove(self):
        try:
            if self.dir.is_mount():
                command("umount", self.dir)
        finally:
            self._detach()
            shutil.rmtree(self.dir, ignore_errors=True)
            self.image.unlink(missing_ok=True)

    def _detach(self):
        if not self.image.exists():
            return
        # Not the name that losetup told us: a ^C may have come between its attaching and its answer.
        for device in command("losetup", "-n", "-O", "NAME", "-j", self.image).split():
            command("losetup", "-d", device)


def tools(filesystem):
    """The programs that a ground needs."""
    return (MAKERS[filesystem][0], "losetup", "fallocate") if filesystem in MAKERS else ()
