# SPDX-License-Identifier: BSD-2-Clause
"""The benchmark's loops in Python, with the clock inside: what a Python program pays.

Prints "NANOSECONDS COUNT" like probe.c.

    probe.py mmap ROOT NAMES            os.open, mmap, read all, close; each name in file NAMES
    probe.py portage-read ROOT NAMES    open() as text, read, split into lines, fstat
    probe.py portage-write DIR SOURCE NAMES
                                        as Portage's flat_hash cache writes: mkstemp in DIR, write, stat,
                                        chmod, rename to the name; contents come from SOURCE
"""

import mmap
import os
import sys
import tempfile
import time


def read_names(path):
    with open(path, encoding="utf-8") as file:
        return file.read().splitlines()


def mmap_all(paths):
    total = 0
    for path in paths:
        fd = os.open(path, os.O_RDONLY)
        # Length 0 = the whole file, found by fstat. The map has a descriptor of its own.
        with mmap.mmap(fd, 0, mmap.MAP_SHARED, mmap.PROT_READ) as view:
            total += len(view[:])
        os.close(fd)
    return total


def portage_read(paths):
    total = 0
    for path in paths:
        with open(path, encoding="utf-8", errors="replace") as file:
            total += len(file.read().split("\n"))
            os.fstat(file.fileno())
    return total


def portage_write(root, entries):
    for name, content in entries:
        fd, temporary = tempfile.mkstemp(dir=root)
        with open(fd, "w", encoding="utf-8") as file:
            file.write(content)
        os.stat(temporary)
        os.chmod(temporary, 0o644)
        target = os.path.join(root, name)
        try:
            os.rename(temporary, target)
        except FileNotFoundError:
            os.makedirs(os.path.dirname(target))
            os.rename(temporary, target)
    return len(entries)


def main(argv):
    what, root = argv[1], argv[2]
    if what == "portage-write":
        entries = []
        for name in read_names(argv[4]):
            with open(os.path.join(argv[3], name), encoding="utf-8", errors="replace") as file:
                entries.append((name, file.read()))
        start = time.perf_counter_ns()
        count = portage_write(root, entries)
    else:
        loop = {"mmap": mmap_all, "portage-read": portage_read}[what]
        paths = [os.path.join(root, name) for name in read_names(argv[3])]
        start = time.perf_counter_ns()
        count = loop(paths)
    print(time.perf_counter_ns() - start, count)


main(sys.argv)
