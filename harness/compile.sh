#!/usr/bin/env bash
# Configure a kernel and compile what this project has a hand in, no more: mm/guestmem, the suites, the sample, KVM and
# the edited files, with W=1 and, where SPARSE is set, sparse. Our files must be silent.
#
#   [TREE=build/linux] [SPARSE=1] [CROSS_COMPILE=...] [LLVM=...] harness/compile.sh OUTDIR ARCH COMPILER SKIP FRAGMENT...
#
# SKIP is a regular expression for edited files whose option is off in this configuration.
set -euo pipefail

[ $# -ge 5 ] || {
	echo "usage: compile.sh OUTDIR ARCH COMPILER SKIP FRAGMENT..." >&2
	exit 2
}
top=$(cd "$(dirname "$0")/.." && pwd)
linux=${TREE:-$top/build/linux}
mkdir -p "$1"
out=$(cd "$1" && pwd)
export ARCH=$2
compiler=$3
skip=${4:-^$}
shift 4
# shellcheck source=harness/ccache.sh
. "$top/harness/ccache.sh"
ccached "$compiler"

"$top/harness/files.py" ours >"$out/ours"
"$top/harness/files.py" edited >"$out/edited"

# Objects of the edited C files, but for other architectures' and those to skip.
edited_objects() {
	awk -v ours="^arch/$ARCH/" -v skip="$skip" \
		'/\.c$/ && (!/^arch\// || $0 ~ ours) && $0 !~ skip { sub(/c$/, "o"); print }' "$out/edited"
}

layer() {
	! grep -qx CONFIG_GUESTMEM=y "$out/.config" || echo mm/guestmem/
	! grep -qx CONFIG_GUESTMEM_KUNIT_TEST=y "$out/.config" || echo lib/kunit-tests/
	! grep -qx CONFIG_SAMPLE_GUESTMEM=y "$out/.config" || echo samples/guestmem/
}

# make says nothing about an object that it need not build again.
forget_our_objects() {
	awk -v out="$out" '/\.c$/ { sub(/c$/, "o"); print out "/" $0 }' "$out/ours" | xargs -r rm -f
}

# sparse cannot work out the static_assert() in module_param() and MODULE_*(), here as in the base tree's files.
our_warnings() {
	grep -E '(warning|error):' "$out/build.log" | grep -F -f <(sed 's/$/:/' "$out/ours") |
		grep -v ':[0-9]*:1: error: bad constant expression' | sort -u
}

"$top/harness/config.sh" "$out" "$@"
forget_our_objects
# shellcheck disable=SC2046
if ! make -C "$linux" O="$out" CC="$compiler" W=1 ${SPARSE:+C=1 CHECK="$top/harness/sparse.sh"} -j"$(nproc)" \
	$(layer) "arch/$ARCH/kvm/" $(edited_objects) >"$out/build.log" 2>&1; then
	grep -E -m 15 'error:|\*\*\*' "$out/build.log" || tail -n 15 "$out/build.log"
	echo "compile: make fails (see $out/build.log)"
	exit 1
fi
if our_warnings; then
	echo "compile: warnings about our files (see $out/build.log)"
	exit 1
fi
