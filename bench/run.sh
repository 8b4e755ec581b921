#!/bin/bash
# `make bench`: what a page costs in instructions, on our kernel and on the unmodified base tree, whose
# configurations differ in guestmem and in nothing else.
#
# QEMU counts: one tick of the machine's clock is one instruction, so figures are the same in every run. Each
# kernel is booted twice, to see that they are. Results: a table, and build/bench/results.json.
set -euo pipefail

top=$(cd "$(dirname "$0")/.." && pwd)
harness=$top/harness build=$top/build
out=$build/bench log=$build/log
# shellcheck source=harness/steps.sh
. "$harness/steps.sh"

declare -A tree=([base]=$build/base [ours]=$build/linux)
programs='clock page4k'

# Steps run where a failure does not end the script by itself: hence each «|| return».

configure() {
	local kernel
	for kernel in base ours; do
		TREE=${tree[$kernel]} "$harness/config.sh" "$build/bench-$kernel" \
			"$harness/configs/base.config" "$harness/configs/bench.config" || return
	done
	settings base | diff - <(settings ours) || {
		echo 'bench: the two kernels differ in more than CONFIG_GUESTMEM: what does it select?'
		return 1
	}
}

settings() {
	grep -E '^(CONFIG_|# CONFIG_)' "$build/bench-$1/.config" | grep -v 'CONFIG_GUESTMEM'
}

build_kernel() {
	"$harness/kernel.sh" "${tree[$1]}" "$build/bench-$1"
}

# The same programs, in the same root file system, for both kernels.
build_programs() {
	local program files=()
	"$harness/kernel.sh" "${tree[ours]}" "$build/bench-ours" headers || return
	mkdir -p "$out"
	for program in $programs; do
		gcc -O2 -Wall -Wextra -Werror -static -isystem "$build/bench-ours/usr/include" -o "$out/$program" \
			"$top/bench/guest/$program.c" "$top"/bench/guest/{bench,machine,state}.c || return
		files+=("bench/$program=$out/$program")
	done
	"$harness/initramfs.sh" "$out/guest.cpio.gz" "harness/bench.sh=$top/bench/plan.sh" "${files[@]}"
}

boot() { # KERNEL RUN
	"$harness/qemu.sh" --kernel "$build/bench-$1/arch/x86/boot/bzImage" --initrd "$out/guest.cpio.gz" \
		--log "$out/$1.$2.kernel.log" --results "$out/$1.$2.log" --timeout 600 --memory 1G --smp 1 \
		--accel tcg,thread=single --cpu max,-rdrand,-rdseed,-erms,-fsrm \
		--append 'plan=bench nokaslr norandmaps random.trust_cpu=off loglevel=4' \
		-- -icount shift=0,sleep=off -rtc base=2026-01-01,clock=vm
}

boot_twice() {
	boot "$1" 1 && boot "$1" 2
}

# What a failure leaves is no result, and not the last one.
rm -f "$out/results.json"
step "$log/bench-config.log" 'bench: configure both kernels' configure
for kernel in base ours; do
	step "$log/bench-$kernel.log" "bench: build the kernel: $kernel" build_kernel $kernel
done
step "$log/bench-programs.log" 'bench: build the programs' build_programs
for kernel in base ours; do
	step "$log/bench-boot.log" "bench: measure: $kernel" boot_twice $kernel
done
progress 'bench: results'
python3 -B "$top/bench/report.py" "$out"
