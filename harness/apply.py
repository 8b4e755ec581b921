#!/usr/bin/env python3
"""Make build/linux out of build/base, the overlay and edits/.

Only files whose content changes are written, so that make rebuilds nothing more than it must. Files are
shared with build/base by hard links: a file is replaced by a new one, and never written to."""

import argparse
import fcntl
import json
import pathlib
import shutil
import subprocess
import sys

sys.dont_write_bytecode = True
import overlay
import rules


def put(target, content, mode):
    """Replace a file unless it already has the content. True if it was written."""
    if target.is_file() and target.read_bytes() == content and target.stat().st_mode & 0o777 == mode:
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    part.write_bytes(content)
    part.chmod(mode)
    part.rename(target)
    return True


def take_away(tree, linux, path):
    """A file that is no longer ours: the base's again, or gone. True if anything was done."""
    target = linux / path
    base = tree.base_bytes(path)
    if base is not None:
        # A fresh timestamp, not a link to the base's file: make has to see that it changed.
        return put(target, base, (tree.base / path).stat().st_mode & 0o777)
    if not target.exists():
        return False
    target.unlink()
    for parent in target.parents:
        if parent == linux or any(parent.iterdir()):
            break
        parent.rmdir()
    return True


def is_copy(tree, linux):
    """Is build/linux made from this very base? A file that no rule changes is then one and the same."""
    licence = linux / "COPYING"
    return licence.exists() and licence.samefile(tree.base / "COPYING")


def fresh_copy(tree, linux, listing):
    print("copying the base tree", flush=True)
    part = linux.with_suffix(".part")
    for leftover in (linux, part):
        if leftover.exists():
            shutil.rmtree(leftover)
    listing.unlink(missing_ok=True)
    subprocess.run(["cp", "-al", tree.base, part], check=True)
    part.rename(linux)


def lay(tree, linux, wanted):
    """Make a tree out of the base and the files that differ from it; what differed before and no longer does goes."""
    listing = linux.with_suffix(".files")
    if not is_copy(tree, linux):
        fresh_copy(tree, linux, listing)
    before = json.loads(listing.read_text()) if listing.exists() else []

    # Listed before they are written: an interrupted run leaves nothing that a later one would not know of.
    listing.write_text(json.dumps(sorted(set(before) | set(wanted))))
    gone = sum([take_away(tree, linux, path) for path in sorted(set(before) - set(wanted))])
    written = sum([put(linux / path, *what) for path, what in sorted(wanted.items())])
    listing.write_text(json.dumps(sorted(wanted)))
    return written, gone


def apply(tree):
    if not (tree.base / "COPYING").is_file():
        raise overlay.OverlayError("there is no base tree in build/base: run harness/fetch.sh first")
    wanted = tree.wanted(say=print)
    written, gone = lay(tree, tree.build / "linux", wanted)
    print(f"build/linux: {len(wanted)} files differ from the base, {written} written, {gone} taken away")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--top", type=pathlib.Path, default=pathlib.Path(__file__).resolve().parent.parent,
                        help="repository to work in (default: the one this script is in)")
    tree = overlay.Tree(parser.parse_args().top)
    tree.build.mkdir(exist_ok=True)
    with open(tree.build / "linux.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        apply(tree)


if __name__ == "__main__":
    try:
        main()
    except (overlay.OverlayError, rules.RuleError) as error:
        sys.exit(f"apply: {error}")
