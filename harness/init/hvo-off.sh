# Plan: the selftests of huge pages where each of their pages has a struct page, KVM as modules: with
# kvm.gmem_in_place_conversion off, and on.
. /harness/modules.sh
pools_move=yes
prepare_counting
optimised=$(cat /proc/sys/vm/hugetlb_optimize_vmemmap)
[ "$optimised" = 0 ] || echo "@changed setup hugetlb_optimize_vmemmap 0 $optimised"

before=$(counters)
for parameter in off on; do
	load_kvm gmem_in_place_conversion=$parameter
	run_programs /tests/list hugetlb-$parameter
	unload_kvm
done
expect_counters 'the whole run' "$before"
