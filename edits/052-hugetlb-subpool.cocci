// A file of guest_memfd takes pages out of a subpool as one of hugetlbfs does.
//
// Matches: the definitions of both functions; mm/internal.h declares them.
//
// file: mm/hugetlb.c
// expect: 2

@ unstatic @
identifier f = {hugepage_subpool_get_pages, hugepage_subpool_put_pages};
position p;
@@
- static long f@p(struct hugepage_subpool *spool, long delta)
+ long f(struct hugepage_subpool *spool, long delta)
  { ... }
