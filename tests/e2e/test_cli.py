# SPDX-License-Identifier: BSD-2-Clause
"""The command line: help, exit codes, refusals in one line, and what happens around mounting."""

import errno
import hashlib
import os
import signal
import subprocess
import threading

import lmdb

import harness
import trees
from harness import GONE, LMDBFS, is_mounted, lmdbfs, mounted, read_file, run, store_stat, wait_for, write_file

COMMANDS = ("mount", "import", "export", "stat", "check")


class Usage(harness.Case):
    def test_help_names_every_command(self):
        done = lmdbfs("--help")
        self.assertEqual(done.stderr, "")
        for command in COMMANDS:
            self.assertIn(command, done.stdout)

    def test_help_of_each_command(self):
        for command in COMMANDS:
            with self.subTest(command):
                done = lmdbfs(command, "--help")
                self.assertEqual(done.stderr, "")
                self.assertIn(command, done.stdout)
                self.assertIn("STORE", done.stdout)

    def test_version(self):
        done = lmdbfs("--version")
        self.assertRegex(done.stdout, r"\Almdbfs \d+\.\d+\S*\n")

    def test_full_standard_output_is_a_failure(self):
        lmdbfs("import", self.store, os.path.dirname(self.make_file("tree/file")))
        for command in (["--help"], ["--version"], ["stat", self.store], ["stat", "--json", self.store]):
            with self.subTest(command), open("/dev/full", "w", encoding="utf-8") as full:
                done = subprocess.run([LMDBFS, *command], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
                self.assertEqual(done.returncode, 1)
                self.assert_one_line(done.stderr)

    def test_wrong_usage(self):
        self.assert_refused(code=2)
        self.assert_refused("frobnicate", code=2, says=["frobnicate"])
        self.assert_refused("--frobnicate", code=2, says=["--frobnicate"])
        for command in COMMANDS:
            with self.subTest(command):
                self.assert_refused(command, code=2)
                self.assert_refused(command, "--frobnicate", self.store, self.directory, code=2, says=["--frobnicate"])
                self.assert_refused(command, *[self.store] * 5, code=2)
        self.assert_refused("mount", self.store, code=2)
        self.assertFalse(os.path.exists(self.store))

    def test_mount_options_are_refused_by_name(self):
        os.mkdir(self.path("mnt"))
        for options in ("frobnicate", "ro,frobnicate", "frobnicate=3", "frobnicate,ro", "allow_other=frobnicate"):
            with self.subTest(options):
                self.assert_refused("mount", "-o", options, self.store, self.path("mnt"), code=2, says=["frobnicate"])
        self.assertFalse(is_mounted(self.path("mnt")))

    def test_values_of_options(self):
        os.mkdir(self.path("mnt"))
        for options in ("verify", "verify=", "verify=often", "memory", "memory=", "memory=lots", "memory=-1G", "memory=1",
                        "memory=15M", "memory=16MB", "memory=64KM", "memory=99999999999G", "memory=0x40000000"):
            with self.subTest(options):
                self.assert_refused("mount", "-o", options, self.store, self.path("mnt"), code=2, says=[options])
        self.assertFalse(os.path.exists(self.store))
        for options in ("memory=16M", "memory=20000K", "memory=33554432", "memory=1G", "verify=first"):
            with self.subTest(options), mounted(self.store, options):
                pass

    def test_missing_argument_of_an_option(self):
        self.assert_refused("mount", self.store, self.directory, "-o", code=2)


class Mounting(harness.Case):
    def test_store_is_created_and_the_mount_answers_at_once(self):
        with mounted(self.store) as mount:
            self.assertTrue(os.path.ismount(mount.path))
            self.assertEqual(os.listdir(mount.path), [])
            self.assertEqual(sorted(set(os.listdir(self.store)) & {"data.mdb", "lock.mdb"}), ["data.mdb", "lock.mdb"])
        self.assert_clean()

    def test_relative_paths(self):
        os.mkdir(self.path("mnt"))
        run(LMDBFS, "mount", "store", "mnt", cwd=self.directory)
        try:
            write_file(self.path("mnt", "file"), b"x")
            self.assertTrue(os.path.exists(self.path("store", "data.mdb")))
        finally:
            pid = harness.owner_pid(self.store)
            run("umount", self.path("mnt"))
            wait_for(lambda: not os.path.exists(f"/proc/{pid}"), what="the daemon ended")

    def test_awkward_paths(self):
        for name in ("with space", "com,ma", "back\\slash", "quo\"te", "new\nline", "ümläut", "-o", "#hash"):
            with self.subTest(name):
                os.mkdir(self.path("mnt " + name))
                with mounted(self.path(name), at=self.path("mnt " + name)) as mount:
                    write_file(mount / "file", b"x")
                    self.assertEqual(os.listdir(mount.path), ["file"])
                self.assert_clean(self.path(name))

    def test_mountpoint_behind_a_symbolic_link(self):
        os.mkdir(self.path("real"))
        os.symlink("real", self.path("link"))
        lmdbfs("mount", self.store, self.path("link"))
        with mounted(self.path("other")):  # something else meanwhile, so that the two can't be mixed up
            self.assertTrue(is_mounted(self.path("real")))
            pid = harness.owner_pid(self.store)
            os.mkdir(self.path("another"))
            self.assert_refused("mount", self.store, self.path("another"), says=[self.path("real")])
            run("umount", self.path("link"))
            wait_for(lambda: not os.path.exists(f"/proc/{pid}"), what="the daemon ended")

    def test_mount_that_would_hide_its_own_store(self):
        """Its daemon would wait for itself."""
        os.mkdir(self.path("outer"))
        store = self.path("outer", "store")
        self.assert_refused("mount", store, self.path("outer"), says=[store], timeout=60)
        lmdbfs("import", store, os.path.dirname(self.make_file("tree/file")))
        self.assert_refused("mount", store, self.path("outer"), says=[store], timeout=60)
        self.assert_refused("mount", store, store, says=[store], timeout=60)
        self.assertFalse(is_mounted(self.path("outer")))

    def test_owner_file_names_the_daemon(self):
        with mounted(self.store) as mount:
            self.assertEqual(harness.owner_pid(self.store), mount.pid)

    def test_names_in_the_mount_table(self):
        with mounted(self.store) as mount:
            done = run("findmnt", "-n", "-o", "FSTYPE,SOURCE", mount.path)
            self.assertIn("lmdbfs", done.stdout)
            self.assertIn(self.store, done.stdout)

    def test_daemon_keeps_nothing_of_its_starter(self):
        """No working directory that could not be unmounted, no terminal, no descriptors."""
        with mounted(self.store) as mount:
            self.assertEqual(os.readlink(f"/proc/{mount.pid}/cwd"), "/")
            for number in (0, 1, 2):
                self.assertEqual(os.readlink(f"/proc/{mount.pid}/fd/{number}"), "/dev/null")
            self.assertEqual(os.getsid(mount.pid), mount.pid)

    def test_bad_mountpoints(self):
        file = self.make_file("file")
        missing = self.path("missing")
        self.assert_refused("mount", self.store, missing, says=[missing])
        self.assert_refused("mount", self.store, file, says=[file])
        self.assertFalse(os.path.exists(missing))

    def test_store_that_cannot_be_made(self):
        file = self.make_file("file")
        os.mkdir(self.path("mnt"))
        self.assert_refused("mount", file, self.path("mnt"), says=[file])
        self.assert_refused("mount", self.path("file", "store"), self.path("mnt"), says=[self.path("file")])
        self.assertFalse(is_mounted(self.path("mnt")))

    def test_commands_that_read_make_no_store(self):
        for command in (["stat"], ["check"], ["export"]):
            with self.subTest(command):
                arguments = [self.path("out")] if command == ["export"] else []
                self.assert_refused(*command, self.store, *arguments, says=[self.store])
                self.assertFalse(os.path.exists(self.store))

    def test_read_only(self):
        with mounted(self.store) as mount:
            write_file(mount / "file", b"before")
        with mounted(self.store, "ro") as mount:
            self.assertEqual(read_file(mount / "file"), b"before")
            for change in (
                lambda: write_file(mount / "new", b""),
                lambda: os.mkdir(mount / "new"),
                lambda: os.unlink(mount / "file"),
                lambda: os.rename(mount / "file", mount / "other"),
                lambda: os.chmod(mount / "file", 0o600),
                lambda: os.utime(mount / "file"),
                lambda: os.symlink("x", mount / "new"),
                lambda: os.link(mount / "file", mount / "new"),
            ):
                with self.assert_errno(errno.EROFS):
                    change()
            self.assertEqual(os.listdir(mount.path), ["file"])
        self.assert_clean()

    def test_usual_options(self):
        with mounted(self.store, "allow_other", "noatime", "nosuid", "nodev", "noexec", "default_permissions") as mount:
            options = run("findmnt", "-n", "-o", "OPTIONS", mount.path).stdout
            for option in ("noatime", "nosuid", "nodev", "noexec", "allow_other", "default_permissions"):
                self.assertIn(option, options)

    def test_second_writer(self):
        with mounted(self.store) as mount:
            write_file(mount / "file", b"kept")
            os.mkdir(self.path("other"))
            self.assert_refused("mount", self.store, self.path("other"), says=[mount.path])
            self.assertFalse(is_mounted(self.path("other")))
            tree = os.path.dirname(self.make_file("tree/new"))
            self.assert_refused("import", self.store, tree, says=[mount.path])
            self.assertEqual(os.listdir(mount.path), ["file"])
        lmdbfs("import", self.store, tree)

    def test_two_starts_at_the_same_moment(self):
        """One of them gets the store, the other one line, and neither damages anything."""
        for _ in range(harness.scaled(10, least=3)):
            points = [self.path("first"), self.path("second")]
            starts = []
            for point in points:
                os.makedirs(point, exist_ok=True)
                starts.append(subprocess.Popen([LMDBFS, "mount", self.store, point], stderr=subprocess.PIPE, text=True))
            errors = [start.communicate()[1] for start in starts]
            codes = [start.returncode for start in starts]
            pid = harness.owner_pid(self.store)
            winner = points[codes.index(0)] if 0 in codes else None
            mounts = [point for point in points if is_mounted(point)]
            for point in mounts:
                run("umount", point)
            wait_for(lambda pid=pid: not os.path.exists(f"/proc/{pid}"), what="the daemon ended")
            self.assertEqual(sorted(codes), [0, 1], errors)
            self.assertEqual(mounts, [winner])
            self.assert_one_line("".join(errors))
        self.assert_clean()

    def test_occupied_mountpoint(self):
        with mounted(self.store) as mount:
            write_file(mount / "file", b"x")
            self.assert_refused("mount", self.path("another"), mount.path, says=[mount.path])
            self.assertEqual(read_file(mount / "file"), b"x")

    def test_stale_mount_of_a_killed_daemon(self):
        with mounted(self.store) as first:
            write_file(first / "file", b"kept")
            harness.sync(first / "file")
            first.kill()
            with self.assert_errno(*GONE):
                os.listdir(first.path)
            with mounted(self.store, at=first.path) as second:
                self.assertEqual(read_file(second / "file"), b"kept")
                self.assertEqual(list(harness.mounted_types()).count(second.path), 1)
            self.assertFalse(is_mounted(first.path))
        self.assert_clean()

    def test_killed_daemon_leaves_a_store_for_every_command(self):
        with mounted(self.store) as mount:
            write_file(mount / "file", b"kept")
            harness.sync(mount / "file")
            mount.kill()
            self.assertEqual(store_stat(self.store)["files"], 1)
            self.assert_clean()
            lmdbfs("export", self.store, self.path("out"))
            self.assertEqual(read_file(self.path("out", "file")), b"kept")
            lmdbfs("import", self.store, self.path("out"), "again")

    def test_foreground_ends_with_a_signal(self):
        for number in (signal.SIGINT, signal.SIGTERM):
            with self.subTest(number):
                point = self.path("mnt")
                os.makedirs(point, exist_ok=True)
                command = [LMDBFS, "mount", "-f", self.store, point]
                process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
                wait_for(lambda: is_mounted(point), what="mounted")
                write_file(os.path.join(point, f"file{number}"), b"kept")
                process.send_signal(number)
                _, error = process.communicate(timeout=60)
                self.assertEqual((process.returncode, error), (0, ""))
                self.assertFalse(is_mounted(point))
        with mounted(self.store) as mount:
            self.assertEqual(len(os.listdir(mount.path)), 2)

    def test_foreground_ends_with_an_unmount(self):
        point = self.path("mnt")
        os.makedirs(point)
        process = subprocess.Popen([LMDBFS, "mount", "-f", self.store, point], stderr=subprocess.PIPE, text=True)
        wait_for(lambda: is_mounted(point), what="mounted")
        run("umount", point)
        _, error = process.communicate(timeout=60)
        self.assertEqual((process.returncode, error), (0, ""))

    def test_daemon_ends_with_a_signal(self):
        with mounted(self.store) as mount:
            write_file(mount / "file", b"kept")
            mount.signal(signal.SIGTERM)
            self.assertTrue(mount.ended(60))
            self.assertFalse(is_mounted(mount.path))
        with mounted(self.store) as mount:
            self.assertEqual(read_file(mount / "file"), b"kept")

    def test_debugging_output(self):
        point = self.path("mnt")
        os.makedirs(point)
        process = subprocess.Popen([LMDBFS, "mount", "-d", self.store, point], stderr=subprocess.PIPE, text=True)
        wait_for(lambda: is_mounted(point), what="mounted")
        os.path.exists(os.path.join(point, "no-such-name"))
        run("umount", point)
        _, error = process.communicate(timeout=60)
        self.assertIn("LOOKUP", error)

    def test_lazy_unmount(self):
        """Who still has a file open reads it to the end; the store is free when the last one has closed."""
        with mounted(self.store) as mount:
            harness.publish(mount / "file", b"x" * 1_000_000)
            with open(mount / "file", "rb") as file:
                run("umount", "-l", mount.path)
                self.assertEqual(file.read(), b"x" * 1_000_000)
                self.assertFalse(mount.ended(0))
                self.assert_refused("mount", self.store, mount.path)
            self.assertTrue(mount.ended(60))
        self.assert_clean()

    def test_remounting_many_times(self):
        for index in range(harness.scaled(20, least=4)):
            with mounted(self.store) as mount:
                self.assertEqual(len(os.listdir(mount.path)), index)
                write_file(mount / f"file{index}", b"%d" % index)
        self.assert_clean()


class OtherUsers(harness.Case):
    """Not everybody is root."""

    def setUp(self):
        super().setUp()
        self.home = self.path("home")
        os.mkdir(self.home)
        os.chown(self.home, harness.NOBODY, harness.NOBODY)
        self.store = os.path.join(self.home, "store")

    def test_import_and_export(self):
        trees.make_tree(self.path("tree"), "user", files=40, plain=True)

        def work():
            lmdbfs("import", self.store, self.path("tree"))
            lmdbfs("check", self.store)
            store_stat(self.store)
            lmdbfs("export", self.store, os.path.join(self.home, "out"))

        run("chmod", "-R", "a+rX", self.path("tree"))
        harness.as_user(work)
        without_owners = [{path: {**facts, "uid": 0, "gid": 0} for path, facts in trees.scan(root).items()}
                          for root in (self.path("tree"), os.path.join(self.home, "out"))]
        trees.assert_same(self, *without_owners)

    def test_store_of_somebody_else(self):
        """Readable but not writable: read it, or one line."""
        lmdbfs("import", self.path("foreign"), os.path.dirname(self.make_file("tree/file")))

        def work():
            done = lmdbfs("stat", "--json", self.path("foreign"), check=False)
            self.assertIn(done.returncode, (0, 1))
            self.assert_refused("import", self.path("foreign"), self.path("tree"), says=[self.path("foreign")])

        harness.as_user(work)
        os.chmod(self.path("foreign"), 0o700)
        harness.as_user(lambda: self.assert_refused("stat", self.path("foreign"), says=[self.path("foreign")]))
        self.assert_clean(self.path("foreign"))

    def test_mount(self):
        """By way of fusermount3, where /dev/fuse is open to all; elsewhere one line says that it isn't."""
        point = os.path.join(self.home, "mnt")

        def work():
            os.mkdir(point)
            done = lmdbfs("mount", self.store, point, check=False)
            if done.returncode == 0:
                try:
                    write_file(os.path.join(point, "file"), b"x")
                    self.assertEqual(os.stat(os.path.join(point, "file")).st_uid, harness.NOBODY)
                finally:
                    run("fusermount3", "-u", point)
            else:
                self.assertEqual(done.returncode, 1)
                self.assertNotEqual(done.stderr, "")
            return done.returncode

        allowed = os.stat("/dev/fuse").st_mode & 0o006 == 0o006
        self.assertEqual(harness.as_user(work), 0 if allowed else 1)
        self.assertFalse(is_mounted(point))


class NotAStore(harness.Case):
    """Every command refuses what it doesn't understand, and changes nothing in it."""

    def commands(self):
        tree = os.path.dirname(self.make_file("tree/file"))
        os.makedirs(self.path("mnt"), exist_ok=True)
        yield ["mount", self.store, self.path("mnt")]
        yield ["import", self.store, tree]
        yield ["export", self.store, self.path("out")]
        yield ["stat", self.store]
        yield ["stat", "--json", self.store]
        yield ["check", self.store]

    def contents(self):
        return {name: hashlib.sha256(read_file(os.path.join(self.store, name))).hexdigest()
                for name in os.listdir(self.store) if name not in ("lock.mdb", "owner", "staging")}

    def assert_all_refuse(self, *says):
        before = self.contents()
        for command in self.commands():
            with self.subTest(command[0]):
                self.assert_refused(*command, says=[self.store, *says])
                self.assertEqual(self.contents(), before)
        self.assertFalse(is_mounted(self.path("mnt")))

    def test_foreign_files(self):
        self.make_file("store/thesis.txt")
        self.assert_all_refuse()
        self.assertEqual(os.listdir(self.store), ["thesis.txt"])

    def test_garbage(self):
        self.make_file("store/data.mdb", b"garbage " * 5000)
        self.assert_all_refuse()

    def test_empty_data_file(self):
        """What a crash between making the file and its first page leaves: a store, or refused, never a crash."""
        self.make_file("store/data.mdb", b"")
        for command in list(self.commands())[1:]:
            with self.subTest(command[0]):
                self.assertIn(lmdbfs(*command, check=False).returncode, (0, 1))

    def test_random_bytes(self):
        self.make_file("store/data.mdb", os.urandom(65536))
        self.assert_all_refuse()

    def test_lmdb_of_somebody_else(self):
        with lmdb.open(self.store) as environment, environment.begin(write=True) as transaction:
            transaction.put(b"key", b"value")
        self.assert_all_refuse()

    def test_lmdb_of_somebody_else_with_tables_like_ours(self):
        with lmdb.open(self.store, max_dbs=8) as environment:
            for table in (b"meta", b"entries", b"records"):
                database = environment.open_db(table)
                with environment.begin(write=True, db=database) as transaction:
                    transaction.put(b"key", b"value")
        self.assert_all_refuse()

    def make_store(self):
        lmdbfs("import", self.store, os.path.dirname(self.make_file("tree/file")))
        self.assert_clean()
        return store_stat(self.store)["page_size"]

    def change_data(self, change):
        data = bytearray(read_file(harness.data_file(self.store)))
        change(data)
        write_file(harness.data_file(self.store), data)

    def test_other_byte_order(self):
        page = self.make_store()

        def swap(data):
            for magic in (16, page + 16):
                data[magic : magic + 4] = data[magic : magic + 4][::-1]

        self.change_data(swap)
        self.assert_all_refuse("byte order")

    def test_other_lmdb_version(self):
        page = self.make_store()

        def raise_version(data):
            for version in (20, page + 20):
                data[version : version + 4] = (999).to_bytes(4, "little")

        self.change_data(raise_version)
        self.assert_all_refuse()


class BesideAMount(harness.Case):
    def test_stat_and_check(self):
        """They work while the mount is written to, and what they say is the truth of one moment."""
        stop = threading.Event()

        def write(mount):
            index = 0
            while not stop.is_set():
                harness.publish(mount / f"churn{index % 10}", os.urandom(1000 * (index % 20)))
                index += 1

        with mounted(self.store) as mount:
            for index in range(50):
                write_file(mount / f"file{index}", b"x" * 3000)
            writer = threading.Thread(target=write, args=(mount,))
            writer.start()
            try:
                for _ in range(harness.scaled(20, least=3)):
                    self.assert_clean()
                    figures = store_stat(self.store)
                    self.assertGreaterEqual(figures["files"], 50)
                    self.assertGreaterEqual(figures["bytes"], 50 * 3000)
            finally:
                stop.set()
                writer.join()

    def test_export(self):
        with mounted(self.store) as mount:
            write_file(mount / "file", b"content")
            harness.wait_sealed(mount / "file")
            lmdbfs("export", self.store, self.path("out"))
            self.assertEqual(read_file(self.path("out", "file")), b"content")


class Figures(harness.Case):
    def test_stat_adds_up(self):
        sizes = [1, 100, 1926, 1927, 4080, 4081, 131072, 131073, 300_000]
        for index, size in enumerate(sizes):
            self.make_file(f"tree/directory/{index}", os.urandom(size))
        os.symlink("target", self.path("tree", "link"))
        os.mkdir(self.path("tree", "empty"))
        lmdbfs("import", self.store, self.path("tree"))
        figures = store_stat(self.store)
        self.assertEqual(figures["format"], 1)
        self.assertEqual(figures["files"], len(sizes))
        self.assertEqual(figures["symlinks"], 1)
        self.assertEqual(figures["bytes"], sum(sizes))
        self.assertEqual(figures["inline_files"], 3)
        self.assertEqual(figures["extent_files"], 6)
        kinds = figures["inline_files"] + figures["extent_files"] + figures["unsealed_files"]
        self.assertEqual(kinds, figures["files"])
        self.assertEqual(figures["records"], figures["files"] + figures["directories"] + figures["symlinks"])
        self.assertGreaterEqual(figures["extents"], 1 + 1 + 1 + 1 + 2 + 3)
        self.assertEqual(figures["orphans"], 0)
        self.assertEqual(figures["file_bytes"], os.path.getsize(harness.data_file(self.store)))
        self.assertIn(figures["page_size"], (4096, 16384, 65536))
        self.assertLess(figures["free_pages"], figures["total_pages"])
        self.assertGreaterEqual(figures["file_bytes"], figures["total_pages"] * figures["page_size"])

    def test_stat_for_people(self):
        lmdbfs("import", self.store, os.path.dirname(self.make_file("tree/file", b"x" * 5000)))
        text = lmdbfs("stat", self.store).stdout
        for word in ("records", "extents", "free", "format"):
            self.assertIn(word, text.lower())

    def test_stat_of_a_mount(self):
        with mounted(self.store, "memory=64M") as mount:
            harness.publish(mount / "file", b"x" * 10_000)
            harness.sync(mount.path)  # what is pending isn't read from the store
            read_file(mount / "file")
            os.mkdir(mount / "directory")
            leases = int(mount.stats()["lmdbfs_leases"])
            text = lmdbfs("stat", mount.path).stdout
            self.assertTrue(text.startswith(f"{mount.path}: mount of {self.store}\n"), text)
            self.assertRegex(text, r"(?m)^  when content is compared with its checksum: first \(.+\)$")
            self.assertRegex(text, r"(?m)^  rename +1$")
            self.assertRegex(text, r"(?m)^  in use .* of at most 64 MiB$")
            self.assertRegex(text, rf"(?m)^  leases +{leases} ")
            self.assertRegex(text, r"(?m)^  verified +[1-9]\d* .*, 9.8 KiB$")
            self.assertRegex(text, r"(?m)^  damaged +0$")
            self.assertNotIn("symlink", text)
            for way in (name for name in mount.stats() if name.startswith("lmdbfs_way_info")):
                self.assertIn(way.split('way="')[1].split('"')[0], text)
            for inside in (mount / "directory", mount / "file"):  # all of it is one mount
                self.assertEqual(lmdbfs("stat", inside).stdout.splitlines()[0], text.splitlines()[0])
            self.assert_refused("stat", "--json", mount.path, says=[".lmdbfs/stats"])
            mount.kill()
            self.assert_refused("stat", mount.path, says=[mount.path, "umount -l"])

    def test_stat_beside_mounts(self):
        """A directory below other mounts, or with a name that begins like theirs, is what it is."""
        with mounted(self.store) as mount:
            os.mkdir(mount.path + "-other")
            self.assert_refused("stat", mount.path + "-other", says=[mount.path + "-other"])
            run("mount", "-t", "tmpfs", "none", mount.path)
            try:
                self.assert_refused("stat", mount.path, says=[mount.path])
            finally:
                run("umount", mount.path)
            self.assertIn("mount of", lmdbfs("stat", mount.path).stdout)
            self.assertIn("store of format", lmdbfs("stat", self.store).stdout)

    def test_empty_store(self):
        os.mkdir(self.path("tree"))
        lmdbfs("import", self.store, self.path("tree"))
        figures = store_stat(self.store)
        self.assertEqual((figures["files"], figures["bytes"], figures["extents"]), (0, 0, 0))
        self.assert_clean()


if __name__ == "__main__":
    harness.main()
