# Plan: the programs listed in /tests/list (one per line: NAME SECONDS PATH), then the whole run's checks.
prepare_counting
nodes=$(ls -d /sys/devices/system/node/node[0-9]* | wc -l)
[ "$nodes" -ge 2 ] || echo "@changed setup numa_nodes 2 $nodes"

at_start=$(counters)
run_programs /tests/list
expect_counters "the whole run" "$at_start"
kmemleak
