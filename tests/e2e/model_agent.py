# SPDX-License-Identifier: BSD-2-Clause
"""
One user's process of the model test (test_model.py): does the steps it is told in a directory that is its whole world,
a mount of lmdbfs or a directory of ext4, and says what came of each.

A step is a list that JSON can carry: the number of the process, the operation, its arguments. A path in it is
[slot, text]: from the directory open in that slot, or from the root if that is None. A process has numbered slots for
what it has open, and others for what it has mapped.
"""

import contextlib
import ctypes
import errno
import hashlib
import mmap
import os
import pickle
import random
import select
import signal
import socket
import stat
import struct
import time
import traceback

from harness import AT_FDCWD, LIBC, PR_SET_PDEATHSIG, RENAME_EXCHANGE

HANG = 100  # seconds

AT_SYMLINK_NOFOLLOW = 0x100
AT_SYMLINK_FOLLOW = 0x400
MS_SYNC = 4
STATX_BASIC = 0x7FF

# A time that was set is far from now, so that whatever else writes a time can be told from it.
NOW = "now"

for function, result in (("mmap", ctypes.c_void_p), ("fdopendir", ctypes.c_void_p), ("readdir", ctypes.c_void_p)):
    getattr(LIBC, function).restype = result
LIBC.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_int64)
LIBC.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
LIBC.msync.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
LIBC.fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
LIBC.readdir.argtypes = LIBC.closedir.argtypes = LIBC.telldir.argtypes = (ctypes.c_void_p,)
LIBC.seekdir.argtypes = (ctypes.c_void_p, ctypes.c_long)
LIBC.telldir.restype = ctypes.c_long
LIBC.statx.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_uint, ctypes.c_void_p)


def call(function, *arguments):
    value = getattr(LIBC, function)(*arguments)
    if value in (-1, 2**64 - 1):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return value


def content(seed, size):
    return random.Random(seed).randbytes(size)


def digest(text):
    return len(text), hashlib.blake2b(text, digest_size=8).hexdigest()


def time_class(nanoseconds):
    return NOW if abs(nanoseconds / 1e9 - time.time()) < 86_400 else nanoseconds


def facts(status):
    """What of a stat must be equal: sizes and link counts of directories are each filesystem's own affair."""
    kind = stat.S_IFMT(status.st_mode)
    own = () if kind == stat.S_IFDIR else (status.st_size, status.st_nlink)
    return (kind, stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid, time_class(status.st_mtime_ns), *own)


class Mapping:
    def __init__(self, descriptor, write):
        size = os.fstat(descriptor).st_size
        self.length = max(size, 1)
        access = mmap.PROT_READ | (mmap.PROT_WRITE if write else 0)
        self.address = call("mmap", None, self.length, access, mmap.MAP_SHARED, descriptor, 0)
        # Python's own mmap keeps a descriptor, which would be a writer. This one only asks how long the file is.
        self.handle = os.open(f"{descriptor}", os.O_PATH, dir_fd=Agent.descriptors)

    def size(self):
        """Of what can be touched without SIGBUS."""
        return min(self.length, os.fstat(self.handle).st_size)

    def close(self):
        call("munmap", self.address, self.length)
        os.close(self.handle)


