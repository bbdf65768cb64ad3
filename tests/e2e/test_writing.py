# SPDX-License-Identifier: BSD-2-Clause
"""New files that the kernel writes by itself, into the host file behind them: no WRITE, and the same as ever."""

import contextlib
import errno
import mmap
import os
import random
import signal

import harness
from harness import Child, as_user, is_sealed, mounted, publish, read_file, run, wait_for, wait_sealed, write_file
from test_large import way

MIB = 1 << 20
O_DIRECT_PIECE = 4096
AT_SYMLINK_FOLLOW = 0x400
TICK_NS = 10_000_000  # in which the filesystem below may count, and the store doesn't


def content(size, salt=0):
    return random.Random(f"{size} {salt}").randbytes(size)


def write_requests(mount):
    return mount.stats()['lmdbfs_requests_total{op="write"}']


def by_copy(path, source, bytes_):
    run("cp", source, path)


def by_dd(path, source, bytes_):
    run("dd", f"if={source}", f"of={path}", "bs=100001", "status=none")


def by_appending(path, source, bytes_):
    with open(path, "ab", buffering=0) as file, open(path, "ab", buffering=0) as other:
        for start in range(0, len(bytes_), 700_001):
            (file if start % 2 else other).write(bytes_[start : start + 700_001])


def by_mapping(path, source, bytes_):
    with open(path, "w+b") as file:
        file.truncate(len(bytes_))
        with mmap.mmap(file.fileno(), len(bytes_)) as view:
            view[:] = bytes_


def by_truncating(path, source, bytes_):
    with open(path, "wb", buffering=0) as file:
        file.write(b"x" * (len(bytes_) + 5 * MIB))
        os.truncate(path, 1000)
        os.ftruncate(file.fileno(), len(bytes_))
        assert os.fstat(file.fileno()).st_size == len(bytes_)
        file.seek(0)
        with open(path, "r+b", buffering=0) as other, open(path, "rb") as reader:
            other.truncate(0)
            assert reader.read() == b""
            other.write(bytes_)
            assert reader.read() == bytes_


def by_holes(path, source, bytes_):
    with open(path, "wb", buffering=0) as file:
        os.posix_fallocate(file.fileno(), 0, len(bytes_) + MIB)
        for start in reversed(range(0, len(bytes_), MIB)):
            os.pwrite(file.fileno(), bytes_[start : start + MIB], start)
        os.ftruncate(file.fileno(), len(bytes_))


def by_direct_io(path, source, bytes_):
    whole = len(bytes_) // O_DIRECT_PIECE * O_DIRECT_PIECE
    with mmap.mmap(-1, whole) as buffer:
        buffer[:] = bytes_[:whole]
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_DIRECT)
        try:
            assert os.write(descriptor, buffer) == whole
        finally:
            other = os.open(path, os.O_WRONLY)
            os.close(descriptor)
            os.pwrite(other, bytes_[whole:], whole)
            os.close(other)


def by_kernel_copies(path, source, bytes_):
    middle = len(bytes_) // 2
    with open(source, "rb", buffering=0) as old, open(path, "wb", buffering=0) as new:
        at = 0
        while at < middle:
            at += os.sendfile(new.fileno(), old.fileno(), at, middle - at)
        while at < len(bytes_):
            with contextlib.suppress(OSError):  # not between filesystems, on some kernels
                at += os.copy_file_range(old.fileno(), new.fileno(), len(bytes_) - at, at, at)
                continue
            at += os.pwrite(new.fileno(), bytes_[at:], at)


def by_temporary_file(path, source, bytes_):
    descriptor = os.open(os.path.dirname(path), os.O_TMPFILE | os.O_WRONLY)
    os.write(descriptor, bytes_)
    name = os.fsencode(f"/proc/self/fd/{descriptor}")
    assert harness.LIBC.linkat(harness.AT_FDCWD, name, harness.AT_FDCWD, os.fsencode(path), AT_SYMLINK_FOLLOW) == 0
    os.close(descriptor)


