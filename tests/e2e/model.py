# SPDX-License-Identifier: BSD-2-Clause
"""
The conductor of the model test (test_model.py): has each step done in a mount of lmdbfs and in a directory of ext4,
by twin processes (model_agent.py), and compares what comes of it. Steps are done one after the other, whoever does
them, so that there is one right outcome; what lmdbfs does by itself, publishing what was closed, is waited for.

It keeps account only of what ext4 knows nothing of: which files are published. model_differences.py says what follows.
"""

import errno
import os
import stat

import harness
import trees
from model_agent import Agent, Process, time_class
from model_differences import CONTROL, REFUSED, STAGING, STATS, out_of_question
from model_sides import Mismatch

# Who takes part: user and groups. Each has a directory, and there is one for all.
USERS = ((0, ()), (0, ()), (1000, (100,)), (harness.NOBODY, ()))
TOPS = [f"u{number}" for number in range(len(USERS))] + ["all"]

# After these a file that nobody writes any more may have come to be published, or be gone.
PUBLISHING = ("close", "unmap", "truncate", "rename", "link", "link_open", "unlink")

# Where the slot or the mapping is that an operation needs, or makes, among its arguments.
NEEDS_SLOT = {
    **dict.fromkeys(("close", "read", "read_on", "write", "pwrite", "seek", "ftruncate", "fallocate", "fsync",
                     "fdatasync", "syncfs", "fchmod", "fstat", "list_open", "link_open"), (0,)),
    "copy": (0, 1),
    "map": (1,),
}
NEEDS_MAPPING = ("unmap", "map_read", "map_store", "map_sync")
PATHS = {
    **dict.fromkeys(("cat", "truncate", "unlink", "readlink", "mkdir", "rmdir", "mknod", "chmod", "chown", "utime",
                     "stat", "statx", "access", "setxattr", "getxattr", "list"), (0,)),
    **dict.fromkeys(("open", "symlink", "link_open"), (1,)),
    **dict.fromkeys(("rename", "link"), (0, 1)),
}


class File:
    def __init__(self, held):
        self.held = held  # in staging, where files stay writable
        self.published = False
        self.stored = False  # through a mapping: when that counts as modified is the kernel's affair


class Open:
    """Of a slot or a mapping: which file, and what for."""

    def __init__(self, ino, write, place=None, directory=False, stores=False):
        self.ino = ino
        self.write = write
        self.stores = stores
        self.place = place  # where it was opened
        self.directory = directory


