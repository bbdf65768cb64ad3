# SPDX-License-Identifier: BSD-2-Clause
"""What is in a store that nobody has put in order since a crash: what tests/power/look.c answers."""

import contextlib
import os
import subprocess
from typing import NamedTuple

from harness import LMDBFS, read_file

LOOK = os.path.join(os.path.dirname(LMDBFS), "tests", "look")


class Entry(NamedTuple):
    """A name. The fields are those of look's answer."""

    kind: str
    id: int
    mode: int
    links: int
    size: int
    mtime: int
    sealed: bool
    hash: str
    contents: str  # the directory where the bytes of files are that were not sealed

    def read(self):
        return read_file(os.path.join(self.contents, str(self.id)))


class Looker:
    """A running look."""

    def __init__(self, directory):
        self.contents = os.path.join(directory, "contents")
        os.mkdir(self.contents)
        self.process = subprocess.Popen([LOOK], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                        errors="surrogateescape")

    def close(self):
        self.process.communicate()

    def look(self, store):
        """
        Open and recover the store. Returns what was found in it before recovery, by path. It is an AssertionError if it
        is not sound, or if recovery changes anything but that files are sealed and what has no name is removed.
        """
        print(store, self.contents, sep="\t", file=self.process.stdin, flush=True)
        found, kept, faults, left = {}, {}, [], None
        for line in self.process.stdout:
            word, *values = line.rstrip("\n").split("\0")
            if word == "end":
                break
            if word in ("found", "kept"):
                path, kind, *numbers = values
                number, mode, links, size, mtime, sealed, digest = numbers
                tree = found if word == "found" else kept
                tree[path] = Entry(kind, int(number), int(mode, 8), int(links), int(size), int(mtime),
                                   sealed == "1", digest, self.contents)
            elif word == "left":
                left = values
            else:
                faults.append(": ".join((word, *values)))
        if values != ["0", "0"]:
            faults.append(f"ended with exit status {values[0]}, signal {values[1]}")
        if not faults:
            faults = recovery_faults(found, kept, left)
        if faults:
            raise AssertionError("; ".join(faults[:8]))
        return found


def recovery_faults(found, kept, left):
    """What recovery did that it should not."""
    if found.keys() != kept.keys():
        return [f"recovery changes names: {sorted(found.keys() ^ kept.keys())}"]
    faults = [f"recovery changes {path}: {before} to {kept[path]}" for path, before in found.items()
              if before._replace(sealed=kept[path].sealed) != kept[path]]
    unsealed = {entry.id for entry in kept.values() if entry.kind == "f" and not entry.sealed}
    if left[0] != "0" or int(left[1]) > len(unsealed):
        faults.append(f"{left[0]} orphans and {left[1]} host files of {len(unsealed)} unsealed files are left")
    open_still = [path for path, entry in kept.items()
                  if entry.kind == "f" and not entry.sealed and entry.size > 0 and not path.startswith("/.lmdbfs")]
    return faults + [f"not sealed by the recovery: {path}" for path in open_still]


@contextlib.contextmanager
def looker(directory):
    looking = Looker(directory)
    try:
        yield looking
    finally:
        looking.close()
