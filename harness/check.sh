#!/usr/bin/env bash
# `make check`: the inner loop, for before every commit: KUnit on UML, and style.
set -uo pipefail

top=$(cd "$(dirname "$0")/.." && pwd)
log=$top/build/log/check-kunit.log
failed=0
mkdir -p "$top/build/log"

started=$SECONDS
if "$top/harness/kunit.sh" "$top/build/linux" "$top/build/uml" "$top/build/uml.json" >"$log" 2>&1; then
	result=pass
else
	result=FAIL
	failed=1
	grep -E '\[FAILED\]|# .*: (EXPECTATION|ASSERTION)|error:' "$log" | head -n 20 | sed 's/^/      /'
fi
printf '%s  KUnit on UML (%d s): %s\n' $result $((SECONDS - started)) "$(grep -o 'Ran [0-9]* tests.*' "$log" || echo "see $log")"

"$top/harness/style.sh" || failed=1
exit $failed
