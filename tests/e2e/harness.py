# SPDX-License-Identifier: BSD-2-Clause
"""
What the end-to-end tests share: running lmdbfs, mounting a store and surely unmounting it again, processes of
their own for readers and writers, and disks to fill. Trees of files are made and compared in trees.py.

Environment
    LMDBFS             the program under test; default build/lmdbfs in this repository
    LMDBFS_TEST_SCALE  factor on repetitions and sizes, 1 by default; a sanitizer build takes 0.1 to 0.2
    LMDBFS_TEST_SEED   repeats the choices of a run that printed it
    TMPDIR             where the tests work, /var/tmp by default; never a tmpfs, since stores live on disks

The tests run as root: they mount, change owners and become other users. Nothing is skipped: what is missing is a
failure.
"""

import contextlib
import ctypes
import errno
import json
import mmap
import os
import pickle
import random
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import unittest

REPOSITORY = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
LMDBFS = os.path.abspath(os.environ.get("LMDBFS") or os.path.join(REPOSITORY, "build", "lmdbfs"))
SCALE = float(os.environ.get("LMDBFS_TEST_SCALE") or 1)
SEED = os.environ.get("LMDBFS_TEST_SEED") or str(random.randrange(10**6))  # for who chooses anew in each run

NOBODY = 65534

# Errors of requests to a mount whose daemon has ended; the last is of those that were on their way to it by a ring.
GONE = (errno.ENOTCONN, errno.ECONNABORTED, errno.ECANCELED)

# Nothing here takes nearly as long; what does, hangs.
COMMAND_LIMIT = 240
MOUNT_LIMIT = 420
DAEMON_EXIT_LIMIT = 60


def scaled(count, least=1):
    """`count` repetitions, fewer (but at least `least`) where the build under test is slow."""
    return max(least, int(count * SCALE))


def main():
    """Run the tests of the calling module, after a look at what none of them can do without."""
    if os.geteuid() != 0:
        sys.exit("the end-to-end tests mount filesystems and need root")
    if not os.path.exists("/dev/fuse"):
        sys.exit("no /dev/fuse here: load the module fuse, or give the container the device")
    if not os.access(LMDBFS, os.X_OK):
        sys.exit(f"no program at {LMDBFS}: build it (ninja -C build) or set LMDBFS")
    os.umask(0o022)
    signal.signal(signal.SIGTERM, terminate)
    unittest.main(module="__main__", verbosity=2)


def terminate(number, frame):
    """Told to stop, by a time limit for example: what is mounted has to be unmounted first."""
    Case.terminated = True
    raise SystemExit("terminated")


# ------------------------------------------------------------------------------------------------ waiting --


def wait_for(predicate, timeout=30, what=None):
    """Poll until `predicate` is true and return what it returned."""
    end = time.monotonic() + timeout
    pause = 0.001
    while True:
        value = predicate()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"still not true after {timeout} s: {what or predicate.__name__}")
        time.sleep(pause)
        pause = min(pause * 1.5, 0.1)


# -------------------------------------------------------------------------------------- running commands --


def run(*command, check=True, timeout=COMMAND_LIMIT, text=True, **options):
    """Run a command, its output captured. Unless `check` is False, failing is an error that shows the output."""
    done = subprocess.run(command, capture_output="stdout" not in options, timeout=timeout, text=text,
                          errors="surrogateescape" if text else None, **options)
    if check and done.returncode != 0:
        words = " ".join(os.fsdecode(word) for word in command)
        raise AssertionError(f"exit {done.returncode}: {words}\n{done.stdout}\n{done.stderr}")
    return done


def lmdbfs(*arguments, **options):
    return run(LMDBFS, *arguments, **options)


def store_stat(store):
    return json.loads(lmdbfs("stat", "--json", store).stdout)


def data_file(store):
    return os.path.join(store, "data.mdb")


# ------------------------------------------------------------------------------------------------- mounts --


