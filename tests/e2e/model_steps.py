# SPDX-License-Identifier: BSD-2-Clause
"""Random steps for the model test (test_model.py), with names so few that they meet."""

import os
import random
import stat

import harness
from model import TOPS, USERS
from model_agent import NOW
from model_differences import COLLAPSE

NAMES = ["a", "b", "c", "d", "e"]
RARE = ["n" * 255, "n" * 256, "...", "\u20ac" * 85, "\u20ac" * 86, "\udcff\udcfe", ".hidden", "-", " ", "a\nb",
        ".lmdbfs", ".", "..", ""]
SIZES = [0, 1, 10, 700, 1925, 1926, 1927, 4080, 4096, 5000, 20_000]  # and where a record's layout changes
LARGE = [131_071, 131_073, 300_000]
MODES = [0o644, 0o600, 0o755, 0o444, 0o000, 0o666, 0o777, 0o4755, 0o2755, 0o6711]
DIRECTORY_MODES = [0o755, 0o777, 0o1777, 0o700, 0o2775, 0o555, 0o300, 0o000]
SLOTS = 5
MAPPINGS = 2
MOST_NAMES = 200

KEEP, PUNCH, ZERO = 1, 2, 0x10

WEIGHTS = {
    "open": 14, "close": 9, "write": 7, "pwrite": 6, "read": 3, "read_on": 1, "seek": 2, "ftruncate": 3,
    "truncate": 3, "fallocate": 2, "copy": 2, "fsync": 1, "fdatasync": 1, "syncfs": 0.3, "cat": 4, "map": 6,
    "unmap": 2, "map_read": 3, "map_store": 6, "map_sync": 1, "rename": 10, "link": 4, "link_open": 1, "unlink": 6,
    "symlink": 3, "readlink": 1, "mkdir": 6, "rmdir": 3, "mknod": 1, "chmod": 4, "fchmod": 1, "chown": 2,
    "utime": 4, "stat": 5, "fstat": 3, "statx": 1, "access": 2, "setxattr": 0.3, "getxattr": 0.3, "umask": 0.3,
    "list": 4, "list_open": 2, "repair": 1, "reserved": 1.5, "publish": 4, "stage_tree": 1, "temporary": 2,
}


