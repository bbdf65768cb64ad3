# SPDX-License-Identifier: BSD-2-Clause
"""
What clients of a mount did, and which trees may be there after a crash.

A client notes each of its calls in a History, with the times when it began and returned. After a crash the tree
must be what the first k calls of the client make of it, for some k: a prefix. k is at least what was made durable
before the crash (a publish that had returned, or the last sync, by mode), and at most what had begun. Across clients: a
call that is there and began after another one had returned is not there without that one.

The bytes of a file are not part of that order until it is published: by a rename or link of a closed file, as part of a
tree that leaves staging, or by a close, once the client has seen the write bits go. Before that they are at least what
was fsync'ed or was there when the file was moved, and nothing that was not written; if the file is sealed, they are
what they were at a close.
"""

import functools
import hashlib
import itertools
import math
import time
from typing import NamedTuple

import xxhash

STAGING = "/.lmdbfs/staging"


class Mode(NamedTuple):
    """How a store is mounted, and what is durable then."""

    options: tuple
    each_publish: bool  # each change of the published tree that has returned; else only what returned before a sync began


MODES = {
    "default": Mode((), False),
    "sync": Mode(("sync",), True),
    "large": Mode(("records=large",), False),
}


def stream(key, size):
    """The first bytes of a file. They depend on its key alone, and each file has one of its own."""
    return hashlib.shake_128(key.encode()).digest(size)


@functools.lru_cache(maxsize=10_000)
def digest(key, size):
    return xxhash.xxh3_128_hexdigest(stream(key, size))


class File:
    """What a client wrote to a file. It only ever appends the next bytes of the stream, and truncates."""

    def __init__(self, key):
        self.key = key
        self.size = 0
        self.bounds = []  # (from when on, "synced" or "cut", size)
        self.closed = [(0, 0)]  # (when a close began, size): what a seal may find; nobody protects an empty one

    def floor(self, when):
        """How many bytes are durable at least."""
        size = 0
        for start, kind, value in self.bounds:
            if start <= when:
                size = value if kind == "synced" else min(size, value)
        return size

    def is_at(self, found, size):
        return found.size == size and found.hash == digest(self.key, size)

    def complaint(self, found, when, moved):
        """What is wrong with the bytes of this file, which is not published; None: nothing."""
        if found.sealed:
            sizes = [size for start, size in self.closed if start <= when]
            return None if any(self.is_at(found, size) for size in sizes) else "sealed with bytes of no close"
        content = found.read()
        true = stream(self.key, len(content))
        size, before = moved
        cuts = [value for start, kind, value in self.bounds[before:] if kind == "cut" and start <= when]
        floor = max(self.floor(when), min([size, *cuts]))
        if len(content) < floor or content[:floor] != true[:floor]:
            return f"{len(content)} bytes, not the {floor} that are durable"
        return None if is_torn(content, true) else "bytes that nobody wrote there"


def is_torn(content, true):
    """Whether each byte is the true one or has never reached the disk."""
    for start in range(0, len(content), 4096):
        piece, wanted = content[start:start + 4096], true[start:start + 4096]
        if piece != wanted and any(a not in (0, b) for a, b in zip(piece, wanted)):
            return False
    return True


class Link(NamedTuple):
    """A symbolic link."""

    target: bytes


class Directory:
    pass


class View(NamedTuple):
    """A name at some moment."""

    kind: str  # d, f or l, as in the answers of look
    node: object  # File, Link or Directory; names with the same one are links
    mode: int
    moved: tuple = (0, 0)  # a file that is being written: bytes that go with the name, and its bounds before
    final: int = None  # a published file: its size
    mtime: int = None  # if the client has set it since it wrote


def with_attributes(tree, node, **attributes):
    """The tree with other attributes of a file."""
    return {path: view._replace(**attributes) if view.node is node else view for path, view in tree.items()}


def moved(tree, old, new):
    """The tree after rename(old, new)."""
    result = {}
    for path, view in tree.items():
        if path == old or path.startswith(old + "/"):
            result[new + path[len(old):]] = view
        elif path != new:
            result.setdefault(path, view)
    return result


class Call(NamedTuple):
    words: tuple
    begin: int
    end: float  # infinite: it has not returned
    sync: bool  # makes durable all that came before
    publishes: bool  # changes the published tree: not what only an unfinished file or the staging area has of it


