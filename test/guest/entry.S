/*
 * The start of a payload in 32-bit C: Multiboot 1's flat protected mode, with
 * tables of our own, no paging, interrupts off.
 */
	.intel_syntax noprefix
	.section .multiboot, "a"
	.balign 4
	.long 0x1badb002, 0, -0x1badb002

	.text
	.code32
	.globl _start
_start:
	mov	esp, offset stack_top
	lgdt	[gdt_pointer]
	ljmp	0x08, offset 1f
1:	mov	ecx, 0x10
	mov	ds, ecx
	mov	es, ecx
	mov	fs, ecx
	mov	gs, ecx
	mov	ss, ecx
	lidt	[idt_pointer]
	call	payload
	call	done

	.data
	.balign 8
	.globl gdt
gdt:	.quad	0
	.quad	0x00cf9b000000ffff	/* 0x08: code, flat */
	.quad	0x00cf93000000ffff	/* 0x10: data, flat */
	.quad	0x00cffb000000ffff	/* 0x18: ring 3 code */
	.quad	0x00cff3000000ffff	/* 0x20: ring 3 data */
	.skip	27 * 8			/* 0x28: a payload's own */
gdt_end:
gdt_pointer:
	.word	gdt_end - gdt - 1
	.long	gdt
idt_pointer:
	.word	256 * 8 - 1
	.long	idt

	.bss
	.balign 4096
	.globl idt
idt:	.skip	256 * 8
	.skip	16384
stack_top:

	.section .note.GNU-stack, "", @progbits
