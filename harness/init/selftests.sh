# Plan: those programs listed in /tests/list (one per line: NAME SECONDS PATH BOOT...) that take part with
# kvm.gmem_in_place_conversion off, then the whole run's checks. Other plans set another boot before they come here.
boot=${boot:-off}
case $boot in hugetlb-* | stress-*) pools_move=yes ;; esac
prepare_counting
nodes=$(ls -d /sys/devices/system/node/node[0-9]* | wc -l)
[ "$nodes" -ge 2 ] || echo "@changed setup numa_nodes 2 $nodes"
case $(cat /sys/module/kvm/parameters/gmem_in_place_conversion) in
Y) parameter=on ;;
*) parameter=off ;;
esac
[ $parameter = ${boot##*-} ] || echo "@changed setup gmem_in_place_conversion ${boot##*-} $parameter"

at_start=$(counters)
run_programs /tests/list $boot
case $boot in
off | on) with_sample run_program guest_memfd_test+sample 120 /tests/guest_memfd_test ;;
esac
expect_counters "the whole run" "$at_start"
kmemleak
