# SPDX-License-Identifier: BSD-2-Clause
"""What was found, as Markdown for people and as JSON for programs."""

import collections
import json
import os
import platform
import re
import statistics

from updates import MILLISECONDS, SPEED, TIMES

OURS = "lmdbfs"
# A warm run in which more pages per file than this were read again was not warm. The count is the whole
# machine's, so it is hardly ever zero.
TEPID = 0.01


class Results:
    """Samples by workload, state and contender, in the order of the rounds."""

    def __init__(self, contenders):
        self.contenders = contenders  # names; the first rival is what ratios are taken against
        self.baseline = next((name for name in contenders if name != OURS), None)
        self.rows = {}  # (workload, state): {contender: [sample]}
        self.files = {}  # the same: files per run
        self.failures = collections.Counter()  # (workload, state, contender, text): times
        self.disk = {}  # contender: bytes on disk for the tree
        self.remarks = []  # lines for the notes

    def add(self, workload, state, files, contender, sample):
        self.files[workload, state] = files
        self.rows.setdefault((workload, state), {}).setdefault(contender, []).append(sample)

    def fail(self, workload, state, contender, text):
        self.rows.setdefault((workload, state), {})
        self.failures[workload, state, contender, text] += 1

    def median(self, row, contender):
        samples = self.rows[row].get(contender)
        return statistics.median(sample.seconds for sample in samples) if samples else None

    def of_table(self, name):
        return [row for row in self.rows if row[0].table == name]

    def rival(self, row):
        """Who the ratios of a row are taken against."""
        table = row[0].table
        return row[0].ground if table == "large" else "redis" if table in ("redis", "readers") else self.baseline

    def ratio(self, row, contender):
        ours, theirs = self.median(row, contender), self.median(row, self.rival(row))
        return ours / theirs if ours is not None and theirs else None

    def failed(self, row, contender):
        return any(key[:3] == (*row, contender) for key in self.failures)

    def requests(self, row, contender):
        """Requests per file by kind: the median of the rounds for each. None without a daemon."""
        counts = [sample.requests for sample in self.rows[row].get(contender, ())
                  if sample.requests is not None]
        if not counts:
            return None
        return {op: statistics.median(count.get(op, 0) for count in counts) / self.files[row]
                for op in sorted({op for count in counts for op in count})}


def machine(arena):
    with open("/proc/meminfo", encoding="ascii") as file:
        memory = int(re.search(r"MemTotal:\s+(\d+)", file.read())[1]) / (1 << 20)
    # Without what distributors and owners append to it.
    kernel = re.match(r"[\d.]*\d", platform.release())[0]
    return {"cores": os.cpu_count(), "memory_gib": round(memory, 1), "kernel": kernel,
            "architecture": platform.machine(), "disk": arena.kind}


def heading(facts):
    """The kind of machine and of run, as a list of Markdown."""
    return "\n".join(f"- {key}: {value}" for key, value in facts.items())


def markdown(lines):
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def table(results):
    rows = results.of_table("files")
    if not rows:
        return ""
    rivals = [name for name in results.contenders if name not in (OURS, results.baseline)]
    ours, base = OURS in results.contenders, results.baseline
    head = ["workload", "state"]
    if ours:
        head += ["lmdbfs, ms", f"{base}, ms", f"**lmdbfs / {base}**", "requests per file"] if base \
            else ["lmdbfs, ms", "requests per file"]
    else:
        head += [f"{base}, ms"]
    head += [f"{name} / {base}" for name in rivals]
    lines = [head, ["---"] * 2 + ["---:"] * (len(head) - 2)]
    for row in rows:
        workload, state = row
        cells = [workload.title, state]
        if ours:
            cells.append(milliseconds(results, row, OURS))
        if base:
            cells.append(milliseconds(results, row, base))
        if ours:
            if base:
                cells.append(emphasis(ratio(results, row, OURS)))
            cells.append(per_file(results.requests(row, OURS)))
        cells += [ratio(results, row, name) for name in rivals]
        lines.append(cells)
    return markdown(lines)


