# SPDX-License-Identifier: BSD-2-Clause
"""
What the kernel caches: a warm read asks the daemon nothing, names and contents are there before they are asked for,
and nothing of it is ever wrong.
"""

import collections
import ctypes
import errno
import mmap
import os
import random
import time

import harness
import trees
import versions
from harness import lmdbfs, mounted, publish, read_file, run, wait_for, wait_sealed, write_file

MS_SYNC = 4


def requests(mount):
    """By kind, without those by which the kernel tells that it has forgotten something, sooner or later."""
    prefix = 'lmdbfs_requests_total{op="'
    return collections.Counter({name[len(prefix):-2]: int(value) for name, value in mount.stats().items()
                                if name.startswith(prefix) and "forget" not in name})


def settled(mount):
    """The requests so far, once the daemon has no work of its own any more, and what it costs to ask for them."""
    counts = [requests(mount)]

    def still():
        counts.append(requests(mount))
        time.sleep(0.1)  # longer than the daemon lets pass before it looks after what was read
        counts.append(requests(mount))
        counts.append(requests(mount))
        return counts[-2] - counts[-3] == counts[-1] - counts[-2]

    wait_for(still, what="no requests of the daemon's own")
    return counts[-1], counts[-1] - counts[-2]


def drop_caches():
    with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as file:
        file.write("3")


def way(mount, of):
    for name in mount.stats():
        if name.startswith(f'lmdbfs_way_info{{of="{of}",'):
            return name.split('way="')[1].split('"')[0]
    raise AssertionError(f"nothing is said about {of}")


def map_and_add(root):
    """Every file mapped and every byte looked at."""
    total = 0
    for directory, _, names in os.walk(root):
        for name in names:
            descriptor = os.open(os.path.join(directory, name), os.O_RDONLY)  # open() would also ask for a terminal
            if os.fstat(descriptor).st_size:
                with mmap.mmap(descriptor, 0, mmap.MAP_SHARED, mmap.PROT_READ) as view:
                    total += sum(view[:])
            os.close(descriptor)
    return total


class WarmReads(harness.Case):
    """After the first pass the daemon hears nothing, whatever program reads."""

    def setUp(self):
        super().setUp()
        self.tree = trees.real_tree(self.directory)
        lmdbfs("import", self.store, self.tree)

    def check(self, command, options=()):
        with mounted(self.store, *options) as mount:
            self.assertEqual(way(mount, "open"), "by the kernel")
            expected = command(self.tree)
            self.assertEqual(command(mount.path), expected)
            for _ in range(5):  # others may drop the kernel's caches meanwhile
                before, cost = settled(mount)
                self.assertEqual(command(mount.path), expected)
                extra = requests(mount) - before - cost
                if not extra:
                    return
            self.fail(f"a warm pass made requests: {dict(extra)}")

    @staticmethod
    def shell(text):
        return lambda root: run("sh", "-c", f'cd "$0" && {text}', root).stdout

    def test_grep(self):
        self.check(self.shell("grep -r riscv . | sort | sha256sum"))

    def test_rg(self):
        self.check(self.shell("rg --no-config -j2 riscv | sort | sha256sum"))

    def test_find(self):
        self.check(self.shell("find . -type f -size +1k | sort | sha256sum"))

    def test_tar(self):
        self.check(self.shell("tar c --mode=0 --mtime=@0 --sort=name --format=gnu * | sha256sum"))

    def test_cat(self):
        self.check(self.shell("find . -type f | sort | xargs cat | sha256sum"))

    def test_map(self):
        self.check(map_and_add)

    def test_read_only_mount(self):
        self.check(self.shell("grep -r riscv . | sort | sha256sum"), options=["ro"])

    def test_stat_by_name(self):
        names = sorted(trees.scan(self.tree))

        def look(root):
            return [os.lstat(os.path.join(os.fsencode(root), name)).st_size for name in names
                    if not os.path.isdir(os.path.join(os.fsencode(self.tree), name))]

        self.check(look)

    def test_names_that_do_not_exist(self):
        self.check(lambda root: [os.path.exists(f"{root}/no-{index}") for index in range(100)])


