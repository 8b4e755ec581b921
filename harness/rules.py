"""The rules of edits/: how an existing kernel file is changed.

NNN-name.cocci  a semantic patch. Its head comment says why, and for each file it changes:

    // file: include/linux/kvm_host.h
    // expect: 1

  Every rule in it that changes code has a name and a position metavariable. The matches counted
  are the distinct places that metavariable was bound to.

NNN-name.hook   lines put beside an anchor line, which must be in its file exactly once, compared
  to the last space. "before:" in place of "after:" puts them in front of it.

    # why
    file: mm/Makefile
    after: obj-$(CONFIG_DAMON) += damon/
    +obj-$(CONFIG_GUESTMEM) += guestmem/

A rule that does not match exactly as often as it says is an error: a semantic patch that
silently matches nothing is the classic failure.
"""

import hashlib
import os
import pathlib
import re
import subprocess
import tempfile

CACHE_VERSION = "1"
MARK = "guestmem-match"


class RuleError(Exception):
    """A rule that is malformed or does not fit the tree, in words for the user."""


class Change:
    """One file as one rule changes it; apply() gives the new text and the number of matches."""

    def __init__(self, rule, path, expect, apply):
        self.rule, self.path, self.expect, self.apply = rule, path, expect, apply


def load(directory, cache):
    """All changes of all rules, in the order of the rules' names."""
    changes = []
    for rule in sorted(directory.iterdir()):
        if rule.suffix == ".cocci":
            changes += load_cocci(rule, cache)
        elif rule.suffix == ".hook":
            changes += load_hook(rule)
        else:
            raise RuleError(f"{rule.name} is neither a .cocci nor a .hook rule")
    return changes


def run(change, text):
    """The text of a file after a change; raises if it did not match as often as it must."""
    text, matches = change.apply(text)
    line = f"{change.rule}: {change.path}: {matches} matches, expected {change.expect}"
    if matches != change.expect:
        raise RuleError(line)
    return text, line


def load_hook(rule):
    changes, path, where, anchor, lines = [], None, None, None, []

    def finish():
        if where is None:
            return
        if path is None or not lines:
            raise RuleError(f"{rule.name}: the anchor '{anchor}' lacks a file: line or lines to insert")
        changes.append(Change(rule.name, path, 1, hook(where, anchor, lines)))

    for line in rule.read_text().splitlines():
        key, _, value = line.partition(": ")
        if line.startswith("+"):
            lines.append(line[1:])
        elif key in ("after", "before"):
            finish()
            where, anchor, lines = key, value, []
        elif key == "file":
            finish()
            path, where, lines = value, None, []
        elif line and not line.startswith("#"):
            raise RuleError(f"{rule.name}: cannot read the line '{line}'")
    finish()
    if not changes:
        raise RuleError(f"{rule.name}: no hook in it")
    return changes


def hook(where, anchor, lines):
    def apply(text):
        old = text.split("\n")
        places = [n for n, line in enumerate(old) if line == anchor]
        if len(places) == 1:
            at = places[0] + (where == "after")
            old[at:at] = lines
        return "\n".join(old), len(places)
    return apply


def load_cocci(rule, cache):
    text = rule.read_text()
    files = re.findall(r"^// file: (\S+)$", text, re.M)
    expect = re.findall(r"^// expect: (\d+)$", text, re.M)
    if not files or len(files) != len(expect):
        raise RuleError(f"{rule.name}: its head must have pairs of '// file:' and '// expect:' lines")
    script = text + counters(rule.name, text)
    return [Change(rule.name, path, int(n), cocci(rule.name, path, script, cache))
            for path, n in zip(files, expect)]


def counters(name, text):
    """Script rules that print where each rule of a semantic patch matched."""
    out = []
    for head, body in re.findall(r"^@([^@\n]*)@(.*?)(?=^@[^@\n]+@|\Z)", text, re.M | re.S):
        declarations, _, code = body.partition("@@")
        if not re.search(r"^[-+]", code, re.M):
            continue
        rule = re.match(r"\s*(\w+)", head)
        position = re.search(r"\bposition\s+(\w+)", declarations)
        if not rule or not position:
            raise RuleError(f"{name}: a rule that changes code needs a name and a position metavariable")
        out.append(f"\n@script:python@\np << {rule[1]}.{position[1]};\n@@\n"
                   f"for q in p: print('{MARK}', '{rule[1]}', q.line, q.column)\n")
    return "".join(out)


def cocci(name, path, script, cache):
    def apply(text):
        key = hashlib.sha256("\0".join((CACHE_VERSION, path, script, text)).encode()).hexdigest()
        stored = cache / key
        if not stored.exists():
            new, matches = spatch(name, path, script, text)
            cache.mkdir(parents=True, exist_ok=True)
            part = cache / f"{key}.{os.getpid()}"
            part.write_text(f"{matches}\n{new}")
            part.rename(stored)
        matches, _, new = stored.read_text().partition("\n")
        return new, int(matches)
    return apply


def spatch(name, path, script, text):
    with tempfile.TemporaryDirectory() as tmp:
        rule = pathlib.Path(tmp, "rule.cocci")
        target = pathlib.Path(tmp, pathlib.Path(path).name)
        rule.write_text(script)
        target.write_text(text)
        try:
            done = subprocess.run(["spatch", "--very-quiet", "--no-show-diff", "--no-includes", "--in-place",
                                   "--sp-file", rule, target], capture_output=True, text=True)
        except FileNotFoundError:
            raise RuleError("spatch is missing: install the package coccinelle") from None
        if done.returncode:
            raise RuleError(f"{name}: {path}: spatch cannot run it:\n{done.stdout}{done.stderr}".rstrip())
        matches = {line for line in done.stdout.splitlines() if line.startswith(MARK)}
        return target.read_text(), len(matches)
