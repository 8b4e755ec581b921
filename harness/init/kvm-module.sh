# Plan: KVM as modules. Load them, run the tests of /tests/list that take part, unload them, and once more.
. /harness/modules.sh
prepare_counting

before=$(counters)
for _ in first second; do
	load_kvm
	run_programs /tests/list kvm-module
	unload_kvm
done
expect_counters 'loading and unloading KVM' "$before"
