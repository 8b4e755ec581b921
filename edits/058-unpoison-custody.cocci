// Of a page that memory_failure() could not handle it has no reference, but the verdict is taken back as
// if it had one: that of whoever holds a page in custody would go, and the page back to its block with it.
//
// Matches: where a page that somebody else holds is refused.
//
// file: mm/memory-failure.c
// expect: 1

@ held @
expression F;
position p;
statement S;
@@
  unpoison_memory(...)
  {
  <...
  if (
-     folio_ref_count@p(F) > 1
+     folio_ref_count(F) > 1 || folio_in_custody(F)
     ) S
  ...>
  }
