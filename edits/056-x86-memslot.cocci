// Huge pages of a slot that guest_memfd alone serves depend on where it lies in the file: the
// address in user space has no part in its mappings.
//
// Matches: the one place that compares the address with the guest's.
//
// file: arch/x86/kvm/x86.c
// expect: 1

@ memslot @
expression slot;
identifier ugfn;
position p;
@@
  int kvm_alloc_memslot_metadata(...)
  {
  <...
- ugfn = slot->userspace_addr@p >> PAGE_SHIFT;
+ ugfn = kvm_memslot_backing_page(slot);
  ...>
  }
