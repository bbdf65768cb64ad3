# SPDX-License-Identifier: BSD-2-Clause
"""What the contenders hold: the arena on disk, and the data sets in it."""

import dataclasses
import hashlib
import pathlib
import random
import shutil
import subprocess
import tarfile
import tempfile

# A full Gentoo tree has about ten times the entries of the overlay that the real data comes from. Of the other
# trees, the name says how many files they have.
PREFIXES = {"": 10, "400k": 107}
ARCHIVE = "guru-md5-cache.tar.xz"
ARCHIVE_ROOT = "metadata/md5-cache/"

# The same distribution when the archive is missing: (quantile, bytes), and the counts of the archive.
SIZES = ((0.0, 226), (0.25, 772), (0.5, 1194), (0.75, 2159), (0.95, 12135), (1.0, 120000))
GENERATED_FILES = 3751
GENERATED_CATEGORIES = 139

LARGE_NAME = "large.bin"
LARGE_BYTES = {"64m": 64 << 20, "1g": 1 << 30}
# Values of one size, as a key-value server holds them: how many, and how many bytes each.
VALUES = {"1k": (10_000, 1 << 10), "64k": (1_000, 64 << 10)}
VALUES_PER_DIRECTORY = 1_000
# With --quick: the archive once or twice, a tenth of the values, and large files of a sixteenth.
QUICK_TREE, QUICK_VALUES, QUICK_LARGE = 50, 10, 16
# For the loop image: room for the trees, the large files, the other grounds and the copies that the write
# workloads make.
IMAGE_BYTES = 48 << 30


class BenchError(Exception):
    """One line for the person who started the benchmark."""


class Arena:
    """A directory of our own on an ext4 filesystem; it vanishes with all that is in it.

    Contenders that live on disk must share one, or the disk is compared instead. Where `where` is not
    on ext4, the arena is an ext4 image mounted from there.
    """

    def __init__(self, where):
        self.outer = pathlib.Path(tempfile.mkdtemp(prefix="lmdbfs-bench-", dir=where))
        self.outer.chmod(0o755)
        self.dir = self.outer
        host = filesystem_of(self.outer)
        self.kind = "a directory on ext4"
        self.journal = host != "ext4" or has_journal(self.outer)
        if not self.journal:
            self.kind += " without a journal"
        if host != "ext4":
            self.kind = f"an ext4 image on {host}, loop-mounted"
            try:
                self._mount_image()
            except BaseException:
                self.remove()
                raise

    def _mount_image(self):
        image, self.dir = self.outer / "ext4.img", self.outer / "ext4"
        with open(image, "wb") as file:
            file.truncate(IMAGE_BYTES)
        # Lazy initialization would go on writing in the background while others are measured.
        command("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", image)
        self.dir.mkdir()
        command("mount", "-o", "loop", image, self.dir)

    def remove(self):
        if self.dir != self.outer:
            if self.dir.is_mount():
                command("umount", self.dir)
            self.dir = self.outer
        shutil.rmtree(self.outer)


@dataclasses.dataclass
class Dataset:
    """What a contender is filled with. Writers get an empty one, with `source` as material."""

    name: str
    source: pathlib.Path
    names: pathlib.Path  # a file with one relative path per line, sorted
    files: int
    empty: bool = False
    large: bool = False  # its records are


