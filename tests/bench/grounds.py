# SPDX-License-Identifier: BSD-2-Clause
"""What the contenders' bytes lie on: the arena itself, which is ext4, or an image of another filesystem in it.

Without a journal, ext4 is no measure for writers: fsync is not what it is elsewhere, and for minutes after many files
were removed, making a new one takes up to ten times as long. An image of it that has one stands in then.
"""

import shutil

from corpus import BenchError, command

JOURNAL = "ext4 with a journal"
MAKERS = {
    # Lazy initialization would go on writing in the background while others are measured; a discard would make holes.
    JOURNAL: ("mkfs.ext4", "-q", "-F", "-E", "nodiscard,lazy_itable_init=0,lazy_journal_init=0"),
    "xfs": ("mkfs.xfs", "-q", "-m", "reflink=1"),
    "btrfs": ("mkfs.btrfs", "-q"),
}
# The large files as they are and as records, with room to import them in. For writers: what they leave in five rounds,
# and the largest tree twice. With --quick, the least that btrfs is at ease with, and large files next to each other.
BYTES, JOURNAL_BYTES = 6 << 30, 20 << 30
QUICK_BYTES, QUICK_JOURNAL_BYTES = 1 << 30, 3 << 30


def image_bytes(filesystem, quick):
    if filesystem == JOURNAL:
        return QUICK_JOURNAL_BYTES if quick else JOURNAL_BYTES
    return QUICK_BYTES if quick else BYTES


class Ground:
    """A filesystem of its own in the arena, on a loop device. It ends with remove(), whatever has been reached."""

    def __init__(self, arena, filesystem, size):
        self.filesystem, self.size = filesystem, size
        name = filesystem.replace(" ", "-")
        self.image, self.dir = arena.dir / f"{name}.img", arena.dir / name
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
