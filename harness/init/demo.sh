# Plan: the demo, and nothing around it.
# allocator= comes from the kernel's command line, as plan= does.
[ "$allocator" = page4k ] || run_plain "$allocator" 100 /tests/guestmem_demo -a "$allocator"
run_plain page4k 100 /tests/guestmem_demo -a page4k
