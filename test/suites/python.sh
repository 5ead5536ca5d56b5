#!/bin/sh
# Python's test suite, what the processor and its kernel matter to.
set -u

tests='test_array test_bytes test_cmath test_complex test_ctypes test_decimal
    test_dict test_exceptions test_float test_fractions test_generators
    test_hashlib test_int test_json test_long test_lzma test_bz2 test_math
    test_memoryview test_mmap test_pickle test_queue test_random test_re
    test_set test_statistics test_struct test_thread test_threading
    test_zlib'
[ "${MINUTES%.*}" -ge 1 ] || tests='test_cmath test_complex test_ctypes
    test_float test_hashlib test_struct test_thread'
for test in $tests; do
	python3 -m test --timeout 600 "$test" >said 2>&1
	status=$?
	echo "$test $status"
	if [ $status != 0 ]; then
		cat said >&2
		failed=1
	fi
done
exit "${failed:-0}"
