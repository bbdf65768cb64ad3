# SPDX-License-Identifier: BSD-2-Clause
"""Reading a mounted store with programs that know nothing of it."""

import ctypes
import errno
import mmap
import os
import random
import shutil
import stat
import tempfile

import xxhash

import harness
import trees
from harness import as_user, lmdbfs, mounted, read_file, run, store_stat, write_file


class Programs(harness.Case):
    """Each program must say the same about the mount as about the tree that was imported."""

    @classmethod
    def setUpClass(cls):
        shared = tempfile.mkdtemp(prefix="lmdbfs-e2e-", dir=harness.disk_directory())
        cls.addClassCleanup(shutil.rmtree, shared)
        cls.shared_store = os.path.join(shared, "store")
        cls.tree = trees.real_tree(shared)
        os.symlink("large", os.path.join(cls.tree, "link"))
        write_file(os.path.join(cls.tree, "large"), random.Random(1).randbytes(3_000_000))
        lmdbfs("import", cls.shared_store, cls.tree)

    def setUp(self):
        super().setUp()
        self.mount = self.enterContext(mounted(self.shared_store, at=self.path("mnt")))

    def both(self, *command, **options):
        """Run the command in both trees; what it says must be equal and not empty."""
        expected = run(*command, cwd=self.tree, **options).stdout
        found = run(*command, cwd=self.mount.path, **options).stdout
        self.assertNotEqual(expected, "")
        self.assertEqual(sorted(expected.splitlines()), sorted(found.splitlines()))

    def test_cat(self):
        self.both("sh", "-c", "find -type f -exec cat {} + | wc -c")
        self.assertEqual(run("cat", self.mount / "large", text=False).stdout, read_file(self.tree + "/large"))

    def test_grep(self):
        self.both("grep", "-r", "-c", "a", ".")
        self.both("grep", "-r", "-l", "abc", ".")

    def test_ripgrep(self):
        self.both("rg", "--no-config", "-c", "a")
        self.both("rg", "--no-config", "--mmap", "-c", "a")

    def test_cmp_and_diff(self):
        run("cmp", self.tree + "/large", self.mount / "large")
        run("diff", "-r", self.tree, self.mount.path)

    def test_find(self):
        self.both("find")
        self.both("find", "-type", "f", "-printf", r"%p %s %T@ %u %g %n\n")
        self.both("find", "-type", "f", "-size", "+8k")
        self.both("find", "-type", "l", "-printf", r"%p %l\n")

    def test_find_by_inode_number(self):
        number = os.stat(self.mount / "large").st_ino
        self.assertEqual(run("find", self.mount.path, "-inum", str(number)).stdout.split(), [self.mount / "large"])

    def test_sums(self):
        self.both("sh", "-c", "find -type f -print0 | sort -z | xargs -0 md5sum")

    def test_tar(self):
        os.mkdir(self.path("out"))
        run("sh", "-c", 'tar -C "$0" --format=posix -cf - . | tar -C "$1" -xf -', self.mount.path, self.path("out"))
        trees.assert_same(self, trees.scan(self.mount.path), trees.scan(self.path("out")))

    def test_cp(self):
        run("cp", "-a", self.mount.path + "/.", self.path("out"))
        trees.assert_same(self, self.mount.path, self.path("out"))
        trees.assert_same(self, self.tree, self.path("out"), published=True)

    def test_rsync_finds_nothing_to_do(self):
        done = run("rsync", "-a", "--no-perms", "-i", "--dry-run", "--checksum", self.tree + "/", self.mount.path)
        self.assertEqual([line for line in done.stdout.splitlines() if not line.startswith(".d")], [])

    def test_many_readers_at_once(self):
        expected = trees.scan(self.tree)

        def read_all(seed):
            paths = [path for path, facts in expected.items() if "digest" in facts]
            random.Random(seed).shuffle(paths)
            for path in paths[: harness.scaled(1500, least=300)]:
                if trees.digest(self.mount / path) != expected[path]["digest"]:
                    return path
            return None

        for child in [harness.Child(read_all, seed) for seed in range(8)]:
            self.assertIsNone(child.result())


