# Plan: KVM as modules. Load them, run the tests of /tests/list that take part, unload them: with
# kvm.gmem_in_place_conversion off, and on.
. /harness/modules.sh
prepare_counting

before=$(counters)
for parameter in off on; do
	load_kvm gmem_in_place_conversion=$parameter
	run_programs /tests/list kvm-module-$parameter
	unload_kvm
done
expect_counters 'loading and unloading KVM' "$before"
