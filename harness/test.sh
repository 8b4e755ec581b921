#!/bin/bash
# `make test`: KUnit on UML and on x86_64, the base tree's KVM selftests and ours, all on one debug kernel, and
# canaries that show that a dirty run is seen. Ends with a table and «N passed, N failed».
# usage: test.sh [uml | stress]    (uml: only what runs on UML, where a build takes a minute or two; stress: what takes
#        too long on the debug kernel for all of it to be part of `make test`)
set -u

top=$(cd "$(dirname "$0")/.." && pwd)
harness=$top/harness
export BUILD=$top/build
linux=$BUILD/linux debug=$BUILD/debug selftests=$BUILD/selftests log=$BUILD/log
# shellcheck source=harness/steps.sh
. "$harness/steps.sh"

run() {
	python3 -B "$harness/run.py" "$@"
}

# Lines «NAME SECONDS BOOT...»: the base tree's programs and ours.
programs() {
	sed '/^#/d' "$harness/selftests.list"
}

base_programs() {
	programs | grep -v '^guestmem_'
}

our_programs() {
	programs | grep '^guestmem_'
}

build_debug_kernel() {
	"$harness/config.sh" "$debug" "$harness/configs/base.config" "$harness/configs/debug.config" &&
		"$harness/kernel.sh" "$linux" "$debug" bzImage modules && build_modules
}

# Those that only the guest of a test needs.
build_modules() {
	local place=$debug/harness
	mkdir -p "$place" && cp -pu "$harness"/modules/* "$place" && "$harness/kernel.sh" "$linux" "$debug" M="$place" modules
}

# None of ours may be forgotten.
check_list() {
	diff <(cd "$top/tools/testing/selftests/kvm" && printf '%s\n' guestmem*_test.c | sed 's/\.c$//' | sort) \
		<(our_programs | cut -d' ' -f1 | sort)
}

# The base tree's selftests are a bar only as long as they are the base tree's.
build_selftests() {
	local kvm=tools/testing/selftests/kvm program names
	check_list || return 1
	while read -r program _; do
		cmp "$BUILD/base/$kvm/$program.c" "$linux/$kvm/$program.c" || return 1
	done < <(base_programs)
	mapfile -t names < <(programs | cut -d' ' -f1)
	"$harness/selftests.sh" "$linux" "$debug" "$selftests" "${names[@]}"
}

pack_guest() {
	programs | "$harness/pack-tests.sh" "$BUILD/guest.cpio" "$debug" "$selftests"
}

# What takes long is done in part. All of a race is for the kernel without debugging that `make matrix` boots: there eight
# vCPUs and 100,000 conversions take seconds, here more than 20 minutes.
part='GUESTMEM_TEST_PERMILLE=3'
# Compaction that nobody has asked for takes references to pages whose layout is compared.
debug_args='loglevel=7 printk.time=1 oops=panic numa=fake=2 hugetlb_free_vmemmap=on'
debug_args+=' sysctl.vm.compaction_proactiveness=0'
# Whoever started a KUnit test sleeps until it is done, half a minute where nothing else is to be emulated.
debug_args+=' sysctl.kernel.hung_task_timeout_secs=600'
# Four free huge pages at least: what the base tree's own tests want to see.
boot_args="$debug_args $part hugepages=16"
# Pools of both sizes, a page of 1G on each node: with less than 6G of memory the first one has none.
pools_args="$debug_args hugepagesz=2M hugepages=64 hugepagesz=1G hugepages=0:1,1:1"
selftests_args="$pools_args $part"
kunit_pools='maxcpus=2 hugepagesz=1G hugepages=3 kunit.enable=1 kunit.autorun=0 kunit.filter_glob=guestmem*'
in_place='kvm.gmem_in_place_conversion=1'

# Conversions race with guests, and KUnit's threads with each other, on CPUs that run at the same time; all else does
# with one.
boot() { # SUITE PLAN ARGS OPTION...
	local suite=$1 plan=$2 args=$3
	shift 3
	progress "$suite: boot"
	run boot "$suite" --plan "$plan" --kernel "$debug/arch/x86/boot/bzImage" --initrd "$BUILD/guest.cpio" \
		--timeout 3600 --append "$args" "$@"
}

kunit_on_uml() {
	local suite='KUnit on UML' status=0
	rm -f "$BUILD/uml.json"
	step "$log/uml.log" "$suite: build and run" "$harness/kunit.sh" "$linux" "$BUILD/uml" "$BUILD/uml.json" ||
		status=$?
	run kunit "$suite" "$BUILD/uml.json" $status
	run log "$suite" "$BUILD/uml/test.log"
}

kunit_boot() { # SUITE ARGS
	local suite=$1 status=0
	boot "$suite" kunit "$2 $kunit_pools" --memory 6G
	rm -f "$BUILD/x86.json"
	(cd "$linux" && python3 -B tools/testing/kunit/kunit.py parse --json="$BUILD/x86.json" "$log/kunit.programs.log") \
		>"$log/kunit.parsed.log" 2>&1 || status=$?
	run kunit "$suite" "$BUILD/x86.json" $status
}

kunit_on_x86() {
	kunit_boot 'KUnit on x86_64' "$boot_args"
}

# The same where each page has a struct page of its own.
kunit_without_hvo() {
	kunit_boot 'KUnit on x86_64, HVO off' "${boot_args/hugetlb_free_vmemmap=on/hugetlb_free_vmemmap=off}"
}

kvm_selftests() {
	boot 'KVM selftests' selftests "$selftests_args" --memory 6G --one-cpu
}

kvm_selftests_in_place() {
	boot 'KVM selftests in place' in-place "$selftests_args $in_place" --memory 6G --mark ' in place'
}

# One after the other: the first has a time to keep.
stress() {
	boot 'Stress' stress-on "$pools_args $in_place" --memory 6G --timeout 5400
	kunit_without_hvo
}

# One boot with something for each check to find.
canaries() {
	boot Canaries canaries "$boot_args" --one-cpu --expect log=lkdtm_WARNING --expect counters=nr_file_pages \
		--expect kmemleak=leaks
}

# Most of what runs in a machine of QEMU's is one thread.
two_at_a_time() {
	local command
	for command; do
		while [ "$(jobs -rp | wc -l)" -ge 2 ]; do
			wait -n
		done
		$command &
	done
	wait
}

# Fails if nothing was run.
on_debug_kernel() { # SUITE...
	if ! step "$log/debug.log" 'debug kernel: build' build_debug_kernel; then
		run fail 'Debug kernel' build "see $log/debug.log"
		return 1
	elif ! step "$log/selftests.log" 'KVM selftests: build' build_selftests ||
		! step "$log/guest.log" 'root file system: pack' pack_guest; then
		run fail 'KVM selftests' build "see $log/selftests.log and $log/guest.log"
		return 1
	fi
	two_at_a_time "$@"
}

mkdir -p "$log"
rm -f "$BUILD/results.jsonl"
step "$log/cleanrun.log" 'the judge of runs: its own tests' python3 -B "$harness/test-cleanrun.py" ||
	run fail 'Judge' 'its own tests' "see $log/cleanrun.log"
case ${1:-} in
uml) kunit_on_uml ;;
stress) on_debug_kernel stress ;;
*)
	# UML beside the debug kernel, for whenever its make has work for one CPU only.
	kunit_on_uml &
	# The longest first, so that both end at about the same time.
	on_debug_kernel kvm_selftests_in_place kvm_selftests kunit_on_x86 canaries
	wait
	;;
esac
progress 'summary'
run summary
