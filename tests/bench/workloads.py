# SPDX-License-Identifier: BSD-2-Clause
"""What is done with a contender, and how long that takes.

A workload's run() works on one contender and says how long it took and what came out, which must be
the same for all. To add one, write a class or an instance of a class and put it into WORKLOADS.
"""

import dataclasses
import itertools
import os
import pathlib
import select
import shutil
import subprocess
import sys
import time

import observe
from corpus import LARGE_BYTES, LARGE_NAME, VALUES, BenchError, command, large_bytes

RUN_SECONDS = 900  # a run that takes longer hangs
# In five percent of the files, once each: reading counts here, not printing.
PATTERN = "~riscv"
PUBLISH_BYTES = 1024
TOUCHES_PER_GIB = 100_000
# As often, that a run takes some tenths of a second.
VALUE_PASSES = {"1k": 3, "64k": 5}
VALUE_READERS = (1, 4)

WARM, COLD, WRITE = "warm", "cold", "write"


@dataclasses.dataclass
class Outcome:
    seconds: float
    result: str  # equal for all contenders, or one of them is wrong
    memory: dict = None  # what a reader costs, in bytes: private, pss, and the values it has at hand


class Workload:
    name = ""  # for --only
    title = ""  # for the table
    groups = ()  # other names for --only
    data = "tree"  # the data set
    ground = "ext4"  # what the contenders' bytes lie on; another one has rivals of its own
    table = "files"  # where its figures are shown
    with_redis = False
    states = (WARM, COLD)
    tools = ()
    on_mount = True  # False: it works beside the mount

    def files(self, dataset):
        """How many files a run handles, for "requests per file"."""
        return dataset.files

    def run(self, place):
        raise NotImplementedError

    def warm_up(self, place):
        """The untimed pass before a run that is not cold."""
        self.run(place)


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

    def __init__(self, reading, size, ground):
        self.reading, self.ground = reading, ground
        self.name = f"{reading.name}-{size}-{ground}"
        self.groups = ("large", reading.name, f"large-{size}", f"large-{ground}")
        self.title, self.data, self.run = reading.title, f"large-{size}", reading.run
        self.tools = reading.tools


def large_workloads(quick):
    for ground in ("ext4", "xfs", "btrfs"):
        for size in LARGE_BYTES:
            mebibytes = large_bytes(size, quick) >> 20
            touches = mebibytes * TOUCHES_PER_GIB >> 10
            for reading in (
                    Command("large-read", f"{mebibytes} MiB, `dd bs=128K`",
                            lambda root: ["dd", f"if={root}/{LARGE_NAME}", "of=/dev/null", "bs=128K"],
                            result=lambda out, err: err.splitlines()[-1].partition(" (")[0]),
                    Loop("large-scan", f"{mebibytes} MiB, mmap, in order", "c",
                         lambda place: ("scan", place.root / LARGE_NAME)),
                    Loop("large-touch", f"{mebibytes} MiB, mmap, {touches} random pages", "c",
                         lambda place, touches=touches: ("touch", place.root / LARGE_NAME, touches))):
                yield Large(reading, size, ground)


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


