# SPDX-License-Identifier: BSD-2-Clause
"""What was found, as Markdown for people and as JSON for programs."""

import collections
import json
import os
import platform
import re
import statistics

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

    def add(self, workload, state, files, contender, sample):
        self.files[workload, state] = files
        self.rows.setdefault((workload, state), {}).setdefault(contender, []).append(sample)

    def fail(self, workload, state, contender, text):
        self.rows.setdefault((workload, state), {})
        self.failures[workload, state, contender, text] += 1

    def median(self, row, contender):
        samples = self.rows[row].get(contender)
        return statistics.median(sample.seconds for sample in samples) if samples else None

    def ratio(self, row, contender):
        ours, theirs = self.median(row, contender), self.median(row, self.baseline)
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


def table(results):
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
    for row in results.rows:
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
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def requests_table(results):
    """What the daemon was asked, per file: where the time goes."""
    lines = []
    for row in results.rows:
        counts = results.requests(row, OURS)
        if counts:
            kinds = sorted(counts.items(), key=lambda item: -item[1])
            asked = ", ".join(f"{op} {number(count)}" for op, count in kinds if count >= 0.01)
            cpu = statistics.median(sample.cpu_seconds for sample in results.rows[row][OURS])
            lines.append([row[0].name, row[1], asked or "nothing", f"{cpu * 1000:.0f}"])
    if not lines:
        return ""
    lines[:0] = [["workload", "state", "requests per file", "daemon CPU, ms"],
                 ["---", "---", "---", "---:"]]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def notes(results):
    """What must be known to read the table, one line each."""
    lines = []
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
        rows.append({"workload": workload.name, "title": workload.title, "state": state,
                     "files": results.files.get(row), "contenders": contenders})
    failures = [{"workload": workload.name, "state": state, "contender": contender, "text": text,
                 "times": times}
                for (workload, state, contender, text), times in results.failures.items()]
    return json.dumps({"run": facts, "baseline": results.baseline, "rows": rows, "failures": failures,
                       "disk_bytes": results.disk}, indent=1, ensure_ascii=False) + "\n"


def milliseconds(results, row, contender):
    if results.failed(row, contender):
        return "failed"
    seconds = results.median(row, contender)
    return "–" if seconds is None else number(seconds * 1000)


def ratio(results, row, contender):
    value = None if results.failed(row, contender) else results.ratio(row, contender)
    return "–" if value is None else f"{value:.2f}"


def per_file(counts):
    return "–" if counts is None else number(sum(counts.values()))


def emphasis(text):
    return text if text == "–" else f"**{text}**"


def number(value):
    """Three digits where they say something."""
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
