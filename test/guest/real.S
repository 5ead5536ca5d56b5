/*
 * Real mode from the reset vector: a ROM of 64 KiB that ends at 4 GiB.
 *
 * It looks at the state after power-on while still in the ROM, copies itself to
 * 0x10000 and goes on there.  The grammar of its lines is in guest.h.
 */
	.intel_syntax noprefix
	.code16

	.set	COM1, 0x3f8
	.set	STATE, 0x500		/* registers as they were at reset */
	.set	VARS, 0x600
	.set	caught, VARS		/* vector */
	.set	caught_ip, VARS + 2
	.set	caught_cs, VARS + 4
	.set	resume, VARS + 6
	.set	checks, VARS + 8
	.set	SCRATCH, 0x3000
	.set	STACK, 0x7000
	.set	RAM_SEGMENT, 0x1000

/* Pass if the condition holds; the label follows the call.  Uses CL. */
#define CHECK(cond, label) set##cond cl; call verdict; .asciz label
#define IS(got, want, label) cmp got, want; CHECK(e, label)
/* Run what follows; a fault notes its vector and goes on at "to". */
.macro TRY to
	mov	word ptr [resume], offset \to
	mov	word ptr [caught], 0xffff
.endm
.macro VECTOR number, handler
	mov	word ptr ds:[\number * 4], offset \handler
	mov	word ptr ds:[\number * 4 + 2], RAM_SEGMENT
.endm

	.section .rom, "ax"
power_on:
	mov	[STATE], eax
	mov	[STATE + 4], edx
	mov	[STATE + 8], esp
	mov	word ptr [STATE + 12], ds
	mov	word ptr [STATE + 14], ss
	mov	word ptr [STATE + 16], cs
	mov	eax, cr0
	mov	[STATE + 20], eax
	sidt	[STATE + 24]
	xor	ax, ax
	mov	ss, ax
	mov	sp, STACK
	pushfd
	pop	dword ptr [STATE + 32]
	mov	word ptr [checks], 0
	cld

	mov	si, offset first_line
	call	print
	IS(dword ptr [STATE], 0, "EAX is 0")
	mov	eax, [STATE + 4]
	shr	eax, 8
	and	eax, 15
	cmp	al, 5
	CHECK(ae, "EDX has a family")
	IS(word ptr [STATE + 12], 0, "DS is 0")
	IS(word ptr [STATE + 14], 0, "SS is 0")
	IS(word ptr [STATE + 16], 0xf000, "CS is f000")
	test	dword ptr [STATE + 20], 0x80000001
	CHECK(z, "CR0: no protection, no paging")
	IS(word ptr [STATE + 24], 0xffff, "IDTR limit is ffff")
	IS(dword ptr [STATE + 26], 0, "IDTR base is 0")
	mov	eax, [STATE + 32]
	and	eax, 0xffffffab		/* less what an XOR sets */
	IS(eax, 2, "flags are 2, and interrupts are off")
	mov	eax, dword ptr cs:[signature]
	mov	dword ptr cs:[signature], 0
	cmp	dword ptr cs:[signature], eax
	CHECK(e, "the ROM cannot be written")

	/* The rest runs from memory, where a far jump can reach. */
	mov	ax, RAM_SEGMENT
	mov	es, ax
	xor	si, si
	xor	di, di
	mov	cx, offset rom_end
	rep movs byte ptr es:[di], byte ptr cs:[si]
	ljmp	RAM_SEGMENT, offset in_memory

in_memory:
	mov	ax, cs
	IS(ax, RAM_SEGMENT, "a far jump loads CS")
	VECTOR	0, fault0
	VECTOR	3, fault3
	VECTOR	0x42, service

/* ---- segments and addresses --------------------------------------------- */
	mov	ax, 0xffff
	mov	es, ax
	mov	word ptr ds:[0x400], 0x1111
	mov	word ptr es:[0x410], 0x2222	/* 0x100400 with A20 */
	IS(word ptr ds:[0x400], 0x1111, "A20 is on")
	mov	ax, 0x0300
	mov	es, ax
	mov	word ptr es:[0], 0xbeef
	IS(word ptr ds:[0x3000], 0xbeef, "a segment is 16 times its number")
	mov	ebx, SCRATCH
	mov	ecx, 2
	mov	dword ptr [ebx + ecx * 4 + 0x10], 0x12345678
	IS(word ptr ds:[SCRATCH + 0x1a], 0x1234, "32-bit addressing")
	mov	si, 0xfff0
	mov	bx, SCRATCH + 0x20
	mov	byte ptr [bx + si + 0x10], 0x77
	IS(byte ptr ds:[SCRATCH + 0x20], 0x77, "16-bit addresses wrap")

