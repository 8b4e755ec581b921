# Plan: the selftests of huge pages, with kvm.gmem_in_place_conversion on.
boot=hugetlb-on
. /harness/selftests.sh
