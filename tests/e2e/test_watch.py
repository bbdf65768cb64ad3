# SPDX-License-Identifier: BSD-2-Clause
"""Who watches a mount, by inotify or fanotify, is told of what is done through it as on ext4."""

import contextlib
import errno
import os
import subprocess

import harness
import watching
from harness import RENAME_EXCHANGE, publish, rename_with, run, wait_for, write_file

STAGED = ".lmdbfs/staging"


def create(root):
    write_file(f"{root}/file", b"content")


def write_in_pieces(root):
    with open(f"{root}/pieces", "wb", buffering=0) as file:
        for _ in range(3):
            file.write(b"x" * 1000)
        file.truncate(10)
        os.fsync(file.fileno())
        os.fchmod(file.fileno(), 0o600)


def replace(root):
    publish(f"{root}/file", b"other", f"{root}/.temporary")


def replace_from_staging(root):
    publish(f"{root}/file", b"third", f"{root}/{STAGED}/new")


def replace_while_open(root):
    with open(f"{root}/late", "wb", buffering=0) as file:
        file.write(b"first")
        os.rename(f"{root}/late", f"{root}/file")
        file.write(b"second")


def remove(root):
    os.unlink(f"{root}/file")


def make_links(root):
    write_file(f"{root}/one", b"content")
    os.link(f"{root}/one", f"{root}/two")
    os.unlink(f"{root}/one")
    os.symlink("two", f"{root}/symbolic")
    os.unlink(f"{root}/symbolic")


def attributes(root):
    os.chmod(f"{root}/two", 0o600)
    os.chown(f"{root}/two", 1, 2)
    os.utime(f"{root}/two", ns=(5, 7))


def make_directories(root):
    os.mkdir(f"{root}/directory")
    os.mkdir(f"{root}/empty")


def move_between(root):
    os.rename(f"{root}/two", f"{root}/directory/two")
    os.rename(f"{root}/directory/two", f"{root}/directory/three")


def move_directory(root):
    os.rename(f"{root}/directory", f"{root}/empty")


def exchange(root):
    os.mkdir(f"{root}/left")
    rename_with(RENAME_EXCHANGE, f"{root}/left", f"{root}/empty")


def stage_tree(root):
    os.makedirs(f"{root}/{STAGED}/tree/below")
    for index in range(5):
        write_file(f"{root}/{STAGED}/tree/below/{index}", b"x" * 1000 * index)
    os.rename(f"{root}/{STAGED}/tree", f"{root}/tree")


def unnamed(root):
    with open(os.open(f"{root}/tree", os.O_TMPFILE | os.O_RDWR, 0o644), "wb", buffering=0) as file:
        file.write(b"content")
        # Python follows the symbolic link only if it has to call linkat(2).
        os.link(f"/proc/self/fd/{file.fileno()}", f"{root}/tree/named", src_dir_fd=0, follow_symlinks=True)


def refused(root):
    for change, name in ((os.rmdir, "tree"), (os.unlink, "none"), (os.mkdir, "tree")):
        try:
            change(f"{root}/{name}")
        except OSError:
            continue
        raise AssertionError("not refused")


def remove_directories(root):
    run("rm", "-r", f"{root}/left", f"{root}/empty")


CALLS = (
    create, write_in_pieces, replace, replace_from_staging, replace_while_open, remove, make_links, attributes,
    make_directories, move_between, move_directory, exchange, stage_tree, unnamed, refused, remove_directories,
)


