# Run one test program: in its own cgroup, from its own folder, with the counters checked around it.

# What a cgroup is still charged with though its processes are gone: exact, unlike memory.current, which holds
# batches per CPU and cached kernel stacks. Memory failure uncharges a page before it leaves its file, so memcg
# goes on counting it as a page of a file: no more of those than pages were poisoned.
charges() {
	local group=$1 poisoned=$2 key value
	grep -H . "$group"/hugetlb.*.current 2>/dev/null | grep -v ':0$'
	while read -r key value; do
		case $key in
		file) [ "$value" -le "$poisoned" ] || echo "memory.stat:file:$value" ;;
		unevictable | sec_pagetables) [ "$value" = 0 ] || echo "memory.stat:$key:$value" ;;
		esac
	done <"$group/memory.stat"
}

poisoned_bytes() {
	awk '$1 == "HardwareCorrupted:" { print $2 * 1024 }' /proc/meminfo
}

expect_uncharged() {
	local name=$1 group=$2 poisoned=$3 tries=0 left
	while left=$(charges "$group" "$poisoned"); [ -n "$left" ]; do
		tries=$((tries + 1))
		[ $tries -lt 20 ] || break
		sleep 0.5
	done
	[ -z "$left" ] || echo "$left" | while read -r line; do
		echo "@changed $name cgroup_charge 0 ${line##*/}"
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
}

# run_program NAME SECONDS PATH [ARG...]
run_program() {
	local name=$1 group=/sys/fs/cgroup/program before poisoned
	before=$(counters)
	poisoned=$(poisoned_bytes)
	mkdir $group
	run_plain "$@"
	expect_uncharged "$name" $group $(($(poisoned_bytes) - poisoned))
	rmdir $group || echo "@changed $name cgroup_still_in_use 0 1"
	expect_counters "$name" "$before"
}

# run_programs LIST, one per line: NAME SECONDS PATH
run_programs() {
	local name seconds path
	while read -r name seconds path <&3; do
		run_program "$name" "$seconds" "$path" 3<&-
	done 3<"$1"
}
