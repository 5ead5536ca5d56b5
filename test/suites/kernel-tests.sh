#!/bin/sh
# Build Linux' self-tests for x86, in their directory: what their makefile does,
# which wants the whole of the kernel's tree.
#
# Not built: amx, for processors with AMX, of which there is none here.
set -eu

both='check_initial_reg_state fsgsbase_restore ioperm iopl ldt_gdt mov_ss_trap
    ptrace_syscall sigaltstack sigreturn sigtrap_loop single_step_syscall
    syscall_arg_fault syscall_nt sysret_ss_attrs test_mremap_vdso test_vsyscall'
only32='entry_from_vm86 test_FCMOV test_FCOMI test_FISTTP test_syscall_vdso
    unwind_vdso vdso_restorer'
only64='corrupt_xstate_header fsgsbase syscall_numbering sysret_rip'

# build BITS TEST
build() {
	also=
	case $2-$1 in
	check_initial_reg_state-*) also='-Wl,-ereal_start -static' ;;
	ptrace_syscall-32) also=raw_syscall_helper_32.S ;;
	sysret_ss_attrs-64) also=thunks.S ;;
	test_syscall_vdso-32) also=thunks_32.S ;;
	esac
	# shellcheck disable=SC2086 # one word an argument
	gcc -m"$1" -o "$2_$1" -O2 -std=gnu99 -pthread -no-pie -DCAN_BUILD_32 \
	    -DCAN_BUILD_64 -w "$2.c" $also -lrt -ldl -lm
}

for test in $both $only32; do
	build 32 "$test"
done
for test in $both $only64; do
	build 64 "$test"
done
