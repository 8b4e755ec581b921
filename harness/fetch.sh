#!/usr/bin/env bash
# Put the kernel the overlay stands on into build/base.
#
#   harness/fetch.sh                             the pinned package (base.pin), by apt from the machine's Debian mirror
#   MIRROR=http://... harness/fetch.sh           the same from another Debian mirror
#   KERNEL_TARBALL=/path/to.tar.xz ...           the same tarball from a file
#   LINUX=/path/to/tree ...                      one's own tree of the same version: copied, never changed
#
# Either build/base is complete when this ends, or it is as it was before.
set -euo pipefail

top=${TOP:-$(cd "$(dirname "$0")/.." && pwd)}
# shellcheck source=base.pin
. "$top/base.pin"
build=$top/build
need_kb=$((6 * 1024 * 1024))

die() {
	echo "fetch: $*" >&2
	exit 1
}

check_room() {
	local free_kb
	free_kb=$(df -Pk "$build" | awk 'NR == 2 { print $4 }')
	[ "$free_kb" -ge "$need_kb" ] ||
		die "$build has $((free_kb / 1024)) MB of room, and a kernel tree with its builds needs $((need_kb / 1024)) MB: make room there"
}

check_sum() {
	local have
	have=$(sha256sum <"$1")
	have=${have%% *}
	[ "$have" = "$SHA256" ] ||
		die "$2 has sha256 $have, and base.pin asks for $SHA256: it is not the pinned kernel"
}

# With no lists downloaded apt does not know whose archive a source is: then go by its name.
debian_mirror() {
	local codename
	if [ -n "${MIRROR:-}" ]; then
		echo "$MIRROR"
		return
	fi
	apt-get indextargets --format '$(ORIGIN)|$(LABEL)|$(SITE)' 'Created-By: Packages' |
		awk -F'|' '$1 == "Debian" && $2 == "Debian" { print $3; exit }' >"$tmp/mirror"
	if [ ! -s "$tmp/mirror" ]; then
		codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-stable}")
		apt-get indextargets -o APT::Get::IndexTargets::ReleaseInfo=false \
			--format '$(RELEASE) $(COMPONENT) $(SITE)' 'Created-By: Packages' |
			awk -v c="$codename" '$1 == c && $2 == "main" && $3 ~ /\/debian\/?$/ { print $3; exit }' >"$tmp/mirror"
	fi
	cat "$tmp/mirror"
}

# apt with lists and sources of its own: those of the machine stay as they are.
private_apt() {
	mkdir -p "$tmp/apt/state/lists/partial" "$tmp/apt/cache/archives/partial"
	cat >"$tmp/apt/conf" <<-EOF
		#clear APT::Update;
		Dir::State "$tmp/apt/state";
		Dir::State::status "/dev/null";
		Dir::Cache "$tmp/apt/cache";
		Dir::Etc::sourcelist "$tmp/apt/sources.list";
		Dir::Etc::sourceparts "-";
		APT::Sandbox::User "root";
		APT::Update::Error-Mode "any";
		Acquire::Retries "1";
		Acquire::http::Timeout "30";
	EOF
	(cd "$tmp" && apt-get -q -c "$tmp/apt/conf" "$@") >>"$build/log/fetch.log" 2>&1
}

download() {
	local keyring=/usr/share/keyrings/debian-archive-keyring.gpg mirror deb
	command -v apt-get >/dev/null ||
		die "this machine has no apt: give the pinned tarball with KERNEL_TARBALL= or a kernel tree with LINUX="
	[ -r $keyring ] || die "$keyring is missing: install the package debian-archive-keyring"
	mirror=$(debian_mirror)
	[ -n "$mirror" ] || die "apt's configuration names no Debian mirror: give one with MIRROR=http://..."

	echo "fetching $PACKAGE=$VERSION from $mirror"
	mkdir -p "$tmp/apt"
	echo "deb [signed-by=$keyring] $mirror $SUITE main" >"$tmp/apt/sources.list"
	private_apt update ||
		die "apt cannot read $SUITE from $mirror (see build/log/fetch.log): check the network, or give KERNEL_TARBALL= or LINUX="
	private_apt download "$PACKAGE=$VERSION" ||
		die "apt cannot get $PACKAGE=$VERSION from $mirror (see build/log/fetch.log): give another MIRROR=, KERNEL_TARBALL= or LINUX="

	deb=$(echo "$tmp/$PACKAGE"_*.deb)
	dpkg-deb --fsys-tarfile "$deb" | tar -xO "./usr/src/$PACKAGE.tar.xz" >"$tmp/tarball"
	rm "$deb"
	check_sum "$tmp/tarball" "$PACKAGE.tar.xz in the package"
	mv "$tmp/tarball" "$build/$PACKAGE.tar.xz"
}

