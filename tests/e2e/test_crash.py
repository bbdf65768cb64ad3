# SPDX-License-Identifier: BSD-2-Clause
"""The daemon is killed in the middle of everything; the next mount must have all that was acknowledged."""

import contextlib
import errno
import os
import random
import subprocess
import time

import harness
import versions
from harness import LMDBFS, SEED, mounted, publish, read_file, run, store_stat, wait_for, write_file
from look import looker
from mixed_load import DEATH, Load as AnyLoad
from prefix_model import MODES, check


HANGS = 200  # seconds that nothing takes, on a disk that many others use


def until_death(work):
    """Run `work` until the daemon is gone. Any other error is one of the test."""
    try:
        work()
    except OSError as error:
        if error.errno not in DEATH:
            raise
        return
    raise AssertionError("the work ended before the daemon did")


class Journal:
    """What a writer did, on the host's disk: a line before each operation, and one when it was acknowledged."""

    def __init__(self, path):
        self.path = path

    def append(self, *words):
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(descriptor, (" ".join(map(str, words)) + "\n").encode())
        os.close(descriptor)

    @contextlib.contextmanager
    def operation(self, *words):
        self.append("try", *words)
        yield
        self.append("done", *words)

    def lines(self):
        with open(self.path, encoding="ascii") as file:
            return [line.split() for line in file]


class Load:
    """One process that publishes, writes under final names and removes, in a directory of its own."""

    KEYS = 15

    def __init__(self, mount, number, journal, seed):
        self.mount = mount
        self.number = number
        self.journal = journal
        self.maker = random.Random(f"{number} {seed}")
        self.version = 0

    def run(self):
        until_death(self.forever)

    def forever(self):
        while True:
            self.version += 1
            key = f"w{self.number}/k{self.maker.randrange(self.KEYS)}"
            self.maker.choice((self.publish_beside, self.publish_from_root, self.publish_staged, self.write_in_place,
                               self.remove))(key)

    def content(self, key):
        return versions.content(key, self.version, self.maker.choice(versions.SIZES))

    def publish_through(self, key, temporary):
        write_file(temporary, self.content(key))
        with self.journal.operation("put", key, self.version):
            os.rename(temporary, self.mount / key)

    def publish_beside(self, key):
        self.publish_through(key, self.mount / f"{key}.tmp")

    def publish_from_root(self, key):
        self.publish_through(key, self.mount / f".tmp{self.number}")

    def publish_staged(self, key):
        self.publish_through(key, os.path.join(self.mount.staging, f"s{self.number}"))

    def write_in_place(self, key):
        self.remove(key)
        with self.journal.operation("write", key, self.version):
            write_file(self.mount / key, self.content(key))
            harness.sync(self.mount / key)

    def remove(self, key):
        with self.journal.operation("remove", key, self.version), contextlib.suppress(FileNotFoundError):
            os.unlink(self.mount / key)


ABSENT = "absent"
PART = "a part"


def allowed_states(lines):
    """By key: the versions that it may be at: the last acknowledged one, or what was tried after it."""
    states = {}
    for stage, operation, key, version in lines:
        version = ABSENT if operation == "remove" else int(version)
        if stage == "done":
            states[key] = {version}
        else:
            states.setdefault(key, {ABSENT}).add(version)
            if operation == "write":
                states[key].add(PART)
    return states


