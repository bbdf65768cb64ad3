# SPDX-License-Identifier: BSD-2-Clause
"""The filesystems that are compared.

A contender is made per data set, ground (see grounds.py) and options (which lmdbfs is mounted with besides). Its
life: prepare() once, untimed; mount() and unmount() around every cold run; remove() at the end. To add one, write a
class and put it into RIVALS.
"""

import collections
import os
import re
import shutil
import subprocess
import time

import observe
from corpus import BenchError, command

DAEMON_START_SECONDS = 60
DAEMON_STOP_SECONDS = 120  # it may have changes to commit
DAEMON_REST_SECONDS = 600
# At rest: who needs less of a CPU in that time.
REST_SECONDS, REST_CPU_SECONDS = 0.05, 0.001


class Contender:
    name = ""
    ours = False
    tools = ()  # programs that it needs
    writable = True
    has_cold = True  # dropping the kernel's caches means something to it

    def __init__(self, ground, dataset, options=""):
        self.dataset = dataset
        self.dir = ground.dir / "-".join(filter(None, (self.name, dataset.name, options)))
        self.root = self.dir  # where its files are found

    def prepare(self):
        """Build it from the data set, and mount it."""

    def mount(self):
        pass

    def unmount(self):
        pass

    def remove(self):
        try:
            self.unmount()
        finally:
            shutil.rmtree(self.dir, ignore_errors=True)

    def settle(self):
        """Wait until what was done with it is on disk, so that others don't pay for it."""
        command("sync", "-f", self.dir)

    def stored(self):
        """Where its bytes on disk can be counted; None if it has none."""
        return None

    def requests(self):
        """Requests that its daemon has served so far, by kind; None without a daemon."""
        return None

    def daemon(self):
        """What its daemon has cost so far: {"cpu_seconds", "memory_bytes"}; None without one."""
        return None

    def resident(self):
        """How much of the file that holds its content is in the page cache beside what is mounted, as a fraction; None
        if it has no such file."""
        return None

    def values(self, how):
        """The probe and its first arguments that read each name: by "read", or by "map"."""
        return "c", ("values", how, self.root, self.dataset.names)

    def hold(self):
        """The probe and its arguments that keep the content of each name at hand."""
        return "c", ("hold", self.root, self.dataset.names)

    def ingest(self, source, product):
        """The command that takes a tree in, making `product`, a new path on its own ground."""
        return ["cp", "-r", source, product]

    def ingest_ground(self):
        """The directory for the product of ingest()."""
        return self.root


class Ext4(Contender):
    """Plain files in the arena, which is ext4: the data set as it is."""

    name = "ext4"

    def __init__(self, ground, dataset, options=""):
        super().__init__(ground, dataset, options)
        if not dataset.empty:
            self.root = dataset.source

    def prepare(self):
        if self.dataset.empty:
            self.root.mkdir()

    def stored(self):
        return self.root


class Plain(Contender):
    """A copy of the files on a ground that is no ext4."""

    def prepare(self):
        self.dir.mkdir()
        command("cp", "-r", f"{self.dataset.source}/.", self.dir)


class Xfs(Plain):
    name = "xfs"


class Btrfs(Plain):
    name = "btrfs"


class Tmpfs(Contender):
    name = "tmpfs"
    has_cold = False

    def prepare(self):
        self.dir.mkdir()
        command("mount", "-t", "tmpfs", "-o", "mode=755,size=90%", "lmdbfs-bench", self.dir)
        if not self.dataset.empty:
            command("cp", "-r", f"{self.dataset.source}/.", self.dir)

    def remove(self):
        unmount(self.dir)
        super().remove()


class Image(Contender):
    """A read-only image, mounted by way of a loop device, which umount frees."""

    writable = False

    def __init__(self, ground, dataset, options=""):
        super().__init__(ground, dataset, options)
        self.root = self.dir / "mnt"
        self.image = self.dir / "image"

    def prepare(self):
        self.root.mkdir(parents=True)
        if not self.dataset.empty:
            command(*self.ingest(self.dataset.source, self.image))
            self.mount()

    def mount(self):
        command("mount", "-t", self.name, "-o", "loop,ro", self.image, self.root)

    def unmount(self):
        unmount(self.root)

    def stored(self):
        return self.image

    def ingest_ground(self):
        return self.dir


class Squashfs(Image):
    name = "squashfs"
    tools = ("mksquashfs",)

    def ingest(self, source, product):
        return ["mksquashfs", source, product, "-comp", "zstd", "-quiet", "-no-progress"]


