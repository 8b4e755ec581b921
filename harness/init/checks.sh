# What must be the same after a test as before it, and what kmemleak says.
# Nothing here writes a file: the root file system's own pages are part of what is counted.

# Counters that are exact once per-CPU batches are drained and the deltas folded. Free memory, slab and
# anonymous pages are not among them: they move with every program that runs.
vmstat_keys='nr_file_pages nr_shmem nr_unevictable nr_mlock nr_hugetlb nr_sec_page_table_pages nr_isolated_file'

# What counting needs. A file that is missing is reported like a counter that moved: nothing is compared in vain.
prepare_counting() {
	local file controller
	for file in /proc/sys/vm/drop_caches /proc/sys/vm/stat_refresh /sys/fs/cgroup/cgroup.stat; do
		[ -e $file ] || echo "@changed setup $file present missing"
	done
	for controller in $(cat /sys/fs/cgroup/cgroup.controllers); do
		case $controller in
		memory | hugetlb) echo "+$controller" >/sys/fs/cgroup/cgroup.subtree_control ;;
		esac
	done
	# Not a line in the log for each drop of the caches.
	echo 4 >/proc/sys/vm/drop_caches
}

# drop_caches drains every CPU's LRU batches; stat_refresh, when it is read, folds every CPU's counter deltas.
drain() {
	echo 3 >/proc/sys/vm/drop_caches
	read -r _ </proc/sys/vm/stat_refresh
}

# A debug kernel under emulation takes its time to start a process: one for the whole file.
read_vmstat() {
	awk -v keys="$vmstat_keys" '
		BEGIN { split(keys, key); for (i in key) wanted[key[i]] = 1 }
		$1 in wanted { print }
		$1 == "nr_foll_pin_acquired" { pins += $2 }
		$1 == "nr_foll_pin_released" { pins -= $2 }
		# A pool that is made smaller and larger again has its struct pages from elsewhere.
		$1 == "nr_memmap_pages" || $1 == "nr_memmap_boot_pages" { memmap += $2 }
		END { print "pins_held", pins + 0; print "memmap_pages", memmap + 0 }' /proc/vmstat
}

# Where a test makes a pool smaller and larger again, its pages need not come back to the nodes they were on.
read_pools() {
	local dir pool value nodes=/sys/devices/system/node/node*/hugepages/*
	[ -z "${pools_move:-}" ] || nodes=
	for dir in /sys/kernel/mm/hugepages/* $nodes; do
		for pool in nr free resv surplus; do
			[ -f "$dir/${pool}_hugepages" ] || continue
			read -r value <"$dir/${pool}_hugepages"
			echo "${dir#/sys/}/${pool}_hugepages $value"
		done
	done
}

count_dirs() { # NAME DIR
	local n=0 dir
	for dir in "$2"/*/; do
		[ -d "$dir" ] && n=$((n + 1))
	done
	echo "$1 $n"
}

# A cgroup that is gone but still charged stays in the count of dying descendants.
read_objects() {
	local key value
	count_dirs kvm_vms /sys/kernel/debug/kvm
	count_dirs guestmem_files /sys/kernel/debug/guestmem
	while read -r key value; do
		case $key in nr_descendants | nr_dying_descendants) echo "cgroup_$key $value" ;; esac
	done </sys/fs/cgroup/cgroup.stat
}

counters() {
	drain
	read_vmstat
	read_pools
	read_objects
}

show_changes() { # NAME BEFORE AFTER
	local key value now
	echo "$2" | while read -r key value; do
		now=$(echo "$3" | awk -v key="$key" '$1 == key { print $2 }')
		[ "$now" = "$value" ] || echo "@changed $1 $key $value ${now:-gone}"
	done
}

# Counting takes a debug kernel a second: what was there after a test is what was there before the next.
counters_before() {
	settled=${settled:-$(counters)}
}

# Teardown ends in RCU callbacks and workers: wait for the counters to come back. A leak never does, however often one
# looks.
looks=20
expect_counters() {
	local name=$1 before=$2 after tries=0
	while after=$(counters); [ "$after" != "$before" ]; do
		tries=$((tries + 1))
		[ $tries -lt $looks ] || break
		sleep 0.5
	done
	[ "$after" = "$before" ] || show_changes "$name" "$before" "$after"
	settled=$after
	echo "@counters $name"
}

# kmemleak reports only what is older than five seconds when a scan begins and had the same contents in the one before.
kmemleak() {
	local file=/sys/kernel/debug/kmemleak less=/modules/kmemleak_scan_less.ko aged leaks
	[ ! -f $less ] || insmod $less || echo "@changed kmemleak_scan_less loaded yes no"
	sleep 6 &
	aged=$!
	if ! { echo scan >$file && wait $aged && echo scan >$file; } 2>/dev/null; then
		echo "@kmemleak unavailable"
		return
	fi
	leaks=$(cat $file)
	if [ -z "$leaks" ]; then
		echo "@kmemleak clean"
	else
		echo "$leaks" | sed 's/^/# /'
		echo "@kmemleak leaks $(echo "$leaks" | grep -c '^unreferenced object')"
	fi
}

say() {
	echo "guestmem test: $*" >/dev/kmsg
}
