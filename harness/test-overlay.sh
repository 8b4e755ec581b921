#!/usr/bin/env bash
# `make overlay-test`: fetch.sh, apply.py, series.py, config.sh and packages.sh on small made-up trees, mostly their ways to fail.
# Ends with «N passed, N failed».
set -uo pipefail

harness=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
passed=0
failed=0

# ---- what the tests say --------------------------------------------------------------------------------------------

fail() {
	echo "$*"
	exit 1
}

# Run a command that must fail with exit code 1 and one sentence: refused TEXT COMMAND...
refused() {
	local text=$1 status=0
	shift
	"$@" >out 2>err || status=$?
	[ $status = 1 ] || fail "exit code $status, not 1: $(cat out err)"
	grep -qF -- "$text" err || fail "no '$text' in: $(cat err)"
}

one_line() {
	[ "$(wc -l <err)" = 1 ] || fail "more than one line: $(cat err)"
}

succeeds() {
	"$@" >out 2>err || fail "$* fails: $(cat out err)"
}

says() {
	grep -qF -- "$1" out || fail "no '$1' in: $(cat out)"
}

same() { # TEXT TEXT
	[ "$1" = "$2" ] || fail "'$1' is not '$2'"
}

content() { # FILE TEXT
	same "$(cat "$1")" "$2"
}

state() { # DIR: every file with its time and content
	(cd "$1" && find . -type f -not -path './.git/*' -printf '%p %T@ ' -exec sha256sum {} \; | sort)
}

nothing_left() {
	same "$(find build -name 'fetch.tmp.*')" ''
}

# ---- made-up repository and kernel ---------------------------------------------------------------------------------

kernel() { # DIR
	mkdir -p "$1/mm" "$1/virt"
	echo 'licence' >"$1/COPYING"
	printf 'VERSION = 7\nPATCHLEVEL = 3\nSUBLEVEL = 4\nmrproper:\n\trm -rf include/config\n' >"$1/Makefile"
	printf 'obj-y := a.o\nobj-$(CONFIG_B) += b.o\n' >"$1/mm/Makefile"
	printf 'int f(int x)\n{\n\tint r = x;\n\n\treturn r;\n}\n\nint g(void)\n{\n\told();\n\told();\n\treturn 0;\n}\n' >"$1/mm/a.c"
	echo 'base' >"$1/virt/replaced.c"
}

repository() {
	kernel source-9
	tar -cJf source-9.tar.xz source-9
	git init -q .
	mkdir -p edits mm virt build
	echo /build/ >.gitignore
	pin "$(sha256sum <source-9.tar.xz)" "$(sha256sum <source-9/virt/replaced.c)"
	echo 'ours' >mm/ours.c
	echo 'replaced' >virt/replaced.c
	hook 10-build.hook 'obj-$(CONFIG_B) += b.o' '+obj-y += ours.o'
}

pin() { # TARBALL-SUM REPLACED-SUM
	cat >base.pin <<-END
		# A comment, with = and "quotes" and it's apostrophe
		PACKAGE=source-9
		VERSION=9-1
		SUITE=suite
		KERNELVERSION=7.3.4
		SHA256=${1%% *}
		REPLACED="
		${2%% *}  virt/replaced.c
		"
	END
}

hook() { # NAME ANCHOR LINE
	printf '# why\n\nfile: mm/Makefile\nafter: %s\n%s\n' "$2" "$3" >"edits/$1"
}

call_rule() { # EXPECT FUNCTION
	printf '// why\n// file: mm/a.c\n// expect: %s\n\n@ call @\nposition p;\n@@\n- %s@p();\n+ new();\n' "$1" "$2" >edits/20-call.cocci
}

fetch() {
	TOP=$PWD "$harness/fetch.sh"
}

apply() {
	"$harness/apply.py" --top "$PWD"
}

with_base() {
	cp -a source-9 build/base
}

fake() { # COMMAND SCRIPT: put in front on PATH
	mkdir -p bin
	printf '#!/bin/sh\n%s\n' "$2" >"bin/$1"
	chmod +x "bin/$1"
	PATH=$PWD/bin:$PATH
}

