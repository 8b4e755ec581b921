#!/usr/bin/env python3
"""Take each guard out of the sources, one at a time, and see the test fail that is there for it.

  guards.py            all guards; NAME... for some of them
  guards.py --check    only that each can be taken out, and that the documentation lists each

guards/NAME.guard:

    # what goes wrong without it
    test: SUITE.TEST           on UML; or PROGRAM_test.TEST, a selftest of KVM's in QEMU
    boot: PARAMETER=VALUE      for a selftest: on the kernel's command line
    on: x86                    for a suite that needs real huge pages, poison or more than one CPU: in QEMU, too
    file: mm/guestmem/change.c
     a line that is there
    -lines that are taken out
    +lines in their place

The lines with a blank or a minus in front must be in the file exactly once. Several "file:" make one guard. Each kernel
is built in build/guards, from the tree there, and runs the one test. What counts is that this test fails: a kernel that
does not build shows nothing, nor does one that does not come to the test. A warning ends a selftest."""

import argparse
import pathlib
import re
import sys

sys.dont_write_bytecode = True
import machines
import overlay
import rules

SECONDS_FOR_ALL = 900
DOCUMENT = "guards/README.rst"


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
        self.machine, self.parameters = machines.Uml, ""
        for line in file.read_text().splitlines():
            key, _, value = line.partition(": ")
            if key == "file":
                self.hunks.append(Hunk(value))
            elif key == "test":
                self.suite, self.test = value.split(".")
                if self.suite.endswith("_test"):
                    self.machine = machines.Programs
            elif key == "boot":
                self.parameters = value
            elif line == "on: x86":
                self.machine = machines.X86
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


def tried(machine, guard, log, enough=None):
    """What comes of the guard's test on a kernel that is built."""
    lines = machine.run(guard.full_test, log, enough=enough, parameters=guard.parameters)
    if guard.machine is machines.Programs:
        return machines.program_outcome(lines, guard.suite, guard.test)
    return machines.outcome(lines, guard.suite, guard.test)


def try_guard(machine, guard, files):
    """A sentence on what came of it, and if it is the right one."""
    if not machine.build(guard.taken_out(files), guard.name):
        return False, f"the kernel does not build without it: see {machine.place}/{guard.name}.build.log"
    result = tried(machine, guard, guard.name, machines.kunit_failure(guard.test))
    if result in ("fails", "does not end"):
        return True, f"{guard.full_test} {result} without it"
    return False, f"{guard.full_test} {result or 'does not run'} without it"


def outcomes_with(machine, guards):
    """What comes of each test with all guards in place."""
    if isinstance(machine, machines.Programs):
        machine.pack(sorted({guard.suite for guard in guards}))
        return {guard.full_test: tried(machine, guard, f"with.{guard.name}") for guard in guards}
    console = machine.run("guestmem*", f"all.{machine.name}", SECONDS_FOR_ALL)
    return {guard.full_test: machines.outcome(console, guard.suite, guard.test) for guard in guards}


def run_on(machine, guards, files, report):
    machine.prepare(files)
    outcomes = outcomes_with(machine, guards)
    # Those of one file one after the other: one object less to build for each.
    for guard in sorted(guards, key=lambda guard: guard.hunks[0].path):
        if outcomes[guard.full_test] == "passes":
            report(guard.name, *try_guard(machine, guard, files))
        else:
            report(guard.name, False, f"{guard.full_test} {outcomes[guard.full_test] or 'does not run'} with it")


def run(tree, guards, files):
    counts = {True: 0, False: 0}

    def report(name, good, text):
        counts[good] += 1
        print(f"guard {name}: {'' if good else 'FAILED: '}{text}", flush=True)

    for kind in (machines.Uml, machines.X86, machines.Programs):
        these = [guard for guard in guards if guard.machine is kind]
        if these:
            run_on(kind(tree), these, files, report)
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
    except (GuardError, machines.MachineError, overlay.OverlayError, rules.RuleError) as error:
        sys.exit(f"guards: {error}")
