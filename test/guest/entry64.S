/*
 * The start of a payload in 64-bit C: from Multiboot's 32-bit protected mode
 * into long mode, the first 8 GiB mapped to themselves in pages of 2 MiB.  And
 * the trampoline on which other vCPUs start.
 */
	.intel_syntax noprefix
	.section .multiboot, "a"
	.balign 4
	.long 0x1badb002, 0, -0x1badb002

/* From 32-bit protected mode to 64-bit code at `to`.  Uses EAX, ECX, EDX. */
.macro TO_LONG to
	mov	eax, 0x20		/* CR4.PAE */
	mov	cr4, eax
	mov	eax, offset pml4
	mov	cr3, eax
	mov	ecx, 0xc0000080		/* EFER: LME, NXE, SCE */
	rdmsr
	or	eax, 0x901
	wrmsr
	mov	eax, cr0
	or	eax, 0x80010001		/* PG, WP, PE */
	mov	cr0, eax
	lgdt	[gdt_pointer]
	ljmp	0x08, offset \to
.endm
.macro SEGMENTS
	mov	ecx, 0x10
	mov	ds, ecx
	mov	es, ecx
	mov	ss, ecx
	xor	ecx, ecx
	mov	fs, ecx
	mov	gs, ecx
	lidt	[idt_pointer]
.endm

	.text
	.code32
	.globl _start
_start:
	mov	[boot_info], ebx
	mov	eax, offset pdpt + 3
	mov	[pml4], eax
	mov	eax, offset pds + 3
	mov	edi, offset pdpt
	mov	ecx, 8
1:	mov	[edi], eax
	add	eax, 4096
	add	edi, 8
	loop	1b

	mov	edi, offset pds
	mov	eax, 0x83
	xor	edx, edx
	mov	ecx, 8 * 512
1:	mov	[edi], eax
	mov	[edi + 4], edx
	add	edi, 8
	add	eax, 0x200000
	adc	edx, 0
	loop	1b

	TO_LONG	2f
	.code64
2:	SEGMENTS
	mov	esp, offset stacks + 4096
	call	payload
	call	done

/*
 * An AP starts here in real mode, on the page that its SIPI names.  Each takes
 * the next stack and calls ap_main(number), numbers from 1.
 */
	.globl ap_start, ap_end
	.code16
ap_start:
	cli
	lgdtd	cs:[ap_gdt_pointer - ap_start]
	mov	eax, cr0
	or	al, 1
	mov	cr0, eax
	ljmpd	0x30, offset ap_protected
	.balign 4
ap_gdt_pointer:
	.word	gdt_end - gdt - 1
	.long	gdt
ap_end:
	.code32
ap_protected:
	mov	ecx, 0x10
	mov	ds, ecx
	TO_LONG	3f
	.code64
3:	SEGMENTS
	mov	edi, 1
	lock xadd [ap_count], edi
	inc	edi
	mov	esp, edi
	shl	esp, 12
	add	esp, offset stacks + 4096
	call	ap_main
	.weak	ap_main
ap_main:
	cli
	hlt
	jmp	ap_main

	.data
	.balign 8
	.globl	gdt
gdt:	.quad	0
	.quad	0x00af9b000000ffff	/* 0x08: code */
	.quad	0x00cf93000000ffff	/* 0x10: data */
	.quad	0x00cffb000000ffff	/* 0x18: ring 3 code, 32 bits */
	.quad	0x00cff3000000ffff	/* 0x20: ring 3 data */
	.quad	0x00affb000000ffff	/* 0x28: ring 3 code */
	.quad	0x00cf9b000000ffff	/* 0x30: code, 32 bits */
	.skip	25 * 8			/* 0x38: a payload's own */
gdt_end:
gdt_pointer:
	.word	gdt_end - gdt - 1
	.quad	gdt
idt_pointer:
	.word	256 * 16 - 1
	.quad	idt
	.globl	ap_count, boot_info
ap_count:
	.long	0
boot_info:
	.long	0

	.bss
	.balign 4096
	.globl	idt, pml4, pdpt, pds
idt:	.skip	256 * 16
pml4:	.skip	4096
pdpt:	.skip	4096
pds:	.skip	8 * 4096
stacks:	.skip	4096 * 33

	.section .note.GNU-stack, "", @progbits