# ---- fetch.sh ------------------------------------------------------------------------------------------------------

test_fetch_from_a_tarball() {
	KERNEL_TARBALL=$PWD/source-9.tar.xz succeeds fetch
	content build/base/virt/replaced.c base
	local before
	before=$(state build/base)
	KERNEL_TARBALL=$PWD/source-9.tar.xz succeeds fetch
	content out ''
	same "$(state build/base)" "$before"
	nothing_left
}

test_fetch_refuses_a_wrong_sum() {
	echo more >>source-9.tar.xz
	KERNEL_TARBALL=$PWD/source-9.tar.xz refused 'is not the pinned kernel' fetch
	one_line
	[ ! -e build/base ] || fail 'a base tree is there'
	nothing_left
}

test_fetch_refuses_a_missing_tarball() {
	KERNEL_TARBALL=$PWD/nothing refused 'no file to read at KERNEL_TARBALL=' fetch
	one_line
}

test_fetch_keeps_the_old_base_when_unpacking_fails() {
	KERNEL_TARBALL=$PWD/source-9.tar.xz succeeds fetch
	echo 'not a tarball' >broken
	pin "$(sha256sum <broken)" 0
	KERNEL_TARBALL=$PWD/broken refused 'cannot be unpacked' fetch
	one_line
	content build/base/virt/replaced.c base
	nothing_left
}

test_fetch_refuses_an_unreachable_mirror() {
	MIRROR=http://127.0.0.1:9/debian refused 'check the network' fetch
	one_line
	[ ! -e build/base ] || fail 'a base tree is there'
	nothing_left
}

test_fetch_takes_the_mirror_of_the_main_archive() {
	fake apt-get '[ "$1" = indextargets ] || exit 1
		echo "Other|Other|http://other/debian"
		echo "Debian|Debian-Security|http://security/debian-security"
		echo "Debian|Debian|http://main/debian"'
	refused 'from http://main/debian' fetch
}

test_fetch_takes_the_mirror_without_downloaded_lists() {
	fake apt-get 'case "$*" in
		*ReleaseInfo=false*)
			. /etc/os-release
			echo "$VERSION_CODENAME-security main http://security/debian-security"
			echo "$VERSION_CODENAME main http://other/apt"
			echo "nodistro main http://third/debian"
			echo "$VERSION_CODENAME main http://main/debian" ;;
		*indextargets*) ;;
		*) exit 1 ;;
		esac'
	refused 'from http://main/debian' fetch
}

test_fetch_refuses_when_there_is_no_mirror() {
	fake apt-get exit
	refused 'names no Debian mirror' fetch
	one_line
}

test_fetch_refuses_when_there_is_no_room() {
	fake df 'printf "Filesystem 1024-blocks Used Available Capacity Mounted\nx 9 9 1000000 9%% /\n"'
	KERNEL_TARBALL=$PWD/source-9.tar.xz refused 'make room there' fetch
	one_line
	nothing_left
}

test_fetch_refuses_a_tree_of_another_version() {
	sed -i 's/PATCHLEVEL = 3/PATCHLEVEL = 4/' source-9/Makefile
	LINUX=$PWD/source-9 refused 'is Linux 7.4, and the overlay is for Linux 7.3' fetch
	one_line
	nothing_left
}

test_fetch_refuses_what_is_not_a_kernel() {
	LINUX=$PWD/mm refused 'is not a kernel tree' fetch
	one_line
}

test_fetch_copies_what_git_tracks() {
	git init -q source-9
	git -C source-9 add .
	echo product >source-9/mm/a.o
	rm source-9/mm/Makefile
	echo changed >source-9/virt/replaced.c
	local before
	before=$(state source-9)
	LINUX=$PWD/source-9 succeeds fetch
	content build/base/virt/replaced.c changed
	[ ! -e build/base/mm/a.o ] && [ ! -e build/base/mm/Makefile ] || fail 'copied what is not tracked or not there'
	same "$(state source-9)" "$before"
}