def mounted_types():
    """Every mount point with the type of the filesystem on top of it."""
    types = {}
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            fields, rest = line.split(" - ", 1)
            point = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), fields.split()[4])
            types[point] = rest.split()[0]
    return types


def is_mounted(path):
    return os.path.realpath(path) in mounted_types()


def owner_pid(store):
    """The process that holds the store for writing, by the store's own account."""
    with open(os.path.join(store, "owner"), encoding="utf-8") as file:
        return int(re.search(r"^pid (\d+)$", file.read(), re.MULTILINE)[1])


def daemon_pid(mountpoint):
    """The lmdbfs process that was started with this mount point. Also for read-only mounts, which own nothing."""
    wanted = os.fsencode(mountpoint)
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                words = file.read().split(b"\0")
            if wanted in words and os.path.realpath(f"/proc/{pid}/exe") == os.path.realpath(LMDBFS):
                found.append(int(pid))
    if len(found) != 1:
        raise AssertionError(f"{len(found)} lmdbfs processes for {mountpoint}, not one")
    return found[0]


def parse_stats(text):
    """Prometheus text as a dictionary from 'name{labels}' to its number. Anything else is an error."""
    numbers = {}
    for line in text.splitlines():
        if not line or line.startswith("#"):
            continue
        match = re.fullmatch(r'([a-zA-Z_:][a-zA-Z0-9_:]*(?:\{[a-z_]+="[^"\n]*"(?:,[a-z_]+="[^"\n]*")*\})?) (\S+)', line)
        if not match:
            raise AssertionError(f"not a line of Prometheus text: {line!r}")
        if match[1] in numbers:
            raise AssertionError(f"twice in the stats: {match[1]}")
        numbers[match[1]] = float(match[2])
    return numbers


# Waits for a word on its standard input. If that takes too long, it shows where the daemon is stuck and kills it; if
# the input ends without a word, the test was killed itself, and there is a mount to remove. It is a process, not a
# thread: a page fault on a hanging mount holds the interpreter's lock.
WATCHDOG = """
import glob, os, select, signal, subprocess, sys
pid, limit, mountpoint, daemon = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3], int(sys.argv[4])
if not select.select([0], [], [], limit)[0]:
    for task in glob.glob(f"/proc/{pid}/task/*"):
        try:
            print(os.path.basename(task), open(task + "/wchan").read(), open(task + "/syscall").read(), file=sys.stderr)
            print(open(task + "/stack").read(), file=sys.stderr)
        except OSError as error:
            print(error, file=sys.stderr)
    signal.pidfd_send_signal(daemon, signal.SIGKILL)
    sys.exit(1)
if not os.read(0, 1):
    signal.pidfd_send_signal(daemon, signal.SIGKILL)
    subprocess.run(["umount", "-l", mountpoint])
"""


