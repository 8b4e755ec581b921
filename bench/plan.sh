# Plan of the machine that counts instructions: is its clock good, then one program after the other.
/bench/clock && /bench/page4k
