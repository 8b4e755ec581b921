# Plan: KVM as modules. Load them, run the tests of /tests/list that take part, unload them: with
# kvm.gmem_in_place_conversion off, and on; and once while a parked block outlives them.
. /harness/modules.sh
prepare_counting
mkfifo /hold

# KVM is gone while somebody in the host holds a page that was a guest's: what is left of it is parked.
outlive_kvm() {
	local free=/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages all name=parked_block_outlives_kvm tries=0
	all=$(cat $free)
	load_kvm gmem_in_place_conversion=on
	run_plain $name 120 /tests/guestmem_module_test hold </hold &
	exec 4>/hold
	until [ "$(cat $free) $(cat /sys/module/kvm_amd/refcnt)" = "$((all - 1)) 0" ] || [ $tries = 100 ]; do
		sleep 0.2
		tries=$((tries + 1))
	done
	unload_kvm
	[ "$(cat $free)" = $((all - 1)) ] || echo "@changed $name free_hugepages $((all - 1)) $(cat $free)"
	exec 4>&-
	wait $!
}

before=$(counters)
for parameter in off on; do
	load_kvm gmem_in_place_conversion=$parameter
	run_programs /tests/list kvm-module-$parameter
	unload_kvm
done
outlive_kvm
expect_counters 'loading and unloading KVM' "$before"
