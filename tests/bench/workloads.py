# SPDX-License-Identifier: BSD-2-Clause
"""What is done with a contender, and how long that takes.

A workload's run() works on one contender and says how long it took and what came out, which must be
the same for all. To add one, write a class or an instance of a class and put it into WORKLOADS.
"""

import dataclasses
import itertools
import os
import pathlib
import shutil
import subprocess
import sys
import time

from corpus import LARGE_NAME, BenchError, command

RUN_SECONDS = 900  # a run that takes longer hangs
# In five percent of the files, once each: reading counts here, not printing.
PATTERN = "~riscv"
PUBLISH_BYTES = 1024

WARM, COLD, WRITE = "warm", "cold", "write"


@dataclasses.dataclass
class Outcome:
    seconds: float
    result: str  # equal for all contenders, or one of them is wrong


class Workload:
    name = ""  # for --only
    title = ""  # for the table
    data = "tree"  # the data set: tree, large or scratch
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
    touches = 6_000 if quick else 100_000
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
        Command("large-read", "large file, `dd bs=128K`",
                lambda root: ["dd", f"if={root}/{LARGE_NAME}", "of=/dev/null", "bs=128K"], data="large",
                result=lambda out, err: err.splitlines()[-1].partition(" (")[0]),
        Loop("large-touch", f"large file, mmap, {touches} random pages", "c",
             lambda place: ("touch", place.root / LARGE_NAME, touches), data="large"),
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
    ]


def first_names(dataset, count):
    path = dataset.names.with_name(f"{dataset.names.name}.{count}")
    if not path.exists():
        with open(dataset.names, encoding="utf-8") as names:
            path.write_text("".join(itertools.islice(names, count)), encoding="utf-8")
    return path


# Set by build_probes().
PROBES = {}


def build_probes(arena):
    here = pathlib.Path(__file__).parent
    compiled = arena.dir / "probe"
    command(os.environ.get("CC", "cc"), "-O2", "-Wall", "-Wextra", "-o", compiled, here / "probe.c")
    PROBES["c"] = [str(compiled)]
    PROBES["python"] = [sys.executable, str(here / "probe.py")]


def measured(probe, *arguments):
    argv = [*PROBES[probe], *map(str, arguments)]
    done = run(argv)
    if done.returncode != 0:
        raise BenchError(f"{arguments[0]}: {done.stderr.strip()[-300:]}")
    nanoseconds, result = done.stdout.split()
    return Outcome(int(nanoseconds) / 1e9, result)


def run(argv, **how):
    environment = dict(os.environ, LC_ALL="C", PYTHONDONTWRITEBYTECODE="1")
    how.setdefault("stdin", subprocess.DEVNULL)
    try:
        return subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace",
                              env=environment, timeout=RUN_SECONDS, **how)
    except subprocess.TimeoutExpired:
        raise BenchError(f"no end after {RUN_SECONDS} s: {' '.join(argv)}") from None
