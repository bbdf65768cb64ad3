# SPDX-License-Identifier: BSD-2-Clause
"""
A reader of stores that was written from docs/format.md alone, with nothing but an LMDB binding and xxHash, and the
tests that compare what it reads with what was put in. If this file has to change, so has that page.
"""

import hashlib
import os
import random
import stat
import struct

import lmdb
import xxhash

import harness
import trees
from harness import lmdbfs, mounted, read_file, run, write_file

ROOT = 1
STAGING = 3
INLINE, EXTENTS, STAGED = 0, 1, 2
HELD = 1

FORMAT = struct.Struct("=8sII QQQ q16s")
RECORD = struct.Struct("=HBB III QQ 16s" + "qI" * 4)
EXTENT = struct.Struct("=QQ II 16s")


class Reader:
    """One moment of a store."""

    TABLES = ("meta", "entries", "records", "extents", "contents", "orphans")

    def __init__(self, store):
        self.store = store
        self.environment = lmdb.open(store, readonly=True, max_dbs=len(self.TABLES), create=False)
        self.tables = {name: self.environment.open_db(name.encode(), create=False) for name in self.TABLES}
        self.transaction = self.environment.begin(buffers=False)
        self.page_size = self.environment.stat()["psize"]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.transaction.abort()
        self.environment.close()

    def get(self, table, key):
        return self.transaction.get(key, db=self.tables[table])

    def rows(self, table, prefix=b""):
        with self.transaction.cursor(db=self.tables[table]) as cursor:
            if cursor.set_range(prefix):
                for key, value in cursor:
                    if not key.startswith(prefix):
                        break
                    yield key, value

    def entries(self, directory):
        """Name, id and type, in the order of the listing."""
        for key, value in self.rows("entries", struct.pack(">Q", directory)):
            id_, type_ = struct.unpack("=QB", value)
            yield key[16:], id_, type_ << 12

    def record(self, id_):
        value = self.get("records", struct.pack(">Q", id_))
        names = ("mode", "place", "flags", "uid", "gid", "nlink", "size", "link", "hash", "atime", "atime_ns", "mtime",
                 "mtime_ns", "ctime", "ctime_ns", "btime", "btime_ns")
        return dict(zip(names, RECORD.unpack_from(value)), inline=value[RECORD.size :])

    def payload(self, id_, record):
        if record["place"] == INLINE:
            return record["inline"]
        if record["place"] == STAGED:
            path = os.path.join(self.store, "staging", f"{id_:016x}")
            return read_file(path) if os.path.exists(path) else b""
        if record["size"] <= self.page_size - 16:
            return self.get("extents", struct.pack(">QQ", record["link"], 0))[: record["size"]]
        return b"".join(self.extents(record["link"]))

    def extents(self, content):
        expected = 0
        for key, value in self.rows("extents", struct.pack(">Q", content)):
            of, offset, length, pieces, hash_ = EXTENT.unpack_from(value)
            start = self.page_size - 16
            piece = value[start : start + length]
            if (of, offset) != (content, expected) or key != struct.pack(">QQ", content, offset):
                raise AssertionError(f"extent {key.hex()} doesn't follow the one before")
            if xxhash.xxh3_128_digest(piece) != hash_ or len(piece) != length:
                raise AssertionError(f"extent {key.hex()} is damaged")
            hashes = self.pieces(piece)
            if pieces not in (0, len(hashes)) or value[EXTENT.size :][: 8 * pieces] != b"".join(hashes[:pieces]):
                raise AssertionError(f"extent {key.hex()} has wrong hashes of its pieces")
            if any(value[EXTENT.size + 8 * pieces : start]) or any(value[start + length :]) or (len(value) + 16) % self.page_size:
                raise AssertionError(f"extent {key.hex()} is not padded with zeros to whole pages")
            expected += length
            yield piece

    @staticmethod
    def pieces(extent):
        size = 32 << 10
        while len(extent) > 64 * size:
            size *= 2
        return [xxhash.xxh3_64_digest(extent[at : at + size]) for at in range(0, len(extent), size)]

    def place(self, name):
        return min(max(xxhash.xxh3_64_intdigest(name) >> 1, 8), 2**63 - 2)

    def lookup(self, directory, name):
        value = self.get("entries", struct.pack(">QQ", directory, self.place(name)) + name)
        return struct.unpack("=QB", value)[0] if value else None

    def tree(self, root=ROOT):
        """The same facts as trees.scan(), from the tables."""
        found, first, waiting = {}, {}, [(b"", root)]
        while waiting:
            path, directory = waiting.pop()
            for name, id_, type_ in self.entries(directory):
                record = self.record(id_)
                below = os.path.join(path, name)
                facts = found[below] = self.facts(id_, record)
                if facts["type"] != type_:
                    raise AssertionError(f"{below!r}: the entry says another type than the record")
                if type_ == stat.S_IFDIR:
                    if record["link"] != directory:
                        raise AssertionError(f"{below!r}: its parent is another directory")
                    waiting.append((below, id_))
                else:
                    first.setdefault(id_, []).append(below)
        for names in first.values():
            for name in names:
                found[name]["same as"] = min(names)
        return found

    def facts(self, id_, record):
        facts = {
            "type": stat.S_IFMT(record["mode"]),
            "mode": stat.S_IMODE(record["mode"]),
            "uid": record["uid"],
            "gid": record["gid"],
            "mtime": record["mtime"] * 1_000_000_000 + record["mtime_ns"],
        }
        if facts["type"] == stat.S_IFDIR:
            return facts
        payload = self.payload(id_, record)
        if record["place"] != STAGED:
            if len(payload) != record["size"] or xxhash.xxh3_128_digest(payload) != record["hash"]:
                raise AssertionError(f"record {id_}: its payload has another size or hash")
        facts["links"] = record["nlink"]
        if facts["type"] == stat.S_IFLNK:
            facts["target"] = payload
        else:
            facts["size"] = len(payload)
            facts["digest"] = hashlib.blake2b(payload, digest_size=16).hexdigest()
        return facts