test_fetch_copies_a_tree_without_git() {
	mkdir -p source-9/include/config
	touch source-9/include/config/x source-9/mm/a.o source-9/.config source-9/mm/vmlinux.lds.S
	local before
	before=$(state source-9)
	LINUX=$PWD/source-9 succeeds fetch
	[ ! -e build/base/include/config ] && [ ! -e build/base/mm/a.o ] && [ ! -e build/base/.config ] || fail 'copied what a build left'
	[ -e build/base/mm/vmlinux.lds.S ] || fail 'left out a source file'
	content build/base/virt/replaced.c base
	same "$(state source-9)" "$before"
}

test_fetch_notices_a_change_of_the_tree() {
	LINUX=$PWD/source-9 succeeds fetch
	LINUX=$PWD/source-9 succeeds fetch
	content out ''
	echo changed >source-9/virt/replaced.c
	LINUX=$PWD/source-9 succeeds fetch
	content build/base/virt/replaced.c changed
	KERNEL_TARBALL=$PWD/source-9.tar.xz succeeds fetch
	content build/base/virt/replaced.c base
}

# ---- apply.py ------------------------------------------------------------------------------------------------------

test_apply_lays_files_and_runs_rules() {
	with_base
	call_rule 2 old
	local before
	before=$(state build/base)
	succeeds apply
	says '10-build.hook: mm/Makefile: 1 matches, expected 1'
	says '20-call.cocci: mm/a.c: 2 matches, expected 2'
	content build/linux/mm/ours.c ours
	content build/linux/virt/replaced.c replaced
	same "$(grep -c 'new();' build/linux/mm/a.c)" 2
	same "$(tail -n 1 build/linux/mm/Makefile)" 'obj-y += ours.o'
	same "$(state build/base)" "$before"
}

test_apply_again_touches_nothing() {
	with_base
	call_rule 2 old
	succeeds apply
	local before
	before=$(state build/linux)
	succeeds apply
	says ' 0 written, 0 taken away'
	same "$(state build/linux)" "$before"
}

test_apply_works_without_spatch_when_nothing_changed() {
	with_base
	call_rule 2 old
	succeeds apply
	fake spatch 'exit 1'
	succeeds apply
	says '20-call.cocci: mm/a.c: 2 matches, expected 2'
}

test_apply_rewrites_only_what_changed() {
	with_base
	succeeds apply
	local before
	before=$(state build/linux | grep -v ours.c)
	echo 'ours anew' >mm/ours.c
	succeeds apply
	says ' 1 written, 0 taken away'
	same "$(state build/linux | grep -v ours.c)" "$before"
	content build/linux/mm/ours.c 'ours anew'
}

test_apply_takes_away_what_is_no_longer_there() {
	with_base
	mkdir mm/dir
	echo x >mm/dir/x.c
	succeeds apply
	touch -d '1 hour ago' build/base/mm/Makefile
	rm -r mm/dir edits/10-build.hook
	succeeds apply
	says ' 2 taken away'
	[ ! -e build/linux/mm/dir ] || fail 'the directory is still there'
	cmp build/linux/mm/Makefile build/base/mm/Makefile || fail 'the edited file is not the base one'
	[ build/linux/mm/Makefile -nt build/base/mm/Makefile ] || fail 'make would not see the change'
}

test_apply_composes_rules_of_one_file() {
	with_base
	call_rule 2 old
	printf '# why\nfile: mm/a.c\nbefore: int g(void)\n+/* hook */\n' >edits/15-comment.hook
	hook 30-second.hook 'obj-y += ours.o' '+obj-y += more.o'
	succeeds apply
	same "$(grep -c 'new();\|hook' build/linux/mm/a.c)" 3
	same "$(tail -n 1 build/linux/mm/Makefile)" 'obj-y += more.o'
}

test_apply_makes_the_tree_anew_on_another_base() {
	with_base
	succeeds apply
	rm -r build/base
	echo other >source-9/mm/other.c
	with_base
	succeeds apply
	content build/linux/mm/other.c other
	content build/linux/mm/ours.c ours
}