/* ---- calls and interrupts ----------------------------------------------- */
	mov	bp, sp
	push	bp
	lcall	RAM_SEGMENT, offset far_routine
	IS(ax, 0x1234, "a far call")
	cmp	sp, bp
	CHECK(e, "RETF with a count")
	stc
	mov	ax, 5
	int	0x42
	CHECK(c, "INT keeps the flags")
	IS(ax, 10, "and calls its vector")
	cmp	sp, bp
	CHECK(e, "IRET leaves the stack as it was")
	TRY	1f
	xor	dx, dx
	xor	cx, cx
	mov	ax, 1
2:	div	cx
1:	IS(word ptr [caught], 0, "a division by 0 is vector 0")
	IS(word ptr [caught_ip], offset 2b, "and points at DIV")
	IS(word ptr [caught_cs], RAM_SEGMENT, "in its segment")
	TRY	1f
	int3
1:	IS(word ptr [caught], 3, "INT3 is vector 3")
	IS(word ptr [caught_ip], offset 1b, "and points behind it")

/* ---- stack and registers ------------------------------------------------ */
	mov	ax, 1
	mov	bx, 2
	mov	di, 7
	pusha
	mov	ax, 0
	mov	bx, 0
	mov	di, 0
	popa
	IS(ax, 1, "PUSHA and POPA: AX")
	IS(bx, 2, "BX")
	IS(di, 7, "DI")
	enter	8, 0
	mov	ax, bp
	sub	ax, sp
	leave
	IS(ax, 8, "ENTER and LEAVE")
	push	dword ptr 0x11223344
	pop	ax
	pop	dx
	IS(dx, 0x1122, "a 32-bit push")
	mov	dword ptr ds:[SCRATCH], 0x05556666
	les	di, ds:[SCRATCH]
	mov	ax, es
	IS(ax, 0x0555, "LES: segment")
	IS(di, 0x6666, "offset")
	mov	ah, 0xd5
	sahf
	lahf
	IS(ah, 0xd7, "SAHF and LAHF")
	mov	bx, SCRATCH
	mov	byte ptr [bx + 9], 0x99
	mov	al, 9
	xlatb
	IS(al, 0x99, "XLAT")
	mov	cx, 5
	xor	ax, ax
1:	inc	ax
	loop	1b
	IS(ax, 5, "LOOP")
	mov	eax, 0x10000
	mov	ecx, 0x10000
	mul	ecx
	IS(edx, 1, "32-bit products")

/* ---- strings and ports -------------------------------------------------- */
	xor	ax, ax
	mov	es, ax
	mov	di, SCRATCH
	mov	cx, 16
	mov	al, 0x5a
	rep stosb
	IS(di, SCRATCH + 16, "REP STOSB")
	mov	byte ptr ds:[SCRATCH + 6], 1
	mov	di, SCRATCH
	mov	cx, 16
	repe scasb
	IS(di, SCRATCH + 7, "REPE SCASB")
	std
	mov	si, SCRATCH + 15
	mov	di, SCRATCH + 31
	mov	cx, 16
	rep movsb
	cld
	IS(byte ptr ds:[SCRATCH + 22], 1, "downwards")
	mov	dx, 0x610
	mov	eax, 0xa1b2c3d4
	out	dx, eax
	mov	di, SCRATCH
	mov	cx, 2
	mov	dx, 0x611		/* the test device keeps what was written */
	rep insw
	IS(dword ptr ds:[SCRATCH], 0xb2c3b2c3, "REP INSW")

