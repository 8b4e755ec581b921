# Plan: the selftests of huge pages, with kvm.gmem_in_place_conversion off.
boot=hugetlb-off
. /harness/selftests.sh