class Mount:
    """A mounted store. Use mounted()."""

    def __init__(self, store, mountpoint, options, limit, environment):
        self.store = store
        self.path = mountpoint
        with contextlib.suppress(FileExistsError):  # a stale mount too: makedirs(exist_ok) would look into it
            os.mkdir(mountpoint)
        flags = ["-o", ",".join(options)] if options else []
        # run() reads to the end of the pipe: a daemon that kept its stderr open would be noticed here.
        lmdbfs("mount", *flags, store, mountpoint, env={**os.environ, **environment})
        self.pid = daemon_pid(mountpoint)
        self.process = os.pidfd_open(self.pid)
        self.limit = limit
        # It gets the descriptor, because a daemon that is killed at once is gone before it starts.
        command = [sys.executable, "-I", "-S", "-c", WATCHDOG, str(self.pid), str(limit), mountpoint, str(self.process)]
        self.watchdog = subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=[self.process])

    def __truediv__(self, name):
        """mount / "a/b": the path of a file in the mount; bytes if the name is bytes."""
        path = os.fsencode(self.path) if isinstance(name, bytes) else self.path
        return os.path.join(path, name)

    @property
    def staging(self):
        return os.path.join(self.path, ".lmdbfs", "staging")

    def stats(self):
        with open(os.path.join(self.path, ".lmdbfs", "stats"), encoding="utf-8") as file:
            return parse_stats(file.read())

    def ended(self, timeout):
        return bool(select.select([self.process], [], [], timeout)[0])

    def signal(self, number):
        signal.pidfd_send_signal(self.process, number)

    def kill(self):
        """End the daemon as a crash would: the mount stays behind and answers ENOTCONN."""
        self.signal(signal.SIGKILL)
        if not self.ended(DAEMON_EXIT_LIMIT):
            raise AssertionError("the daemon outlived SIGKILL")

    def unmount(self):
        """Unmount, and see the daemon end."""
        Child.kill_all()  # none is left after a test that went well
        stale = self.ended(0)
        problems = []
        if is_mounted(self.path):
            done = run("umount", *(["-l"] if stale else []), self.path, check=False)
            if done.returncode != 0:
                problems.append(done.stderr.strip())
                run("umount", "-l", self.path)
        with contextlib.suppress(BrokenPipeError):
            self.watchdog.communicate(b".")
        if self.watchdog.returncode != 0:
            problems.append(f"a request hung: the daemon was killed after {self.limit} s")
        if not self.ended(0 if problems else DAEMON_EXIT_LIMIT):
            problems.append("the daemon did not end after the unmount")
            self.signal(signal.SIGKILL)
            self.ended(DAEMON_EXIT_LIMIT)
        os.close(self.process)
        if problems:
            raise AssertionError("; ".join(problems))


@contextlib.contextmanager
def mounted(store, *options, at=None, limit=MOUNT_LIMIT, environment=None):
    """
    Mount `store` with the options of -o, at `at` or beside the store, and always unmount it. The daemon's `environment`
    has these variables besides.
    """
    mount = Mount(store, at or store + ".mnt", options, limit, environment or {})
    try:
        yield mount
    finally:
        mount.unmount()


# ---------------------------------------------------------------------------------------------- processes --


class Child:
    """A function that runs in a process of its own, as root or as another user."""

    unfinished = set()

    def __init__(self, function, *arguments, user=None, groups=()):
        self.name = getattr(function, "__name__", "a function")
        reader, writer = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            Child.unfinished = set()
            os._exit(self._run(writer, function, arguments, user, groups))
        os.close(writer)
        self.reader = reader
        self.answer = None
        Child.unfinished.add(self)

    @classmethod
    def kill_all(cls):
        """End those whose result nobody has asked for."""
        for child in list(cls.unfinished):
            child.kill()

    @staticmethod
    def _run(writer, function, arguments, user, groups):
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        try:
            if user is not None:
                os.setgroups(list(groups))
                os.setgid(user)
                os.setuid(user)
            LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # whatever ends the test ends this too
            answer = (True, function(*arguments))
        except BaseException as error:  # the parent decides what it means, SystemExit included
            answer = (False, (error, traceback.format_exc()))
        with os.fdopen(writer, "wb") as file:
            try:
                file.write(pickle.dumps(answer))
            except Exception:  # an exception that can't travel: its text can
                file.write(pickle.dumps((False, (None, repr(answer)))))
        return 0

    def running(self):
        return self.answer is None and not select.select([self.reader], [], [], 0)[0]

    def result(self, timeout=COMMAND_LIMIT):
        """What the function returned; what it raised is raised here."""
        if self.answer is None:
            if not select.select([self.reader], [], [], timeout)[0]:
                self.kill()
                raise AssertionError(f"{self.name} hangs")
            with os.fdopen(self.reader, "rb") as file:
                text = file.read()
            os.waitpid(self.pid, 0)
            Child.unfinished.discard(self)
            self.answer = pickle.loads(text) if text else (False, (None, f"{self.name} ended without a word"))
        good, value = self.answer
        if good:
            return value
        error, trace = value
        if isinstance(error, OSError):
            raise error
        raise AssertionError(trace)

    def kill(self):
        """End the process, whatever it does. Its result is lost."""
        if self.answer is None:
            os.kill(self.pid, signal.SIGKILL)
            os.close(self.reader)
            os.waitpid(self.pid, 0)
            Child.unfinished.discard(self)
            self.answer = (False, (None, f"{self.name} was killed"))