def updates_table(results):
    rows = results.of_table("updates")
    if not rows:
        return ""
    ours, base = OURS in results.contenders, results.baseline
    others = [name for name in results.contenders if name not in (OURS, base)]
    head = ["writing"]
    head += ["lmdbfs, ms"] * ours + [f"{base}, ms"] * bool(base)
    head += ["**figure**", "to reach", "requests per file", "at rest after, ms"] * ours
    head += [f"{name} / {base}" for name in others]
    lines = [head, ["---"] + ["---:"] * (len(head) - 1)]
    for row in rows:
        cells = [row[0].title]
        if ours:
            cells.append(milliseconds(results, row, OURS))
        if base:
            cells.append(milliseconds(results, row, base))
        if ours:
            cells += [emphasis(figure(results, row)), str(row[0].goal or "–"),
                      per_file(results.requests(row, OURS)),
                      of_samples(results, row, OURS, lambda sample: sample.settling_seconds,
                                 lambda seconds: number(seconds * 1000))]
        cells += [ratio(results, row, name) for name in others]
        lines.append(cells)
    return markdown(lines)


def figure(results, row):
    """In the unit of its goal, so that they can be compared."""
    unit = row[0].unit
    text = {TIMES: ratio, SPEED: speed, MILLISECONDS: milliseconds}[unit](results, row, OURS)
    return text if text in ("–", "failed") else f"{text} {unit}"


def large_table(results):
    """Large records. Speed, because that is what one asks for here: 1 is that of the plain file."""
    rows = results.of_table("large")
    if not rows:
        return ""
    ours = OURS in results.contenders
    others = [name for name in results.contenders if name not in (OURS, "ext4")]
    head = ["large record", "state", "on"]
    head += ["lmdbfs, ms"] * ours + ["the file, ms"]
    head += ["**speed of lmdbfs, × the file's**", "daemon CPU, ms", "data.mdb in the page cache",
             "requests"] * ours
    head += [f"speed of {name}" for name in others]
    lines = [head, ["---"] * 3 + ["---:"] * (len(head) - 3)]
    for row in rows:
        cells = [row[0].title, row[1], row[0].ground]
        if ours:
            cells.append(milliseconds(results, row, OURS))
        cells.append(milliseconds(results, row, results.rival(row)))
        if ours:
            cells += [emphasis(speed(results, row, OURS)),
                      of_samples(results, row, OURS, lambda sample: sample.cpu_seconds, lambda x: number(x * 1000)),
                      of_samples(results, row, OURS, lambda sample: sample.resident, lambda x: f"{x:.0%}"),
                      per_file(results.requests(row, OURS))]
        cells += [speed(results, row, name) for name in others]
        lines.append(cells)
    return markdown(lines)


def redis_table(results):
    rows = results.of_table("redis")
    if not rows:
        return ""
    names = [name for name in (OURS, "ext4", "redis") if any(name in results.rows[row] for row in rows)]
    head = ["values by name, warm, µs a read"] + names + ["**redis / lmdbfs**", "requests per file"]
    lines = [head, ["---"] + ["---:"] * (len(head) - 1)]
    for row in rows:
        # As long as one reader waits for one value.
        reads = results.files.get(row, 1) / row[0].processes
        lines.append([row[0].title] + [milliseconds(results, row, name, reads / 1000) for name in names]
                     + [emphasis(speed(results, row, OURS)), per_file(results.requests(row, OURS))])
    return markdown(lines)


def readers_table(results):
    lines = []
    for row in results.of_table("readers"):
        for name in results.rows[row]:
            mebibytes = [of_samples(results, row, name, lambda sample, key=key: sample.reader_memory[key] / (1 << 20),
                                    number) for key in ("private", "pss")]
            how = "GET, a copy of each" if name == "redis" else "mmap of each"
            held = of_samples(results, row, name, lambda sample: sample.reader_memory["values"] / (1 << 20), number)
            lines.append([f"{name}: {how}", held, *mebibytes])
    if not lines:
        return ""
    lines[:0] = [["one more reader of values of 64 KB", "values, MiB", "private memory, MiB", "PSS, MiB"],
                 ["---", "---:", "---:", "---:"]]
    return markdown(lines)


