/*
 * The native runner's signal handler: between code under test, whose FS and GS
 * bases and flags may be anything, and C.
 *
 * The kernel has saved general registers, flags and vector state in the frame
 * and left the other segments alone.  C wants its own FS base (thread-local
 * storage, the stack protector), and AC, NT and ID as they were.
 */
	.text
	.globl	native_entry
	.type	native_entry, @function
native_entry:
	pushq	$2
	popfq
	rdfsbase %rax
	rdgsbase %rcx
	movq	%rax, native_fs_base(%rip)
	movq	%rcx, native_gs_base(%rip)
	movq	native_own_fs_base(%rip), %rax
	xorl	%ecx, %ecx
	wrfsbase %rax
	wrgsbase %rcx
	subq	$8, %rsp
	call	native_trap
	addq	$8, %rsp
	movq	native_fs_base(%rip), %rax
	movq	native_gs_base(%rip), %rcx
	wrfsbase %rax
	wrgsbase %rcx
	movl	native_data_sel(%rip), %eax
	movl	%eax, %ds
	movl	%eax, %es
	ret
	.size	native_entry, . - native_entry
	.section .note.GNU-stack, "", @progbits
