# SPDX-License-Identifier: BSD-2-Clause
"""The benchmark's loops in Python, with the clock inside: what a Python program pays.

Prints "NANOSECONDS COUNT" like probe.c.

    probe.py mmap ROOT NAMES            os.open, mmap, read all, close; each name in file NAMES
    probe.py portage-read ROOT NAMES    open() as text, read, split into lines, fstat
    probe.py portage-write DIR SOURCE NAMES WRITERS
                                        as Portage's flat_hash cache writes: mkstemp in DIR, write, stat,
                                        chmod, rename to the name; contents come from SOURCE; WRITERS
                                        processes at once, each with its share of the names
"""

import mmap
import multiprocessing
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
            os.makedirs(os.path.dirname(target), exist_ok=True)  # other writers do the same
            os.rename(temporary, target)
    return len(entries)


def together(processes, work):
    """Runs work(index) in so many processes. Nanoseconds from the start of all to the end of the last, and the sum of
    what they return."""
    context = multiprocessing.get_context("fork")
    barrier, finishes = context.Barrier(processes + 1), context.SimpleQueue()

    def child(index):
        barrier.wait()
        result = work(index)
        finishes.put((time.perf_counter_ns(), result))

    children = [context.Process(target=child, args=(index,)) for index in range(processes)]
    for process in children:
        process.start()
    barrier.wait()
    start = time.perf_counter_ns()
    for process in children:
        process.join()
        if process.exitcode != 0:
            sys.exit("a process has failed")
    ends, results = zip(*(finishes.get() for _ in children))
    return max(ends) - start, sum(results)


def main(argv):
    what, root = argv[1], argv[2]
    if what == "portage-write":
        entries, writers = [], int(argv[5])
        for name in read_names(argv[4]):
            with open(os.path.join(argv[3], name), encoding="utf-8", errors="replace") as file:
                entries.append((name, file.read()))
        nanoseconds, count = together(writers, lambda index: portage_write(
            root, entries[len(entries) * index // writers:len(entries) * (index + 1) // writers]))
    else:
        loop = {"mmap": mmap_all, "portage-read": portage_read}[what]
        paths = [os.path.join(root, name) for name in read_names(argv[3])]
        start = time.perf_counter_ns()
        count = loop(paths)
        nanoseconds = time.perf_counter_ns() - start
    print(nanoseconds, count)


main(sys.argv)
