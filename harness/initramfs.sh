#!/bin/sh
# Pack a root file system for a test kernel: busybox, the scripts of harness/init, and what is named.
# usage: initramfs.sh OUT.cpio[.gz] [GUEST-PATH=HOST-PATH]...    (a debug kernel takes ten seconds to unpack a .gz)
set -eu

here=$(cd "$(dirname "$0")" && pwd)

die() {
	echo "initramfs.sh: $*" >&2
	exit 1
}

[ $# -ge 1 ] || die "usage: initramfs.sh OUT.cpio[.gz] [GUEST-PATH=HOST-PATH]..."
out=$1
shift

busybox=$(command -v busybox) || die "busybox is missing; install Debian's busybox-static"
ldd "$busybox" >/dev/null 2>&1 && die "$busybox is dynamic; install Debian's busybox-static"
command -v cpio >/dev/null || die "cpio is missing; install Debian's cpio"

root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
mkdir -p "$root/bin" "$root/proc" "$root/sys" "$root/dev" "$root/tmp"
cp "$busybox" "$root/bin/busybox"
cp -R "$here/init" "$root/harness"
cp -R "$here/canaries" "$root/harness/canaries"
ln -s harness/init "$root/init"

for pair; do
	guest=$root/${pair%%=*}
	host=${pair#*=}
	[ -e "$host" ] || die "$host is missing; build it first"
	mkdir -p "$(dirname "$guest")"
	cp -RL "$host" "$guest"
	# Symbols are half of a static test program, and nothing in the guest reads them.
	case $(head -c 4 "$host" 2>/dev/null | tr -d '\0') in
	*ELF) case $host in *.ko) ;; *) strip "$guest" ;; esac ;;
	esac
done

case $out in
*.gz) pack='gzip -1' ;;
*) pack=cat ;;
esac
mkdir -p "$(dirname "$out")"
(cd "$root" && find . -print | LC_ALL=C sort | cpio --quiet -o -H newc -R 0:0) | $pack >"$out.tmp"
mv "$out.tmp" "$out"
