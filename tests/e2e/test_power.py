# SPDX-License-Identifier: BSD-2-Clause
"""
The power fails, at any moment. All that the daemon does to the files of the store and of the staging area is recorded
(tests/power/record.c); the disk is built as it may be after some of that (power_disk.py), opened (tests/power/look.c),
and held against what the clients did (prefix_model.py): a prefix of it, and nothing missing that was made durable.

LMDBFS_TEST_SEED repeats the choices of a run, but not the timing of its threads. So LMDBFS_TEST_KEEP names a directory
where states that fail are left, each as it was before it was opened.
"""

import copy
import os
import random
import re
import tempfile
import time
import unittest

import xxhash

import harness
import power_disk
from harness import LMDBFS, SEED, mounted, run, scaled
from look import Entry, looker
from mixed_load import Load
from power_disk import Disk, difference, read_log
from prefix_model import MODES, Directory, File, History, View, check, stream

RECORDER = os.path.join(os.path.dirname(LMDBFS), "tests", "librecord.so")
KEEP = os.environ.get("LMDBFS_TEST_KEEP")

# In the others the kernel writes files by itself, past the recorder.
RECORDED = ("default", "sync")
CALLS = 90  # of each client, in each recording
STATES = 60  # of each recording

# How often the power fails behind an entry of the log, compared with others: most are bytes of the same transaction.
WEIGHTS = {power_disk.WRITE: 1}
OTHER_WEIGHT = 4


def preload():
    """The recorder; behind the library of a sanitizer, which has to come first and hands calls on."""
    libraries = re.findall(r"=> (\S*/lib[at]san\.\S+)", run("ldd", LMDBFS).stdout)
    return " ".join([*libraries, RECORDER])


class Recording:
    """What a daemon and its clients did from a mount to its unmount."""

    def __init__(self, case, name, mode, clients=1, warm=False):
        """`warm`: the clients have been at work before, so that LMDB uses pages again."""
        self.name = name
        self.mode = mode
        self.warm = warm
        self.store = case.path(f"store {name}")
        log = case.path(f"log {name}")
        self.loads = [Load(f"c{number}", name) for number in range(clients)]
        os.mkdir(self.store)
        harness.write_file(log, b"")
        if warm:
            self.work()
            for load in self.loads:
                load.restart()
        self.before = Disk(self.store)
        self.ready = self.work({"LD_PRELOAD": preload(), "POWER_ROOT": self.store, "POWER_LOG": log})
        self.entries = read_log(log)
        self.histories = [load.history for load in self.loads]
        os.unlink(log)

    def work(self, environment=None):
        """One mount. Returns when it was ready."""
        with mounted(self.store, *self.mode.options, environment=environment) as mount:
            ready = time.monotonic_ns()
            children = [harness.Child(load.run, mount.path, CALLS) for load in self.loads]
            self.loads = [child.result() for child in children]
        errors = [load.ended_by for load in self.loads if load.ended_by is not None]
        if errors:
            raise AssertionError(f"clients have ended too soon: {errors}")
        return ready

    def disk(self, deaf=()):
        """The disk as it was before the mount."""
        disk = copy.deepcopy(self.before)
        disk.deaf = deaf
        return disk

    def choose_points(self, count, maker):
        """Numbers of entries, in order."""
        weights = [WEIGHTS.get(entry.kind, OTHER_WEIGHT) for entry in self.entries]
        return sorted(set(maker.choices(range(len(self.entries)), weights, k=count)))

    def end(self, point):
        """The last moment when no more than the entries up to this one had been noted."""
        return self.entries[min(point + 1, len(self.entries) - 1)].time - 1