class Content(harness.Case):
    """Every size at which the layout changes, read in every way."""

    def setUp(self):
        super().setUp()
        maker = random.Random("content")
        self.contents = {size: maker.randbytes(size) for size in trees.BOUNDARIES}
        for size, content in self.contents.items():
            self.make_file(f"tree/{size}", content)
        lmdbfs("import", self.store, self.path("tree"))

    def test_read_and_map(self):
        with mounted(self.store) as mount:
            for size, content in self.contents.items():
                with self.subTest(size), open(mount / str(size), "rb") as file:
                    self.assertEqual(os.fstat(file.fileno()).st_size, size)
                    self.assertEqual(file.read(), content)
                    self.assertEqual(os.pread(file.fileno(), 10, size), b"")
                    self.assertEqual(os.pread(file.fileno(), 10, size + 100_000), b"")
                    if size:
                        with mmap.mmap(file.fileno(), size, mmap.MAP_SHARED, mmap.PROT_READ) as view:
                            self.assertEqual(view[:], content)
                        with mmap.mmap(file.fileno(), size, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE) as view:
                            view[0] = 0  # a private copy: allowed, and nobody else's business
                            self.assertEqual(view[1:], content[1:])
                    self.assertEqual(file.seek(0) or file.read(), content)

    def test_pieces_in_any_order(self):
        """A fresh mount for each way, so that the pieces come from the daemon and not from the page cache."""
        maker = random.Random("pieces")
        for flags in (os.O_RDONLY, os.O_RDONLY | os.O_DIRECT):
            with mounted(self.store) as mount:
                for size, content in self.contents.items():
                    descriptor = os.open(mount / str(size), flags)
                    try:
                        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)
                        for _ in range(20):
                            unit = 4096 if flags & os.O_DIRECT else 1
                            start = maker.randint(0, size) // unit * unit
                            length = maker.choice((4096, 8192, 131072, 1 << 20))
                            buffer = mmap.mmap(-1, length)  # page aligned, as O_DIRECT wants it
                            count = os.preadv(descriptor, [buffer], start)
                            self.assertEqual(buffer[:count], content[start : start + length], (size, start, length))
                    finally:
                        os.close(descriptor)

    def test_random_page_faults(self):
        size = 5_000_000
        with mounted(self.store) as mount, open(mount / str(size), "rb") as file:
            with mmap.mmap(file.fileno(), size, mmap.MAP_SHARED, mmap.PROT_READ) as view:
                view.madvise(mmap.MADV_RANDOM)
                pages = list(range(0, size, 4096))
                random.Random(3).shuffle(pages)
                for page in pages:
                    self.assertEqual(view[page : page + 64], self.contents[size][page : page + 64])

    def test_sendfile(self):
        with mounted(self.store) as mount:
            for size, content in self.contents.items():
                with open(mount / str(size), "rb") as source, open(self.path("out"), "wb") as target:
                    sent = 0
                    while count := os.sendfile(target.fileno(), source.fileno(), sent, 1 << 20):
                        sent += count
                self.assertEqual(read_file(self.path("out")), content)

    def test_copy_file_range(self):
        with mounted(self.store) as mount:
            for size, content in self.contents.items():
                shutil.copyfile(mount / str(size), self.path("out"))
                self.assertEqual(read_file(self.path("out")), content)
                run("cp", "--reflink=auto", mount / str(size), self.path("out"))
                self.assertEqual(read_file(self.path("out")), content)

    def test_hash_attribute(self):
        with mounted(self.store) as mount:
            for size, content in self.contents.items():
                path = mount / str(size)
                found = os.getxattr(path, "user.lmdbfs.xxh3").decode()
                self.assertEqual(found, xxhash.xxh3_128_hexdigest(content), size)
                self.assertIn("user.lmdbfs.xxh3", os.listxattr(path))
                with self.assert_errno(errno.ENODATA):
                    os.getxattr(path, "user.something")
            with self.assert_errno(errno.EPERM, errno.ENOTSUP, errno.EACCES):
                os.setxattr(mount / "100", "user.lmdbfs.xxh3", b"0" * 32)
            with self.assert_errno(errno.ENODATA, errno.ENOTSUP):
                os.getxattr(mount.path, "user.lmdbfs.xxh3")
            text = run("getfattr", "-n", "user.lmdbfs.xxh3", "--only-values", mount / "777").stdout
            self.assertEqual(text, xxhash.xxh3_128_hexdigest(self.contents[777]))

    def test_hash_attribute_of_what_was_written_here(self):
        with mounted(self.store) as mount:
            for size in (1, 1926, 1927, 5000, 200_000):
                path = mount / f"new{size}"
                content = os.urandom(size)
                harness.publish(path, content)
                harness.wait_sealed(path)
                self.assertEqual(os.getxattr(path, "user.lmdbfs.xxh3").decode(), xxhash.xxh3_128_hexdigest(content))


