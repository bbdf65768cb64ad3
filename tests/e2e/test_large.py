# SPDX-License-Identifier: BSD-2-Clause
"""Large-record mode: what a mount is tuned for, clones handed over to the kernel, and content that is cached once."""

import contextlib
import ctypes
import errno
import hashlib
import mmap
import os
import random
import subprocess

import harness
import trees
from harness import Child, lmdbfs, mounted, publish, read_file, run, scaled, wait_for, wait_sealed, write_file

PAGE = mmap.PAGESIZE
MIB = 1 << 20
LEAST = MIB  # from which on a record is cloned
AT_OPEN = 8 * MIB  # up to which it is verified by the open
MOST_EXTENT = 4 * MIB
POSIX_FADV_DONTNEED = os.POSIX_FADV_DONTNEED

SIZES = (1, PAGE - 17, PAGE - 16, PAGE - 15, PAGE - 1, PAGE, PAGE + 1)
SIZES += tuple(limit + step for limit in (trees.EXTENT, LEAST, 2 * MOST_EXTENT) for step in (-PAGE, -1, 0, 1, PAGE))
SIZES += (19 * MIB + 4097,)


def content(size, salt=0):
    return random.Random(f"{size} {salt}").randbytes(size)


def way(mount, of):
    """(way, why) that the mount tells of."""
    prefix = f'lmdbfs_way_info{{of="{of}",way="'
    for name in mount.stats():
        if name.startswith(prefix):
            return tuple(name[len(prefix) : -2].split('",why="'))
    raise AssertionError(f"the mount says nothing about {of}")


def reads(mount):
    return mount.stats()['lmdbfs_requests_total{op="read"}']


def reads_for(mount, name, wanted, case):
    """The READ requests that it takes to read a file, which has to be that."""
    looking = -reads(mount) + reads(mount)  # what a look at the counters costs by itself
    before = reads(mount)
    case.assertEqual(read_file(mount / name), wanted, name)
    return reads(mount) - before - looking


def resident(file, size):
    """How many bytes of an open file are in the page cache."""
    with mmap.mmap(file.fileno(), size, prot=mmap.PROT_READ) as view:
        pages = (size + PAGE - 1) // PAGE
        vector = (ctypes.c_ubyte * pages)()
        address = ctypes.c_void_p()
        length = ctypes.c_ssize_t()
        buffer = ctypes.py_object(view)
        raw = (ctypes.c_char * 80)()  # a Py_buffer: its first field is the address
        ctypes.pythonapi.PyObject_GetBuffer(buffer, raw, 0)
        try:
            address.value, length.value = ctypes.c_void_p.from_buffer(raw).value, size
            if harness.LIBC.mincore(address, ctypes.c_size_t(size), vector) != 0:
                raise OSError(ctypes.get_errno(), "mincore")
        finally:
            ctypes.pythonapi.PyBuffer_Release(raw)
        return sum(entry & 1 for entry in vector) * PAGE


