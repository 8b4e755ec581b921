// Creation flags that select an allocator are advertised and accepted as soon as the allocator
// is registered: KVM adds the registered ones to its own.  And a file that holds the attributes
// itself can start shared in a VM that has private memory.
//
// Matches: the condition of INIT_SHARED, and the return at the end, of the function that knows
// KVM's own flags.
//
// file: include/linux/kvm_host.h
// expect: 2

@ init_shared @
identifier kvm;
position p;
@@
- !kvm || kvm_arch_supports_gmem_init_shared@p(kvm)
+ !kvm || gmem_in_place_conversion || kvm_arch_supports_gmem_init_shared(kvm)

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
