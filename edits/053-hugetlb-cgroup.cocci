// A cgroup that goes moves what is charged to it to its parent, and looks on HugeTLB's list for it
// until nothing is left, with cgroup_mutex held. A page of guest_memfd that is in pieces is not on
// that list.
//
// Matches: the definition that mm/internal.h declares; the walk of the list.
//
// file: mm/hugetlb_cgroup.c
// expect: 2

@ unstatic @
identifier idx, h_cg, folio;
position p;
@@
- static void hugetlb_cgroup_move_parent@p(int idx, struct hugetlb_cgroup *h_cg, struct folio *folio)
+ void hugetlb_cgroup_move_parent(int idx, struct hugetlb_cgroup *h_cg, struct folio *folio)
  { ... }

@ pieces @
identifier h, h_cg;
iterator list_for_each_entry;
statement S;
position p;
@@
  void hugetlb_cgroup_css_offline(...)
  {
  <...
  spin_lock_irq(&hugetlb_lock);
+ guestmem_hugetlb_reparent(h, h_cg);
  list_for_each_entry(folio, &h->hugepage_activelist, lru) hugetlb_cgroup_move_parent@p(hstate_index(h), h_cg, folio);
  ...>
  }
