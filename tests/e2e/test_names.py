# SPDX-License-Identifier: BSD-2-Clause
"""Everything else that changes a tree: names, links, renames and attributes, by one process and by many."""

import errno
import os
import random
import stat
import tempfile
import time

import harness
import trees
from harness import (
    RENAME_EXCHANGE, RENAME_NOREPLACE, RENAME_WHITEOUT, as_user, lmdbfs, publish, read_file, rename_with,
    run, wait_sealed, write_file,
)


class Names(harness.MountedCase):
    def test_directories(self):
        os.mkdir(self.mount / "a")
        with self.assert_errno(errno.EEXIST):
            os.mkdir(self.mount / "a")
        os.makedirs(self.mount / "a/b/c")
        with self.assert_errno(errno.ENOTEMPTY, errno.EEXIST):
            os.rmdir(self.mount / "a")
        with self.assert_errno(errno.EISDIR):
            os.unlink(self.mount / "a")
        write_file(self.mount / "file", b"x")
        with self.assert_errno(errno.ENOTDIR):
            os.rmdir(self.mount / "file")
        with self.assert_errno(errno.ENOTDIR):
            os.mkdir(self.mount / "file/below")
        with self.assert_errno(errno.ENOENT):
            os.rmdir(self.mount / "missing")
        os.rmdir(self.mount / "a/b/c")
        os.rmdir(self.mount / "a/b")
        os.rmdir(self.mount / "a")
        self.assertEqual(os.listdir(self.mount.path), ["file"])

    def test_unlink(self):
        publish(self.mount / "file", b"x")
        os.unlink(self.mount / "file")
        self.assertFalse(os.path.exists(self.mount / "file"))
        with self.assert_errno(errno.ENOENT):
            os.unlink(self.mount / "file")

    def test_removed_file_can_still_be_written_and_read(self):
        with open(self.mount / "file", "w+b", buffering=0) as file:
            file.write(b"one ")
            os.unlink(self.mount / "file")
            file.write(b"two")
            self.assertEqual(os.pread(file.fileno(), 10, 0), b"one two")
            self.assertEqual(os.fstat(file.fileno()).st_nlink, 0)
        self.assertEqual(os.listdir(self.mount.path), [])

    def test_longest_names(self):
        for name in ("n" * 255, "ü" * 127):
            path = self.mount / name
            write_file(path, b"x")
            os.rename(path, self.mount / ("m" * 255))
            self.assertEqual(os.listdir(self.mount.path), ["m" * 255])
            os.unlink(self.mount / ("m" * 255))
        write_file(self.mount / "file", b"x")
        long = self.mount / ("n" * 256)
        for action in (
            lambda: write_file(long, b""),
            lambda: os.mkdir(long),
            lambda: os.symlink("x", long),
            lambda: os.link(self.mount / "file", long),
            lambda: os.rename(self.mount / "file", long),
            lambda: os.stat(long),
            lambda: os.unlink(long),
        ):
            with self.assert_errno(errno.ENAMETOOLONG):
                action()
        self.assertEqual(os.listdir(self.mount.path), ["file"])

    def test_names_of_all_bytes(self):
        names = {bytes([byte]) for byte in range(1, 256)} - {b"/", b"."}
        names |= {b"\xff" * 255, b"\n" * 255, b"x" + bytes(range(1, 47))}
        for name in names:
            publish(self.mount / name, name, self.mount / b"temporary")
        self.assertEqual(set(os.listdir(os.fsencode(self.mount.path))), names)
        for name in names:
            self.assertEqual(read_file(self.mount / name), name)

    def test_symbolic_links(self):
        for target in (b"x", b"\xff\n", b"/absolute", b"t" * 4095):
            os.symlink(target, self.mount / b"link")
            self.assertEqual(os.readlink(self.mount / b"link"), target)
            self.assertEqual(os.lstat(self.mount / "link").st_size, len(target))
            os.unlink(self.mount / "link")
        with self.assert_errno(errno.ENAMETOOLONG):
            os.symlink("t" * 4096, self.mount / "link")
        with self.assert_errno(errno.ENOENT):
            os.symlink("", self.mount / "link")
        os.symlink("file", self.mount / "link")
        os.chown(self.mount / "link", 5, 6, follow_symlinks=False)
        os.utime(self.mount / "link", ns=(1, 2), follow_symlinks=False)
        status = os.lstat(self.mount / "link")
        self.assertEqual((status.st_uid, status.st_gid, status.st_mtime_ns), (5, 6, 2))

    def test_hard_links(self):
        publish(self.mount / "a", b"content")
        os.mkdir(self.mount / "directory")
        os.link(self.mount / "a", self.mount / "directory/b")
        self.assertEqual(os.stat(self.mount / "a").st_nlink, 2)
        self.assertEqual(os.stat(self.mount / "directory/b").st_ino, os.stat(self.mount / "a").st_ino)
        with self.assert_errno(errno.EEXIST):
            os.link(self.mount / "a", self.mount / "directory/b")
        with self.assert_errno(errno.EPERM):
            os.link(self.mount / "directory", self.mount / "other")
        os.rename(self.mount / "a", self.mount / "directory/b")  # two names of one file: nothing happens
        self.assertTrue(os.path.exists(self.mount / "a"))
        publish(self.mount / "a", b"replaced")
        self.assertEqual(read_file(self.mount / "directory/b"), b"content")
        self.assertEqual(os.stat(self.mount / "directory/b").st_nlink, 1)
        os.symlink("x", self.mount / "link")
        os.link(self.mount / "link", self.mount / "link2", follow_symlinks=False)
        self.assertEqual(os.readlink(self.mount / "link2"), "x")

    def test_unnamed_files(self):
        """O_TMPFILE, then linkat() through /proc."""
        for size in trees.FEW_SIZES:
            content = os.urandom(size)
            descriptor = os.open(self.mount.path, os.O_TMPFILE | os.O_RDWR, 0o644)
            os.write(descriptor, content)
            self.assertEqual(os.fstat(descriptor).st_nlink, 0)
            # Only with a directory descriptor does Python call linkat(), which can follow the link in /proc.
            os.link(f"/proc/self/fd/{descriptor}", self.mount / f"file{size}", src_dir_fd=descriptor)
            self.assertEqual(read_file(self.mount / f"file{size}"), content)
            os.close(descriptor)
            if size:
                wait_sealed(self.mount / f"file{size}")
            self.assertEqual(read_file(self.mount / f"file{size}"), content)
        descriptor = os.open(self.mount.path, os.O_TMPFILE | os.O_WRONLY)
        os.write(descriptor, b"never linked")
        os.close(descriptor)
        with tempfile.TemporaryFile(dir=self.mount.path) as file:
            file.write(b"x")
        self.assertEqual(len(os.listdir(self.mount.path)), len(trees.FEW_SIZES))
        self.wait_for_no_orphans()

    def wait_for_no_orphans(self):
        harness.wait_for(lambda: harness.store_stat(self.store)["orphans"] == 0, what="no orphans")

    def test_special_files_are_refused(self):
        with self.assert_errno(errno.EPERM, errno.ENOSYS, errno.ENOTSUP):
            os.mkfifo(self.mount / "fifo")
        with self.assert_errno(errno.EPERM, errno.ENOSYS, errno.ENOTSUP):
            os.mknod(self.mount / "device", stat.S_IFCHR | 0o600, os.makedev(1, 3))
        os.mknod(self.mount / "file", stat.S_IFREG | 0o644)
        self.assertEqual(read_file(self.mount / "file"), b"")
        self.assertEqual(os.listdir(self.mount.path), ["file"])


