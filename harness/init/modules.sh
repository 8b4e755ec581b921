# Load and unload KVM where it is built as modules.

# load_kvm [PARAMETER=VALUE]... of the module kvm
load_kvm() {
	local module
	for module in irqbypass kvm kvm-amd; do
		[ -f /modules/$module.ko ] || continue
		case $module in
		kvm) insmod /modules/kvm.ko "$@" ;;
		*) insmod /modules/$module.ko ;;
		esac
	done
	[ -c /dev/kvm ] || echo "@changed modules loaded yes no"
}

unload_kvm() {
	rmmod kvm-amd && rmmod kvm && [ ! -d /sys/module/kvm ] || echo "@changed modules unloaded yes no"
}
