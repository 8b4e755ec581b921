#!/bin/sh
# sparse as Debian 12 has it knows no __typeof_unqual__, and the kernel's build then leaves it out without a failure.
# Qualifiers kept where they should go make no difference to what is checked here.
exec sparse -D__typeof_unqual__=__typeof__ "$@"
