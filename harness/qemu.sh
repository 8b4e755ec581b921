#!/bin/sh
# Boot one kernel in QEMU by emulation and wait for it to end by itself.
# Never asks for KVM: a /dev/kvm may exist, answer, and still not boot a kernel.
set -eu

usage() {
	cat >&2 <<-EOF
	usage: qemu.sh --kernel IMAGE --initrd CPIO --log FILE [OPTION VALUE]... [-- QEMU-ARG...]
	  --log FILE       first serial line: the kernel's messages
	  --results FILE   second serial line (/dev/ttyS1): what the programs inside say
	  --append ARGS    kernel command line, put after console=ttyS0 panic=-1
	  --timeout SEC    end a boot that does not end (600)
	  --memory SIZE    (4G)      --smp N    (3; harness/init keeps guests off the first)
	  --accel ACCEL    (tcg,thread=multi)      --cpu MODEL    (max, clearing pages by words, page tables of four levels)
	EOF
	exit 2
}

die() {
	echo "qemu.sh: $*" >&2
	exit 1
}

kernel='' initrd='' log='' results='' append=''
timeout=600 memory=4G accel=tcg,thread=multi
# In QEMU (7.2, and 10.0 still) a CPU that restores the state of its FPU clears a flag of the first CPU, in a word that
# the first CPU changes when it enters and leaves a guest, and neither takes a lock. A change that is lost has a guest
# run without nested paging, or an interrupt in the middle of an exit: a guest's triple fault, or memory of this machine
# overwritten, with the unmodified base tree just as well. So nothing runs a guest there, unless it is the only one.
smp=3
# Emulated, one instruction that clears or copies by bytes takes eight times as long as one that does so by words. And
# while the kernel identifies its first CPU, it forgets for a moment how many levels its page tables have: with five, an
# interrupt just then is told off by KASAN for an access to a CPU's variables.
cpu=max,-erms,-fsrm,-la57
# All but the first 1G of memory lies above 4G in one piece: 6G on two nodes then have whole pages of 1G on each, once
# KASAN has taken its eighth. What a machine has is what kmemleak looks through.
machine=pc,max-ram-below-4g=1G
while [ $# -gt 0 ]; do
	[ "$1" = -- ] && { shift; break; }
	[ $# -ge 2 ] || usage
	case $1 in
	--kernel | --initrd | --log | --results | --append | --timeout | --memory | --smp | --accel | --cpu)
		eval "${1#--}=\$2" ;;
	*) usage ;;
	esac
	shift 2
done
if [ -z "$kernel" ] || [ -z "$initrd" ] || [ -z "$log" ]; then usage; fi

command -v qemu-system-x86_64 >/dev/null ||
	die "qemu-system-x86_64 is missing; install Debian's qemu-system-x86"
for file in "$kernel" "$initrd"; do
	[ -r "$file" ] || die "$file cannot be read; build it first"
done

second=null
[ -z "$results" ] || second="file:$results"
mkdir -p "$(dirname "$log")"
rm -f "$log" ${results:+"$results"}

status=0
started=$(date +%s)
timeout --foreground --kill-after=5 "$timeout" qemu-system-x86_64 \
	-machine "$machine" -accel "$accel" -cpu "$cpu" -smp "$smp" -m "$memory" \
	-nodefaults -display none -monitor none -no-reboot -bios qboot.rom \
	-serial "file:$log" -serial "$second" \
	-kernel "$kernel" -initrd "$initrd" \
	-append "console=ttyS0 panic=-1 $append" \
	"$@" </dev/null || status=$?
case $status in
0) ;;
124 | 137)
	seconds=$(($(date +%s) - started))
	[ $seconds -ge "$timeout" ] || die "QEMU was killed from outside after $seconds seconds"
	die "the kernel did not end within $timeout seconds and was stopped; its last words are in $log"
	;;
*) die "QEMU ended with status $status" ;;
esac