class ColdReads(harness.Case):
    """Few requests, because names and contents are there before they are asked for."""

    def setUp(self):
        super().setUp()
        self.tree = trees.real_tree(self.directory)
        lmdbfs("import", self.store, self.tree)
        self.names = [name for name in sorted(trees.scan(self.tree))
                      if not os.path.isdir(os.path.join(os.fsencode(self.tree), name))]

    def test_contents_are_pushed(self):
        with mounted(self.store) as mount:
            expected = {name: read_file(os.path.join(os.fsencode(self.tree), name)) for name in self.names}
            os.listdir(mount.path)
            for name in self.names:
                self.assertEqual(read_file(mount / name), expected[name])
            self.assertGreater(mount.stats()["lmdbfs_pushed_files_total"], len(self.names) / 4)
            drop_caches()
            before = mount.stats()["lmdbfs_pushed_files_total"]
            for name in self.names:
                self.assertEqual(read_file(mount / name), expected[name])
            self.assertGreater(mount.stats()["lmdbfs_pushed_files_total"] - before, len(self.names) / 4,
                               "what was evicted is not pushed again")

    def test_a_listing_pushes_nothing(self):
        with mounted(self.store) as mount:
            run("find", mount.path, "-size", "+1k")
            settled(mount)
            self.assertEqual(mount.stats()["lmdbfs_pushed_files_total"], 0)

    def test_names_are_listed_before_they_are_looked_up(self):
        with mounted(self.store) as mount:
            before = requests(mount)
            for name in self.names:
                os.lstat(mount / name)
                if requests(mount)["readdirplus"] > 100:
                    break
            settled(mount)
            before = requests(mount)
            for name in self.names:
                os.lstat(mount / name)
            self.assertLess((requests(mount) - before)["lookup"], len(self.names) / 10)


class Changes(harness.Case):
    """Readers of every kind, while others replace, remove and create as fast as they can."""

    SECONDS = harness.scaled(20, least=6)
    NAMES = [f"{directory}/{name}" for directory in "abcdef" for name in range(40)]
    SIZES = (versions.HEADER, 500, 1926, 1927, 4080, 4081, 12_289, 65_536, 65_537, 131_073)

    def write(self, mount, floor, seed):
        """Replaces, removes and creates, each name in turn. floor[i]: the version that readers may count on."""
        maker = random.Random(seed)
        version = 0
        while time.monotonic() < self.end:
            version += 1
            for index in maker.sample(range(len(self.NAMES)), 40):
                if index % self.WRITERS != seed:
                    continue
                path = mount / self.NAMES[index]
                size = maker.choice(self.SIZES)
                if maker.random() < 0.2:
                    try:
                        os.unlink(path)
                    except FileNotFoundError:
                        pass
                publish(path, versions.content(self.NAMES[index], version, size), f"{path}.{seed}.tmp")
                floor[index] = version
        return version

    WRITERS = 2

    def read(self, mount, floor, way_to_read):
        looks = 0
        maker = random.Random()
        while time.monotonic() < self.end:
            if maker.random() < 0.05:
                for _ in os.scandir(mount / maker.choice("abcdef")):
                    pass
            for index in maker.sample(range(len(self.NAMES)), 20):
                least = floor[index]
                try:
                    found = way_to_read(mount / self.NAMES[index])
                except FileNotFoundError:
                    continue
                parsed = versions.parse(found)
                if parsed is None:
                    return f"a mixture in {self.NAMES[index]}: {found[:96]!r}, {len(found)} bytes"
                if parsed[0] != self.NAMES[index]:
                    return f"the content of {parsed[0]} in {self.NAMES[index]}"
                if parsed[1] < least:
                    return f"{self.NAMES[index]}: version {parsed[1]} after {least} was published"
                looks += 1
        return "never looked" if looks < 10 else "ok"

    @staticmethod
    def read_mapped(path):
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, mmap.MAP_SHARED, mmap.PROT_READ) as view:
            return view[:]

    @staticmethod
    def read_direct(path):
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECT)
        try:
            with mmap.mmap(-1, 1 << 18) as buffer:
                return buffer[: os.readv(descriptor, [buffer])]
        finally:
            os.close(descriptor)

    def test_old_or_new_never_mixed_never_stale(self):
        for directory in "abcdef":
            for name in range(40):
                key = f"{directory}/{name}"
                self.make_file(f"tree/{key}", versions.content(key, 0, self.SIZES[name % len(self.SIZES)]))
        lmdbfs("import", self.store, self.path("tree"))
        shared = mmap.mmap(-1, 8 * len(self.NAMES))
        floor = memoryview(shared).cast("q")
        with mounted(self.store) as mount:
            self.end = time.monotonic() + self.SECONDS
            writers = [harness.Child(self.write, mount, floor, seed) for seed in range(self.WRITERS)]
            readers = [harness.Child(self.read, mount, floor, way_to_read)
                       for way_to_read in (read_file, self.read_mapped, self.read_direct)]
            while time.monotonic() < self.end:
                drop_caches()  # the kernel takes pages away that are just being pushed
            for reader in readers:
                self.assertEqual(reader.result(), "ok")
            for writer in writers:
                self.assertGreater(writer.result(), 1)
            for name in self.NAMES:
                self.assertIsNotNone(versions.parse(read_file(mount / name)))
        self.assert_clean()


