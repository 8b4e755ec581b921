# Plan: the demo, and nothing around it.
run_plain guestmem_demo 60 /tests/guestmem_demo
