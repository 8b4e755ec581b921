# Plan: those programs listed in /tests/list (one per line: NAME SECONDS PATH BOOT...) that take part with
# kvm.gmem_in_place_conversion off, those of huge pages last, then the whole run's checks. Other plans set other boots
# before they come here.
boots=${boots:-off hugetlb-off}
prepare_counting
nodes=$(ls -d /sys/devices/system/node/node[0-9]* | wc -l)
[ "$nodes" -ge 2 ] || echo "@changed setup numa_nodes 2 $nodes"
case $(cat /sys/module/kvm/parameters/gmem_in_place_conversion) in
Y) parameter=on ;;
*) parameter=off ;;
esac
[ $parameter = ${boots##*-} ] || echo "@changed setup gmem_in_place_conversion ${boots##*-} $parameter"

pools_move=yes
at_start=$(counters)
for boot in $boots; do
	case $boot in
	off | on)
		pools_move= settled=
		run_programs /tests/list $boot
		with_sample run_program guest_memfd_test+sample 120 /tests/guest_memfd_test
		pools_move=yes settled= ;;
	*) run_programs /tests/list $boot ;;
	esac
done
expect_counters "the whole run" "$at_start"
kmemleak