class Status(harness.Case):
    def test_inode_numbers_are_stable_and_never_reused(self):
        trees.make_tree(self.path("tree"), "inodes", files=40)
        lmdbfs("import", self.store, self.path("tree"))

        def numbers(mount):
            return {path: os.lstat(mount / path).st_ino for path in trees.scan(mount.path)}

        with mounted(self.store) as mount:
            first = numbers(mount)
            links = sum(facts["same as"] != path for path, facts in trees.scan(mount.path).items() if "links" in facts)
            self.assertEqual(len(set(first.values())), len(first) - links)
            for entry in os.scandir(mount.path.encode()):
                self.assertEqual(entry.inode(), first[entry.name])
        with mounted(self.store) as mount:
            self.assertEqual(numbers(mount), first)
            seen = set(first.values())
            for _ in range(30):
                harness.publish(mount / "new", b"x")
                number = os.stat(mount / "new").st_ino
                self.assertNotIn(number, seen)
                seen.add(number)
        with mounted(self.store) as mount:
            write_file(mount / "newer", b"x")
            self.assertNotIn(os.stat(mount / "newer").st_ino, seen)

    def test_what_stat_says(self):
        with mounted(self.store) as mount:
            write_file(mount / "file", b"x" * 10_000)
            os.mkdir(mount / "directory", 0o750)
            os.symlink("target", mount / "link")
            harness.wait_sealed(mount / "file")
            status = os.stat(mount / "file")
            self.assertEqual(stat.filemode(status.st_mode), "-r--r--r--")
            self.assertEqual((status.st_size, status.st_nlink, status.st_uid), (10_000, 1, 0))
            self.assertGreaterEqual(status.st_blocks * 512, 10_000)
            self.assertLess(status.st_blocks * 512, 40_000)
            self.assertEqual(stat.filemode(os.stat(mount / "directory").st_mode), "drwxr-x---")
            link = os.lstat(mount / "link")
            self.assertEqual((stat.filemode(link.st_mode), link.st_size), ("lrwxrwxrwx", 6))
            self.assertGreater(status.st_dev, 0)

    def test_du_tells_about_what_the_store_takes(self):
        for index in range(50):
            self.make_file(f"tree/{index}", os.urandom(10_000))
        lmdbfs("import", self.store, self.path("tree"))
        with mounted(self.store) as mount:
            taken = int(run("du", "-s", "-B1", mount.path).stdout.split()[0])
        self.assertGreater(taken, 500_000)
        self.assertLess(taken, 2 * store_stat(self.store)["file_bytes"])

    def test_statfs(self):
        """df's numbers: what the disk below has left, and no more used than the store is large."""
        lmdbfs("import", self.store, os.path.dirname(self.make_file("tree/file", os.urandom(2_000_000))))
        with mounted(self.store) as mount:
            ours, disk = os.statvfs(mount.path), os.statvfs(self.store)
            self.assertEqual(ours.f_namemax, 255)
            free, available = ours.f_bfree * ours.f_frsize, ours.f_bavail * ours.f_frsize
            self.assertLessEqual(available, free)
            self.assertAlmostEqual(available, disk.f_bavail * disk.f_frsize, delta=4 << 30)  # others use the disk too
            used = (ours.f_blocks - ours.f_bfree) * ours.f_frsize
            self.assertGreaterEqual(used, 2_000_000)
            self.assertLessEqual(used, disk.f_blocks * disk.f_frsize)
            self.assertGreater(ours.f_files, 0)
            run("df", mount.path)
            run("df", "-i", mount.path)

    def test_statfs_of_a_read_only_mount(self):
        lmdbfs("import", self.store, os.path.dirname(self.make_file("tree/file")))
        with mounted(self.store, "ro") as mount:
            self.assertTrue(os.statvfs(mount.path).f_flag & os.ST_RDONLY)

    def test_permissions_are_enforced(self):
        with mounted(self.store, "allow_other") as mount:
            os.chmod(mount.path, 0o755)
            write_file(mount / "private", b"secret")
            os.chmod(mount / "private", 0o600)
            write_file(mount / "public", b"for all")
            os.mkdir(mount / "closed", 0o700)
            write_file(mount / "closed/file", b"x")
            self.assertEqual(as_user(read_file, mount / "public"), b"for all")
            for action in (
                lambda: read_file(mount / "private"),
                lambda: read_file(mount / "closed/file"),
                lambda: os.listdir(mount / "closed"),
                lambda: write_file(mount / "new", b""),
                lambda: os.unlink(mount / "public"),
                lambda: os.rename(mount / "public", mount / "other"),
            ):
                with self.assert_errno(errno.EACCES):
                    as_user(action)
            for action in (lambda: os.chmod(mount / "public", 0o777), lambda: os.chown(mount / "public", 1, 1)):
                with self.assert_errno(errno.EPERM):
                    as_user(action)

    def test_others_are_kept_out_without_allow_other(self):
        with mounted(self.store) as mount:
            write_file(mount / "file", b"x")
            if "allow_other" not in run("findmnt", "-n", "-o", "OPTIONS", mount.path).stdout:
                with self.assert_errno(errno.EACCES):
                    as_user(os.listdir, mount.path)
            else:
                self.assertEqual(as_user(os.listdir, mount.path), ["file"])