class PowerCase(harness.Case):
    """Has a place in memory where states are built, and counts them."""

    def setUp(self):
        super().setUp()
        self.memory = self.path("memory")
        os.mkdir(self.memory)
        run("mount", "-t", "tmpfs", "-o", "size=1g", "states", self.memory)
        self.addCleanup(run, "umount", self.memory)
        self.looker = self.enterContext(looker(self.memory))
        self.states = self.losing = self.shorter = 0

    def record(self, name, mode="default", **options):
        """A recording that has missed nothing: the files built from it are the real ones."""
        recording = Recording(self, name, MODES[mode], **options)
        disk = recording.disk()
        for number, entry in enumerate(recording.entries):
            disk.apply(number, entry)
        disk.build_last(self.path("memory", "last"))
        self.assertEqual(difference(self.path("memory", "last"), recording.store), "", "the recorder missed something")
        return recording

    def replay(self, recording, count, deaf=()):
        """Yields, for about `count` points in the log, its number and the disk there."""
        maker = random.Random(f"points {recording.name}")
        points = set(recording.choose_points(count, maker))
        disk = recording.disk(deaf)
        for number, entry in enumerate(recording.entries):
            disk.apply(number, entry)
            if number in points:
                yield number, disk

    def judge(self, recording, point, disk, when=None, variant=0):
        """Build a state, open it and hold it against the clients' histories at the end of that point, or `when`."""
        state = os.path.join(self.memory, "state")
        disk.build(state, random.Random(f"{recording.name} {point} {variant}"))
        self.states += 1
        self.losing += disk.unsynced() > 0
        found = self.looker.look(state)
        counts = check(recording.histories, found, when or recording.end(point), recording.mode)
        self.shorter += any(max(fitting) < history.bounds(recording.end(point), recording.mode)[1]
                            for fitting, history in zip(counts, recording.histories))

    def assert_sound(self, recording, count):
        """All of so many states are what they may be."""
        for point, disk in self.replay(recording, count):
            if recording.end(point) < recording.ready and not recording.warm:
                continue  # see FirstStart
            try:
                self.judge(recording, point, disk)
            except AssertionError as error:
                self.keep(recording, point, disk)
                self.fail(f"recording {recording.name!r}, after entry {point} of {len(recording.entries)}: {error}")

    def keep(self, recording, point, disk):
        if KEEP:
            disk.build(os.path.join(KEEP, f"{recording.name} {point}"), random.Random(f"{recording.name} {point} 0"))