# The tree stays as it was: a rule that fails must not leave half of a change.
apply_refuses() { # TEXT
	succeeds cp -al build/base build/linux
	local before
	before=$(state build/linux)
	refused "$1" apply
	same "$(state build/linux)" "$before"
}

test_apply_refuses_an_anchor_that_is_not_there() {
	with_base
	hook 10-build.hook 'obj-y := b.o' '+x'
	apply_refuses '10-build.hook: mm/Makefile: 0 matches, expected 1'
}

test_apply_compares_anchors_whole() {
	with_base
	hook 10-build.hook 'obj-y := a' '+x'
	apply_refuses '10-build.hook: mm/Makefile: 0 matches, expected 1'
}

test_apply_refuses_an_anchor_that_is_there_twice() {
	echo 'obj-$(CONFIG_B) += b.o' >>source-9/mm/Makefile
	with_base
	apply_refuses '10-build.hook: mm/Makefile: 2 matches, expected 1'
}

test_apply_refuses_a_semantic_patch_that_matches_nothing() {
	with_base
	call_rule 2 nowhere
	apply_refuses '20-call.cocci: mm/a.c: 0 matches, expected 2'
}

test_apply_refuses_a_semantic_patch_that_matches_too_often() {
	with_base
	call_rule 1 old
	apply_refuses '20-call.cocci: mm/a.c: 2 matches, expected 1'
}

test_apply_refuses_a_semantic_patch_it_cannot_count() {
	with_base
	printf '// file: mm/a.c\n// expect: 2\n@ call @\n@@\n- old();\n+ new();\n' >edits/20-call.cocci
	apply_refuses 'needs a name and a position'
}

test_apply_refuses_a_semantic_patch_that_does_not_parse() {
	with_base
	call_rule 2 '(('
	apply_refuses '20-call.cocci: mm/a.c: spatch cannot run it'
}

test_apply_refuses_a_rule_on_our_own_file() {
	with_base
	printf '# why\nfile: mm/ours.c\nafter: ours\n+x\n' >edits/20-ours.hook
	apply_refuses 'which is ours: change it there'
}

test_apply_refuses_a_rule_on_a_file_that_is_not_there() {
	with_base
	printf '# why\nfile: mm/none.c\nafter: x\n+x\n' >edits/20-none.hook
	apply_refuses '20-none.hook: the base tree has no mm/none.c'
}

test_apply_refuses_a_line_it_cannot_read() {
	with_base
	echo 'fiel: mm/Makefile' >edits/20-typo.hook
	apply_refuses "20-typo.hook: cannot read the line 'fiel: mm/Makefile'"
}

test_apply_refuses_to_replace_another_base_file() {
	with_base
	echo 'a fix' >>build/base/virt/replaced.c
	apply_refuses 'virt/replaced.c of the base tree is not the file ours replaces'
	grep -q 'pinned sha256: [0-9a-f]\{64\}' err || fail "no sums in: $(cat err)"
}

test_apply_shows_how_the_base_file_differs() {
	with_base
	cp source-9.tar.xz build
	echo 'a fix' >>build/base/virt/replaced.c
	apply_refuses 'virt/replaced.c of the base tree is not the file ours replaces'
	grep -qx '+a fix' err || fail "no difference in: $(cat err)"
}

test_apply_refuses_to_replace_a_file_that_is_not_pinned() {
	with_base
	echo ours >mm/a.c
	apply_refuses 'REPLACED in base.pin does not list it'
}

test_apply_refuses_without_git() {
	with_base
	rm -r .git
	apply_refuses 'is not a git repository'
}

test_apply_refuses_without_a_base() {
	refused 'run harness/fetch.sh first' apply
	one_line
}

# ---- series.py -----------------------------------------------------------------------------------------------------

series() {
	"$harness/series.py" --top "$PWD" --check
}

series_list() { # LINE...
	mkdir -p harness
	printf '%s\n' "$@" >harness/series.txt
}

with_series() {
	with_base
	call_rule 2 old
	series_list 'patch first' 'file virt/*' 'edit 20-call.cocci' '' '    Why.' '' \
		'patch second' 'file mm/' 'edit 10-build.hook' '' '    Why.'
	succeeds apply
}

