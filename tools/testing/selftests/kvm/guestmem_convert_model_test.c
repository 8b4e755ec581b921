// SPDX-License-Identifier: GPL-2.0-only
/*
 * Random operations on a guest_memfd of single pages, compared with a model.
 */
#include "guestmem_model.h"

#define NR_PAGES	24
#define NR_STEPS	500000
#define FULL_CHECK	256

static int open_small_file(struct model *m, bool shared)
{
	return vm_create_guest_memfd(m->bed.vm, m->bed.size,
				     GUEST_MEMFD_FLAG_MMAP | (shared ? GUESTMEM_SHARED : 0));
}

/* Short ranges leave holes and borders behind, long ones sweep them away. */
static void draw_range(struct model *m)
{
	m->first = random_below(NR_PAGES);
	m->nr = 1 + random_below(random_below(8) ? 4 : NR_PAGES);
	m->nr = min(m->nr, NR_PAGES - m->first);
}

/* A file that is bound to a slot costs the most by far. */
static const struct model_kind small_pages = {
	.name = "4K pages",
	.nr_pages = NR_PAGES,
	.block = 1,
	.starts_shared = true,
	.weights = {
		[OP_ALLOCATE]	 = 50,
		[OP_TO_PRIVATE]	 = 60,
		[OP_TO_SHARED]	 = 70,
		[OP_PUNCH]	 = 30,
		[OP_HOST_READ]	 = 50,
		[OP_HOST_WRITE]	 = 60,
		[OP_GUEST_READ]	 = 50,
		[OP_GUEST_WRITE] = 60,
		[OP_PIN]	 = 30,
		[OP_UNPIN]	 = 40,
		[OP_REOPEN]	 = 1,
	},
	.open = open_small_file,
	.draw = draw_range,
};

int main(int argc, char *argv[])
{
	struct model m = {
		.kind = &small_pages,
		.gpa = GUESTMEM_GPA,
		.slot = GUESTMEM_SLOT,
	};
	struct model_options options;
	u64 step;

	require_convert();

	options = model_options(argc, argv, part_of(NR_STEPS));
	m.bed.vm = create_vm_for(KVM_X86_SW_PROTECTED_VM, SZ_1M, guest_tags, &m.bed.vcpu);
	virt_map(m.bed.vm, GUESTMEM_GPA, GUESTMEM_GPA, NR_PAGES);
	start_model(&m);
	for (step = 0; step < options.steps; step++) {
		do_step(&m, step);
		check_states(&m);
		if (!(step % FULL_CHECK))
			check_contents(&m);
	}
	print_histogram(&m);
	expect_floors(&m);
	end_model(&m);
	kvm_vm_free(m.bed.vm);
	return 0;
}