class Writer(Workload):
    """A loop that makes new files in a new directory."""

    data, states = "scratch", (WRITE,)
    numbers = itertools.count()

    def __init__(self, name, title, probe, count, arguments):
        self.name, self.title, self.probe, self.count, self.arguments = name, title, probe, count, arguments

    def files(self, dataset):
        return min(self.count, dataset.files)

    def run(self, place):
        return self.write(place, self.files(place.dataset))

    def warm_up(self, place):
        # After a cold run, the filesystem must find its free blocks again.
        self.write(place, self.files(place.dataset) // 10)

    def write(self, place, count):
        target = place.root / f"{self.name}-{next(self.numbers)}"
        target.mkdir()
        return measured(self.probe, *self.arguments(place, target, count))


class Ingest(Workload):
    """A whole tree in: `lmdbfs import` against cp -r and the image makers."""

    data, states, on_mount = "scratch", (WRITE,), False

    def __init__(self, name, title, durable):
        self.name, self.title, self.durable = name, title, durable

    def run(self, place):
        source, product = place.dataset.source, place.ingest_ground() / "ingested"
        argv = [str(word) for word in place.ingest(source, product)]
        start = time.perf_counter()
        try:
            command(*argv, timeout=RUN_SECONDS)
            if self.durable:
                command("sync", "-f", product)
            seconds = time.perf_counter() - start
        finally:
            shutil.rmtree(product) if product.is_dir() else product.unlink(missing_ok=True)
        return Outcome(seconds, "")

    def warm_up(self, place):
        measured("c", "read", place.dataset.source, place.dataset.names)


def workloads(quick):
    """All of them, in the order of the table."""
    publishes = 200 if quick else 2_000
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
        Writer("publish", "publish 1 KB: create + write + fchmod + close + rename", "c", publishes,
               lambda place, target, count: ("publish", target, count, PUBLISH_BYTES, "none")),
        Writer("publish-fsync", "the same, fsync before each close", "c", publishes,
               lambda place, target, count: ("publish", target, count, PUBLISH_BYTES, "file")),
        Writer("publish-syncfs", "the same, one syncfs at the end", "c", publishes,
               lambda place, target, count: ("publish", target, count, PUBLISH_BYTES, "end")),
        Writer("portage-write", "as Portage writes: mkstemp + write + stat + chmod + rename", "python",
               publishes, lambda place, target, count: (
                   "portage-write", target, place.dataset.source, first_names(place.dataset, count))),
        Ingest("import", "import the tree (against `cp -r`)", durable=False),
        Ingest("import-sync", "the same, and sync", durable=True),
        *large_workloads(quick),
        *(Values(how, size, processes)
          for size in VALUES for how in ("read", "map") for processes in VALUE_READERS),
        Readers(),
    ]


def first_names(dataset, count):
    path = dataset.names.with_name(f"{dataset.names.name}.{count}")
    if not path.exists():
        with open(dataset.names, encoding="utf-8") as names:
            path.write_text("".join(itertools.islice(names, count)), encoding="utf-8")
    return path


# Set by build_probes().
PROBES = {}


def build_probes(arena, with_redis):
    here = pathlib.Path(__file__).parent
    PROBES["python"] = [sys.executable, str(here / "probe.py")]
    for name, source, libraries in (("c", "probe.c", ()), ("redis", "redis.c", ("-lhiredis",))):
        if name == "redis" and not with_redis:
            continue
        compiled = arena.dir / f"probe-{name}"
        try:
            command(os.environ.get("CC", "cc"), "-O2", "-Wall", "-Wextra", "-o", compiled,
                    here / source, here / "support.c", *libraries)
        except BenchError as error:
            if name == "redis":
                raise BenchError(f"{error} (mount-helpers/install-deps bench brings hiredis)") from None
            raise
        PROBES[name] = [str(compiled)]


def ask(probe, *arguments):
    """What a probe prints."""
    done = run([*PROBES[probe], *map(str, arguments)])
    if done.returncode != 0:
        raise BenchError(f"{arguments[0]}: {done.stderr.strip()[-300:]}")
    return done.stdout


def measured(probe, *arguments):
    nanoseconds, result = ask(probe, *arguments).split()
    return Outcome(int(nanoseconds) / 1e9, result)


def run(argv, **how):
    environment = dict(os.environ, LC_ALL="C", PYTHONDONTWRITEBYTECODE="1")
    how.setdefault("stdin", subprocess.DEVNULL)
    try:
        return subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace",
                              env=environment, timeout=RUN_SECONDS, **how)
    except subprocess.TimeoutExpired:
        raise BenchError(f"no end after {RUN_SECONDS} s: {' '.join(argv)}") from None
