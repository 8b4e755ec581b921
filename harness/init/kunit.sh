# Plan: run every suite from user space, where the counters can be read before and after, with one more allocator to
# run against. What the suites say goes out as one KTAP report: the tree's kunit.py reads it.
prepare_counting

# A report of its own for each suite, each with the number 1, becomes one of many.
results() { # NUMBER FILE
	sed -e '1,/^1\.\.1$/d' -e "s/^\(ok\|not ok\) 1 /\1 $1 /" "$2"
}

run_suites() {
	local suite name before number=0
	set -- /sys/kernel/debug/kunit/*/run
	echo 'KTAP version 1'
	echo "1..$#"
	for suite; do
		suite=${suite%/run}
		name=${suite##*/}
		number=$((number + 1))
		say "begin $name"
		counters_before
		before=$settled
		echo now >"$suite/run"
		results $number "$suite/results"
		expect_counters "$name" "$before"
	done
}

with_sample run_suites
kmemleak
