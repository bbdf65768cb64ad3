# SPDX-License-Identifier: BSD-2-Clause
"""Damaged stores are refused or reported by path; nothing hangs or dies from a signal, nobody gets wrong bytes."""

import contextlib
import errno
import mmap
import os
import random
import shutil
import subprocess

import harness
import trees
from harness import LMDBFS, is_mounted, lmdbfs, mounted, read_file, run, store_stat, write_file


class PayloadDamage(harness.Case):
    """A bit that has flipped in the content of one file."""

    # One in every layout and at its limits.
    SIZES = (40, 1926, 1927, 4080, 4081, 131_072, 131_112, 700_000)

    def setUp(self):
        super().setUp()
        maker = random.Random("damage")
        self.contents = {f"directory/file-{size}": maker.randbytes(size) for size in self.SIZES}
        for name, content in self.contents.items():
            self.make_file("tree/" + name, content)
        lmdbfs("import", self.store, self.path("tree"))
        shutil.copytree(self.store, self.path("intact"))

    def restore(self):
        shutil.copyfile(harness.data_file(self.path("intact")), harness.data_file(self.store))

    def flip(self, name, position):
        """Flip a bit at `position` of a file's content, wherever data.mdb has it. Old copies are changed too."""
        content = self.contents[name]
        extent = position // trees.EXTENT * trees.EXTENT  # what belongs to two extents doesn't lie together
        start = min(max(extent, position - 16), len(content) - 32)
        pattern = content[start : start + 32]
        found = 0
        with open(harness.data_file(self.store), "r+b") as file, mmap.mmap(file.fileno(), 0) as data:
            place = data.find(pattern)
            while place >= 0:
                data[place + position - start] ^= 0x10
                found += 1
                place = data.find(pattern, place + 1)
        self.assertGreater(found, 0, "the content is not in data.mdb as it is")

    def positions(self):
        for name, content in self.contents.items():
            for position in sorted({0, len(content) // 2, len(content) - 1}):
                yield name, position

    def test_check_says_nothing_about_a_clean_store(self):
        done = lmdbfs("check", self.store)
        self.assertEqual(done.stderr, "")
        self.assertNotIn("directory/", done.stdout)

    def test_check_names_the_file(self):
        for name, position in self.positions():
            with self.subTest(name=name, position=position):
                self.flip(name, position)
                done = lmdbfs("check", self.store, check=False)
                text = done.stdout + done.stderr
                self.assertEqual(done.returncode, 1, text)
                self.assertIn(name, text)
                for other in self.contents:
                    if not name.startswith(other):
                        self.assertNotIn(other + ":", text)
                self.restore()

    def test_check_names_all_names(self):
        """Damage in many files is reported for each of them, not only for the first."""
        for name in self.contents:
            self.flip(name, len(self.contents[name]) // 2)
        text = lmdbfs("check", self.store, check=False)
        for name in self.contents:
            self.assertIn(name, text.stdout + text.stderr)

    def test_check_beside_a_mount(self):
        with mounted(self.store):
            self.flip("directory/file-131112", 100)
            done = lmdbfs("check", self.store, check=False)
            self.assertEqual(done.returncode, 1)
            self.assertIn("directory/file-131112", done.stdout + done.stderr)

    def test_export_refuses_to_pass_damage_on(self):
        for name in ("directory/file-40", "directory/file-4080", "directory/file-700000"):
            with self.subTest(name):
                self.flip(name, 20)
                out = self.path("out-" + os.path.basename(name))
                done = lmdbfs("export", self.store, out, check=False)
                self.assertEqual(done.returncode, 1)
                self.assertIn(name, done.stdout + done.stderr)
                for other in self.contents:
                    path = os.path.join(out, other)
                    if os.path.exists(path):
                        self.assertEqual(read_file(path), self.contents[other], "damage was exported")
                self.restore()

    def test_mount_goes_on(self):
        """Whatever the reader of the damaged file gets, everybody else goes on."""
        for name, position in self.positions():
            with self.subTest(name=name, position=position):
                self.flip(name, position)
                with mounted(self.store) as mount:
                    with contextlib.suppress(OSError):
                        read_file(mount / name)
                    for other, content in self.contents.items():
                        if other != name:
                            self.assertEqual(read_file(mount / other), content)
                self.restore()

    def test_reader_of_damage_gets_an_error(self):
        for name, position in self.positions():
            self.flip(name, position)
            with mounted(self.store) as mount, self.assert_errno(errno.EIO):
                read_file(mount / name)
            self.restore()

    def drop_and_read(self, path):
        """What the daemon has to be asked for, since the kernel's copy is gone."""
        with open(path, "rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            return file.read()

    def test_when_content_is_verified(self):
        """Damage that comes after the first read: -o verify= decides who finds it."""
        name = "directory/file-700000"
        content = self.contents[name]
        for when, found_before, found_later in (("first", True, False), ("always", True, True), ("never", False, False)):
            with self.subTest(when):
                with mounted(self.store, "verify=" + when) as mount:
                    self.assertEqual(self.way(mount, "verify"), when)
                    self.assertEqual(self.drop_and_read(mount / name), content)
                    self.flip(name, 300_000)
                    if found_later:
                        with self.assert_errno(errno.EIO):
                            self.drop_and_read(mount / name)
                    else:
                        self.assertNotEqual(self.drop_and_read(mount / name), content)
                    stats = mount.stats()
                    self.assertEqual(stats["lmdbfs_store_damages_total"] > 0, found_later)
                    self.assertEqual(stats["lmdbfs_store_verified_bytes_total"] > 0, when != "never")
                with mounted(self.store, "verify=" + when) as mount:
                    if found_before:
                        with self.assert_errno(errno.EIO):
                            read_file(mount / name)
                    else:
                        self.assertNotEqual(read_file(mount / name), content)
                    self.assertEqual(mount.stats()["lmdbfs_store_damages_total"] > 0, found_before)
                self.restore()

    def way(self, mount, of):
        ways = [name for name in mount.stats() if name.startswith(f'lmdbfs_way_info{{of="{of}"')]
        self.assertEqual(len(ways), 1)
        return ways[0].split('way="')[1].split('"')[0]

    def test_damage_is_logged_with_path_extent_and_offset(self):
        name = "directory/file-700000"
        self.flip(name, 300_000)
        point = self.path("mnt")
        os.mkdir(point)
        with open(self.path("log"), "w", encoding="utf-8") as log:
            daemon = subprocess.Popen([LMDBFS, "mount", "-f", self.store, point], stderr=log)
        try:
            harness.wait_for(lambda: is_mounted(point), what="mounted")
            with self.assert_errno(errno.EIO):
                read_file(os.path.join(point, name))
        finally:
            run("umount", point)
            daemon.wait(harness.DAEMON_EXIT_LIMIT)
        lines = [line for line in read_file(self.path("log")).decode().splitlines() if "damaged" in line]
        self.assertGreater(len(lines), 0)
        for line in lines:  # the kernel reads ahead, and asks again for the page that is wanted
            self.assertRegex(line, rf"{name}: damaged: wrong bytes in the extent at offset 262144 \(record \d+\)")


class TreeDamage(harness.Case):
    """Damage anywhere: pages zeroed, bits flipped, the file cut short."""

    def setUp(self):
        super().setUp()
        sizes = [0, 1, 300, 1926, 1927, 4080, 4081, 20_000, 131_073]
        trees.make_tree(self.path("tree"), "damage", files=120, sizes=sizes)
        for index in range(600):  # enough entries for branch pages
            self.make_file(f"tree/many/name-{index}", b"%d" % index * 50)
        self.files = {path for path, facts in trees.scan(self.path("tree")).items() if "digest" in facts}
        lmdbfs("import", self.store, self.path("tree"))
        lmdbfs("import", self.store, self.path("tree"))  # again, so that there are free pages as well
        self.page = store_stat(self.store)["page_size"]
        self.intact = read_file(harness.data_file(self.store))
        self.maker = random.Random("tree damage")

    def damage(self, change):
        data = bytearray(self.intact)
        change(data)
        write_file(harness.data_file(self.store), data)
        for name in ("lock.mdb", "owner"):
            if os.path.exists(os.path.join(self.store, name)):
                os.unlink(os.path.join(self.store, name))

    def zero_a_page(self, data):
        start = self.maker.randrange(len(data) // self.page) * self.page
        data[start : start + self.page] = bytes(self.page)

    def zero_the_start_of_a_page(self, data):
        start = self.maker.randrange(len(data) // self.page) * self.page
        data[start : start + 64] = bytes(64)

    def flip_bits_in_a_header(self, data):
        start = self.maker.randrange(len(data) // self.page) * self.page
        data[start + self.maker.randrange(64)] ^= 1 << self.maker.randrange(8)

    def flip_bits(self, data):
        for _ in range(8):
            data[self.maker.randrange(len(data))] ^= 1 << self.maker.randrange(8)

    def fill_a_page_with_noise(self, data):
        start = self.maker.randrange(2, len(data) // self.page) * self.page
        data[start : start + self.page] = self.maker.randbytes(self.page)

    def exchange_pages(self, data):
        first, second = (self.maker.randrange(2, len(data) // self.page) * self.page for _ in range(2))
        data[first : first + self.page], data[second : second + self.page] = (
            data[second : second + self.page], data[first : first + self.page])

    def swap_or_zero_metas(self, data):
        self.maker.choice((lambda: data.__setitem__(slice(0, 2 * self.page), bytes(2 * self.page)),
                           lambda: data.__setitem__(slice(0, self.page), bytes(self.page)),
                           lambda: data.__setitem__(slice(self.page, 2 * self.page), bytes(self.page))))()

    KINDS = ("zero_a_page", "zero_the_start_of_a_page", "flip_bits_in_a_header", "flip_bits", "fill_a_page_with_noise",
             "exchange_pages", "swap_or_zero_metas")

    def for_damages(self, count, test):
        """Call `test` with the number of each damage that was done."""
        for index in range(count):
            kind = self.KINDS[index % len(self.KINDS)]
            with self.subTest(kind=kind, index=index):
                self.damage(getattr(self, kind))
                test(index)

    def assert_survived(self, *command):
        """Ends by itself, with exit code 0 or 1, in the second case with a message."""
        done = lmdbfs(*command, check=False, timeout=120)
        self.assertIn(done.returncode, (0, 1), f"{command[0]}: {done.stderr}")
        if done.returncode == 1:
            self.assertNotEqual(done.stdout + done.stderr, "")
        return done.returncode

    def test_check(self):
        codes = []
        count = harness.scaled(140, least=35)
        self.for_damages(count, lambda _: codes.append(self.assert_survived("check", self.store)))
        self.assertIn(1, codes)

    def test_stat(self):
        self.for_damages(harness.scaled(70, least=21), lambda _: self.assert_survived("stat", self.store))

    def test_export(self):
        def export(index):
            out = self.path(f"out{index}")
            if self.assert_survived("export", self.store, out) == 0:
                # It says that all is well: then nothing may be there that is wrong.
                for path in self.files & trees.scan(out).keys():
                    self.assertEqual(read_file(os.path.join(os.fsencode(out), path)), self.original(path))
            run("rm", "-rf", out)

        self.for_damages(harness.scaled(70, least=21), export)

    def test_import(self):
        self.make_file("more/file")
        command = ("import", self.store, self.path("more"))
        self.for_damages(harness.scaled(70, least=21), lambda _: self.assert_survived(*command))

    def test_mount(self):
        """A damaged store is mounted or refused. Nobody hangs, and a daemon that runs goes on running."""
        self.for_damages(harness.scaled(35, least=14), lambda _: self.mount_and_read())

    def mount_and_read(self):
        """Returns whether the store could be mounted, and how many files then had the wrong content."""
        point = self.path("mnt")
        os.makedirs(point, exist_ok=True)
        done = lmdbfs("mount", self.store, point, check=False, timeout=60)
        self.assertIn(done.returncode, (0, 1), done.stderr)
        if done.returncode == 1:
            self.assert_one_line(done.stderr)
            self.assertIn(self.store, done.stderr)
            self.assertFalse(is_mounted(point))
            return False, 0
        daemon = harness.daemon_pid(point)
        try:
            return True, self.count_wrong(point)
        finally:
            run("umount", "-l", point)
            # It would not survive that the next damage is done below its feet.
            harness.wait_for(lambda: not os.path.exists(f"/proc/{daemon}"), what="the daemon ended")

    def count_wrong(self, point):
        wrong = 0
        for path in sorted(self.files)[:300]:
            try:
                wrong += read_file(os.path.join(os.fsencode(point), path)) != self.original(path)
            except OSError as error:
                self.assertNotIn(error.errno, (errno.ENOTCONN, errno.ECONNABORTED), "the daemon died")
        return wrong

    def test_nobody_reads_damage_through_a_mount(self):
        wrong = []
        self.for_damages(harness.scaled(35, least=14), lambda _: wrong.append(self.mount_and_read()[1]))
        self.assertEqual(sum(wrong), 0)

    def original(self, path):
        return read_file(os.path.join(os.fsencode(self.path("tree")), path))

    def lengths(self):
        pages = len(self.intact) // self.page
        yield from (1, 100, self.page - 1, self.page, self.page + 1, 2 * self.page, 2 * self.page + 1, 3 * self.page)
        for _ in range(harness.scaled(15, least=5)):
            yield self.maker.randrange(2, pages * 2 // 3) * self.page
            yield self.maker.randrange(len(self.intact) * 2 // 3)

    def for_lengths(self, test):
        for length in self.lengths():
            with self.subTest(length=length):
                self.damage(lambda data, length=length: data.__delitem__(slice(length, None)))
                test()
                self.assertEqual(os.path.getsize(harness.data_file(self.store)), length, "changed by a command")

    def test_cut_short(self):
        def look():
            self.assertEqual(self.assert_survived("check", self.store), 1)
            self.assertEqual(self.assert_survived("export", self.store, self.path("out")), 1)
            self.assert_survived("stat", self.store)

        self.for_lengths(look)

    def test_mount_of_a_store_cut_short(self):
        self.for_lengths(self.mount_and_read)

    def test_empty_data_file(self):
        """What a crash leaves of a store that was just being made."""
        self.damage(bytearray.clear)
        for command in (["check", self.store], ["stat", self.store], ["export", self.store, self.path("out")]):
            self.assert_survived(*command)


if __name__ == "__main__":
    harness.main()
