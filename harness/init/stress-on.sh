# Plan: the selftests that take long, in full, with kvm.gmem_in_place_conversion on.
boots=stress-on
. /harness/selftests.sh