def as_user(function, *arguments, user=NOBODY, groups=()):
    """What `function` returns or raises when another user calls it."""
    return Child(function, *arguments, user=user, groups=groups).result()


# ------------------------------------------------------------------------------- system calls Python lacks --

LIBC = ctypes.CDLL(None, use_errno=True)

PR_SET_PDEATHSIG = 1
AT_FDCWD = -100
RENAME_NOREPLACE = 1
RENAME_EXCHANGE = 2
RENAME_WHITEOUT = 4


def rename_with(flags, old, new):
    """renameat2(2)."""
    if LIBC.renameat2(AT_FDCWD, os.fsencode(old), AT_FDCWD, os.fsencode(new), flags) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), old, None, new)


# -------------------------------------------------------------------------------------------------- disks --


MAKERS = {
    "ext4": ["mkfs.ext4", "-q", "-F", "-m", "0"],
    "xfs": ["mkfs.xfs", "-q", "-f"],
    "btrfs": ["mkfs.btrfs", "-q", "-f"],
}


@contextlib.contextmanager
def small_disk(directory, megabytes=64, kind="ext4"):
    """A mounted filesystem of that kind and size, in an image file in `directory`. Yields its path."""
    image = os.path.join(directory, "disk.img")
    path = os.path.join(directory, "disk")
    with open(image, "wb") as file:
        file.truncate(megabytes << 20)
    run(*MAKERS[kind], image)
    os.makedirs(path)
    run("mount", "-o", "loop", image, path)
    try:
        yield path
    finally:
        run("umount", path)
        os.unlink(image)


def disk_directory():
    """A place for test data that is not a tmpfs."""
    place = os.environ.get("TMPDIR") or "/var/tmp"
    kind = run("stat", "-f", "-c", "%T", place).stdout.strip()
    return "/var/tmp" if kind in ("tmpfs", "ramfs") else place


# --------------------------------------------------------------------------------------------------- cases --


