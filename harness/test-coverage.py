#!/usr/bin/env python3
"""Tests of coverage.py: what was not reached is seen, named and counted."""
import pathlib
import unittest

from coverage import judge, labels_missed, merge, ranges

SOURCE = "int f(void)\n{\n\tif (g())\n\t\tgoto err;\n\treturn 0;\n\nerr:\n\th();\n\treturn 1;\n}\n"
NAME = "mm/guestmem/f.c"


def report(name, **counts):
    lines = [{"line_number": int(line[1:]), "count": count} for line, count in counts.items()]
    return {"current_working_directory": "/build", "files": [{"file": name, "lines": lines}]}


class Coverage(unittest.TestCase):
    def judge(self, lines):
        return judge({NAME: lines}, {NAME: SOURCE})

    def test_all_reached(self):
        text, wrong = self.judge({1: 1, 3: 1, 4: 1, 5: 1, 8: 1, 9: 1})
        self.assertEqual(wrong, [])
        self.assertIn("100.0 %  6 of 6 lines", text[-1])

    def test_label_not_reached(self):
        lines = {n: 1 for n in range(100, 200)}
        self.assertEqual(self.judge({**lines, 8: 0, 9: 0})[1], [f"{NAME}:7: the label err is not reached"])

    def test_label_without_code(self):
        self.assertEqual(labels_missed(SOURCE, {1: 1, 3: 1, 4: 1, 5: 1}), [(7, "err")])

    def test_code_behind_the_function_is_not_its_label(self):
        self.assertEqual(labels_missed(SOURCE + SOURCE.replace("err:", "\t;"), {13: 1, 18: 1}), [(7, "err")])

    def test_limit(self):
        lines = {n: n > 5 for n in range(1, 101)}
        self.assertEqual(judge({NAME: lines}, {NAME: ""})[1], [])
        self.assertEqual(judge({NAME: {**lines, 6: 0}}, {NAME: ""})[1], ["less than 95 % of the lines are reached"])

    def test_nothing_is_too_little(self):
        self.assertEqual(judge({}, {})[1], ["less than 95 % of the lines are reached"])

    def test_lines_are_named(self):
        text, _ = judge({NAME: {1: 1, 2: 0, 3: 0, 9: 0}}, {NAME: ""})
        self.assertIn("not reached: 2-3, 9", text[0])
        self.assertEqual(ranges([7, 1, 2, 3]), "1-3, 7")

    def test_objects_add_up_and_others_do_not_count(self):
        objects = [report("/tree/" + NAME, l1=0, l2=1), report("../tree/" + NAME, l1=2), report("/tree/mm/mmap.c", l1=0)]
        self.assertEqual(merge(objects, pathlib.Path("/tree")), {NAME: {1: 2, 2: 1}})


if __name__ == "__main__":
    unittest.main()
