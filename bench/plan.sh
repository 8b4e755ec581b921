# shellcheck shell=sh disable=SC2154
# Plan of the machine that counts instructions: is its clock good, then one program. The command line says how the
# machine clears pages, which program, and which way of converting.
/bench/clock "$clears" && "/bench/$program" "$way"