class Case(unittest.TestCase):
    """A test with a directory of its own, and what the program's sanitizers said as part of its verdict."""

    maxDiff = 4000
    terminated = False

    def setUp(self):
        self.assertFalse(Case.terminated, "told to stop before this test")
        self.directory = tempfile.mkdtemp(prefix="lmdbfs-e2e-", dir=disk_directory())
        self.addCleanup(shutil.rmtree, self.directory)
        os.chmod(self.directory, 0o755)  # other users take part in some tests
        self.store = self.path("store")
        self.addCleanup(self.unmount_leftovers)
        self.addCleanup(Child.kill_all)
        # Reports go to files: a daemon has no stderr, and a test that expects a failure would take them for it.
        reports = self.path("sanitizer")
        for name in ("ASAN_OPTIONS", "UBSAN_OPTIONS"):
            before = os.environ.get(name)
            os.environ[name] = ":".join(filter(None, (before, f"log_path={reports}", "print_stacktrace=1")))
            self.addCleanup(os.environ.update, {name: before or ""})
        self.addCleanup(self.check_reports)

    def path(self, *names):
        return os.path.join(self.directory, *names)

    def make_file(self, name, content=b"content\n"):
        """A file of the host in the test's directory, with the directories it needs."""
        path = self.path(name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        write_file(path, content)
        return path

    def check_reports(self):
        reports = [name for name in os.listdir(self.directory) if name.startswith("sanitizer.")]
        for name in reports:
            sys.stderr.buffer.write(read_file(self.path(name)))
        self.assertEqual(reports, [], "the sanitizers have something to say (above)")

    def unmount_leftovers(self):
        """No test leaves a mount. Should one do so nevertheless, its directory must not be removed through it."""
        left = [point for point in mounted_types() if point.startswith(self.directory + "/")]
        for point in sorted(left, reverse=True):
            run("umount", "-l", point, check=False)
        self.assertEqual(left, [], "left mounted")

    # ------------------------------------------------------------------------------------------- verdicts --

    def assert_one_line(self, text):
        self.assertTrue(re.fullmatch(r"[^\n\r]+\n", text), f"not one line: {text[:1000]!r}")

    def assert_refused(self, *arguments, code=1, says=(), **options):
        """lmdbfs must end with that exit code, one line on stderr that contains each of `says`, and nothing else."""
        done = lmdbfs(*arguments, check=False, **options)
        self.assertEqual(done.returncode, code, f"{arguments}: {done.stdout}{done.stderr}")
        self.assertEqual(done.stdout, "")
        self.assert_one_line(done.stderr)
        for part in says:
            self.assertIn(part, done.stderr)
        return done.stderr

    def assert_clean(self, store=None):
        """`lmdbfs check` finds nothing."""
        done = lmdbfs("check", store or self.store, check=False)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertEqual(done.stderr, "")

    @contextlib.contextmanager
    def assert_errno(self, *numbers):
        """The block must end with an OSError of one of these numbers."""
        try:
            yield
        except OSError as error:
            wanted = "/".join(errno.errorcode[number] for number in numbers)
            self.assertIn(error.errno, numbers, f"{error}; expected {wanted}")
        else:
            self.fail("no error; expected " + "/".join(errno.errorcode[number] for number in numbers))


class MountedCase(Case):
    """A test on a fresh mount, and a clean store afterwards."""

    options = ()

    def setUp(self):
        super().setUp()
        self.addCleanup(self.assert_clean)
        self.mount = self.enterContext(mounted(self.store, *self.options))

    def contents(self, *names):
        return [read_file(self.mount / name) for name in names]


# --------------------------------------------------------------------------------------------- small tools --


def read_file(path):
    with open(path, "rb") as file:
        return file.read()


def write_file(path, content):
    with open(path, "wb") as file:
        file.write(content)


def publish(path, content, temporary=None):
    """Write a temporary file and rename it over `path`, as careful programs do."""
    temporary = temporary or path + ".tmp"
    write_file(temporary, content)
    os.rename(temporary, path)


def publish_mapped(path, size, dirty=lambda: None):
    """
    Rename a file whose pages are dirty in a mapping (`dirty` is called before), and change it once more after that.
    Returns its content.
    """
    with open(path + ".tmp", "w+b") as file:
        file.truncate(size)
        with mmap.mmap(file.fileno(), size) as view:
            view[:] = b"m" * size
            dirty()
            os.rename(path + ".tmp", path)
            view[-1:] = b"!"
    return b"m" * (size - 1) + b"!"


def publish_many_mapped(mount):
    """
    The same by more at a time than there are workers: for each the daemon waits until others' writes are served. Returns
    the content of each file, by path.
    """
    ready, start = os.pipe(), os.pipe()

    def wait_for_others():
        os.close(start[1])
        os.write(ready[1], b".")
        os.read(start[0], 1)  # until nobody has the other end any more

    paths = []
    for number in range(60):
        os.mkdir(mount / f"mapped{number}")  # in one directory the kernel renames one after the other
        paths.append(mount / f"mapped{number}/file")
    children = {path: Child(publish_mapped, path, 300_000, wait_for_others) for path in paths}
    for _ in paths:
        os.read(ready[0], 1)
    for descriptor in (*ready, *start):
        os.close(descriptor)
    return {path: child.result() for path, child in children.items()}


def sync(path):
    """Make a file, or a directory, and all that was changed before, durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_sealed(path):
    """A published file shows no write bits."""
    return os.stat(path).st_mode & 0o222 == 0


def wait_sealed(path):
    wait_for(lambda: is_sealed(path), what=f"sealed: {path!r}")
