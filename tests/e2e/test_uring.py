# SPDX-License-Identifier: BSD-2-Clause
"""
Requests by io_uring: chosen, refused and told; everything done over it at once; and every way to end.

Whether the kernel offers it is a switch of the whole machine. It is on only while a test mounts, and what it was
is written back in every case, also when the test is killed. Mounts that others make meanwhile would use it too, so
nothing else runs beside this.
"""

import contextlib
import errno
import hashlib
import os
import random
import signal
import subprocess
import sys

import harness
from harness import (
    GONE, LMDBFS, Child, is_mounted, lmdbfs, mounted, publish, read_file, run, scaled, wait_for, write_file,
)

SWITCH = "/sys/module/fuse/parameters/enable_uring"
SKIPPED = 77  # meson's word for it

# A process, so that it outlives the test.
RESTORE = """
import sys
value = open(sys.argv[1]).read()
open(sys.argv[1], "w").write(sys.argv[2])
print(flush=True)
sys.stdin.read()
open(sys.argv[1], "w").write(value)
"""


@contextlib.contextmanager
def switched(value):
    """The kernel's switch is `value`, Y or N, within the block."""
    command = [sys.executable, "-I", "-S", "-c", RESTORE, SWITCH, value]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        if not process.stdout.readline():
            raise AssertionError(f"can't write {SWITCH}")
        try:
            yield
        finally:
            process.stdin.close()
            if process.wait() != 0:
                raise AssertionError(f"{SWITCH} could not be put back")


@contextlib.contextmanager
def ring_mount(store, *options, **others):
    """A mount that surely uses rings."""
    with contextlib.ExitStack() as stack:
        with switched("Y"):
            mount = stack.enter_context(mounted(store, *options, "io_uring=on", **others))
        yield mount


def way(mount):
    """How requests come, and why not otherwise."""
    prefix = 'lmdbfs_way_info{of="requests",way="'
    found = [name for name in mount.stats() if name.startswith(prefix)]
    assert len(found) == 1, found
    taken, why = found[0][len(prefix) :].split('",why="')
    return taken, why.removesuffix('"}')


def rings_are_possible():
    """Whether this kernel and this libfuse can do it at all; else why not."""
    if not os.path.exists(SWITCH):
        return "this kernel has no FUSE over io_uring"
    with harness.tempfile.TemporaryDirectory(dir=harness.disk_directory()) as directory, switched("Y"):
        with mounted(os.path.join(directory, "store")) as mount:
            taken, why = way(mount)
            return "" if taken == "io_uring" else why


def stay_on(cpu):
    os.sched_setaffinity(0, {cpu})


class Choice(harness.Case):
    def test_ways(self):
        for switch, option, wanted in (
            ("Y", "io_uring=on", ("io_uring", "")),
            ("Y", "io_uring=auto", ("io_uring", "")),
            ("Y", "rw", ("io_uring", "")),
            ("Y", "io_uring=off", ("/dev/fuse", "io_uring=off")),
            ("N", "io_uring=off", ("/dev/fuse", "io_uring=off")),
        ):
            with self.subTest(switch=switch, option=option), switched(switch), mounted(self.store, option) as mount:
                self.assertEqual(way(mount), wanted)
                publish(mount / "file", b"content")
                self.assertEqual(read_file(mount / "file"), b"content")

    def test_way_out_is_named(self):
        with switched("N"), mounted(self.store) as mount:
            taken, why = way(mount)
            self.assertEqual(taken, "/dev/fuse")
            self.assertIn(f"echo Y >{SWITCH}", why)

    def test_on_is_refused_where_it_is_off(self):
        point = self.path("mnt")
        os.mkdir(point)
        with switched("N"):
            self.assert_refused("mount", "-o", "io_uring=on", self.store, point, says=["io_uring", SWITCH])
        self.assertFalse(is_mounted(point))
        with mounted(self.store, at=point) as mount:  # nobody holds the store
            self.assertEqual(os.listdir(mount.path), [])

    def test_options(self):
        os.mkdir(self.path("mnt"))
        for option in ("io_uring", "io_uring=", "io_uring=maybe", "io_uring=ON"):
            with self.subTest(option):
                self.assert_refused("mount", "-o", option, self.store, self.path("mnt"), code=2, says=[option])
        self.assertIn("io_uring=auto|on|off", lmdbfs("mount", "--help").stdout)

    def test_switched_off_later(self):
        """What is mounted goes on, with more workers than it began with."""
        with ring_mount(self.store) as mount, switched("N"):
            children = [Child(many_names, mount.path, number) for number in range(16)]
            for child in children:
                child.result()
            self.assertEqual(way(mount), ("io_uring", ""))


    def test_many_mapped_files_at_a_time(self):
        with ring_mount(self.store) as mount:
            for path, content in harness.publish_many_mapped(mount).items():
                harness.wait_sealed(path)
                self.assertEqual(read_file(path), content)


def many_names(root, number):
    for step in range(5):
        os.mkdir(os.path.join(root, f"{number}-{step}"))


