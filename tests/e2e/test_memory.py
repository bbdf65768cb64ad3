# SPDX-License-Identifier: BSD-2-Clause
"""The daemon's memory has a ceiling, whatever it is asked for: in its own figures, in the kernel's, and in a cgroup."""

import contextlib
import hashlib
import mmap
import os
import threading

import harness
import trees
from harness import LMDBFS, lmdbfs, mounted, publish, read_file, run, scaled, wait_for, write_file

MIB = 1 << 20

# Meson's: it has all memory that is allocated written to, also what is only reserved and never used.
os.environ.pop("MALLOC_PERTURB_", None)

CEILING = 16 * MIB  # without what the kernel holds
PER_INODE = 16
BASE_OF_LEASES = MIB // 2

# A sanitizer's own memory is many times that of the program: such a build only shows that every byte is right.
SANITIZED = b"__asan_init" in read_file(LMDBFS)

THREADS = 32


def private_bytes(pid):
    """What belongs to the process alone, without its mapping of the store: private pages of all other mappings."""
    total = 0
    counts = False
    with open(f"/proc/{pid}/smaps", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            words = line.split()
            if not words[0].endswith(":"):
                counts = not line.rstrip().endswith("data.mdb")
            elif counts and words[0] in ("Private_Clean:", "Private_Dirty:"):
                total += int(words[1]) << 10
    return total


class Watch:
    """The most private memory that a daemon was seen with, while the block ran."""

    def __init__(self, pid):
        self.pid = pid
        self.most = 0
        self.done = threading.Event()
        self.thread = threading.Thread(target=self.run)

    def run(self):
        while not self.done.wait(0.01):
            self.most = max(self.most, private_bytes(self.pid))

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *error):
        self.done.set()
        self.thread.join()
        self.most = max(self.most, private_bytes(self.pid))


