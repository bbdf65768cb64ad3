# SPDX-License-Identifier: BSD-2-Clause
"""One run of a workload on a contender, and all that must be there for it."""

import contextlib
import dataclasses
import mmap
import os
import sys
import time

import grounds
from corpus import BenchError, command
from workload import COLD, WARM, WRITE


@dataclasses.dataclass
class Sample:
    seconds: float
    refaults: int = 0
    requests: dict = None
    cpu_seconds: float = None
    memory_bytes: int = None
    resident: float = None  # how much of the store is in the page cache beside the mount's own pages
    reader_memory: dict = None
    settling_seconds: float = None  # how long it took afterwards until all was on disk, and the daemon at rest


class Bench:
    """Makes the places (a contender with a data set in it) and runs workloads on them."""

    def __init__(self, corpus, results, stack):
        self.corpus, self.results, self.stack = corpus, results, stack
        self.grounds = {"ext4": corpus.arena}  # a ground, or None if it can't be used
        if corpus.arena.journal:
            self.grounds[grounds.JOURNAL] = corpus.arena
        self.places = {}  # by key(): a place, or None if it can't be used
        self.expected = {}  # workload: what the first contender found

    def measure(self, workload, state, kind):
        """One run of a workload in one state on one contender, into the results."""
        if state == COLD and not kind.has_cold or \
                state == WRITE and workload.on_mount and not kind.writable:
            return
        try:
            place = self.place(kind, workload)
            sample = self.sample(workload, state, place)
        except (BenchError, OSError) as error:
            self.results.fail(workload, state, kind.name, str(error))
            say(f"FAILED: {kind.name}, {workload.name} {state}: {error}")
            self.start_over(kind, workload)
        else:
            self.results.add(workload, state, workload.files(place.dataset), kind.name, sample)

    def sample(self, workload, state, place):
        if state == COLD:
            place.unmount()
            drop_caches()
            workload.run(Nothing(self.corpus, workload.data))
            place.mount()
        else:
            workload.warm_up(place)
            if state == WARM:
                workload.warm_up(place)
            if state == WRITE:
                place.settle()
        sample = self.run(workload, place, state)
        if state == WRITE:
            start = time.perf_counter()
            place.settle()
            sample.settling_seconds = time.perf_counter() - start
        return sample

    def run(self, workload, place, state):
        """The run itself, and what was seen around it."""
        if not workload.on_mount:
            return Sample(workload.run(place).seconds)
        # The first reading of the counters may cost more than the second: it finds their file. The third
        # shows what one reading costs.
        readings = [place.requests() for _ in range(3)]
        cost, evicted = place.daemon(), refaults()
        if state != WARM:
            have_memory(workload.memory_bytes)
        outcome = workload.run(place)
        cost_after, count_after = place.daemon(), place.requests()
        self.check(workload, place, outcome.result)
        sample = Sample(outcome.seconds, refaults=refaults() - evicted, resident=place.resident(),
                        reader_memory=outcome.memory)
        if count_after is not None:
            # Counter's minus drops what is not above zero.
            sample.requests = dict(count_after - readings[2] - (readings[2] - readings[1]))
        if cost_after is not None:
            sample.cpu_seconds = cost_after["cpu_seconds"] - cost["cpu_seconds"]
            sample.memory_bytes = cost_after["memory_bytes"]
        return sample

    def check(self, workload, place, result):
        name, expected = self.expected.setdefault(workload, (place.name, result))
        if result != expected:
            raise BenchError(f"a wrong answer: '{result}', but '{expected}' on {name}")

    def ground(self, name):
        if name not in self.grounds:
            say(f"making an image of {name}")
            ground = grounds.Ground(self.corpus.arena, name, grounds.image_bytes(name, self.corpus.quick))
            self.grounds[name] = None  # until it is ready
            self.stack.callback(remove, ground)
            ground.prepare()
            if not ground.direct:
                self.results.remarks.append(f"WARNING: no direct I/O below the image of {name}: its pages are cached "
                                            "a second time, as those of the image.")
            self.grounds[name] = ground
        if self.grounds[name] is None:
            raise BenchError(f"the image of {name} could not be made (see above)")
        return self.grounds[name]

    @staticmethod
    def key(kind, workload):
        return kind, workload.data, workload.ground, workload.options

    def place(self, kind, workload):
        data, key = workload.data, self.key(kind, workload)
        if key not in self.places:
            ground = self.ground(workload.ground)
            say(f"preparing {kind.name}: {data}" + (f" on {workload.ground}" if ground != self.corpus.arena else ""))
            place = kind(ground, self.corpus.get(data), workload.options)
            self.places[key] = None  # until it is ready
            self.stack.callback(remove, place)
            place.prepare()
            self.places[key] = place
            if data == "tree" and place.stored():
                os.sync()
                size = command("du", "-s", "-B1", place.stored()).split()[0]
                self.results.disk[kind.name] = int(size)
        if self.places[key] is None:
            raise BenchError(f"{kind.name} could not be set up for this (see above)")
        return self.places[key]

    def start_over(self, kind, workload):
        """After a failure: what is broken must not spoil the runs that follow."""
        key = self.key(kind, workload)
        place = self.places.get(key)
        if place is None:
            return
        with contextlib.suppress(BenchError):
            place.unmount()
        try:
            place.mount()
        except BenchError as error:
            say(f"{kind.name} cannot be mounted again: {error}")
            self.places[key] = None


def remove(thing):
    """Clean up a place or the arena. What goes wrong must not keep the rest from being cleaned up."""
    try:
        thing.remove()
    except (BenchError, OSError) as error:
        say(f"cleaning up: {error}")


class Nothing:
    """A place with next to nothing in it: running on it brings the program into memory."""

    def __init__(self, corpus, data):
        self.dataset = corpus.nothing(data)
        self.root = self.dataset.source


def have_memory(size):
    """The host of a virtual machine takes back memory that nobody uses: the first to use it again would pay for that,
    up to ten times as much as for writing into it."""
    mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_POPULATE).close()


def drop_caches():
    os.sync()
    with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as file:
        file.write("3")


def refaults():
    """Pages of files that were evicted and read again since the machine started."""
    with open("/proc/vmstat", encoding="ascii") as file:
        return sum(int(line.split()[1]) for line in file if line.startswith("workingset_refault_file "))


def say(line):
    print(f"bench: {line}", file=sys.stderr, flush=True)