def by_two_readers_beside(path, source, bytes_):
    with open(path, "w+b", buffering=0) as file, open(path, "rb", buffering=0) as early:
        file.write(bytes_[:MIB])
        assert early.read(MIB) == bytes_[:MIB]
        file.write(bytes_[MIB:])
        os.fsync(file.fileno())
        with mmap.mmap(early.fileno(), 0, prot=mmap.PROT_READ) as view:
            assert view[:] == bytes_
        assert os.pread(file.fileno(), 100, 5) == bytes_[5:105]


WAYS = (by_copy, by_dd, by_appending, by_mapping, by_truncating, by_holes, by_direct_io, by_kernel_copies,
        by_temporary_file, by_two_readers_beside)  # fmt: skip


class PastTheDaemon:
    kind = None

    def setUp(self):
        super().setUp()
        self.disk = self.enterContext(harness.small_disk(self.directory, 800, self.kind))
        self.store = os.path.join(self.disk, "store")
        self.mounts = self.enterContext(contextlib.ExitStack())
        self.mount = self.mounts.enter_context(self.mounted())

    def assert_clean_at_the_end(self):
        self.mounts.close()
        self.assert_clean()

    def mounted(self):
        return mounted(self.store, "records=large", "allow_other", at=self.path("mnt"))

    def test_content(self):
        files = {}
        for size in (1, 1500, 40_000, 3 * MIB + 77):
            source = self.make_file(f"source{size}", content(size))
            for write in WAYS if size > 2 * MIB else (by_copy, by_appending):
                name = f"{write.__name__}-{size}"
                before = write_requests(self.mount)
                write(self.mount / name, source, content(size))
                self.assertEqual(write_requests(self.mount), before, name)
                self.assertEqual(read_file(self.mount / name), content(size), name)
                wait_sealed(self.mount / name)
                files[name] = content(size)
        for name, bytes_ in files.items():
            self.assertEqual(os.stat(self.mount / name).st_size, len(bytes_), name)
            self.assertEqual(read_file(self.mount / name), bytes_, name)
            with self.assert_errno(errno.EPERM):
                os.open(self.mount / name, os.O_WRONLY)
        harness.sync(self.mount.path)
        self.assertEqual(os.listdir(os.path.join(self.store, "staging")), [])
        self.assertEqual(way(self.mount, "writing"), ("passthrough", ""))
        self.assert_clean_at_the_end()
        with self.mounted() as mount:
            for name, bytes_ in files.items():
                self.assertEqual(read_file(mount / name), bytes_, name)

    def test_attributes(self):
        with open(self.mount / "a", "wb", buffering=0) as file:
            for size in (1, 5000, 3 * MIB):
                before = os.fstat(file.fileno())
                file.write(bytes(size))
                now = os.fstat(file.fileno())
                self.assertEqual(now.st_size, before.st_size + size)
                self.assertGreaterEqual(now.st_mtime_ns, before.st_mtime_ns - TICK_NS)
                self.assertEqual(os.stat(self.mount / "a"), now)
            harness.sync(self.mount / "a")
            self.assertGreater(os.fstat(file.fileno()).st_blocks, 3 * MIB // 512)
            os.ftruncate(file.fileno(), 77)
            self.assertEqual(os.fstat(file.fileno()).st_size, 77)
            os.utime(file.fileno(), ns=(10**18 + 1, 10**18 + 2))
            self.assertEqual(os.stat(self.mount / "a").st_mtime_ns, 10**18 + 2)
        wait_sealed(self.mount / "a")
        status = os.stat(self.mount / "a")
        self.assertEqual((status.st_atime_ns, status.st_mtime_ns, status.st_size), (10**18 + 1, 10**18 + 2, 77))

    def test_times_are_kept_by_who_only_opens(self):
        os.mknod(self.mount / "a", 0o644)
        os.utime(self.mount / "a", ns=(10**18, 10**18))
        with open(self.mount / "a", "r+b"):
            pass
        harness.sync(self.mount.path)
        self.assertEqual(os.stat(self.mount / "a").st_mtime_ns, 10**18)
        self.mounts.close()
        with self.mounted() as mount:
            self.assertEqual(os.stat(mount / "a").st_mtime_ns, 10**18)

    def test_set_uid(self):
        """Writing takes the bit, as on ext4."""

        def write():
            descriptor = os.open(self.mount / "open/a", os.O_WRONLY)
            os.write(descriptor, b"other bytes")
            mode = os.fstat(descriptor).st_mode
            os.close(descriptor)
            return mode

        os.mkdir(self.mount / "open")
        os.chmod(self.mount / "open", 0o777)
        os.mknod(self.mount / "open/a", 0o644)
        os.chmod(self.mount / "open/a", 0o6777)
        self.assertEqual(as_user(write) & 0o7777, 0o777)

    def test_set_uid_given_while_it_is_written(self):
        """Kept if nothing is written afterwards, as by install(1), or only by root."""

        def write(path, more):
            with open(path, "wb", buffering=0) as file:
                file.write(content(100_000))
                os.fchmod(file.fileno(), 0o6755)
                if more:
                    file.write(b"more")

        os.mkdir(self.mount / "open")
        os.chmod(self.mount / "open", 0o777)
        for user, more in ((0, False), (0, True), (harness.NOBODY, False), (harness.NOBODY, True)):
            path = self.mount / f"open/{user}{more}"
            as_user(write, path, more, user=user)
            wait_sealed(path)
            self.assertEqual(os.stat(path).st_mode & 0o7777, 0o555 if user and more else 0o6555)

    def test_opened_before_and_after_sealing(self):
        bytes_ = content(3 * MIB)
        with open(self.mount / "a", "w+b", buffering=0) as writer, contextlib.ExitStack() as stack:
            writer.write(bytes_)
            early = stack.enter_context(open(self.mount / "a", "rb"))
            writer.close()
            wait_sealed(self.mount / "a")
            harness.sync(self.mount.path)
            late = stack.enter_context(open(self.mount / "a", "rb"))
            for file in (early, late):
                self.assertEqual(file.read(), bytes_)
            publish(self.mount / "a", b"another")
            os.fsync(late.fileno())
            self.assertEqual(os.pread(late.fileno(), MIB, MIB), bytes_[MIB : 2 * MIB])
            self.assertEqual(read_file(self.mount / "a"), b"another")
        self.assert_clean()

    def test_empty_file_with_a_reader(self):
        """It is published when its writer closes it, and takes another one; who reads it sees that one's bytes."""
        with open(self.mount / "a", "wb", buffering=0) as writer:
            reader = self.enterContext(open(self.mount / "a", "rb", buffering=0))
            writer.write(b"something")
            self.assertEqual(os.pread(reader.fileno(), 100, 0), b"something")
            writer.truncate(0)
        harness.sync(self.mount.path)
        write_file(self.mount / "a", content(2 * MIB))
        self.assertEqual(os.pread(reader.fileno(), 3 * MIB, 0), content(2 * MIB))
        wait_sealed(self.mount / "a")
        self.assertEqual(read_file(self.mount / "a"), content(2 * MIB))
        reader.close()
        self.assert_clean()

    def test_mapping_outlives_the_close(self):
        """A file that somebody can still change isn't final, under whichever name; then it is, with what was stored."""
        bytes_ = bytearray(content(2 * MIB))
        with open(self.mount / "a.tmp", "w+b") as file:
            file.write(bytes_)
            file.flush()
            view = mmap.mmap(file.fileno(), 0)
        os.rename(self.mount / "a.tmp", self.mount / "a")
        for place in (0, MIB + 5, 2 * MIB - 1):
            harness.sync(self.mount.path)
            self.assertFalse(is_sealed(self.mount / "a"))
            view[place] = bytes_[place] = bytes_[place] ^ 0xFF
            self.assertEqual(read_file(self.mount / "a"), bytes_)
        view.close()
        wait_sealed(self.mount / "a")
        self.assertEqual(read_file(self.mount / "a"), bytes_)
        self.assert_clean_at_the_end()
        with self.mounted() as mount:
            self.assertEqual(read_file(mount / "a"), bytes_)

    def test_mapping_when_staging_is_left(self):
        bytes_ = bytearray(content(MIB))
        os.mkdir(os.path.join(self.mount.staging, "tree"))
        views = []
        for name in ("file", "tree/file"):
            with open(os.path.join(self.mount.staging, name), "w+b") as file:
                file.write(bytes_)
                file.flush()
                views.append(mmap.mmap(file.fileno(), 0))
        for name in ("file", "tree"):
            os.rename(os.path.join(self.mount.staging, name), self.mount / name)
        bytes_[7] ^= 1
        for name, view in zip(("file", "tree/file"), views):
            self.assertFalse(is_sealed(self.mount / name))
            view[7] = bytes_[7]
            view.close()
            wait_sealed(self.mount / name)
            self.assertEqual(read_file(self.mount / name), bytes_)

    def test_writer_outlives_the_daemon(self):
        """What he writes afterwards is no longer seen, or is all there; the next mount waits for him."""
        go, done = self.path("go"), self.path("done")

        def write():
            with open(self.mount / "a", "wb", buffering=0) as file:
                file.write(b"before")
                write_file(done, b"")
                wait_for(lambda: os.path.exists(go), what="told to go on")
                with contextlib.suppress(OSError):
                    file.write(b" and after")
            return True

        child = Child(write)
        wait_for(lambda: os.path.exists(done), what="the first bytes")
        harness.sync(self.mount.path)
        self.mount.kill()
        run("umount", "-l", self.mount.path)
        with mounted(self.store, "records=large", "allow_other", at=self.path("mnt2")) as mount:
            self.assertEqual(read_file(mount / "a"), b"before")
            self.assertFalse(is_sealed(mount / "a"))
            write_file(go, b"")
            self.assertTrue(child.result())
            wait_sealed(mount / "a")
            self.assertIn(read_file(mount / "a"), (b"before", b"before and after"))
        self.assert_clean()

    def test_killed_while_it_is_written(self):
        kept = {}
        for round_ in range(harness.scaled(8, least=3)):
            child = Child(by_dd, self.mount / f"cut{round_}", self.make_file("source", content(20 * MIB)), None)
            name, bytes_ = f"kept{round_}", content(2 * MIB + round_)
            publish(self.mount / name, bytes_)
            harness.sync(self.mount / name)
            kept[name] = bytes_
            self.mount.kill()
            child.kill()
            self.mounts.close()
            self.mount = self.mounts.enter_context(self.mounted())
            for name, bytes_ in kept.items():
                self.assertEqual(read_file(self.mount / name), bytes_)
        self.assert_clean_at_the_end()

    def is_roomy(self):
        status = os.statvfs(self.disk)
        return status.f_bavail * status.f_frsize > 400 * MIB

    def is_durable(self):
        """While others just fill the disk, it may take another attempt."""
        try:
            harness.sync(self.mount.path)
        except OSError as error:
            self.assertEqual(error.errno, errno.ENOSPC)
            return False
        return True

    def test_full_disk(self):
        """Room that was promised to what is published isn't there for who writes past the daemon."""
        write_file(self.mount / "small", b"small")
        source = content(20 * MIB)
        with open(self.mount / "greedy", "wb", buffering=0) as file:
            file.write(b"x")
            status = os.statvfs(self.disk)
            with open(os.path.join(self.disk, "ballast"), "wb") as ballast:
                os.posix_fallocate(ballast.fileno(), 0, status.f_bavail * status.f_frsize - 230 * MIB)
            write_file(self.mount / "promised", source)
            os.rename(self.mount / "promised", self.mount / "published")
            with self.assert_errno(errno.ENOSPC):
                while True:
                    file.write(bytes(MIB))
            size = os.fstat(file.fileno()).st_size
            self.assertGreater(size, 80 * MIB)
            wait_for(self.is_durable, what="what was promised is durable")
        run("sh", "-c", 'cat /dev/zero >"$0" 2>/dev/null || true', os.path.join(self.disk, "rest"))
        for _ in range(3):
            with self.assert_errno(errno.ENOSPC):
                os.rename(self.mount / "greedy", self.mount / "other")
        self.assertEqual(os.stat(self.mount / "greedy").st_size, size)
        self.assertEqual(read_file(self.mount / "published"), source)
        os.unlink(self.mount / "small")
        wait_for(self.is_durable, what="there is room to remove something")
        os.unlink(os.path.join(self.disk, "ballast"))
        os.rename(self.mount / "greedy", self.mount / "other")
        wait_sealed(self.mount / "other")
        self.assertEqual(read_file(self.mount / "other"), b"x" + bytes(size - 1))
        self.assert_clean_at_the_end()

    def test_removed_when_the_disk_is_full(self):
        with open(self.mount / "greedy", "wb", buffering=0) as file:
            with self.assert_errno(errno.ENOSPC):
                while True:
                    file.write(bytes(MIB))
        os.unlink(self.mount / "greedy")
        wait_for(self.is_roomy, what="its room is free")
        publish(self.mount / "a", content(30 * MIB))
        self.assertEqual(read_file(self.mount / "a"), content(30 * MIB))
        self.assert_clean_at_the_end()

    def test_store_into_a_mapping_on_a_full_disk(self):
        """SIGBUS, as on any filesystem, and the daemon goes on."""

        def store():
            with open(self.mount / "a", "w+b", buffering=0) as file:
                file.truncate(2 << 30)
                with mmap.mmap(file.fileno(), 2 << 30) as view:
                    for place in range(0, 2 << 30, 4096):
                        view[place] = 1

        child = Child(store)
        _, status = os.waitpid(child.pid, 0)
        Child.unfinished.discard(child)
        os.close(child.reader)
        self.assertEqual(os.WTERMSIG(status), signal.SIGBUS)
        os.unlink(self.mount / "a")
        wait_for(self.is_roomy, what="its room is free")
        publish(self.mount / "b", content(MIB))
        self.assertEqual(read_file(self.mount / "b"), content(MIB))


class Ext4(PastTheDaemon, harness.Case):
    kind = "ext4"


class Xfs(PastTheDaemon, harness.Case):
    kind = "xfs"


class Otherwise(harness.Case):
    def test_btrfs(self):
        with harness.small_disk(self.directory, 800, "btrfs") as disk:
            with mounted(os.path.join(disk, "store"), "records=large", at=self.path("mnt")) as mount:
                self.assertEqual(way(mount, "writing")[0], "through the daemon")
                self.assertRegex(way(mount, "writing")[1], "^on btrfs")
                publish(mount / "a", content(3 * MIB))
                self.assertEqual(read_file(mount / "a"), content(3 * MIB))

    def test_a_mount_for_small_records(self):
        with mounted(self.store, "records=small") as mount:
            self.assertEqual(way(mount, "writing"), ("through the daemon", "the mount is tuned for small records"))
            write_file(mount / "a", content(MIB))
            self.assertGreater(write_requests(mount), 0)

    def test_a_read_only_mount(self):
        with mounted(self.store):
            pass
        with mounted(self.store, "ro", "records=large") as mount:
            self.assertEqual(way(mount, "writing"), ("through the daemon", "the mount is read-only"))


if __name__ == "__main__":
    harness.main()