class Crash(harness.Case):
    WRITERS = 4

    def one_round(self, maker, seed):
        """Load, kill at a random moment. Returns what each key may be at now."""
        journals = [Journal(self.path(f"journal{seed}.{number}")) for number in range(self.WRITERS)]
        with mounted(self.store, "sync") as mount:
            run("find", mount.path, mount.staging, "-type", "f", "-delete")  # also temporary files of the round before
            for number in range(self.WRITERS):
                os.makedirs(mount / f"w{number}", exist_ok=True)
            loads = [harness.Child(Load(mount, number, journals[number], seed).run) for number in range(self.WRITERS)]
            wait_for(lambda: all(os.path.exists(journal.path) for journal in journals), what="every writer at work")
            time.sleep(maker.uniform(0.02, 1.0))  # the random moment
            mount.kill()
            for load in loads:
                load.result()
        states = {}
        for journal in journals:
            states.update(allowed_states(journal.lines()))
        return states, sum(len(journal.lines()) for journal in journals)

    def find_versions(self, root, states):
        """What each key is at."""
        found = {}
        for key in states:
            path = os.path.join(root, key)
            found[key] = ABSENT
            if os.path.exists(path):
                parsed = versions.parse(read_file(path))
                found[key] = parsed[1] if parsed and parsed[0] == key else PART
        return found

    def assert_allowed(self, root, states):
        found = self.find_versions(root, states)
        wrong = {key: (version, states[key]) for key, version in found.items() if version not in states[key]}
        self.assertEqual(wrong, {}, "key: (found, allowed)")

    def test_nothing_acknowledged_is_lost(self):
        maker = random.Random("crash")
        operations = 0
        for seed in range(harness.scaled(25, least=5)):
            states, count = self.one_round(maker, seed)
            operations += count
            with mounted(self.store) as mount:
                self.assert_allowed(mount.path, states)
                self.assertEqual(store_stat(self.store)["orphans"], 0)
                self.assertEqual(run("find", mount.path, "-type", "f", "-size", "+0", "-perm", "/222").stdout, "",
                                 "not sealed by the recovery")
            self.assert_clean()
        self.assertGreater(operations, 100)

    def test_commands_on_a_store_that_nobody_recovered(self):
        maker = random.Random("unrecovered")
        for seed in range(harness.scaled(5, least=2)):
            states, _ = self.one_round(maker, seed)
            self.assert_clean()
            store_stat(self.store)
            out = self.path(f"out{seed}")
            harness.lmdbfs("export", self.store, out)
            self.assert_allowed(out, states)

    def test_killed_again_while_recovering(self):
        """The kill after the kill: mounts that live for moments only."""
        maker = random.Random("again")
        states, _ = self.one_round(maker, "again")
        for _ in range(harness.scaled(10, least=3)):
            process = subprocess.Popen([LMDBFS, "mount", "-f", self.store, self.store + ".mnt"],
                                               stderr=subprocess.PIPE)
            time.sleep(maker.uniform(0, 0.05))
            process.kill()
            process.communicate()
        with mounted(self.store) as mount:
            self.assert_allowed(mount.path, states)
        self.assert_clean()


class MixedLoad(harness.Case):
    """Whatever clients do, all of it: the tree is a prefix of that afterwards, with what was durable in it."""

    CLIENTS = 3
    KILLS = 5  # of each store

    def one_kill(self, store, mode, word):
        """Clients of that name at work on a mount, until its daemon is killed. Returns their histories."""
        maker = random.Random(f"moment {os.path.basename(store)} {word}")
        # Should they never get to work, it is shown where the daemon is stuck before this gives up.
        with mounted(store, *mode.options, limit=HANGS / 2) as mount:
            loads = [AnyLoad(f"{word}c{number}", os.path.basename(store)) for number in range(self.CLIENTS)]
            children = [harness.Child(load.run, mount.path) for load in loads]
            wait_for(lambda: all(os.path.isdir(mount.path + load.home) or not child.running()
                                 for load, child in zip(loads, children)), HANGS, "every client at work")
            time.sleep(maker.uniform(0, 0.4))  # the random moment
            ended = [child.result().ended_by for child in children if not child.running()]
            self.assertEqual(ended, [], "a client has ended too soon")
            mount.kill()
            return [child.result().history for child in children]

    def kill_one_store(self, looking, name):
        """Returns how many calls were made, and how many of them were not there afterwards."""
        store = self.path(f"store {name}")
        os.mkdir(store)
        before = {}  # what the rounds before have left
        calls = lost = 0
        for number in range(self.KILLS):
            histories = self.one_kill(store, MODES[name.split()[0]], f"r{number}")
            now = time.monotonic_ns()
            found = looking.look(store)
            new = {path: entry for path, entry in found.items() if path not in before}
            old = {path: found.get(path) for path in before}
            self.assertEqual(old, {path: entry._replace(sealed=found[path].sealed if path in found else None)
                                   for path, entry in before.items()}, "what earlier rounds have left")
            fitting = check(histories, new, now, MODES[name.split()[0]])
            calls += sum(len(history.calls) for history in histories)
            lost += sum(len(history.calls) - max(counts) for history, counts in zip(histories, fitting))
            before = found
        return calls, lost

    def test_prefix(self):
        stores = harness.scaled(6, least=2)
        with looker(self.directory) as looking:
            for number in range(stores):
                name = f"{list(MODES)[number % len(MODES)]} {SEED} {number}"
                try:
                    calls, lost = self.kill_one_store(looking, name)
                except AssertionError as error:
                    raise AssertionError(f"store {name!r}: {error}") from error
                print(f"{name}: {calls} calls, {lost} lost", end="; ", flush=True)
                self.assertGreater(calls, 15 * self.KILLS)