def marked(size, key):
    """Content that shows whether it is whole: a hash and what it is of."""
    body = random.Random(key).randbytes(size)
    return hashlib.sha256(body).digest() + body


def is_whole(content):
    return hashlib.sha256(content[32:]).digest() == content[:32]


SIZES = (0, 100, 1926, 4096, 70_000, 300_000, 1_500_000)
SHARED = 12


def replace_shared(root, number, rounds):
    maker = random.Random(number)
    for step in range(rounds):
        target = os.path.join(root, f"shared{maker.randrange(SHARED)}")
        place = maker.choice((".lmdbfs/staging", "."))
        publish(target, marked(maker.choice(SIZES), step), os.path.join(root, place, f"new{number}"))


def read_shared(root, number, rounds):
    maker = random.Random(number)
    for _ in range(rounds):
        content = read_file(os.path.join(root, f"shared{maker.randrange(SHARED)}"))
        assert is_whole(content), f"torn: {len(content)} bytes"
        names = os.listdir(root)
        assert len(names) == len(set(names)), "a name twice"
        assert {f"shared{n}" for n in range(SHARED)} <= set(names), "a name is missing"
        try:
            os.stat(os.path.join(root, f"missing{maker.random()}"))
            raise AssertionError("there is no such file")
        except FileNotFoundError:
            pass


def own_corner(root, number, rounds):
    """Directories, links, the longest names and large writes, where nobody else interferes."""
    home = os.path.join(root, f"corner{number}")
    os.mkdir(home)
    for step in range(rounds):
        directory = os.path.join(home, "d" * 255)
        os.mkdir(directory)
        long = os.path.join(directory, f"{step:0255}")
        content = marked(1 << 20, (number, step).__hash__())
        with open(long, "wb", buffering=0) as file:
            assert file.write(content) == len(content)
            os.fsync(file.fileno())
        target = "t" * 4095
        os.symlink(target, os.path.join(directory, "symlink"))
        assert os.readlink(os.path.join(directory, "symlink")) == target
        os.link(long, os.path.join(home, "hard"))
        assert os.getxattr(os.path.join(home, "hard"), "user.lmdbfs.xxh3")
        os.unlink(long)
        assert read_file(os.path.join(home, "hard")) == content
        os.unlink(os.path.join(home, "hard"))
        os.unlink(os.path.join(directory, "symlink"))
        os.chmod(directory, 0o700)
        os.rmdir(directory)
        assert os.listdir(home) == []


class Load(harness.Case):
    def test_everything_at_once(self):
        with ring_mount(self.store) as mount:
            for number in range(SHARED):
                publish(mount / f"shared{number}", marked(1000, number))
            jobs = [(replace_shared, scaled(120, 10)), (read_shared, scaled(400, 20)), (own_corner, scaled(12, 2))]
            children = [Child(job, mount.path, number, rounds) for number in range(3) for job, rounds in jobs]
            for child in children:
                child.result()
            self.assertEqual(way(mount), ("io_uring", ""))
            kept = {name: read_file(mount / name) for name in os.listdir(mount.path) if name.startswith("shared")}
        with mounted(self.store, "io_uring=off") as mount:
            self.assertEqual({name: read_file(mount / name) for name in kept}, kept)
        self.assert_clean()

    def test_cold_reads_of_all_sizes(self):
        contents = {f"file{size}": os.urandom(size) for size in (*SIZES, 262_143, 262_144, 262_145, 9_000_000)}
        with ring_mount(self.store) as mount:
            for name, content in contents.items():
                publish(mount / name, content)
        for option in ("rw", "ro", "max_read=131072"):
            with self.subTest(option), ring_mount(self.store, option) as mount:
                self.assertEqual({name: read_file(mount / name) for name in os.listdir(mount.path)}, contents)

    def test_debug(self):
        """-d shows requests that come by a ring as well."""
        point = self.path("mnt")
        os.mkdir(point)
        with open(self.path("said"), "wb") as said:
            with switched("Y"):
                daemon = subprocess.Popen([LMDBFS, "mount", "-d", "-o", "io_uring=on", self.store, point], stderr=said)
                wait_for(lambda: is_mounted(point), what="mounted")
            try:
                os.mkdir(os.path.join(point, "directory"))
            finally:
                run("umount", point)
            self.assertEqual(daemon.wait(60), 0)
        self.assertIn(b"MKDIR", read_file(self.path("said")))


