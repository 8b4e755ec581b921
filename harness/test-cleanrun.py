#!/usr/bin/env python3
"""Tests of cleanrun.py and results.py: each way in which a run can be dirty is seen."""
import os
import tempfile
import unittest

from cleanrun import Guest, clean_run, log_problem, read_lines
from results import FAIL, PASS, SKIP, Results, all_good, summary_lines

QUIET = ['[    0.1] Linux version', '[    9.9] reboot: machine restart', '']
GOOD = ['@begin a', 'fine', '', '@end a 0 1', '@counters a', '@kmemleak clean', '@done plan']


def program(*output, status='0 1'):
    lines = ['@begin p', *output, *([f'@end p {status}'] if status else [])]
    return list(Guest(lines).programs[0].results())


def problems(kernel_log, lines):
    return {check: problem for check, problem in clean_run(kernel_log, Guest(lines)) if problem}


class CleanRun(unittest.TestCase):
    def test_a_good_run_has_no_problem(self):
        self.assertEqual(problems(QUIET, GOOD), {})

    def test_forbidden_words(self):
        for words in ('WARNING: at mm/x.c:1', 'BUG: sleeping function', 'BUG: KASAN: use-after-free', 'UBSAN: shift',
                      'INFO: task a blocked', 'INFO: rcu_preempt detected', 'possible circular locking',
                      'possible recursive locking', 'Oops: 0000', 'Call Trace:', 'Kernel panic - not syncing',
                      '3 new suspected memory leaks', 'Bad page state in process'):
            log = [QUIET[0], f'[    1.0] {words}', *QUIET[1:]]
            self.assertIn('log', problems(log, GOOD), words)

    def test_a_log_must_end_in_a_restart(self):
        self.assertIn('does not end', log_problem(QUIET[:1]))
        self.assertIn('nothing', log_problem(['', '']))

    def test_a_plan_must_reach_its_end(self):
        self.assertIn('end of the plan', problems(QUIET, GOOD[:-1]))

    def test_kmemleak_must_be_asked_and_clean(self):
        for said in ([], ['@kmemleak unavailable'], ['@kmemleak leaks 2']):
            self.assertIn('kmemleak', problems(QUIET, GOOD[:-2] + said + GOOD[-1:]))

    def test_counters_must_be_compared_and_equal(self):
        self.assertIn('counters', problems(QUIET, [line for line in GOOD if not line.startswith('@counters')]))
        self.assertIn('nr_hugetlb', problems(QUIET, GOOD + ['@changed a nr_hugetlb 0 512'])['counters'])

    def test_carriage_returns_are_no_part_of_a_line(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, 'log')
            with open(path, 'wb') as log:
                log.write(b'one\r\ntwo \xff\r\r\n')
            self.assertEqual(read_lines(path), ['one', 'two \\xff', ''])


class Programs(unittest.TestCase):
    def test_exit_status_decides_without_tap(self):
        self.assertEqual(program('x'), [('p', PASS, '')])
        self.assertEqual(program('why', '', status='4 0'), [('p', SKIP, 'why')])
        self.assertEqual(program('why', status='254 0')[0][1], FAIL)

    def test_a_killed_program_fails(self):
        self.assertEqual(program('ok 1 a', status='137 60')[-1][1:], (FAIL, 'killed after 60 s'))

    def test_a_program_without_an_end_fails(self):
        self.assertEqual(program('ok 1 a', status='')[-1][1], FAIL)

    def test_each_tap_line_counts(self):
        self.assertEqual(program('1..3', 'ok 1 - a', 'not ok 2 b.c', 'ok 3 d # SKIP no such thing', status='1 0'),
                         [('a', PASS, ''), ('b.c', FAIL, 'not ok'), ('d', SKIP, 'no such thing')])

    def test_fewer_tests_than_planned_fail(self):
        self.assertIn('2 tests planned, 1 reported', program('1..2', 'ok 1 a')[-1][2])

    def test_bad_exit_status_with_good_tap_fails(self):
        self.assertIn('exit status 1', program('1..1', 'ok 1 a', status='1 0')[-1][2])


class Summary(unittest.TestCase):
    def run_with(self, *rows):
        with tempfile.TemporaryDirectory() as folder:
            skips = os.path.join(folder, 'skips')
            with open(skips, 'w') as out:
                out.write('# allowed\nsuite may: there is a reason\n')
            results = Results(os.path.join(folder, 'results'), skips)
            for row in rows:
                results.add(*row)
            return results.rows()

    def test_counts(self):
        rows = self.run_with(('suite', 'a', PASS), ('suite', 'may', SKIP, 'why'))
        self.assertEqual(list(summary_lines(rows))[-1], '1 passed, 0 failed, 1 skipped')
        self.assertTrue(all_good(rows))

    def test_an_unexpected_skip_fails(self):
        rows = self.run_with(('suite', 'must', SKIP, 'why'))
        self.assertEqual(list(summary_lines(rows))[-1], '0 passed, 1 failed')
        self.assertFalse(all_good(rows))

    def test_nothing_run_is_not_good(self):
        self.assertFalse(all_good([]))


if __name__ == '__main__':
    unittest.main()
