# Canary: leaked kernel objects, by the base tree's sample module. To be found by kmemleak.
insmod /modules/kmemleak-test.ko
kmemleak
