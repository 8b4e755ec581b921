# shellcheck shell=sh
# Progress lines, for scripts that consist of long steps. Sourced.
TEST_STARTED=${TEST_STARTED:-$(date +%s)}
export TEST_STARTED

progress() {
	elapsed=$(($(date +%s) - TEST_STARTED))
	printf '[%3d:%02d] %s\n' $((elapsed / 60)) $((elapsed % 60)) "$*"
}

# step LOG TEXT COMMAND...: announce, run with all output in LOG; if it fails, show the end of LOG.
step() {
	step_log=$1 step_text=$2
	shift 2
	mkdir -p "$(dirname "$step_log")"
	progress "$step_text"
	"$@" >"$step_log" 2>&1 && return
	progress "$step_text: failed; the last lines of $step_log:"
	tail -n 15 "$step_log" | sed 's/^/    /'
	return 1
}
