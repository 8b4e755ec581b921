// The second bad page of a huge page is recorded, and that was all: it went with its folio. A file
// of guest_memfd keeps the folio and the guest its good pages, so it has to hear of each bad one.
//
// Matches: where it is found that the folio, or the page, was poisoned before.
//
// file: mm/memory-failure.c
// expect: 1

@ again @
identifier p, rv;
expression pfn;
position q;
@@
  int try_memory_failure_hugetlb(...)
  {
  ...
  struct page *p = pfn_to_page(pfn);
  <...
+ hugetlb_poisoned_again(p);
  rv =@q -EHWPOISON;
  ...>
  }
