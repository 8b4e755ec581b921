# The compiler of a kernel build: $1, behind ccache where that is installed. Sourced.
# Two clones share what is cached: paths count from the top of the clone.
ccached() {
	if command -v ccache >/dev/null; then
		export CCACHE_BASEDIR="$top" CCACHE_NOHASHDIR=1
		# What a file includes, gcc says itself: without a run of the preprocessor first, which is a seventh of a
		# build that finds nothing in the cache.
		export CCACHE_DEPEND=1
		compiler="ccache $1"
	else
		compiler=$1
	fi
}
