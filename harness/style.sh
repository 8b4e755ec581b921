#!/usr/bin/env bash
# Style and static checks of our files and of what edits/ put into the base tree's: all of them must be silent.
#
# checkpatch exceptions, each with its reason:
#   include/trace    TRACE_EVENT() is laid out like this in every trace header of the base tree
#   lib/kunit-tests  a KUnit macro names its arguments, such as "test", more than once, and they are variables
#   guestmem.h       guestmem_for_each_run() names its arguments more than once, as every loop macro does
#   edits            a function that is no longer static may have been declared in its file before
#   guest_memfd.c    kvm_gmem_init() sets the owner in the file operations when KVM is loaded
set -uo pipefail

top=$(cd "$(dirname "$0")/.." && pwd)
linux=$top/build/linux
cd "$top" || exit 1
failed=0

checkpatch() { # IGNORED-TYPES ARGUMENT...
	perl "$linux/scripts/checkpatch.pl" --no-tree --strict --terse --no-summary --show-types --ignore "$@"
}
export -f checkpatch
export linux

our_sources() {
	harness/files.py ours | grep '\.[ch]$'
}

# Lines on stdin are file names; several files a run, several runs at a time.
checkpatch_files() { # IGNORED-TYPES
	# shellcheck disable=SC2016
	xargs -r -n 6 -P "$(nproc)" bash -c 'checkpatch "$@"' bash "$1" -f
}

check_files() {
	local trace='^include/trace/' kunit='^lib/kunit-tests/' kvm='^virt/kvm/guest_memfd\.c$'
	local contract='^include/linux/guestmem\.h$' status=0
	our_sources | grep -E "$trace" | checkpatch_files OPEN_ENDED_LINE,PARENTHESIS_ALIGNMENT || status=1
	our_sources | grep -E "$kunit" | checkpatch_files MACRO_ARG_REUSE || status=1
	our_sources | grep -E "$kvm" | checkpatch_files CONST_STRUCT || status=1
	our_sources | grep -E "$contract" | checkpatch_files MACRO_ARG_REUSE || status=1
	our_sources | grep -Ev "$trace|$kunit|$kvm|$contract" | checkpatch_files NONE || status=1
	return $status
}

# What a rule inserts must look like the file it is inserted into.
check_edits() {
	local file
	for file in $(harness/files.py edited); do
		diff -u --label "a/$file" --label "b/$file" "build/base/$file" "$linux/$file" || true
	done | checkpatch COMMIT_MESSAGE,AVOID_EXTERNS --no-signoff -
}

# KVM has no kernel-doc comments.
kernel_doc() {
	our_sources | grep -v '^virt/kvm/' | xargs "$linux/scripts/kernel-doc" -none -Wall -Werror
}

compiler_and_sparse() {
	SPARSE=1 harness/compile.sh build/style x86 gcc '' harness/configs/base.config harness/configs/suites.config
}

# KVM reaches allocators by the table alone: what creates and maps files does not know one by name.
no_allocator_by_name() {
	! grep -niE 'hugetlb|hstate|page4k' virt/kvm/guest_memfd.c
}

guards_fit() {
	harness/guards.py --check
}

silent() { # TEXT COMMAND
	local said status=0 started=$SECONDS
	said=$($2 2>&1) || status=$?
	if [ $status = 0 ] && [ -z "$said" ]; then
		printf 'pass  %s (%d s)\n' "$1" $((SECONDS - started))
	else
		failed=1
		printf 'FAIL  %s (%d s)\n' "$1" $((SECONDS - started))
		echo "$said" | sed 's/^/      /'
	fi
}

silent 'checkpatch --strict, our files' check_files
silent 'checkpatch --strict, edits' check_edits
silent 'kernel-doc' kernel_doc
silent 'guest_memfd.c names no allocator' no_allocator_by_name
silent 'guards fit the sources and the documentation' guards_fit
silent 'W=1 and sparse' compiler_and_sparse
exit $failed
