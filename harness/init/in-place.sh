# Plan: the selftests that take part with kvm.gmem_in_place_conversion on.
boot=on
. /harness/selftests.sh
