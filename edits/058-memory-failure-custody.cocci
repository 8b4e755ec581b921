// A page in custody that someone had taken off the LRU before may be put back on it. That it is on the
// LRU again says nothing of it: there is no file to take it out of, nobody maps it, and a reference
// that is kept would keep all of its block from coming back.
//
// Matches: where a page is taken for one that can be handled, as it is on the LRU.
//
// file: mm/memory-failure.c
// expect: 1

@ handlable @
expression P;
position p;
@@
  HWPoisonHandlable(...)
  {
  ...
  return
-     PageLRU@p(P)
+     (PageLRU(P) && !folio_in_custody(page_folio(P)))
      || is_free_buddy_page(P);
  }
