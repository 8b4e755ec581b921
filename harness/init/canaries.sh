# Plan: canaries, each to be found by the check it was made for. The log's comes first: of all that a log must not
# say, the first is reported.
. /harness/canaries/log.sh
. /harness/canaries/counters.sh
. /harness/canaries/kmemleak.sh
