#!/usr/bin/env python3
"""Take each guard out of the sources, one at a time, and see the test fail that is there for it.

  guards.py            all guards, on UML; NAME... for some of them
  guards.py --check    only that each can be taken out, and that the documentation lists each

guards/NAME.guard:

    # what goes wrong without it
    test: SUITE.TEST
    file: mm/guestmem/change.c
     a line that is there
    -lines that are taken out
    +lines in their place

The lines with a blank or a minus in front must be in the file exactly once. Several "file:" make one guard. Each kernel
is built in build/guards, from the tree there, and runs the one test. What counts is that this test fails: a kernel that
does not build shows nothing, nor does one that does not come to the test."""

import argparse
import os
import pathlib
import re
import subprocess
import sys
import threading

sys.dont_write_bytecode = True
import apply
import overlay
import rules

SECONDS_FOR_ONE, SECONDS_FOR_ALL = 240, 900
DOCUMENT = "Documentation/mm/guestmem.rst"


class GuardError(Exception):
    """A guard that is malformed or does not fit the sources, in words for the user."""


class Hunk:
    def __init__(self, path):
        self.path, self.old, self.new = path, [], []

    def add(self, line):
        if line[0] in " -":
            self.old.append(line[1:])
        if line[0] in " +":
            self.new.append(line[1:])

    def apply(self, name, text):
        lines, size = text.split("\n"), len(self.old)
        places = [n for n in range(len(lines) - size + 1) if lines[n:n + size] == self.old]
        if len(places) != 1 or not size:
            raise GuardError(f"{name}: its lines are in {self.path} {len(places)} times, expected 1")
        lines[places[0]:places[0] + size] = self.new
        return "\n".join(lines)


class Guard:
    def __init__(self, file):
        self.name, self.test, self.hunks = file.stem, None, []
        for line in file.read_text().splitlines():
            key, _, value = line.partition(": ")
            if key == "file":
                self.hunks.append(Hunk(value))
            elif key == "test":
                self.suite, self.test = value.split(".")
            elif line[:1] in (" ", "-", "+") and self.hunks:
                self.hunks[-1].add(line)
            elif not line.startswith("#"):
                raise GuardError(f"{file.name}: cannot read the line '{line}'")
        if not self.test or not self.hunks:
            raise GuardError(f"{file.name}: there must be 'test:' and 'file:'")

    @property
    def full_test(self):
        return f"{self.suite}.{self.test}"

    def taken_out(self, files):
        """The files of the tree without the guard."""
        files = dict(files)
        for hunk in self.hunks:
            if hunk.path not in files:
                raise GuardError(f"{self.name}: {hunk.path} is not a file of ours, nor one that a rule changes")
            content, mode = files[hunk.path]
            files[hunk.path] = (hunk.apply(self.name, content.decode()).encode(), mode)
        return files


def load(directory):
    return [Guard(file) for file in sorted(directory.glob("*.guard"))]


def documented(text):
    """Pairs of guard and test in the section «Guards»: ``* - NAME`` and, a line below, ``- SUITE.TEST``."""
    section = re.search(r"^Guards\n=+\n(.*?)(?=^[^\n]+\n=+\n|\Z)", text, re.M | re.S)
    return re.findall(r"^   \* - (\S+)\n     - (\S+)$", section[1], re.M) if section else []


def check(tree, guards, files):
    for guard in guards:
        guard.taken_out(files)
    listed = documented((tree.top / DOCUMENT).read_text())
    there = [(guard.name, guard.full_test) for guard in guards]
    wrong = [f"{name}: {test} is listed in {DOCUMENT} and not in guards/" for name, test in listed
             if (name, test) not in there]
    wrong += [f"{name}: {test} is in guards/ and not listed in {DOCUMENT}" for name, test in there
              if listed.count((name, test)) != 1]
    if wrong:
        raise GuardError("\n".join(wrong))


