// The last reference to a folio that has a way of its own out of use: HugeTLB's is no longer the
// only one. Nor is it for the LRU to throw such a folio away when it has the last reference, or to
// put it on a list where others look for memory: it has no mapping any more, and looks evictable.
//
// Matches: the two places that drop a last reference and know of HugeTLB, one for a single folio
// and one for a batch; and where a batch of folios that go to the LRU filters those that are dead.
//
// file: mm/folio.c
// expect: 3
//
// Matches: the question whether a folio can be reclaimed.
//
// file: mm/internal.h
// expect: 1

@ typed @
expression F;
position p;
@@
- if (folio_test_hugetlb@p(F))
+ if (folio_has_custom_free(F))
  {
  ...
- free_huge_folio(F);
+ folio_custom_free(F);
  ...
  }

@ dead @
expression F;
position p;
@@
  folio_batch_move_lru(...)
  {
  <...
- folio_ref_freeze@p(F, 1)
+ folio_freeze_dead(F)
  ...>
  }

@ evictable @
expression F;
position p;
@@
  !mapping_unevictable(folio_mapping(F)) &&
- !folio_test_mlocked@p(F)
+ !folio_test_mlocked(F) && !folio_in_custody(F)
