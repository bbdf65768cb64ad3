# SPDX-License-Identifier: BSD-2-Clause
"""What the model test (test_model.py) compares with ext4: a mount, which can be made to commit, end and start again."""

import contextlib
import errno
import os

import harness
from harness import mounted, wait_for
from model_agent import Agent
from model_differences import CONTROL, STAGING, STATS

HASH = "user.lmdbfs.xxh3"


class Mismatch(AssertionError):
    """The two sides differ."""


class Ours:
    """The store under test, mounted at `path`."""

    kind = Agent
    differs = True

    def __init__(self, store, options, asked):
        self.store = store
        self.options = options
        self.asked = asked  # the kernel asks each time that a file is opened
        self.path = store + ".mnt"
        self.stack = contextlib.ExitStack()
        self.mount = self.stack.enter_context(mounted(store, *options))

    def is_published(self, path):
        try:
            return bool(os.getxattr(self.path + path, HASH, follow_symlinks=False))
        except OSError as error:
            if error.errno != errno.ENODATA:
                raise
            return False

    def wait_published(self, path):
        def published():
            try:
                hashed = os.getxattr(self.path + path, HASH, follow_symlinks=False)
                # The kernel is told of the new attributes a moment after the file has them.
                return hashed and os.lstat(self.path + path).st_mode & 0o222 == 0
            except OSError as error:
                if error.errno != errno.ENODATA:
                    raise Mismatch(f"lmdbfs: {error}, instead of a file to be published") from error
                return None

        try:
            wait_for(published, what=f"published: {path}")
        except AssertionError as error:
            raise Mismatch(str(error)) from error

    def commit(self, files=()):
        """Make the content of these durable, and all changes of the tree."""
        for path in (*files, "/"):
            descriptor = os.open(self.path + path, os.O_RDONLY | os.O_NOFOLLOW)
            try:
                os.fsync(descriptor)
            except OSError as error:
                raise Mismatch(f"fsync of {path}: {error}") from error
            finally:
                os.close(descriptor)

    def check(self):
        done = harness.lmdbfs("check", self.store, check=False)
        if done.returncode != 0 or done.stderr:
            raise Mismatch(f"lmdbfs check: {done.stdout}{done.stderr}")

    def remount(self):
        self.stack.close()
        self.check()
        self.mount = self.stack.enter_context(mounted(self.store, *self.options))

    def crash(self):
        self.mount.kill()
        self.remount()

    def close(self):
        self.stack.close()
        self.check()


class Plain(Ours):
    """A directory of ext4 in the place of the mount, to test the test."""

    differs = False

    def __init__(self, path, kind):
        self.path = path
        self.kind = kind
        self.asked = False
        os.makedirs(path + STAGING)
        harness.write_file(path + STATS, b"")
        os.chmod(path + STATS, 0o444)
        os.chmod(path + CONTROL, 0o555)

    def nothing(self, *_):
        pass

    check = remount = crash = close = commit = nothing
