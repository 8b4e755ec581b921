"""The results of one `make test`: one JSON object per line of a file, and the summary made of them."""
import json
import os
from collections import Counter

PASS, FAIL, SKIP = 'pass', 'fail', 'skip'


def allowed_skips(path):
    """Lines «suite test: reason»; the reason is for the reader."""
    allowed = set()
    with open(path) as lines:
        for line in lines:
            line = line.split('#')[0].strip()
            if line:
                allowed.add(line.split(':')[0].strip())
    return allowed


class Results:
    def __init__(self, path, skips):
        self.path = path
        self.skips = allowed_skips(skips)

    def add(self, suite, test, status, why=''):
        if status == SKIP and f'{suite} {test}' not in self.skips:
            status, why = FAIL, f'skipped, which harness/skips.txt does not allow: {why}'
        with open(self.path, 'a') as out:
            out.write(json.dumps([suite, test, status, why]) + '\n')

    def rows(self):
        if not os.path.exists(self.path):
            return []
        with open(self.path) as lines:
            return [json.loads(line) for line in lines]


def summary_lines(rows):
    suites = {}
    for suite, test, status, why in rows:
        suites.setdefault(suite, Counter())[status] += 1
    yield f'{"suite":<36}{"passed":>8}{"failed":>8}{"skipped":>9}'
    for suite, count in suites.items():
        yield f'{suite:<36}{count[PASS]:>8}{count[FAIL]:>8}{count[SKIP]:>9}'
    for suite, test, status, why in rows:
        if status == FAIL:
            yield f'FAILED  {suite}: {test}: {why}'
    for suite, test, status, why in rows:
        if status == SKIP:
            yield f'skipped {suite}: {test}: {why}'
    total = Counter(status for _, _, status, _ in rows)
    last = f'{total[PASS]} passed, {total[FAIL]} failed'
    yield last + (f', {total[SKIP]} skipped' if total[SKIP] else '')


def all_good(rows):
    return bool(rows) and not any(status == FAIL for _, _, status, _ in rows)