def in_parallel(function, count=THREADS):
    """function(0) to function(count - 1) at the same time; what one of them raises is raised here."""
    errors = []

    def call(index):
        try:
            function(index)
        except BaseException as error:  # of a thread: nobody else would see it
            errors.append(error)

    threads = [threading.Thread(target=call, args=(index,)) for index in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def drop(what):
    """1: the page cache, 2: names and inodes that nobody uses, 3: both."""
    os.sync()
    with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as file:
        file.write(str(what))


def read_direct(path, size):
    """In requests of 1 MiB, past the kernel's cache."""
    buffer = mmap.mmap(-1, MIB)
    digest = hashlib.md5()
    fd = os.open(path, os.O_RDONLY | os.O_DIRECT)
    try:
        for offset in range(0, size, MIB):
            digest.update(memoryview(buffer)[: os.preadv(fd, [buffer], offset)])
    finally:
        os.close(fd)
    return digest.hexdigest()


class Ceiling(harness.Case):
    def assert_below(self, value, ceiling, what):
        if not SANITIZED:
            self.assertLessEqual(value, ceiling, f"{what}: {value / MIB:.1f} MiB")

    def test_many_files_held_and_let_go(self):
        directories, each = scaled(200, least=20), 1000
        for index in range(directories):
            os.makedirs(self.path("tree", f"d{index}"))
            for number in range(each):
                os.close(os.open(self.path("tree", f"d{index}", f"f{number}"), os.O_CREAT | os.O_WRONLY))
        lmdbfs("import", "-q", self.store, self.path("tree"))
        run("rm", "-r", self.path("tree"))
        with mounted(self.store) as mount, Watch(mount.pid) as watch:
            # Whoever else drops caches on this machine may make a second look necessary.
            stats = wait_for(lambda: self.look_at_all(mount, directories * (each + 1)), what="all are held")
            held = stats["lmdbfs_leases"]
            self.assertLessEqual(stats["lmdbfs_lease_bytes"], PER_INODE * held + BASE_OF_LEASES)
            self.assert_below(private_bytes(mount.pid), CEILING + PER_INODE * held, "with all files held")
            self.assert_below(watch.most, CEILING + PER_INODE * held, "while they were looked up")
            full = private_bytes(mount.pid)
            drop(2)
            wait_for(lambda: mount.stats()["lmdbfs_leases"] < 100, what="the kernel has let go")
            stats = mount.stats()
            self.assertLessEqual(stats["lmdbfs_lease_bytes"], BASE_OF_LEASES)
            self.assert_below(private_bytes(mount.pid), full, "after all were let go")
        self.assert_below(watch.most, CEILING + PER_INODE * held, "at any time")

    def look_at_all(self, mount, count):
        run("find", mount.path, "-size", "+1")
        stats = mount.stats()
        return stats if stats["lmdbfs_leases"] >= count else None

    def big_writes(self, mount, content):
        def write(index):
            with open(mount / f"big{index}", "wb", buffering=0) as file:
                for offset in range(0, len(content), MIB):
                    self.assertEqual(file.write(content[offset : offset + MIB]), MIB)

        in_parallel(write)

    def test_large_requests_and_storms(self):
        content = os.urandom(scaled(16, least=4) * MIB)
        digest = hashlib.md5(content).hexdigest()
        small = scaled(30, least=5)
        with mounted(self.store) as mount, Watch(mount.pid) as watch:
            self.big_writes(mount, content)
            self.assert_below(watch.most, CEILING, "writing")

            def storm(index):
                for number in range(small):
                    publish(mount / f"small{index}-{number}", b"%d" % index * (100 * number + 1))

            in_parallel(storm)
            self.assert_below(watch.most, CEILING, "publishing")
            for index in range(THREADS):
                harness.wait_sealed(mount / f"big{index}")
            self.assert_below(watch.most, CEILING, "sealing")
            in_parallel(lambda index: self.assertEqual(read_direct(mount / f"big{index}", len(content)), digest))
            self.assert_below(watch.most, CEILING, "reading")
            for index in range(THREADS):
                for number in range(small):
                    expected = b"%d" % index * (100 * number + 1)
                    self.assertEqual(read_file(mount / f"small{index}-{number}"), expected)

            def remove(index):
                for number in range(small):
                    os.unlink(mount / f"small{index}-{number}")
                os.unlink(mount / f"big{index}")

            in_parallel(remove)
            wait_for(lambda: mount.stats()["lmdbfs_store_orphans"] == 0, what="all is removed")
            self.assertLessEqual(mount.stats()["lmdbfs_memory_bytes"], watch.most + MIB)
        self.assert_below(watch.most, CEILING, "at any time")
        print(f"most private memory: {watch.most / MIB:.1f} MiB")
        self.assert_clean()

    def test_more_files_than_there_is_room_for(self):
        """The kernel is asked to let others go before the list of those it holds is full: nobody is refused."""
        # 4 MiB of 16 are for leases: fewer than 400,000 files.
        directories, each = 450, 1000
        names = [f"f{number}" for number in range(each)]
        os.makedirs(self.path("tree"))
        for name in names:
            os.close(os.open(self.path("tree", name), os.O_CREAT | os.O_WRONLY))
        for index in range(directories):
            lmdbfs("import", "-q", self.store, self.path("tree"), f"d{index}")
        with mounted(self.store, "memory=16M") as mount, Watch(mount.pid) as watch:
            kept = os.open(mount / "d0/f0", os.O_RDONLY)
            os.chdir(mount / "d1")
            try:
                for index in range(directories):
                    self.assertEqual(sorted(os.listdir(mount / f"d{index}")), sorted(names))
                stats = mount.stats()
                self.assertGreater(stats["lmdbfs_forgotten_lookups_total"], 10_000)
                self.assertLess(stats["lmdbfs_lease_bytes"], 4 * MIB)
                self.assertEqual(os.fstat(kept).st_ino, os.stat(mount / "d0/f0").st_ino)
                self.assertEqual(sorted(os.listdir(".")), sorted(names))
                for index in range(directories):
                    self.assertEqual(os.stat(mount / f"d{index}/f999").st_size, 0)
            finally:
                os.chdir("/")
                os.close(kept)
        self.assert_below(watch.most, 16 * MIB, "at any time")


# ---------------------------------------------------------------------------------------------- in a cgroup --


class Cgroup:
    """A memory cgroup of our own: of version 2 where it has the memory controller, else of version 1."""

    def __init__(self, limit):
        self.first = False
        place = self.version_2() or self.version_1()
        self.path = os.path.join(place, f"lmdbfs-test-{os.getpid()}")
        os.mkdir(self.path)
        self.write("memory.limit_in_bytes" if self.first else "memory.max", limit)

    @staticmethod
    def mounts(kind, option=""):
        with open("/proc/self/mounts", encoding="utf-8") as file:
            for line in file:
                _, path, found, options = line.split()[:4]
                if found == kind and (not option or option in options.split(",")):
                    yield path

    def version_2(self):
        for path in self.mounts("cgroup2"):
            if "memory" in read_file(os.path.join(path, "cgroup.controllers")).decode().split():
                control = os.path.join(path, "cgroup.subtree_control")
                if "memory" not in read_file(control).decode().split():
                    write_file(control, b"+memory")
                return path
        return None

    def version_1(self):
        """Below the cgroup that we are in, so that its limits go on to hold."""
        self.first = True
        for path in self.mounts("cgroup", "memory"):
            with open("/proc/self/cgroup", encoding="utf-8") as file:
                own = next(line.rstrip("\n").split(":", 2)[2] for line in file if "memory" in line.split(":")[1].split(","))
            return os.path.join(path, own.lstrip("/"))
        raise AssertionError("no memory cgroup here: mount cgroup2, or the memory controller of version 1")

    def write(self, name, value):
        with open(os.path.join(self.path, name), "w", encoding="ascii") as file:
            file.write(str(value))

    def numbers(self, name):
        with open(os.path.join(self.path, name), encoding="ascii") as file:
            return {key: int(value) for key, value in (line.split() for line in file)}

    def add(self, pid):
        self.write("cgroup.procs", pid)

    def kills(self):
        return self.numbers("memory.oom_control" if self.first else "memory.events")["oom_kill"]

    def most(self):
        with open(os.path.join(self.path, "memory.max_usage_in_bytes" if self.first else "memory.peak"),
                  encoding="ascii") as file:
            return int(file.read())

    def remove(self):
        """The kernel takes a moment to see that its last process has ended."""

        def removed():
            with contextlib.suppress(OSError):
                os.rmdir(self.path)
            return not os.path.exists(self.path)

        wait_for(removed, what="the cgroup is empty")


class InACgroup(harness.Case):
    SIZE = 24 * MIB
    ROOM = 32 * MIB  # for the kernel on our behalf: page cache of the store, inodes, page tables

    def setUp(self):
        super().setUp()
        sizes = [0, 1, 300, 1926, 1927, 4080, 4081, 20_000, 131_073, 700_000]
        trees.make_tree(self.path("tree"), "memory", files=scaled(2000, least=200), sizes=sizes)
        self.facts = trees.scan(self.path("tree"))

    def test_every_kind_of_load(self):
        # The sanitizers' own memory is not what is looked at: they get the room that they need.
        room = self.ROOM if not SANITIZED else 2048 * MIB
        cgroup = Cgroup(self.SIZE + room)
        try:
            with mounted(self.store, f"memory={self.SIZE // MIB}M") as mount:
                cgroup.add(mount.pid)  # from here on all is counted; before, nothing was asked for
                with Watch(mount.pid) as watch:
                    self.load(mount)
                self.assertFalse(mount.ended(0), "the daemon was killed")
            self.assertEqual(cgroup.kills(), 0)
            if not SANITIZED:
                self.assertLessEqual(watch.most, self.SIZE)
                self.assertGreater(cgroup.most(), self.SIZE, "the load was no load")
            print(f"most private memory: {watch.most / MIB:.1f} MiB; of the cgroup: {cgroup.most() / MIB:.1f} MiB")
        finally:
            cgroup.remove()
        self.assert_clean()

    def load(self, mount):
        run("cp", "-a", self.path("tree"), mount / "copy")
        drop(3)
        run("grep", "-r", "-c", "no such text", mount / "copy", check=False)
        trees.assert_same(self, mount / "copy", self.facts, published=True)
        os.mkdir(mount.staging + "/tar")
        run("sh", "-c", 'tar -C "$1" --format=pax -c . | tar -C "$2" -x', "sh", self.path("tree"), mount.staging + "/tar")
        os.rename(mount.staging + "/tar", mount / "tar")
        self.large_file(mount)
        self.storm(mount)
        self.assert_refused("import", self.store, self.path("tree"))
        drop(3)
        trees.assert_same(self, mount / "tar", self.facts, published=True)
        run("rm", "-r", mount / "copy", mount / "tar")
        drop(2)
        wait_for(lambda: mount.stats()["lmdbfs_store_orphans"] == 0, what="all is removed")

    def large_file(self, mount):
        megabytes = scaled(512, least=64)
        digest = hashlib.md5()
        with open(mount.staging + "/large", "wb", buffering=0) as file:
            for _ in range(megabytes):
                content = os.urandom(MIB)
                digest.update(content)
                file.write(content)
        os.rename(mount.staging + "/large", mount / "large")
        wait_for(lambda: harness.is_sealed(mount / "large"), timeout=120, what="sealed")
        drop(3)
        expected = digest.hexdigest()
        in_parallel(lambda _: self.assertEqual(read_direct(mount / "large", megabytes * MIB), expected), 4)
        self.assertEqual(run("md5sum", mount / "large").stdout.split()[0], expected)

    def storm(self, mount):
        count = scaled(40, least=5)
        content = os.urandom(MIB)

        def publish_and_read(index):
            for number in range(count):
                part = content[index * 1000 : index * 1000 + 211 * number]
                publish(mount / f"file{index}", part, temporary=mount.staging + f"/{index}")
                self.assertEqual(read_file(mount / f"file{index}"), part)
            for _ in range(4):
                publish(mount / f"file{index}", content, temporary=mount.staging + f"/{index}")
                self.assertEqual(read_direct(mount / f"file{index}", MIB), hashlib.md5(content).hexdigest())

        in_parallel(publish_and_read)


if __name__ == "__main__":
    harness.main()
