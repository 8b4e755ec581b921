#!/usr/bin/env python3
"""List the files of the kernel tree that this project has a hand in.

usage: files.py ours|edited"""

import pathlib
import sys

sys.dont_write_bytecode = True
import overlay

tree = overlay.Tree(pathlib.Path(__file__).resolve().parent.parent)
if sys.argv[1:] == ["ours"]:
    paths = tree.overlay()
elif sys.argv[1:] == ["edited"]:
    paths = {change.path for change in tree.changes()}
else:
    sys.exit(__doc__)
print("\n".join(sorted(paths)))
