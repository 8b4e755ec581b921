#!/bin/sh
# Build KVM selftests, static, so that a test kernel's root file system needs no library.
# usage: selftests.sh LINUX-TREE KERNEL-BUILD OUTPUT PROGRAM...
set -eu

[ $# -ge 4 ] || { echo "usage: selftests.sh LINUX-TREE KERNEL-BUILD OUTPUT PROGRAM..." >&2; exit 2; }
tree=$1 kernel=$2
mkdir -p "$3"
output=$(cd "$3" && pwd)
shift 3
for program; do
	set -- "$@" "$output/$program"
	shift
done
kernel=$(cd "$kernel" && pwd)
compiler=gcc
! command -v ccache >/dev/null || compiler='ccache gcc'

make -C "$tree" O="$kernel" headers
LDFLAGS=-static make -C "$tree/tools/testing/selftests/kvm" -j"$(nproc)" OUTPUT="$output" CC="$compiler" \
	KHDR_INCLUDES="-isystem $kernel/usr/include" "$@"
