#!/usr/bin/env bash
# `make coverage`: which lines of mm/guestmem the suites on UML reach. Fails below 95 %, and where an error label is not
# reached.
#
# Only mm/guestmem is instrumented, by a variable on make's command line that kbuild looks at for each object. The
# suites run at boot; then init copies the counters out of debugfs to the host. Counters are registered before UML has set
# itself up, when lockdep cannot walk a stack yet: it is off.
set -euo pipefail

top=$(cd "$(dirname "$0")/.." && pwd)
linux=$top/build/linux
out=$top/build/coverage
log=$top/build/log/coverage
. "$top/harness/steps.sh"
. "$top/harness/ccache.sh"

build() {
	local option options=()
	for option in GCOV_KERNEL=y HOSTFS=y BINFMT_ELF=y BINFMT_SCRIPT=y PROVE_LOCKING=n; do
		options+=(--kconfig_add "CONFIG_$option")
	done
	ccached gcc
	# shellcheck disable=SC2016
	(cd "$linux" && PYTHONDONTWRITEBYTECODE=1 python3 tools/testing/kunit/kunit.py build --build_dir="$out" \
		--kunitconfig=lib/kunit-tests/.kunitconfig "${options[@]}" --jobs="$(nproc)" --make_options="CC=$compiler" \
		--make_options='GCOV_PROFILE=$(if $(filter mm/guestmem mm/guestmem/%,$(obj)),y)')
}

# The walk beside the model is cut short: what only chance reaches does not count.
run() {
	rm -rf "$out/root"
	mkdir -p "$out/root/sys" "$out/root/dev" "$out/root/counters"
	install -m 755 "$(command -v busybox)" "$top/harness/coverage/init" "$out/root/"
	(cd "$out" && timeout -k 10 600 ./linux mem=1G console=tty rw root=none rootfstype=hostfs "rootflags=$out/root" \
		init=/init guestmem_model_kunit.steps=3000)
}

parse() {
	(cd "$linux" && python3 -B tools/testing/kunit/kunit.py parse "$log.run.log")
}

mkdir -p "$out"
step "$log.judge.log" 'the judge of coverage: its own tests' python3 -B "$top/harness/test-coverage.py"
step "$log.build.log" 'UML with counters: build' build
step "$log.run.log" 'UML with counters: run' run
step "$log.parse.log" 'all tests have to pass' parse
python3 -B "$top/harness/coverage.py" "$linux" "$out" "$out/root/counters"