def requests_table(results):
    """What the daemon was asked, per file: where the time goes."""
    lines = []
    for row in results.rows:
        counts = results.requests(row, OURS)
        if counts:
            kinds = sorted(counts.items(), key=lambda item: -item[1])
            asked = ", ".join(f"{op} {number(count)}" for op, count in kinds if count >= 0.01)
            cpu = statistics.median(sample.cpu_seconds for sample in results.rows[row][OURS])
            lines.append([row[0].name, row[1], asked or "nothing", number(cpu * 1000)])
    if not lines:
        return ""
    lines[:0] = [["workload", "state", "requests per file", "daemon CPU, ms"],
                 ["---", "---", "---", "---:"]]
    return markdown(lines)


def notes(results):
    """What must be known to read the table, one line each."""
    lines = list(results.remarks)
    if results.disk:
        lines.append("On disk, the tree: " + ", ".join(
            f"{name} {size / 1e6:.0f} MB" for name, size in results.disk.items()) + ".")
    memory = [sample.memory_bytes for row in results.rows.values() for sample in row.get(OURS, ())
              if sample.memory_bytes is not None]
    if memory:
        lines.append(f"The daemon's anonymous memory, at most: {max(memory) / 1e6:.1f} MB.")
    warm = [(sample.refaults, results.files[row]) for row, by_contender in results.rows.items()
            if row[1] == "warm" for samples in by_contender.values() for sample in samples]
    tepid = sum(pages > max(100, files * TEPID) for pages, files in warm)
    if tepid:
        lines.append(f"WARNING: {tepid} of {len(warm)} warm runs had to read evicted pages again "
                     "(workingset_refault_file).")
    for (workload, state, contender, text), times in results.failures.items():
        lines.append(f"FAILED: {contender}, {workload.name} {state}, {times} ×: {text}")
    return "\n".join(lines)


def as_json(results, facts):
    rows = []
    for row, by_contender in results.rows.items():
        workload, state = row
        contenders = {}
        for name, samples in by_contender.items():
            seconds = [sample.seconds for sample in samples]
            contenders[name] = {
                "median": statistics.median(seconds), "min": min(seconds), "max": max(seconds),
                "seconds": seconds, "refaults": [sample.refaults for sample in samples], "ratio": results.ratio(row, name),
                "requests_per_file": results.requests(row, name)}
            if samples[0].cpu_seconds is not None:
                contenders[name]["daemon_cpu_seconds"] = [sample.cpu_seconds for sample in samples]
                contenders[name]["daemon_memory_bytes"] = [sample.memory_bytes for sample in samples]
            if samples[0].resident is not None:
                contenders[name]["data_resident"] = [sample.resident for sample in samples]
            if samples[0].settling_seconds is not None:
                contenders[name]["settling_seconds"] = [sample.settling_seconds for sample in samples]
            if samples[0].reader_memory is not None:
                contenders[name]["reader_memory_bytes"] = [sample.reader_memory for sample in samples]
        rows.append({"workload": workload.name, "title": workload.title, "state": state,
                     "files": results.files.get(row), "rival": results.rival(row),
                     "goal": str(workload.goal) if getattr(workload, "goal", None) else None, "contenders": contenders})
    failures = [{"workload": workload.name, "state": state, "contender": contender, "text": text,
                 "times": times}
                for (workload, state, contender, text), times in results.failures.items()]
    return json.dumps({"run": facts, "baseline": results.baseline, "rows": rows, "failures": failures,
                       "disk_bytes": results.disk}, indent=1, ensure_ascii=False) + "\n"


def milliseconds(results, row, contender, count=1):
    """Of a run, or of one of the `count` things that it does."""
    if results.failed(row, contender):
        return "failed"
    seconds = results.median(row, contender)
    return "–" if seconds is None else number(seconds * 1000 / count)


def ratio(results, row, contender):
    value = None if results.failed(row, contender) else results.ratio(row, contender)
    return "–" if value is None else f"{value:.2f}"


def speed(results, row, contender):
    value = None if results.failed(row, contender) else results.ratio(row, contender)
    return "–" if value is None else f"{1 / value:.2f}"


def of_samples(results, row, contender, value, text):
    """The median of something that samples have, as text."""
    values = [value(sample) for sample in results.rows[row].get(contender, ())]
    return text(statistics.median(values)) if values and None not in values else "–"


def per_file(counts):
    return "–" if counts is None else number(sum(counts.values()))


def emphasis(text):
    return text if text == "–" else f"**{text}**"


def number(value):
    """Three digits where they say something."""
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