def drop(path):
    """Put a file's pages out of the cache."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, POSIX_FADV_DONTNEED)


def flip(store, bytes_, position):
    """Flip a bit of that content, wherever data.mdb has it."""
    pattern = bytes_[position : position + 32]
    with open(harness.data_file(store), "r+b") as file, mmap.mmap(file.fileno(), 0) as data:
        place = data.find(pattern)
        if place < 0 or data.find(pattern, place + 1) >= 0:
            raise AssertionError("the content is not once in data.mdb")
        data[place] ^= 0x10


class Decisions(harness.Case):
    def decided(self, *options):
        with mounted(self.store, *options) as mount:
            return way(mount, "records")

    def test_an_empty_store_is_small(self):
        self.assertEqual(self.decided()[0], "small")

    def test_auto_goes_by_what_the_store_holds(self):
        for index in range(300):
            self.make_file(f"tree/{index}", content(2000, index))
        lmdbfs("import", self.store, self.path("tree"))
        mode, why = self.decided()
        self.assertEqual(mode, "small")
        self.assertRegex(why, r"30[0-9] records of \d+ KiB on average")
        os.mkdir(self.path("more"))
        write_file(self.path("more/one"), content(3 * MIB))
        lmdbfs("import", self.store, self.path("more"))
        self.assertEqual(self.decided()[0], "small")
        for index in range(scaled(35, 35)):
            write_file(self.path(f"more/{index}"), content(3 * MIB, index))
        lmdbfs("import", self.store, self.path("more"), "more")
        self.assertEqual(self.decided()[0], "large")

    def test_the_option_decides(self):
        self.assertEqual(self.decided("records=large"), ("large", "option records=large"))
        self.assertEqual(self.decided("records=small"), ("small", "option records=small"))
        self.assertEqual(self.decided("records=auto")[0], "small")

    def test_verifying_always_excludes_clones(self):
        with mounted(self.store, "records=large", "verify=always") as mount:
            self.assertEqual(way(mount, "large"), ("direct I/O", "verify=always, and the kernel compares nothing"))

    def test_nonsense_is_refused(self):
        os.mkdir(self.path("mnt"))
        for option in ("records=huge", "records=", "records", "clones=-1", "clones=many"):
            self.assert_refused("mount", "-o", option, self.store, self.path("mnt"), code=2, says=[option])


class Cached(harness.Case):
    """Where blocks can't be shared, content goes through the daemon, and is in memory only once."""

    def setUp(self):
        super().setUp()
        self.disk = self.enterContext(harness.small_disk(self.directory, 700))
        self.store = os.path.join(self.disk, "store")

    def test_content_is_right_and_cached_once(self):
        size = scaled(200, 40) * MIB
        bytes_ = {name: content(size // 2, name) for name in ("a", "b")} | {str(s): content(s) for s in SIZES}
        for name, value in bytes_.items():
            self.make_file("tree/" + name, value)
        lmdbfs("import", self.store, self.path("tree"))
        with mounted(self.store, "records=large") as mount:
            self.assertEqual(way(mount, "large"), ("direct I/O", "the store lies on ext4, which can't share blocks"))
            self.assertEqual(way(mount, "readahead")[0], "1 MiB")
            drop(harness.data_file(self.store))
            for name, value in bytes_.items():
                self.assertEqual(read_file(mount / name), value, name)
            with open(mount / "a", "rb") as file:  # the kernel may have found some of it old
                self.assertGreater(resident(file, size // 2), size // 2 * 8 // 10)
            with open(harness.data_file(self.store), "rb") as file:
                left = resident(file, os.fstat(file.fileno()).st_size)
            self.assertLess(left, size // 10, "payload is cached among the pages of data.mdb as well")
            wait_for(lambda: reads_for(mount, "a", bytes_["a"], self) == 0, what="a warm read without requests")

    def test_small_mode_reads_as_ever(self):
        self.make_file("tree/a", content(3 * MIB))
        lmdbfs("import", self.store, self.path("tree"))
        with mounted(self.store, "records=small") as mount:
            self.assertEqual(way(mount, "large")[0], "pread")
            self.assertEqual(way(mount, "open")[0], "by the kernel")
            self.assertEqual(read_file(mount / "a"), content(3 * MIB))

    def test_mapped_at_random_places(self):
        bytes_ = content(40 * MIB)
        self.make_file("tree/a", bytes_)
        lmdbfs("import", self.store, self.path("tree"))
        maker = random.Random(1)
        with mounted(self.store, "records=large") as mount, open(mount / "a", "rb") as file:
            drop(harness.data_file(self.store))
            with mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as view:
                for _ in range(2000):
                    place = maker.randrange(len(bytes_) - 100)
                    self.assertEqual(view[place : place + 100], bytes_[place : place + 100])

    def test_damage_is_an_error(self):
        bytes_ = content(12 * MIB)
        self.make_file("tree/a", bytes_)
        lmdbfs("import", self.store, self.path("tree"))
        flip(self.store, bytes_, 7 * MIB + 4)
        with mounted(self.store, "records=large") as mount, open(mount / "a", "rb") as file:
            self.assertEqual(os.pread(file.fileno(), MIB, 0), bytes_[:MIB])
            with self.assert_errno(errno.EIO):
                os.pread(file.fileno(), 100, 7 * MIB)
            self.assertEqual(os.pread(file.fileno(), MIB, 10 * MIB), bytes_[10 * MIB : 11 * MIB])
            self.assertGreaterEqual(mount.stats()["lmdbfs_store_damages_total"], 1)


class Cloned:
    """On a filesystem that can share blocks: the kernel reads large records by itself."""

    kind = None

    def setUp(self):
        super().setUp()
        self.disk = self.enterContext(harness.small_disk(self.directory, 1500, self.kind))
        self.store = os.path.join(self.disk, "store")
        self.point = self.path("mnt")

    def fill(self, files):
        for name, bytes_ in files.items():
            self.make_file("tree/" + name, bytes_)
        lmdbfs("import", self.store, self.path("tree"))

    def mounted(self, *options):
        return mounted(self.store, "records=large", *options, at=self.point)

    def test_unit_tests_of_clones(self):
        """Those that are skipped where blocks can't be shared."""
        program = os.path.join(os.path.dirname(harness.LMDBFS), "tests", "test_clone")
        done = run(program, env=os.environ | {"TMPDIR": self.disk}, check=False)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertNotIn("SKIPPED", done.stdout + done.stderr)

    def test_content(self):
        files = {str(size): content(size) for size in SIZES}
        self.fill(files)
        with self.mounted() as mount:
            self.assertEqual(way(mount, "large"), ("reflink + passthrough", ""))
            self.assertEqual(way(mount, "open")[0], "a request each")
            for name, bytes_ in files.items():
                asked = reads_for(mount, name, bytes_, self)
                if len(bytes_) > 2 * trees.EXTENT:  # small ones may be there before they are asked for
                    self.assertEqual(asked > 0, len(bytes_) < LEAST, f"{len(bytes_)} bytes: {asked} READs")
                run("cmp", mount / name, self.path("tree/" + name))
            large = [size for size in SIZES if size >= LEAST]
            stats = mount.stats()
            self.assertEqual(stats["lmdbfs_clones_made_total"], len(large))
            self.assertEqual(stats["lmdbfs_clone_hits_total"], len(large))
            self.assertEqual(stats["lmdbfs_clones_refused_total"], 0)
            self.assertEqual(stats["lmdbfs_store_damages_total"], 0)
        self.assert_clean()

    def test_mapped_at_random_places(self):
        bytes_ = content(40 * MIB)
        self.fill({"a": bytes_})
        maker = random.Random(1)
        with self.mounted() as mount, open(mount / "a", "rb") as file:
            with mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as view:
                for _ in range(2000):
                    place = maker.randrange(len(bytes_) - 100)
                    self.assertEqual(view[place : place + 100], bytes_[place : place + 100])

    def test_pages_outlive_the_close(self):
        self.fill({"a": content(5 * MIB)})
        with self.mounted() as mount:
            read_file(mount / "a")
            wait_for(lambda: mount.stats()["lmdbfs_clones_kept"] == 1, what="a clone is kept")
            drop(harness.data_file(self.store))
            with open(mount / "a", "rb") as file:
                self.assertEqual(resident(file, 5 * MIB), 5 * MIB)

    def test_old_version_stays_mapped(self):
        """Replaced and removed, and LMDB uses its pages again."""
        old, new = content(9 * MIB, "old"), content(9 * MIB, "new")
        self.fill({"a": old, "b": old})
        with self.mounted() as mount, contextlib.ExitStack() as stack:
            views = []
            for name in ("a", "b"):
                file = stack.enter_context(open(mount / name, "rb"))
                views.append(stack.enter_context(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)))
            publish(mount / "a", new)
            os.unlink(mount / "b")
            for index in range(scaled(6, 2)):
                publish(mount / "c", content(9 * MIB, index))
                wait_sealed(mount / "c")
            wait_sealed(mount / "a")
            self.assertEqual(read_file(mount / "a"), new)
            for view in views:
                self.assertEqual(hashlib.sha256(view).digest(), hashlib.sha256(old).digest())
            stack.close()
            # A record without a name and its clone would only take disk.
            names = {"a": 1, "c": 1}
            wait_for(lambda: mount.stats()["lmdbfs_clones"] <= len(names), what="clones of nameless records go")
            wait_for(lambda: mount.stats()["lmdbfs_store_orphans"] == 0, what="no orphans")
        self.assert_clean()

    def test_least_recently_closed_goes_first(self):
        files = {str(index): content(LEAST, index) for index in range(8)}
        self.fill(files)
        with self.mounted("clones=3") as mount:
            for _ in range(3):
                for name, bytes_ in files.items():
                    self.assertEqual(read_file(mount / name), bytes_)
            wait_for(lambda: mount.stats()["lmdbfs_clones_kept"] == 3, what="3 are kept")
            stats = mount.stats()
            self.assertEqual(stats["lmdbfs_clones"], 3)
            self.assertEqual(stats["lmdbfs_clones_made_total"], 24)
            self.assertEqual(stats["lmdbfs_clones_evicted_total"], 21)
            for name in ("5", "6", "7"):
                read_file(mount / name)
            self.assertEqual(mount.stats()["lmdbfs_clone_hits_total"], 3)
            # What is open isn't counted, and not given up.
            with contextlib.ExitStack() as stack:
                for name, bytes_ in files.items():
                    file = stack.enter_context(open(mount / name, "rb"))
                    self.assertEqual(file.read(), bytes_)
                self.assertEqual(mount.stats()["lmdbfs_clones"], 8)
        with self.mounted("clones=0") as mount:
            self.assertEqual(read_file(mount / "0"), files["0"])
            wait_for(lambda: mount.stats()["lmdbfs_clones"] == 0, what="none is kept")

    def test_mapping_outlives_the_daemon(self):
        bytes_ = content(12 * MIB)
        self.fill({"a": bytes_})
        with self.mounted() as mount:
            # A page that must come from the daemon would be a SIGBUS here: in a process of its own.
            reader, writer = os.pipe()

            def look():
                with open(mount / "a", "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as view:
                    first = view[:10]
                    os.write(writer, b".")
                    if not os.read(stop, 1):
                        raise AssertionError("no word from the test")
                    return first + hashlib.sha256(view).digest()

            stop, go = os.pipe()
            child = Child(look)
            self.assertEqual(os.read(reader, 1), b".")
            mount.kill()
            with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as file:
                file.write("1")
            os.write(go, b".")
            self.assertEqual(child.result(), bytes_[:10] + hashlib.sha256(bytes_).digest())
            for descriptor in (reader, writer, stop, go):
                os.close(descriptor)
            with self.assert_errno(errno.ENOTCONN):
                read_file(mount / "a")
        with self.mounted() as mount:
            self.assertEqual(read_file(mount / "a"), bytes_)

    @staticmethod
    def is_refused(path):
        try:
            read_file(path)
        except OSError as error:
            return error.errno == errno.EIO
        return False

    def test_damage_is_found(self):
        """Before the first open of a record that is quickly read, behind it of a larger one."""
        small, large = content(AT_OPEN), content(AT_OPEN + 1)
        self.fill({"small": small, "large": large, "good": content(LEAST)})
        flip(self.store, small, 3 * MIB + 5)
        flip(self.store, large, AT_OPEN - 40)
        with self.mounted() as mount:
            with self.assert_errno(errno.EIO):
                read_file(mount / "small")
            self.assertEqual(mount.stats()["lmdbfs_store_damages_total"], 1)
            with open(mount / "large", "rb") as file:
                self.assertEqual(file.read(MIB), large[:MIB])
                wait_for(lambda: mount.stats()["lmdbfs_store_damages_total"] == 2, what="the damage is found")
                wait_for(lambda: self.is_refused(mount / "large"), what="nobody opens it any more")
            for name in ("small", "large"):
                for _ in range(3):
                    with self.assert_errno(errno.EIO):
                        read_file(mount / name)
            self.assertEqual(read_file(mount / "good"), content(LEAST))
            self.assertEqual(mount.stats()["lmdbfs_store_damages_total"], 2)

    def test_damage_is_named(self):
        small = content(5 * MIB)
        self.fill({"directory/rotten": small})
        flip(self.store, small, 3 * MIB + 5)
        os.mkdir(self.point)
        with open(self.path("log"), "w+b") as log:
            command = [harness.LMDBFS, "mount", "-f", "-o", "records=large", self.store, self.point]
            with subprocess.Popen(command, stderr=log) as daemon:
                wait_for(lambda: harness.is_mounted(self.point), what="mounted")
                try:
                    with self.assert_errno(errno.EIO):
                        read_file(os.path.join(self.point, "directory/rotten"))
                finally:
                    run("umount", self.point)
                self.assertEqual(daemon.wait(), 0)
            log.seek(0)
            lines = log.read().decode().splitlines()
        extent = (3 * MIB + 5) // (256 << 10) * (256 << 10)
        self.assertEqual(len(lines), 1, lines)
        self.assertIn("directory/rotten: damaged: wrong bytes", lines[0])
        self.assertIn(f"offset {extent} ", lines[0])

    def test_opened_before_it_is_sealed(self):
        """All who have a file open at a time go the same way; the kernel gives EIO otherwise."""
        bytes_ = content(3 * MIB)
        with self.mounted() as mount, contextlib.ExitStack() as stack:
            writer = stack.enter_context(open(mount / "a", "wb"))
            writer.write(bytes_)
            writer.flush()
            early = stack.enter_context(open(mount / "a", "rb"))
            self.assertEqual(early.read(), bytes_)
            writer.close()
            wait_sealed(mount / "a")
            late = stack.enter_context(open(mount / "a", "rb"))
            self.assertEqual(late.read(), bytes_)
            with mmap.mmap(late.fileno(), 0, prot=mmap.PROT_READ) as view:
                early.close()
                self.assertEqual(read_file(mount / "a"), bytes_)
                self.assertEqual(view[:], bytes_)
            self.assertEqual(mount.stats()["lmdbfs_clones_made_total"], 0)
            late.close()

            def cloned():
                self.assertEqual(read_file(mount / "a"), bytes_)
                return mount.stats()["lmdbfs_clones_made_total"] == 1

            wait_for(cloned, what="when all have closed it, it is cloned")
            with open(mount / "a", "rb") as file:
                self.assertEqual(file.read(), bytes_)
                with self.assert_errno(errno.EPERM):
                    os.open(mount / "a", os.O_RDWR)
        self.assert_clean()

    def test_many_open_the_same(self):
        """At once, while it is being cloned for the first of them."""
        files = {str(index): content(2 * MIB, index) for index in range(4)}
        digests = {name: hashlib.sha256(bytes_).digest() for name, bytes_ in files.items()}
        self.fill(files)

        def look(mount, seed):
            maker = random.Random(seed)
            for _ in range(scaled(150, 30)):
                name = maker.choice(sorted(files))
                if hashlib.sha256(read_file(mount / name)).digest() != digests[name]:
                    return name
            return None

        with self.mounted("clones=1") as mount:
            children = [Child(look, mount, seed) for seed in range(6)]
            for child in children:
                self.assertIsNone(child.result())
            self.assertEqual(mount.stats()["lmdbfs_clones_refused_total"], 0)

    def test_readers_while_it_is_replaced(self):
        """Old or new, never a mixture, never an error."""
        versions = [content(2 * MIB, index) for index in range(3)]
        known = {hashlib.sha256(version).digest() for version in versions}
        self.fill({"a": versions[0]})

        stop = self.path("stop")

        def look(mount):
            while not os.path.exists(stop):
                if hashlib.sha256(read_file(mount / "a")).digest() not in known:
                    return False
            return True

        with self.mounted() as mount:
            children = [Child(look, mount) for _ in range(3)]
            for index in range(scaled(60, 20)):
                publish(mount / "a", versions[index % 3])
            write_file(stop, b"")
            for child in children:
                self.assertTrue(child.result())
        self.assert_clean()


class Xfs(Cloned, harness.Case):
    kind = "xfs"


class Btrfs(Cloned, harness.Case):
    kind = "btrfs"


if __name__ == "__main__":
    harness.main()
