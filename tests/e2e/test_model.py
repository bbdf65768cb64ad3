# SPDX-License-Identifier: BSD-2-Clause
"""
Random steps of several users' processes, done in a mount and in a directory of ext4: the same must come of each.

    model_agent.py         the process that does the steps
    model_sides.py         the mount
    model.py               has the steps done on both sides and compares
    model_differences.py   what shall be different, and why
    model_steps.py         makes them up

A run that fails prints its seed and a short list of steps that fails as well. To do the steps of such a list (or of
a file with one) again, up to where the sides differ:

    tests/e2e/test_model.py --replay 'LIST' [OPTION...]

with the options of the mount. LMDBFS_TEST_SEED=N starts from that seed.
"""

import functools
import json
import os
import random
import sys
import tempfile
import time

import harness
from model import Model, replay, shorten
from model_agent import Agent
from model_sides import Mismatch, Ours, Plain
from model_steps import Maker

SECONDS = 20  # of a run, without what it takes to shorten a failure
SHORTEN_SECONDS = 60
MOST_PRINTED = 150  # steps
DISK = 640  # MiB: on smaller ones ext4 has blocks of 1 KiB, which limit the length of a symbolic link


# What was found to be wrong once, as short as it was told.
FOUND = {
    "an empty file that is moved into staging stays writable there": [
        [3, "mknod", [None, "u3/a"], 0o100644], [3, "truncate", "u3/a", 0],
        [3, "mkdir", [None, ".lmdbfs/staging/d"], 0o755],
        [3, "open", 0, [None, ".lmdbfs/staging/d/b"], os.O_RDWR | os.O_CREAT, 0o644], [3, "close", 0],
        [3, "rename", [None, ".lmdbfs/staging/d"], [None, "u3/d"], 0],
        [3, "rename", [None, "u3/d/b"], [None, ".lmdbfs/staging/a"], 0],
        [3, "open", 0, [None, ".lmdbfs/staging/a"], os.O_RDWR, 0], [3, "write", 0, 1, 700], [3, "close", 0],
        [None, "commit"], [3, "open", 0, [None, ".lmdbfs/staging/a"], os.O_RDWR, 0], [3, "write", 0, 1, 700],
    ],
    "a directory that could not be moved out of staging stays writable": [
        [3, "mkdir", [None, "u3/full"], 0o755], [3, "mkdir", [None, "u3/full/x"], 0o755],
        [3, "mkdir", [None, ".lmdbfs/staging/b"], 0o755],
        [3, "open", 0, [None, ".lmdbfs/staging/b/a"], os.O_RDWR | os.O_CREAT, 0o644], [3, "write", 0, 1, 100],
        [3, "close", 0], [3, "rename", [None, ".lmdbfs/staging/b"], [None, "u3/full"], 0],
        [3, "open", 0, [None, ".lmdbfs/staging/b/a"], os.O_RDWR | os.O_APPEND, 0], [3, "write", 0, 1, 100],
    ],
    "a name that is too long, also in .lmdbfs": [[0, "stat", [None, ".lmdbfs/" + "n" * 256], True]],
    "fallocate takes the set-user-ID bit away": [
        [3, "open", 0, [None, "u3/a"], os.O_RDWR | os.O_CREAT, 0o4755], [3, "fallocate", 0, 1, 0, 100], [3, "fstat", 0],
    ],
    "a file truncated by path is published": [
        [2, "mknod", [None, "u2/a"], 0o100644], [2, "truncate", "u2/a", 0], [2, "truncate", "u2/a", 10],
        [2, "stat", [None, "u2/a"], True],
    ],
    "also if it was truncated by who opened it for reading": [
        [3, "mknod", [None, "u3/a"], 0o100666],
        [3, "open", 0, [None, "u3/a"], os.O_TRUNC, 0], [3, "truncate", "u3/a", 10],
        [3, "stat", [None, "u3/a"], True],
    ],
    "a file opened again, but not written again, is published when it is closed": [
        [3, "open", 0, [None, ".lmdbfs/staging/a"], os.O_RDWR | os.O_CREAT, 0o644], [3, "write", 0, 1, 100],
        [3, "close", 0], [None, "remount"], [3, "open", 0, [None, ".lmdbfs/staging/a"], os.O_RDWR, 0],
        [3, "rename", [None, ".lmdbfs/staging/a"], [None, "u3/a"], 0], [3, "close", 0],
    ],
}


