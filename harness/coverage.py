#!/usr/bin/env python3
"""Say which lines of mm/guestmem were reached, and judge it.

usage: coverage.py LINUX-TREE BUILD-DIR COUNTERS

COUNTERS holds the .gcda files, each somewhere below it at the path that the object has in BUILD-DIR. What was not
built does not count; what was built and never ran does."""

import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

LAYER = "mm/guestmem/"
WANTED = 95.0
LABEL = re.compile(r"^([a-z]\w*):$")


def percent(part, whole):
    return 100.0 * part / whole if whole else 0.0


def ranges(numbers):
    """1, 2, 3, 7 as «1-3, 7»."""
    runs = []
    for number in sorted(numbers):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)


def merge(reports, tree):
    """By file of the layer and by line, how often it was reached: the sum over all objects it went into."""
    files = {}
    for report in reports:
        for entry in report["files"]:
            path = pathlib.Path(report["current_working_directory"], entry["file"]).resolve()
            name = str(path.relative_to(tree)) if path.is_relative_to(tree) else ""
            if not name.startswith(LAYER):
                continue
            lines = files.setdefault(name, {})
            for line in entry["lines"]:
                lines[line["line_number"]] = lines.get(line["line_number"], 0) + line["count"]
    return files


def labels_missed(text, lines):
    """The error labels of a source whose first line with code behind them was not reached."""
    missed = []
    source = text.splitlines()
    for at, line in enumerate(source, 1):
        label = LABEL.match(line)
        if not label:
            continue
        end = next(n for n in range(at, len(source) + 1) if source[n - 1] == "}")
        code = [n for n in range(at + 1, end) if n in lines]
        if not code or not lines[code[0]]:
            missed.append((at, label[1]))
    return missed


def judge(files, sources):
    """Lines to print, and what is wrong."""
    text, wrong, reached, total = [], [], 0, 0
    for name in sorted(files):
        lines = files[name]
        missed = [number for number, count in lines.items() if not count]
        reached += len(lines) - len(missed)
        total += len(lines)
        text.append(f"{name:<34} {percent(len(lines) - len(missed), len(lines)):6.1f} %  "
                    f"{len(lines) - len(missed)} of {len(lines)} lines"
                    + (f", not reached: {ranges(missed)}" if missed else ""))
        wrong += [f"{name}:{at}: the label {label} is not reached"
                  for at, label in labels_missed(sources[name], lines)]
    share = percent(reached, total)
    text.append(f"{'all of it':<34} {share:6.1f} %  {reached} of {total} lines")
    if share < WANTED:
        wrong.append(f"less than {WANTED:.0f} % of the lines are reached")
    return text, wrong


def gcov(gcno, gcda, tmp):
    """gcov's report on one object."""
    shutil.copy(gcno, tmp / gcno.name)
    if gcda.exists():
        shutil.copy(gcda, tmp / gcda.name)
    done = subprocess.run(["gcov", "--json-format", "--stdout", gcno.name], cwd=tmp, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"coverage: gcov cannot read {gcno}:\n{done.stderr}")
    return json.loads(done.stdout)


def reports(out, counters):
    for gcno in sorted((out / LAYER).rglob("*.gcno")):
        gcda = counters / str(gcno.relative_to("/")).removesuffix(".gcno")
        with tempfile.TemporaryDirectory() as tmp:
            yield gcov(gcno, gcda.with_suffix(".gcda"), pathlib.Path(tmp))


def main():
    tree, out, counters = (pathlib.Path(arg).resolve() for arg in sys.argv[1:])
    if not any(counters.rglob("*.gcda")):
        sys.exit("coverage: there are no counters: did the kernel come to its init?")
    files = merge(reports(out, counters), tree)
    text, wrong = judge(files, {name: (tree / name).read_text() for name in files})
    print("\n".join(text))
    if wrong:
        sys.exit("\n".join(f"coverage: {sentence}" for sentence in wrong))


if __name__ == "__main__":
    main()