class Model:
    """`ours` is what mounts and unmounts (model_sides.Ours), `twin` the directory on ext4."""

    def __init__(self, ours, twin):
        self.ours = ours
        self.twin = twin
        self.sides = None
        self.open = {}  # (who, slot)
        self.mapped = {}  # (who, mapping)
        self.files = {}  # by the number of the inode on ext4
        self.seen = set()  # names of differences
        self.counts = {}
        self.prepare()
        self.start()

    def prepare(self):
        os.makedirs(self.twin + STAGING)
        harness.write_file(self.twin + STATS, b"")
        staging = os.stat(self.ours.path + STAGING).st_mode & 0o7777
        for root in (self.ours.path, self.twin):
            os.chmod(root, 0o755)
            os.chmod(root + STAGING, staging | 0o1777)
            for name, (user, _) in zip(TOPS, (*USERS, (0, ()))):
                os.mkdir(os.path.join(root, name))
                os.chown(os.path.join(root, name), user, user)
            os.chmod(os.path.join(root, "all"), 0o1777)
        os.chmod(self.twin + STATS, 0o444)
        os.chmod(self.twin + CONTROL, 0o555)

    def start(self):
        self.sides = [
            [Process(root, *user, kind) for user in USERS]
            for root, kind in ((self.ours.path, self.ours.kind), (self.twin, Agent))
        ]

    def end(self, kill=False):
        for process in self.sides[0] + self.sides[1]:
            process.kill() if kill else process.end()
        self.open.clear()
        self.mapped.clear()

    @property
    def asked(self):
        return self.ours.asked

    # ----------------------------------------------------------------------------------------- a step --

    def step(self, step):
        """Do it on both sides. A step that makes no sense as things are is left out."""
        who, operation, *arguments = step
        self.counts[operation] = self.counts.get(operation, 0) + 1
        if who is None:
            getattr(self, operation)()
            return
        if not self.makes_sense(who, operation, arguments):
            return
        self.look(who, operation, arguments)
        if out_of_question(self, step):
            return
        wanted = [difference for difference in REFUSED if difference.applies(self, step)]
        if wanted and not self.ours.differs:
            return
        ours, _ = self.sides[0][who].ask(operation, arguments)
        for difference in wanted:
            if ours[1] in [errno.errorcode[number] for number in difference.errors]:
                self.seen.add(difference.name)
                return
        theirs, about = self.sides[1][who].ask(operation, arguments, learn=True)
        theirs = self.without_reserved(who, operation, arguments, theirs)
        if self.without_time(who, operation, arguments, ours) != self.without_time(who, operation, arguments, theirs):
            raise Mismatch(f"lmdbfs: {ours}, ext4: {theirs}" + self.told(wanted))
        if ours[1] is None:
            if wanted and ours[0] != 0:  # 0 bytes were copied: nothing was changed
                raise Mismatch(f"lmdbfs: {ours}, and ext4 too" + self.told(wanted))
            self.learn(who, operation, arguments, about)

    @staticmethod
    def told(wanted):
        return "".join(f"; wanted here is {difference.lmdbfs} ({difference.name})" for difference in wanted)

    def makes_sense(self, who, operation, arguments):
        if operation == "open" and (who, arguments[0]) in self.open:
            return False
        if operation == "map" and (who, arguments[0]) in self.mapped:
            return False
        if operation in NEEDS_MAPPING and (who, arguments[0]) not in self.mapped:
            return False
        if operation == "map_store" and not self.mapped[who, arguments[0]].stores:
            return False
        bases = [arguments[index][0] for index in PATHS.get(operation, ()) if isinstance(arguments[index], list)]
        slots = [arguments[index] for index in NEEDS_SLOT.get(operation, ())]
        return all((who, slot) in self.open for slot in slots + bases if slot is not None)

    def look(self, who, operation, arguments):
        """What ext4 says about the paths of a step, before it is done."""
        self.leads_to, self.exists, self.leads_to_published, self.places = None, False, False, []
        self.names, inodes, self.leads_to_ino = [], [], None
        for index in PATHS.get(operation, ()):
            path = arguments[index] if isinstance(arguments[index], list) else [None, arguments[index]]
            (followed, named, parent), _ = self.sides[1][who].ask("look", [path])[0]
            if followed is not None:
                self.leads_to, self.exists, self.leads_to_ino = followed["place"], True, followed["ino"]
                self.leads_to_published = self.is_published(followed["ino"])
            if parent is not None:
                self.places.append(os.path.join(parent, os.path.basename(path[1].rstrip("/"))))
            inodes.append(named and named["ino"])
            self.names.append(named)
        # Two names of one file: to rename one to the other does nothing.
        self.same = len(inodes) == 2 and inodes[0] is not None and inodes[0] == inodes[1]

    def without_reserved(self, who, operation, arguments, answer):
        """The root's listing, without what lmdbfs does not list."""
        names, error = answer
        place = self.open[who, arguments[0]].place if operation == "list_open" else self.leads_to
        if operation in ("list", "list_open") and place == "/" and error is None and self.ours.differs:
            return [entry for entry in names if entry[0] != CONTROL[1:]], error
        return answer

    def is_stored(self, ino):
        return ino in self.files and self.files[ino].stored

    def without_time(self, who, operation, arguments, answer):
        """A stat without the time of last modification, where that is not determined."""
        facts, error = answer
        if operation not in ("stat", "fstat") or error is not None:
            return answer
        ino = self.open[who, arguments[0]].ino if operation == "fstat" else self.leads_to_ino
        return facts[:4] + facts[5:] if self.is_stored(ino) else facts

    # --------------------------------------------------------------- what is to be known after a step --

    def learn(self, who, operation, arguments, about):
        function = getattr(self, "learn_" + operation, None)
        if function is not None:
            function(who, arguments, about)
        if operation in PUBLISHING and self.ours.differs:
            self.publish_closed()

    def learn_open(self, who, arguments, about):
        flags = arguments[2]
        directory = about["type"] == stat.S_IFDIR
        write = flags & os.O_ACCMODE != os.O_RDONLY
        self.open[who, arguments[0]] = Open(about["ino"], write, about["place"], directory)
        if about["type"] == stat.S_IFREG and (flags & os.O_TMPFILE == os.O_TMPFILE or not self.exists):
            self.files[about["ino"]] = File(self.staged(about["place"]))

    def learn_mknod(self, who, arguments, about):
        if about is not None:
            self.files[about["ino"]] = File(self.staged(about["place"]))

    def learn_close(self, who, arguments, about):
        del self.open[who, arguments[0]]

    def learn_map(self, who, arguments, about):
        opened = self.open[who, arguments[1]]
        # Whatever it is mapped for, the mapping keeps what is open open, which may be for writing.
        self.mapped[who, arguments[0]] = Open(opened.ino, opened.write, stores=arguments[2])

    def learn_map_store(self, who, arguments, about):
        self.file(self.mapped[who, arguments[0]].ino).stored = True

    def learn_unmap(self, who, arguments, about):
        del self.mapped[who, arguments[0]]

    def learn_rename(self, who, arguments, about):
        if self.same:
            return
        for moved in about[: 2 if arguments[2] & harness.RENAME_EXCHANGE else 1]:
            if moved is None:
                continue
            staged = self.staged(moved["place"])
            if moved["type"] == stat.S_IFREG and not staged:
                self.release(moved["place"], moved["ino"])
            elif moved["type"] == stat.S_IFREG and os.lstat(self.twin + moved["place"]).st_nlink == 1:
                self.file(moved["ino"]).held = True
            elif moved["type"] == stat.S_IFDIR and not staged:
                for path, status in self.scan(moved["place"]):
                    if stat.S_ISREG(status.st_mode):
                        self.release(path, status.st_ino)

    def learn_link(self, who, arguments, about):
        if about is not None and about["type"] == stat.S_IFREG and not self.staged(about["place"]):
            self.release(about["place"], about["ino"])

    def learn_link_open(self, who, arguments, about):
        self.learn_link(who, arguments, about)

    def learn_chmod(self, who, arguments, about):
        """A published file gets no write bits back."""
        path, mode = arguments
        if about is not None and self.is_published(about["ino"]):
            self.sides[1][who].ask("chmod", [path, mode & 0o7555])

    def learn_fchmod(self, who, arguments, about):
        slot, mode = arguments
        if self.is_published(self.open[who, slot].ino):
            self.sides[1][who].ask("fchmod", [slot, mode & 0o7555])

    # ------------------------------------------------------------------------------------ publishing --

    @staticmethod
    def staged(place):
        return place.startswith(STAGING + "/")

    def file(self, ino):
        return self.files.setdefault(ino, File(False))

    def is_published(self, ino):
        return ino in self.files and self.files[ino].published

    def scan(self, below="/"):
        """Path and lstat of what is on ext4."""
        waiting = [below.rstrip("/")]
        while waiting:
            directory = waiting.pop()
            with os.scandir(self.twin + (directory or "/")) as entries:
                for entry in entries:
                    path = f"{directory}/{entry.name}"
                    yield path, entry.stat(follow_symlinks=False)
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(path)

    def publish_closed(self):
        """Files that have content and a name, are not held and not written, are published: now, or in a moment."""
        written = {one.ino for one in (*self.open.values(), *self.mapped.values()) if one.write}
        used = {one.ino for one in (*self.open.values(), *self.mapped.values())}
        waiting = {ino for ino, file in self.files.items() if not (file.published or file.held or ino in written)}
        there = set()
        for path, status in self.scan():
            there.add(status.st_ino)
            if status.st_ino in waiting and stat.S_ISREG(status.st_mode) and status.st_size > 0:
                waiting.discard(status.st_ino)
                self.publish(path, status.st_ino)
        for ino in [ino for ino in self.files if ino not in there and ino not in used]:
            del self.files[ino]

    def release(self, path, ino):
        """It has left staging: if it was closed before, who has opened it again has lost it to the public."""
        file = self.file(ino)
        asks = self.ours.differs and file.held and not file.published and os.lstat(self.twin + path).st_size > 0
        if asks and self.ours.is_published(path):
            self.publish(path, ino)
        file.held = False

    def publish(self, path, ino):
        """Wait for it, and do on ext4 what it means."""
        self.ours.wait_published(path)
        self.files[ino].published = True
        os.chmod(self.twin + path, os.lstat(self.twin + path).st_mode & 0o7555)

    # ---------------------------------------------------------------- what the conductor does by itself --

    def commit(self):
        self.ours.commit()

    def check(self):
        self.ours.check()

    def compare(self):
        """Everything, names in staging too."""
        for place in ("", STAGING):
            ours, theirs = self.tree(self.ours.path + place), self.tree(self.twin + place)
            for path in ours.keys() & theirs.keys():
                if self.is_stored(os.lstat(os.path.join(os.fsencode(self.twin + place), path)).st_ino):
                    ours[path]["mtime"] = theirs[path]["mtime"]
            lines = trees.differences(ours, theirs)
            if lines:
                raise Mismatch(f"{len(lines)} differences between the trees: " + "; ".join(lines[:10]))

    @staticmethod
    def tree(root):
        """The scan of a tree without what lmdbfs does not list; a file's other names count if they are in it."""
        control = os.fsencode(CONTROL[1:])
        found = {
            path: {**about, "mtime": time_class(about["mtime"])}
            for path, about in trees.scan(root).items()
            if path != control and not path.startswith(control + b"/")
        }
        first = {}
        for path, about in sorted(found.items()):
            if "same as" in about:
                about["same as"] = first.setdefault(about["same as"], path)
        return found

    def remount(self):
        self.end()
        self.ours.remount()
        self.start_again()

    def crash(self):
        """What is durable is there after a kill -9."""
        self.end()
        if self.ours.differs:
            self.publish_closed()
        self.ours.commit([path for path, status in self.scan()
                          if stat.S_ISREG(status.st_mode) and path != STATS])
        self.ours.crash()
        self.start_again()

    def start_again(self):
        if self.ours.differs:
            self.publish_closed()
        self.start()
        self.compare()