class Protection(harness.Case):
    """Published files can't be changed, by nobody and in no way."""

    def setUp(self):
        super().setUp()
        self.contents = {size: os.urandom(size) for size in (1, 2000, 4090, 200_000)}
        for size, content in self.contents.items():
            self.make_file(f"tree/{size}", content)
        os.chown(self.path("tree", "2000"), harness.NOBODY, harness.NOBODY)
        lmdbfs("import", self.store, self.path("tree"))

    @staticmethod
    def write(path, flags):
        """Opening may go well, for who may do anything: where the kernel doesn't ask. Writing never does."""
        descriptor = os.open(path, os.O_WRONLY | flags)
        try:
            os.write(descriptor, b"?")
        finally:
            os.close(descriptor)

    def attempts(self, path):
        for flags in (0, os.O_APPEND, os.O_TRUNC, os.O_CREAT, os.O_DIRECT):
            yield lambda flags=flags: self.write(path, flags)
        yield lambda: os.truncate(path, 0)
        yield lambda: os.truncate(path, 10_000_000)

    def test_by_root(self):
        with mounted(self.store) as mount:
            for size, content in self.contents.items():
                path = mount / str(size)
                for number, attempt in enumerate(self.attempts(path)):
                    with self.subTest(size=size, attempt=number), self.assert_errno(errno.EPERM):
                        attempt()
                self.assertEqual(read_file(path), content)
        self.assert_clean()

    def test_by_others_and_by_the_owner(self):
        with mounted(self.store, "allow_other") as mount:
            os.chmod(mount.path, 0o777)
            for size, content in self.contents.items():
                path = mount / str(size)
                for number, attempt in enumerate(self.attempts(path)):
                    with self.subTest(size=size, attempt=number), self.assert_errno(errno.EACCES):
                        as_user(attempt)
                self.assertEqual(read_file(path), content)

    def test_making_it_writable_does_not_help(self):
        with mounted(self.store) as mount:
            os.chmod(mount / "2000", 0o666)
            self.assertEqual(stat.S_IMODE(os.stat(mount / "2000").st_mode), 0o444)
            for attempt in self.attempts(mount / "2000"):
                with self.assert_errno(errno.EPERM):
                    attempt()

    def test_writable_mapping(self):
        with mounted(self.store) as mount, open(mount / "200000", "rb") as file:
            with self.assert_errno(errno.EACCES):
                mmap.mmap(file.fileno(), 4096, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)

    def test_new_file_is_protected_as_soon_as_it_is_closed(self):
        with mounted(self.store) as mount:
            for index in range(20):
                path = mount / f"new{index}"
                harness.publish(path, b"x" * 3000, mount / ".temporary")
                harness.wait_sealed(path)
                with self.assert_errno(errno.EPERM):
                    self.write(path, 0)
                self.assertEqual(read_file(path), b"x" * 3000)


