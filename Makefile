# The front door: each target is a script or a tool under a short name.  What
# they make is in build/.

all:
	test/packages.sh
	test/build.sh gcc

demo:
	test/demo/demo.sh

check:
	test/check.sh

check-long:
	test/long.sh

bench:
	bench/bench.sh

fuzz:
	test/fuzz/fuzz.sh

lint:
	test/lint.sh

format:
	git ls-files '*.c' '*.h' | xargs clang-format -i

install: all
	meson install -C build/gcc

.PHONY: all demo check check-long bench fuzz lint format install