# ------------------------------------------------------------------------------------------ a run of steps --


def replay(make, steps):
    """Do these steps on a fresh pair. Returns the number of the one at which the sides differ and why, or None."""
    model = make()
    try:
        for number, step in enumerate([*steps, [None, "compare"]]):
            try:
                model.step(step)
            except Mismatch as error:
                return number, str(error)
        return None
    finally:
        model.end(kill=True)
        model.ours.close()


def shorten(steps, fails, budget):
    """
    As few of these steps as still fail: `fails(steps)` returns the number of the failing one, or None. `budget()` is
    false when there was enough of it.
    """
    steps = last_steps(steps, fails, budget)
    part = max(1, len(steps) // 2)
    while True:
        start = 0
        while start < len(steps) and budget():
            shorter = steps[:start] + steps[start + part :]
            failed = fails(shorter) if shorter else None
            if failed is None:
                start += part
            else:
                steps = shorter[: failed + 1]
        if part == 1 or not budget():
            return steps
        part = max(1, part // 2)


def last_steps(steps, fails, budget):
    """Names are few, so the last steps often do without what was before."""
    count = 10
    while count < len(steps) and budget():
        failed = fails(steps[-count:])
        if failed is not None:
            return steps[-count:][: failed + 1]
        count *= 2
    return steps