test_series_gives_the_same_tree() {
	with_series
	succeeds series
	says 'build/series: 2 patches'
	says 'byte for byte'
	grep -q '^+++ b/mm/a.c' build/series/0001-first.patch || fail 'the rule is not in its patch'
	! grep -q ours.c build/series/0001-first.patch || fail 'a file is in a patch it does not belong to'
	local before
	before=$(cat build/series/*)
	succeeds series
	same "$(cat build/series/*)" "$before"
}

test_series_notices_another_tree() {
	with_series
	echo anew >mm/ours.c
	refused 'the series does not give build/linux: mm/ours.c' series
	one_line
}

test_series_refuses_a_file_of_no_patch() {
	with_series
	echo x >mm/x.c && mkdir lib && echo x >lib/x.c
	refused 'lib/x.c must belong to exactly one patch, and belongs to no patch' series
	one_line
}

test_series_refuses_a_file_of_two_patches() {
	with_series
	echo 'file mm/ours.c' >>harness/series.txt
	sed -i "s/^patch second/file mm\/o*.c\npatch second/" harness/series.txt
	refused "mm/ours.c must belong to exactly one patch, and belongs to 'first', 'second'" series
}

test_series_refuses_a_rule_of_no_patch() {
	with_series
	sed -i /20-call/d harness/series.txt
	refused '20-call.cocci must belong to exactly one patch' series
}

test_series_refuses_what_is_not_there() {
	with_series
	echo 'file mm/gone.c' >>harness/series.txt
	refused 'there is no mm/gone.c' series
}

# ---- config.sh and packages.sh -------------------------------------------------------------------------------------

# A Kconfig that keeps all options but one.
config() {
	mkdir -p tree
	printf 'allnoconfig:\n\tgrep -v "_LOST=[ym]" $(KCONFIG_ALLCONFIG) >$(KCONFIG_CONFIG)\n' >tree/Makefile
	TREE=$PWD/tree "$harness/config.sh" "$PWD/out-dir" "$@"
}

test_config_merges_and_keeps_the_timestamp() {
	printf 'CONFIG_A=y\nCONFIG_S="a = b"\nCONFIG_N=1\n' >one
	printf '# comment\n# CONFIG_A is not set\nCONFIG_N=2\n# CONFIG_LOST is not set\n' >two
	succeeds config one two
	grep -qx 'CONFIG_N=2' out-dir/.config && grep -qx 'CONFIG_S="a = b"' out-dir/.config || fail "$(cat out-dir/.config)"
	local before
	before=$(stat -c %.Y out-dir/.config)
	succeeds config one two
	same "$(stat -c %.Y out-dir/.config)" "$before"
}

test_config_names_what_did_not_survive() {
	printf 'CONFIG_A=y\nCONFIG_LOST=y\n' >one
	refused 'CONFIG_LOST=y is asked for, CONFIG_LOST=n is what is left' config one
	[ ! -e out-dir/.config ] || fail 'there is a .config'
}

test_packages_are_named_in_one_command() {
	fake dpkg-query 'case "$*" in *flex) exit 1 ;; esac; echo installed'
	fake id 'echo 1000'
	refused 'paste: sudo apt-get install -y --no-install-recommends flex' "$harness/packages.sh"
	one_line
}

# ---- all of them ---------------------------------------------------------------------------------------------------

unset LINUX KERNEL_TARBALL MIRROR
tests=$(declare -F | awk '$3 ~ /^test_/ { print $3 }')

run() { # TEST
	mkdir "$work/$1"
	(cd "$work/$1" && repository && $1) >"$work/$1.log" 2>&1 && touch "$work/$1.passed"
}

for test in $tests; do
	while [ "$(jobs -r | wc -l)" -ge $((2 * $(nproc))) ]; do
		wait -n
	done
	run "$test" &
done
wait

for test in $tests; do
	if [ -e "$work/$test.passed" ]; then
		passed=$((passed + 1))
	else
		failed=$((failed + 1))
		echo "FAIL $test"
		sed 's/^/     /' "$work/$test.log"
	fi
done
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
