#!/bin/sh
# Build a kernel whose .config is in place.
# usage: kernel.sh LINUX-TREE OUTDIR [TARGET...]   (default targets: bzImage)
set -eu

[ $# -ge 2 ] || { echo "usage: kernel.sh LINUX-TREE OUTDIR [TARGET...]" >&2; exit 2; }
tree=$1
out=$(cd "$2" && pwd)
shift 2
[ $# -gt 0 ] || set -- bzImage
top=$(cd "$(dirname "$0")/.." && pwd)
. "$top/harness/ccache.sh"
ccached gcc
make -C "$tree" O="$out" CC="$compiler" -j"$(nproc)" "$@"
