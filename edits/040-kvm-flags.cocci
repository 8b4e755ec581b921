// Creation flags that select an allocator are advertised and accepted as soon as the allocator
// is registered: KVM adds the registered ones to its own.
//
// Matches: the return at the end of the function that knows KVM's own flags.
//
// file: include/linux/kvm_host.h
// expect: 1

@ flags @
typedef u64;
identifier kvm, known;
position p;
@@
  u64 kvm_gmem_get_supported_flags(struct kvm *kvm)
  {
  ...
+ known |= guestmem_selectors();
  return@p known;
  }