class Erofs(Image):
    name = "erofs"
    tools = ("mkfs.erofs",)

    def ingest(self, source, product):
        return ["mkfs.erofs", "--quiet", product, source]


class Lmdbfs(Contender):
    """Ours. The daemon runs in the foreground as our child: so we know its costs and when it is gone."""

    name, ours = "lmdbfs", True
    binary = None  # set by the command line, like the options
    options = ""
    large_options = ""  # where the records are large

    def __init__(self, ground, dataset, options=""):
        super().__init__(ground, dataset, options)
        self.root = self.dir / "mnt"
        self.staging = self.root / ".lmdbfs/staging"
        self.store = self.dir / "store"
        self.log = self.dir / "log"
        # Those of the workload come last: so they count.
        self.mount_options = ",".join(filter(None, (self.large_options if dataset.large else self.options, options)))
        self.process = None

    def prepare(self):
        self.root.mkdir(parents=True)
        if not self.dataset.empty:
            command(*self.ingest(self.dataset.source, self.store))
        self.mount()

    def mount(self):
        options = ["-o", self.mount_options] if self.mount_options else []
        argv = [self.binary, "mount", "-f", *options, self.store, self.root]
        with open(self.log, "ab") as log:
            # In a session of its own, or ^C would reach it before we have unmounted.
            self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            start_new_session=True)
        deadline = time.monotonic() + DAEMON_START_SECONDS
        while not is_mounted(self.root):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise BenchError(f"lmdbfs does not mount: {self.last_words()}")
            time.sleep(0.005)
        os.stat(self.root)  # answered: the handshake with the kernel is over

    def unmount(self):
        if self.process is None:
            return
        process, self.process = self.process, None
        died = process.poll()
        try:
            unmount(self.root)
            process.wait(DAEMON_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            raise BenchError(f"the daemon is still there {DAEMON_STOP_SECONDS} s after umount") from None
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        if died is not None:
            raise BenchError(f"the daemon died ({died}): {self.last_words()}")

    def stored(self):
        return self.store

    def last_words(self):
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return " / ".join(lines[-3:]) or "it said nothing"

    def requests(self):
        text = (self.root / ".lmdbfs" / "stats").read_text()
        found = re.findall(r'^lmdbfs_requests_total\{op="([^"]+)"\}\s+(\d+)', text, re.MULTILINE)
        if not found:
            raise BenchError(".lmdbfs/stats has no lmdbfs_requests_total")
        return collections.Counter({op: int(count) for op, count in found})

    def daemon(self):
        if self.process is None or self.process.poll() is not None:
            raise BenchError(f"the daemon died: {self.last_words()}")
        return {"cpu_seconds": observe.cpu_seconds(self.process.pid),
                "memory_bytes": observe.anonymous_bytes(self.process.pid)}

    def settle(self):
        """Durable, and the daemon at rest: it may still be taking in what was published, or removing what was
        replaced."""
        root = os.open(self.root, os.O_RDONLY)
        try:
            os.fsync(root)  # syncfs() would not reach the daemon
        finally:
            os.close(root)
        deadline = time.monotonic() + DAEMON_REST_SECONDS
        while True:
            before = observe.cpu_seconds(self.process.pid)
            # It may also be waiting for the disk. Then this waits as well.
            super().settle()
            time.sleep(REST_SECONDS)
            if observe.cpu_seconds(self.process.pid) - before < REST_CPU_SECONDS:
                return
            if time.monotonic() > deadline:
                raise BenchError(f"the daemon is still busy {DAEMON_REST_SECONDS} s after a run")

    def resident(self):
        data = self.store / "data.mdb"
        return observe.resident_bytes(data) / data.stat().st_size

    def ingest(self, source, product):
        return [self.binary, "import", product, source]

    def ingest_ground(self):
        return self.dir


RIVALS = {contender.name: contender for contender in (Ext4, Tmpfs, Squashfs, Erofs)}
# What lmdbfs is compared with where the ground is another one: its files.
ON_GROUND = {contender.name: contender for contender in (Xfs, Btrfs)}


def is_mounted(path):
    # Not os.path.ismount(): that asks the filesystem, which may not answer yet or any more.
    with open("/proc/self/mounts", encoding="utf-8", errors="surrogateescape") as file:
        return any(line.split(" ")[1] == str(path) for line in file)


def unmount(path):
    """Gone afterwards, whatever it takes; an error if it took more than umount."""
    if not is_mounted(path):
        return
    try:
        command("umount", path)
    except BenchError:
        command("umount", "-l", path)
        raise
