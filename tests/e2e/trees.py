# SPDX-License-Identifier: BSD-2-Clause
"""
Trees of files to put into a store, and the comparison that says whether what comes out is the same.

Paths are bytes: half of the names that a tree needs are not text in any encoding.
"""

import hashlib
import os
import random
import stat
import sys
import tarfile

import harness

# Where the layout of a record changes (docs/format.md): inline in its leaf, one overflow page, pages, extents.
INLINE = 1926
ONE_PAGE = 4080
PAGE = 4096
EXTENT = 128 << 10

BOUNDARIES = sorted(
    {0, 1, 2, 100, 777}
    | {limit + step for limit in (INLINE, ONE_PAGE, PAGE, 2 * PAGE, EXTENT, 2 * EXTENT) for step in (-1, 0, 1)}
    | {INLINE + 2, ONE_PAGE + 16, EXTENT + ONE_PAGE, EXTENT + PAGE, 3 * EXTENT + 17, (1 << 20) + 1, 5_000_000}
)

# One in every layout and at its limits, where all of BOUNDARIES would take too long.
FEW_SIZES = (0, 1, 1925, 1926, 1927, 4079, 4080, 4081, 4096, 131_071, 131_072, 131_073, 400_000)

AWKWARD_NAMES = [
    b" ", b"-rf", b"--", b"...", b".hidden", b"\n", b"line\nbreak", b"\xff\xfe", b"\xc3\x28", b"%s%n", b"\\", b'"',
    b"'", b"a" * 255, b"\xe2\x82\xac" * 85, b"*", b"~", b"\x01\x7f", b"tab\t", b"lock.mdb", b"data.mdb",
    "ümläut".encode(),
]

CHUNK = 1 << 20


def random_name(maker):
    """Any bytes that a name can have, of every length."""
    kind = maker.random()
    if kind < 0.2:
        return maker.choice(AWKWARD_NAMES)
    if kind < 0.6:
        parts = (b"alpha", b"beta", b"-", b"1.2.3", b"_", b".x")
        return b"".join(maker.choice(parts) for _ in range(maker.randint(1, 4)))
    length = 255 if kind > 0.97 else maker.randint(1, 60)
    return bytes(maker.choice((*range(1, 47), *range(48, 256))) for _ in range(length))


def new_path(maker, directory):
    while True:
        name = random_name(maker)
        path = os.path.join(directory, name)
        if name not in (b".", b"..", b".lmdbfs") and not os.path.lexists(path):
            return path


def write_random(path, size, maker):
    with open(path, "wb") as file:
        for start in range(0, size, CHUNK):
            file.write(maker.randbytes(min(CHUNK, size - start)))


def random_time(maker):
    """Nanoseconds, mostly recent, now and then before 1970 or after 2038."""
    seconds = maker.choice((maker.randint(1_000_000_000, 1_900_000_000), -86_400, 4_500_000_000, 0))
    return seconds * 1_000_000_000 + maker.randint(0, 999_999_999)