def commands(source):
    """What clients do, as words with ROOT for the directory."""
    return [
        ["cp", f"{source}/a", "ROOT/copied"],
        ["cp", "-p", f"{source}/a", "ROOT/kept"],
        ["cp", "--remove-destination", f"{source}/b", "ROOT/copied"],
        ["install", "-m", "640", f"{source}/b", "ROOT/installed"],
        ["cp", f"{source}/a", f"ROOT/{STAGED}/a"],
        ["mv", f"ROOT/{STAGED}/a", "ROOT/copied"],
        ["mv", "ROOT/copied", "ROOT/moved"],
        ["ln", "-s", "moved", "ROOT/symbolic"],
        ["ln", "-sfn", "kept", "ROOT/symbolic"],
        ["mkdir", "-p", "ROOT/one/two/three"],
        ["rsync", "-a", "-O", f"{source}/", "ROOT/one/two/three"],
        ["rsync", "-a", "-O", "--delete", "--exclude=b", "--delete-excluded", f"{source}/", "ROOT/one/two/three"],
        ["rsync", "-a", "--inplace", f"{source}/b", "ROOT/inplace"],
        ["cp", "-r", f"{source}", "ROOT/recursive"],
        ["sed", "-i", "s/line/word/", "ROOT/recursive/text"],
        ["touch", "-d", "2001-01-01", "ROOT/kept"],
        ["truncate", "-s", "0", "ROOT/new"],
        ["tar", "-C", "ROOT/one", "-xf", f"{source}/archive"],
        ["mv", "ROOT/recursive", "ROOT/one/recursive"],
        ["rm", "-r", "ROOT/one"],
        ["rm", "ROOT/kept", "ROOT/symbolic"],
    ]


def by_name(events):
    """
    What inotify told of each name, in order, and which was moved to which. For programs that go through directories in
    the order of their listing, or are several processes that take turns as they like.
    """
    told, moves = {}, {}
    for event, is_directory, directory, name, pair in events:
        of_name = told.setdefault((directory, name), [])
        if of_name[-1:] != [(event, is_directory)]:  # inotify itself leaves out what is the same as the last
            of_name.append((event, is_directory))
        if pair:
            moves.setdefault(pair, []).append((directory, name))
    return told, sorted(moves.values())


