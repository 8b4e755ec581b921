#!/usr/bin/env python3
"""Compare what the benchmark's programs said on two kernels.

  report.py DIR    reads DIR/MACHINE.{base,ours,whole}.{1,2}.log, writes DIR/results.json and DIR/*.svg,
                   prints the table

The programs say, in lines of their own:

  @clock instructions         the clock was checked and counts instructions
  @figure NAME COUNT SPENT    one round: so many instructions for so many pages or requests
  @state NAME COUNTER=BEFORE+CHANGE... what a round did to the pages
  @error SENTENCE             why there is no figure

A row of the results says what a page or a request costs: ours, that of the base tree (peer), and their ratio. Conversions
were measured on two machines, which count 4096 and 512 instructions for clearing a page. The bars are for the
first; what the second counts is in the row as "words".

Huge pages are compared with those of a memfd behind the same guest, which KVM finds through the host's mapping:
that there is one, and faults of the host, is where the two differ. Clearing a page is a row of its own.

Sharing a part of a huge page has a kernel for a peer that splits all of it. That both take as much for a piece, where
both end up with single pages alone, shows that the rest of the comparison is fair.

Exit status 1 if a figure is above the bar or not what it has to be, or if there is none to compare.
"""
import json
import math
import os
import statistics
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), 'harness'))
import cleanrun
import plot

ROUNDS = 3
# Figures that must not be above so many times the peer's; the others are for the reader.
BARS = {
    'page4k.fallocate': 1.02,
    'page4k.guest_fault': 1.02,
    'hugetlb-2m.populate': 1.1,
    'hugetlb-1g.populate': 1.1,
    'convert.4k.to_shared': 0.5,
    'convert.4k.to_private': 0.5,
    'convert.2m.to_shared': 0.30,
    'convert.2m.to_private': 0.17,
    'convert.2m.to_private.prefault': 0.30,
    'restructure.share1.instructions': 0.02,
}
# Figures that have to be these.
EXACT = {
    'page4k.stage2_faults': 262144,
    'hugetlb-2m.stage2_faults': 512,
    'hugetlb-1g.stage2_faults': 1,
    'restructure.share1.vmemmap_pages': 518,
}
# Figures that must not be below these.
LEAST = {
    'restructure.share1.mappings_kept': 511,
}
# Figures that must not differ from the peer's by more than this part of it.
ALIKE = {
    'restructure.piece.instructions': 0.1,
}
UNITS = {
    'page4k': 'instructions per page of 4 KiB',
    'populate': 'instructions per page, of a guest that touches 1 GiB',
    'convert': 'instructions per request',
    'restructure': 'instructions to share pages of 1 GiB and to take them back; the peer splits all of it',
}
# By how a name ends.
COUNTS = {
    '.stage2_faults': 'stage-2 faults, of a guest that touches 1 GiB',
    '.vmemmap_pages': 'pages of struct pages, for pages of 1 GiB that are shared',
    '.slab_pages': 'pages of slabs, for pages of 1 GiB that are shared',
    '.mappings_kept': 'mappings of 2 MiB, of a guest that touches 1 GiB of which pages are shared',
}
# Other kernels than the base tree.
PEERS = {'restructure': 'whole'}
PIECES = 262144


class BenchError(Exception):
    pass


class Boot:
    """What was said in one boot of one kernel."""

    def __init__(self, directory, machine, kernel, number):
        self.kernel, stem = kernel, os.path.join(directory, f'{machine}.{kernel}.{number}')
        self.rounds, self.states, said = {}, {}, []
        for line in cleanrun.read_lines(stem + '.log'):
            word, _, rest = line.partition(' ')
            said.append(word)
            if word == '@error':
                raise BenchError(f'{kernel}: {rest}')
            if word == '@figure':
                name, count, spent = rest.split()
                self.rounds.setdefault(name, []).append(int(spent) / int(count))
            if word == '@state':
                name, _, self.states[name] = rest.partition(' ')
        self.check_end(said, cleanrun.read_lines(stem + '.kernel.log'), stem)

    def check_end(self, said, kernel_log, stem):
        problem = cleanrun.log_problem(kernel_log)
        if problem:
            raise BenchError(f'{self.kernel}: {problem}; see {stem}.kernel.log')
        if '@clock' not in said or '@done' not in said:
            raise BenchError(f'{self.kernel}: the programs did not come to their end; see {stem}.log')
        for name, rounds in self.rounds.items():
            if len(rounds) != ROUNDS:
                raise BenchError(f'{self.kernel}: {name} has {len(rounds)} rounds, and {ROUNDS} are wanted')