class Renaming(harness.MountedCase):
    def test_directories_with_open_files_and_working_directories(self):
        os.makedirs(self.mount / "a/b")
        publish(self.mount / "a/b/file", b"content")
        os.mkdir(self.mount / "c")
        before = os.getcwd()
        os.chdir(self.mount / "a/b")
        try:
            with open("file", "rb") as file:
                os.rename(self.mount / "a", self.mount / "c/d")
                self.assertEqual(os.getcwd(), self.mount / "c/d/b")
                self.assertEqual(file.read(), b"content")
                self.assertEqual(read_file("file"), b"content")
                write_file("new", b"new")
                self.assertEqual(os.path.realpath(".."), self.mount / "c/d")
        finally:
            os.chdir(before)
        self.assertEqual(self.contents("c/d/b/file", "c/d/b/new"), [b"content", b"new"])

    def test_into_itself(self):
        os.makedirs(self.mount / "a/b/c")
        for target in ("a/b/c/d", "a/d"):
            with self.assert_errno(errno.EINVAL):
                os.rename(self.mount / "a", self.mount / target)
        with self.assert_errno(errno.ENOTEMPTY, errno.EINVAL):
            os.rename(self.mount / "a/b/c", self.mount / "a")
        with self.assert_errno(errno.EINVAL):
            rename_with(RENAME_EXCHANGE, self.mount / "a", self.mount / "a/b/c")
        self.assertTrue(os.path.isdir(self.mount / "a/b/c"))

    def test_kinds(self):
        os.mkdir(self.mount / "empty")
        os.makedirs(self.mount / "full/below")
        os.mkdir(self.mount / "directory")
        publish(self.mount / "file", b"x")
        with self.assert_errno(errno.EISDIR):
            os.rename(self.mount / "file", self.mount / "empty")
        with self.assert_errno(errno.ENOTDIR):
            os.rename(self.mount / "empty", self.mount / "file")
        with self.assert_errno(errno.ENOTEMPTY, errno.EEXIST):
            os.rename(self.mount / "directory", self.mount / "full")
        with self.assert_errno(errno.ENOENT):
            os.rename(self.mount / "missing", self.mount / "other")
        os.rename(self.mount / "directory", self.mount / "empty")
        self.assertEqual(sorted(os.listdir(self.mount.path)), ["empty", "file", "full"])

    def test_noreplace(self):
        publish(self.mount / "a", b"a")
        publish(self.mount / "b", b"b")
        with self.assert_errno(errno.EEXIST):
            rename_with(RENAME_NOREPLACE, self.mount / "a", self.mount / "b")
        self.assertEqual(self.contents("a", "b"), [b"a", b"b"])
        rename_with(RENAME_NOREPLACE, self.mount / "a", self.mount / "c")
        self.assertEqual(self.contents("b", "c"), [b"b", b"a"])

    def test_noreplace_has_one_winner(self):
        def take(number):
            won = 0
            for index in range(harness.scaled(100, least=20)):
                write_file(self.mount / f".temporary{number}", b"%d" % number)
                try:
                    rename_with(RENAME_NOREPLACE, self.mount / f".temporary{number}", self.mount / f"key{index}")
                    won += 1
                except FileExistsError:
                    os.unlink(self.mount / f".temporary{number}")
            return won

        children = [harness.Child(take, number) for number in range(4)]
        self.assertEqual(sum(child.result() for child in children), harness.scaled(100, least=20))

    def test_exchange(self):
        publish(self.mount / "file", b"file")
        publish(self.mount / "other", b"other")
        os.makedirs(self.mount / "directory/below")
        os.makedirs(self.mount / "second/inside")
        rename_with(RENAME_EXCHANGE, self.mount / "file", self.mount / "other")
        self.assertEqual(self.contents("file", "other"), [b"other", b"file"])
        rename_with(RENAME_EXCHANGE, self.mount / "directory", self.mount / "second")
        self.assertEqual(os.listdir(self.mount / "directory"), ["inside"])
        self.assertEqual(os.listdir(self.mount / "second"), ["below"])
        rename_with(RENAME_EXCHANGE, self.mount / "file", self.mount / "directory")
        self.assertEqual(os.listdir(self.mount / "file"), ["inside"])
        self.assertEqual(read_file(self.mount / "directory"), b"other")
        rename_with(RENAME_EXCHANGE, self.mount / "other", self.mount / "second/below")
        self.assertEqual(read_file(self.mount / "second/below"), b"file")
        self.assertEqual(os.listdir(self.mount / "other"), [])
        with self.assert_errno(errno.ENOENT):
            rename_with(RENAME_EXCHANGE, self.mount / "other", self.mount / "missing")
        self.assertEqual(os.path.realpath(self.mount / "file/inside/.."), self.mount / "file")

    def test_whiteout(self):
        publish(self.mount / "a", b"a")
        with self.assert_errno(errno.EINVAL):
            rename_with(RENAME_WHITEOUT, self.mount / "a", self.mount / "b")
        self.assertEqual(os.listdir(self.mount.path), ["a"])

    def test_onto_itself(self):
        publish(self.mount / "a", b"a")
        os.rename(self.mount / "a", self.mount / "a")
        self.assertEqual(self.contents("a"), [b"a"])

    def test_other_filesystems(self):
        publish(self.mount / "a", b"a")
        with self.assert_errno(errno.EXDEV):
            os.rename(self.mount / "a", self.path("a"))
        with self.assert_errno(errno.EXDEV):
            os.link(self.mount / "a", self.path("a"))
        run("mv", self.mount / "a", self.path("a"))
        self.assertEqual(read_file(self.path("a")), b"a")
        run("mv", self.path("a"), self.mount / "b")
        self.assertEqual(self.contents("b"), [b"a"])

    def test_same_as_on_a_disk(self):
        """Random changes to the mount and to a directory of the disk: the same errors, and the same tree at the end."""
        for seed in range(harness.scaled(8, least=3)):
            with self.subTest(seed=seed):
                maker = random.Random(seed)
                roots = [self.mount / f"tree{seed}", self.path(f"tree{seed}")]
                for root in roots:
                    os.mkdir(root)
                for step in range(400):
                    change = self.random_change(maker, step)
                    outcomes = [self.outcome(change, root) for root in roots]
                    self.assertEqual(outcomes[0], outcomes[1], f"step {step}: {change}")
                trees.assert_same(self, roots[0], roots[1], published=True, with_times=False)

    @staticmethod
    def random_change(maker, step):
        def path():
            return "/".join(maker.choice("abc") for _ in range(maker.randint(1, 3)))

        kinds = ("create", "create", "mkdir", "mkdir", "unlink", "rmdir", "link", "symlink", "rename", "rename",
                 "rename", "noreplace", "exchange", "chmod", "list")
        return maker.choice(kinds), path(), path(), step

    @staticmethod
    def outcome(change, root):
        kind, first, second, step = change
        first, second = os.path.join(root, first), os.path.join(root, second)
        flags = {"noreplace": RENAME_NOREPLACE, "exchange": RENAME_EXCHANGE}
        try:
            if kind == "create":
                descriptor = os.open(first, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
                os.write(descriptor, b"%d" % step * (step * step % 977))
                os.close(descriptor)
            elif kind in flags:
                rename_with(flags[kind], first, second)
            elif kind in ("link", "rename"):
                getattr(os, kind)(first, second)
            elif kind == "symlink":
                os.symlink(f"target{step}", first)
            elif kind == "chmod":
                if os.path.isfile(first):  # links lead to nowhere, and a directory would lose its search bits
                    os.chmod(first, 0o444 | step % 2)
            elif kind == "list":
                return sorted(os.listdir(first))
            else:
                getattr(os, kind)(first)
        except OSError as error:
            return errno.errorcode[error.errno]
        return "done"


class Attributes(harness.MountedCase):
    options = ("allow_other",)

    def test_umask(self):
        before = os.umask(0o027)
        try:
            write_file(self.mount / "file", b"x")
            os.mkdir(self.mount / "directory")
        finally:
            os.umask(before)
        wait_sealed(self.mount / "file")
        self.assertEqual(stat.S_IMODE(os.stat(self.mount / "file").st_mode), 0o440)
        self.assertEqual(stat.S_IMODE(os.stat(self.mount / "directory").st_mode), 0o750)

    def test_chmod_and_chown(self):
        os.mkdir(self.mount / "directory")
        for mode in (0o700, 0o1777, 0o2755, 0o000, 0o6711):
            os.chmod(self.mount / "directory", mode)
            self.assertEqual(stat.S_IMODE(os.stat(self.mount / "directory").st_mode), mode)
        publish(self.mount / "file", b"x")
        wait_sealed(self.mount / "file")
        os.chmod(self.mount / "file", 0o4755)
        self.assertEqual(stat.S_IMODE(os.stat(self.mount / "file").st_mode), 0o4555)
        os.chown(self.mount / "file", 1, 2)
        status = os.stat(self.mount / "file")
        self.assertEqual((status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)), (1, 2, 0o555))
        os.chown(self.mount / "file", -1, 4_000_000_000)
        self.assertEqual((os.stat(self.mount / "file").st_uid, os.stat(self.mount / "file").st_gid), (1, 4_000_000_000))

    def test_new_files_belong_to_their_maker(self):
        os.chmod(self.mount.path, 0o777)

        def make():
            write_file(self.mount / "file", b"x")
            os.mkdir(self.mount / "directory")
            os.symlink("x", self.mount / "link")
            write_file(os.path.join(self.mount.staging, "staged"), b"x")

        if not stat.S_IMODE(os.stat(self.mount.staging).st_mode) & 0o002:
            os.chmod(self.mount.staging, 0o1777)
        as_user(make)
        for name in ("file", "directory", "link", ".lmdbfs/staging/staged"):
            status = os.lstat(self.mount / name)
            self.assertEqual((status.st_uid, status.st_gid), (harness.NOBODY, harness.NOBODY), name)

    def test_an_ordinary_user_can_do_every_shape_in_a_directory_of_their_own(self):
        os.mkdir(self.mount / "home")
        os.chown(self.mount / "home", harness.NOBODY, harness.NOBODY)
        home = self.mount / "home"

        def work():
            for index in range(20):
                publish(os.path.join(home, f"{index % 3}"), b"%d" % index)
            write_file(os.path.join(home, "final"), b"final")
            os.makedirs(os.path.join(home, "a/b"))
            os.rename(os.path.join(home, "a"), os.path.join(home, "c"))
            os.utime(os.path.join(home, "final"), ns=(5, 7))
            os.chmod(os.path.join(home, "final"), 0o600)
            return sorted(os.listdir(home)), read_file(os.path.join(home, "0"))

        self.assertEqual(as_user(work), (["0", "1", "2", "c", "final"], b"18"))
        self.assertEqual(os.stat(self.mount / "home/final").st_mtime_ns, 7)

    def test_set_gid_directories_hand_down_their_group(self):
        os.mkdir(self.mount / "shared")
        os.chown(self.mount / "shared", 0, 1234)
        os.chmod(self.mount / "shared", 0o2777)
        os.mkdir(self.mount / "shared/below")
        write_file(self.mount / "shared/file", b"x")
        self.assertEqual(os.stat(self.mount / "shared/file").st_gid, 1234)
        status = os.stat(self.mount / "shared/below")
        self.assertEqual((status.st_gid, status.st_mode & stat.S_ISGID), (1234, stat.S_ISGID))

    def test_sticky_directories(self):
        os.mkdir(self.mount / "tmp")
        os.chmod(self.mount / "tmp", 0o1777)
        publish(self.mount / "tmp/of-root", b"x")
        with self.assert_errno(errno.EPERM, errno.EACCES):
            as_user(os.unlink, self.mount / "tmp/of-root")
        with self.assert_errno(errno.EPERM, errno.EACCES):
            as_user(os.rename, self.mount / "tmp/of-root", self.mount / "tmp/other")

    def test_times_in_nanoseconds(self):
        publish(self.mount / "file", b"x")
        os.mkdir(self.mount / "directory")
        for name in ("file", "directory"):
            os.utime(self.mount / name, ns=(1_600_000_000_000_000_001, 1_500_000_000_999_999_999))
            self.assertEqual(os.stat(self.mount / name).st_mtime_ns, 1_500_000_000_999_999_999)
        run("touch", self.mount / "file")
        self.assertAlmostEqual(os.stat(self.mount / "file").st_mtime, time.time(), delta=60)

    def test_times_of_directories_change_with_their_names(self):
        os.mkdir(self.mount / "directory")
        directory = self.mount / "directory"
        for change in (
            lambda: write_file(directory + "/file", b"x"),
            lambda: os.rename(directory + "/file", directory + "/other"),
            lambda: os.link(directory + "/other", directory + "/link"),
            lambda: os.unlink(directory + "/other"),
            lambda: os.mkdir(directory + "/below"),
            lambda: os.rmdir(directory + "/below"),
            lambda: os.symlink("x", directory + "/symlink"),
        ):
            os.utime(directory, ns=(0, 0))
            change()
            self.assertGreater(os.stat(directory).st_mtime, 1_000_000_000)


