// A page in custody may have been on its way to another place when its file went. It has no mapping
// any more that says it is inaccessible, and what it moves to is no page of its allocator's: it would
// lose what says whose it is with the last reference of whoever moves it.
//
// Matches: where a page without a mapping is moved.
//
// file: mm/migrate.c
// expect: 1

@ move @
position p;
@@
  move_to_new_folio(...)
  {
  ...
  VM_BUG_ON_FOLIO(!folio_test_locked@p(dst), dst);
+
+ if (!mapping && folio_in_custody(src))
+ return -EBUSY;
  ...
  }
