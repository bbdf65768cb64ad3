# SPDX-License-Identifier: BSD-2-Clause
"""A full disk below the store: the writer is told, nothing is lost, and it goes on when there is room."""

import errno
import os
import random
import resource

import harness
import trees
import versions
from harness import lmdbfs, mounted, publish, read_file, run, store_stat, wait_for, write_file
from small_disk import SmallDisk


class FullDisk(SmallDisk):
    def fill_and_go_on(self, size):
        room = max(8 << 20, min(48 << 20, 4000 * size))
        self.take_room(room)
        with self.mounted() as mount:
            contents = self.fill(mount, size)
            # Some room is kept for the tree itself, so that removing always works.
            self.assertGreater(len(contents) * size, (room - (3 << 20)) // 4)
            self.assert_all_there(mount.path, contents)
            self.assert_clean()
        self.assert_clean()
        with self.mounted() as mount:
            self.assert_all_there(mount.path, contents)
            self.remove_and_go_on(mount, contents, size)
        self.assert_clean()
        return contents

    def test_large_records(self):
        contents = self.fill_and_go_on(10_000_000)
        # No file is staged by an import, so that it can fill the room within data.mdb with a large one too.
        large = os.urandom(8_000_000)
        self.make_file("tree/large", large)
        lmdbfs("import", self.store, self.path("tree"))
        with self.mounted() as mount:
            self.assert_all_there(mount.path, {**contents, "large": large})

    def test_records_of_a_megabyte(self):
        self.fill_and_go_on(1_000_000)

    def test_records_of_some_pages(self):
        self.fill_and_go_on(50_000)

    def test_small_records(self):
        self.fill_and_go_on(1500)

    def remove_and_go_on(self, mount, contents, size):
        """
        On a full disk removing works, and what it frees goes back to the disk, so that there is room for new files.
        """
        names = list(contents)
        # Neighbours in the store, so that whole pages get free: space is used again by the page.
        for name in names[: len(names) // 2]:
            os.unlink(mount / name)
            del contents[name]
        wait_for(lambda: store_stat(self.store)["orphans"] == 0, what="no orphans")
        size = min(size, 500_000)
        for index in range(min(len(names) // 3 + 5, 200)):
            content = versions.content(f"again{index}", index, size)
            publish(mount / f"again{index}", content)
            contents[f"again{index}"] = content
        self.assert_all_there(mount.path, contents)

    def test_full_disk_and_other_changes(self):
        """Whatever needs room and finds none says ENOSPC, and has done nothing."""
        with self.mounted() as mount:
            contents = self.fill(mount, 300_000)
            contents.update(self.fill(mount, 3000, "small{}"))
            before = set(os.listdir(mount.path))
            failed = 0
            for index in range(2000):
                try:
                    os.mkdir(mount / f"directory{index}")
                    before.add(f"directory{index}")
                    os.symlink("x" * 1000, mount / f"link{index}")
                    before.add(f"link{index}")
                except OSError as error:
                    self.assertEqual(error.errno, errno.ENOSPC)
                    failed += 1
                    if failed > 5:
                        break
            self.assertEqual(set(os.listdir(mount.path)), before)
            self.assert_all_there(mount.path, contents)
        self.assert_clean()

    def test_large_write_that_does_not_fit(self):
        with self.mounted() as mount:
            publish(mount / "before", b"before")
            with self.assert_errno(errno.ENOSPC), open(mount / "large", "wb") as file:
                for _ in range(100):
                    file.write(bytes(1 << 20))
            self.assertEqual(read_file(mount / "before"), b"before")
            os.unlink(mount / "large")
            publish(mount / "after", b"after" * 10_000)
            self.assertEqual(read_file(mount / "after"), b"after" * 10_000)
        self.assert_clean()

    def test_readers_do_not_notice(self):
        """A disk that fills up while records are mapped is no reader's business."""
        with self.mounted() as mount:
            for index, size in enumerate(versions.SIZES):
                publish(mount / f"read{index}", versions.content(f"read{index}", 1, size))
            stop = self.path("stop")

            def look():
                looks = 0
                while not os.path.exists(stop):
                    for index in range(len(versions.SIZES)):
                        if versions.parse(read_file(mount / f"read{index}")) != (f"read{index}", 1):
                            return "broken"
                    looks += 1
                return looks

            reader = harness.Child(look)
            for _ in range(3):
                contents = self.fill(mount, 2_000_000)
                for name in contents:
                    os.unlink(mount / name)
            write_file(stop, b"")
            self.assertIsInstance(reader.result(), int)
        self.assert_clean()

    def test_check_beside_a_mount_that_gives_pages_back(self):
        """Other processes read the store by its tables while free pages of data.mdb become holes."""
        self.take_room(12 << 20)
        with self.mounted() as mount:
            for index, size in enumerate(versions.SIZES):
                publish(mount / f"stay{index}", versions.content(f"stay{index}", 1, size))
            stop = self.path("stop")

            def look():
                looks = 0
                while not os.path.exists(stop):
                    done = lmdbfs("check", self.store, check=False)
                    if done.returncode != 0:
                        return done.stdout + done.stderr
                    looks += 1
                return looks

            checker = harness.Child(look)
            for round_ in range(harness.scaled(12, least=3)):
                contents = self.fill(mount, (200_000, 30_000, 1_000_000)[round_ % 3])
                for name in contents:
                    wait_for(lambda path=mount / name: self.removed(path), what="there is room to remove something")
            write_file(stop, b"")
            self.assertIsInstance(checker.result(), int, checker.result())
        self.assert_clean()

    def test_crash_on_a_full_disk(self):
        with self.mounted() as mount:
            contents = self.fill(mount, 200_000)
            mount.kill()
        with self.mounted() as mount:
            self.assert_all_there(mount.path, contents)
            for name in list(contents)[:20]:
                os.unlink(mount / name)
            wait_for(lambda: self.removed(None, lambda _: publish(mount / "new", b"x" * 100_000)), what="room")
        self.assert_clean()

    def test_import(self):
        tree = self.path("tree")
        os.mkdir(tree)
        maker = random.Random("nospace")
        for index in range(400):
            write_file(os.path.join(tree, f"{index:03}"), maker.randbytes(250_000))
        error = self.assert_refused("import", self.store, tree)
        self.assertRegex(error, "(?i)no space|disk full|disk is full")
        self.assert_clean()
        out = self.path("out")
        lmdbfs("export", self.store, out)
        for name in os.listdir(out):
            self.assertEqual(read_file(os.path.join(out, name)), read_file(os.path.join(tree, name)))
        run("rm", "-rf", os.path.join(self.disk, "store"))
        for name in os.listdir(tree)[:300]:
            os.unlink(os.path.join(tree, name))
        lmdbfs("import", self.store, tree)
        lmdbfs("export", self.store, self.path("whole"))
        trees.assert_same(self, tree, self.path("whole"))

    def test_import_of_one_large_file(self):
        trees.os.mkdir(self.path("tree"))
        trees.write_random(self.path("tree", "large"), 80 << 20, random.Random(1))
        self.assert_refused("import", self.store, self.path("tree"))
        self.assert_clean()
        self.make_file("small/file", b"x" * 1000)
        lmdbfs("import", self.store, self.path("small"))
        lmdbfs("export", self.store, self.path("out"))
        self.assertEqual(os.listdir(self.path("out")), ["file"])

    def test_new_store_on_a_full_disk(self):
        self.take_room(8192)
        run("sh", "-c", 'cat /dev/zero >"$0" 2>/dev/null || true', os.path.join(self.disk, "rest"))
        os.makedirs(self.path("mnt"))
        error = self.assert_refused("mount", self.store, self.path("mnt"))
        self.assertRegex(error, "(?i)no space|disk full|disk is full")
        self.assertFalse(harness.is_mounted(self.path("mnt")))
        os.unlink(os.path.join(self.disk, "ballast"))
        with self.mounted() as mount:
            publish(mount / "file", b"x")
        self.assert_clean()


class OtherLimits(harness.Case):
    def test_read_only_disk(self):
        """A store on a disk that is mounted read-only can be read, and a mount for writing says what is wrong."""
        with harness.small_disk(self.directory) as disk:
            store = os.path.join(disk, "store")
            lmdbfs("import", store, os.path.dirname(self.make_file("tree/file", b"content")))
            run("mount", "-o", "remount,ro", disk)
            os.mkdir(self.path("mnt"))
            self.assert_refused("mount", store, self.path("mnt"), says=[store])
            self.assert_refused("import", store, self.path("tree"), says=[store])
            with mounted(store, "ro", at=self.path("mnt")) as mount:
                self.assertEqual(read_file(mount / "file"), b"content")
            self.assert_clean(store)
            self.assertEqual(store_stat(store)["files"], 1)
            lmdbfs("export", store, self.path("out"))
            self.assertEqual(read_file(self.path("out", "file")), b"content")

    def test_little_address_space(self):
        """Where only little can be mapped, the store still opens."""

        def limit():
            resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))

        if "asan" in harness.run("sh", "-c", 'ldd "$0"', harness.LMDBFS, check=False).stdout:
            return  # it reserves terabytes itself; the ordinary build is what this is about
        lmdbfs("import", self.store, os.path.dirname(self.make_file("tree/file")), preexec_fn=limit)
        lmdbfs("check", self.store, preexec_fn=limit)

    def test_file_size_limit(self):
        """SIGXFSZ must not be the end of the daemon or of an import."""

        def limit():
            resource.setrlimit(resource.RLIMIT_FSIZE, (4 << 20, 4 << 20))

        self.make_file("tree/large", os.urandom(16 << 20))
        done = lmdbfs("import", self.store, self.path("tree"), check=False, preexec_fn=limit)
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assert_one_line(done.stderr)
        self.assert_clean()


if __name__ == "__main__":
    harness.main()