class Control(harness.Case):
    def test_not_listed_but_reachable(self):
        with mounted(self.store) as mount:
            self.assertEqual(os.listdir(mount.path), [])
            self.assertEqual(run("find", mount.path, "-mindepth", "1").stdout, "")
            control = mount / ".lmdbfs"
            self.assertTrue(os.path.isdir(control))
            self.assertEqual(sorted(os.listdir(control)), ["staging", "stats"])
            self.assertTrue(os.path.isfile(mount / ".lmdbfs/stats"))
            self.assertEqual(os.path.realpath(mount / ".lmdbfs/staging/../.."), mount.path)
            self.assertEqual(os.stat(mount / ".lmdbfs/..").st_ino, os.stat(mount.path).st_ino)

    def test_only_in_the_root(self):
        with mounted(self.store) as mount:
            os.mkdir(mount / "below")
            self.assertFalse(os.path.exists(mount / "below/.lmdbfs"))
            os.mkdir(mount / "below/.lmdbfs")
            self.assertEqual(os.listdir(mount / "below"), [".lmdbfs"])
        self.assert_clean()

    def test_protected(self):
        with mounted(self.store) as mount:
            write_file(mount / "file", b"x")
            os.mkdir(mount / "directory")
            control = mount / ".lmdbfs"
            refused = (errno.EPERM, errno.EACCES, errno.EBUSY, errno.EEXIST, errno.EINVAL, errno.ENOTEMPTY,
                       errno.EISDIR, errno.ENOTDIR)
            for number, action in enumerate((
                lambda: os.rmdir(control),
                lambda: os.rmdir(mount.staging),
                lambda: os.unlink(control + "/stats"),
                lambda: os.rename(control, mount / "gone"),
                lambda: os.rename(mount.staging, mount / "gone"),
                lambda: os.rename(control + "/stats", mount / "gone"),
                lambda: os.rename(mount / "file", control),
                lambda: os.rename(mount / "file", control + "/stats"),
                lambda: os.rename(mount / "directory", control),
                lambda: os.rename(mount / "directory", mount.staging),
                lambda: harness.rename_with(harness.RENAME_EXCHANGE, mount / "directory", control),
                lambda: harness.rename_with(harness.RENAME_EXCHANGE, mount / "directory", mount.staging),
                lambda: os.mkdir(control + "/new"),
                lambda: write_file(control + "/new", b""),
                lambda: os.symlink("x", control + "/new"),
                lambda: os.link(mount / "file", control + "/new"),
                lambda: os.link(control + "/stats", mount / "new"),
                lambda: os.mkdir(control),
                lambda: os.truncate(control + "/stats", 0),
                lambda: write_file(control + "/stats", b"x"),
            )):
                with self.subTest(number), self.assert_errno(*refused):
                    action()
            self.assertEqual(sorted(os.listdir(mount.path)), ["directory", "file"])
            self.assertEqual(sorted(os.listdir(control)), ["staging", "stats"])
            mount.stats()
        self.assert_clean()

    def test_stats(self):
        with mounted(self.store) as mount:
            before = mount.stats()
            for index in range(10):
                write_file(mount / f"file{index}", b"x" * 5000)
            os.mkdir(mount / "directory")
            after = mount.stats()
            requests = {name: value for name, value in after.items() if name.startswith('lmdbfs_requests_total{op="')}
            self.assertGreater(len(requests), 5)
            for operation, least in (("create", 10), ("mkdir", 1), ("write", 10)):
                name = f'lmdbfs_requests_total{{op="{operation}"}}'
                self.assertGreaterEqual(after[name] - before.get(name, 0), least, name)
            for name, value in before.items():
                if name.endswith("_total") or "_total{" in name:
                    self.assertGreaterEqual(after[name], value, f"a counter went back: {name}")
            for word in ("bytes", "records", "store", "pages"):
                self.assertTrue(any(word in name for name in after), f"nothing about {word} in {sorted(after)}")

    def test_stats_file_in_pieces(self):
        with mounted(self.store) as mount:
            with open(mount / ".lmdbfs/stats", "rb", buffering=0) as file:
                whole = b""
                while part := file.read(7):
                    whole += part
            harness.parse_stats(whole.decode())
            self.assertIn(b"# TYPE lmdbfs_requests_total counter", whole)
            self.assertEqual(run("cat", mount / ".lmdbfs/stats").stdout.splitlines()[0], whole.decode().splitlines()[0])
            self.assertIn("lmdbfs_requests_total", run("grep", "-r", "requests", mount / ".lmdbfs/stats").stdout)


