// The size of a file's pages is a field, carved from the first reserved word, and not a set of
// flag bits.
//
// Matches: the reserved words of the structure.
//
// file: include/uapi/linux/kvm.h
// expect: 1

@ page_size @
typedef __u64, __u8;
position p;
@@
  struct kvm_create_guest_memfd@p {
  	...
- 	__u64 reserved[6];
+ 	__u8 page_size_log2;
+ 	__u8 padding[7];
+ 	__u64 reserved[5];
  };
