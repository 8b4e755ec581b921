#!/bin/bash
# Pack a root file system with a kernel's modules and with test programs.
# usage: pack-tests.sh OUT.cpio KERNEL-BUILD SELFTESTS    (standard input: lines «NAME SECONDS BOOT...»)
set -euo pipefail

[ $# -eq 3 ] || { echo "usage: pack-tests.sh OUT.cpio KERNEL-BUILD SELFTESTS" >&2; exit 2; }
list=$1.list
files=("tests/list=$list")
while read -r name seconds boots; do
	files+=("tests/$name=$3/$name")
	echo "$(basename "$name") $seconds /tests/$name $boots"
done >"$list"
mapfile -t modules < <(find "$2" -name '*.ko')
for module in "${modules[@]}"; do
	files+=("modules/$(basename "$module")=$module")
done
exec "$(dirname "$0")/initramfs.sh" "$1" "${files[@]}"
