"""When a boot is clean, read from its two serial logs.

The kernel's log (first line) is searched for what a healthy kernel never says. The programs' log (second line)
carries lines that begin with @, written by the scripts in harness/init, and the output of test programs between them.
"""
import re

from results import FAIL, PASS, SKIP

FORBIDDEN = re.compile(
    r'BUG:|WARNING:|KASAN|KCSAN|UBSAN|INFO: (task|rcu)|possible (recursive|circular)|Oops|Call Trace'
    r'|Kernel panic|suspected memory leaks|Bad page')
# The second is a notice, which is not said where little is logged.
RESTARTED = re.compile(r'reboot: (Restarting system|machine restart)')
TAP_LINE = re.compile(r'^(ok|not ok) \d+\s*(?:- )?(.*?)(?:\s*# SKIP\b\s*(.*))?$')
TAP_PLAN = re.compile(r'^1\.\.(\d+)\b')
KSFT_SKIP = 4
KILLED = (128 + 9, 9)


def read_lines(path):
    try:
        with open(path, errors='backslashreplace', newline='') as log:
            return [line.strip('\r') for line in log.read().split('\n')]
    except FileNotFoundError:
        return []


def log_problem(lines):
    """What the kernel's log says that it must not say, or does not say that it must."""
    for line in lines:
        if FORBIDDEN.search(line):
            return f'the kernel said: {line.strip()}'
    said = [line for line in lines if line.strip()]
    if not said:
        return 'the kernel said nothing'
    if not RESTARTED.search(said[-1]):
        return f'the log does not end in «reboot: Restarting system» but in: {said[-1].strip()}'
    return ''


class Program:
    def __init__(self, name):
        self.name, self.output, self.status, self.seconds = name, [], None, 0

    def results(self):
        """One row per TAP line; one row for a program that prints none."""
        tap = [match for match in map(TAP_LINE.match, self.output) if match]
        for match in tap:
            verdict, name, skip = match.groups()
            if verdict == 'not ok':
                yield name, FAIL, 'not ok'
            else:
                yield name, PASS if skip is None else SKIP, skip or ''
        failed = any(match.group(1) == 'not ok' for match in tap)
        if self.status is None:
            yield self.name, FAIL, 'the kernel ended while this program ran'
        elif self.status in KILLED:
            yield self.name, FAIL, f'killed after {self.seconds} s'
        elif not tap:
            yield self.whole()
        elif self.planned() not in (None, len(tap)):
            yield self.name, FAIL, f'{self.planned()} tests planned, {len(tap)} reported'
        elif self.status not in (0, KSFT_SKIP) and not failed:
            yield self.name, FAIL, f'exit status {self.status}, though no test failed'

    def planned(self):
        for line in self.output:
            if TAP_PLAN.match(line):
                return int(TAP_PLAN.match(line).group(1))
        return None

    def whole(self):
        last = next((line for line in reversed(self.output) if line.strip()), '')
        if self.status == 0:
            return self.name, PASS, ''
        if self.status == KSFT_SKIP:
            return self.name, SKIP, last
        return self.name, FAIL, f'exit status {self.status}: {last}'


class Guest:
    """What the programs' log of one boot says."""

    def __init__(self, lines):
        self.programs, self.changed, self.kmemleak, self.done, self.counted = [], [], None, False, False
        current = None
        for line in lines:
            if not line.startswith('@'):
                if current:
                    current.output.append(line)
                continue
            word, _, rest = line[1:].partition(' ')
            if word == 'begin':
                current = Program(rest)
                self.programs.append(current)
            elif word == 'end' and current:
                status, seconds = rest.split()[-2:]
                current.status, current.seconds, current = int(status), int(seconds), None
            elif word == 'changed':
                self.changed.append(rest)
            elif word == 'counters':
                self.counted = True
            elif word == 'kmemleak':
                self.kmemleak = rest
            elif word == 'done':
                self.done = True

    def checks(self):
        yield 'end of the plan', '' if self.done else 'the plan did not reach its end'
        if self.kmemleak != 'clean':
            yield 'kmemleak', f'kmemleak: {self.kmemleak or "was not asked"}'
        else:
            yield 'kmemleak', ''
        if not self.counted:
            yield 'counters', 'the counters were not compared'
        else:
            yield 'counters', '; '.join(self.changed)


def clean_run(kernel_log, guest):
    """Pairs (check, problem); the problem is empty where the check holds."""
    yield 'log', log_problem(kernel_log)
    yield from guest.checks()