class ManyProcesses(harness.MountedCase):
    """Processes that get into each other's way, on the same few names."""

    def disturb(self, root, seed, stop):
        """Random changes until told to stop. Returns how many succeeded, or the error that no disk would give."""
        maker = random.Random(seed)
        done = step = 0
        while not os.path.exists(stop):
            step += 1
            outcome = Renaming.outcome(Renaming.random_change(maker, step), root)
            done += outcome == "done"
            if outcome in ("EIO", "ESTALE", "ENOTCONN", "ENOSPC", "EFAULT", "ENOSYS"):
                return outcome
        return done

    def test_kernel_and_store_agree_afterwards(self):
        root = self.mount / "tree"
        os.mkdir(root)
        for round_ in range(harness.scaled(5, least=2)):
            stop = self.path(f"stop{round_}")
            children = [harness.Child(self.disturb, root, f"{round_} {number}", stop) for number in range(6)]
            time.sleep(1.5)  # the length of a round
            write_file(stop, b"")
            for child in children:
                self.assertGreater(child.result(), 20)
            self.assert_clean()
            seen = trees.scan(root)  # by what the kernel remembers
            self.assert_same_in_the_store(seen)

    def assert_same_in_the_store(self, seen):
        out = self.path("out")
        lmdbfs("export", self.store, out, "tree")
        trees.assert_same(self, seen, trees.scan(out), published=True)
        run("rm", "-rf", out)

    def test_one_directory_filled_by_many(self):
        count = harness.scaled(300, least=50)

        def fill(number):
            for index in range(count):
                publish(self.mount / f"{number}-{index}", b"%d" % index, self.mount / f".temporary{number}")

        for child in [harness.Child(fill, number) for number in range(6)]:
            child.result()
        expected = {f"{number}-{index}" for number in range(6) for index in range(count)}
        self.assertEqual(set(os.listdir(self.mount.path)), expected)

    def test_many_files_open_for_writing(self):
        """More than the daemon could keep open at the limits that it usually starts with."""
        count = harness.scaled(3000, least=1500)
        files = [open(self.mount / f"{index}", "wb", buffering=0) for index in range(count)]
        for index, file in enumerate(files):
            file.write(b"%d" % index)
        for file in files:
            file.close()
        for index in range(count):
            self.assertEqual(read_file(self.mount / f"{index}"), b"%d" % index)


if __name__ == "__main__":
    harness.main()
