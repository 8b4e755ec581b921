#!/usr/bin/env python3
"""Tests of guards.py: a guard that does not fit is refused, and only a failure of the named test counts."""
import pathlib
import tempfile
import unittest

from guards import Guard, GuardError, documented, outcome

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
            self.assertEqual(outcome(lines, guard()), want)

    def test_documented(self):
        text = ("Before\n======\n\n   * - a\n     - s.t\n\nGuards\n======\n\n   * - b\n     - s.u\n   * - c\n     - s.v\n\n"
                "After\n=====\n\n   * - d\n     - s.w\n")
        self.assertEqual(documented(text), [("b", "s.u"), ("c", "s.v")])


if __name__ == "__main__":
    unittest.main()