class SlowRequests(harness.Case):
    """What waits for the disk keeps nothing else waiting, though it was asked for on the same CPU."""

    # Fewer than the workers of a queue, more than it begins with.
    WRITERS = 6
    DELAY = 20_000_000  # microseconds

    @contextlib.contextmanager
    def slow_disk(self, mount):
        """Each commit takes long from now on."""
        command = ["strace", "-f", "-p", str(mount.pid), "-o", self.path("trace"), "-e", "trace=fdatasync",
                   "-e", f"inject=fdatasync:delay_enter={self.DELAY}"]
        with subprocess.Popen(command, stderr=subprocess.PIPE) as strace:
            try:
                self.assertIn(b"attached", strace.stderr.readline())
                yield
            finally:
                strace.terminate()

    def test_reads_go_on(self):
        cpu = min(os.sched_getaffinity(0))
        with ring_mount(self.store, "sync") as mount:
            publish(mount / "file", b"content")
            publish(mount / "other", os.urandom(100_000))
            homes = [mount / f"home{number}" for number in range(self.WRITERS)]  # the kernel locks a directory
            for home in homes:
                os.mkdir(home)
            with self.slow_disk(mount):
                before = mount.stats()['lmdbfs_requests_total{op="mkdir"}']
                writers = [Child(self.slow, cpu, os.path.join(home, "new")) for home in homes]
                reader = Child(self.watch, cpu, mount, before + self.WRITERS)
                reader.result()
                self.assertTrue(all(writer.running() for writer in writers), "the reader had to wait for a commit")
            for writer in writers:
                writer.result()
            self.assertEqual([os.listdir(home) for home in homes], [["new"]] * self.WRITERS)

    @staticmethod
    def slow(cpu, path):
        stay_on(cpu)
        os.mkdir(path)

    @staticmethod
    def watch(cpu, mount, wanted):
        stay_on(cpu)
        wait_for(lambda: mount.stats()['lmdbfs_requests_total{op="mkdir"}'] == wanted, what="all are in the daemon")
        assert not os.path.exists(mount / "missing")
        assert read_file(mount / "file") == b"content"
        assert len(read_file(mount / "other")) == 100_000
        os.listdir(mount.path)


class Ends(harness.Case):
    def test_many_times(self):
        for step in range(scaled(20, 4)):
            with ring_mount(self.store) as mount:
                write_file(mount / f"file{step}", b"content")
                self.assertEqual(len(os.listdir(mount.path)), step + 1)
        self.assert_clean()

    def test_signal_while_in_use(self):
        for number in (signal.SIGTERM, signal.SIGINT):
            with self.subTest(number), ring_mount(self.store) as mount:
                publish(mount / "file", b"content")
                with open(mount / "file", "rb") as file:
                    load = [Child(self.until_it_ends, mount.path, name) for name in range(4)]
                    wait_for(lambda: len(os.listdir(mount.path)) > 4, what="under load")
                    mount.signal(number)
                    self.assertTrue(mount.ended(harness.DAEMON_EXIT_LIMIT), "the daemon did not end")
                    for child in load:
                        # EXDEV: one of a rename's names was looked up before the unmount, one after.
                        self.assertIn(child.result(), (*GONE, errno.ENOENT, errno.EXDEV))
                    with self.assert_errno(*GONE):
                        os.fstatvfs(file.fileno())
                self.assertFalse(is_mounted(mount.path))
            self.assert_clean()

    def test_killed_under_load(self):
        for step in range(scaled(5, 2)):
            with ring_mount(self.store) as mount:
                load = [Child(self.until_it_ends, mount.path, f"{step}-{name}") for name in range(6)]
                wait_for(lambda: len(os.listdir(mount.path)) > 10, what="under load")
                harness.sync(mount.path)
                mount.kill()
                for child in load:
                    # EINTR: the kernel reads and writes a ring's memory as the process that is being killed.
                    self.assertIn(child.result(), (*GONE, errno.EINTR))
                with ring_mount(self.store, at=mount.path) as again:  # clears the dead one away
                    self.assertGreater(len(os.listdir(again.path)), 10)
            self.assert_clean()

    def test_unmounted_by_fusermount(self):
        with ring_mount(self.store) as mount:
            write_file(mount / "file", b"content")
            mount.kill()
            run("fusermount3", "-u", mount.path)
            self.assertFalse(is_mounted(mount.path))

    def test_lazy_unmount(self):
        """Who still has a file open goes on reading it."""
        content = os.urandom(3_000_000)
        with ring_mount(self.store) as mount:
            publish(mount / "file", content)
            with open(mount / "file", "rb") as file:
                run("umount", "-l", mount.path)
                self.assertFalse(mount.ended(0))
                self.assertEqual(file.read(), content)
            self.assertTrue(mount.ended(harness.DAEMON_EXIT_LIMIT))
        self.assert_clean()

    @staticmethod
    def until_it_ends(root, name):
        """Make, publish, read and remove until there is no daemon any more: with which error."""
        step = 0
        try:
            while True:
                path = os.path.join(root, f"{name}.{step}")
                publish(path, os.urandom(5000), os.path.join(root, ".lmdbfs/staging", str(name)))
                read_file(path)
                if step % 3 == 0:
                    os.unlink(path)
                step += 1
        except OSError as error:
            return error.errno


if __name__ == "__main__":
    if os.geteuid() == 0 and os.path.exists("/dev/fuse") and (reason := rings_are_possible()):
        print(f"SKIPPED, nothing was tested: {reason}", file=sys.stderr)
        sys.exit(SKIPPED)
    harness.main()
