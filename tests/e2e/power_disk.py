# SPDX-License-Identifier: BSD-2-Clause
"""
The disk below a store when the power fails: reads what tests/power/record.c has noted, and builds states in which the
files may be then.

What a sync that had returned covers is there. Of all else, each piece of 4 KiB is at any version since, on its own; the
size of a file, its time and its names likewise. A name is made durable by a sync of its directory, and by nothing else.
That is less than filesystems keep (ext4 makes a new file's name durable with its bytes), and what POSIX promises.
"""

import os
import shutil
import struct
from typing import NamedTuple

PIECE = 4096
ZEROS = bytes(PIECE)

ENTRY = struct.Struct("=6Q")
(CREATE, MKDIR, REMOVE, RENAME, LINK, WRITE, WRITTEN, TRUNCATE, ZERO, EXTEND, TIMES, SYNC, SYNCED) = range(1, 14)


class Entry(NamedTuple):
    time: int
    kind: int
    inode: int
    a: int
    b: int
    payload: bytes

    @property
    def names(self):
        return [os.fsdecode(name) for name in self.payload.split(b"\0")]


def read_log(path):
    entries = []
    with open(path, "rb") as file:
        while head := file.read(ENTRY.size):
            *numbers, length = ENTRY.unpack(head)
            entries.append(Entry(*numbers, file.read(length)))
    return entries