class PowerCut(PowerCase):
    def run_mode(self, name):
        rounds = scaled(6, least=2)
        for number in range(rounds):
            recording = self.record(f"{name} {SEED} {number}", name, clients=(1, 3)[number % 2], warm=number % 4 > 1)
            self.assert_sound(recording, STATES)
        print(f"seed {SEED}: {self.states} states of {rounds} recordings, {self.losing} with something unsynced, "
              f"{self.shorter} with fewer calls than had begun", flush=True)
        self.assertGreater(self.states, rounds * STATES * 0.7)
        self.assertGreater(self.losing, self.states // 2)
        self.assertGreater(self.shorter, self.states // 50)

    def test_default_mode(self):
        self.run_mode("default")

    def test_sync_mode(self):
        self.run_mode("sync")


class FirstStart(PowerCase):
    def test_the_store_is_made(self):
        """Before the first mount is ready nothing was promised: the store is empty then, or refused."""
        refused = 0
        recording = self.record(f"first {SEED}")
        disk = recording.disk()
        for point, entry in enumerate(recording.entries):
            disk.apply(point, entry)
            if recording.end(point) >= recording.ready:
                break
            for variant in range(scaled(10, least=5)):
                try:
                    self.judge(recording, point, disk, variant=variant)
                except AssertionError as error:
                    self.assertRegex(str(error), "^refused: .* is not an LMDB file")
                    refused += 1
        print(f"seed {SEED}: {self.states} states, {refused} refused", flush=True)
        self.assertLess(refused, self.states // 2)


class Faults(PowerCase):
    """What a store may do wrong, done by the disk: the simulator must see it."""

    def setUp(self):
        super().setUp()
        # That a damaged tree ends a look is what is counted here, and not for a sanitizer to tell.
        os.environ["ASAN_OPTIONS"] += ":handle_segv=0:handle_sigbus=0"
        self.looker = self.enterContext(looker(self.directory))

    def count_failures(self, recording, deaf=(), late=False):
        """Of the states of a recording: how many are judged to be wrong, and how many there are."""
        failures = states = 0
        last = recording.end(len(recording.entries) - 1)
        for point, disk in self.replay(recording, STATES, deaf):
            if recording.ready <= recording.end(point) < last:
                states += 1
                try:
                    self.judge(recording, point, disk, when=last if late else None)
                except AssertionError:
                    failures += 1
        return failures, states

    def test_syncs_that_do_nothing(self):
        recording = self.record(f"faults {SEED}", "sync", clients=2)
        for fault in Disk.FAULTS:
            with self.subTest(fault):
                failures, states = self.count_failures(recording, (fault,))
                print(f"{fault}: {failures} of {states} states", end="; ", flush=True)
                self.assertGreater(failures, 0)
        self.assertEqual(self.count_failures(recording)[0], 0)

    def test_changes_that_come_late(self):
        """States that were right at their own time, and lack what was made durable afterwards."""
        for mode in RECORDED:
            failures, states = self.count_failures(self.record(f"late {mode} {SEED}", mode), late=True)
            print(f"{mode}: {failures} of {states} states", end="; ", flush=True)
            self.assertGreater(failures, states // 2)


class Model(unittest.TestCase):
    """The judge itself, on histories that are made by hand."""

    def setUp(self):
        self.directory = self.enterContext(tempfile.TemporaryDirectory())
        self.history = History("c0")
        self.file = File("a file")
        self.call("mkdir", {"/c0": View("d", Directory(), 0o755)}, publishes=True)
        self.call("create", {"/c0/new": View("f", self.file, 0o644)})
        self.file.size = 10_000
        self.file.closed.append((time.monotonic_ns(), 10_000))
        self.call("rename", {"/c0/file": View("f", self.file, 0o644, final=10_000)}, without=("/c0/new",),
                  publishes=True)
        self.call("mkdir", {"/c0/d": View("d", Directory(), 0o755)}, publishes=True)

    def call(self, word, names=None, without=(), sync=False, publishes=False, history=None):
        history = history or self.history
        tree = {path: view for path, view in {**history.tree, **(names or {})}.items() if path not in without}
        history.perform((word,), lambda: None, tree if names else None, sync=sync, publishes=publishes)

    def found(self, number, content=None, sealed=True, history=None):
        """The tree after so many calls, with these bytes in files."""
        content = stream(self.file.key, self.file.size) if content is None else content
        found = {}
        for record, (path, view) in enumerate((history or self.history).views[number].items()):
            harness.write_file(os.path.join(self.directory, str(record)), content)
            found[path] = Entry(view.kind, record, view.mode, 1, len(content), 0, sealed and view.kind == "f",
                                xxhash.xxh3_128_hexdigest(content), self.directory)
        return found

    def check(self, found, mode="default", histories=None):
        return check(histories or [self.history], found, time.monotonic_ns(), MODES[mode])

    def assert_wrong(self, text, found, **options):
        with self.assertRaisesRegex(AssertionError, text):
            self.check(found, **options)

    def test_any_prefix(self):
        for number in range(5):
            self.assertEqual(self.check(self.found(number)), [[number]])

    def test_what_returned_in_sync_mode(self):
        self.assertEqual(self.check(self.found(4), "sync"), [[4]])
        self.assert_wrong("durable is lost", self.found(3), mode="sync")

    def test_what_published_nothing_in_sync_mode(self):
        """It may be lost, but nothing that was published before it."""
        self.call("create", {"/c0/other": View("f", File("another file"), 0o644)})
        self.assertEqual(self.check(self.found(4), "sync"), [[4]])
        made = self.found(5, b"", sealed=False)["/c0/other"]
        self.assertEqual(self.check({**self.found(4), "/c0/other": made}, "sync"), [[5]])
        self.assert_wrong("durable is lost", self.found(3), mode="sync")

    def test_what_was_synced(self):
        self.call("fsync", sync=True)
        self.call("mkdir", {"/c0/e": View("d", Directory(), 0o755)})
        self.assertEqual(self.check(self.found(5)), [[5]])
        self.assertEqual(self.check(self.found(6)), [[6]])
        self.assert_wrong("durable is lost", self.found(3))

    def test_no_prefix(self):
        found = self.found(4)
        del found["/c0/file"]
        self.assert_wrong("no prefix", found)
        self.assert_wrong("nobody made", {**self.found(4), "/x": found["/c0/d"]})
        self.assert_wrong("no prefix", {**self.found(4), "/c0/x": found["/c0/d"]})

    def test_not_begun(self):
        with self.assertRaisesRegex(AssertionError, "no prefix"):
            check([self.history], self.found(4), self.history.calls[3].begin - 1, MODES["default"])

    def test_published_bytes(self):
        true = stream(self.file.key, 10_000)
        for content in (true[:-1], true + b"x", bytes(10_000), true[:4096] + bytes(4096) + true[8192:]):
            for sealed in (False, True):
                self.assert_wrong("published", self.found(3, content, sealed))

    def test_unpublished_bytes(self):
        true = stream(self.file.key, 10_000)
        for content in (b"", true[:5_000], true[:4096] + bytes(4096) + true[8192:]):
            self.assertEqual(self.check(self.found(2, content, sealed=False)), [[2]])
            if content:
                self.assert_wrong("sealed with bytes of no close", self.found(2, content))
        self.assert_wrong("nobody wrote", self.found(2, b"x" * 10, sealed=False))
        self.file.bounds.append((time.monotonic_ns(), "synced", 5_000))
        self.assertEqual(self.check(self.found(2, true[:5_000], sealed=False)), [[2]])
        self.assert_wrong("are durable", self.found(2, true[:4_999], sealed=False))

    def test_across_clients(self):
        other = History("c1")
        self.call("mkdir", {"/c1": View("d", Directory(), 0o755)}, history=other)
        both = [self.history, other]
        self.assertEqual(self.check({**self.found(4), **self.found(1, history=other)}, histories=both), [[4], [1]])
        self.assertEqual(self.check(self.found(2), histories=both), [[2], [0]])
        self.assert_wrong("not together", {**self.found(3), **self.found(1, history=other)}, histories=both)


if __name__ == "__main__":
    harness.main()
