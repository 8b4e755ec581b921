# Canary: one folio left behind, in a file that has no name any more and that a sleeping process holds open.
# To be found by comparing counters.
prepare_counting
before=$(counters)
echo left behind >/tmp/folio
sleep 1000 </tmp/folio &
rm /tmp/folio
looks=2
expect_counters canary "$before"
