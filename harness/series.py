#!/usr/bin/env python3
"""Write the overlay as a patch series on the base tree, to build/series.

harness/series.txt says which file and which rule belongs to which patch. The state after each patch is computed
from the base tree just as build/linux is, with what belongs to later patches left out."""

import argparse
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
import apply
import overlay
import rules


class Patch:
    def __init__(self, subject):
        self.subject, self.patterns, self.edits, self.body = subject, [], [], []

    def message(self):
        body = "\n".join(line[4:] for line in self.body).strip("\n")
        return f"{self.subject}\n\n{body}\n"


def owns(pattern, path):
    if pattern.endswith("/"):
        return path.startswith(pattern)
    return re.fullmatch("[^/]*".join(map(re.escape, pattern.split("*"))), path) is not None


def read_series(file):
    patches = []
    for line in file.read_text().splitlines():
        key, _, value = line.partition(" ")
        if key == "patch":
            patches.append(Patch(value))
        elif key == "file":
            patches[-1].patterns.append(value)
        elif key == "edit":
            patches[-1].edits.append(value)
        elif patches and (line.startswith("    ") or not line):
            patches[-1].body.append(line)
        elif line and not line.startswith("#"):
            raise overlay.OverlayError(f"{file.name}: cannot read the line '{line}'")
    return patches


def only(owners, what, patches):
    """The one patch something belongs to."""
    if len(owners) != 1:
        names = ", ".join(f"'{patches[n].subject}'" for n in owners) or "no patch"
        raise overlay.OverlayError(f"series.txt: {what} must belong to exactly one patch, and belongs to {names}")
    return owners[0]


def assign(tree, patches):
    """By path and by rule, the number of the patch each belongs to."""
    files = {path: only([n for n, patch in enumerate(patches) if any(owns(p, path) for p in patch.patterns)], path, patches)
             for path in tree.overlay()}
    edits = {change.rule: only([n for n, patch in enumerate(patches) if change.rule in patch.edits], change.rule, patches)
             for change in tree.changes()}
    for patch in patches:
        for name in patch.patterns + patch.edits:
            if name not in edits and not any(owns(name, path) for path in files):
                raise overlay.OverlayError(f"series.txt: there is no {name}")
    return files, edits


def states(tree, patches):
    """After each patch, all files that differ from the base: path to content and mode."""
    files, edits = assign(tree, patches)
    for n, patch in enumerate(patches):
        try:
            yield tree.wanted(lambda path: files[path] <= n, lambda change: edits[change.rule] <= n)
        except rules.RuleError as error:
            raise rules.RuleError(f"after the patch '{patch.subject}': {error}") from None


class Repository:
    """A git repository that holds the touched files of the base tree and nothing else."""

    def __init__(self, where, tree, paths):
        self.where = pathlib.Path(where)
        self.env = {**os.environ, **self.identity(tree), "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": "/dev/null"}
        self.git("init", "-q", "-b", "base")
        for path in paths:
            content = tree.base_bytes(path)
            if content is not None:
                self.put(path, content, (tree.base / path).stat().st_mode & 0o777)
        self.commit(f"Linux {tree.pin['KERNELVERSION']}")

    @staticmethod
    def identity(tree):
        """Author and date of the repository's last commit: the same overlay gives the same series."""
        last = subprocess.run(["git", "-c", "safe.directory=*", "log", "-1", "--format=%an%n%ae%n%aI"], cwd=tree.top,
                              capture_output=True, text=True).stdout.splitlines()
        name, mail, date = last or ("guestmem", "guestmem@localhost", "2026-01-01T00:00:00Z")
        return {f"GIT_{who}_{key}": value for who in ("AUTHOR", "COMMITTER")
                for key, value in (("NAME", name), ("EMAIL", mail), ("DATE", date))}

    def git(self, *args, **more):
        return subprocess.run(["git", *args], cwd=self.where, env=self.env, check=True, **more)

    def put(self, path, content, mode):
        apply.put(self.where / path, content, mode)

    def commit(self, message):
        self.git("add", "--all", "--force")
        self.git("commit", "-q", "--no-verify", "--file=-", input=message.encode())

    def files(self):
        listed = self.git("ls-files", "-z", capture_output=True).stdout.decode()
        return {path: ((self.where / path).read_bytes(), bool((self.where / path).stat().st_mode & 0o100))
                for path in listed.split("\0") if path}


def write(tree, patches, target):
    after = list(states(tree, patches))
    with tempfile.TemporaryDirectory(dir=tree.build) as tmp:
        repository = Repository(tmp, tree, sorted(after[-1]))
        for patch, files in zip(patches, after):
            for path, what in files.items():
                repository.put(path, *what)
            repository.commit(patch.message())
        shutil.rmtree(target, ignore_errors=True)
        repository.git("format-patch", "-q", "--zero-commit", "--no-signature", "--output-directory", target.resolve(),
                       "--root", f"HEAD~{len(patches)}..HEAD")
    return after[-1]


def check(tree, target, paths):
    """git am on the pristine files gives build/linux, byte for byte."""
    linux = tree.build / "linux"
    with tempfile.TemporaryDirectory(dir=tree.build) as tmp:
        repository = Repository(tmp, tree, sorted(paths))
        done = subprocess.run(["git", "am", "-q", "--keep-cr", *sorted(target.resolve().iterdir())], cwd=tmp,
                              env=repository.env, capture_output=True, text=True)
        if done.returncode:
            raise overlay.OverlayError(f"git am does not take the series:\n{done.stdout}{done.stderr}".rstrip())
        got = repository.files()
    want = {path: ((linux / path).read_bytes(), bool((linux / path).stat().st_mode & 0o100))
            for path in paths if (linux / path).exists()}
    different = sorted(path for path in set(got) | set(want) if got.get(path) != want.get(path))
    if different:
        raise overlay.OverlayError(f"the series does not give build/linux: {', '.join(different)} (is `make apply` up to date?)")
    print(f"git am of the series on the base tree gives the {len(want)} files of build/linux, byte for byte")


def build(tree, patches):
    """Compile what each patch touches, in a tree of its own."""
    linux = tree.build / "series-linux"
    for patch, files in zip(patches, states(tree, patches)):
        print(f"building after '{patch.subject}'", flush=True)
        apply.lay(tree, linux, files)
        fragments = ["base.config"] + (["suites.config"] if "lib/kunit-tests/Kconfig" in files else [])
        done = subprocess.run([tree.top / "harness/compile.sh", tree.build / "series-build", "x86", "gcc", "",
                               *(tree.top / "harness/configs" / name for name in fragments)],
                              env={**os.environ, "TREE": str(linux)}, capture_output=True, text=True)
        if done.returncode:
            raise overlay.OverlayError(f"the series does not build after '{patch.subject}':\n{done.stdout}{done.stderr}".rstrip())


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--top", type=pathlib.Path, default=pathlib.Path(__file__).resolve().parent.parent,
                        help="repository to work in (default: the one this script is in)")
    parser.add_argument("--check", action="store_true", help="apply the series by git am and compare with build/linux")
    parser.add_argument("--build", action="store_true", help="compile after each patch")
    args = parser.parse_args()
    tree = overlay.Tree(args.top)
    patches = read_series(tree.top / "harness" / "series.txt")
    target = tree.build / "series"

    paths = write(tree, patches, target)
    print(f"build/series: {len(patches)} patches")
    if args.check:
        check(tree, target, paths)
    if args.build:
        build(tree, patches)


if __name__ == "__main__":
    try:
        main()
    except (overlay.OverlayError, rules.RuleError) as error:
        sys.exit(f"series: {error}")