class Agent:
    """The operations. What they return is compared; self.inform is for the conductor alone."""

    descriptors = None  # /proc/self/fd, opened before the root changed

    def __init__(self):
        self.slots = {}
        self.mappings = {}
        self.inform = None

    def do(self, operation, arguments, learn):
        self.inform = None
        self.learn = learn
        try:
            return (getattr(self, "do_" + operation)(*arguments), None), self.inform
        except OSError as error:
            return (None, errno.errorcode.get(error.errno, error.errno)), self.inform

    def base(self, path):
        return None if path[0] is None else self.slots[path[0]]

    # ---------------------------------------------------------------- for the conductor --

    def about(self, descriptor):
        """Which file that is, and its place as seen from the root."""
        status = os.fstat(descriptor)
        place = os.readlink(f"{descriptor}", dir_fd=self.descriptors)
        return {"ino": status.st_ino, "type": stat.S_IFMT(status.st_mode), "size": status.st_size, "place": place}

    def tell(self, path, flags=os.O_NOFOLLOW):
        """About what `path` leads to, if the conductor wants to know; None if it leads nowhere."""
        return self.lookup(path, flags) if self.learn else None

    def lookup(self, path, flags):
        try:
            descriptor = os.open(path[1], os.O_PATH | flags, dir_fd=self.base(path))
        except OSError:
            return None
        try:
            return self.about(descriptor)
        finally:
            os.close(descriptor)

    def do_look(self, path):
        """About what a path leads to, what it names if that is a symbolic link, and where its directory is."""
        parent = os.path.dirname(path[1].rstrip("/")) or ("." if path[0] is not None else "/")
        above = self.lookup([path[0], parent], 0)
        return self.lookup(path, 0), self.lookup(path, os.O_NOFOLLOW), above and above["place"]

    # --------------------------------------------------------------------------- files --

    def do_open(self, slot, path, flags, mode):
        descriptor = os.open(path[1], flags, mode, dir_fd=self.base(path))
        self.slots[slot] = descriptor
        if self.learn:
            self.inform = self.about(descriptor)

    def do_close(self, slot):
        os.close(self.slots.pop(slot))

    def do_read(self, slot, size, offset):
        return digest(os.pread(self.slots[slot], size, offset))

    def do_read_on(self, slot, size):
        return digest(os.read(self.slots[slot], size))

    def do_write(self, slot, seed, size):
        return os.write(self.slots[slot], content(seed, size))

    def do_pwrite(self, slot, seed, size, offset):
        return os.pwrite(self.slots[slot], content(seed, size), offset)

    def do_seek(self, slot, offset, whence):
        return os.lseek(self.slots[slot], offset, whence)

    def do_copy(self, source, target, size):
        return os.copy_file_range(self.slots[source], self.slots[target], size)

    def do_ftruncate(self, slot, size):
        os.ftruncate(self.slots[slot], size)

    def do_truncate(self, path, size):
        os.truncate(path, size)

    def do_fallocate(self, slot, mode, offset, length):
        call("fallocate", self.slots[slot], mode, offset, length)

    def do_fsync(self, slot):
        os.fsync(self.slots[slot])

    def do_fdatasync(self, slot):
        os.fdatasync(self.slots[slot])

    def do_syncfs(self, slot):
        call("syncfs", self.slots[slot])

    def do_cat(self, path):
        descriptor = os.open(path[1], os.O_RDONLY, dir_fd=self.base(path))
        with os.fdopen(descriptor, "rb") as file:
            return digest(file.read())

    # ------------------------------------------------------------------------ mappings --

    def do_map(self, mapping, slot, write):
        self.mappings[mapping] = Mapping(self.slots[slot], write)

    def do_unmap(self, mapping):
        self.mappings.pop(mapping).close()

    def do_map_read(self, mapping):
        size = self.mappings[mapping].size()
        return digest(ctypes.string_at(self.mappings[mapping].address, size))

    def do_map_store(self, mapping, seed, size, offset):
        it = self.mappings[mapping]
        text = content(seed, size)[: max(0, it.size() - offset)]
        ctypes.memmove(it.address + offset, text, len(text))
        return len(text)

    def do_map_sync(self, mapping):
        it = self.mappings[mapping]
        call("msync", it.address, it.length, MS_SYNC)

    # --------------------------------------------------------------------------- names --

    def do_rename(self, old, new, flags):
        # Looked up before: what the paths are relative to may be among what moves.
        with self.looked_up(old) as moved, self.looked_up(new, flags & RENAME_EXCHANGE) as other:
            if flags == 0:
                os.rename(old[1], new[1], src_dir_fd=self.base(old), dst_dir_fd=self.base(new))
            else:
                call("renameat2", *self.at(old), *self.at(new), flags)
            self.inform = [None if descriptor is None else self.about(descriptor) for descriptor in (moved, other)]

    @contextlib.contextmanager
    def looked_up(self, path, wanted=True):
        """A descriptor of what `path` leads to, which goes with it where it is moved; None if it leads nowhere."""
        descriptor = None
        if wanted and self.learn:
            with contextlib.suppress(OSError):
                descriptor = os.open(path[1], os.O_PATH | os.O_NOFOLLOW, dir_fd=self.base(path))
        try:
            yield descriptor
        finally:
            if descriptor is not None:
                os.close(descriptor)

    def at(self, path):
        base = self.base(path)
        return AT_FDCWD if base is None else base, os.fsencode(path[1])

    def do_link(self, old, new, follow):
        call("linkat", *self.at(old), *self.at(new), AT_SYMLINK_FOLLOW if follow else 0)
        self.inform = self.tell(new)

    def do_link_open(self, slot, new):
        """A name for what is open, as O_TMPFILE needs it."""
        number = os.fsencode(f"{self.slots[slot]}")
        call("linkat", self.descriptors, number, *self.at(new), AT_SYMLINK_FOLLOW)
        self.inform = self.tell(new)

    def do_unlink(self, path):
        os.unlink(path[1], dir_fd=self.base(path))

    def do_symlink(self, target, path):
        os.symlink(target, path[1], dir_fd=self.base(path))

    def do_readlink(self, path):
        return os.readlink(path[1], dir_fd=self.base(path))

    def do_mkdir(self, path, mode):
        os.mkdir(path[1], mode, dir_fd=self.base(path))

    def do_rmdir(self, path):
        os.rmdir(path[1], dir_fd=self.base(path))

    def do_mknod(self, path, mode):
        os.mknod(path[1], mode, os.makedev(1, 3), dir_fd=self.base(path))
        self.inform = self.tell(path)

    # ---------------------------------------------------------------------- attributes --

    def do_chmod(self, path, mode):
        self.inform = self.tell(path, 0)
        os.chmod(path[1], mode, dir_fd=self.base(path))

    def do_fchmod(self, slot, mode):
        os.fchmod(self.slots[slot], mode)

    def do_chown(self, path, uid, gid, follow):
        os.chown(path[1], uid, gid, dir_fd=self.base(path), follow_symlinks=follow)

    def do_utime(self, path, atime, mtime, follow):
        """`NOW`, nanoseconds, or None to leave it."""
        base, name = self.at(path)
        omit, now = (0, (1 << 30) - 2), (0, (1 << 30) - 1)
        both = [omit if ns is None else now if ns == NOW else divmod(ns, 10**9) for ns in (atime, mtime)]
        times = struct.pack("qqqq", *both[0], *both[1])
        call("utimensat", base, name, times, 0 if follow else AT_SYMLINK_NOFOLLOW)
        if atime not in (None, NOW):
            return os.stat(path[1], dir_fd=self.base(path), follow_symlinks=follow).st_atime_ns

    def do_stat(self, path, follow):
        return facts(os.stat(path[1], dir_fd=self.base(path), follow_symlinks=follow))

    def do_fstat(self, slot):
        return facts(os.fstat(self.slots[slot]))

    def do_statx(self, path, follow):
        base, name = self.at(path)
        buffer = ctypes.create_string_buffer(256)
        call("statx", base, name, 0 if follow else AT_SYMLINK_NOFOLLOW, STATX_BASIC, buffer)
        mask, links, uid, gid, mode, size = struct.unpack_from("I12xIIIH10xQ", buffer)
        directory = stat.S_ISDIR(mode)
        return mask & STATX_BASIC, mode, uid, gid, None if directory else (links, size)

    def do_access(self, path, mode):
        return os.access(path[1], mode, dir_fd=self.base(path))

    def do_setxattr(self, path, name):
        os.setxattr(path, name, b"value")

    def do_getxattr(self, path, name):
        return os.getxattr(path, name)

    def do_umask(self, mode):
        return os.umask(mode)

    # --------------------------------------------------------------------- directories --

    def do_list(self, path):
        return self.listing(os.open(path[1], os.O_RDONLY | os.O_DIRECTORY, dir_fd=self.base(path)), 0)

    def do_list_open(self, slot, start):
        """What the handle shows, and again from the middle on, which must be the rest of it."""
        return self.listing(os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=self.slots[slot]), start)

    @staticmethod
    def entry(address):
        """Name and type of a struct dirent."""
        return os.fsdecode(ctypes.string_at(address + 19)), ctypes.string_at(address + 18, 1)[0]

    @staticmethod
    def listing(descriptor, start):
        stream = LIBC.fdopendir(descriptor)
        names, places = [], []
        try:
            while entry := LIBC.readdir(stream):
                names.append(Agent.entry(entry))
                places.append(LIBC.telldir(stream))
            rest = []
            if names:
                start %= len(names)
                LIBC.seekdir(stream, places[start])
                while entry := LIBC.readdir(stream):
                    rest.append(Agent.entry(entry))
                if rest != names[start + 1 :]:
                    return "after seekdir", sorted(rest), "instead of", sorted(names[start + 1 :])
        finally:
            LIBC.closedir(stream)
        if len(set(names)) != len(names):
            return "a name twice", sorted(names)
        return sorted(names)


