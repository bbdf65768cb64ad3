# SPDX-License-Identifier: BSD-2-Clause
"""The benchmarks work: each table is there, wrong use is one line, and they leave nothing behind, however they end."""

import contextlib
import os
import re
import signal
import subprocess

import harness
from harness import LMDBFS, REPOSITORY, mounted_types, run

BENCH = os.path.join(REPOSITORY, "tests", "bench")
# Workloads that write, and how many of them have a figure to reach.
UPDATES, GOALS = 15, 9


def cells(output):
    """The table's lines as lists of cells, of all tables."""
    return [[cell.strip() for cell in line.strip("|").split("|")]
            for line in output.splitlines() if line.startswith("|")]


class Bench(harness.Case):
    def setUp(self):
        super().setUp()
        self.place = self.path("place")
        os.mkdir(self.place)

    def bench(self, program, *arguments, **options):
        return run(os.path.join(BENCH, program), "--binary", LMDBFS, "--dir", self.place, *arguments, **options)

    def assert_nothing_left(self):
        self.assertEqual(os.listdir(self.place), [])
        self.assertEqual([point for point in mounted_types() if point.startswith(self.place)], [])
        self.assertNotIn(self.place, run("losetup", "-a").stdout)

    # ------------------------------------------------------------------------------------------------- run --

    def test_tables(self):
        done = self.bench("run", "--quick", "--only", "find,large-64m", "--against", "ext4,erofs")
        self.assertNotIn("FAILED", done.stdout)
        table = cells(done.stdout)
        for state in ("warm", "cold"):
            rows = [row for row in table if row[:2] == ["`find -size`", state]]
            self.assertEqual(len(rows), 1, done.stdout)
            # lmdbfs, ext4, their ratio, requests, erofs: all of them measured.
            for cell in rows[0][2:]:
                self.assertRegex(cell, r"^(\*\*)?\d")
        for ground in ("ext4", "xfs", "btrfs"):
            for state in ("warm", "cold"):
                rows = [row for row in table if row[1:3] == [state, ground]]
                self.assertEqual(len(rows), 3, done.stdout)
                for row in rows:
                    for cell in row[3:9]:  # lmdbfs, the file, their ratio, CPU, page cache, requests
                        self.assertRegex(cell, r"^(\*\*)?\d")
                    self.assertRegex(row[9], r"^\d" if ground == "ext4" else "^–$")
        self.assert_nothing_left()

    def test_updates(self):
        done = self.bench("run", "--quick", "--only", "updates")
        self.assertNotIn("FAILED", done.stdout)
        table = cells(done.stdout)
        head = table.index(["writing", "lmdbfs, ms", "ext4, ms", "**figure**", "to reach", "requests per file",
                            "at rest after, ms"])
        rows = {row[0]: row[1:] for row in table[head + 2:] if len(row) == 7}
        self.assertEqual(len(rows), UPDATES, done.stdout)
        for title, (ours, theirs, figure, goal, requests, rest) in rows.items():
            with self.subTest(title):
                self.assertRegex(ours, r"^\d")
                self.assertRegex(theirs, "^–$" if "staged tree" in title else r"^\d")
                unit = re.fullmatch(r"\*\*[\d.]+ (.*)\*\*", figure)[1]
                self.assertTrue(goal == "–" or goal.endswith(unit), goal)
                self.assertRegex(requests, "^–$" if "import" in title else r"^\d")
                self.assertRegex(rest, r"^\d")
        self.assertEqual(sum(row[3] != "–" for row in rows.values()), GOALS)
        self.assert_nothing_left()

    def test_a_contender_that_fails_is_told(self):
        done = self.bench("run", "--quick", "--only", "large-touch-64m-xfs", "--options", "no-such-option", check=False)
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertRegex(done.stdout, r"(?m)^FAILED: lmdbfs, large-touch-64m-xfs cold.*no-such-option")
        for row in cells(done.stdout)[2:]:
            self.assertEqual(row[3], "failed")
            self.assertRegex(row[4], r"^\d")  # the rival was measured all the same
        self.assert_nothing_left()

    def test_an_unknown_workload_is_refused(self):
        done = self.bench("run", "--only", "large-touch-1t", check=False)
        self.assertEqual((done.returncode, done.stdout), (2, ""))
        self.assertIn("'large-touch-1t' is none of", done.stderr)

    def test_interrupted(self):
        # The image and a mount of lmdbfs on it are there when the rival's files are copied.
        for number in (signal.SIGINT, signal.SIGTERM):
            with self.subTest(number.name), self.running_until("preparing btrfs: ") as process:
                self.assertIn(self.place, run("losetup", "-a").stdout)
                process.send_signal(number)
                process.communicate(timeout=harness.COMMAND_LIMIT)
                self.assertNotEqual(process.returncode, 0)
                self.assert_nothing_left()

    @contextlib.contextmanager
    def running_until(self, words):
        """A run that has just said these words."""
        argv = [os.path.join(BENCH, "run"), "--binary", LMDBFS, "--dir", self.place, "--quick", "--only",
                "large-touch-1g-btrfs"]
        process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                                   # A background job would ignore it.
                                   preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler))
        try:
            self.assertTrue(any(words in line for line in process.stderr), "the run has ended")
            yield process
        finally:
            if process.poll() is None:
                process.terminate()
                process.communicate()

    # ---------------------------------------------------------------------------------------------- memory --

    def test_memory(self):
        # Sanitizers and malloc's debugging take memory: what is within bounds is not the question here.
        done = self.bench("memory", "--held", "2000", "--stored", "4000", "--fixed", "4096")
        rows = cells(done.stdout)[2:]
        self.assertGreaterEqual(len(rows), 7, done.stdout)  # before, five parts, after
        held = [int(row[0].replace(",", "")) for row in rows]
        self.assertGreaterEqual(held[-2], 2000)
        self.assertLess(held[-1], 100)
        for row in rows:
            private, data, own, anonymous, bound = map(float, row[1:])
            self.assertAlmostEqual(private, data + own, delta=0.2)
            self.assertGreater(anonymous, 0)
            self.assertGreaterEqual(bound, 4096)
        self.assertRegex(done.stdout, r"(?m)^For each inode held: ")
        self.assert_nothing_left()

    def test_memory_above_the_bound(self):
        done = self.bench("memory", "--held", "500", "--stored", "1000", "--fixed", "0", check=False)
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertRegex(done.stdout, r"(?m)^ABOVE THE BOUND with \d+ held: ")
        self.assert_nothing_left()

    # ----------------------------------------------------------------------------------------------- churn --

    def test_churn(self):
        # How well it does is not the question here.
        done = self.bench("churn", "--quick", "--bound", "1000", "--growth", "1000")
        head, _, *rows = cells(done.stdout)
        self.assertEqual([row[0] for row in rows], ["filled", *(str(30 * part) for part in range(1, 11)), "at rest"])
        for row in rows:
            live, data, ratio = (float(cell.strip("*")) for cell in row[1:4])
            self.assertAlmostEqual(ratio, data / live, delta=0.02)
            self.assertGreater(ratio, 1)  # all of it was taken in
            self.assertAlmostEqual(live, 128, delta=16)
        for row in rows[1:-1]:
            self.assertEqual(len(row), len(head))
            for cell in row[4:]:
                self.assertRegex(cell, r"^\d")
        self.assertEqual(float(rows[-1][5]), 0)  # nothing is left in staging
        self.assertRegex(done.stdout, r"(?m)^At the end a publish of at most 64 KB takes \d")
        self.assertRegex(done.stdout, r"(?m)^At rest data\.mdb has \d")
        self.assert_nothing_left()

    def test_churn_above_the_bound(self):
        done = self.bench("churn", "--live", "4", "--largest", "256", "--replaces", "20", "--bound", "0.5", "--growth",
                          "1000", check=False)
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertRegex(done.stdout, r"(?m)^ABOVE THE BOUND of 0\.5 ×")
        self.assert_nothing_left()


if __name__ == "__main__":
    harness.main()