class File:
    """A file: what is durable of it, and what has been done since, each with the number of its entry."""

    def __init__(self, content=b""):
        self.durable = bytearray(content)  # all whole pieces, zeros behind the end
        self.durable_size = len(content)
        self.durable_time = None
        self.pieces = {}  # index: [(entry, bytes), ...]
        self.sizes = []  # (entry, size)
        self.times = []  # (entry, ns)

    @property
    def size(self):
        return self.sizes[-1][1] if self.sizes else self.durable_size

    def piece(self, index):
        """The bytes of a piece as they are now, synced or not."""
        if index in self.pieces:
            return self.pieces[index][-1][1]
        return bytes(self.durable[index * PIECE:(index + 1) * PIECE]).ljust(PIECE, b"\0")

    def write(self, number, offset, data):
        end = offset + len(data)
        for index in range(offset // PIECE, (end + PIECE - 1) // PIECE):
            start = index * PIECE
            first, last = max(offset, start), min(end, start + PIECE)
            new = data[first - offset:last - offset]
            if len(new) < PIECE:
                old = self.piece(index)
                new = old[:first - start] + new + old[last - start:]
            self.pieces.setdefault(index, []).append((number, new))
        if end > self.size:
            self.sizes.append((number, end))

    def zero(self, number, offset, length):
        length = max(0, min(length, self.size - offset))
        self.write(number, offset, bytes(length))

    def truncate(self, number, size):
        self.zero(number, size, self.size - size)
        self.sizes.append((number, size))

    def sync(self, last, only=None, times=True):
        """All entries up to `last` are durable: of all pieces or `only` of these, of the size, and perhaps of times."""
        for index in list(self.pieces) if only is None else only:
            versions = self.pieces[index]
            count = sum(number <= last for number, _ in versions)
            if count:
                self._keep(index, versions[count - 1][1])
                del versions[:count]
            if not versions:
                del self.pieces[index]
        while self.sizes and self.sizes[0][0] <= last:
            self.durable_size = self.sizes.pop(0)[1]
        while times and self.times and self.times[0][0] <= last:
            self.durable_time = self.times.pop(0)[1]

    def _keep(self, index, data):
        short = (index + 1) * PIECE - len(self.durable)
        if short > 0:
            self.durable.extend(bytes(short))
        self.durable[index * PIECE:(index + 1) * PIECE] = data

    def build(self, path, choose):
        """Write a state of it to `path`. `choose` picks one of so many versions, 0 being the durable one."""
        size = self._chosen(self.sizes, self.durable_size, choose)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            written = memoryview(self.durable)[:self.durable_size]
            while written:
                written = written[os.write(descriptor, written):]
            for index, versions in self.pieces.items():
                count = choose(len(versions))
                if count:
                    os.pwrite(descriptor, versions[count - 1][1], index * PIECE)
            os.ftruncate(descriptor, size)
            time = self._chosen(self.times, self.durable_time, choose)
            if time is not None:
                os.utime(descriptor, ns=(time, time))
        finally:
            os.close(descriptor)

    @staticmethod
    def _chosen(versions, durable, choose):
        count = choose(len(versions))
        return versions[count - 1][1] if count else durable


DIRECTORY = "a directory"


class Disk:
    """The files below a directory, as they are after some entries of the log."""

    # What a faulty disk, or a faulty reading of the log, can be made to ignore: see `deaf`.
    FAULTS = ("sync of data.mdb", "sync of staged files", "sync of directories", "synchronous writes")

    def __init__(self, root, deaf=()):
        """As the directory is now. Of `deaf`, a part of FAULTS, nothing is heard."""
        self.deaf = deaf
        self.names = {}  # path: File or DIRECTORY, durable
        self.changes = []  # (entry, {path: File, DIRECTORY or None}): not durable
        self.files = {}  # by inode
        self.directories = {os.stat(root).st_ino: ""}
        self.syncs = {}  # those that have not returned: number of the entry to whether it is of data only
        self.writes = {}  # synchronous ones that have not returned: number of the entry to pieces
        for parent, directories, files in os.walk(root):
            for name in directories + files:
                self._find(root, os.path.relpath(os.path.join(parent, name), root))

    def _find(self, root, path):
        status = os.lstat(os.path.join(root, path))
        if path in ("lock.mdb", "owner"):
            return
        if os.path.isdir(os.path.join(root, path)):
            self.names[path] = DIRECTORY
            self.directories[status.st_ino] = path
            return
        with open(os.path.join(root, path), "rb") as file:
            self.files[status.st_ino] = self.names[path] = File(file.read())
        self.names[path].durable_time = status.st_mtime_ns

    # ------------------------------------------------------------------------------------------ the log --

    def apply(self, number, entry):
        """What entry `number` did."""
        kind = entry.kind
        if kind in (CREATE, MKDIR, REMOVE, RENAME, LINK):
            self._name(number, entry)
        elif kind == SYNC:
            self.syncs[number] = entry.a
        elif kind == SYNCED:
            self._sync(entry.inode, entry.a, data_only=self.syncs.pop(entry.a))
        else:
            self._bytes(number, entry, self.files.setdefault(entry.inode, File()))

    def _name(self, number, entry):
        names = entry.names
        if entry.kind == MKDIR:
            self.directories[entry.inode] = names[0]
            self.changes.append((number, {names[0]: DIRECTORY}))
        elif entry.kind == CREATE:
            self.files[entry.inode] = File()
            self.changes.append((number, {names[0]: self.files[entry.inode]}))
        elif entry.kind == LINK:
            self.changes.append((number, {names[0]: self.files[entry.inode]}))
        elif entry.kind == REMOVE:
            self.changes.append((number, {names[0]: None}))
        else:
            if len({os.path.dirname(name) for name in names}) > 1:
                raise AssertionError(f"renamed to another directory, which is not modelled: {names}")
            self.changes.append((number, {names[0]: None, names[1]: self.files[entry.inode]}))

    def _bytes(self, number, entry, file):
        if entry.kind == WRITE:
            file.write(number, entry.a, entry.payload)
            if entry.b:
                self.writes[number] = range(entry.a // PIECE, (entry.a + len(entry.payload) - 1) // PIECE + 1)
        elif entry.kind == WRITTEN:
            pieces = self.writes.pop(entry.a)
            if "synchronous writes" not in self.deaf:
                file.sync(entry.a, pieces, times=False)
        elif entry.kind == TRUNCATE:
            file.truncate(number, entry.a)
        elif entry.kind == ZERO:
            file.zero(number, entry.a, entry.b)
        elif entry.kind == EXTEND and entry.a > file.size:
            file.sizes.append((number, entry.a))
        elif entry.kind == TIMES:
            file.times.append((number, entry.a))

    def _sync(self, inode, last, data_only):
        for file in [self.files[inode]] if inode in self.files else self.files.values() if inode == 0 else ():
            fault = "sync of data.mdb" if file is self.current().get("data.mdb") else "sync of staged files"
            if fault not in self.deaf:
                file.sync(last, times=not data_only)
        if "sync of directories" in self.deaf:
            return
        for number, change in [change for change in self.changes if change[0] <= last]:
            if inode == 0 or os.path.dirname(next(iter(change))) == self.directories.get(inode):
                self._settle(self.names, change)
                self.changes.remove((number, change))

    @staticmethod
    def _settle(names, change):
        for path, what in change.items():
            if what is None:
                names.pop(path, None)
            else:
                names[path] = what

    # --------------------------------------------------------------------------------------------- states --

    def current(self):
        """The names as they are now, synced or not."""
        names = dict(self.names)
        for _, change in self.changes:
            self._settle(names, change)
        return names

    def unsynced(self):
        """How much may be lost: pieces, sizes and names."""
        files = self.files.values()
        return len(self.changes) + sum(len(file.pieces) + len(file.sizes) + len(file.times) for file in files)

    def build(self, path, maker):
        """Make directory `path`, with a state in it that `maker`, a random.Random, chooses."""
        keep = maker.choice((0, 0.1, 0.5, 0.5, 0.9, 1))  # how likely a change has reached the disk

        def choose(count):
            if count == 0 or maker.random() >= keep:
                return 0
            return count if maker.random() < 0.5 else maker.randint(1, count)

        names = dict(self.names)
        lost = set()
        for _, change in self.changes:
            if maker.random() < keep and lost.isdisjoint(change):
                self._settle(names, change)
            else:
                lost.update(change)  # a later change of the same name can't be there without this one
        self._write(path, names, choose)

    def build_last(self, path):
        """The same with all that was done, synced or not."""
        self._write(path, self.current(), lambda count: count)

    @staticmethod
    def _write(path, names, choose):
        shutil.rmtree(path, ignore_errors=True)
        os.makedirs(path)
        for name, what in sorted(names.items()):
            target = os.path.join(path, name)
            if what is DIRECTORY:
                os.mkdir(target)
            elif os.path.dirname(name) in ("", *names):  # without its directory it is not there
                what.build(target, choose)


def difference(built, real):
    """In what a rebuilt directory differs from the real one: what the recorder has missed. "" = in nothing."""
    def listing(root):
        return {os.path.relpath(os.path.join(parent, name), root) for parent, directories, files in os.walk(root)
                for name in directories + files} - {"lock.mdb", "owner"}

    if listing(built) != listing(real):
        return f"names: {sorted(listing(built) ^ listing(real))}"
    for name in sorted(listing(real)):
        one, other = os.path.join(built, name), os.path.join(real, name)
        if os.path.isfile(other):
            with open(one, "rb") as a, open(other, "rb") as b:
                if a.read() != b.read():
                    return f"bytes of {name}"
    return ""