/* ---- interrupts from the 8259A ------------------------------------------ */
	VECTOR	13, irq5
	mov	al, 0x11
	out	0x20, al
	mov	al, 8
	out	0x21, al
	mov	al, 4
	out	0x21, al
	mov	al, 1
	out	0x21, al
	mov	al, 0xdf
	out	0x21, al
	mov	word ptr [caught], 0
	mov	dx, 0x5c8		/* the test device: one edge on line 5 */
	mov	eax, 5
	out	dx, eax
	nop
	IS(word ptr [caught], 0, "none while interrupts are off")
	sti
	mov	bx, 0xffff		/* some hosts look rarely */
1:	in	al, dx
	dec	bx
	jz	2f
	cmp	word ptr [caught], 0
	je	1b
2:	cli
	IS(word ptr [caught], 0x105, "an interrupt in real mode")
	mov	dx, 0x5d4		/* an alarm on line 5 in 10 ms */
	mov	eax, 5
	out	dx, eax
	mov	dx, 0x5d8
	mov	eax, 10000
	out	dx, eax
	mov	word ptr [caught], 0
	sti
	hlt
	cli
	IS(word ptr [caught], 0x105, "ends HLT")
	mov	al, 0xff
	out	0x21, al

/* ---- protected mode and back -------------------------------------------- */
	lgdt	cs:[gdt_pointer]
	mov	eax, cr0
	or	al, 1
	mov	cr0, eax
	jmp	1f
1:	mov	bx, 8
	mov	es, bx
	and	al, 0xfe
	mov	cr0, eax
	jmp	1f
1:	mov	edi, 0x200000
	mov	dword ptr es:[edi], 0xfeedface
	IS(dword ptr es:[edi], 0xfeedface, "a segment keeps its limit of 4 GiB")
	xor	ax, ax
	mov	es, ax
	smsw	ax
	and	ax, 1
	IS(ax, 0, "real mode again")

/* ---- the end ------------------------------------------------------------ */
	mov	si, offset last_line
	call	print
	mov	ax, [checks]
	call	print_decimal
	mov	al, 10
	call	print_char
	mov	dx, 0x404
	mov	ax, 5 << 10 | 1 << 13
	out	dx, ax
1:	cli
	hlt
	jmp	1b

far_routine:
	mov	ax, 0x1234
	retf	2

service:
	add	ax, ax
	clc
	iret

irq5:
	push	ax
	mov	word ptr ds:[caught], 0x105
	mov	al, 0x20
	out	0x20, al
	pop	ax
	iret

.macro FAULT number
fault\number:
	mov	word ptr ds:[caught], \number
	jmp	fault
.endm
	FAULT	0
	FAULT	3
fault:
	pop	word ptr ds:[caught_ip]
	pop	word ptr ds:[caught_cs]
	popf
	jmp	word ptr ds:[resume]

/* CL is the verdict, the label is behind the call; all registers are kept. */
verdict:
	pop	word ptr [VARS + 12]
	pushf
	pusha
	inc	word ptr [checks]
	mov	si, offset pass
	test	cl, cl
	jnz	1f
	mov	si, offset fail
1:	call	print
	mov	si, [VARS + 12]
	call	print
	mov	al, 10
	call	print_char
	mov	[VARS + 12], si
	popa
	popf
	jmp	word ptr [VARS + 12]

/* The string at CS:SI; SI ends up behind it. */
print:
	lods	al, byte ptr cs:[si]
	test	al, al
	jz	1f
	call	print_char
	jmp	print
1:	ret

print_char:
	push	ax
	mov	dx, COM1 + 5
1:	in	al, dx
	test	al, 0x20
	jz	1b
	pop	ax
	mov	dx, COM1
	out	dx, al
	ret

print_decimal:
	xor	dx, dx
	mov	cx, 10
	div	cx
	push	dx
	test	ax, ax
	jz	1f
	call	print_decimal
1:	pop	ax
	add	al, 48
	jmp	print_char

first_line:
	.asciz	"test real\n"
last_line:
	.asciz	"done "
pass:	.asciz	"pass "
fail:	.asciz	"fail "
signature:
	.ascii	"ROM!"
	.balign	8
gdt:	.quad	0
	.quad	0x008f93000000ffff
gdt_pointer:
	.word	15
	.long	gdt + (RAM_SEGMENT << 4)
rom_end:

	.org	0xfff0
	jmp	power_on
	.org	0x10000

	.section .note.GNU-stack, "", @progbits