class Leftovers(harness.Case):
    def test_files_written_and_closed(self):
        """Acknowledged by their close, whether the seal had come or not; and what was written of those still open."""
        with mounted(self.store) as mount:
            for index, size in enumerate(versions.SIZES):
                write_file(mount / f"closed{index}", versions.content("closed", index, size))
                harness.sync(mount / f"closed{index}")
            opened = []
            for index in range(5):
                file = open(mount / f"open{index}", "wb", buffering=0)
                file.write(b"written %d" % index)
                os.fsync(file.fileno())
                opened.append(file)
            os.rename(mount / "open4", mount / "renamed")
            os.unlink(mount / "open3")
            harness.sync(mount.path)
            mount.kill()
            for file in opened:
                with contextlib.suppress(OSError):
                    file.close()
        with mounted(self.store) as mount:
            for index in range(len(versions.SIZES)):
                self.assertEqual(versions.parse(read_file(mount / f"closed{index}")), ("closed", index))
            for name, content in (("open0", b"written 0"), ("open1", b"written 1"), ("renamed", b"written 4")):
                self.assertEqual(read_file(mount / name), content)
                harness.wait_sealed(mount / name)
                with self.assert_errno(errno.EPERM):
                    write_file(mount / name, b"")
            self.assertFalse(os.path.exists(mount / "open3"))
            self.assertFalse(os.path.exists(mount / "open4"))
        self.assert_clean()

    def test_staging(self):
        """Unfinished work is still there to be finished."""
        with mounted(self.store) as mount:
            staged = os.path.join(mount.staging, "directory")
            os.mkdir(staged)
            with open(staged + "/open", "wb", buffering=0) as file:
                file.write(b"half")
                write_file(staged + "/closed", b"whole")
                harness.sync(staged + "/open")
                harness.sync(staged + "/closed")
                mount.kill()
                with contextlib.suppress(OSError):
                    file.close()
        with mounted(self.store) as mount:
            staged = os.path.join(mount.staging, "directory")
            self.assertEqual(read_file(staged + "/open"), b"half")
            with open(staged + "/open", "ab") as file:
                file.write(b" done")
            os.rename(staged, mount / "published")
            self.assertEqual(read_file(mount / "published/open"), b"half done")
            self.assertEqual(read_file(mount / "published/closed"), b"whole")
        self.assert_clean()

    def test_orphans(self):
        with mounted(self.store) as mount:
            held = []
            for index in range(10):
                publish(mount / "file", versions.content("x", index, 100_000))
                held.append(os.open(mount / "file", os.O_RDONLY))
            os.unlink(mount / "file")
            wait_for(lambda: store_stat(self.store)["orphans"] == 10, what="ten orphans")
            held.append(os.open(mount.path, os.O_TMPFILE | os.O_WRONLY))
            os.write(held[-1], b"x" * 100_000)
            mount.kill()
            for descriptor in held:
                with contextlib.suppress(OSError):
                    os.close(descriptor)
        with mounted(self.store) as mount:
            self.assertEqual(os.listdir(mount.path), [])
            wait_for(lambda: store_stat(self.store)["orphans"] == 0, what="no orphans")
            self.assertEqual(store_stat(self.store)["extents"], 0)
        self.assert_clean()
        staging = os.path.join(self.store, "staging")
        self.assertEqual(os.listdir(staging) if os.path.isdir(staging) else [], [])

    def test_large_file_in_the_middle_of_its_seal(self):
        """Sealing takes several transactions: the half of one is not a file."""
        size = harness.scaled(64 << 20, least=16 << 20)
        whole = versions.content("large", 1, size)
        maker = random.Random("seal")
        for _ in range(harness.scaled(8, least=3)):
            with mounted(self.store) as mount:
                write_file(mount / "temporary", whole)
                harness.sync(mount / "temporary")
                child = harness.Child(self.rename_or_die, mount)
                time.sleep(maker.uniform(0, 0.2))
                mount.kill()
                child.result()
            with mounted(self.store) as mount:
                names = os.listdir(mount.path)
                self.assertIn(names, (["temporary"], ["file"]))
                self.assertEqual(versions.parse(read_file(mount / names[0])), ("large", 1))
                os.unlink(mount / names[0])
            self.assert_clean()
        with mounted(self.store):
            wait_for(lambda: store_stat(self.store)["extents"] == 0, what="all pages are back")

    @staticmethod
    def rename_or_die(mount):
        with contextlib.suppress(OSError):
            os.rename(mount / "temporary", mount / "file")

    def test_times_and_modes_of_unsealed_files(self):
        with mounted(self.store) as mount:
            file = open(mount / "file", "wb", buffering=0)
            file.write(b"x")
            os.chmod(mount / "file", 0o640)
            os.utime(mount / "file", ns=(1, 1_234_567_891_234_567_891))
            os.fsync(file.fileno())
            mount.kill()
            with contextlib.suppress(OSError):
                file.close()
        with mounted(self.store) as mount:
            status = os.stat(mount / "file")
            self.assertEqual((status.st_mode & 0o7777, status.st_mtime_ns), (0o440, 1_234_567_891_234_567_891))


if __name__ == "__main__":
    harness.main()
