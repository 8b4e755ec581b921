# Plan: vCPUs against conversions inside pages of 1G, at full length, KVM as modules.
. /harness/modules.sh
pools_move=yes
prepare_counting

before=$(counters)
load_kvm gmem_in_place_conversion=on
run_programs /tests/list race-on
unload_kvm
expect_counters 'the whole run' "$before"
