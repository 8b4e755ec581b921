# The front door. `make help` lists the targets.
.PHONY: help demo test stress matrix check coverage guards bench series apply overlay-test clean
MAKEFLAGS += --no-print-directory

help:
	@echo 'make demo          boot the kernel in QEMU and run a KVM guest on guest_memfd memory'
	@echo '                   ALLOCATOR=hugetlb-1g (default), hugetlb-2m or page4k'
	@echo 'make test          all tests on one debug kernel and on UML'
	@echo 'make stress        what takes too long for that: random operations in full, KUnit without HVO'
	@echo 'make matrix        the other configurations, compilers and architectures'
	@echo 'make check         the inner loop: KUnit on UML, and style'
	@echo 'make coverage      which lines of mm/guestmem the suites on UML reach'
	@echo 'make guards        each guard taken out in turn, and the test that fails without it'
	@echo 'make bench         instructions per page, against the unmodified base tree'
	@echo 'make overlay-test  fetching, laying and configuring, on small made-up trees'
	@echo 'make series        the result as patches on the base tree, in build/series'
	@echo 'make apply         the kernel tree to build, in build/linux'
	@echo 'make clean         take away what was built; the base tree stays'
	@echo
	@echo 'LINUX=/path/to/tree or KERNEL_TARBALL=/path/to.tar.xz: build on that in place of the pinned package'

apply:
	@harness/packages.sh
	@harness/fetch.sh
	@harness/apply.py

demo: apply
	@harness/demo.sh

test: apply
	@harness/test.sh

stress: apply
	@harness/test.sh stress

matrix: apply
	@harness/packages.sh matrix
	@harness/matrix.sh

check: apply
	@harness/check.sh

coverage: apply
	@harness/coverage.sh

guards: apply
	@python3 -B harness/test-guards.py
	@harness/guards.py

bench: apply
	@bench/run.sh

series: apply
	@harness/series.py --check

overlay-test:
	@harness/packages.sh
	@harness/test-overlay.sh

clean:
	@[ ! -d build ] || find build -mindepth 1 -maxdepth 1 ! -name base ! -name base.stamp ! -name '*.tar.xz' -exec rm -rf {} +
