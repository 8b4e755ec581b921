#!/usr/bin/env python3
"""Boot a test kernel with a plan, judge its logs, collect results, print the summary.

  run.py boot SUITE --plan PLAN --kernel IMAGE --initrd CPIO [--timeout S] [--memory SIZE] [--append ARGS]
      [--expect CHECK=TEXT]...           canaries: each of these checks must find a problem, in these words
      [--without CHECK]                  a check that this kernel has no means for
      [--mark TEXT]                      what to put behind the names of programs, to tell two boots apart
      [--one-cpu]                        less to emulate, where nothing needs CPUs that run at the same time
  run.py kunit SUITE JSON EXIT-STATUS    results of kunit.py
  run.py log SUITE FILE                  a kernel log without a plan: only what it must not say
  run.py fail SUITE TEST SENTENCE        a step that could not be done
  run.py summary                         the table; exit status 1 when anything failed
"""
import argparse
import json
import os
import subprocess
import sys
import time

import cleanrun
from results import FAIL, PASS, SKIP, Results, all_good, summary_lines

HERE = os.path.dirname(os.path.abspath(__file__))
BUILD = os.environ.get('BUILD', os.path.join(os.path.dirname(HERE), 'build'))
LOGS = os.path.join(BUILD, 'log')


def progress(text):
    started = float(os.environ.get('TEST_STARTED', time.time()))
    seconds = int(time.time() - started)
    print(f'[{seconds // 60:3}:{seconds % 60:02}] {text}', flush=True)


def show_new_programs(path, shown):
    """One progress line per program that has ended since the last look."""
    ended = [program for program in cleanrun.Guest(cleanrun.read_lines(path)).programs if program.status is not None]
    for program in ended[shown:]:
        progress(f'  {program.name}: exit status {program.status} after {program.seconds} s')
    return len(ended)


def boot(args, stem):
    """Run QEMU to its end; a sentence if it did not end well."""
    command = [os.path.join(HERE, 'qemu.sh'), '--kernel', args.kernel, '--initrd', args.initrd,
               '--log', stem + '.kernel.log', '--results', stem + '.programs.log', '--timeout', str(args.timeout),
               '--memory', args.memory, '--append', f'{args.append} plan={args.plan}']
    if args.one_cpu:
        command += ['--smp', '1']
    qemu = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    shown = 0
    while qemu.poll() is None:
        time.sleep(1)
        shown = show_new_programs(stem + '.programs.log', shown)
    return qemu.stderr.read().strip()


def add_clean_run(results, args, problems):
    for check, problem in problems.items():
        if check != args.without:
            results.add(args.suite, f'clean run: {check}', FAIL if problem else PASS, problem)


def add_canary(results, args, problems, expect):
    """A canary is good when the check it was made for finds it, and finds it and not something else."""
    check, because = expect.split('=')
    problem = problems[check]
    if because in problem:
        results.add(args.suite, check, PASS)
        progress(f'  found: {problem}')
    else:
        results.add(args.suite, check, FAIL, f'not found by the check of the {check}, which says: '
                    + (problem or 'nothing'))


def do_boot(args, results):
    stem = os.path.join(LOGS, args.plan.replace('/', '-'))
    trouble = boot(args, stem)
    if trouble:
        results.add(args.suite, 'boot', FAIL, trouble)
    guest = cleanrun.Guest(cleanrun.read_lines(stem + '.programs.log'))
    problems = dict(cleanrun.clean_run(cleanrun.read_lines(stem + '.kernel.log'), guest))
    for program in guest.programs:
        for test, status, why in program.results():
            results.add(program.name + args.mark if test != program.name else args.suite, test, status, why)
    for expect in args.expect:
        add_canary(results, args, problems, expect)
    if not args.expect:
        add_clean_run(results, args, problems)


def kunit_cases(group, path=''):
    for case in group['test_cases']:
        yield path + case['name'], case['status']
    for child in group['sub_groups']:
        yield from kunit_cases(child, path + child['name'] + '.')


def do_kunit(args, results):
    try:
        with open(args.json) as source:
            cases = list(kunit_cases(json.load(source)))
    except (OSError, ValueError):
        cases = []
    for name, status in cases:
        status = {'PASS': PASS, 'SKIP': SKIP}.get(status, FAIL)
        results.add(args.suite, name, status, f'see {LOGS}' if status == FAIL else '')
    if not cases:
        results.add(args.suite, 'kunit.py', FAIL, f'no test ran; see {LOGS}')
    elif args.status and not any(status not in ('PASS', 'SKIP') for _, status in cases):
        results.add(args.suite, 'kunit.py', FAIL, f'exit status {args.status}, though no test case failed; see {LOGS}')


def do_log(args, results):
    hits = [line for line in cleanrun.read_lines(args.file) if cleanrun.FORBIDDEN.search(line)]
    results.add(args.suite, 'clean run: log', FAIL if hits else PASS, hits[0].strip() if hits else '')


def do_fail(args, results):
    results.add(args.suite, args.test, FAIL, args.sentence)


def do_summary(args, results):
    rows = results.rows()
    print('\n'.join(summary_lines(rows)))
    return 0 if all_good(rows) else 1


def parse():
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(required=True)

    def command(name, action, *arguments):
        sub = commands.add_parser(name)
        sub.set_defaults(action=action)
        for argument in arguments:
            sub.add_argument(argument)
        return sub

    sub = command('boot', do_boot, 'suite')
    for option, default in (('--plan', None), ('--kernel', None), ('--initrd', None), ('--append', ''),
                            ('--without', ''), ('--mark', ''), ('--memory', '2G')):
        sub.add_argument(option, default=default, required=default is None)
    sub.add_argument('--expect', action='append', default=[])
    sub.add_argument('--one-cpu', action='store_true')
    sub.add_argument('--timeout', type=int, default=300)
    command('kunit', do_kunit, 'suite', 'json').add_argument('status', type=int)
    command('log', do_log, 'suite', 'file')
    command('fail', do_fail, 'suite', 'test', 'sentence')
    command('summary', do_summary)
    return parser.parse_args()


def main():
    args = parse()
    os.makedirs(LOGS, exist_ok=True)
    results = Results(os.path.join(BUILD, 'results.jsonl'), os.path.join(HERE, 'skips.txt'))
    sys.exit(args.action(args, results) or 0)


if __name__ == '__main__':
    main()