def make_tree(root, seed, files=150, sizes=BOUNDARIES, plain=False):
    """
    Make a tree at `root` that depends only on the arguments: regular files of every size of `sizes` at least once
    (given enough files), symbolic links, hard links, files with the same content, empty directories.

    `plain` leaves out what ordinary users can't make or keep: foreign owners, special bits, files nobody may read.
    """
    maker = random.Random(seed)
    root = os.fsencode(root)
    os.makedirs(root, exist_ok=True)
    directories = [root]
    for _ in range(max(3, files // 8)):
        path = new_path(maker, maker.choice(directories[-5:]))
        if len(path) < 3000:
            os.mkdir(path)
            directories.append(path)
    regular, links = [], []
    for index in range(files):
        path = new_path(maker, maker.choice(directories))
        size = sizes[index] if index < len(sizes) else maker.choice(sizes)
        if index >= len(sizes) and maker.random() < 0.1:
            with open(path, "wb") as file:
                file.truncate(size)  # nothing but zeros, and a hole
        elif regular and maker.random() < 0.1:
            harness.write_file(path, harness.read_file(maker.choice(regular)))
        else:
            write_random(path, size, maker)
        regular.append(path)
    for _ in range(files // 10):
        path = new_path(maker, maker.choice(directories))
        inside = os.path.relpath(maker.choice(regular), root)
        os.symlink(maker.choice((b"nowhere", b"/", b".", inside, b"t" * 4095, b"\xff\n")), path)
        links.append(path)
    for _ in range(files // 10):
        os.link(maker.choice(regular), new_path(maker, maker.choice(directories)))
    os.link(links[0], new_path(maker, root), follow_symlinks=False)
    decorate(maker, directories, regular, links, plain)


def decorate(maker, directories, regular, links, plain):
    """Owners first, since they take special bits away, and directories from below, since changes move their times."""
    modes = (0o644, 0o600, 0o755, 0o444, 0o664) + (() if plain else (0o4755, 0o2750, 0o000, 0o1777, 0o7777))
    for path in regular + links + directories[::-1]:
        if not plain:
            os.chown(path, maker.choice((0, 1, 1000, harness.NOBODY, 4_000_000_000)), maker.choice((0, 5, 100)),
                     follow_symlinks=False)
    for path in regular:
        os.chmod(path, maker.choice(modes))
    for path in directories[:0:-1]:
        os.chmod(path, maker.choice((0o755, 0o700) if plain else (0o755, 0o700, 0o1777, 0o2775, 0o000)))
    for path in regular + links + directories[::-1]:
        os.utime(path, ns=(random_time(maker), random_time(maker)), follow_symlinks=False)


# ---------------------------------------------------------------------------------------------- comparing --


def digest(path):
    sum_ = hashlib.blake2b(digest_size=16)
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK):
            sum_.update(chunk)
    return sum_.hexdigest()


def describe(path, with_times):
    """All of a file that a copy has to keep, and its inode number for those with several names."""
    status = os.lstat(path)
    facts = {
        "type": stat.S_IFMT(status.st_mode),
        "mode": stat.S_IMODE(status.st_mode),
        "uid": status.st_uid,
        "gid": status.st_gid,
    }
    if with_times:
        facts["mtime"] = status.st_mtime_ns
    if stat.S_ISREG(status.st_mode):
        facts["size"] = status.st_size
        facts["digest"] = digest(path)
    elif stat.S_ISLNK(status.st_mode):
        facts["target"] = os.readlink(path)
    if not stat.S_ISDIR(status.st_mode):
        facts["links"] = status.st_nlink
    return facts, status.st_ino


def scan(root, with_times=True):
    """What lies below `root`: facts by relative path, hard links as the first of the names that share a file."""
    root = os.fsencode(root)
    found = {}
    first = {}
    waiting = [b""]
    while waiting:
        directory = waiting.pop()
        for name in sorted(os.listdir(os.path.join(root, directory))):
            relative = os.path.join(directory, name)
            facts, number = describe(os.path.join(root, relative), with_times)
            if facts["type"] == stat.S_IFDIR:
                waiting.append(relative)
            else:
                first.setdefault(number, []).append(relative)
            found[relative] = facts
    for names in first.values():
        for name in names:
            found[name]["same as"] = min(names)
    return found


def without_write_bits(facts):
    """How a file shows in a mount once it is published."""
    if facts["type"] == stat.S_IFREG:
        return {**facts, "mode": facts["mode"] & ~0o222}
    return facts


def differences(left, right, published=False):
    """What two scans differ in, one line each. `published`: write bits of regular files don't count."""
    lines = []
    for path in sorted(left.keys() | right.keys()):
        if path not in left or path not in right:
            lines.append(f"only on the {'left' if path in left else 'right'}: {path!r}")
            continue
        ours, theirs = left[path], right[path]
        if published:
            ours, theirs = without_write_bits(ours), without_write_bits(theirs)
        for fact in sorted(ours.keys() | theirs.keys()):
            if ours.get(fact) != theirs.get(fact):
                lines.append(f"{fact} of {path!r}: {ours.get(fact)!r}, {theirs.get(fact)!r}")
    return lines


def assert_same(test, left, right, published=False, with_times=True):
    """Two directories, or scans of them, must hold the same."""
    left, right = (side if isinstance(side, dict) else scan(side, with_times) for side in (left, right))
    lines = differences(left, right, published)
    test.assertTrue(left, "an empty tree compares with everything")
    test.assertEqual(lines[:20], [], f"{len(lines)} differences")


# ---------------------------------------------------------------------------------------------- real data --


def real_tree(parent):
    """
    Unpack Gentoo's metadata cache below `parent` and return its directory. Where that file isn't, a tree of the same
    shape is made instead, and said so.
    """
    archive = os.environ.get("LMDBFS_TEST_DATA") or os.path.join(harness.REPOSITORY, "..", "shared", "data")
    if os.path.isdir(archive):
        archive = os.path.join(archive, "guru-md5-cache.tar.xz")
    root = os.path.join(parent, "md5-cache")
    os.makedirs(root)
    if os.path.exists(archive):
        with tarfile.open(archive) as tar:
            tar.extractall(root, **({"filter": "fully_trusted"} if hasattr(tarfile, "data_filter") else {}))
    else:
        print(f"\nno {archive}: using a generated tree of the same shape instead", file=sys.stderr)
        imitate_cache(root)
    return root


def imitate_cache(root, files=3751):
    """As many files as the real cache, in one level of directories, with its quartiles and its largest file."""
    maker = random.Random("md5-cache")
    words = [maker.randbytes(maker.randint(1, 9)).hex().encode() for _ in range(500)]
    for index in range(files):
        size = 381_934 if index == 0 else min(50_000, max(226, int(maker.lognormvariate(7.1, 0.8))))
        directory = os.path.join(root, f"category-{maker.randint(0, 160):03}")
        os.makedirs(directory, exist_ok=True)
        text = b"DESCRIPTION="
        while len(text) < size:
            text += maker.choice(words) + maker.choice((b" ", b" ", b"\n"))
        harness.write_file(os.path.join(directory, f"package-{index}-1.0"), text[:size])
