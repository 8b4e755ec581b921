#!/bin/bash
# `make demo`: build a kernel without debugging, boot it in QEMU by emulation, run a guest in it on guest_memfd
# memory, and show what the demo says. ALLOCATOR=page4k|hugetlb-2m|hugetlb-1g (default): where that memory comes
# from; huge pages are followed by single ones, to see the difference.
set -euo pipefail

top=$(cd "$(dirname "$0")/.." && pwd)
harness=$top/harness build=$top/build
linux=$build/linux out=$build/demo log=$build/log
# shellcheck source=harness/steps.sh
. "$harness/steps.sh"

allocator=${ALLOCATOR:-hugetlb-1g}
case $allocator in
page4k) memory=2G pool='' ;;
hugetlb-2m) memory=2G pool='hugetlb_free_vmemmap=on hugepagesz=2M hugepages=16' ;;
hugetlb-1g) memory=4G pool='hugetlb_free_vmemmap=on hugepagesz=1G hugepages=1' ;;
*)
	echo "demo: ALLOCATOR is page4k, hugetlb-2m or hugetlb-1g, not '$allocator'" >&2
	exit 2
	;;
esac

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
		--memory $memory --log "$log/demo.kernel.log" --results "$log/demo.programs.log" \
		--append "plan=demo allocator=$allocator kvm.gmem_in_place_conversion=1 $pool loglevel=4"
}

step "$log/demo-kernel.log" 'kernel: build (some minutes the first time)' build_kernel
step "$log/demo-build.log" 'guestmem_demo: build' build_demo
step "$log/demo-boot.log" 'kernel: boot in QEMU, run guestmem_demo' boot
# The selftest library's own line about its random seed is no part of the demo.
sed -n '/^@begin/,/^@end/ { /^@/!{ /^Random seed/!p } }' "$log/demo.programs.log"
if ! grep -q '^@end page4k 0 ' "$log/demo.programs.log" || grep -q '^@end .* [1-9][0-9]* [0-9]*$' "$log/demo.programs.log"; then
	echo "demo: guestmem_demo failed; all that was said is in $log/demo.programs.log and $log/demo.kernel.log" >&2
	exit 1
fi
