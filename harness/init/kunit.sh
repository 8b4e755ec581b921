# Plan: the suites have run at boot, by the kernel's parameters. Run each again from user space, where the
# counters can be read before and after, with one more allocator to run against.
prepare_counting

run_suites() {
	local suite name before failed
	for suite in /sys/kernel/debug/kunit/*/; do
		[ -f "$suite/run" ] || continue
		name=$(basename "$suite")
		before=$(counters)
		echo again >"$suite/run"
		failed=$(grep -c '^ *not ok' "$suite/results")
		[ "$failed" = 0 ] || echo "@changed $name failures_of_second_run 0 $failed"
		expect_counters "$name" "$before"
	done
}

with_sample run_suites
kmemleak