class Random(harness.Case):
    def setUp(self):
        super().setUp()
        self.disk = self.enterContext(harness.small_disk(self.directory, DISK))
        self.pairs = 0

    def pair(self, options=("allow_other",), asked=False, kind=None):
        """A fresh store and a fresh directory."""
        self.pairs += 1
        twin = os.path.join(self.disk, str(self.pairs))
        os.mkdir(twin)
        store = self.path(f"store{self.pairs}")
        return Model(Ours(store, options, asked) if kind is None else Plain(store, kind), twin)

    def run_steps(self, make, seconds):
        """Random steps until they differ or the time is over. Returns the steps, why (or None), and the model."""
        seed = int(os.environ.get("LMDBFS_TEST_SEED") or random.randrange(1 << 30))
        model = make()
        maker = Maker(seed, model)
        steps = []
        end = time.monotonic() + seconds
        try:
            while time.monotonic() < end:
                steps.append(maker.next())
                model.step(steps[-1])
            steps.append([None, "remount"])
            model.step(steps[-1])
            why = None
        except Mismatch as error:
            why = str(error)
        finally:
            model.end(kill=True)
            model.ours.close()
        print(f"\n{self.id()}: seed {seed}, {len(steps)} steps", file=sys.stderr)
        return steps, why, model

    def shortest(self, make, steps):
        end = time.monotonic() + SHORTEN_SECONDS

        def fails(shorter):
            found = replay(make, shorter)
            return found[0] if found and (*shorter, [None, "compare"])[found[0]][1] == steps[-1][1] else None

        return shorten(steps, fails, lambda: time.monotonic() < end)

    def check_steps(self, make):
        steps, why, model = self.run_steps(make, max(5, SECONDS * harness.SCALE))
        if why is not None:
            print(why, file=sys.stderr)
            short = self.shortest(make, steps)
            again = replay(make, short)
            listed = "[" + ",\n ".join(json.dumps(step) for step in short) + "]"
            if len(short) > MOST_PRINTED:
                with tempfile.NamedTemporaryFile("w", prefix="model-", suffix=".json", delete=False) as file:
                    file.write(listed)
                listed = f"not so short: {len(short)} steps in {file.name}"
            self.fail(f"{why}\nafter {len(steps)} steps. In short:\n{listed}\n{again}")
        return model

    def test_against_ext4(self):
        model = self.check_steps(self.pair)
        if harness.SCALE >= 1:
            self.assertGreater(sum(model.counts.values()), 2000)
            self.assertGreater(len(model.seen), 3, "the differences that were met")

    def test_against_ext4_when_the_kernel_asks_to_open(self):
        self.check_steps(functools.partial(self.pair, ("allow_other", "records=large"), True))

    def test_what_was_found(self):
        for name, steps in FOUND.items():
            for options, asked in ((("allow_other",), False), (("allow_other", "records=large"), True)):
                with self.subTest(name, asked=asked):
                    self.assertIsNone(replay(functools.partial(self.pair, options, asked), steps))

    def test_a_lie_is_found(self):
        """This test itself: a filesystem that is wrong in one thing is found, and shown by few steps."""
        make = functools.partial(self.pair, kind=Liar)
        steps, why, _ = self.run_steps(make, 60)
        self.assertIsNotNone(why, "not found")
        short = self.shortest(make, steps)
        self.assertIsNotNone(replay(make, short))
        self.assertLessEqual(len(short), 12, short)
        self.assertIn("utime", [step[1] for step in short])

    def test_no_difference_is_invented(self):
        """Nor is anything found between two directories of ext4."""
        _, why, _ = self.run_steps(functools.partial(self.pair, kind=Agent), 3)
        self.assertIsNone(why)


class Liar(Agent):
    """Forgets the time of last modification that was set."""

    def do_utime(self, path, atime, mtime, follow):
        return super().do_utime(path, atime, mtime and "now", follow)


def replay_words(words):
    """For a person: what comes of each step."""
    text = harness.read_file(words[0]) if os.path.exists(words[0]) else words[0]
    options = ["allow_other", *words[1:]]
    with tempfile.TemporaryDirectory(dir=harness.disk_directory()) as directory:
        os.chmod(directory, 0o755)
        with harness.small_disk(directory, DISK) as disk:
            twin = os.path.join(disk, "twin")
            os.mkdir(twin)
            model = Model(Ours(os.path.join(directory, "store"), options, "records=large" in options), twin)
            try:
                for step in [*json.loads(text), [None, "compare"]]:
                    print(json.dumps(step))
                    model.step(step)
            except Mismatch as error:
                print(error)
            finally:
                model.end(kill=True)
                model.ours.close()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--replay"]:
        replay_words(sys.argv[2:])
    else:
        harness.main()
