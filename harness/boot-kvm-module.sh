#!/bin/bash
# Boot a kernel that has KVM as modules, and no debugging: what races is run at full length here.
# usage: boot-kvm-module.sh OUTDIR PLAN...    (built with configs/kvm-module.config)
#   kvm-module   load KVM, run guest_memfd's tests, unload it; once more with in-place conversion on
#   hvo-off      the tests of huge pages, with pools that are not optimised
#   race-on      the race inside pages of 1G, which are optimised
set -euo pipefail

[ $# -ge 2 ] || { echo "usage: boot-kvm-module.sh OUTDIR PLAN..." >&2; exit 2; }
top=$(cd "$(dirname "$0")/.." && pwd)
harness=$top/harness selftests=$top/build/selftests
out=$(cd "$1" && pwd)
shift
# Results and logs stand beside the kernel, apart from those of make test.
export BUILD=$out
# shellcheck source=harness/steps.sh
. "$harness/steps.sh"

# Lines «NAME SECONDS BOOT...»
programs() {
	printf '%s 120 kvm-module-off kvm-module-on\n' guest_memfd_test guestmem_test guestmem_module_test
	echo 'guestmem_convert_race_test 1200 kvm-module-on'
	grep -E '^guestmem_(hugetlb|restructure)_' "$harness/selftests.list" |
		sed 's/^\(guestmem_restructure_race_test\) .*/\1 3600 hugetlb-on race-on/'
}

run() { # SUITE PLAN OPTION...
	python3 -B "$harness/run.py" boot "$1" --plan "$2" --without kmemleak \
		--kernel "$out/arch/x86/boot/bzImage" --initrd "$out/guest.cpio" "${@:3}"
}

mapfile -t names < <(programs | cut -d' ' -f1)
"$harness/selftests.sh" "$top/build/linux" "$out" "$selftests" "${names[@]}"
programs | "$harness/pack-tests.sh" "$out/guest.cpio" "$out" "$selftests"

# No compaction that nobody has asked for: make test says why.
args='loglevel=7 oops=panic numa=fake=2 sysctl.vm.compaction_proactiveness=0'
rm -f "$out/results.jsonl"
pools='hugepagesz=2M hugepages=64 hugepagesz=1G hugepages=0:1,1:1'

boot() { # PLAN
	case $1 in
	# With the mark, tests that make test may skip may not be skipped here.
	kvm-module) run 'KVM as a module' "$1" --mark ', KVM as a module' --timeout 1800 --append "$args hugepages=16" ;;
	hvo-off) run 'HugeTLB selftests, HVO off' "$1" --memory 6G --timeout 1800 --mark ', HVO off' \
		--append "$args GUESTMEM_TEST_PERMILLE=10 hugetlb_free_vmemmap=off $pools" ;;
	race-on) run 'Race in pages of 1G' "$1" --memory 6G --mark ' in full' --timeout 3600 \
		--append "$args hugetlb_free_vmemmap=on $pools" ;;
	esac
}

# At the same time: what does not race is one thread of QEMU's.
boots=()
for plan; do
	boot "$plan" &
	boots+=($!)
done
for job in "${boots[@]}"; do
	wait "$job"
done
python3 -B "$harness/run.py" summary
