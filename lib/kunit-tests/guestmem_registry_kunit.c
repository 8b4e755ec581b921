// SPDX-License-Identifier: GPL-2.0-only
/*
 * Who may be registered, and who serves which selector
 */
#include <linux/module.h>
#include <linux/string.h>

#include "guestmem_test_lib.h"

/* Bits that no test registers for longer than itself. */
#define FREE_SELECTOR	BIT_ULL(28)
#define FREE_SELECTOR2	BIT_ULL(27)

/* The mock allocator with another selector; outlives the test that breaks it. */
static struct guestmem_allocator_operations candidate;

static int registry_init(struct kunit *test)
{
	int err = gmt_init(test);

	candidate = *mock_ops();
	candidate.name = "candidate";
	candidate.selector = FREE_SELECTOR;
	return err;
}

/* Whatever was refused must not be found afterwards. */
static void expect_refused(struct kunit *test, int want)
{
	u64 before = guestmem_selectors();
	int err;

	err = guestmem_register(&candidate);
	KUNIT_EXPECT_EQ(test, err, want);
	KUNIT_EXPECT_EQ(test, guestmem_selectors(), before);
	if (!err)
		guestmem_unregister(&candidate);
}

static void expect_no_allocator(struct kunit *test, u64 selector)
{
	const struct guestmem_inode_args args = {
		.selector = selector,
		.size = PAGE_SIZE,
	};
	struct guestmem_inode *gi = mock_open(&args);

	KUNIT_EXPECT_EQ_MSG(test, PTR_ERR_OR_ZERO(gi), -EINVAL, "selector %#llx", selector);
	if (!IS_ERR(gi))
		mock_close(gi);
}

static void registers_and_unregisters(struct kunit *test)
{
	u64 before = guestmem_selectors();

	KUNIT_ASSERT_EQ(test, guestmem_register(&candidate), 0);
	KUNIT_EXPECT_EQ(test, guestmem_selectors(), before | FREE_SELECTOR);

	guestmem_unregister(&candidate);
	KUNIT_EXPECT_EQ(test, guestmem_selectors(), before);
	expect_no_allocator(test, FREE_SELECTOR);

	/* And the bit is free again. */
	KUNIT_ASSERT_EQ(test, guestmem_register(&candidate), 0);
	guestmem_unregister(&candidate);
}

struct op_member {
	const char *name;
	size_t offset;
};

#define OP(_name) { #_name, offsetof(struct guestmem_allocator_operations, _name) }

static const struct op_member required[] = {
	OP(name),
	OP(inode_setup), OP(inode_teardown),
	OP(alloc_folio), OP(free_folio), OP(map_order),
	OP(change_prepare), OP(change_freeze), OP(change_commit), OP(change_cancel),
	OP(truncate), OP(error_folio),
};

KUNIT_ARRAY_PARAM_DESC(required, required, name);

static void refuses_missing_op(struct kunit *test)
{
	const struct op_member *op = test->param_value;

	memset((void *)&candidate + op->offset, 0, sizeof(void *));
	expect_refused(test, -EINVAL);
	expect_no_allocator(test, FREE_SELECTOR);
}

/* A new op that nobody looks for would go unnoticed until it is called. */
static void every_op_is_required(struct kunit *test)
{
	size_t first = offsetof(struct guestmem_allocator_operations, inode_setup);

	KUNIT_EXPECT_EQ(test, ARRAY_SIZE(required),
			(sizeof(candidate) - first) / sizeof(void *) + 1);
}

static const struct selector_case {
	const char *name;
	u64 selector;
} bad_selectors[] = {
	{ "bit 0", BIT_ULL(0) },
	{ "bit 1", BIT_ULL(1) },
	{ "bit 2", BIT_ULL(2) },
	{ "bit 31", BIT_ULL(31) },
	{ "bit 32", BIT_ULL(32) },
	{ "bit 63", BIT_ULL(63) },
	{ "two bits", FREE_SELECTOR | FREE_SELECTOR2 },
	{ "a good and a bad bit", FREE_SELECTOR | BIT_ULL(2) },
	{ "a good and a high bit", FREE_SELECTOR | BIT_ULL(40) },
	{ "all bits", GUESTMEM_SELECTOR_MASK },
};

KUNIT_ARRAY_PARAM_DESC(bad_selectors, bad_selectors, name);

static void refuses_bad_selector(struct kunit *test)
{
	const struct selector_case *bad = test->param_value;

	candidate.selector = bad->selector;
	expect_refused(test, -ERANGE);
	expect_no_allocator(test, bad->selector);
}

