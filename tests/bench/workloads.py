# SPDX-License-Identifier: BSD-2-Clause
"""All workloads: those that read are here, those that write in updates.py.

To add one, write a class or an instance of a class, and put it into workloads().
"""

import os
import select
import subprocess
import time

import observe
from corpus import LARGE_BYTES, LARGE_NAME, VALUES, BenchError, large_bytes
from probes import PROBES, RUN_SECONDS, measured, run
from updates import updates
from workload import COLD, WARM, Outcome, Workload

# In five percent of the files, once each: reading counts here, not printing.
PATTERN = "~riscv"
TOUCHES_PER_GIB = 100_000
# As often, that a run takes some tenths of a second.
VALUE_PASSES = {"1k": 3, "64k": 5}
VALUE_READERS = (1, 4)


class Command(Workload):
    """A program that everybody has, timed from outside; `argv` is a function of the root."""

    def __init__(self, name, title, argv, *, data="tree", result=lambda out, err: f"{out.count(chr(10))} lines"):
        self.name, self.title, self.argv, self.data, self.result = name, title, argv, data, result
        self.tools = (argv("/")[0],)

    def run(self, place):
        argv = [str(word) for word in self.argv(place.root)]
        start = time.perf_counter()
        done = run(argv)
        seconds = time.perf_counter() - start
        nothing_matched = done.returncode == 1 and not done.stderr  # as grep says it
        if done.returncode != 0 and not nothing_matched:
            raise BenchError(f"exit {done.returncode}: {' '.join(argv)}: {done.stderr.strip()[-300:]}")
        return Outcome(seconds, self.result(done.stdout, done.stderr))


class Tar(Workload):
    """Through a pipe: GNU tar that writes to /dev/null does not read the files at all."""

    name, title, tools = "tar", "`tar c`", ("tar",)

    def run(self, place):
        start = time.perf_counter()
        with subprocess.Popen(["tar", "cf", "-", "-C", place.root, "."], stdout=subprocess.PIPE) as tar:
            done = run(["wc", "-c"], stdin=tar.stdout)
            tar.stdout.close()
            if tar.wait() != 0:
                raise BenchError(f"tar: exit {tar.returncode}")
        return Outcome(time.perf_counter() - start, f"{done.stdout.strip()} bytes")


class Loop(Workload):
    """A loop of probe.c or probe.py, which has the clock inside; `arguments` is a function of the place."""

    def __init__(self, name, title, probe, arguments, *, data="tree"):
        self.name, self.title, self.probe, self.arguments, self.data = name, title, probe, arguments, data

    def run(self, place):
        return measured(self.probe, *self.arguments(place))


class Large(Workload):
    """Something done with one large file on one ground. Cold comes first: what is in the page cache afterwards is
    what the reading has brought there."""

    states = (COLD, WARM)
    table = "large"

    def __init__(self, reading, size, ground, file_bytes):
        self.reading, self.ground = reading, ground
        self.memory_bytes = file_bytes + (64 << 20)
        self.name = f"{reading.name}-{size}-{ground}"
        self.groups = ("large", reading.name, f"large-{size}", f"large-{ground}")
        self.title, self.data, self.run = reading.title, f"large-{size}", reading.run
        self.tools = reading.tools


def large_workloads(quick):
    for ground in ("ext4", "xfs", "btrfs"):
        for size in LARGE_BYTES:
            file_bytes = large_bytes(size, quick)
            mebibytes = file_bytes >> 20
            touches = mebibytes * TOUCHES_PER_GIB >> 10
            for reading in (
                    Command("large-read", f"{mebibytes} MiB, `dd bs=128K`",
                            lambda root: ["dd", f"if={root}/{LARGE_NAME}", "of=/dev/null", "bs=128K"],
                            result=lambda out, err: err.splitlines()[-1].partition(" (")[0]),
                    Loop("large-scan", f"{mebibytes} MiB, mmap, in order", "c",
                         lambda place: ("scan", place.root / LARGE_NAME)),
                    Loop("large-touch", f"{mebibytes} MiB, mmap, {touches} random pages", "c",
                         lambda place, touches=touches: ("touch", place.root / LARGE_NAME, touches))):
                yield Large(reading, size, ground, file_bytes)


class Values(Workload):
    """Values read by name, each of their bytes summed, by several processes at once: as files, and from a Redis."""

    states, table, with_redis = (WARM,), "redis", True

    def __init__(self, how, size, processes):
        self.how, self.processes = how, processes
        self.name = f"values-{how}-{size}-{processes}"
        self.groups = ("redis", f"values-{size}", f"values-{how}")
        self.data, self.passes = f"values-{size}", VALUE_PASSES[size]
        call = {"read": "open + read + close", "map": "open + mmap + close"}[how]
        self.title = f"{VALUES[size][1] >> 10} KB, {call}, {processes} reader{'s' if processes > 1 else ''}"

    def files(self, dataset):
        return dataset.files * self.passes * self.processes

    def run(self, place):
        probe, arguments = place.values(self.how)
        return measured(probe, *arguments, self.passes, self.processes)


class Readers(Workload):
    """What one more reader costs in memory that has all values at hand. It comes after another one: what they share
    is not its own."""

    name, title = "values-hold", "64 KB, all of them at hand"
    groups, data = ("redis", "values-64k"), "values-64k"
    states, table, with_redis = (WARM,), "readers", True

    def run(self, place):
        probe, arguments = place.hold()
        argv = [*PROBES[probe], *map(str, arguments)]
        start = time.perf_counter()
        with Holder(argv), Holder(argv) as second:
            sums = observe.rollup(second.pid)
            return Outcome(time.perf_counter() - start, second.sum, {
                "private": sums["Private_Dirty"] + sums["Private_Clean"], "pss": sums["Pss"],
                "values": place.dataset.files * VALUES["64k"][1]})


class Holder:
    """A process that has all values at hand until its block ends."""

    def __init__(self, argv):
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.pid = self.process.pid
        self.sum = None

    def __enter__(self):
        try:
            if not select.select([self.process.stdout], [], [], RUN_SECONDS)[0]:
                self.process.kill()
            self.sum = self.process.stdout.readline().strip()
            if not self.sum:
                raise BenchError(f"hold: exit {self.process.wait()}")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_exception):
        self.process.stdin.close()  # it ends by itself
        self.process.stdout.close()
        self.process.wait()


def workloads(quick):
    """All of them, in the order of the table."""
    return [
        Command("grep", "`grep -r`", lambda root: ["grep", "-rF", PATTERN, root]),
        Command("rg", "`rg`", lambda root: ["rg", "-F", PATTERN, root]),
        Command("find", "`find -size`", lambda root: ["find", root, "-size", "+64k"]),
        Tar(),
        Loop("mmap", "Python open + mmap + read by name", "python",
             lambda place: ("mmap", place.root, place.dataset.names)),
        Loop("stat", "C stat by name", "c", lambda place: ("stat", place.root, place.dataset.names)),
        Loop("read", "C open + fstat + read + close by name", "c",
             lambda place: ("read", place.root, place.dataset.names)),
        Loop("portage-read", "as Portage reads: Python's `open()`", "python",
             lambda place: ("portage-read", place.root, place.dataset.names)),
        *updates(quick),
        *large_workloads(quick),
        *(Values(how, size, processes)
          for size in VALUES for how in ("read", "map") for processes in VALUE_READERS),
        Readers(),
    ]
