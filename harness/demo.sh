#!/bin/bash
# `make demo`: build a kernel without debugging, boot it in QEMU by emulation, run a guest in it on guest_memfd
# memory, and show what the demo says.
set -euo pipefail

top=$(cd "$(dirname "$0")/.." && pwd)
harness=$top/harness build=$top/build
linux=$build/linux out=$build/demo log=$build/log
# shellcheck source=harness/steps.sh
. "$harness/steps.sh"

# Steps run where a failure does not end the script by itself: hence each «&&».
build_kernel() {
	"$harness/config.sh" "$out" "$harness/configs/base.config" && "$harness/kernel.sh" "$linux" "$out"
}

build_demo() {
	"$harness/selftests.sh" "$linux" "$out" "$build/selftests" guestmem_demo &&
		"$harness/initramfs.sh" "$out/guest.cpio.gz" "tests/guestmem_demo=$build/selftests/guestmem_demo"
}

boot() {
	"$harness/qemu.sh" --kernel "$out/arch/x86/boot/bzImage" --initrd "$out/guest.cpio.gz" --timeout 120 \
		--memory 2G --log "$log/demo.kernel.log" --results "$log/demo.programs.log" --append 'plan=demo loglevel=4'
}

step "$log/demo-kernel.log" 'kernel: build (some minutes the first time)' build_kernel
step "$log/demo-build.log" 'guestmem_demo: build' build_demo
step "$log/demo-boot.log" 'kernel: boot in QEMU, run guestmem_demo' boot
# The selftest library's own line about its random seed is no part of the demo.
sed -n '/^@begin/,/^@end/ { /^@/!{ /^Random seed/!p } }' "$log/demo.programs.log"
grep -q '^@end guestmem_demo 0 ' "$log/demo.programs.log" || {
	echo "demo: guestmem_demo failed; all that was said is in $log/demo.programs.log and $log/demo.kernel.log" >&2
	exit 1
}
