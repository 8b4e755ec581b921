// A huge page that is in use, and whose references are frozen, was taken for a free one, and its
// lock waited for without a reference. A piece that is merged just then is no page of its own when
// its lock would have been let go of, so nobody ever lets go: look again, and leave it at that.
//
// Matches: where a page that may be in use cannot be had.
//
// file: mm/memory-failure.c
// expect: 1

@ frozen @
expression F;
identifier ret;
position q;
@@
  get_huge_page_for_hwpoison(...)
  {
  <...
  if (folio_try_get(F)) {
  ...
  } else {
- ret =@q MF_HUGETLB_FREED;
+ ret = MF_HUGETLB_RETRY;
+ goto out_unlock;
  }
  ...>
  }
