// Whoever looks a page up tries again and again while its folio is frozen. mincore() does so with
// a page table locked, so nobody else has the CPU meanwhile; nor has the one who is to thaw it, if
// it is that CPU. Folios that are split or merged are frozen for longer than others, and give way.
//
// Matches: where mincore() looks a page up.
//
// file: mm/mincore.c
// expect: 1

@ frozen @
identifier folio, mapping, index;
position p;
@@
  mincore_page(...)
  {
  ...
  struct folio *folio;
+ bool changing;
  ...
- folio = filemap_get_entry@p(mapping, index);
+ folio = mincore_get_entry(mapping, index, &changing);
+ if (changing)
+ 	return 1;
  ...
  }
