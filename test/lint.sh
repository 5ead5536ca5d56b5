#!/bin/sh
# What static analysis has to say, for a person to weigh: cppcheck, clang-tidy,
# gcc -fanalyzer, mandoc and clang-format, those that are installed.
set -u
cd "$(dirname "$0")/.." || exit 1

test/build.sh clang || exit 1

have() {
	command -v "$1" >/dev/null || { echo "== $1: not installed"; false; }
}
files() {
	git ls-files "$@"
}

if have clang-format; then
	echo "== clang-format"
	files '*.c' '*.h' | xargs clang-format --dry-run 2>&1 |
	    grep -c 'code should be clang-formatted' |
	    sed 's/$/ places differ from .clang-format/'
fi
if have mandoc; then
	echo "== mandoc"
	files 'man/*.[1-9]' | xargs mandoc -Tlint
fi
if have cppcheck; then
	echo "== cppcheck"
	cppcheck -q -j "$(nproc)" --std=c11 --inline-suppr \
	    --enable=warning,performance,portability \
	    --project=build/clang/compile_commands.json
fi
if have clang-tidy; then
	echo "== clang-tidy"
	checks='-*,bugprone-*,clang-analyzer-*'
	checks="$checks,-bugprone-easily-swappable-parameters"
	checks="$checks,-clang-analyzer-security.insecureAPI.*"
	files 'src/*.c' | xargs -n 4 -P "$(nproc)" clang-tidy -quiet \
	    -p build/clang -checks="$checks" 2>/dev/null
fi
echo "== gcc -fanalyzer"
for file in $(files 'src/*.c'); do
	gcc -std=gnu17 -D_GNU_SOURCE -O2 -fanalyzer -Isrc -I. -c -o /dev/null \
	    "$file"
done
