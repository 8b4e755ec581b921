"""What the kernel tree is to look like: the base tree, the overlay's files and the rules of edits/."""

import difflib
import hashlib
import pathlib
import re
import shlex
import subprocess

import rules

DIRS = ("include", "mm", "virt", "lib", "tools", "samples", "Documentation")


class OverlayError(Exception):
    """What is wrong with the overlay or the base, in words for the user."""


class Tree:
    def __init__(self, top):
        self.top = pathlib.Path(top)
        self.build = self.top / "build"
        self.base = self.build / "base"
        self.pin = read_pin(self.top / "base.pin")

    def base_bytes(self, path):
        file = self.base / path
        return file.read_bytes() if file.is_file() else None

    def overlay(self):
        """The overlay's files, by path in the kernel tree, with content and mode."""
        listed = subprocess.run(["git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others",
                                 "--exclude-standard", "--", *DIRS], cwd=self.top, capture_output=True)
        if listed.returncode:
            raise OverlayError(f"{self.top} is not a git repository: git says which files are the overlay's")
        files = {}
        for path in sorted(set(listed.stdout.decode().split("\0")) - {""}):
            file = self.top / path
            if file.is_symlink() or file.is_dir():
                raise OverlayError(f"{path}: only regular files can be laid into the kernel tree")
            if file.exists():
                files[path] = (file.read_bytes(), 0o755 if file.stat().st_mode & 0o100 else 0o644)
        return files

    def changes(self):
        return rules.load(self.top / "edits", self.build / "cache" / "edits")

    def check_replaced(self, path):
        """A base file that ours replaces whole must be the one ours was written against."""
        base = self.base_bytes(path)
        if base is None:
            return
        pinned = dict(line.split()[::-1] for line in self.pin.get("REPLACED", "").splitlines() if line.strip())
        have = hashlib.sha256(base).hexdigest()
        if path not in pinned:
            raise OverlayError(f"{path} is a file of the base tree, and REPLACED in base.pin does not list it. "
                               f"To replace it whole add '{have}  {path}' there")
        if pinned[path] != have:
            raise OverlayError(f"{path} of the base tree is not the file ours replaces, so that laying ours over it "
                               f"would drop what is new in it\n{self.drift(path, base, pinned[path], have)}".rstrip())

    def drift(self, path, base, want, have):
        """How the base's file differs from the pinned one, if the pinned tarball is there to tell."""
        tarball = self.build / f"{self.pin['PACKAGE']}.tar.xz"
        if tarball.exists():
            member = f"{self.pin['PACKAGE']}/{path}"
            old = subprocess.run(["tar", "-xOf", tarball, "--occurrence=1", member], capture_output=True)
            if old.returncode == 0:
                return "".join(difflib.unified_diff(
                    old.stdout.decode(errors="replace").splitlines(True),
                    base.decode(errors="replace").splitlines(True), f"pinned/{path}", f"base/{path}"))
        return f"pinned sha256: {want}\nbase's sha256: {have}"

    def wanted(self, only_overlay=None, only_changes=None, say=lambda line: None):
        """All files that differ from the base, by path: content and mode.

        The two filters leave out overlay files and changes, for a tree part of the way there."""
        overlay = self.overlay()
        files = {path: what for path, what in overlay.items() if only_overlay is None or only_overlay(path)}
        for path in files:
            self.check_replaced(path)
        for change in self.changes():
            if change.path in overlay:
                raise OverlayError(f"{change.rule} changes {change.path}, which is ours: change it there")
            if only_changes is not None and not only_changes(change):
                continue
            if change.path not in files:
                files[change.path] = self.base_file(change)
            content, mode = files[change.path]
            text, line = rules.run(change, content.decode())
            say(line)
            files[change.path] = (text.encode(), mode)
        return files

    def base_file(self, change):
        file = self.base / change.path
        if not file.is_file():
            raise OverlayError(f"{change.rule}: the base tree has no {change.path}")
        return file.read_bytes(), file.stat().st_mode & 0o777


def read_pin(file):
    """base.pin: KEY=VALUE as sh reads it, values in quotes if they have several lines."""
    text = re.sub(r"^#.*$", "", file.read_text(), flags=re.M)
    return dict(word.split("=", 1) for word in shlex.split(text))