class Uml:
    """Kernels of one tree, each with other contents of some files."""

    def __init__(self, tree):
        self.tree = tree
        self.place = tree.build / "guards"
        self.linux, self.out = self.place / "linux", self.place / "uml"
        self.out.mkdir(parents=True, exist_ok=True)
        compiler = "ccache gcc" if any(os.access(pathlib.Path(d) / "ccache", os.X_OK)
                                       for d in os.get_exec_path()) else "gcc"
        self.env = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "CCACHE_BASEDIR": str(tree.top),
                    "CCACHE_NOHASHDIR": "1"}
        self.make = ["make", "-s", "-C", self.linux, "ARCH=um", f"O={self.out}", f"CC={compiler}", f"-j{os.cpu_count()}"]

    def call(self, log, command, **more):
        with open(self.place / log, "w") as out:
            return subprocess.run(command, env=self.env, stdout=out, stderr=subprocess.STDOUT, **more).returncode

    def configure(self, files):
        apply.lay(self.tree, self.linux, files)
        if self.call("config.log", ["python3", "tools/testing/kunit/kunit.py", "config", f"--build_dir={self.out}",
                                    "--kunitconfig=lib/kunit-tests/.kunitconfig"], cwd=self.linux):
            raise GuardError(f"UML cannot be configured: see {self.place}/config.log")

    def build(self, files, log):
        apply.lay(self.tree, self.linux, files)
        return not self.call(f"{log}.build.log", [*self.make, "linux"])

    def run(self, glob, log, seconds, enough=None):
        """The console's lines, up to the first that is enough; a test that hangs ends with the time it has."""
        lines = []
        with open(self.place / f"{log}.log", "w") as copy, subprocess.Popen(
                ["./linux", "mem=512M", "console=tty", "kunit_shutdown=halt", f"kunit.filter_glob={glob}",
                 "kunit.filter=speed>slow"], cwd=self.out, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT, text=True, errors="replace") as uml:
            # Not by its group: it leaves that.
            limit = threading.Timer(seconds, uml.kill)
            limit.start()
            for line in uml.stdout:
                copy.write(line)
                lines.append(line.rstrip("\n"))
                if enough and enough.match(line):
                    uml.kill()
                    break
            limit.cancel()
        return lines


def failure(guard):
    """What KUnit says at once, and what makes the test fail in the end."""
    return re.compile(rf" +# {guard.test}: (EXPECTATION|ASSERTION) FAILED")


def outcome(lines, guard):
    """passes, skips or fails, as the test's own line says; None if there is none, though the suite came to its end."""
    begun = ended = False
    for line in lines:
        if begun and not ended and failure(guard).match(line):
            return "fails"
        begun |= line == f"    # Subtest: {guard.suite}"
        ended |= bool(re.match(rf"(not )?ok \d+ {guard.suite}\b", line))
        result = re.match(rf"    (not )?ok \d+ {guard.test}( # SKIP.*)?$", line)
        if begun and not ended and result:
            return "fails" if result[1] else "skips" if result[2] else "passes"
    return "does not end" if begun and not ended else None


def try_guard(uml, guard, files):
    """A sentence on what came of it, and if it is the right one."""
    if not uml.build(guard.taken_out(files), guard.name):
        return False, f"the kernel does not build without it: see {uml.place}/{guard.name}.build.log"
    result = outcome(uml.run(guard.full_test, guard.name, SECONDS_FOR_ONE, failure(guard)), guard)
    if result in ("fails", "does not end"):
        return True, f"{guard.full_test} {result} without it"
    return False, f"{guard.full_test} {result or 'does not run'} without it"


def run(tree, guards, files):
    uml = Uml(tree)
    uml.configure(files)
    if not uml.build(files, "all"):
        raise GuardError(f"UML does not build: see {uml.place}/all.build.log")
    counts = {True: 0, False: 0}

    def report(name, good, text):
        counts[good] += 1
        print(f"guard {name}: {'' if good else 'FAILED: '}{text}", flush=True)

    console = uml.run("guestmem*", "all", SECONDS_FOR_ALL)
    unfit = {guard.name: outcome(console, guard) for guard in guards if outcome(console, guard) != "passes"}
    # Those of one file one after the other: one object less to build for each.
    for guard in sorted(guards, key=lambda guard: guard.hunks[0].path):
        if guard.name in unfit:
            report(guard.name, False, f"{guard.full_test} {unfit[guard.name] or 'does not run'} with it")
        else:
            report(guard.name, *try_guard(uml, guard, files))
    print(f"{counts[True]} passed, {counts[False]} failed")
    return counts[False] or not guards


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("names", nargs="*", metavar="NAME")
    args = parser.parse_args()
    tree = overlay.Tree(pathlib.Path(__file__).resolve().parent.parent)
    guards = load(tree.top / "guards")
    files = tree.wanted()
    check(tree, guards, files)
    if not args.check:
        sys.exit(run(tree, [guard for guard in guards if guard.name in args.names or not args.names], files))


if __name__ == "__main__":
    try:
        main()
    except (GuardError, overlay.OverlayError, rules.RuleError) as error:
        sys.exit(f"guards: {error}")
