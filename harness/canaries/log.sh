# Canary: one WARN, by the base tree's crash test tool. To be found in the kernel's log.
echo WARNING >/sys/kernel/debug/provoke-crash/DIRECT
