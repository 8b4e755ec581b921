#!/bin/sh
# Run our KUnit suites on UML by the tree's own kunit.py.
# usage: kunit.sh LINUX-TREE OUTDIR JSON
set -eu

[ $# -eq 3 ] || { echo "usage: kunit.sh LINUX-TREE OUTDIR JSON" >&2; exit 2; }
mkdir -p "$2"
out=$(cd "$2" && pwd)
json=$(realpath "$3")
top=$(cd "$(dirname "$0")/.." && pwd)
. "$top/harness/ccache.sh"
ccached gcc
cd "$1"
export PYTHONDONTWRITEBYTECODE=1
exec python3 tools/testing/kunit/kunit.py run --kunitconfig=lib/kunit-tests/.kunitconfig \
	--kunitconfig="$top/harness/configs/uml.config" --build_dir="$out" \
	--jobs="$(nproc)" --timeout=300 --make_options="CC=$compiler" --json="$json"