class Listing(harness.Case):
    """Directories of many names, also while names go and come."""

    COUNT = harness.scaled(20_000, least=3000)

    def setUp(self):
        super().setUp()
        self.names = {f"name-{index}-{index * 7919 % 1000}" for index in range(self.COUNT)}
        for name in self.names:
            self.make_file(f"tree/many/{name}", name.encode())
        lmdbfs("import", self.store, self.path("tree"))

    def test_whole(self):
        with mounted(self.store) as mount:
            found = os.listdir(mount / "many")
            self.assertEqual(len(found), len(self.names))
            self.assertEqual(set(found), self.names)
            self.assertEqual(int(run("sh", "-c", 'ls -f "$0" | wc -l', mount / "many").stdout), self.COUNT + 2)

    def test_remove_while_listing(self):
        """Whoever removes what it is shown is shown each name exactly once, as rm -r needs it."""
        with mounted(self.store) as mount:
            shown = []
            with os.scandir(mount / "many") as listing:
                for number, entry in enumerate(listing):
                    shown.append(entry.name)
                    if number % 4 == 0:
                        os.unlink(entry.path)
            self.assertEqual(len(shown), len(set(shown)))
            self.assertEqual(set(shown), self.names)
            self.assertEqual(len(os.listdir(mount / "many")), self.COUNT - len(range(0, self.COUNT, 4)))
            run("rm", "-rf", mount / "many")
            self.assertEqual(os.listdir(mount.path), [])
        self.assert_clean()

    def test_names_that_stay_are_shown_once_while_others_come_and_go(self):
        with mounted(self.store) as mount:
            directory = mount / "many"
            gone, shown = set(), []
            maker = random.Random("listing")
            candidates = sorted(self.names)
            with os.scandir(directory) as listing:
                for number, entry in enumerate(listing):
                    shown.append(entry.name)
                    if number % 20 == 0:
                        victim = maker.choice(candidates)
                        if victim not in gone:
                            os.unlink(os.path.join(directory, victim))
                            gone.add(victim)
                        os.mkdir(os.path.join(directory, f"new-{number}"))
                    if number % 20 == 10 and number < 4000:
                        name = maker.choice(candidates)
                        if name not in gone:
                            harness.publish(os.path.join(directory, name), b"replaced", mount / ".temporary")
            self.assertEqual(len(shown), len(set(shown)), "a name was shown twice")
            self.assertLessEqual(self.names - gone, set(shown))

    def test_going_back_to_a_place(self):
        """telldir() and seekdir(): the listing continues behind the place, whatever was removed before it."""
        entries = (("number", ctypes.c_uint64), ("offset", ctypes.c_int64), ("length", ctypes.c_uint16),
                   ("type", ctypes.c_uint8), ("name", ctypes.c_char * 256))
        entry_type = type("dirent", (ctypes.Structure,), {"_fields_": entries})
        libc = harness.LIBC
        libc.opendir.restype = libc.readdir.restype = ctypes.c_void_p
        libc.telldir.restype = ctypes.c_long
        for function in (libc.telldir, libc.readdir, libc.closedir, libc.rewinddir):
            function.argtypes = [ctypes.c_void_p]
        libc.seekdir.argtypes = [ctypes.c_void_p, ctypes.c_long]

        def next_name():
            entry = libc.readdir(stream)
            return ctypes.cast(entry, ctypes.POINTER(entry_type)).contents.name.decode() if entry else None

        with mounted(self.store) as mount:
            stream = libc.opendir(os.fsencode(mount / "many"))
            names, places = [], []
            while (name := next_name()) is not None:
                names.append(name)
                places.append(libc.telldir(stream))
            self.assertEqual(len(names), self.COUNT + 2)
            for index in random.Random(5).sample(range(len(names) - 1), 50):
                libc.seekdir(stream, places[index])
                self.assertEqual(next_name(), names[index + 1])
            middle = len(names) // 2
            removed = names[middle - 20 : middle]
            for name in removed:
                os.unlink(mount / f"many/{name}")
            libc.seekdir(stream, places[middle - 10])
            while (name := next_name()) in removed:
                pass  # until the stream is rewound, it may still show them
            self.assertEqual(name, names[middle])
            libc.rewinddir(stream)
            again = []
            while (name := next_name()) is not None:
                again.append(name)
            self.assertEqual(set(again), set(names) - set(removed))
            libc.closedir(stream)

    def test_listing_and_looking_up_agree(self):
        with mounted(self.store) as mount:
            names = sorted(self.names)[:: max(1, self.COUNT // 500)]
            for name in names:
                self.assertEqual(read_file(mount / f"many/{name}"), name.encode())
            for name in names:
                self.assertFalse(os.path.exists(mount / f"many/{name}x"))


if __name__ == "__main__":
    harness.main()