# Fresh timestamps throughout, so that make sees a change of the base as what it is.
unpack() {
	echo "unpacking the kernel tree"
	mkdir "$tmp/base"
	XZ_DEFAULTS=-T0 tar --touch --strip-components=1 -C "$tmp/base" -xf "$1" 2>>"$build/log/fetch.log" ||
		die "$1 cannot be unpacked (see build/log/fetch.log)"
}

tarball_identity() {
	echo "tarball $SHA256"
}

from_tarball() {
	local tarball=$build/$PACKAGE.tar.xz
	if [ -n "${KERNEL_TARBALL:-}" ]; then
		tarball=$KERNEL_TARBALL
		[ -r "$tarball" ] || die "there is no file to read at KERNEL_TARBALL=$tarball"
		check_sum "$tarball" "KERNEL_TARBALL=$tarball"
	elif [ -e "$tarball" ]; then
		check_sum "$tarball" "$tarball"
	else
		download
	fi
	unpack "$tarball"
}

is_git() {
	[ -e "$LINUX/.git" ]
}

# What of the user's tree is source: what git tracks, or everything but what a build leaves behind.
tree_files() {
	if is_git; then
		comm -z -23 <(git -C "$LINUX" -c safe.directory='*' ls-files -z | sort -z) \
			<(git -C "$LINUX" -c safe.directory='*' ls-files -z --deleted | sort -z)
	else
		(cd "$LINUX" && find . \( -type f -o -type l \) ! -name '*.o' ! -name '*.a' ! -name '*.ko' \
			! -name '*.cmd' ! -name vmlinux ! -name vmlinux.unstripped ! -name .config -print0 | sort -z)
	fi
}

check_version() {
	local have want
	[ -r "$LINUX/Makefile" ] || die "LINUX=$LINUX is not a kernel tree: it has no Makefile"
	have=$(awk -F' *= *' '$1 == "VERSION" { v = $2 } $1 == "PATCHLEVEL" { print v "." $2; exit }' "$LINUX/Makefile")
	want=${KERNELVERSION%.*}
	[ "$have" = "$want" ] || die "LINUX=$LINUX is Linux ${have:-of no version}, and the overlay is for Linux $want"
}

tree_identity() {
	local listing
	listing=$(cd "$LINUX" && xargs -0 stat -c '%n %s %.Y' <"$tmp/files" | sha256sum)
	echo "tree $(readlink -f "$LINUX") ${listing%% *}"
}

from_tree() {
	echo "copying the kernel tree $LINUX"
	mkdir "$tmp/base"
	tar -C "$LINUX" --null -T "$tmp/files" -cf - | tar --touch -C "$tmp/base" -xf -
	is_git || make -s -C "$tmp/base" mrproper >>"$build/log/fetch.log" 2>&1 ||
		die "make mrproper fails in a copy of LINUX=$LINUX (see build/log/fetch.log)"
}

stamp() {
	[ -d "$build/base" ] && cat "$build/base.stamp" 2>/dev/null || true
}

install_base() {
	rm -f "$build/base.stamp"
	[ ! -e "$build/base" ] || mv "$build/base" "$tmp/old"
	mv "$tmp/base" "$build/base"
	echo "$1" >"$build/base.stamp"
}

mkdir -p "$build/log"
exec 9>"$build/fetch.lock"
flock 9
# What a killed run could not take away; the lock says that nobody uses it.
rm -rf "$build"/fetch.tmp.*
tmp=$(mktemp -d "$build/fetch.tmp.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
trap 'exit 1' HUP INT TERM
: >"$build/log/fetch.log"

if [ -n "${LINUX:-}" ]; then
	check_version
	tree_files >"$tmp/files"
	[ -s "$tmp/files" ] || die "LINUX=$LINUX has no files that git tracks"
	identity=$(tree_identity)
	source=from_tree
else
	identity=$(tarball_identity)
	source=from_tarball
fi

[ "$(stamp)" != "$identity" ] || exit 0
check_room
$source
install_base "$identity"
