# Plan: KVM as modules. Load them, run the tests of /tests/list, unload them, and once more.
prepare_counting

load_kvm() {
	local module
	for module in irqbypass kvm kvm-amd; do
		[ ! -f /modules/$module.ko ] || insmod /modules/$module.ko
	done
	[ -c /dev/kvm ] || echo "@changed modules loaded yes no"
}

unload_kvm() {
	rmmod kvm-amd && rmmod kvm && [ ! -d /sys/module/kvm ] || echo "@changed modules unloaded yes no"
}

before=$(counters)
for _ in first second; do
	load_kvm
	run_programs /tests/list
	unload_kvm
done
expect_counters 'loading and unloading KVM' "$before"
