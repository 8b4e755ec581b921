#!/bin/bash
# `make bench`: what a page, a huge page and a conversion cost in instructions, on our kernel and on the unmodified
# base tree, whose configurations differ in guestmem and in nothing else.
#
# What it costs to share a part of a huge page has nothing to be compared with in the base tree. A third kernel is
# ours with one decision changed: it splits the whole of such a page into single ones.
#
# QEMU counts: one tick of the machine's clock is one instruction, so figures are the same in every run. Each
# kernel is booted twice, to see that they are. Results: a table, build/bench/results.json and pictures,
# build/bench/*.svg. The README shows those in bench/: copy the new ones there when figures have changed.
#
# How a page is cleared decides much of what today's conversion to shared costs, so conversions are measured on two
# machines: one clears by bytes (rep stosb) and counts 4096 for a page, the other by words and counts 512.
set -euo pipefail

top=$(cd "$(dirname "$0")/.." && pwd)
harness=$top/harness build=$top/build
out=$build/bench log=$build/log
# shellcheck source=harness/steps.sh
. "$harness/steps.sh"

kernels='base ours whole'
declare -A tree=([base]=$build/base [ours]=$build/linux [whole]=$build/linux)
declare -A options=([whole]=CONFIG_GUESTMEM_SPLIT_WHOLE=y)
programs='clock page4k convert populate restructure'
machines='page4k populate convert convert-words restructure'

# MACHINE KERNEL: what a boot of each is to do.
declare -A command=(
	[page4k base]='clears=words program=page4k'
	[page4k ours]='clears=words program=page4k'
	[convert base]='clears=bytes program=convert way=two-files'
	[convert ours]='clears=bytes program=convert way=in-place kvm.gmem_in_place_conversion=1'
	[convert-words base]='clears=words program=convert way=two-files'
	[convert-words ours]='clears=words program=convert way=in-place kvm.gmem_in_place_conversion=1'
	[populate base]='clears=words program=populate way=memfd'
	[populate ours]='clears=words program=populate way=guest_memfd'
	[restructure ours]='clears=words program=restructure way=pieces kvm.gmem_in_place_conversion=1'
	[restructure whole]='clears=words program=restructure way=whole kvm.gmem_in_place_conversion=1'
)
declare -A flags=([page4k]=-erms [convert]=+erms [convert-words]=-erms [populate]=-erms [restructure]=-erms)
declare -A memory=([populate]=4G [restructure]=4G)
# The page of 2M makes the zone have what optimized pages of that size share.
declare -A pools=(
	[populate]='hugepagesz=2M hugepages=512 hugepagesz=1G hugepages=1'
	[restructure]='hugetlb_free_vmemmap=on hugepagesz=2M hugepages=1 hugepagesz=1G hugepages=1'
)

# Steps run where a failure does not end the script by itself: hence each «|| return».

configure() {
	local kernel
	for kernel in $kernels; do
		echo "${options[$kernel]:-}" >"$build/bench-$kernel.config"
		TREE=${tree[$kernel]} "$harness/config.sh" "$build/bench-$kernel" "$harness/configs/base.config" \
			"$harness/configs/bench.config" "$build/bench-$kernel.config" || return
		settings base | diff - <(settings "$kernel") || {
			echo "bench: base and $kernel differ in more than CONFIG_GUESTMEM: what does it select?"
			return 1
		}
	done
}

settings() {
	grep -E '^(CONFIG_|# CONFIG_)' "$build/bench-$1/.config" | grep -v 'CONFIG_GUESTMEM'
}

build_kernel() {
	"$harness/kernel.sh" "${tree[$1]}" "$build/bench-$1"
}

# The same programs, in the same root file system, for all kernels.
build_programs() {
	local program files=()
	"$harness/kernel.sh" "${tree[ours]}" "$build/bench-ours" headers || return
	mkdir -p "$out"
	for program in $programs; do
		gcc -O2 -Wall -Wextra -Werror -static -isystem "$build/bench-ours/usr/include" -o "$out/$program" \
			"$top/bench/guest/$program.c" "$top"/bench/guest/{bench,machine,probe,state}.c || return
		files+=("bench/$program=$out/$program")
	done
	"$harness/initramfs.sh" "$out/guest.cpio.gz" "harness/bench.sh=$top/bench/plan.sh" "${files[@]}"
}

boot() { # MACHINE KERNEL RUN
	"$harness/qemu.sh" --kernel "$build/bench-$2/arch/x86/boot/bzImage" --initrd "$out/guest.cpio.gz" \
		--log "$out/$1.$2.$3.kernel.log" --results "$out/$1.$2.$3.log" --timeout 1200 --memory "${memory[$1]:-1G}" --smp 1 \
		--accel tcg,thread=single --cpu "max,-rdrand,-rdseed,-fsrm,${flags[$1]}" \
		--append "plan=bench nokaslr norandmaps random.trust_cpu=off loglevel=4 ${pools[$1]:-} ${command[$1 $2]}" \
		-- -icount shift=0,sleep=off -rtc base=2026-01-01,clock=vm
}

# At a time: instructions are counted by the machine, and what else runs beside it does not matter.
boot_twice() { # MACHINE KERNEL
	local first status=0
	boot "$1" "$2" 1 &
	first=$!
	boot "$1" "$2" 2 || status=1
	wait $first && return $status
}

# What a failure leaves is no result, and not the last one.
rm -f "$out/results.json" "$out"/*.svg
step "$log/bench-config.log" 'bench: configure the kernels' configure
for kernel in $kernels; do
	step "$log/bench-$kernel.log" "bench: build the kernel: $kernel" build_kernel "$kernel"
done
step "$log/bench-programs.log" 'bench: build the programs' build_programs
for machine in $machines; do
	for kernel in $kernels; do
		[ -n "${command[$machine $kernel]:-}" ] || continue
		step "$log/bench-boot.log" "bench: measure: $machine, $kernel" boot_twice "$machine" "$kernel"
	done
done
progress 'bench: results'
python3 -B "$top/bench/report.py" "$out"
