# SPDX-License-Identifier: BSD-2-Clause
"""The workloads that write."""

import dataclasses
import itertools
import shutil
import time

from corpus import LARGE_NAME, command, large_bytes, prefixes
from grounds import JOURNAL
from probes import RUN_SECONDS, measured
from workload import WRITE, Outcome, Workload

PUBLISH_BYTES = 1024
# One writer fills one directory after the other; of several writers, each has as many of its own.
DIRECTORIES = 16
WRITERS = 16
# What a copy of the archive takes of the page cache, with its inodes and names.
TREE_MEMORY_BYTES = 32 << 20
# What waits for each commit before a change returns: the rivals' fsync of each file.
SYNC_OPTION = "sync"
# How somebody mounts a store who keeps such files in it.
LARGE_OPTION = "records=large"
# When the loop in update.c makes durable what it writes.
NEVER, EACH, END = "none", "file", "end"

# What a figure says: lmdbfs's time or its speed, where that of the rival is 1; or its time alone.
TIMES, SPEED, MILLISECONDS = "× its time", "× its speed", "ms"


@dataclasses.dataclass(frozen=True)
class Goal:
    """The figure that lmdbfs wants to reach."""

    unit: str
    figure: str  # for people to judge: a round more or less may move the measured one across it

    def __str__(self):
        return f"{self.figure} {self.unit}"


class Update(Workload):
    """Its contenders begin with nothing in them, and are left at rest after each run."""

    ground = JOURNAL
    data, states, table = "scratch", (WRITE,), "updates"
    unit, goal = TIMES, None
    groups = ("updates",)

    def aim(self, goal):
        """The same, with a goal."""
        self.unit, self.goal = goal.unit, goal
        return self


