# SPDX-License-Identifier: BSD-2-Clause
"""A client of a mount that notes what it does in a History (prefix_model.py)."""

import os
import random
import time

from harness import RENAME_EXCHANGE, is_sealed, rename_with
from prefix_model import STAGING, Directory, File, History, Link, View, moved, stream, with_attributes


def is_outside(*paths):
    """Whether one of them is outside the staging directory: a name that changes there is published, or no more."""
    return not all(path.startswith(STAGING) for path in paths)


class Client:
    def __init__(self, name, seed):
        self.maker = random.Random(f"{name} {seed}")
        self.history = History(name)
        self.name = name
        self.home = f"/{name}"  # its directory; paths are those in the mount
        self.root = None  # where that is mounted
        self.count = 0  # of the names and files it has made
        self.opened = []  # (File, descriptor): still being written

    def restart(self):
        """From here on with an empty history: what was done is durable, because the mount was unmounted."""
        tree = self.history.tree
        for view in tree.values():
            if view.kind == "f":
                view.node.bounds = [(0, "synced", view.node.size)]
        self.history = History(self.name, tree)

    @property
    def tree(self):
        return self.history.tree

    def host(self, path):
        return self.root + path

    def fresh(self, directory, word):
        self.count += 1
        # In the root and in staging the client's name comes first: see History.mine().
        return f"{directory}/{'.' if directory == '' else ''}{self.name}-{word}{self.count}"

    def paths(self, kind, below=None):
        return [path for path, view in self.tree.items()
                if view.kind == kind and path.startswith((below or self.home) + "/")]

    def is_open(self, path):
        return any(file is self.tree[path].node for file, _ in self.opened)

    def is_finished(self, path):
        """Whether a file is sealed. Attributes of others are not published yet; an empty file is never surely sealed."""
        return is_sealed(self.host(path))

    def published(self, tree, path, was_staged=False):
        """The tree after what is now at `path` has been published. Of files that are being written, what they have."""
        below = [view.node for name, view in tree.items() if was_staged and name.startswith(path + "/")]
        for node in [tree[path].node, *below]:
            if isinstance(node, File):
                being_written = any(file is node for file, _ in self.opened)
                tree = with_attributes(tree, node, **({"moved": (node.size, len(node.bounds))} if being_written else {"final": node.size}))
        return tree

    # ---------------------------------------------------------------------------------------------- calls --

    def create(self, path, mode=0o644):
        self.count += 1
        file = File(f"{self.name} {self.count}")
        descriptor = self.history.perform(
            ("create", path), lambda: os.open(self.host(path), os.O_CREAT | os.O_EXCL | os.O_RDWR, mode),
            {**self.tree, path: View("f", file, mode)})
        self.opened.append((file, descriptor))
        return file, descriptor

    def write(self, file, descriptor, size):
        """Append up to that size, in a few pieces."""
        content = stream(file.key, size)[file.size:]
        file.size = size
        step = self.maker.choice((1 << 20, 65_536, 4_096, 1_000)) if size < 1 << 20 else 1 << 20
        while content:
            content = content[os.write(descriptor, content[:step]):]

    def cut(self, file, size):
        """About to be truncated: what was known of its end no longer holds, from now on."""
        self.history.perform(("truncate", file.key), lambda: None, with_attributes(self.tree, file, mtime=None))
        file.size = size
        file.bounds.append((time.monotonic_ns(), "cut", size))

    def fsync(self, file, descriptor):
        self.history.perform(("fsync", file.key), lambda: os.fsync(descriptor), sync=True)
        file.bounds.append((time.monotonic_ns(), "synced", file.size))

    def close(self, file, descriptor):
        file.closed.append((time.monotonic_ns(), file.size))
        self.opened.remove((file, descriptor))
        os.close(descriptor)

    def chmod(self, path):
        mode = self.maker.choice((0o600, 0o640, 0o644, 0o755))
        change = with_attributes(self.tree, self.tree[path].node, mode=mode)
        self.history.perform(("chmod", path, oct(mode)), lambda: os.chmod(self.host(path), mode), change,
                             publishes=self.is_finished(path))

    def utime(self, path):
        when = self.maker.randrange(10**18)
        change = with_attributes(self.tree, self.tree[path].node, mtime=when)
        self.history.perform(("utime", path), lambda: os.utime(self.host(path), ns=(when, when)), change,
                             publishes=self.is_finished(path))

    def rename(self, old, new):
        change = moved(self.tree, old, new)
        if not new.startswith(STAGING):
            change = self.published(change, new, old.startswith(STAGING))
        self.history.perform(("rename", old, new), lambda: os.rename(self.host(old), self.host(new)), change,
                             publishes=is_outside(old, new))

    def exchange(self, one, other):
        change = moved(moved(moved(self.tree, one, "\0"), other, one), "\0", other)
        for old, new in ((one, other), (other, one)):
            if not new.startswith(STAGING):
                change = self.published(change, new, old.startswith(STAGING))
        self.history.perform(("exchange", one, other),
                             lambda: rename_with(RENAME_EXCHANGE, self.host(one), self.host(other)), change,
                             publishes=is_outside(one, other))

    def link(self, old, new):
        change = self.published({**self.tree, new: self.tree[old]}, new)
        self.history.perform(("link", old, new), lambda: os.link(self.host(old), self.host(new)), change,
                             publishes=is_outside(new))

    def remove(self, path):
        change = {other: view for other, view in self.tree.items() if other != path}
        call = os.rmdir if self.tree[path].kind == "d" else os.unlink
        self.history.perform((call.__name__, path), lambda: call(self.host(path)), change,
                             publishes=is_outside(path))

    def mkdir(self, path):
        self.history.perform(("mkdir", path), lambda: os.mkdir(self.host(path), 0o755),
                             {**self.tree, path: View("d", Directory(), 0o755)}, publishes=is_outside(path))

    def symlink(self, path):
        link = Link(b"to " + bytes(self.maker.choices(b"abc", k=self.maker.choice((5, 100, 3_000)))))
        self.history.perform(("symlink", path), lambda: os.symlink(link.target, os.fsencode(self.host(path))),
                             {**self.tree, path: View("l", link, 0o777)}, publishes=is_outside(path))

    def sync_path(self, path):
        descriptor = os.open(self.host(path), os.O_RDONLY)
        try:
            self.history.perform(("fsync", path), lambda: os.fsync(descriptor), sync=True)
        finally:
            os.close(descriptor)

    def see_sealed(self, path):
        """Look whether a file has been sealed since it was closed: then this has its place in the order."""
        if is_sealed(self.host(path)):
            change = with_attributes(self.tree, self.tree[path].node, final=self.tree[path].node.size)
            self.history.perform(("sealed", path), lambda: None, change)

    def sync_all(self):
        descriptor = os.open(self.host(self.home), os.O_RDONLY)
        try:
            # Not syncfs(2): the kernel doesn't tell a FUSE filesystem's daemon of it.
            self.history.perform(("fsync",), lambda: os.fsync(descriptor), sync=True)
        finally:
            os.close(descriptor)