class Poison(harness.Case):
    """Root may open a published file for writing, and nobody can forbid it. It must do no harm that stays."""

    CONTENT = os.urandom(20_000)

    def setUp(self):
        super().setUp()
        self.make_file("tree/file", self.CONTENT)
        lmdbfs("import", self.store, self.path("tree"))

    def test_write(self):
        with mounted(self.store) as mount:
            with open(mount / "file", "rb") as file, \
                    mmap.mmap(file.fileno(), 0, mmap.MAP_SHARED, mmap.PROT_READ) as view:
                self.assertEqual(view[:], self.CONTENT)
                descriptor = os.open(mount / "file", os.O_WRONLY)
                with self.assert_errno(errno.EPERM):
                    os.pwrite(descriptor, b"poison", 5000)
                os.close(descriptor)
                wait_for(lambda: view[:] == self.CONTENT, what="the mapping shows the record again")
                self.assertEqual(read_file(mount / "file"), self.CONTENT)
        self.assert_clean()

    def test_mapping(self):
        libc = harness.LIBC
        with mounted(self.store) as mount:
            descriptor = os.open(mount / "file", os.O_RDWR)
            with mmap.mmap(descriptor, 0, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE) as view:
                os.close(descriptor)
                view[5000:5006] = b"poison"
                address = ctypes.addressof(ctypes.c_char.from_buffer(view))
                self.assertEqual(libc.msync(ctypes.c_void_p(address), len(view), MS_SYNC), -1)
                wait_for(lambda: view[:] == self.CONTENT, what="the mapping shows the record again")
            wait_for(lambda: read_file(mount / "file") == self.CONTENT, what="readers see the record again")
        self.assert_clean()

    def test_read_only_ways_in(self):
        """What to offer to the public: a read-only mount, or a read-only bind mount."""
        with mounted(self.store, "ro") as mount:
            with self.assert_errno(errno.EROFS):
                os.open(mount / "file", os.O_WRONLY)
        bind = self.path("bind")
        os.mkdir(bind)
        with mounted(self.store) as mount:
            run("mount", "--bind", mount.path, bind)
            try:
                run("mount", "-o", "remount,bind,ro", bind)
                with self.assert_errno(errno.EROFS):
                    os.open(bind + "/file", os.O_WRONLY)
                publish(mount / "file", b"new")
                self.assertEqual(read_file(bind + "/file"), b"new")
            finally:
                run("umount", bind)


