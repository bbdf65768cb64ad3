# SPDX-License-Identifier: BSD-2-Clause
"""What the kernel tells about a process or a file: time, memory, what is in the page cache."""

import ctypes
import mmap
import os
import re
import time

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_int64]
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_libc.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p]


def cpu_seconds(pid):
    """CPU time of the process with all its threads, those that have ended too. In nanoseconds, where /proc/PID/stat
    counts in hundredths of a second."""
    # The kernel's own coding of "the CPU clock of that process", as clock_getcpuclockid(3) makes it.
    return time.clock_gettime(~pid << 3 | 2)


def rollup(pid):
    """The sums of /proc/PID/smaps_rollup by name, in bytes."""
    with open(f"/proc/{pid}/smaps_rollup", encoding="utf-8", errors="replace") as file:
        return {name: int(kilobytes) << 10
                for name, kilobytes in re.findall(r"^(\w+):\s+(\d+) kB", file.read(), re.MULTILINE)}


def private_bytes(pid):
    """Memory that is mapped by this process only."""
    sums = rollup(pid)
    return sums["Private_Dirty"] + sums["Private_Clean"]


def private_bytes_of(pid, path):
    """The same, of the process's mappings of one file."""
    total, ours = 0, False
    with open(f"/proc/{pid}/smaps", encoding="utf-8", errors="replace") as file:
        for line in file:
            mapping = re.match(r"[0-9a-f]+-[0-9a-f]+ \S+ \S+ \S+ \d+\s*(.*)", line)
            if mapping:
                ours = mapping[1] == str(path)
            elif ours and line.startswith(("Private_Dirty:", "Private_Clean:")):
                total += int(line.split()[1]) << 10
    return total


def anonymous_bytes(pid):
    with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as file:
        found = re.search(r"^RssAnon:\s+(\d+) kB", file.read(), re.MULTILINE)
    return int(found[1]) << 10 if found else 0


def resident_bytes(path):
    """How much of a file is in the page cache."""
    fd = os.open(path, os.O_RDONLY)
    try:
        size = os.fstat(fd).st_size
        if size == 0:
            return 0
        address = _libc.mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, fd, 0)
        if address == ctypes.c_void_p(-1).value:
            raise OSError(ctypes.get_errno(), "mmap", str(path))
    finally:
        os.close(fd)
    try:
        pages = ctypes.create_string_buffer(-(-size // mmap.PAGESIZE))
        if _libc.mincore(address, size, pages) != 0:
            raise OSError(ctypes.get_errno(), "mincore", str(path))
    finally:
        _libc.munmap(address, size)
    return (len(pages.raw) - pages.raw.count(b"\0")) * mmap.PAGESIZE
