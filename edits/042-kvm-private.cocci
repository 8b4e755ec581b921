// With gmem_in_place_conversion on, whether a page is private is the file's to say.
//
// Matches: the one test of the VM's attributes that decides how a guest's access is served.
//
// file: include/linux/kvm_host.h
// expect: 1

@ is_private @
typedef bool, gfn_t;
identifier kvm, gfn;
position p;
@@
  bool kvm_mem_is_private(struct kvm *kvm, gfn_t gfn)
  {
+ if (gmem_in_place_conversion)
+ 	return kvm_gmem_mem_is_private(kvm, gfn);
  return@p kvm_get_memory_attributes(kvm, gfn) & KVM_MEMORY_ATTRIBUTE_PRIVATE;
  }
