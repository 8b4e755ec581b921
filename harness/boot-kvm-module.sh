#!/bin/bash
# Boot a kernel that has KVM as modules: load them, run guest_memfd's tests, unload them, twice.
# usage: boot-kvm-module.sh OUTDIR    (built with configs/kvm-module.config)
set -euo pipefail

[ $# -eq 1 ] || { echo "usage: boot-kvm-module.sh OUTDIR" >&2; exit 2; }
top=$(cd "$(dirname "$0")/.." && pwd)
harness=$top/harness selftests=$top/build/selftests
out=$(cd "$1" && pwd)
# Results and logs stand beside the kernel, apart from those of make test.
export BUILD=$out

programs=(guest_memfd_test guestmem_test guestmem_module_test)
"$harness/selftests.sh" "$top/build/linux" "$out" "$selftests" "${programs[@]}"
printf '%s 120\n' "${programs[@]}" | "$harness/pack-tests.sh" "$out/guest.cpio.gz" "$out" "$selftests"

rm -f "$out/results.jsonl"
python3 -B "$harness/run.py" boot 'KVM as a module' --plan kvm-module --without kmemleak \
	--kernel "$out/arch/x86/boot/bzImage" --initrd "$out/guest.cpio.gz" \
	--append 'loglevel=7 oops=panic numa=fake=2 hugepages=16'
python3 -B "$harness/run.py" summary
