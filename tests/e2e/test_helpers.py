# SPDX-License-Identifier: BSD-2-Clause
"""
mount(8) and fstab by way of mount-helpers/mount.lmdbfs.

Each test runs in a mount namespace of its own, where the helper and the program lie in /usr/sbin on an overlay: the
machine doesn't see any of it.
"""

import contextlib
import ctypes
import os
import shutil
import subprocess

import harness
from harness import LMDBFS, is_mounted, read_file, run, wait_for, write_file

CLONE_NEWNS = 0x20000
HELPER = os.path.join(harness.REPOSITORY, "mount-helpers", "mount.lmdbfs")


class Helpers(harness.Case):
    def in_namespace(self, function):
        """Run the test where the helper is installed. What it raises is raised here."""

        def inside():
            if harness.LIBC.unshare(CLONE_NEWNS) != 0:
                raise OSError(ctypes.get_errno(), "unshare")
            run("mount", "--make-rprivate", "/")
            self.install()
            os.chdir("/")
            return function()

        return harness.Child(inside).result()

    def install(self):
        layer = self.path("layer")
        os.makedirs(layer)
        run("mount", "-t", "tmpfs", "tmpfs", layer)
        directory = os.path.realpath("/sbin")
        for name in ("upper", "work"):
            os.mkdir(os.path.join(layer, name))
        run("mount", "-t", "overlay", "overlay", "-o",
            f"lowerdir={directory},upperdir={layer}/upper,workdir={layer}/work", directory)
        shutil.copy(HELPER, "/sbin/mount.lmdbfs")
        os.symlink(LMDBFS, "/sbin/lmdbfs")
        os.environ["PATH"] = "/usr/sbin:/usr/bin:/sbin:/bin"

    @contextlib.contextmanager
    def mounted_by(self, *command, at=None):
        point = at or self.path("mnt")
        with contextlib.suppress(FileExistsError):
            os.mkdir(point)
        run(*command)
        daemon = os.pidfd_open(harness.daemon_pid(point))
        try:
            self.assertTrue(is_mounted(point))
            yield point
        finally:
            run("umount", point)
            ended = harness.select.select([daemon], [], [], harness.DAEMON_EXIT_LIMIT)[0]
            self.assertTrue(ended, "the daemon did not end after the unmount")

    def options(self, point):
        return run("findmnt", "-n", "-o", "OPTIONS", point).stdout.strip().split(",")

    def test_mount_command(self):
        def inside():
            with self.mounted_by("mount", "-t", "lmdbfs", self.store, self.path("mnt")) as point:
                write_file(os.path.join(point, "file"), b"content")
                self.assertEqual(run("findmnt", "-n", "-o", "SOURCE", point).stdout.strip(), self.store)
            with self.mounted_by("mount", "-t", "lmdbfs", "-o", "ro", self.store, self.path("mnt")) as point:
                self.assertEqual(read_file(os.path.join(point, "file")), b"content")
                with self.assertRaises(OSError):
                    write_file(os.path.join(point, "new"), b"")
                self.assertIn("ro", self.options(point))

        self.in_namespace(inside)
        self.assert_clean()

    def test_options_of_mount_and_systemd_are_taken_or_dropped(self):
        dropped = ("nofail,x-systemd.automount,x-systemd.idle-timeout=1min,x-systemd.requires=a.service,noauto,"
                   "user=nobody,users,nouser,owner,group,_netdev,comment=a comment,defaults,x-anything.at-all,auto")

        def inside():
            command = ("mount", "-t", "lmdbfs", self.store, self.path("mnt"), "-o")
            with self.mounted_by(*command, dropped) as point:
                write_file(os.path.join(point, "file"), b"x")
                self.assertIn("rw", self.options(point))
            for option in dropped.split(","):
                with self.mounted_by(*command, option + ",ro") as point:
                    self.assertIn("ro", self.options(point))

        self.in_namespace(inside)

    def test_options_that_change_something_arrive(self):
        def inside():
            options = "noatime,nosuid,nodev,noexec,allow_other"
            with self.mounted_by("mount", "-t", "lmdbfs", self.store, self.path("mnt"), "-o", options) as point:
                found = self.options(point)
                for option in options.split(","):
                    self.assertIn(option, found)
                write_file(os.path.join(point, "script"), b"#!/bin/sh\n")
                os.chmod(os.path.join(point, "script"), 0o755)
                with self.assertRaises(PermissionError):
                    subprocess.run([os.path.join(point, "script")], check=False)

        self.in_namespace(inside)

    def test_context(self):
        """The option of SELinux; where the kernel has no SELinux it is refused, but not as an unknown one of ours."""

        def inside():
            os.makedirs(self.path("mnt"))
            option = "context=system_u:object_r:var_t:s0"
            done = run("mount", "-t", "lmdbfs", self.store, self.path("mnt"), "-o", option, check=False)
            if done.returncode == 0:
                run("umount", self.path("mnt"))
            self.assertNotRegex(done.stderr, "(?i)unknown option")

        self.in_namespace(inside)

    def test_fstab(self):
        def inside():
            store, point = self.path("a store"), self.path("a mount")
            fstab = self.path("fstab")
            line = " ".join((store.replace(" ", "\\040"), point.replace(" ", "\\040"), "lmdbfs",
                             "defaults,nofail,x-systemd.automount,noatime", "0", "0"))
            write_file(fstab, b"# a comment\n" + line.encode() + b"\n")
            with self.mounted_by("mount", "--fstab", fstab, point, at=point):
                write_file(os.path.join(point, "file"), b"content")
                self.assertIn("noatime", self.options(point))
            with self.mounted_by("mount", "--fstab", fstab, "--all", at=point):
                self.assertEqual(read_file(os.path.join(point, "file")), b"content")
                run("mount", "--fstab", fstab, "--all")  # already there: nothing to do

        self.in_namespace(inside)

    def test_switches_that_mount_passes_on(self):
        def inside():
            os.makedirs(self.path("mnt"))
            for switch in ("-v", "-n", "-s"):
                with self.mounted_by("mount", switch, "-t", "lmdbfs", self.store, self.path("mnt")):
                    pass
            run("mount", "-f", "-t", "lmdbfs", self.store, self.path("mnt"))  # a rehearsal
            self.assertFalse(is_mounted(self.path("mnt")))

        self.in_namespace(inside)

    def test_failures_are_passed_on(self):
        def inside():
            os.makedirs(self.path("mnt"))
            for arguments, part in (
                ((self.store, self.path("mnt"), "-o", "frobnicate"), "frobnicate"),
                ((self.make_file("file"), self.path("mnt")), self.path("file")),
                ((os.path.dirname(self.make_file("foreign/file")), self.path("mnt")), self.path("foreign")),
            ):
                done = run("mount", "-t", "lmdbfs", *arguments, check=False)
                self.assertNotEqual(done.returncode, 0)
                self.assertIn(part, done.stderr)
                self.assertFalse(is_mounted(self.path("mnt")))

        self.in_namespace(inside)

    def test_helper_called_by_hand(self):
        def inside():
            os.makedirs(self.path("mnt"))
            done = run("/sbin/mount.lmdbfs", check=False)
            self.assertNotEqual(done.returncode, 0)
            self.assertNotEqual(done.stderr, "")
            with self.mounted_by("/sbin/mount.lmdbfs", self.store, self.path("mnt"), "-o", "rw,nofail"):
                pass

        self.in_namespace(inside)

    def test_stale_mount(self):
        def inside():
            point = self.path("mnt")
            os.makedirs(point)
            command = ("mount", "-t", "lmdbfs", self.store, point)
            run(*command)
            write_file(os.path.join(point, "file"), b"x")
            harness.sync(os.path.join(point, "file"))
            pid = harness.daemon_pid(point)
            daemon = os.pidfd_open(pid)
            os.kill(pid, 9)
            wait_for(lambda: harness.select.select([daemon], [], [], 0)[0], what="the daemon is gone")
            with self.mounted_by(*command):
                self.assertEqual(read_file(os.path.join(point, "file")), b"x")

        self.in_namespace(inside)


if __name__ == "__main__":
    harness.main()