static void accepts_selectors_at_both_ends(struct kunit *test)
{
	static const int bits[] = { GUESTMEM_SELECTOR_FIRST, GUESTMEM_SELECTOR_LAST };

	for (int i = 0; i < ARRAY_SIZE(bits); i++) {
		candidate.selector = BIT_ULL(bits[i]);
		/* Taken is as good as accepted. */
		if (guestmem_selectors() & candidate.selector) {
			expect_refused(test, -EEXIST);
			continue;
		}
		KUNIT_EXPECT_EQ(test, guestmem_register(&candidate), 0);
		KUNIT_EXPECT_TRUE(test, guestmem_selectors() & candidate.selector);
		guestmem_unregister(&candidate);
	}
}

static const struct geometry_case {
	const char *name;
	struct guestmem_geometry geo;
} bad_geometries[] = {
	{ "block above the limit", { .block_order = GUESTMEM_MAX_ORDER + 1 } },
	{ "block of 255", { .block_order = 255 } },
	{ "punch above block", { .block_order = 3, .punch_order = 4 } },
	{ "map above block", { .block_order = 3, .max_map_order = 4 } },
	{ "punch above page", { .punch_order = 1 } },
	{ "map above page", { .max_map_order = 1 } },
	{ "unknown way to insert", { .insert = GUESTMEM_INSERT_CHARGED + 1 } },
};

KUNIT_ARRAY_PARAM_DESC(bad_geometries, bad_geometries, name);

static void refuses_bad_geometry(struct kunit *test)
{
	const struct geometry_case *bad = test->param_value;

	candidate.geo = bad->geo;
	expect_refused(test, -EDOM);
	expect_no_allocator(test, FREE_SELECTOR);
}

static void accepts_largest_geometry(struct kunit *test)
{
	candidate.geo.block_order = GUESTMEM_MAX_ORDER;
	candidate.geo.punch_order = GUESTMEM_MAX_ORDER;
	candidate.geo.max_map_order = GUESTMEM_MAX_ORDER;
	KUNIT_ASSERT_EQ(test, guestmem_register(&candidate), 0);
	guestmem_unregister(&candidate);
}

static void refuses_taken_selector(struct kunit *test)
{
	candidate.selector = MOCK_SELECTOR;
	expect_refused(test, -EEXIST);
	/* The first one still serves it. */
	KUNIT_EXPECT_TRUE(test, guestmem_selectors() & MOCK_SELECTOR);
}

static void refuses_second_default(struct kunit *test)
{
	candidate.selector = 0;
	expect_refused(test, -EEXIST);
}

/* What is always there cannot be unloaded. */
static void refuses_default_from_a_module(struct kunit *test)
{
	/* Never looked into. */
	candidate.owner = (struct module *)test;
	candidate.selector = 0;
	expect_refused(test, -ERANGE);
}

static void refuses_double_registration(struct kunit *test)
{
	KUNIT_ASSERT_EQ(test, guestmem_register(&candidate), 0);
	expect_refused(test, -EEXIST);

	/* One registration, so one unregistration ends it. */
	guestmem_unregister(&candidate);
	KUNIT_EXPECT_FALSE(test, guestmem_selectors() & FREE_SELECTOR);
}

static void unknown_selectors_have_no_allocator(struct kunit *test)
{
	expect_no_allocator(test, FREE_SELECTOR);
	expect_no_allocator(test, MOCK_SELECTOR | MOCK_SELECTOR_CHARGED);
	expect_no_allocator(test, MOCK_SELECTOR | BIT_ULL(0));
	expect_no_allocator(test, BIT_ULL(63));
}

/* A module that forgets its files must not take their ops away from them. */
static void keeps_allocator_in_use(struct kunit *test)
{
	const struct guestmem_inode_args args = {
		.selector = FREE_SELECTOR,
		.size = PAGE_SIZE,
	};
	struct guestmem_inode *gi;

	KUNIT_ASSERT_EQ(test, guestmem_register(&candidate), 0);
	gi = mock_open(&args);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, gi);

	kunit_warning_suppress(test) {
		guestmem_unregister(&candidate);
		/* WARN_ON_ONCE: not on a second run. */
		KUNIT_EXPECT_LE(test, KUNIT_SUPPRESSED_WARNING_COUNT(), 1);
	}
	KUNIT_EXPECT_TRUE(test, guestmem_selectors() & FREE_SELECTOR);

	mock_close(gi);
	guestmem_unregister(&candidate);
	KUNIT_EXPECT_FALSE(test, guestmem_selectors() & FREE_SELECTOR);
}

