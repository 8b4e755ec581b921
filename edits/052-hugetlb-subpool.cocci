// A file of guest_memfd takes pages out of a subpool as one of hugetlbfs does, and gives back what is
// reserved there and will not be used.
//
// Matches: the definitions of the three functions; mm/internal.h declares them.
//
// file: mm/hugetlb.c
// expect: 3

@ unstatic @
identifier f = {hugepage_subpool_get_pages, hugepage_subpool_put_pages};
position p;
@@
- static long f@p(struct hugepage_subpool *spool, long delta)
+ long f(struct hugepage_subpool *spool, long delta)
  { ... }

@ account @
position p;
@@
- static int hugetlb_acct_memory@p(struct hstate *h, long delta)
+ int hugetlb_acct_memory(struct hstate *h, long delta)
  { ... }
