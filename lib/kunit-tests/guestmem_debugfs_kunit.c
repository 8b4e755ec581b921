// SPDX-License-Identifier: GPL-2.0-only
/*
 * What debugfs says of a file
 */
#include <linux/dcache.h>
#include <linux/debugfs.h>
#include <linux/file.h>
#include <linux/mm.h>
#include <linux/mount.h>
#include <linux/pagemap.h>
#include <linux/seq_file.h>
#include <linux/sizes.h>
#include <linux/uio.h>

#include "guestmem_test_lib.h"

/* Less than what is shown of a file of many folios, so that it comes in parts. */
#define PART	128
#define TEXT	SZ_16K

static struct vfsmount *debugfs_mnt;

static int debugfs_suite_init(struct kunit_suite *suite)
{
	struct file_system_type *type = get_fs_type("debugfs");

	if (!type)
		return -ENODEV;

	debugfs_mnt = kern_mount(type);
	if (IS_ERR(debugfs_mnt))
		return PTR_ERR(debugfs_mnt);

	return gmt_suite_init(suite);
}

static void debugfs_suite_exit(struct kunit_suite *suite)
{
	gmt_suite_exit(suite);
	if (!IS_ERR_OR_NULL(debugfs_mnt))
		kern_unmount(debugfs_mnt);
}

static int debugfs_init(struct kunit *test)
{
	int err = gmt_init_file(test);

	if (err)
		return err;

	gmt(test)->data = kunit_kzalloc(test, TEXT, GFP_KERNEL);
	return gmt(test)->data ? 0 : -ENOMEM;
}

static struct file *open_file(struct kunit *test, const char *name)
{
	struct path path = { .mnt = debugfs_mnt };
	struct file *file;

	path.dentry = debugfs_lookup(name, gmt(test)->gi->debugfs);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, path.dentry);
	file = dentry_open(&path, O_RDONLY, current_cred());
	dput(path.dentry);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, file);
	return file;
}

/* Not by the file's own read(): that wants a user's buffer. */
static ssize_t read_part(struct file *file, loff_t *pos, char *text, size_t len)
{
	struct kvec part = { .iov_base = text, .iov_len = len };
	struct iov_iter iter;
	struct kiocb iocb;
	ssize_t n;

	init_sync_kiocb(&iocb, file);
	iocb.ki_pos = *pos;
	iov_iter_kvec(&iter, ITER_DEST, &part, 1, len);
	n = seq_read_iter(&iocb, &iter);
	*pos = iocb.ki_pos;
	return n;
}

/* All of a file, as a reader with a small buffer gets it. */
static const char *read_file(struct kunit *test, const char *name)
{
	struct file *file = open_file(test, name);
	char *text = gmt(test)->data;
	loff_t pos = 0;
	ssize_t n;

	memset(text, 0, TEXT);
	do {
		n = read_part(file, &pos, text + pos, min(PART, TEXT - 1 - pos));
	} while (n > 0);
	__fput_sync(file);
	KUNIT_EXPECT_EQ(test, n, 0);
	return text;
}

static void expect_text(struct kunit *test, const char *name, const char *want)
{
	KUNIT_EXPECT_STREQ_MSG(test, read_file(test, name), want, "%s", name);
}

static char *new_text(struct kunit *test)
{
	char *text = kunit_kzalloc(test, TEXT, GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, text);
	return text;
}

/* Page by page from what the page cache has. */
static void pfns_lists_every_folio(struct kunit *test)
{
	struct address_space *mapping = gmt(test)->gi->mapping;
	pgoff_t unit = gmt_folio_pages(test);
	char *want = new_text(test);
	int n = 0;

	expect_text(test, "pfns", "");
	gmt_allocate_all(test);
	KUNIT_ASSERT_EQ(test, gmt_punch(test, unit, 2 * unit), 0);
	for (pgoff_t index = 0; index < gmt_pages_rounded(test); index += unit)
		if (index != unit)
			n += scnprintf(want + n, TEXT - n, "%lu %u 0x%lx\n", index,
				       gmt(test)->allocator->folio_order,
				       folio_pfn(xa_load(&mapping->i_pages, index)));
	expect_text(test, "pfns", want);
}

