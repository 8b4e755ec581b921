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
# For kernels with KASAN, which is most of what they take to compile and to emulate. It checks accesses inline where a
# function has few of them: large functions take longest to compile then. And as it saves a stack with each object, as
# kmemleak does, what walks a stack need not check itself for errors.
kasan='call_threshold=6 KASAN_SANITIZE_unwind_frame.o=n KASAN_SANITIZE_stacktrace.o=n'
# shellcheck disable=SC2086
make -C "$tree" O="$out" CC="$compiler" -j"$(nproc)" $kasan "$@"
