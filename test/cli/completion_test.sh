#!/bin/bash
# What bash offers after a beginning of a command line: usage, SCRIPT BHYVE.
# Prints TAP.
set -u
script=$1
bhyve=$2
# shellcheck source=completion/bhyve.bash
source "$script"
count=0
failed=0

# There is no completion going on that its options could be set of.
# shellcheck disable=SC2317 # the script calls it
compopt()
{
	:
}

# try EXPECTED WORD...: the last word is the one to complete.
try()
{
	local expected=$1 verdict=ok

	shift
	COMP_WORDS=("$bhyve" "$@")
	COMP_CWORD=$#
	COMPREPLY=()
	_bhyve
	count=$((count + 1))
	if [ "${COMPREPLY[*]}" != "$expected" ]; then
		verdict='not ok'
		failed=1
	fi
	echo "$verdict $count - $*"
	[ "$verdict" = ok ] || echo "# ${COMPREPLY[*]}, not $expected"
}

try 'com1, com2, com3, com4,' -l c
try 'com2,stdio com2,socket,' -l com2,s
try '31:1,lpc' -s 31:1,l
try 'boot.modules=' -c 2 -o boot.m
try "$script" -k "${script%.bash}"
try '-Y' -H -Y
try '' -m 4
try '' vm
echo "1..$count"
exit $failed
