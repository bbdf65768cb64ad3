# SPDX-License-Identifier: BSD-2-Clause
"""Whoever has a version open or mapped keeps it, whole, as long as they like; then the store gets its pages back."""

import mmap
import os
import random
import time

import harness
import versions
from harness import mounted, publish, read_file, store_stat, wait_for, write_file


class Versions(harness.Case):
    def setUp(self):
        super().setUp()
        self.addCleanup(self.assert_clean)

    def wait_for_no_orphans(self):
        wait_for(lambda: store_stat(self.store)["orphans"] == 0, timeout=60, what="no orphans")

    @staticmethod
    def map_whole(path):
        with open(path, "rb") as file:
            return mmap.mmap(file.fileno(), 0, mmap.MAP_SHARED, mmap.PROT_READ)


class OldVersions(Versions):
    def test_mapped_record_while_it_is_replaced(self):
        """One process keeps the first version mapped and looks at it all the time; others map what is current."""
        replaces = harness.scaled(10_000, least=500)
        with mounted(self.store) as mount:
            path = mount / "record"
            publish(path, versions.content("record", 0, 100_000))
            stop = self.path("stop")

            def keep(number):
                view = self.map_whole(path)
                write_file(self.path(f"ready{number}"), b"")
                first = bytes(view)
                looks = 0
                while not os.path.exists(stop):
                    if view[:] != first or os.pread(descriptor, 200_000, 0) != first:
                        return "the mapped version has changed"
                    looks += 1
                return "never looked" if looks < 10 else versions.parse(first)

            def follow():
                last = looks = 0
                while not os.path.exists(stop):
                    with self.map_whole(path) as view:
                        found = versions.parse(view[:])
                    if found is None:
                        return "a mixture"
                    if found[1] < last:
                        return f"version {found[1]} after version {last}"
                    last = found[1]
                    looks += 1
                return "ok" if looks >= 10 else "never looked"

            descriptor = os.open(path, os.O_RDONLY)
            keepers = [harness.Child(keep, number) for number in range(2)]
            for number in range(2):
                wait_for(lambda ready=self.path(f"ready{number}"): os.path.exists(ready), what="version 0 is mapped")
            followers = [harness.Child(follow) for _ in range(2)]
            for version in range(1, replaces + 1):
                size = versions.SIZES[version % len(versions.SIZES)]
                publish(path, versions.content("record", version, size))
            write_file(stop, b"")
            for keeper in keepers:
                self.assertEqual(keeper.result(), ("record", 0))
            for follower in followers:
                self.assertEqual(follower.result(), "ok")
            self.assertEqual(versions.parse(os.pread(descriptor, 200_000, 0)), ("record", 0))
            os.close(descriptor)
            self.assertEqual(versions.parse(read_file(path)), ("record", replaces))
            self.wait_for_no_orphans()

    def test_every_layout_outlives_its_name(self):
        """Old versions read from the daemon, not from pages the kernel happens to have."""
        with mounted(self.store) as mount:
            held = []
            for number, size in enumerate(versions.SIZES):
                path = mount / f"file{size}"
                publish(path, versions.content("old", number, size))
                harness.wait_sealed(path)
                descriptor = os.open(path, os.O_RDONLY)
                held.append((descriptor, self.map_whole(path), ("old", number), os.fstat(descriptor).st_ino))
                if number % 2:
                    os.unlink(path)
                else:
                    publish(path, versions.content("new", number, size))
            for round_ in range(20):  # churn that would reuse their pages
                for size in versions.SIZES:
                    publish(mount / "churn", versions.content("churn", round_, size))
            wait_for(lambda: store_stat(self.store)["orphans"] == len(held), what="an orphan for each that is held")
            for descriptor, view, expected, inode in held:
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
                self.assertEqual(versions.parse(os.pread(descriptor, 1 << 20, 0)), expected)
                self.assertEqual(versions.parse(view[:]), expected)
                status = os.fstat(descriptor)
                self.assertEqual((status.st_nlink, status.st_ino), (0, inode))
                self.assertEqual(versions.parse(read_file(f"/proc/self/fd/{descriptor}")), expected)
                view.close()
                self.assertEqual(versions.parse(os.pread(descriptor, 1 << 20, 0)), expected)
                os.close(descriptor)
            self.wait_for_no_orphans()

    def test_reader_that_was_there_before_the_seal(self):
        """Who opened or mapped a file while it was still being written reads the same file after it was published."""
        with mounted(self.store) as mount:
            for size in versions.SIZES:
                content = versions.content("x", 1, size)
                with open(mount / "file", "wb", buffering=0) as file:
                    file.write(content)
                    descriptor = os.open(mount / "file", os.O_RDONLY)
                    view = self.map_whole(mount / "file")
                    self.assertEqual(view[:], content)
                    inode = os.fstat(descriptor).st_ino
                harness.wait_sealed(mount / "file")
                self.assertEqual(os.stat(mount / "file").st_ino, inode)
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
                self.assertEqual(os.pread(descriptor, size + 1, 0), content)
                self.assertEqual(view[:], content)
                publish(mount / "file", b"another")
                self.assertEqual(os.pread(descriptor, size + 1, 0), content)
                self.assertEqual(view[:], content)
                view.close()
                os.close(descriptor)
                os.unlink(mount / "file")
            self.wait_for_no_orphans()

    def test_whole_directory_removed_under_its_readers(self):
        with mounted(self.store) as mount:
            os.makedirs(mount / "a/b")
            for index in range(50):
                publish(mount / f"a/b/{index}", versions.content("x", index, 3000))
            files = [open(mount / f"a/b/{index}", "rb") for index in range(50)]
            directory = os.open(mount / "a/b", os.O_RDONLY)
            harness.run("rm", "-rf", mount / "a")
            for index, file in enumerate(files):
                self.assertEqual(versions.parse(file.read()), ("x", index))
                file.close()
            self.assertEqual(os.listdir(directory), [])
            with self.assertRaises(FileNotFoundError):
                os.open("new", os.O_CREAT | os.O_WRONLY, dir_fd=directory)
            os.close(directory)
            self.wait_for_no_orphans()

    def test_old_version_with_another_name(self):
        with mounted(self.store) as mount:
            publish(mount / "a", versions.content("a", 1, 5000))
            os.link(mount / "a", mount / "b")
            with open(mount / "a", "rb") as file:
                publish(mount / "a", versions.content("a", 2, 5000))
                os.unlink(mount / "b")
                self.assertEqual(versions.parse(file.read()), ("a", 1))
            self.assertEqual(versions.parse(read_file(mount / "a")), ("a", 2))
            self.wait_for_no_orphans()

    def test_unmount_with_old_versions_kept_leaves_no_orphans(self):
        """The kernel doesn't say at the end what it forgets."""
        with mounted(self.store) as mount:
            for index in range(20):
                publish(mount / "file", versions.content("x", index, 10_000))
                with open(mount / "file", "rb") as file:
                    os.unlink(mount / "file")
                    file.read()
            with open(mount / "file", "wb") as file:
                file.write(b"x" * 10_000)
                os.unlink(mount / "file")
        with mounted(self.store) as mount:
            self.wait_for_no_orphans()
        self.assertEqual(store_stat(self.store)["records"], store_stat(self.store)["directories"])