class Maker:
    """`model` is asked for what there is and what is open; the rest is chance."""

    def __init__(self, seed, model):
        self.random = random.Random(seed)
        self.model = model
        self.waiting = {who: [] for who in range(len(USERS))}  # steps that belong together
        self.known = []
        self.made = 0

    def chance(self, probability):
        return self.random.random() < probability

    def next(self):
        if self.made % 10 == 0:
            found = self.model.scan()
            self.known = [(path, stat.S_ISDIR(status.st_mode)) for path, status in found if len(path) < 3000]
        self.made += 1
        if self.made % 400 == 0:
            return [None, self.random.choice(("remount", "check", "compare", "commit", "crash"))]
        who = self.random.randrange(len(USERS))
        while True:
            if not self.waiting[who]:
                self.invent(who)
            if self.waiting[who]:
                return [who, *self.waiting[who].pop(0)]

    def invent(self, who):
        operations, weights = zip(*WEIGHTS.items())
        operation = self.random.choices(operations, weights)[0]
        if len(self.known) > MOST_NAMES and self.chance(0.3):
            operation = self.random.choice(("unlink", "unlink", "rmdir"))
        steps = getattr(self, "make_" + operation)(who)
        if steps is None:
            return
        self.waiting[who] += steps if isinstance(steps, list) else [[operation, *steps]]

    # ------------------------------------------------------------------------------------- ingredients --

    def area(self, who):
        return self.random.choices(
            [f"/{TOPS[who]}", "/all", "/.lmdbfs/staging", "", "/" + self.random.choice(TOPS)], [45, 25, 18, 4, 8])[0]

    def name(self):
        return self.random.choice(RARE if self.chance(0.05) else NAMES)

    def path(self, who, exists=0.6, directory=None):
        """Of something that is there, with that probability, else perhaps. [slot, text]"""
        slots = [slot for owner, slot in self.model.open if owner == who]
        if slots and self.chance(0.12):
            tail = self.random.choice((self.name(), f"{self.name()}/{self.name()}", ".", f"../{self.name()}"))
            return [self.random.choice(slots), tail]
        area = self.area(who)
        below = [path for path, is_directory in self.known
                 if path.startswith(area + "/") and directory in (None, is_directory)]
        if below and self.chance(exists):
            return [None, self.adorned(self.random.choice(below)[1:])]
        directories = [path for path, is_directory in self.known if is_directory and path.startswith(area + "/")]
        parent = self.random.choice(directories) if directories and self.chance(0.5) else area
        return [None, self.adorned(f"{parent}/{self.name()}"[1:])]

    def adorned(self, path):
        if self.chance(0.95):
            return path
        return self.random.choice((
            path + "/", path + "/.", path + "/..", path.replace("/", "//"), "./" + path, "/" + path, path + "/x",
            "./" * ((4094 - len(os.fsencode(path))) // 2) + path, "./" * 2100 + path,
        ))

    def slot(self, who, writable=None):
        """Mostly of a file: most of what can be done to a directory's is an error."""
        slots = [(slot, one.directory) for (owner, slot), one in self.model.open.items()
                 if owner == who and (writable is None or one.write == writable)]
        files = [one for one in slots if not one[1]]
        slots = files if files and self.chance(0.85) else slots
        return self.random.choice(slots)[0] if slots else None

    def free_slot(self, who):
        free = [slot for slot in range(SLOTS) if (who, slot) not in self.model.open]
        return self.random.choice(free) if free else None

    def size(self):
        return self.random.choice(LARGE if self.chance(0.03) else SIZES)

    def offset(self):
        return self.random.choice((0, 0, 1, 100, 1926, 4000, 4096, 9000))

    def seed(self):
        return self.random.randrange(1 << 30)

    def with_slot(self, who, *rest, writable=None):
        slot = self.slot(who, writable)
        return None if slot is None else (slot, *rest)

    def mapping(self, who):
        mappings = [mapping for owner, mapping in self.model.mapped if owner == who]
        return self.random.choice(mappings) if mappings else None

    # --------------------------------------------------------------------------------------- operations --

    def make_open(self, who):
        slot = self.free_slot(who)
        if slot is None:
            return [["close", self.slot(who)]]
        kind = self.random.random()
        mode = self.random.choice(MODES)
        if kind < 0.2:
            return slot, self.path(who, 0.9, True), os.O_RDONLY | os.O_DIRECTORY, mode
        if kind < 0.27:
            flags = os.O_TMPFILE | self.random.choice((os.O_RDWR, os.O_WRONLY, os.O_RDONLY))
            return slot, self.path(who, 0.95, True), flags | (os.O_EXCL if self.chance(0.2) else 0), mode
        flags = self.random.choice((os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_RDWR))
        for flag, probability in ((os.O_CREAT, 0.6), (os.O_EXCL, 0.1), (os.O_TRUNC, 0.15), (os.O_APPEND, 0.15),
                                  (os.O_NOFOLLOW, 0.1), (os.O_DIRECTORY, 0.03)):
            if self.chance(probability) and not (flag == os.O_EXCL and not flags & os.O_CREAT):
                flags |= flag
        return slot, self.path(who, directory=None if self.chance(0.1) else False), flags, mode

    def make_close(self, who):
        return self.with_slot(who)

    def make_read(self, who):
        return self.with_slot(who, self.size(), self.offset())

    def make_read_on(self, who):
        return self.with_slot(who, self.size())

    def make_write(self, who):
        return self.with_slot(who, self.seed(), self.size(), writable=self.chance(0.95))

    def make_pwrite(self, who):
        return self.with_slot(who, self.seed(), self.size(), self.offset(), writable=self.chance(0.95))

    def make_seek(self, who):
        return self.with_slot(who, self.offset(), self.random.choice((os.SEEK_SET, os.SEEK_CUR, os.SEEK_END)))

    def make_copy(self, who):
        source, target = self.slot(who), self.slot(who, True)
        return None if source is None or target is None else (source, target, self.size())

    def make_ftruncate(self, who):
        return self.with_slot(who, self.size(), writable=self.chance(0.95))

    def make_truncate(self, who):
        slot, text = self.path(who, 0.9, False)
        return (text, self.size()) if slot is None else None

    def make_fallocate(self, who):
        mode = self.random.choice((0, 0, KEEP, PUNCH | KEEP, ZERO, ZERO | KEEP, COLLAPSE))
        return self.with_slot(who, mode, self.offset(), self.size() + 1, writable=self.chance(0.9))

    def make_fsync(self, who):
        return self.with_slot(who)

    make_fdatasync = make_syncfs = make_fstat = make_fsync

    def make_cat(self, who):
        return (self.path(who, 0.95, False),)

    def make_map(self, who):
        free = [mapping for mapping in range(MAPPINGS) if (who, mapping) not in self.model.mapped]
        slot = self.slot(who, True) if self.chance(0.7) else self.slot(who)
        return (free[0], slot, self.chance(0.7)) if free and slot is not None else None

    def with_mapping(self, who, *rest):
        mapping = self.mapping(who)
        return None if mapping is None else (mapping, *rest)

    make_unmap = make_map_read = make_map_sync = with_mapping

    def make_map_store(self, who):
        return self.with_mapping(who, self.seed(), self.size(), self.offset())

    def make_rename(self, who):
        flags = self.random.choices((0, harness.RENAME_NOREPLACE, harness.RENAME_EXCHANGE, harness.RENAME_WHITEOUT, 8),
                                    (70, 12, 15, 2, 1))[0]
        existing = 0.9 if flags == harness.RENAME_EXCHANGE else 0.4
        return self.path(who, 0.95), self.path(who, existing), flags

    def make_link(self, who):
        return self.path(who, 0.95, False), self.path(who, 0.1), self.chance(0.3)

    def make_link_open(self, who):
        return self.with_slot(who, self.path(who, 0.1))

    def make_unlink(self, who):
        return (self.path(who, 0.95, None if self.chance(0.1) else False),)

    def make_symlink(self, who):
        targets = ("a", "../all/a", "./b/c", "nowhere", "/all/b", "/u0/a", "", "t" * 1950, "t" * 4095, "t" * 4096)
        return self.random.choice(targets), self.path(who, 0.1)

    def make_readlink(self, who):
        return (self.path(who, 0.95, False),)

    def make_mkdir(self, who):
        return self.path(who, 0.1), self.random.choice(DIRECTORY_MODES[:5])

    def make_rmdir(self, who):
        return (self.path(who, 0.95, None if self.chance(0.1) else True),)

    def make_mknod(self, who):
        kind = self.random.choice((stat.S_IFREG, stat.S_IFREG, stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFCHR))
        return self.path(who, 0.2), kind | 0o644

    def make_chmod(self, who):
        path = self.path(who, 0.95)
        directory = any(name[1:] == path[1] and is_directory for name, is_directory in self.known)
        return path, self.random.choice(DIRECTORY_MODES if directory else MODES)

    def make_fchmod(self, who):
        return self.with_slot(who, self.random.choice(MODES))

    def make_chown(self, who):
        ids = (-1, 0, 100, *(user for user, _ in USERS))
        return self.path(who, 0.95), self.random.choice(ids), self.random.choice(ids), self.chance(0.5)

    def make_utime(self, who):
        times = (NOW, None, 1, 1_000_000_001, 999_999_999_123_456_789, -1_000_000_000, 5_000_000_000_000_000_005)
        return self.path(who, 0.95), self.random.choice(times), self.random.choice(times), self.chance(0.7)

    def make_stat(self, who):
        return self.path(who, 0.85), self.chance(0.6)

    make_statx = make_stat

    def make_access(self, who):
        return self.path(who, 0.85), self.random.randrange(8)

    def make_setxattr(self, who):
        slot, text = self.path(who, 0.9, False)
        return (text, "user.some") if slot is None else None

    make_getxattr = make_setxattr

    def make_umask(self, who):
        return (self.random.choice((0o022, 0o022, 0o077, 0)),)

    def make_list(self, who):
        return (self.path(who, 0.95, True),)

    def make_list_open(self, who):
        return self.with_slot(who, self.random.randrange(10))

    # --------------------------------------------------------------------- several that belong together --

    def make_publish(self, who):
        """As programs do: a temporary name, in staging or beside, and a rename over the target."""
        slot = self.free_slot(who)
        if slot is None:
            return None
        target = self.path(who)
        if target[0] is not None:
            return None
        temporary = [None, self.random.choice((".lmdbfs/staging/a", ".lmdbfs/staging/b", target[1] + ".tmp"))]
        early = [["rename", temporary, target, 0]]
        late = [["close", slot]]
        return [
            ["open", slot, temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644],
            ["write", slot, self.seed(), self.size()],
            *self.random.choice(([], [["fsync", slot]], [["fchmod", slot, 0o640]])),
            *(early + late if self.chance(0.3) else late + early),
            ["cat", target],
        ]

    def make_stage_tree(self, who):
        """A directory is built in staging and moved or swapped into place."""
        slot = self.free_slot(who)
        if slot is None:
            return None
        top = f".lmdbfs/staging/{self.name()}"
        steps = [["mkdir", [None, top], 0o755], ["mkdir", [None, top + "/d"], 0o755]]
        for name in ("a", "b", "d/a", "d/b"):
            steps += [["open", slot, [None, f"{top}/{name}"], os.O_RDWR | os.O_CREAT, 0o644],
                      ["write", slot, self.seed(), self.size()], ["close", slot]]
        steps[-1:] = [] if self.chance(0.3) else steps[-1:]
        target = self.path(who, 0.5, True)
        flags = self.random.choice((0, 0, harness.RENAME_EXCHANGE, harness.RENAME_NOREPLACE))
        return [*steps, ["rename", [None, top], target, flags], ["list", target]]

    def make_temporary(self, who):
        """O_TMPFILE and a name for it."""
        slot = self.free_slot(who)
        if slot is None:
            return None
        return [
            ["open", slot, self.path(who, 0.95, True), os.O_TMPFILE | os.O_RDWR, 0o640],
            ["write", slot, self.seed(), self.size()],
            ["link_open", slot, self.path(who, 0.1)],
            ["fstat", slot],
            ["close", slot],
        ]

    def make_repair(self, who):
        """So that not all ends in directories that nobody may enter: by root."""
        if who != 0:
            return None
        top = self.random.randrange(len(TOPS))
        user = USERS[top][0] if top < len(USERS) else 0
        mode = 0o755 if top < len(USERS) else 0o1777
        return [
            ["chmod", [None, "/"], 0o755],
            ["mkdir", [None, TOPS[top]], 0o755],
            ["chown", [None, TOPS[top]], user, user, False],
            ["chmod", [None, TOPS[top]], mode],
            ["chmod", [None, ".lmdbfs/staging"], 0o1777],
        ]

    def make_reserved(self, who):
        place = self.random.choice((".lmdbfs", ".lmdbfs/staging", ".lmdbfs/stats", ".lmdbfs/new"))
        other = self.path(who, 0.5)
        return [self.random.choice((
            ["mkdir", [None, place], 0o755], ["rmdir", [None, place]], ["unlink", [None, place]],
            ["rename", [None, place], other, 0], ["rename", other, [None, place], 0],
            ["rename", other, [None, place], harness.RENAME_EXCHANGE], ["link", other, [None, place], False],
            ["link", [None, place], other, False], ["symlink", "x", [None, place]],
            ["chmod", [None, place], 0o755], ["chown", [None, place], 0, 0, True], ["list", [None, place]],
            ["utime", [None, place], 1, 1, True], ["mknod", [None, place], stat.S_IFREG | 0o644],
            ["open", 0, [None, place], os.O_RDWR | os.O_CREAT, 0o644],
            ["open", 0, [None, place], os.O_TMPFILE | os.O_RDWR, 0o600],
        ))]