class Watch(harness.MountedCase):
    def setUp(self):
        super().setUp()
        disk = self.enterContext(harness.small_disk(self.directory, 64))
        self.plain = os.path.join(disk, "plain")
        os.makedirs(f"{self.plain}/{STAGED}")
        self.roots = (self.mount.path, self.plain)

    def compare(self, kind, steps, **options):
        """Both sides' watchers are told the same at each step. Returns all that was told, as a set of kinds."""
        watchers = [kind(root, **options) for root in self.roots]
        for watcher in watchers:
            self.addCleanup(watcher.close)
        told = set()
        for name, step in steps:
            seen = []
            for root, watcher in zip(self.roots, watchers):
                step(root)
                seen.append(watcher.take())
            told.update(event[0] for event in seen[1])
            if kind is watching.Inotify and step not in CALLS:
                seen = [by_name(events) for events in seen]
            self.assertEqual(seen[0], seen[1], f"{kind.__name__}: {name}")
            for watcher in watchers:
                watcher.follow()
        return told

    def of_calls(self):
        return [(step.__name__, step) for step in CALLS]

    def of_commands(self):
        source = self.path("source")
        os.mkdir(source)
        for name, size in (("a", 1000), ("b", 300_000)):
            write_file(os.path.join(source, name), os.urandom(size))
        write_file(os.path.join(source, "text"), b"line\n" * 100)
        os.mkdir(os.path.join(source, "directory"))
        write_file(os.path.join(source, "directory/c"), b"c")
        run("tar", "-C", source, "-cf", os.path.join(source, "archive"), "a", "directory")
        # A published file has no write bits; where the source has some, rsync sets them each time.
        run("chmod", "-R", "a-w", source)

        def runner(words):
            return lambda root: run(*(word.replace("ROOT", root) for word in words))

        return [(" ".join(words), runner(words)) for words in commands(source)]

    KINDS = {"MODIFY", "ATTRIB", "CLOSE_WRITE", "MOVED_FROM", "MOVED_TO", "CREATE", "DELETE"}

    def test_inotify_of_calls(self):
        self.assertLessEqual(self.KINDS, self.compare(watching.Inotify, self.of_calls()))

    def test_inotify_of_programs(self):
        self.assertLessEqual(self.KINDS, self.compare(watching.Inotify, self.of_commands()))

    def test_fanotify_of_calls(self):
        self.assertLessEqual(self.KINDS | {"RENAME"}, self.compare(watching.Fanotify, self.of_calls()))

    def test_fanotify_of_programs(self):
        self.assertLessEqual(self.KINDS | {"RENAME"}, self.compare(watching.Fanotify, self.of_commands()))


    def test_fanotify_of_a_mount(self):
        for steps in (self.of_calls(), self.of_commands()):
            self.assertEqual(self.compare(watching.FanotifyMount, steps), {"MODIFY", "CLOSE_WRITE"})

    def test_inotify_of_files_themselves(self):
        """Who watches a file, not its directory, learns when it is no longer what it was."""
        for root in self.roots:
            for name in ("file", "other", "last"):
                write_file(f"{root}/{name}", b"content")

        def last(root):
            with open(f"{root}/last", "rb"):
                os.unlink(f"{root}/last")
                os.mkdir(f"{root}/in between")

        steps = [
            ("replaced", replace),
            ("linked", lambda root: os.link(f"{root}/other", f"{root}/link")),
            ("moved", lambda root: os.rename(f"{root}/other", f"{root}/moved")),
            ("a name removed", lambda root: os.unlink(f"{root}/moved")),
            ("the other one removed", lambda root: os.unlink(f"{root}/link")),
            ("removed while open", last),
        ]
        watchers = [watching.Inotify(root, ("file", "other", "last")) for root in self.roots]
        told = set()
        for name, step in steps:
            seen = []
            for root, watcher in zip(self.roots, watchers):
                step(root)
                seen.append(watcher.take())
            # That a file is gone is told when nobody uses it any more, and the daemon may just have looked at it.
            with contextlib.suppress(AssertionError):
                wait_for(lambda seen=seen: any(events.extend(watcher.take()) for events, watcher in zip(seen, watchers))
                         or seen[0] == seen[1])
            self.assertEqual(*seen, name)
            told.update(event[0] for event in seen[1])
        for watcher in watchers:
            watcher.close()
        self.assertLessEqual({"ATTRIB", "MOVE_SELF", "DELETE_SELF", "IGNORED"}, told)

    def test_inotifywait(self):
        """The program that shell scripts use, which watches while others publish."""
        told = []
        for root in self.roots:
            os.mkdir(f"{root}/directory")
            events = ",".join(("modify", "attrib", "close_write", "move", "create", "delete"))
            command = ["inotifywait", "--monitor", "--recursive", "--event", events, "--format", "%e %w%f", root]
            watcher = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            self.addCleanup(watcher.stdout.close)
            self.addCleanup(watcher.stderr.close)
            self.addCleanup(watcher.wait)
            self.addCleanup(watcher.kill)
            while "Watches established" not in watcher.stderr.readline():
                self.assertIsNone(watcher.poll())
            for index in range(20):
                publish(f"{root}/directory/{index % 3}", b"%d" % index)
            run("mv", f"{root}/directory/0", f"{root}/moved")
            run("rm", "-r", f"{root}/directory/1", f"{root}/directory/2")
            write_file(f"{root}/end", b"")
            lines = iter(watcher.stdout.readline, f"CLOSE_WRITE,CLOSE {root}/end\n")
            told.append([line.replace(root, "") for line in lines])
        self.assertEqual(*told)
        self.assertIn("MOVED_TO /directory/1\n", told[0])
        self.assertIn("DELETE /directory/1\n", told[0])

    def test_what_is_not_told(self):
        """What the manual says is different: marks on a whole filesystem that report names need its number."""
        with self.assert_errno(errno.ENODEV):
            watcher = watching.Fanotify(self.mount.path)
            self.addCleanup(watcher.close)
            watcher.mark(watching.FAN_MARK_ADD | watching.FAN_MARK_FILESYSTEM, self.mount.path)


if __name__ == "__main__":
    harness.main()