class Corpus:
    """Builds the data sets in the arena, each when it is first asked for."""

    def __init__(self, arena, archive, quick):
        self.arena = arena
        self.quick = quick
        self.archive = archive if archive.is_file() else None
        self._built = {}

    @property
    def origin(self):
        return "the real md5-cache" if self.archive else \
            "a GENERATED tree (the real data was not found) with the size distribution of md5-cache"

    def get(self, name):
        """The data set `tree`, `tree-SIZE`, `large-SIZE` or `values-SIZE`; or `scratch-NAME`, an empty one with that
        one as its material (`scratch` has the tree)."""
        if name not in self._built:
            kind, _, size = name.partition("-")
            self._built[name] = getattr(self, "_build_" + kind)(*([size] if size else []))
        return self._built[name]

    def nothing(self, name):
        """A data set of the same shape with next to nothing in it, to start the programs with."""
        source = self.arena.dir / "nothing"
        source.mkdir(exist_ok=True)
        (source / LARGE_NAME).write_bytes(bytes(4096))
        names = self.arena.dir / "nothing.names"
        names.touch()
        return Dataset(name, source, names, 1)

    def _build_tree(self, size=""):
        name = f"tree-{size}" if size else "tree"
        source = self.arena.dir / f"source-{name}"
        count = prefixes(size, self.quick)
        entries = sorted(read_archive(self.archive) if self.archive else generate())
        for prefix in range(count):
            for entry, content in entries:
                path = source / f"tree-{prefix}" / entry
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(distinct(content, prefix))
        return self._dataset(name, source, [
            f"tree-{prefix}/{entry}" for prefix in range(count) for entry, _ in entries])

    def _build_large(self, size):
        source = self.arena.dir / f"source-large-{size}"
        source.mkdir()
        generator = random.Random(1)
        with open(source / LARGE_NAME, "wb") as file:
            for _ in range(large_bytes(size, self.quick) >> 20):
                file.write(generator.randbytes(1 << 20))
        return dataclasses.replace(self._dataset(f"large-{size}", source, [LARGE_NAME]), large=True)

    def _build_values(self, size):
        source = self.arena.dir / f"source-values-{size}"
        count, length = VALUES[size]
        generator = random.Random(1)
        names = []
        for number in range(count // (QUICK_VALUES if self.quick else 1)):
            directory, name = divmod(number, VALUES_PER_DIRECTORY)
            names.append(f"{directory:03}/value-{name:03}")
            path = source / names[-1]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(generator.randbytes(length))
        return self._dataset(f"values-{size}", source, names)

    def _build_scratch(self, material=""):
        name = f"scratch-{material}" if material else "scratch"
        return dataclasses.replace(self.get(material or "tree"), name=name, empty=True)

    def _dataset(self, name, source, paths):
        names = self.arena.dir / f"{name}.names"
        names.write_text("".join(path + "\n" for path in paths), encoding="utf-8")
        return Dataset(name, source, names, len(paths))


def prefixes(size, quick):
    """How many times the archive is in a tree."""
    return max(PREFIXES[size] // (QUICK_TREE if quick else 1), 1)


def large_bytes(size, quick):
    return LARGE_BYTES[size] // (QUICK_LARGE if quick else 1)


def read_archive(path):
    with tarfile.open(path) as archive:
        for member in archive:
            if member.isfile() and member.name.startswith(ARCHIVE_ROOT):
                yield member.name[len(ARCHIVE_ROOT):], archive.extractfile(member).read()


def distinct(content, prefix):
    """The content with another checksum in it, or who shares equal contents would store one copy for ten."""
    head, mark, tail = content.partition(b"\n_md5_=")
    digest = hashlib.md5(b"%d" % prefix + tail[:32]).hexdigest().encode()
    return head + mark + digest + tail[32:] if mark else content


def generate():
    """Files of the archive's shape: some categories of KEY=value lines, sizes by SIZES."""
    generator = random.Random(1)
    words = ["".join(generator.choices("abcdefghijklmnopqrstuvwxyz-", k=generator.randint(3, 12)))
             for _ in range(2000)]
    for number in range(GENERATED_FILES):
        category = f"category-{generator.randrange(GENERATED_CATEGORIES):03}"
        arch = " ~riscv" if generator.random() < 0.05 else ""
        lines = [f"DESCRIPTION={' '.join(generator.choices(words, k=8))}", "EAPI=8",
                 f"KEYWORDS=~amd64{arch}", f"_md5_={generator.getrandbits(128):032x}"]
        size = quantile(generator.random())
        text = "\n".join(lines) + "\nRDEPEND="
        while len(text) < size:
            text += f"{generator.choice(words)}/{generator.choice(words)} "
        yield f"{category}/package-{number}", (text[:max(size, 226) - 1] + "\n").encode()


def quantile(q):
    """The size at quantile q: straight lines between the points of SIZES, sizes on a logarithmic scale."""
    for (q0, size0), (q1, size1) in zip(SIZES, SIZES[1:]):
        if q <= q1:
            return int(size0 * (size1 / size0) ** ((q - q0) / (q1 - q0)))
    return SIZES[-1][1]


def has_journal(path):
    """Whether the ext4 that has the path keeps a journal inside, as nearly all do."""
    device = pathlib.Path(command("findmnt", "-n", "-o", "SOURCE", "-T", path).split()[-1]).resolve().name
    return any(pathlib.Path("/proc/fs/jbd2").glob(f"{device}-*"))


def filesystem_of(path):
    return command("findmnt", "-n", "-o", "FSTYPE", "-T", path).split()[-1]  # the topmost mount


def command(*argv, timeout=600):
    """Run a command that must succeed; its output."""
    argv = [str(word) for word in argv]
    try:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True, errors="replace", timeout=timeout)
    except FileNotFoundError:
        raise BenchError(f"{argv[0]} is missing: install it") from None
    except subprocess.TimeoutExpired:
        raise BenchError(f"no end after {timeout} s: {' '.join(argv)}") from None
    if done.returncode != 0:
        raise BenchError(f"exit {done.returncode}: {' '.join(argv)}: {done.stderr.strip()[-500:]}")
    return done.stdout
