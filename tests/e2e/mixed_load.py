# SPDX-License-Identifier: BSD-2-Clause
"""A client that does, at random, all that changes a mount."""

import errno
import math
import os

from client import Client
from harness import GONE, RENAME_NOREPLACE, rename_with
from prefix_model import STAGING, File, View

# What a call on the mount may end with when its daemon is killed. The last when a ring is there to take it, but the
# memory of the dying process is not.
DEATH = (*GONE, errno.EIO, errno.EINTR)

# Bytes of a file, and how often: inline, one page, extents, published in the background.
SIZES = {0: 2, 100: 6, 1_900: 6, 5_000: 6, 100_000: 3, 3 << 20: 0.4}

KEYS = 10
MOST_OPEN = 3


class Load(Client):
    ended_by = None  # an error

    def run(self, root, calls=math.inf):
        """Make about so many calls on the mount. Returns this load, with its history, also when the daemon dies."""
        self.root = root
        try:
            self.forever(calls)
        except OSError as error:
            if error.errno not in DEATH:
                raise
            self.ended_by = error
        self.opened = []
        return self

    def forever(self, calls):
        if self.home not in self.history.tree:
            self.mkdir(self.home)
            self.sync_path("/")
        while len(self.history.calls) < calls:
            action = self.maker.choices(list(ACTIONS), list(ACTIONS.values()))[0]
            action(self)
        for file, descriptor in list(self.opened):
            self.close(file, descriptor)

    def size(self):
        return self.maker.choices(list(SIZES), list(SIZES.values()))[0]

    def key(self):
        """A name to publish: in the client's directory or in one below it, whether it is there or not."""
        directory = self.maker.choice([self.home, *self.paths("d")])
        return f"{directory}/k{self.maker.randrange(KEYS)}"

    def key_for_file(self):
        path = self.key()
        while path in self.tree and (self.tree[path].kind == "d" or self.is_open(path)):
            path = self.key()
        return path

    def some_file(self):
        """A published file or one that is on its way to be; None if there is none."""
        files = [path for path in self.paths("f") if not self.is_open(path)]
        return self.maker.choice(files) if files else None

    def chance(self, share):
        return self.maker.random() < share

    def fill(self, path):
        """A new file, written and closed."""
        file, descriptor = self.create(path, self.maker.choice((0o600, 0o644)))
        self.write(file, descriptor, self.size())
        if self.chance(0.15):
            self.fsync(file, descriptor)
        if self.chance(0.3):
            self.chmod(path)
        self.close(file, descriptor)
        if self.chance(0.3):
            self.utime(path)
        return file

    def publish(self):
        path = self.key_for_file()
        place = self.maker.choice((os.path.dirname(path), "", STAGING))
        temporary = self.fresh(place, "tmp")
        self.fill(temporary)
        if path in self.tree and self.tree[path].kind == "l":
            self.remove(path)
        self.rename(temporary, path)

    def write_in_place(self):
        path = self.key_for_file()
        if path in self.tree:
            self.remove(path)
        self.fill(path)

    def open_and_leave(self):
        if len(self.opened) >= MOST_OPEN:
            return
        path = self.key_for_file()
        if path not in self.tree:
            file, descriptor = self.create(path)
            self.write(file, descriptor, self.maker.choice((100, 5_000)))

    def go_on_writing(self):
        if not self.opened:
            return
        file, descriptor = self.maker.choice(self.opened)
        what = self.maker.choice(("append", "append", "cut", "fsync", "close"))
        if what == "append":
            self.write(file, descriptor, file.size + self.maker.choice((10, 4_000, 9_000)))
        elif what == "cut":
            self.cut(file, file.size // 2)
            os.ftruncate(descriptor, file.size)
            os.lseek(descriptor, 0, os.SEEK_END)
        elif what == "fsync":
            self.fsync(file, descriptor)
        else:
            self.close(file, descriptor)

    def hold_in_staging(self):
        """A file that stays in staging for a while, truncated and written again, before it is moved out."""
        held = [path for path in self.paths("f", STAGING) if "-held" in path]
        if not held:
            self.fill(self.fresh(STAGING, "held"))
            return
        path = self.maker.choice(held)
        file = self.tree[path].node
        if self.chance(0.4):
            self.rename(path, self.fresh(self.home, "held"))
            return
        descriptor = os.open(self.host(path), os.O_RDWR)
        self.opened.append((file, descriptor))
        self.cut(file, self.maker.choice((0, file.size // 2)))
        os.truncate(self.host(path), file.size)
        os.lseek(descriptor, 0, os.SEEK_END)
        self.write(file, descriptor, file.size + self.maker.choice((50, 3_000, 20_000)))
        if self.chance(0.3):
            self.fsync(file, descriptor)
        self.close(file, descriptor)

    def publish_tree(self):
        """Built in staging; if there is one of its name already, the two are exchanged and the old one is removed."""
        staged = self.fresh(STAGING, "tree")
        self.mkdir(staged)
        for number in range(self.maker.randrange(1, 4)):
            self.fill(f"{staged}/f{number}")
        if self.chance(0.2) and len(self.opened) < MOST_OPEN:
            self.write(*self.create(f"{staged}/open"), 5_000)
        self.mkdir(f"{staged}/sub")
        self.fill(f"{staged}/sub/f")
        place = f"{self.home}/t{self.maker.randrange(2)}"
        if place not in self.tree:
            self.rename(staged, place)
            return
        self.exchange(staged, place)
        for path in sorted((path for path in self.tree if path.startswith(staged + "/")), reverse=True):
            self.remove(path)
        self.remove(staged)

    def nameless(self):
        """O_TMPFILE, written and linked."""
        self.count += 1
        file = File(f"{self.name} {self.count}")
        descriptor = os.open(self.host(self.home), os.O_TMPFILE | os.O_RDWR, 0o644)
        self.opened.append((file, descriptor))
        self.write(file, descriptor, self.maker.choice((100, 5_000)))
        if self.chance(0.5):
            self.fsync(file, descriptor)
        path = self.fresh(self.home, "nameless")
        # Only with a directory descriptor does Python call linkat(), which can follow the link in /proc.
        self.history.perform(("link", file.key, path),
                             lambda: os.link(f"/proc/self/fd/{descriptor}", self.host(path), src_dir_fd=descriptor),
                             {**self.tree, path: View("f", file, 0o644, moved=(file.size, len(file.bounds)))}, publishes=True)
        self.close(file, descriptor)

    def touch(self):
        path = self.some_file()
        if path is not None:
            self.maker.choice((self.chmod, self.utime, self.see_sealed))(path)

    def link_one(self):
        path = self.some_file()
        if path is not None:
            self.link(path, self.fresh(self.home, "link"))

    def move_one(self):
        path = self.some_file()
        if path is not None:
            self.rename(path, self.fresh(self.maker.choice([self.home, *self.paths("d")]), "moved"))

    def remove_one(self):
        paths = self.paths("f") + self.paths("l")
        if paths:
            self.remove(self.maker.choice(paths))

    def exchange_two(self):
        paths = [path for path in self.paths(self.maker.choice("fd")) if not self.is_open(path)]
        if len(paths) > 1:
            one, other = self.maker.sample(paths, 2)
            apart = not one.startswith(other + "/") and not other.startswith(one + "/")
            if apart and self.tree[one].node is not self.tree[other].node:
                self.exchange(one, other)

    def refuse(self):
        """A call that fails changes nothing."""
        paths = self.paths("f")
        if len(paths) > 1:
            old, new = self.maker.sample(paths, 2)
            try:
                rename_with(RENAME_NOREPLACE, self.host(old), self.host(new))
            except FileExistsError:
                return
            raise AssertionError(f"RENAME_NOREPLACE replaced {new}")

    def move_open(self):
        """What has been written of it goes with its name, and more may come."""
        paths = [path for path in self.paths("f") if self.is_open(path)]
        if paths:
            self.rename(self.maker.choice(paths), self.fresh(self.home, "open"))

    def make_directory(self):
        if len(self.paths("d")) < 8:
            self.mkdir(self.fresh(self.maker.choice([self.home, *self.paths("d")]), "d"))

    def move_directory(self):
        directories = [path for path in self.paths("d") if not path.startswith(f"{self.home}/t")]
        if directories:
            self.rename(self.maker.choice(directories), self.fresh(self.home, "d"))

    def remove_directory(self):
        empty = [path for path in self.paths("d") if not any(other.startswith(path + "/") for other in self.tree)]
        if empty:
            self.remove(self.maker.choice(empty))

    def make_symlink(self):
        self.symlink(self.fresh(self.home, "symlink"))

    def sync(self):
        which = self.maker.choice(("file", "directory", "filesystem"))
        path = self.some_file() if which == "file" else self.maker.choice([self.home, *self.paths("d")])
        if which == "filesystem" or path is None:
            self.sync_all()
        else:
            self.sync_path(path)


ACTIONS = {
    Load.publish: 8,
    Load.write_in_place: 4,
    Load.open_and_leave: 2,
    Load.go_on_writing: 4,
    Load.hold_in_staging: 2,
    Load.publish_tree: 1.5,
    Load.nameless: 1,
    Load.touch: 4,
    Load.link_one: 2,
    Load.move_one: 2,
    Load.remove_one: 3,
    Load.move_open: 1,
    Load.exchange_two: 2,
    Load.refuse: 1,
    Load.make_directory: 2,
    Load.move_directory: 1,
    Load.remove_directory: 1,
    Load.make_symlink: 1,
    Load.sync: 2,
}