static void ignores_unregistering_a_stranger(struct kunit *test)
{
	candidate.selector = MOCK_SELECTOR;
	kunit_warning_suppress(test)
		guestmem_unregister(&candidate);
	KUNIT_EXPECT_TRUE(test, guestmem_selectors() & MOCK_SELECTOR);

	candidate.selector = BIT_ULL(63);
	kunit_warning_suppress(test)
		guestmem_unregister(&candidate);
}

/* A refused file must not count as a user. */
static void failed_setup_lets_go(struct kunit *test)
{
	const struct guestmem_inode_args args = {
		.selector = FREE_SELECTOR,
		.unit_log2 = 63,
		.size = PAGE_SIZE,
	};
	struct guestmem_inode *gi;

	KUNIT_ASSERT_EQ(test, guestmem_register(&candidate), 0);
	gi = mock_open(&args);
	KUNIT_EXPECT_EQ(test, PTR_ERR_OR_ZERO(gi), -EINVAL);

	guestmem_unregister(&candidate);
	KUNIT_EXPECT_FALSE(test, guestmem_selectors() & FREE_SELECTOR);
}

/*
 * The module
 */

#ifdef CONFIG_MODULE_UNLOAD
/* No more than its state and its counter are looked at. */
static struct module *register_module(struct kunit *test)
{
	struct module *module = kunit_kzalloc(test, sizeof(*module), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, module);
	atomic_set(&module->refcnt, 1);
	candidate.owner = module;
	KUNIT_ASSERT_EQ(test, guestmem_register(&candidate), 0);
	return module;
}

static void every_file_pins_the_module(struct kunit *test)
{
	struct guestmem_inode_args args = { .selector = FREE_SELECTOR, .size = PAGE_SIZE };
	struct module *module = register_module(test);
	struct guestmem_inode *first, *second;

	first = mock_open(&args);
	second = mock_open(&args);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, first);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, second);
	KUNIT_EXPECT_EQ(test, module_refcount(module), 2);
	mock_close(second);
	KUNIT_EXPECT_EQ(test, module_refcount(module), 1);
	mock_close(first);

	/* Nor does a file that there never was. */
	args.unit_log2 = 63;
	KUNIT_EXPECT_TRUE(test, IS_ERR(mock_open(&args)));
	KUNIT_EXPECT_EQ(test, module_refcount(module), 0);
	guestmem_unregister(&candidate);
}

static void module_on_its_way_out_serves_nobody(struct kunit *test)
{
	struct module *module = register_module(test);

	module->state = MODULE_STATE_GOING;
	expect_no_allocator(test, FREE_SELECTOR);
	KUNIT_EXPECT_EQ(test, module_refcount(module), 0);
	guestmem_unregister(&candidate);
	KUNIT_EXPECT_FALSE(test, guestmem_selectors() & FREE_SELECTOR);
}
#else
static void every_file_pins_the_module(struct kunit *test)
{
	kunit_skip(test, "modules cannot be unloaded");
}

static void module_on_its_way_out_serves_nobody(struct kunit *test)
{
	kunit_skip(test, "modules cannot be unloaded");
}
#endif

static struct kunit_case registry_cases[] = {
	KUNIT_CASE(registers_and_unregisters),
	KUNIT_CASE_PARAM(refuses_missing_op, required_gen_params),
	KUNIT_CASE(every_op_is_required),
	KUNIT_CASE_PARAM(refuses_bad_selector, bad_selectors_gen_params),
	KUNIT_CASE(accepts_selectors_at_both_ends),
	KUNIT_CASE_PARAM(refuses_bad_geometry, bad_geometries_gen_params),
	KUNIT_CASE(accepts_largest_geometry),
	KUNIT_CASE(refuses_taken_selector),
	KUNIT_CASE(refuses_second_default),
	KUNIT_CASE(refuses_default_from_a_module),
	KUNIT_CASE(refuses_double_registration),
	KUNIT_CASE(unknown_selectors_have_no_allocator),
	KUNIT_CASE(keeps_allocator_in_use),
	KUNIT_CASE(ignores_unregistering_a_stranger),
	KUNIT_CASE(failed_setup_lets_go),
	KUNIT_CASE(every_file_pins_the_module),
	KUNIT_CASE(module_on_its_way_out_serves_nobody),
	{}
};

static struct kunit_suite registry_suite = {
	.name = "guestmem_registry",
	.suite_init = gmt_suite_init,
	.suite_exit = gmt_suite_exit,
	.init = registry_init,
	.exit = gmt_exit,
	.test_cases = registry_cases,
};

kunit_test_suite(registry_suite);
