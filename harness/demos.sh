#!/bin/bash
# `make demo` with each allocator. Ends with «N passed, N failed».
set -u

cd "$(dirname "$0")/.." || exit 1
passed=0 failed=0
for allocator in page4k hugetlb-2m hugetlb-1g; do
	echo "== ALLOCATOR=$allocator make demo"
	if ALLOCATOR=$allocator make demo; then
		passed=$((passed + 1))
	else
		failed=$((failed + 1))
	fi
done
echo "$passed passed, $failed failed"
[ $failed = 0 ]
