#!/usr/bin/env bash
# See that the Debian packages a target needs are there. Missing ones are installed if root runs this, else named
# in one command to paste.
#
#   harness/packages.sh [matrix]     what all targets need; with "matrix" also the other compilers
set -euo pipefail

# A kernel build; its rules, whose matches spatch counts in Python; QEMU and what goes into its root file system; the
# source package; style checks.
packages="bc binutils bison ccache cpio flex gcc git gzip libc6-dev libelf-dev libssl-dev linux-libc-dev uuid-dev
	make perl python3 util-linux xz-utils zlib1g-dev
	coccinelle libpython3.11
	busybox-static qemu-system-x86 qemu-system-data seabios
	debian-archive-keyring
	sparse"
matrix="clang-19 lld-19 llvm-19 gcc-aarch64-linux-gnu"

top=$(cd "$(dirname "$0")/.." && pwd)
[ "${1:-}" != matrix ] || packages="$packages $matrix"

missing=
for package in $packages; do
	[ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

install="apt-get install -y --no-install-recommends$missing"
if [ "$(id -u)" != 0 ]; then
	echo "packages: some Debian packages are missing; to install them paste: sudo $install" >&2
	exit 1
fi

echo "installing$missing"
mkdir -p "$top/build/log"
export DEBIAN_FRONTEND=noninteractive
# Some other source of the machine may be out of order, which need not keep these from coming.
if ! { apt-get update || true; $install; } >"$top/build/log/packages.log" 2>&1; then
	echo "packages: apt-get cannot install$missing (see build/log/packages.log): install them by hand and try again" >&2
	exit 1
fi