# ------------------------------------------------------------------------------------------------- processes --


class Process:
    """An Agent in a process of its own, as a user, with `root` for its root."""

    sockets = set()  # a child must not keep those of the others open

    def __init__(self, root, user, groups, kind=Agent):
        self.socket, theirs = socket.socketpair()
        self.sockets.add(self.socket)
        self.pid = os.fork()
        if self.pid == 0:
            status = 1
            try:
                for one in self.sockets:
                    one.close()
                self.become(root, user, groups)
                serve(kind(), theirs)
                status = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(status)
        theirs.close()

    @staticmethod
    def become(root, user, groups):
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        Agent.descriptors = os.open("/proc/self/fd", os.O_RDONLY | os.O_DIRECTORY)
        os.chroot(root)
        os.chdir("/")
        os.umask(0o022)
        os.setgroups(groups)
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)

    def ask(self, operation, arguments, learn=False):
        send(self.socket, (operation, arguments, learn))
        if not select.select([self.socket], [], [], HANG)[0]:
            raise AssertionError(f"{operation} {arguments} hangs")
        answer = receive(self.socket)
        if answer is None:
            raise AssertionError(f"{operation} {arguments} was the end of its process: wait status {self.wait()}")
        return answer

    def wait(self):
        if self.pid is not None:
            _, status = os.waitpid(self.pid, 0)
            self.pid = None
            return status
        return None

    def end(self):
        self.sockets.discard(self.socket)
        self.socket.close()
        self.wait()

    def kill(self):
        if self.pid is not None:
            os.kill(self.pid, signal.SIGKILL)
        self.end()


def send(connection, value):
    text = pickle.dumps(value)
    connection.sendall(struct.pack("I", len(text)) + text)


def receive(connection):
    def exactly(size):
        text = b""
        while len(text) < size:
            piece = connection.recv(size - len(text))
            if not piece:
                return None
            text += piece
        return text

    head = exactly(4)
    return pickle.loads(exactly(struct.unpack("I", head)[0])) if head else None


def serve(agent, connection):
    while (message := receive(connection)) is not None:
        send(connection, agent.do(*message))
