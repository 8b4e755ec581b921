# Run one test program: in its own cgroup, from its own folder, with the counters checked around it.

# What a cgroup is still charged with though its processes are gone: exact, unlike memory.current, which holds
# batches per CPU and cached kernel stacks. Memory failure uncharges a page before it leaves its file, so memcg
# goes on counting it as a page of a file: no more of those than pages were poisoned.
charges() {
	local group=$1 poisoned=$2 file value
	for file in "$group"/hugetlb.*.current; do
		read -r value <"$file"
		[ "$value" = 0 ] || echo "${file##*/}:$value"
	done
	awk -v poisoned="$poisoned" '
		$1 == "file" && $2 > poisoned { print "memory.stat:file:" $2 }
		$1 ~ /^(unevictable|sec_pagetables)$/ && $2 { print "memory.stat:" $1 ":" $2 }' "$group/memory.stat"
}

# All pages that memory failure has ever dealt with: those that are in good health again are counted, too.
poisoned_bytes() {
	local file value pages=0
	for file in /sys/devices/system/node/node*/memory_failure/total; do
		read -r value <"$file" && pages=$((pages + value))
	done
	echo $((pages * 4096))
}

expect_uncharged() {
	local name=$1 group=$2 poisoned=$3 tries=0 left
	while left=$(charges "$group" "$poisoned"); [ -n "$left" ]; do
		tries=$((tries + 1))
		[ $tries -lt 20 ] || break
		sleep 0.5
	done
	[ -z "$left" ] || echo "$left" | while read -r line; do
		echo "@changed $name cgroup_charge 0 $line"
	done
}

# run_plain NAME SECONDS PATH [ARG...]: its output between two marks, its exit status in the second.
# It starts in the cgroup $group, if there is one.
run_plain() {
	local name=$1 seconds=$2 path=$3 start status=0
	shift 3
	echo "@begin $name"
	say "begin $name"
	start=$(cut -d. -f1 /proc/uptime)
	(
		[ -z "${group:-}" ] || echo 0 >"$group/cgroup.procs"
		cd "$(dirname "$path")" && exec timeout -s KILL "$seconds" "./$(basename "$path")" "$@"
	) || status=$?
	echo
	echo "@end $name $status $(($(cut -d. -f1 /proc/uptime) - start))"
	return $status
}

# A thread that was just reaped may still be on its way out of its cgroup.
remove_group() {
	local name=$1 group=$2 tries=0
	until rmdir "$group" 2>/dev/null; do
		tries=$((tries + 1))
		[ $tries -lt 20 ] || { echo "@changed $name cgroup_still_in_use 0 1"; return; }
		sleep 0.5
	done
}

# run_program NAME SECONDS PATH [ARG...]
run_program() {
	local name=$1 group=/sys/fs/cgroup/program before poisoned
	counters_before
	before=$settled
	poisoned=$(poisoned_bytes)
	mkdir $group
	# One that is killed when its time is over leaves the rest of its processes behind, and they their VMs.
	run_plain "$@" || echo 1 >$group/cgroup.kill
	expect_uncharged "$name" $group $(($(poisoned_bytes) - poisoned))
	remove_group "$name" $group
	expect_counters "$name" "$before"
}

# run_programs LIST BOOT, one per line: NAME SECONDS PATH BOOT...; only those that take part in BOOT
run_programs() {
	local name seconds path boots
	while read -r name seconds path boots <&3; do
		case " $boots " in *" $2 "*) ;; *) continue ;; esac
		run_program "$name" "$seconds" "$path" 3<&-
	done 3<"$1"
}

# with_sample COMMAND [ARG...]: with an allocator that a module brings along.
with_sample() {
	insmod /modules/guestmem-sample.ko || echo '@changed sample loaded yes no'
	"$@"
	rmmod guestmem_sample || echo '@changed sample unloaded yes no'
}
