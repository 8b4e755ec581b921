// The last reference to a folio that has a way of its own out of use: HugeTLB's is no longer the
// only one.
//
// Matches: the two places that drop a last reference and know of HugeTLB, one for a single folio
// and one for a batch.
//
// file: mm/folio.c
// expect: 2

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