def repeatable(directory, machine, kernel):
    first, second = (Boot(directory, machine, kernel, number) for number in (1, 2))
    for name in first.rounds:
        if first.rounds[name] != second.rounds.get(name):
            raise BenchError(f'{kernel}: two boots of one kernel do not agree on {name}: '
                             f'{first.rounds[name]} and {second.rounds.get(name)}')
    return first


def figure(ours, base):
    mine, peer = statistics.median(ours), statistics.median(base)
    return {'ours': round(mine, 1), 'peer': round(peer, 1), 'ratio': round(mine / peer, 4) if peer else None}


def common_state(boot, machine, name):
    """What both sides have to do to the pages."""
    counters = boot.states.get(name, '').split()
    return [counter for counter in counters if machine != 'populate' or not counter.startswith('host_')]


def compare(directory, machine):
    """The figures of both kernels on one machine, by name."""
    ours, base = (repeatable(directory, machine, kernel) for kernel in ('ours', PEERS.get(machine, 'base')))
    if not ours.rounds or set(ours.rounds) != set(base.rounds):
        raise BenchError('the two kernels were not measured by the same programs')
    for name in ours.rounds:
        if common_state(ours, machine, name) != common_state(base, machine, name):
            raise BenchError(f'{name}: the pages are not in the same states before and after it: '
                             f'ours {ours.states.get(name)}, {base.kernel} {base.states.get(name)}')
    return {name: figure(ours.rounds[name], base.rounds[name]) for name in ours.rounds}


def by_piece(found):
    """One page of each piece was shared: single pages are all that is left, on both sides."""
    all_of_it = found['restructure.scattered512.instructions']
    return figure([all_of_it['ours'] / PIECES], [all_of_it['peer'] / PIECES])


def unit_of(machine, name):
    return COUNTS.get('.' + name.rpartition('.')[2], UNITS[machine])


def rows(directory):
    words = compare(directory, 'convert-words')
    for machine in UNITS:
        found = compare(directory, machine)
        if machine == 'restructure':
            found['restructure.piece.instructions'] = by_piece(found)
        for name, row in found.items():
            row = {'name': name, 'unit': unit_of(machine, name), **row}
            if machine == 'convert':
                row['words'] = words[name]
            yield row


def columns(row):
    ratio = '-' if row['ratio'] is None else f'{row["ratio"]:.4f}'
    return f'{row["ours"]:>15.1f}{row["peer"]:>15.1f}{ratio:>9}'


def bar(name):
    if name in EXACT:
        return f'={EXACT[name]}'
    if name in LEAST:
        return f'>={LEAST[name]}'
    if name in ALIKE:
        return f'1±{ALIKE[name]}'
    return BARS.get(name, '-')


def print_table(results):
    headings = f'{"ours":>15}{"peer":>15}{"ratio":>9}'
    for unit in (*UNITS.values(), *COUNTS.values()):
        second = unit == UNITS['convert']
        print(f'\n{unit}, median of {ROUNDS} rounds')
        if second:
            print(f'{"":<44}{"pages cleared by bytes":>39}{"":>9}{"by words":>39}')
        print(f'{"":<44}{headings}{"bar":>9}{headings if second else ""}')
        for row in results:
            if row['unit'] == unit:
                print(f'{row["name"]:<44}{columns(row)}{bar(row["name"]):>9}'
                      f'{columns(row["words"]) if second else ""}')


def complaints(results):
    missing = {*BARS, *EXACT, *LEAST, *ALIKE} - {row['name'] for row in results}
    if missing:
        raise BenchError(f'no figure for {", ".join(sorted(missing))}')
    for row in results:
        name = row['name']
        if row['ours'] > BARS.get(name, math.inf) * row['peer']:
            yield f'{name} takes {row["ratio"]} times what it takes the peer, and the bar is {BARS[name]}'
        if row['ours'] != EXACT.get(name, row['ours']):
            yield f'{name} is {row["ours"]}, and has to be {EXACT[name]}'
        if row['ours'] < LEAST.get(name, row['ours']):
            yield f'{name} is {row["ours"]}, and has to be {LEAST[name]} at least'
        if abs(row['ours'] - row['peer']) > ALIKE.get(name, math.inf) * row['peer']:
            yield f'{name} is {row["ours"]}, and {row["peer"]} on the other side: no fair comparison'


def main():
    directory = sys.argv[1]
    target = os.path.join(directory, 'results.json')
    if os.path.exists(target):
        os.remove(target)
    results = list(rows(directory))
    with open(target, 'w') as out:
        json.dump(results, out, indent=2)
        out.write('\n')
    plot.write(results, directory)
    print_table(results)
    wrong = list(complaints(results))
    for complaint in wrong:
        print(f'bench: {complaint}', file=sys.stderr)
    return 1 if wrong else 0


if __name__ == '__main__':
    try:
        sys.exit(main())
    except BenchError as error:
        sys.exit(f'bench: {error}')
