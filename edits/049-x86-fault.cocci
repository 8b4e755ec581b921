// A fault of a guest may have to wait for a change of a page's state, and is stale then, since it
// has looked at what was invalidated before. It may look again when the waiting is over. And the
// state of a page is not known while its memslot is on its way out: that is no reason to tell user
// space, the fault is made again.
//
// Matches: where a fault gets its page from guest_memfd, and where it asks for the page's state.
//
// file: arch/x86/kvm/mmu/mmu.c
// expect: 2

@ restart @
expression V, F, G, P, R, O;
position p;
@@
- kvm_gmem_get_pfn@p(V, F->slot, G, P, R, O)
+ kvm_gmem_fault_pfn(V, F->slot, G, P, R, O, F->is_private, &F->mmu_seq)

@ leaving @
expression F, K;
position p;
@@
- if (F->is_private !=@p kvm_mem_is_private(K, F->gfn))
+ if (kvm_mem_state_differs(K, F->slot, F->gfn, F->is_private))
  {
  ...
  }