/* Whoever reads in parts may find that what came next is gone. */
static void pfns_survives_a_hole(struct kunit *test)
{
	struct file *file;
	loff_t pos = 0;
	char text[8];

	gmt_allocate_all(test);
	file = open_file(test, "pfns");
	KUNIT_EXPECT_GT(test, read_part(file, &pos, text, sizeof(text)), 0);
	KUNIT_ASSERT_EQ(test, gmt_punch(test, 0, gmt(test)->allocator->pages), 0);
	while (read_part(file, &pos, text, sizeof(text)) > 0)
		KUNIT_ASSERT_LT_MSG(test, pos, TEXT, "no end");
	__fput_sync(file);
}

static void layout_counts_folios_by_order(struct kunit *test)
{
	char line[40];

	KUNIT_EXPECT_NULL(test, strstr(read_file(test, "layout"), "folios-order"));
	gmt_allocate_all(test);
	snprintf(line, sizeof(line), "folios-order-%u:\t%lu\n", gmt(test)->allocator->folio_order,
		 gmt_pages_rounded(test) / gmt_folio_pages(test));
	KUNIT_EXPECT_NOT_NULL(test, strstr(read_file(test, "layout"), line));
	KUNIT_EXPECT_NOT_NULL(test, strstr(read_file(test, "layout"),
					   gmt(test)->gi->ops->name));
}

static void layout_tells_the_state(struct kunit *test)
{
	KUNIT_EXPECT_NOT_NULL(test, strstr(read_file(test, "layout"), "state:\tprivate\n"));
	gmt_share_by(test, 0x10);
	KUNIT_EXPECT_NOT_NULL(test, strstr(read_file(test, "layout"), "state:\tmixed\n"));
	gmt_reopen_shared(test);
	KUNIT_EXPECT_NOT_NULL(test, strstr(read_file(test, "layout"), "state:\tshared\n"));
}

static bool is_private(struct kunit *test, pgoff_t index)
{
	return guestmem_is_private(gmt(test)->gi, index);
}

static void states_lists_every_run(struct kunit *test)
{
	static const u8 patterns[] = { 0x00, 0xff, 0x55, 0xf0, 0x7e };
	pgoff_t start, end, pages = gmt(test)->allocator->pages;
	char *want = new_text(test);

	for (int i = 0; i < ARRAY_SIZE(patterns); i++) {
		int n = 0;

		gmt_share_by(test, patterns[i]);
		for (start = 0; start < pages; start = end) {
			end = start + 1;
			while (end < pages && is_private(test, end) == is_private(test, start))
				end++;
			n += scnprintf(want + n, TEXT - n, "%lu %lu %s\n", start, end,
				       is_private(test, start) ? "private" : "shared");
		}
		expect_text(test, "states", want);
	}
}

static void directory_goes_with_its_file(struct kunit *test)
{
	struct dentry *root = dget_parent(gmt(test)->gi->debugfs);
	struct dentry *dentry;
	char name[24];

	snprintf(name, sizeof(name), "%llu", (u64)gmt(test)->gi->mapping->host->i_ino);
	dentry = debugfs_lookup(name, root);
	KUNIT_EXPECT_PTR_EQ(test, dentry, gmt(test)->gi->debugfs);
	dput(dentry);

	gmt_close(test);
	KUNIT_EXPECT_NULL(test, debugfs_lookup(name, root));
	dput(root);
}

static struct kunit_case debugfs_cases[] = {
	KUNIT_CASE_PARAM(pfns_lists_every_folio, gmt_whole_gen_params),
	KUNIT_CASE_PARAM(pfns_survives_a_hole, gmt_whole_gen_params),
	KUNIT_CASE_PARAM(layout_counts_folios_by_order, gmt_whole_gen_params),
	KUNIT_CASE_PARAM(layout_tells_the_state, gmt_all_gen_params),
	KUNIT_CASE_PARAM(states_lists_every_run, gmt_all_gen_params),
	KUNIT_CASE_PARAM(directory_goes_with_its_file, gmt_whole_gen_params),
	{}
};

static struct kunit_suite debugfs_suite = {
	.name = "guestmem_debugfs",
	.suite_init = debugfs_suite_init,
	.suite_exit = debugfs_suite_exit,
	.init = debugfs_init,
	.exit = gmt_exit,
	.test_cases = debugfs_cases,
};

kunit_test_suite(debugfs_suite);
