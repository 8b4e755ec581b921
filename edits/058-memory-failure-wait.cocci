// A folio that is split or merged has no references to be had, and a page may go from one folio to
// another between two looks at it: so a report that comes just then waits until that is over, and
// what changes next waits until the report has found its folio, or has marked its page: a marked page
// keeps its mark, and is not merged. Nobody can be told twice of a page that goes bad. Nothing else
// is waited for meanwhile: neither a folio lock nor mmap_lock, nor what get_hwpoison_page() waits
// for, which is memory that goes offline, and that may be waiting for the end of a file.
//
// Matches: where memory_failure() begins to look for a folio, and where it has one or has marked its
// page: of HugeTLB, marked before, or any other; and where it looks once more.
//
// file: mm/memory-failure.c
// expect: 5

@ begin @
expression R, P, F;
position p;
@@
  int memory_failure(...)
  {
  <...
+ guestmem_reshape_stop();
  R = try_memory_failure_hugetlb@p(P, F);
  ...>
  }

@ huge @
expression R, P, F, M;
position p;
@@
  int try_memory_failure_hugetlb(...)
  {
  <...
  R = get_huge_page_for_hwpoison@p(P, F, M);
+ if (R != MF_HUGETLB_NON_HUGEPAGE)
+ 	guestmem_reshape_resume();
  ...>
  }

@ once_more @
identifier L;
position p;
@@
  int try_memory_failure_hugetlb(...)
  {
  <...
+ guestmem_reshape_stop();
  goto@p L;
  ...>
  }

@ marked @
expression P;
position p;
@@
  int memory_failure(...)
  {
  <...
  if (TestSetPageHWPoison@p(P)) {
+ 	guestmem_reshape_resume();
  	...
  }
  ...>
  }

@ found @
expression R, P, F;
position p;
@@
  int memory_failure(...)
  {
  <...
+ guestmem_reshape_resume();
  R = get_hwpoison_page@p(P, F);
  ...>
  }
