// With gmem_in_place_conversion on, a VM has no attributes of its own: nothing is reported as
// supported, and the ioctl on the VM is no ioctl.
//
// Matches: the function that knows what is supported, and the one behind the ioctl.
//
// file: virt/kvm/kvm_main.c
// expect: 2

@ supported @
typedef u64;
identifier kvm;
position p;
statement S;
@@
  u64 kvm_supported_mem_attributes@p(struct kvm *kvm)
  {
+ if (gmem_in_place_conversion)
+ 	return 0;
  S
  ...
  }

@ set @
identifier kvm, attrs;
declaration D;
position p;
@@
  int kvm_vm_ioctl_set_mem_attributes@p(struct kvm *kvm, struct kvm_memory_attributes *attrs)
  {
  D
+
+ if (gmem_in_place_conversion)
+ 	return -ENOTTY;
  ...
  }
