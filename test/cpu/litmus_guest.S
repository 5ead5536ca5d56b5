/*
 * The threads of the litmus tests: machine code that runs as it stands in a
 * guest (copied there) and in this process (called).
 *
 * Each is a function of the C calling convention that changes no register it
 * would have to keep, with the arguments:
 *
 *      rdi  the first cell (litmus.c, struct cell)
 *      rsi  how many: not 0
 *      edx  how many threads take part
 *      ecx  how long to wait for the others at a cell
 *      r8d  any number, another for each thread
 *
 * Threads meet at each cell, as well as the host's scheduler lets them, and
 * then wait a little, each for another time at each cell: so that the few
 * instructions under test happen at the same time now and then.
 */
#define X 0
#define Y 64
#define MEET 128
#define RA 192
#define RB 256
#define CELL 320

	.text
	.globl	litmus_code, litmus_code_end
	.p2align 4
litmus_code:

	.macro	BEGIN name
	.globl	litmus_\name
	.p2align 4
litmus_\name:
1:	lock incl MEET(%rdi)
	movl	%ecx, %r9d
2:	cmpl	%edx, MEET(%rdi)
	jae	3f
	decl	%r9d
	jns	2b
3:	imull	$1664525, %r8d, %r8d
	addl	$1013904223, %r8d
	movl	%r8d, %r9d
	shrl	$25, %r9d
4:	decl	%r9d
	jns	4b
	.endm

	.macro	END
	addq	$CELL, %rdi
	decq	%rsi
	jnz	1b
	ret
	.endm

	/* Store buffering, three ways */
	BEGIN sb0
	movl	$1, X(%rdi)
	movl	Y(%rdi), %eax
	movl	%eax, RA(%rdi)
	END
	BEGIN sb1
	movl	$1, Y(%rdi)
	movl	X(%rdi), %eax
	movl	%eax, RB(%rdi)
	END
	BEGIN sb_fence0
	movl	$1, X(%rdi)
	mfence
	movl	Y(%rdi), %eax
	movl	%eax, RA(%rdi)
	END
	BEGIN sb_fence1
	movl	$1, Y(%rdi)
	mfence
	movl	X(%rdi), %eax
	movl	%eax, RB(%rdi)
	END
	BEGIN sb_xchg0
	movl	$1, %eax
	xchgl	%eax, X(%rdi)
	movl	Y(%rdi), %eax
	movl	%eax, RA(%rdi)
	END
	BEGIN sb_xchg1
	movl	$1, %eax
	xchgl	%eax, Y(%rdi)
	movl	X(%rdi), %eax
	movl	%eax, RB(%rdi)
	END
	/* A locked instruction to memory that nobody else has */
	BEGIN sb_lock0
	movl	$1, X(%rdi)
	lock orl $0, -8(%rsp)
	movl	Y(%rdi), %eax
	movl	%eax, RA(%rdi)
	END
	BEGIN sb_lock1
	movl	$1, Y(%rdi)
	lock orl $0, -8(%rsp)
	movl	X(%rdi), %eax
	movl	%eax, RB(%rdi)
	END

	/* Message passing */
	BEGIN mp0
	movl	$1, X(%rdi)
	movl	$1, Y(%rdi)
	END
	BEGIN mp1
	movl	Y(%rdi), %eax
	movl	X(%rdi), %r9d
	movl	%eax, RB(%rdi)
	movl	%r9d, RB+4(%rdi)
	END

	/* The same with a string for the message: 8 bytes and a flag */
	BEGIN mp_string0
	leaq	X(%rdi), %r9
	movq	%rdi, %r10
	movq	%rcx, %r11
	movq	%r9, %rdi
	movl	$1, %ecx
	movl	$1, %eax
	cld
	rep stosl
	movq	%r10, %rdi
	movq	%r11, %rcx
	movl	$1, Y(%rdi)
	END

	/* Load buffering */
	BEGIN lb0
	movl	X(%rdi), %eax
	movl	$1, Y(%rdi)
	movl	%eax, RA(%rdi)
	END
	BEGIN lb1
	movl	Y(%rdi), %eax
	movl	$1, X(%rdi)
	movl	%eax, RB(%rdi)
	END

	/* R, S and 2+2W: orders of stores, seen in what remains */
	BEGIN r1
	movl	$2, Y(%rdi)
	movl	X(%rdi), %eax
	movl	%eax, RB(%rdi)
	END
	BEGIN s0
	movl	$2, X(%rdi)
	movl	$1, Y(%rdi)
	END
	BEGIN s1
	movl	Y(%rdi), %eax
	movl	$1, X(%rdi)
	movl	%eax, RB(%rdi)
	END
	BEGIN w0
	movl	$1, X(%rdi)
	movl	$2, Y(%rdi)
	END
	BEGIN w1
	movl	$1, Y(%rdi)
	movl	$2, X(%rdi)
	END

	/* Write to read causality: x=1 | r=x, y=1 | r=y, r=x */
	BEGIN x
	movl	$1, X(%rdi)
	END
	BEGIN wrc1
	movl	X(%rdi), %eax
	movl	$1, Y(%rdi)
	movl	%eax, RA(%rdi)
	END

	/* Independent reads of independent writes */
	BEGIN y
	movl	$1, Y(%rdi)
	END
	BEGIN iriw2
	movl	X(%rdi), %eax
	movl	Y(%rdi), %r9d
	movl	%eax, RA(%rdi)
	movl	%r9d, RA+4(%rdi)
	END
	BEGIN iriw3
	movl	Y(%rdi), %eax
	movl	X(%rdi), %r9d
	movl	%eax, RB(%rdi)
	movl	%r9d, RB+4(%rdi)
	END

	/* Eight bytes at once: never half of a store */
	BEGIN torn0
	movq	$-1, X(%rdi)
	END
	BEGIN torn1
	movq	X(%rdi), %rax
	movq	%rax, RB(%rdi)
	END

	/*
	 * Counting: each thread adds 8 to x in eight ways, and 3 in three to
	 * what lies across two lines.
	 */
	BEGIN count
	lock incl X(%rdi)
	lock addl $1, X(%rdi)
	lock subl $-1, X(%rdi)
	movl	$1, %eax
	lock xaddl %eax, X(%rdi)
	movl	X(%rdi), %eax
5:	leal	1(%rax), %r9d
	lock cmpxchgl %r9d, X(%rdi)
	jne	5b
	lock addb $1, X(%rdi)
	lock addw $1, X(%rdi)
	lock addq $1, X(%rdi)
	lock incl RA+62(%rdi)
	movl	$1, %eax
	lock xaddl %eax, RA+62(%rdi)
	movl	RA+62(%rdi), %eax
6:	leal	1(%rax), %r9d
	lock cmpxchgl %r9d, RA+62(%rdi)
	jne	6b
	END

	/* A spin lock around counters that are not atomic. */
	BEGIN spin
5:	movl	$1, %eax
	xchgl	%eax, X(%rdi)
	testl	%eax, %eax
	jz	7f
6:	pause
	cmpl	$0, X(%rdi)
	jne	6b
	jmp	5b
7:	incl	Y(%rdi)
	incl	Y+4(%rdi)
	movl	$0, X(%rdi)
	END

litmus_code_end:
	.section .note.GNU-stack, "", @progbits
