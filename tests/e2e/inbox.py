# SPDX-License-Identifier: BSD-2-Clause
"""What the tests of the inbox share: a case with a directory to rename things into."""

import os

import harness
from harness import mounted, read_file, wait_for, write_file

COUNTERS = ("published", "rejected", "waiting")


class InboxCase(harness.Case):
    def setUp(self):
        super().setUp()
        self.inbox = self.path("in")
        os.mkdir(self.inbox)
        self.outside = self.path("outside")  # on the same filesystem, to build things in
        os.mkdir(self.outside)

    def mounted(self, *options, inbox=None):
        return mounted(self.store, f"inbox={inbox or self.inbox}", *options, at=self.path("mnt"))

    def put(self, name, content=b"content\n"):
        """Rename a file into the inbox, under a path in it."""
        temporary = os.path.join(self.outside, "file.tmp")
        write_file(temporary, content)
        os.rename(temporary, os.path.join(self.inbox, name))

    def make_tree(self, files, name="tree"):
        """A directory outside with these files (a dictionary), to be renamed into the inbox."""
        top = os.path.join(self.outside, name)
        os.mkdir(top)
        for path, content in files.items():
            os.makedirs(os.path.dirname(os.path.join(top, path)), exist_ok=True)
            write_file(os.path.join(top, path), content)
        return top

    def put_tree(self, files, name="tree"):
        os.rename(self.make_tree(files, name), os.path.join(self.inbox, name))

    def remains(self):
        """What lies in the inbox itself."""
        return sorted(name for name in os.listdir(self.inbox) if name not in (".taken", ".rejected"))

    def taken(self):
        """What was taken out of the inbox and not removed yet."""
        found = []
        for directory, _, names in os.walk(os.path.join(self.inbox, ".taken")):
            found += [os.path.join(directory, name) for name in names]
        return found

    def rejected(self):
        """The files in .rejected by their path, with the text of the reason."""
        top, found = os.path.join(self.inbox, ".rejected"), {}
        for directory, directories, names in os.walk(top):
            for name in directories + names:
                reason = os.path.join(directory, name + ".reason")
                if os.path.exists(reason):
                    found[os.path.relpath(os.path.join(directory, name), top)] = read_file(reason).decode().strip()
        return found

    @staticmethod
    def counters(mount):
        stats = mount.stats()
        return {name: int(stats.get(f"lmdbfs_inbox_{name}_total", stats.get(f"lmdbfs_inbox_{name}"))) for name in COUNTERS}

    def drain(self, mount, left=()):
        """Wait until all is published that can be. Looks at the inbox and the counters, not at the published tree."""

        def drained():
            return self.remains() == sorted(left) and self.counters(mount)["waiting"] == len(left)

        wait_for(drained, what="everything in the inbox is published")

    def assert_files(self, top, files):
        """The tree holds these files and no others."""
        found = {}
        for directory, _, names in os.walk(top):
            for name in names:
                path = os.path.join(directory, name)
                found[os.path.relpath(path, top)] = read_file(path)
        self.assertEqual(found, files)