class History:
    """The calls of one client, and the tree of its names after each of them."""

    def __init__(self, name, start=None):
        self.name = name
        self.calls = []
        self.views = [dict(start or {})]  # views[k]: path to View after k calls

    @property
    def tree(self):
        return self.views[-1]

    def perform(self, words, function, change=None, sync=False, publishes=False):
        """
        Call `function` and note it. `change` is the tree that it leads to. What it raises passes through: the call may
        have happened, unless the caller withdraws it.
        """
        begin = time.monotonic_ns()
        self.calls.append(Call(words, begin, math.inf, sync, publishes))
        self.views.append(self.tree if change is None else change)
        result = function()
        self.calls[-1] = self.calls[-1]._replace(end=time.monotonic_ns())
        return result

    def withdraw(self):
        """The last call was refused."""
        self.calls.pop()
        self.views.pop()

    def mine(self, path):
        """Whether a name is of this client: it or its first directory has the client's name in front."""
        parts = path.removeprefix(STAGING).split("/")
        return len(parts) > 1 and parts[1].lstrip(".").startswith(self.name)

    def bounds(self, when, mode):
        """The least and the greatest number of calls that may be there."""
        least = most = 0
        for number, call in enumerate(self.calls):
            if call.begin <= when:
                most = number + 1
            if call.end <= when and (call.sync or mode.each_publish and call.publishes):
                least = number + 1
        return least, most

    def complaint(self, number, found, when):
        """Why `found`, by path, can't be the tree after that many calls; None: it can."""
        view = self.views[number]
        if view.keys() != found.keys():
            return f"missing {sorted(view.keys() - found.keys())}, too many {sorted(found.keys() - view.keys())}"
        links = {}
        for path, wanted in view.items():
            wrong = compare(wanted, found[path], when)
            if wrong is not None:
                return f"{path}: {wrong}"
            links.setdefault(id(wanted.node), []).append(path)
        for paths in links.values():
            if any(found[path].id != found[paths[0]].id or found[path].links != len(paths) for path in paths):
                return f"not names of one file: {paths}"
        return None

    def prefixes(self, found, when, mode):
        """All k that the tree fits; with none, an AssertionError says why."""
        least, most = self.bounds(when, mode)
        fitting, complaints = [], []
        for number in range(most, least - 1, -1):
            wrong = self.complaint(number, found, when)
            if wrong is None:
                fitting.append(number)
            complaints.append(f"after {number}, {self.calls[number - 1].words if number else 'nothing'}: {wrong}")
        if fitting:
            return fitting
        for number in range(least):
            if self.complaint(number, found, when) is None:
                call = self.calls[number]
                raise AssertionError(f"{self.name}: what was durable is lost: as after {number} calls, not {least}; "
                                     f"missing from {call.words} on")
        head = f"{self.name}: no prefix of its calls ({least} to {most}), most likely:"
        raise AssertionError("\n  ".join((head, *sorted(complaints, key=lambda line: ("missing [" in line, len(line)))[:3])))


def compare(wanted, found, when):
    """Why a name that was found is not what is wanted; None: it is."""
    if wanted.kind != found.kind:
        return f"a {found.kind}, not a {wanted.kind}"
    if wanted.kind == "l":
        same = found.hash == xxhash.xxh3_128_hexdigest(wanted.node.target)
        return None if same else "another target"
    if wanted.mode != found.mode:
        return f"mode {found.mode:o}, not {wanted.mode:o}"
    if wanted.kind == "d":
        return None
    if wanted.final is None:
        return wanted.node.complaint(found, when, wanted.moved)
    if not wanted.node.is_at(found, wanted.final):
        return f"published, but not the {wanted.final} bytes that were written ({found.size})"
    if wanted.mtime not in (None, found.mtime):
        return f"time {found.mtime}, not {wanted.mtime}"
    return None


def agree(histories, counts):
    """Whether the clients' prefixes can be of one order of all calls."""
    for one, here in zip(histories, counts):
        for other, there in zip(histories, counts):
            if one is other or here == len(one.calls) or there == 0:
                continue
            if one.calls[here].end < other.calls[there - 1].begin:
                return False
    return True


def check(histories, found, when, mode):
    """The tree `found`, path to what was found there, must be one that a crash at that moment may leave."""
    strange = [path for path in found if not any(history.mine(path) for history in histories)]
    if strange:
        raise AssertionError(f"names that nobody made: {strange[:8]}")
    fitting = []
    for history in histories:
        own = {path: entry for path, entry in found.items() if history.mine(path)}
        fitting.append(history.prefixes(own, when, mode))
    if not any(agree(histories, counts) for counts in itertools.product(*fitting)):
        names = [history.name for history in histories]
        around = [[str(call) for call in history.calls[max(counts[0] - 1, 0) : counts[-1] + 2]]
                  for history, counts in zip(histories, fitting)]
        raise AssertionError(f"each is a prefix, but not together: {names} are at {fitting}: {around}")
    return fitting
