# SPDX-License-Identifier: BSD-2-Clause
"""What the benchmark's commands have in common: how they end, and what they say meanwhile."""

import contextlib
import signal
import sys
import time

from corpus import BenchError

PROGRESS_SECONDS = 10  # between lines of progress that nobody watches


def start(name, main):
    """Runs main() and ends the process with what it returns, or with one line about what went wrong."""
    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGHUP, _stop)
    try:
        sys.exit(main())
    except BenchError as error:
        sys.exit(f"tests/bench/{name}: {error}")
    except KeyboardInterrupt:
        sys.exit(f"tests/bench/{name}: interrupted")


def _stop(number, _frame):
    sys.exit(128 + number)


@contextlib.contextmanager
def cleaning():
    """An ExitStack for what must be gone in the end. A second ^C must not leave mounts behind: it is ignored then."""
    with contextlib.ExitStack() as stack:
        try:
            yield stack
        finally:
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)


class Progress:
    """A line that replaces itself on a terminal, and comes now and then elsewhere."""

    def __init__(self, name):
        self.name = name
        self.start = self.said = time.monotonic()

    def __call__(self, text):
        now = time.monotonic()
        text = f"{self.name}: {text}, {now - self.start:.0f} s"
        if sys.stderr.isatty():
            print(f"\r\033[K{text}", end="\r", file=sys.stderr, flush=True)
        elif now - self.said >= PROGRESS_SECONDS:
            self.said = now
            print(text, file=sys.stderr, flush=True)
