# SPDX-License-Identifier: BSD-2-Clause
"""Watchers of a tree, by inotify(7) and fanotify(7): what they were told since they were asked last."""

import ctypes
import os
import re
import struct

from harness import AT_FDCWD, LIBC

CONTROL = ".lmdbfs"

INOTIFY = {
    0x2: "MODIFY", 0x4: "ATTRIB", 0x8: "CLOSE_WRITE", 0x40: "MOVED_FROM", 0x80: "MOVED_TO", 0x100: "CREATE",
    0x200: "DELETE", 0x400: "DELETE_SELF", 0x800: "MOVE_SELF", 0x2000: "UNMOUNT", 0x4000: "OVERFLOW",
    0x8000: "IGNORED",
}
INOTIFY_READS = {0x1: "ACCESS", 0x10: "CLOSE_NOWRITE", 0x20: "OPEN"}
ISDIR = 0x4000_0000

FANOTIFY = {
    0x2: "MODIFY", 0x4: "ATTRIB", 0x8: "CLOSE_WRITE", 0x40: "MOVED_FROM", 0x80: "MOVED_TO", 0x100: "CREATE",
    0x200: "DELETE", 0x400: "DELETE_SELF", 0x800: "MOVE_SELF", 0x1000_0000: "RENAME",
}
FAN_NONBLOCK, FAN_REPORT_DFID_NAME, FAN_REPORT_FID = 0x2, 0xC00, 0x200
FAN_MARK_ADD, FAN_MARK_MOUNT, FAN_MARK_FILESYSTEM = 0x1, 0x10, 0x100
FAN_ON_CHILDREN_AND_DIRECTORIES = 0x4800_0000
FAN_Q_OVERFLOW = 0x4000
INFO_DFID_NAME, INFO_DFID, INFO_OLD, INFO_NEW = 2, 3, 10, 12

READ_SIZE = 1 << 16


def checked(result):
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def nameless(name):
    """Names that a program makes up differ from run to run, and what the kernel calls a file that has none."""
    name = name.removesuffix(" (deleted)")
    if name in ("/", "") or re.match(r"#\d+$", name):
        return "(none)"
    name = re.sub(r"^(\..+)\.[A-Za-z0-9]{6}$", r"\1.XXXXXX", name)  # rsync
    return re.sub(r"^(sed|tmp|Cu)[A-Za-z0-9_]{6,8}$", r"\1XXXXXX", name)


def directories(root):
    """All below `root`; those in staging too, which a mount does not list."""
    yield from below(root)
    yield from below(os.path.join(root, CONTROL, "staging"))


def below(directory):
    yield directory
    for entry in list(os.scandir(directory)):
        if entry.is_dir(follow_symlinks=False) and entry.name != CONTROL:
            yield from below(entry.path)


class Watcher:
    """Of the directories below `root`, and of some files themselves."""

    def __init__(self, root, files=()):
        self.root = os.path.realpath(root)
        self.files = files
        self.descriptor = self.open()
        self.watched = {}
        self.follow()

    def follow(self):
        """Watch what has come."""
        for path in [*directories(self.root), *(os.path.join(self.root, name) for name in self.files)]:
            self.add(path)
        self.take()

    def take(self):
        """The events since the last time, as tuples. They are there when the call that they are about returns."""
        found = []
        while True:
            try:
                found += self.parse(os.read(self.descriptor, READ_SIZE))
            except BlockingIOError:
                return found

    def close(self):
        os.close(self.descriptor)


class Inotify(Watcher):
    mask = sum(INOTIFY) & 0xFFF

    def open(self):
        return checked(LIBC.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))

    def add(self, path):
        number = checked(LIBC.inotify_add_watch(self.descriptor, os.fsencode(path), self.mask))
        self.watched[number] = os.path.relpath(path, self.root)

    def parse(self, text):
        cookies = {}
        while text:
            number, mask, cookie, length = struct.unpack_from("iIII", text)
            name = os.fsdecode(text[16 : 16 + length].rstrip(b"\0"))
            name = nameless(name) if name else ""
            text = text[16 + length :]
            kind = {**INOTIFY, **INOTIFY_READS}[mask & ~ISDIR]
            # Which from belongs to which to is said by the cookie; it counts from one event to the next.
            pair = cookies.setdefault(cookie, len(cookies) + 1) if cookie else 0
            yield kind, bool(mask & ISDIR), self.watched.get(number), name, pair


class InotifyReads(Inotify):
    mask = sum(INOTIFY_READS)


class Fanotify(Watcher):
    """With names. Its events are merged and have no order among them, so those of a step are a set."""

    mask = sum(FANOTIFY) | FAN_ON_CHILDREN_AND_DIRECTORIES

    def open(self):
        flags = FAN_NONBLOCK | FAN_REPORT_DFID_NAME | FAN_REPORT_FID
        return checked(LIBC.fanotify_init(flags, os.O_RDONLY))

    def mark(self, how, path):
        checked(LIBC.fanotify_mark(self.descriptor, how, ctypes.c_uint64(self.mask), AT_FDCWD, os.fsencode(path)))

    def add(self, path):
        self.mark(FAN_MARK_ADD, path)
        self.watched[self.handle(path)] = os.path.relpath(path, self.root)

    @staticmethod
    def handle(path):
        buffer = ctypes.create_string_buffer(struct.pack("Ii", 128, 0), 136)
        mount = ctypes.c_int()
        checked(LIBC.name_to_handle_at(AT_FDCWD, os.fsencode(path), buffer, ctypes.byref(mount), 0))
        size, kind = struct.unpack_from("Ii", buffer)
        return kind, buffer.raw[8 : 8 + size]

    def take(self):
        return sorted(set(super().take()), key=repr)

    def parse(self, text):
        while text:
            length, _, _, head, mask = struct.unpack_from("IBBHQ", text)
            places = sorted(self.places(text[head:length]))
            text = text[length:]
            if mask & FAN_Q_OVERFLOW:
                yield "OVERFLOW", False, ()
            for bit, name in FANOTIFY.items():
                if mask & bit:
                    yield name, bool(mask & ISDIR), tuple(places)

    def places(self, text):
        """Directory and name of what an event is about."""
        while text:
            kind, _, length = struct.unpack_from("BBH", text)
            size, handle_type = struct.unpack_from("Ii", text, 12)
            place = self.watched.get((handle_type, text[20 : 20 + size]))
            name = os.fsdecode(text[20 + size : length].split(b"\0")[0])
            text = text[length:]
            if kind in (INFO_DFID_NAME, INFO_OLD, INFO_NEW):
                yield kind, place, nameless(name)
            elif kind == INFO_DFID:
                yield kind, place, ""


class FanotifyMount(Fanotify):
    """All of the mount by one mark, with descriptors: who wrote what."""

    mask = 0x2 | 0x8  # MODIFY, CLOSE_WRITE

    def open(self):
        return checked(LIBC.fanotify_init(FAN_NONBLOCK, os.O_RDONLY))

    def follow(self):
        if not self.watched:
            self.mark(FAN_MARK_ADD | FAN_MARK_MOUNT, self.root)
            self.watched = {self.root: "."}
        self.take()

    def parse(self, text):
        while text:
            length, _, _, _, mask, descriptor, _ = struct.unpack_from("IBBHQii", text)
            text = text[length:]
            path = os.readlink(f"/proc/self/fd/{descriptor}")
            os.close(descriptor)
            place = os.path.relpath(path, self.root)
            for bit, name in FANOTIFY.items():
                if mask & bit:
                    yield name, os.path.dirname(place), nameless(os.path.basename(place))
