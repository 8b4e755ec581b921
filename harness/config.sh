#!/usr/bin/env bash
# Make OUTDIR/.config from fragments, later ones overriding earlier ones, everything else off.
# Every option a fragment asks for must have survived, whatever it depends on.
#
#   [TREE=build/linux] [ARCH=...] [CROSS_COMPILE=...] [LLVM=...] harness/config.sh OUTDIR FRAGMENT...
set -euo pipefail

[ $# -ge 2 ] || {
	echo "usage: config.sh OUTDIR FRAGMENT..." >&2
	exit 2
}
top=$(cd "$(dirname "$0")/.." && pwd)
tree=${TREE:-$top/build/linux}
mkdir -p "$1"
out=$(cd "$1" && pwd)
shift

# One line for each option: NAME VALUE, n for one that is to be off.
options() {
	awk '/^CONFIG_/ { i = index($0, "="); print substr($0, 1, i - 1), substr($0, i + 1) }
	     /^# CONFIG_.* is not set$/ { print $2, "n" }' "$@"
}

options "$@" | awk '{ name = $1; $1 = ""; value[name] = substr($0, 2) }
	END { for (name in value) print name "=" value[name] }' | sort >"$out/wanted.config"

if ! KCONFIG_CONFIG=$out/.config.new make -s -C "$tree" O="$out" KCONFIG_ALLCONFIG="$out/wanted.config" allnoconfig \
	>"$out/config.log" 2>&1; then
	cat "$out/config.log" >&2
	echo "config: make allnoconfig fails for $out" >&2
	exit 1
fi

lost=$(awk -F= 'NR == FNR { have[$1] = substr($0, length($1) + 2); next }
	{ got = $1 in have ? have[$1] : "n"
	  if (got != substr($0, length($1) + 2)) print "  " $0 " is asked for, " $1 "=" got " is what is left" }' \
	<(grep '^CONFIG_' "$out/.config.new") "$out/wanted.config")
if [ -n "$lost" ]; then
	echo "config: options that this tree's Kconfig does not keep (what do they depend on?):" >&2
	echo "$lost" >&2
	exit 1
fi

rm -f "$out/.config.new.old"
# An unchanged .config keeps its timestamp, and make has nothing to do.
if cmp -s "$out/.config.new" "$out/.config"; then
	rm "$out/.config.new"
else
	mv "$out/.config.new" "$out/.config"
fi