class Sealing(harness.MountedCase):
    """The kernel doesn't tell when a file is closed; nevertheless it is sealed then, and not before."""

    def test_by_the_last_of_several_writers(self):
        path = self.mount / "file"
        first = os.open(path, os.O_CREAT | os.O_WRONLY)
        os.write(first, b"first ")
        second = harness.Child(self.append_when_told, path, self.path("go"))
        wait_for(lambda: os.path.exists(self.path("go.opened")), what="the second writer has it open")
        os.close(first)
        harness.write_file(self.path("go"), b"")
        self.assertTrue(second.result())
        wait_sealed(path)
        self.assertEqual(read_file(path), b"first second")

    @staticmethod
    def append_when_told(path, word):
        with open(path, "ab", buffering=0) as file:
            write_file(word + ".opened", b"")
            wait_for(lambda: os.path.exists(word), what="told to go on")
            unsealed = not harness.is_sealed(path)
            file.write(b"second")
        return unsealed

    def test_by_the_end_of_a_mapping(self):
        path = self.mount / "file"
        with open(path, "w+b") as file:
            file.truncate(10_000)
            view = mmap.mmap(file.fileno(), 0)
        view[:3] = b"abc"
        self.assertFalse(harness.is_sealed(path))
        os.rename(path, self.mount / "renamed")  # what the mapping holds goes with it
        view[9_000:9_003] = b"xyz"
        self.assertFalse(harness.is_sealed(self.mount / "renamed"))
        view.close()
        wait_sealed(self.mount / "renamed")
        self.assertEqual(read_file(self.mount / "renamed"), b"abc" + bytes(8997) + b"xyz" + bytes(997))

    def test_truncated_by_name(self):
        write_file(self.mount / "file", b"")
        os.truncate(self.mount / "file", 5000)
        wait_sealed(self.mount / "file")
        self.assertEqual(read_file(self.mount / "file"), bytes(5000))

    def test_many_at_once(self):
        names = [f"file{index}" for index in range(harness.scaled(300, least=100))]

        def write(part):
            for name in names[part::4]:
                with open(self.mount / name, "wb") as file:
                    file.write(name.encode() * 100)
            return True

        for child in [harness.Child(write, part) for part in range(4)]:
            self.assertTrue(child.result())
        for name in names:
            wait_sealed(self.mount / name)
            self.assertEqual(read_file(self.mount / name), name.encode() * 100)

    def test_when_unmounted_at_once(self):
        other = self.path("other")
        content = os.urandom(5000)
        for index in range(10):
            with mounted(other) as mount:
                write_file(mount / f"file{index}", content)
            self.assertEqual(harness.store_stat(other)["unsealed_files"], 0)
        with mounted(other) as mount:
            self.assertEqual([read_file(mount / f"file{index}") for index in range(10)], [content] * 10)


class Life(harness.Case):
    def test_unmounting_is_never_busy_because_of_the_daemon(self):
        tree = trees.real_tree(self.directory)
        lmdbfs("import", self.store, tree)
        for _ in range(harness.scaled(10, least=3)):
            with mounted(self.store) as mount:
                run("grep", "-rc", "riscv", mount.path)
                publish(mount / "new", b"x")
                run("umount", mount.path)

    def test_users_go_on_after_a_lazy_unmount(self):
        content = os.urandom(300_000)
        self.make_file("tree/file", content)
        lmdbfs("import", self.store, self.path("tree"))
        with mounted(self.store) as mount:
            with open(mount / "file", "rb", buffering=0) as file:
                self.assertEqual(file.read(1000), content[:1000])
                run("umount", "-l", mount.path)
                drop_caches()
                self.assertEqual(file.read(), content[1000:])
                self.assertFalse(mount.ended(0))
            self.assertTrue(mount.ended(30))

    def test_bind_mount_outlives_the_mount(self):
        self.make_file("tree/file", b"content")
        lmdbfs("import", self.store, self.path("tree"))
        bind = self.path("bind")
        os.mkdir(bind)
        with mounted(self.store) as mount:
            run("mount", "--bind", mount.path, bind)
            run("umount", mount.path)
            try:
                publish(bind + "/new", b"published")
                wait_sealed(bind + "/new")
                self.assertEqual(read_file(bind + "/file"), b"content")
            finally:
                run("umount", bind)
            self.assertTrue(mount.ended(30))
        self.assert_clean()

    # In a user namespace of its own root may mount, but not see who closes files.
    WITHOUT_RIGHTS = """
        set -e
        "$0" mount "$1" "$2"
        grep -q 'of="open",way="a request each"' "$2/.lmdbfs/stats"
        echo published > "$2/.lmdbfs/staging/new"
        mv "$2/.lmdbfs/staging/new" "$2/file"
        cat "$2/file"
        stat -c %a "$2/file"
        echo direct > "$2/direct"
        until [ "$(stat -c %a "$2/direct")" = 444 ]; do :; done
        stat -c %a "$2/direct"
        ! (echo x >> "$2/file") 2>/dev/null
        umount "$2"
    """

    def test_without_the_rights_that_it_takes(self):
        os.mkdir(self.path("mnt"))
        done = run("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", self.WITHOUT_RIGHTS, harness.LMDBFS,
                   self.store, self.path("mnt"))
        self.assertEqual(done.stdout, "published\n444\n444\n")
        wait_for(lambda: run(harness.LMDBFS, "check", self.store, check=False).returncode == 0, what="the daemon's end")
        self.assert_clean()


if __name__ == "__main__":
    harness.main()