class Writer(Update):
    """A loop that makes new files in a new directory; subclasses say by which."""

    numbers = itertools.count()

    def __init__(self, name, title, files, *, groups=()):
        self.name, self.title, self.count, self.groups = name, title, files, (*groups, "updates")

    def files(self, dataset):
        return self.count

    def run(self, place):
        return self.write(place, self.files(place.dataset))

    def warm_up(self, place):
        # After a cold run, the filesystem must find its free blocks again.
        self.write(place, max(self.files(place.dataset) // 10, 1))

    def write(self, place, count):
        target = place.root / f"{self.name}-{next(self.numbers)}"
        target.mkdir()
        return measured(*self.loop(place, target, count))

    def loop(self, place, target, count):
        """The probe and its arguments."""
        raise NotImplementedError


class Publish(Writer):
    """create + write + fchmod + close + rename, with lmdbfs and its rivals as durable as `ours` and `theirs` say."""

    def __init__(self, name, title, files, *, ours=NEVER, theirs=NEVER, writers=1, options="", groups=()):
        super().__init__(name, title, files, groups=groups)
        self.ours, self.theirs, self.writers, self.options = ours, theirs, writers, options

    def loop(self, place, target, count):
        when = self.ours if place.ours else self.theirs
        return "update", "publish", target, count, PUBLISH_BYTES, DIRECTORIES, self.writers, when


class Portage(Writer):
    """What Portage's flat_hash cache does for each file: by Python as it does, or the bare system calls from C."""

    def __init__(self, probe, title, files, writers):
        name = {"python": "portage-write", "update": "portage-calls"}[probe]
        super().__init__(f"{name}-{writers}", title, files, groups=(name,))
        self.probe, self.writers = probe, writers

    def files(self, dataset):
        return min(self.count, dataset.files)

    def loop(self, place, target, count):
        what = {"python": "portage-write", "update": "portage"}[self.probe]
        return self.probe, what, target, place.dataset.source, first_names(place.dataset, count), self.writers


class PublishLarge(Update):
    """cp of one large file, and a rename."""

    data = "scratch-large-1g"
    groups = ("publish-1g", "updates")
    options = LARGE_OPTION

    def __init__(self, name, title, size, durable):
        self.name, self.title, self.durable = name, title, durable
        self.memory_bytes = 3 * size  # of the mount, of what is staged, and of the record

    def run(self, place):
        source = place.dataset.source / LARGE_NAME
        temporary, target = place.root / f".{LARGE_NAME}", place.root / LARGE_NAME
        try:
            start = time.perf_counter()
            command("cp", source, temporary, timeout=RUN_SECONDS)
            temporary.rename(target)
            if self.durable:
                command("sync", target, timeout=RUN_SECONDS)
            seconds = time.perf_counter() - start
            size = target.stat().st_size
        finally:
            for path in (temporary, target):
                path.unlink(missing_ok=True)
        return Outcome(seconds, f"{size} bytes")

    def warm_up(self, place):
        measured("c", "read", place.dataset.source, place.dataset.names)


class RenameTree(Writer):
    """The rename that publishes a staged tree, by itself; a reader looks whether it is whole when it is there."""

    # A place of its own: so large a tree would change what others find.
    data, alone = "scratch-tree", True

    def warm_up(self, place):
        """A tree is made anyway, before the clock starts."""

    def write(self, place, count):
        name = f"{self.name}-{next(self.numbers)}"
        return measured("update", "tree", place.staging / name, place.root / name, count, PUBLISH_BYTES,
                        max(count // 1000, DIRECTORIES))


class Ingest(Update):
    """A whole tree in: `lmdbfs import` against cp -r and the image makers."""

    on_mount = False

    def __init__(self, name, title, *, durable=False, data="scratch", memory_bytes=1 << 30):
        self.name, self.title, self.durable, self.data, self.memory_bytes = name, title, durable, data, memory_bytes

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


def first_names(dataset, count):
    path = dataset.names.with_name(f"{dataset.names.name}.{count}")
    if not path.exists():
        with open(dataset.names, encoding="utf-8") as names:
            path.write_text("".join(itertools.islice(names, count)), encoding="utf-8")
    return path


def updates(quick):
    """All of them, in the order of the table. `quick`: a tenth or less of everything."""
    publishes = 200 if quick else 4_000
    durable = 500 if quick else 10_000
    together = 320 if quick else 8_000
    tree = 1_000 if quick else 100_000
    large = large_bytes("1g", quick)
    copies = prefixes("400k", quick)
    return [
        Publish("publish-1k", "publish 1 KB: create + write + fchmod + close + rename", publishes).aim(
            Goal(TIMES, "≤ 3.0, by io_uring ≤ 1.8")),
        Publish("publish-fsync", "the same, fsync before each close", publishes, ours=EACH, theirs=EACH),
        Portage("python", "as Portage writes, in Python: mkstemp + write + stat + chmod + rename", publishes, 1).aim(
            Goal(TIMES, "by io_uring ≤ 1.8")),
        Portage("python", "the same, 4 writers", publishes, 4).aim(Goal(TIMES, "by io_uring ≤ 2")),
        Portage("update", "the same system calls from C", publishes, 1),
        Portage("update", "the same from C, 4 writers", publishes, 4),
        Publish("durable-10k-fsync", f"publish {durable:,} files, then syncfs; the rival: fsync of each", durable,
                ours=END, theirs=EACH, groups=("durable-10k",)).aim(Goal(SPEED, "≥ 8")),
        Publish("durable-10k-syncfs", "the same; the rival: syncfs as well", durable,
                ours=END, theirs=END, groups=("durable-10k",)).aim(Goal(TIMES, "≤ 1.0")),
        Publish("sync-16", f"publish, {WRITERS} writers, `-o {SYNC_OPTION}`; the rival: fsync of each", together,
                theirs=EACH, writers=WRITERS, options=SYNC_OPTION).aim(Goal(SPEED, "≥ 2")),
        PublishLarge("publish-1g-cp", f"`cp` of {large >> 20} MiB + rename, `-o {LARGE_OPTION}`", large, durable=False).aim(
            Goal(SPEED, "≥ 0.7")),
        PublishLarge("publish-1g-sync", "the same, and fsync", large, durable=True),
        RenameTree("tree-rename", f"rename of a staged tree of {tree:,} files", tree).aim(Goal(MILLISECONDS, "≤ 10")),
        Ingest("import", "import the tree (against `cp -r`)"),
        Ingest("import-sync", "import the tree, and sync", durable=True),
        Ingest("import-400k", f"import the tree × {copies}", data="scratch-tree-400k",
               memory_bytes=copies * TREE_MEMORY_BYTES).aim(Goal(SPEED, "≥ 2")),
    ]
