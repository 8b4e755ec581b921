#!/usr/bin/env python3
"""Tests of guards.py: a guard that does not fit is refused, and only a failure of the named test counts."""
import pathlib
import tempfile
import unittest

import machines
from guards import Guard, GuardError, documented

RULE = "# why\ntest: suite.case\nfile: mm/a.c\n one\n-two\n+2\n"
SOURCE = b"zero\none\ntwo\nthree\n"


def guard(text=RULE):
    with tempfile.TemporaryDirectory() as tmp:
        file = pathlib.Path(tmp, "name.guard")
        file.write_text(text)
        return Guard(file)


def console(*results):
    return ["    KTAP version 1", "    # Subtest: suite", *results, "ok 1 suite"]


class Guards(unittest.TestCase):
    def without(self, source, text=RULE):
        return guard(text).taken_out({"mm/a.c": (source, 0o644)})["mm/a.c"][0]

    def test_lines_are_taken_out(self):
        self.assertEqual(self.without(SOURCE), b"zero\none\n2\nthree\n")

    def test_two_places(self):
        self.assertEqual(self.without(SOURCE, RULE + "file: mm/a.c\n-three\n"), b"zero\none\n2\n")

    def test_lines_must_be_there_once(self):
        for source in (b"one\nthree\n", SOURCE + SOURCE):
            self.assertRaises(GuardError, self.without, source)

    def test_file_must_be_there(self):
        self.assertRaises(GuardError, guard().taken_out, {})

    def test_malformed(self):
        for text in ("", "test: a.b\n", "file: mm/a.c\n-x\n", RULE + "what is this\n"):
            self.assertRaises(GuardError, guard, text)

    def test_outcomes(self):
        for want, lines in (("passes", console("    ok 1 case")),
                            ("fails", console("    not ok 1 case")),
                            ("fails", console("        # case: EXPECTATION FAILED at a.c:1", "    ok 1 case")),
                            (None, console("    # other_case: EXPECTATION FAILED at a.c:1")),
                            ("skips", console("    ok 1 case # SKIP why")),
                            (None, console("    ok 1 case_two")),
                            (None, console("        not ok 1 case")),
                            (None, ["    # Subtest: suite_two", "    ok 1 case"]),
                            (None, []),
                            ("does not end", console()[:-1])):
            self.assertEqual(machines.outcome(lines, "suite", "case"), want)

    def test_machines(self):
        self.assertIs(guard().machine, machines.Uml)
        self.assertIs(guard(RULE.replace("file:", "on: x86\nfile:")).machine, machines.X86)
        self.assertIs(guard(RULE.replace("suite.", "some_test.")).machine, machines.Programs)

    def test_outcomes_of_programs(self):
        begin, end = "@begin some_test", "@end some_test 0 1"
        for want, lines in (("passes", [begin, "ok 1 a.v.case", end]),
                            ("fails", [begin, "not ok 1 a.v.case", "@end some_test 1 1"]),
                            ("fails", [begin, "@end some_test 254 1"]),
                            ("skips", [begin, "ok 1 a.v.case # SKIP why", end]),
                            (None, [begin, "ok 1 a.v.other", end]),
                            (None, [begin, "@end some_test 127 0"]),
                            ("does not end", [begin, "ok 1 a.v.case"]),
                            (None, [])):
            self.assertEqual(machines.program_outcome(lines, "some_test", "case"), want)

    def test_documented(self):
        text = ("Before\n======\n\n   * - a\n     - s.t\n\nGuards\n======\n\n   * - b\n     - s.u\n   * - c\n     - s.v\n\n"
                "After\n=====\n\n   * - d\n     - s.w\n")
        self.assertEqual(documented(text), [("b", "s.u"), ("c", "s.v")])


if __name__ == "__main__":
    unittest.main()
