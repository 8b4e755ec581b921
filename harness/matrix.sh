#!/usr/bin/env bash
# `make matrix`: the configurations, compilers and architectures that `make test` does not build.
#
# One kernel, with KVM as modules, is built whole and booted, once more for the races at full length. Of the others only what this project has a hand in is
# compiled (compile.sh). Then the patch series, step by step, and style. Ends with «N passed, N failed».
#
#   harness/matrix.sh [NAME...]      all configurations, or those named
set -uo pipefail

top=$(cd "$(dirname "$0")/.." && pwd)
harness=$top/harness
matrix=$top/build/matrix
passed=0
failed=0

cd "$harness/configs" || exit 1
mkdir -p "$matrix"

compile() { # ARCH COMPILER SKIP FRAGMENT...
	"$harness/compile.sh" "$out" "$@"
}

x86() { # SKIP FRAGMENT...
	compile x86 gcc "$1" base.config suites.config "${@:2}"
}

boot_kvm_module() { # PLAN...
	out=$matrix/kvm-module
	"$harness/config.sh" "$out" base.config kvm-module.config &&
		"$harness/kernel.sh" "$top/build/linux" "$out" bzImage modules &&
		"$harness/boot-kvm-module.sh" "$out" "$@"
}

kvm_module() { boot_kvm_module kvm-module hvo-off; }
races() { boot_kvm_module race-on; }

numa_off() { x86 '^mm/mempolicy' numa-off.config; }
hugetlb_off() { x86 '^mm/hugetlb' hugetlb-off.config; }
sev_snp() { x86 '' sev-snp.config; }
tdx() { x86 '' tdx.config; }
guestmem_off() { compile x86 gcc '^mm/(mempolicy|migrate|hugetlb|memory-failure)' guestmem-off.config; }
clang() { LLVM=-19 compile x86 clang-19 '' base.config suites.config; }
arm64() {
	CROSS_COMPILE=aarch64-linux-gnu- compile arm64 aarch64-linux-gnu-gcc '^mm/(memory-failure|hugetlb_vmemmap)' \
		arm64.config suites.config
}

series() { "$harness/series.py" --check --build; }
style() { "$harness/style.sh"; }

report() { # RESULT NAME SECONDS
	printf '%-4s  %-14s %3d:%02d\n' "$1" "$2" $(($3 / 60)) $(($3 % 60))
}

run() { # NAME
	local out=$matrix/$1 log=$matrix/$1.log started=$SECONDS
	if "${1//-/_}" >"$log" 2>&1; then
		passed=$((passed + 1))
		report pass "$1" $((SECONDS - started))
	else
		failed=$((failed + 1))
		report FAIL "$1" $((SECONDS - started))
		tail -n 15 "$log" | sed 's/^/      /'
	fi
}

all='kvm-module races numa-off hugetlb-off sev-snp tdx guestmem-off clang arm64 series style'
# shellcheck disable=SC2086
[ $# -gt 0 ] || set -- $all
for name; do
	case " $all " in
	*" $name "*) ;;
	*)
		echo "matrix: there is no configuration '$name', but: $all" >&2
		exit 2
		;;
	esac
done
for name; do
	run "$name"
done
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
