# SPDX-License-Identifier: BSD-2-Clause
"""Programs that write into a mount and know nothing of it."""

import errno
import fcntl
import os
import tempfile

import harness
import trees
from harness import publish, read_file, run, wait_sealed, write_file


class Programs(harness.MountedCase):
    def test_cp_mv_install(self):
        source = self.make_file("source", os.urandom(50_000))
        os.chmod(source, 0o640)
        run("cp", source, self.mount / "copied")
        run("cp", "-p", source, self.mount / "kept")
        run("install", "-m", "755", "-D", source, self.mount / "installed/bin/program")
        run("mv", self.mount / "copied", self.mount / "moved")
        run("mv", "-n", self.mount / "kept", self.mount / "moved", check=False)
        run("cp", "-al", self.mount / "installed", self.mount / "linked")
        for name in ("moved", "kept", "installed/bin/program", "linked/bin/program"):
            run("cmp", source, self.mount / name)
        self.assertEqual(os.stat(self.mount / "kept").st_mtime_ns, os.stat(source).st_mtime_ns)
        self.assertEqual(os.stat(self.mount / "installed/bin/program").st_nlink, 2)
        run("install", "-m", "644", source, self.mount / "installed/bin/program")  # over a published file
        run("cp", "--remove-destination", source, self.mount / "moved")
        wait_sealed(self.mount / "moved")
        self.assertNotEqual(run("cp", source, self.mount / "moved", check=False).returncode, 0)

    def test_rsync(self):
        tree = self.path("tree")
        trees.make_tree(tree, "rsync", files=80)
        for round_ in range(2):
            run("rsync", "-aHX", "--numeric-ids", tree + "/", self.mount.path)
            trees.assert_same(self, tree, self.mount.path, published=True)
            for path in list(trees.scan(tree))[:: 10 + round_]:
                path = os.path.join(os.fsencode(tree), path)
                if os.path.isfile(path) and not os.path.islink(path):
                    write_file(path, os.urandom(3000))

    def test_rsync_again_changes_nothing(self):
        """Its own comparison finds only the write bits that a published file doesn't show."""
        tree = self.path("tree")
        trees.make_tree(tree, "rsync", files=40, plain=True)
        run("rsync", "-aH", tree + "/", self.mount.path)
        before = {path: os.lstat(self.mount / path).st_ino for path in trees.scan(self.mount.path)}
        run("rsync", "-aH", tree + "/", self.mount.path)
        self.assertEqual({path: os.lstat(self.mount / path).st_ino for path in trees.scan(self.mount.path)}, before)
        run("rsync", "-aH", "--delete", "--delay-updates", tree + "/", self.mount.path)
        trees.assert_same(self, tree, self.mount.path, published=True)

    def test_tar(self):
        tree = self.path("tree")
        trees.make_tree(tree, "tar", files=80)
        run("tar", "-C", tree, "-cf", self.path("archive"), ".")
        for _ in range(2):  # the second time over what is already there
            run("tar", "-C", self.mount.path, "--numeric-owner", "-xpf", self.path("archive"))
            trees.assert_same(self, self.unpacked_elsewhere(), self.mount.path, published=True, with_times=False)

    def unpacked_elsewhere(self):
        os.makedirs(self.path("plain"), exist_ok=True)
        run("tar", "-C", self.path("plain"), "--numeric-owner", "-xpf", self.path("archive"))
        return self.path("plain")

    def make_repository(self):
        repository = self.path("repository")
        run("git", "init", "-q", "-b", "main", repository)
        for number in range(5):
            for index in range(60):
                self.make_file(f"repository/{index % 5}/file{index}", os.urandom(100 * index) + b"%d" % number)
            self.git(repository, "add", "-A")
            self.git(repository, "commit", "-q", "-m", f"number {number}")
        return repository

    @staticmethod
    def git(directory, *arguments):
        settings = ("-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "safe.directory=*")
        return run("git", *settings, "-C", directory, *arguments).stdout

    def test_git(self):
        repository = self.make_repository()
        bare = self.mount / "bare.git"
        run("git", "clone", "-q", "--bare", "--no-local", repository, bare)
        self.git(bare, "fsck", "--full", "--strict")
        self.assertEqual(self.git(bare, "rev-parse", "main"), self.git(repository, "rev-parse", "main"))
        self.make_file("repository/new", b"new")
        self.git(repository, "add", "-A")
        self.git(repository, "commit", "-q", "-m", "new")
        self.git(repository, "push", "-q", bare, "main")
        self.git(bare, "gc", "-q")
        self.git(bare, "fsck", "--full", "--strict")
        run("git", "clone", "-q", bare, self.path("back"))
        run("diff", "-r", "-x", ".git", repository, self.path("back"))

    def test_git_work_tree(self):
        """Without its logs, to which git appends: published files don't grow."""
        repository = self.make_repository()
        work = self.mount / "work"
        run("git", "-c", "core.logAllRefUpdates=false", "clone", "-q", "--no-hardlinks", repository, work)
        self.git(work, "config", "core.logAllRefUpdates", "false")
        self.assertEqual(self.git(work, "status", "--porcelain"), "")
        write_file(work + "/another", b"x")
        self.git(work, "add", "-A")
        self.git(work, "commit", "-q", "-m", "in the mount")
        self.git(work, "checkout", "-q", "HEAD~3")
        self.git(work, "checkout", "-q", "main")
        self.git(work, "fsck", "--full", "--strict")
        self.assertEqual(self.git(work, "status", "--porcelain"), "")

    def test_python_replace(self):
        for index in range(50):
            with tempfile.NamedTemporaryFile("wb", dir=self.mount.path, delete=False) as file:
                file.write(b"%d" % index * index)
                file.flush()
                os.fsync(file.fileno())
            os.replace(file.name, self.mount / "value")
            self.assertEqual(read_file(self.mount / "value"), b"%d" % index * index)
        self.assertEqual(os.listdir(self.mount.path), ["value"])

    def test_programs_run_from_the_mount(self):
        run("install", "-m", "755", "/usr/bin/printf", self.mount / "printf")
        wait_sealed(self.mount / "printf")
        self.assertEqual(run(self.mount / "printf", "%d", "42").stdout, "42")
        write_file(self.mount / "script", b"#!/bin/sh\necho hello\n")
        os.chmod(self.mount / "script", 0o755)
        wait_sealed(self.mount / "script")
        self.assertEqual(run(self.mount / "script").stdout, "hello\n")

    def test_shell_redirection(self):
        script = 'cd "$0" && for n in one two; do echo $n >file.new && mv -f file.new file || exit; done; cat file'
        self.assertEqual(run("sh", "-c", script, self.mount.path).stdout, "two\n")

    def test_trees_by_cp_and_rm(self):
        tree = self.path("tree")
        trees.make_tree(tree, "cp", files=80)
        run("cp", "-a", tree, self.mount / "first")
        run("cp", "-a", self.mount / "first", self.mount / "second")
        trees.assert_same(self, tree, self.mount / "second", published=True)
        run("rm", "-rf", self.mount / "first")
        trees.assert_same(self, tree, self.mount / "second", published=True)
        run("rm", "-rf", self.mount / "second")
        self.assertEqual(os.listdir(self.mount.path), [])

    def test_locks(self):
        """flock() and fcntl() work as everywhere, on published files too."""
        publish(self.mount / "file", b"x")
        with open(self.mount / "file", "rb") as first, open(self.mount / "file", "rb") as second:
            fcntl.flock(first, fcntl.LOCK_EX)
            with self.assert_errno(errno.EAGAIN):
                fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)


if __name__ == "__main__":
    harness.main()