class Whole(Versions):
    """Readers see the old version or the new one."""

    KEYS = 12

    def write_versions(self, mount, writer, stop):
        """Publish new versions of all keys, in every shape, until told to stop."""
        maker = random.Random(writer)
        version = 0
        while not os.path.exists(stop):
            version += 1
            key = f"key{maker.randrange(self.KEYS)}"
            content = versions.content(key, version * 100 + writer, maker.choice(versions.SIZES))
            shape = maker.randrange(3)
            temporary = (mount / f"{key}.{writer}", mount / f".temporary.{writer}", f"{mount.staging}/{writer}")[shape]
            publish(mount / key, content, temporary)
        return version

    def read_versions(self, mount, reader, stop):
        maker = random.Random(reader)
        count = 0
        while not os.path.exists(stop):
            key = f"key{maker.randrange(self.KEYS)}"
            if maker.random() < 0.5:
                found = read_file(mount / key)
            else:
                with self.map_whole(mount / key) as view:
                    found = view[:]
            parsed = versions.parse(found)
            if parsed is None or parsed[0] != key:
                return f"{key}: {len(found)} bytes that are no version: {found[:60]!r}"
            count += 1
        return count

    def test_many_readers_and_writers(self):
        with mounted(self.store) as mount:
            for index in range(self.KEYS):
                publish(mount / f"key{index}", versions.content(f"key{index}", 0, 4096))
            stop = self.path("stop")
            readers = [harness.Child(self.read_versions, mount, number, stop) for number in range(6)]
            writers = [harness.Child(self.write_versions, mount, number, stop) for number in range(3)]
            time.sleep(harness.scaled(20, least=5))  # the length of the test
            write_file(stop, b"")
            for reader in readers:
                count = reader.result()
                self.assertIsInstance(count, int, count)
                self.assertGreater(count, 10)
            for writer in writers:
                self.assertGreater(writer.result(), 10)
            self.wait_for_no_orphans()

    def test_exchange_of_directories_is_seen_whole(self):
        """Both trees exchange their names all the time: a reader that holds a directory sees files of one tree only."""
        with mounted(self.store) as mount:
            for tree in ("red", "blue"):
                os.mkdir(mount / tree)
                for index in range(10):
                    publish(mount / f"{tree}/{index}", versions.content(tree, index, 3000))
            stop = self.path("stop")

            def look(number):
                looks = 0
                while not os.path.exists(stop):
                    directory = os.open(mount / "red", os.O_RDONLY)
                    colours = set()
                    for index in range(10):
                        descriptor = os.open(str(index), os.O_RDONLY, dir_fd=directory)
                        parsed = versions.parse(os.read(descriptor, 10_000))
                        os.close(descriptor)
                        if parsed is None or parsed[1] != index:
                            return f"not a version in {index}"
                        colours.add(parsed[0])
                    os.close(directory)
                    if len(colours) != 1:
                        return "a mixture of both trees"
                    looks += 1
                return looks

            readers = [harness.Child(look, number) for number in range(3)]
            for _ in range(harness.scaled(500, least=50)):
                harness.rename_with(harness.RENAME_EXCHANGE, mount / "red", mount / "blue")
            write_file(stop, b"")
            for reader in readers:
                self.assertIsInstance(reader.result(), int, "a mixture")

    def test_replaced_name_is_never_missing(self):
        with mounted(self.store) as mount:
            publish(mount / "key", b"x")
            stop = self.path("stop")

            def look():
                looks = 0
                while not os.path.exists(stop):
                    os.stat(mount / "key")  # raises when it is missing
                    if "key" not in os.listdir(mount.path):
                        return "not in the listing"
                    looks += 1
                return looks

            readers = [harness.Child(look) for _ in range(3)]
            for index in range(harness.scaled(2000, least=200)):
                publish(mount / "key", b"%d" % index)
            write_file(stop, b"")
            for reader in readers:
                self.assertIsInstance(reader.result(), int)


