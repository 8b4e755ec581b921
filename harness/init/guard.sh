# Plan: one test of one program, both named on the kernel's command line.
run_plain "$PROGRAM" 200 "/tests/$PROGRAM" -t "$TEST"