class Format(harness.Case):
    def test_header(self):
        self.import_tree()
        with Reader(self.store) as reader:
            magic, version, page, *features, created, identity = FORMAT.unpack(reader.get("meta", b"format"))
            self.assertEqual((magic, version, page, features), (b"lmdbfs\n\0", 1, reader.page_size, [0, 0, 0]))
            self.assertLess(abs(created - os.stat(self.store).st_mtime), 600)
            self.assertTrue(any(identity))
            self.assertEqual(sorted(key for key, _ in reader.rows("meta")), [b"format", b"next-id"])

    def import_tree(self, seed="format", **options):
        trees.make_tree(self.path("tree"), seed, **options)
        lmdbfs("import", self.store, self.path("tree"))

    def test_tree(self):
        self.import_tree(files=200)
        with Reader(self.store) as reader:
            trees.assert_same(self, self.path("tree"), reader.tree())

    def test_real_data(self):
        tree = trees.real_tree(self.directory)
        lmdbfs("import", self.store, tree)
        with Reader(self.store) as reader:
            trees.assert_same(self, tree, reader.tree())

    def test_tree_written_through_the_mount(self):
        trees.make_tree(self.path("tree"), "through the mount", files=100)
        with mounted(self.store) as mount:
            run("cp", "-a", self.path("tree") + "/.", mount.path)
        with Reader(self.store) as reader:
            trees.assert_same(self, self.path("tree"), reader.tree())

    def test_beside_a_mount(self):
        """Ids are inode numbers, and finished and unfinished files are where the page says."""
        self.import_tree(files=60)
        with mounted(self.store) as mount:
            write_file(os.path.join(mount.staging, "held"), b"held")
            with open(mount / "open", "wb", buffering=0) as file:
                file.write(b"unfinished")
                for path in (mount / "open", os.path.join(mount.staging, "held")):
                    harness.sync(path)
                with Reader(self.store) as reader:
                    for name, id_, _ in reader.entries(ROOT):
                        self.assertEqual(os.lstat(mount / name).st_ino, id_)
                    unfinished = reader.lookup(ROOT, b"open")
                    record = reader.record(unfinished)
                    self.assertEqual((record["place"], record["flags"], record["size"]), (STAGED, 0, 0))
                    self.assertEqual(reader.payload(unfinished, record), b"unfinished")
                    self.assertIsNone(reader.lookup(ROOT, b".lmdbfs"))
                    held = reader.lookup(STAGING, b"held")
                    record = reader.record(held)
                    self.assertEqual(record["flags"], HELD)  # finished or not
                    self.assertEqual(reader.payload(held, record), b"held")
            harness.wait_sealed(mount / "open")
            harness.sync(mount.path)
            with Reader(self.store) as reader:
                record = reader.record(unfinished)
                self.assertEqual((record["place"], record["inline"]), (INLINE, b"unfinished"))

    def test_layouts(self):
        maker = random.Random("layouts")
        for size in trees.BOUNDARIES:
            self.make_file(f"tree/{size}", maker.randbytes(size))
        lmdbfs("import", self.store, self.path("tree"))
        with Reader(self.store) as reader:
            node_max = ((reader.page_size - 16) // 2 & ~1) - 2
            inline_max = node_max - 8 - 8 - RECORD.size
            if reader.page_size == 4096:
                self.assertEqual(inline_max, 1926)
            for size in trees.BOUNDARIES:
                id_ = reader.lookup(ROOT, b"%d" % size)
                record = reader.record(id_)
                self.assertEqual(record["place"], INLINE if size <= inline_max else EXTENTS, size)
                self.assertEqual(reader.payload(id_, record), read_file(self.path("tree", str(size))))

    def test_payload_is_page_aligned(self):
        content = random.Random("aligned").randbytes(500_000)
        self.make_file("tree/file", content)
        lmdbfs("import", self.store, self.path("tree"))
        with Reader(self.store) as reader:
            page = reader.page_size
            record = reader.record(reader.lookup(ROOT, b"file"))
            data = read_file(harness.data_file(self.store))
            start = 0
            for piece in reader.extents(record["link"]):
                place = data.find(piece)
                self.assertGreater(place, 0)
                self.assertEqual(place % page, 0)
                start += len(piece)
            self.assertEqual(start, len(content))

    def test_what_holds_between_transactions(self):
        """The promises of the page's last section, after much change and while a mount lives."""
        self.import_tree(files=80)
        with mounted(self.store) as mount:
            for index in range(100):
                harness.publish(mount / f"churn{index % 9}", os.urandom(index * 500))
            os.unlink(mount / "churn3")
            with open(mount / "churn4", "rb"):
                os.unlink(mount / "churn4")
                self.verify()
        self.verify()

    def verify(self):
        with Reader(self.store) as reader:
            (next_id,) = struct.unpack("=Q", reader.get("meta", b"next-id"))
            orphans = {struct.unpack(">Q", key)[0]: why[0] for key, why in reader.rows("orphans")}
            names, contents = {}, {}
            for key, value in reader.rows("entries"):
                parent, place = struct.unpack_from(">QQ", key)
                id_, type_ = struct.unpack("=QB", value)
                self.assertEqual(place, reader.place(key[16:]))
                self.assertEqual(reader.record(parent)["mode"] >> 12, 4)
                self.assertEqual(reader.record(id_)["mode"] >> 12, type_)
                names[id_] = names.get(id_, 0) + 1
            for key, _ in reader.rows("records"):
                (id_,) = struct.unpack(">Q", key)
                record = reader.record(id_)
                self.assertLess(id_, next_id)
                if id_ not in (ROOT, STAGING):
                    self.assertEqual(names.get(id_, 0), 0 if orphans.get(id_) == 1 else record["nlink"], id_)
                if record["place"] == EXTENTS:
                    self.assertEqual(len(reader.payload(id_, record)), record["size"])
                    contents[record["link"]] = (record["hash"], record["size"])
            for key, value in reader.rows("contents"):
                size, content = struct.unpack(">QQ", key[16:])
                self.assertEqual(struct.unpack("=II", value), (1, 0))
                self.assertEqual(contents.pop(content), (key[:16], size))
            self.assertEqual(contents, {}, "records whose content has no row")
            self.assertEqual([id_ for id_, why in orphans.items() if why not in (1, 2)], [])


class OtherVersions(harness.Case):
    """Stores of a later program: refused by those who must not touch them, and left as they are."""

    def change_header(self, change):
        lmdbfs("import", self.store, os.path.dirname(self.make_file("tree/file")))
        with lmdb.open(self.store, max_dbs=8) as environment:
            meta = environment.open_db(b"meta")
            with environment.begin(write=True, db=meta) as transaction:
                fields = list(FORMAT.unpack(transaction.get(b"format")))
                change(fields)
                transaction.put(b"format", FORMAT.pack(*fields))
        os.mkdir(self.path("mnt"))

    def assert_all_refuse(self, *says):
        for command in (["stat", self.store], ["check", self.store], ["export", self.store, self.path("out")],
                        ["import", self.store, self.path("tree")], ["mount", self.store, self.path("mnt")]):
            with self.subTest(command[0]):
                self.assert_refused(*command, says=[self.store, *says])
        self.assertFalse(harness.is_mounted(self.path("mnt")))

    def test_later_version(self):
        self.change_header(lambda fields: fields.__setitem__(1, 2))
        self.assert_all_refuse("format", "2")

    def test_other_magic(self):
        self.change_header(lambda fields: fields.__setitem__(0, b"different"[:8]))
        self.assert_all_refuse()

    def test_incompatible_feature(self):
        self.change_header(lambda fields: fields.__setitem__(5, 1 << 40))
        self.assert_all_refuse("feature")

    def test_feature_that_forbids_writing(self):
        self.change_header(lambda fields: fields.__setitem__(4, 1))
        self.assert_clean()
        lmdbfs("export", self.store, self.path("out"))
        with mounted(self.store, "ro", at=self.path("mnt")) as mount:
            self.assertEqual(os.listdir(mount.path), ["file"])
        for command in (["import", self.store, self.path("tree")], ["mount", self.store, self.path("mnt")]):
            self.assert_refused(*command, says=[self.store, "feature"])

    def test_compatible_feature(self):
        self.change_header(lambda fields: fields.__setitem__(3, 1))
        with mounted(self.store, at=self.path("mnt")) as mount:
            write_file(mount / "new", b"x")
        self.assert_clean()

    def test_unknown_tables_are_left_alone(self):
        lmdbfs("import", self.store, os.path.dirname(self.make_file("tree/file")))
        with lmdb.open(self.store, max_dbs=16) as environment:
            later = environment.open_db(b"snapshots")
            with environment.begin(write=True, db=later) as transaction:
                transaction.put(b"key", b"value")
        with mounted(self.store) as mount:
            write_file(mount / "new", b"x")
        self.assert_clean()
        with lmdb.open(self.store, max_dbs=16, readonly=True) as environment:
            later = environment.open_db(b"snapshots", create=False)
            with environment.begin(db=later) as transaction:
                self.assertEqual(transaction.get(b"key"), b"value")


if __name__ == "__main__":
    harness.main()