class PagesComeBack(Versions):
    def test_replacing_does_not_grow_the_store(self):
        """3,000 replaces of 64 KiB records, 20 names: the live data is 1.3 MB."""
        with mounted(self.store) as mount:
            for index in range(harness.scaled(3000, least=300)):
                publish(mount / f"key{index % 20}", os.urandom(65_536))
            self.wait_for_no_orphans()
            figures = store_stat(self.store)
            self.assertEqual((figures["files"], figures["bytes"]), (20, 20 * 65_536))
            self.assertLess(figures["file_bytes"], 32 << 20)
            self.assertLess(figures["file_bytes"] - figures["free_pages"] * figures["page_size"], 4 << 20)

    def test_removing_everything_frees_everything(self):
        with mounted(self.store) as mount:
            empty = store_stat(self.store)
            for round_ in range(3):
                for index in range(30):
                    publish(mount / f"key{index}", os.urandom(300_000))
                full = store_stat(self.store)
                for index in range(30):
                    os.unlink(mount / f"key{index}")
                self.wait_for_no_orphans()
                figures = store_stat(self.store)
                self.assertEqual((figures["records"], figures["extents"]), (empty["records"], 0))
                self.assertGreater(figures["free_pages"], full["free_pages"] + 30 * 300_000 // figures["page_size"])
                self.assertLess(figures["file_bytes"], 40 << 20, f"round {round_}")
            self.assertEqual(self.host_leftovers(), [])

    def host_leftovers(self):
        """Files that the store keeps for what is being written: none, when nothing is."""
        staging = os.path.join(self.store, "staging")
        return os.listdir(staging) if os.path.isdir(staging) else []

    def test_file_large_enough_to_take_several_transactions(self):
        size = harness.scaled(100 << 20, least=20 << 20)
        with mounted(self.store) as mount:
            for _ in range(3):
                publish(mount / "large", bytes(size))
                with open(mount / "large", "rb") as file:
                    os.unlink(mount / "large")
                    self.assertEqual(os.pread(file.fileno(), 5, size - 3), bytes(3))
                self.wait_for_no_orphans()
            self.assertLess(store_stat(self.store)["file_bytes"], 2.5 * size)
            self.assertEqual(self.host_leftovers(), [])


if __name__ == "__main__":
    harness.main()
