# SPDX-License-Identifier: BSD-2-Clause
"""The programs that workloads run: our own loops, and everybody's tools."""

import os
import pathlib
import subprocess
import sys

from corpus import BenchError, command
from workload import Outcome

RUN_SECONDS = 900  # a run that takes longer hangs


# Set by build_probes().
PROBES = {}


def build_probes(arena, with_redis):
    here = pathlib.Path(__file__).parent
    PROBES["python"] = [sys.executable, str(here / "probe.py")]
    for name, source, libraries in (
            ("c", "probe.c", ()), ("update", "update.c", ()), ("redis", "redis.c", ("-lhiredis",))):
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
