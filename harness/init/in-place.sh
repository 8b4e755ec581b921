# Plan: the selftests that take part with kvm.gmem_in_place_conversion on.
boots='on hugetlb-on'
. /harness/selftests.sh
