/*
 * The decoder: what the bytes of one x86 instruction say.
 *
 * One table of opcodes for everybody: the interpreter, the translator and
 * whoever prints instructions.  A decoded instruction carries its operands
 * resolved (which register, which memory, how wide, read or written) and a row
 * of facts that hold for the opcode: its class, the flags it reads and writes,
 * the registers it uses without naming them.
 *
 * Bytes are hostile: every sequence decodes to something, at worst to X86_OP_UD,
 * and never reads beyond what it was given.
 */
#ifndef ENGINE_X86_DECODE_H
#define ENGINE_X86_DECODE_H

#include "base/util.h"
#include "engine/cpu_state.h"

#define X86_INSN_MAX 15u

/* The size of code: CS.L and CS.D. */
enum x86_code { X86_CODE16, X86_CODE32, X86_CODE64 };

enum x86_encoding { X86_LEGACY, X86_VEX, X86_EVEX };

/* struct x86_insn, pfx */
#define X86_PFX_LOCK BIT(0)
#define X86_PFX_REP BIT(1)   /* F3, the last of F2 and F3 */
#define X86_PFX_REPNE BIT(2) /* F2, the last of F2 and F3 */
#define X86_PFX_66 BIT(3)
#define X86_PFX_67 BIT(4)
#define X86_PFX_SEG BIT(5) /* one that counts: in 64-bit code FS or GS */
#define X86_PFX_REX BIT(6) /* immediately before the opcode */

/* struct x86_insn, rex: bits of REX, or their meaning in VEX and EVEX */
#define X86_REX_W BIT(3)
#define X86_REX_R BIT(2)
#define X86_REX_X BIT(1)
#define X86_REX_B BIT(0)

/* base and index beside the general registers 0 to 15 */
#define X86_NO_REG 0xffu
#define X86_BASE_RIP 16u /* disp is relative to the next instruction */

enum x86_operand_kind {
	X86_K_NONE,
	X86_K_GPR,  /* reg 0-15 */
	X86_K_HIGH, /* AH CH DH BH: reg 0-3, one byte */
	X86_K_MEM,  /* the memory operand */
	X86_K_IMM,  /* insn.imm */
	X86_K_SEG,  /* reg: enum cpu_seg */
	X86_K_CR,
	X86_K_DR,
	X86_K_MMX,    /* reg 0-7 */
	X86_K_VEC,    /* XMM, YMM or ZMM: reg 0-31, size 16, 32, 64 or less */
	X86_K_OPMASK, /* reg 0-7 */
	X86_K_ST,     /* x87 stack register */
	X86_K_BND,    /* MPX: all of it is a NOP here */
};

/* Where the encoding names the operand: what a re-encoder has to change. */
enum x86_slot {
	X86_S_FIXED,  /* nowhere: implied by the opcode */
	X86_S_REG,    /* ModRM.reg */
	X86_S_RM,     /* ModRM.rm, a register or the memory operand */
	X86_S_OPCODE, /* the low three bits of the opcode, and REX.B */
	X86_S_VVVV,   /* VEX.vvvv */
	X86_S_IS4,    /* bits 7-4 of the immediate */
	X86_S_MOFFS,  /* MOV with an absolute address: memory without ModRM */
	X86_S_IMM,
};

#define X86_R BIT(0)
#define X86_W BIT(1)
#define X86_RW (X86_R | X86_W)

struct x86_operand {
	uint8_t kind; /* enum x86_operand_kind */
	uint8_t slot; /* enum x86_slot */
	uint8_t reg;
	uint8_t
	    rw; /* X86_R, X86_W; a GPR written with size 4 is zero-extended */
	uint16_t size; /* bytes */
};
#define X86_OPERANDS_MAX 5

/* How an instruction can be carried out; the translator's choice hangs on it. */
enum x86_class {
	/*
	 * Integer instruction without side effects beyond its operands, the
	 * fixed registers and the arithmetic flags of its row: a processor in
	 * user mode gives the same result wherever it runs.
	 */
	X86_C_PLAIN,
	/*
	 * The same with vector, opmask, MMX or x87 state (fpu tells which); GPRs
	 * among the operands are marked as such.
	 */
	X86_C_VECTOR,
	X86_C_FLOW,   /* near JMP, Jcc, CALL, RET, LOOP, JrCXZ */
	X86_C_STACK,  /* PUSH, POP, PUSHF, POPF, PUSHA, POPA, ENTER, LEAVE */
	X86_C_STRING, /* MOVS, STOS, LODS, CMPS, SCAS with any prefix */
	X86_C_SYSTEM, /* everything else */
};

/* Which unit, for #NM, #UD and XCR0 rules. */
enum x86_fpu {
	X86_FPU_NONE,
	X86_FPU_X87,  /* #NM by CR0.EM or TS */
	X86_FPU_WAIT, /* WAIT: #NM by CR0.MP and TS */
	X86_FPU_MMX,  /* #UD by EM, #NM by TS */
	X86_FPU_SSE,  /* #UD by EM or not OSFXSR, #NM by TS */
	X86_FPU_AVX,  /* #UD by not OSXSAVE or XCR0, #NM by TS */
	X86_FPU_AVX512,
	X86_FPU_AMX,
};

/*
 * What CPUID must offer for the opcode to exist; a guest without the feature
 * gets #UD.  Bits of struct x86_cpu, features.
 */
enum x86_feature {
	X86_F_BASE, /* always there */
	X86_F_FPU,
	X86_F_CX8,
	X86_F_CMOV,
	X86_F_MMX,
	X86_F_FXSR,
	X86_F_SSE,
	X86_F_SSE2,
	X86_F_CLFSH,
	X86_F_SEP,
	X86_F_SSE3,
	X86_F_PCLMUL,
	X86_F_SSSE3,
	X86_F_FMA,
	X86_F_CX16,
	X86_F_SSE41,
	X86_F_SSE42,
	X86_F_MOVBE,
	X86_F_POPCNT,
	X86_F_AES,
	X86_F_XSAVE,
	X86_F_AVX,
	X86_F_F16C,
	X86_F_RDRAND,
	X86_F_FSGSBASE,
	X86_F_BMI1,
	X86_F_AVX2,
	X86_F_BMI2,
	X86_F_INVPCID,
	X86_F_RDSEED,
	X86_F_ADX,
	X86_F_SMAP,
	X86_F_CLFLUSHOPT,
	X86_F_CLWB,
	X86_F_SHA,
	X86_F_AVX512, /* any EVEX or opmask instruction */
	X86_F_VAES,
	X86_F_VPCLMUL,
	X86_F_GFNI,
	X86_F_RDPID,
	X86_F_LAHF64,
	X86_F_LZCNT, /* ABM */
	X86_F_SSE4A,
	X86_F_PREFETCHW,
	X86_F_SYSCALL,
	X86_F_LM,
	X86_F_RDTSCP,
	X86_F_XSAVEOPT,
	X86_F_XSAVEC,
	X86_F_XSAVES,
	X86_F_CLZERO,
	X86_F_AVXVNNI,
	X86_F_MOVDIRI,
	X86_F_NEVER, /* known opcodes of units that no guest of ours has */
	X86_FEATURES,
};
_Static_assert(X86_FEATURES <= 64, "one bit each");

/* Arithmetic flags, in the places of RFLAGS. */
#define X86_CF 0x001u
#define X86_PF 0x004u
#define X86_AF 0x010u
#define X86_ZF 0x040u
#define X86_SF 0x080u
#define X86_OF 0x800u
#define X86_ARITH 0x8d5u /* all six */

/*
 * What an instruction means to the interpreter.  Conditional ones (JCC, SETCC,
 * CMOVCC) have their condition in the low four bits of the opcode.
 */
enum x86_opid {
	X86_OP_UD, /* no such instruction, or one of UD0, UD1, UD2 */

	/* Two operands, the usual six flags */
	X86_OP_ADD,
	X86_OP_OR,
	X86_OP_ADC,
	X86_OP_SBB,
	X86_OP_AND,
	X86_OP_SUB,
	X86_OP_XOR,
	X86_OP_CMP,
	X86_OP_TEST,
	X86_OP_INC,
	X86_OP_DEC,
	X86_OP_NOT,
	X86_OP_NEG,
	X86_OP_MUL,   /* opnd[0]: the multiplier; accumulator fixed */
	X86_OP_IMUL1, /* the same, signed */
	X86_OP_IMUL,  /* two or three operands: dst, src[, imm] */
	X86_OP_DIV,
	X86_OP_IDIV,
	X86_OP_ROL,
	X86_OP_ROR,
	X86_OP_RCL,
	X86_OP_RCR,
	X86_OP_SHL,
	X86_OP_SHR,
	X86_OP_SAR,
	X86_OP_SHLD, /* dst, src, count (imm or CL) */
	X86_OP_SHRD,
	X86_OP_BT,
	X86_OP_BTS,
	X86_OP_BTR,
	X86_OP_BTC,
	X86_OP_BSF,
	X86_OP_BSR,
	X86_OP_TZCNT,
	X86_OP_LZCNT,
	X86_OP_POPCNT,
	X86_OP_BSWAP,
	X86_OP_MOVBE,
	X86_OP_CRC32,
	X86_OP_ADCX,
	X86_OP_ADOX,
	X86_OP_ANDN,
	X86_OP_BEXTR,
	X86_OP_BLSI,
	X86_OP_BLSMSK,
	X86_OP_BLSR,
	X86_OP_BZHI,
	X86_OP_MULX,
	X86_OP_PDEP,
	X86_OP_PEXT,
	X86_OP_RORX,
	X86_OP_SARX,
	X86_OP_SHLX,
	X86_OP_SHRX,
	X86_OP_XADD,
	X86_OP_XCHG,
	X86_OP_CMPXCHG,
	X86_OP_CMPXCHG8B, /* and 16B: the size of the memory operand tells */
	X86_OP_MOV,       /* registers, memory, immediates, moffs */
	X86_OP_MOVZX,
	X86_OP_MOVSX, /* and MOVSXD */
	X86_OP_CMOVCC,
	X86_OP_SETCC,
	X86_OP_LEA,
	X86_OP_NOP, /* NOP, hint NOPs, PREFETCHx, ENDBR, MPX */
	X86_OP_PAUSE,
	X86_OP_CBW, /* CBW CWDE CDQE by opsize */
	X86_OP_CWD, /* CWD CDQ CQO */
	X86_OP_LAHF,
	X86_OP_SAHF,
	X86_OP_CLC,
	X86_OP_STC,
	X86_OP_CMC,
	X86_OP_CLD,
	X86_OP_STD,
	X86_OP_XLAT,
	X86_OP_DAA,
	X86_OP_DAS,
	X86_OP_AAA,
	X86_OP_AAS,
	X86_OP_AAM,
	X86_OP_AAD,
	X86_OP_SALC,
	X86_OP_BOUND,
	X86_OP_FENCE, /* LFENCE MFENCE SFENCE */
	X86_OP_MOVNTI,
	X86_OP_MOVDIRI,
	X86_OP_MOVDIR64B,
	X86_OP_CLFLUSH, /* CLFLUSH CLFLUSHOPT CLWB: touches one byte */
	X86_OP_CLZERO,
	X86_OP_RDRAND,
	X86_OP_RDSEED,
	X86_OP_RDPID,

	/* Strings: REP by pfx */
	X86_OP_MOVS,
	X86_OP_CMPS,
	X86_OP_STOS,
	X86_OP_LODS,
	X86_OP_SCAS,
	X86_OP_INS,
	X86_OP_OUTS,

	/* Stack */
	X86_OP_PUSH, /* GPR, memory, immediate, segment */
	X86_OP_POP,
	X86_OP_PUSHA,
	X86_OP_POPA,
	X86_OP_PUSHF,
	X86_OP_POPF,
	X86_OP_ENTER,
	X86_OP_LEAVE,

	/* Near control transfer; relative ones have the offset in imm */
	X86_OP_JMP,
	X86_OP_JMP_IND,
	X86_OP_JCC,
	X86_OP_CALL,
	X86_OP_CALL_IND,
	X86_OP_RET, /* imm: bytes to release */
	X86_OP_LOOP,
	X86_OP_LOOPE,
	X86_OP_LOOPNE,
	X86_OP_JCXZ, /* by addrsize */

	/* Far control transfer, interrupts */
	X86_OP_JMP_FAR,     /* imm2:imm */
	X86_OP_JMP_FAR_IND, /* memory: offset of opsize, then selector */
	X86_OP_CALL_FAR,
	X86_OP_CALL_FAR_IND,
	X86_OP_RET_FAR,
	X86_OP_INT3,
	X86_OP_INT1,
	X86_OP_INT, /* imm */
	X86_OP_INTO,
	X86_OP_IRET,
	X86_OP_SYSCALL,
	X86_OP_SYSRET,
	X86_OP_SYSENTER,
	X86_OP_SYSEXIT,

	/* System */
	X86_OP_MOV_FROM_SEG,
	X86_OP_MOV_TO_SEG,
	X86_OP_LOAD_FAR, /* LDS LES LSS LFS LGS: opnd[0] GPR, [1] memory, [2] segment */
	X86_OP_MOV_FROM_CR,
	X86_OP_MOV_TO_CR,
	X86_OP_MOV_FROM_DR,
	X86_OP_MOV_TO_DR,
	X86_OP_LGDT,
	X86_OP_LIDT,
	X86_OP_SGDT,
	X86_OP_SIDT,
	X86_OP_LLDT,
	X86_OP_SLDT,
	X86_OP_LTR,
	X86_OP_STR,
	X86_OP_LMSW,
	X86_OP_SMSW,
	X86_OP_CLTS,
	X86_OP_ARPL,
	X86_OP_LAR,
	X86_OP_LSL,
	X86_OP_VERR,
	X86_OP_VERW,
	X86_OP_INVLPG,
	X86_OP_INVPCID,
	X86_OP_INVD,
	X86_OP_WBINVD,
	X86_OP_HLT,
	X86_OP_CLI,
	X86_OP_STI,
	X86_OP_CLAC,
	X86_OP_STAC,
	X86_OP_IN, /* imm or DX */
	X86_OP_OUT,
	X86_OP_RDMSR,
	X86_OP_WRMSR,
	X86_OP_RDTSC,
	X86_OP_RDTSCP,
	X86_OP_RDPMC,
	X86_OP_CPUID,
	X86_OP_SWAPGS,
	X86_OP_RDFSBASE,
	X86_OP_RDGSBASE,
	X86_OP_WRFSBASE,
	X86_OP_WRGSBASE,
	X86_OP_XGETBV,
	X86_OP_XSETBV,
	X86_OP_MONITOR, /* and MWAIT, RSM, VMX, SVM, SMX ...: #UD for our guests */
	X86_OP_VMCALL,

	/* Vector, opmask, MMX, x87 */
	X86_OP_VECTOR, /* run by the host's unit, as it is */
	X86_OP_WAIT,
	X86_OP_MASKMOV,  /* MASKMOVQ, (V)MASKMOVDQU: to DS:rDI */
	X86_OP_VMASKMOV, /* VMASKMOVPS/PD, VPMASKMOVD/Q: faults by element */
	X86_OP_GATHER,
	X86_OP_SCATTER,
	X86_OP_FXSAVE,
	X86_OP_FXRSTOR,
	X86_OP_XSAVE,
	X86_OP_XSAVEOPT,
	X86_OP_XSAVEC,
	X86_OP_XSAVES,
	X86_OP_XRSTOR,
	X86_OP_XRSTORS,
	X86_OP_LDMXCSR, /* reserved bits: #GP */

	X86_OPS,
};

/* attrs of a row */
#define X86_A_LOCK BIT(0)  /* LOCK is allowed with a memory destination */
#define X86_A_ALIGN BIT(1) /* a misaligned memory operand is #GP */
#define X86_A_VSIB BIT(2)  /* index is a vector register */
#define X86_A_BITSTR \
	BIT(3) /* BT family with a register offset: memory beyond the operand */
#define X86_A_NO_MEM_READ \
	BIT(4)             /* LEA, NOP, INVLPG: the address is not accessed */
#define X86_A_DEF64 BIT(5) /* operand size 8 in 64-bit code without REX.W */
#define X86_A_MASKED \
	BIT(6) /* EVEX: faults of masked-off elements are suppressed */

/* Facts about an opcode. */
struct x86_op {
	uint16_t id;            /* enum x86_opid */
	uint8_t cls;            /* enum x86_class */
	uint8_t fpu;            /* enum x86_fpu */
	uint8_t feature;        /* enum x86_feature */
	uint8_t attrs;          /* X86_A_* */
	uint16_t flags_read;    /* of X86_ARITH */
	uint16_t flags_written; /* set, cleared or left undefined */
	uint16_t
	    flags_undefined; /* of those written: the manual says undefined */
	uint16_t
	    fixed_read; /* GPRs read without being operands: BIT(CPU_RAX) ... */
	uint16_t fixed_written;
	const char *name; /* in lower case, as the manual: "add" */
};

struct x86_insn {
	const struct x86_op *op; /* never NULL */
	uint8_t bytes[X86_INSN_MAX + 1];
	uint8_t len;
	uint8_t code;     /* enum x86_code */
	uint8_t encoding; /* enum x86_encoding */
	uint8_t map;      /* 0 one byte, 1 0F, 2 0F38, 3 0F3A; EVEX also 5, 6 */
	uint8_t opcode;
	uint8_t opcode_at; /* where in bytes the opcode is (not an escape) */
	uint8_t
	    pp; /* 0, 1: 66, 2: F3, 3: F2; of legacy: what selects the row */
	uint8_t pfx;      /* X86_PFX_* */
	uint8_t rex;      /* X86_REX_* */
	uint8_t opsize;   /* 2, 4 or 8 */
	uint8_t addrsize; /* 2, 4 or 8 */
	uint8_t seg;      /* of the memory operand: enum cpu_seg */

	bool has_modrm;
	bool has_mem; /* a ModRM or moffs memory operand */
	uint8_t modrm;
	uint8_t base, index; /* or X86_NO_REG; VSIB: index 0-31 is a vector */
	uint8_t scale;       /* a shift: 0 to 3 */
	uint8_t disp_size, imm_size; /* bytes in the encoding; 0 without */
	int64_t disp;  /* sign-extended; EVEX: scaled; moffs: the address */
	uint64_t imm;  /* extended as the instruction extends it, to 64 bits */
	uint16_t imm2; /* a far pointer's selector, ENTER's level */

	uint8_t vl;   /* vector length: 0 128, 1 256, 2 512 bits */
	uint8_t vvvv; /* 0 to 31, as it is, not inverted */
	uint8_t evex_aaa;
	bool evex_z, evex_b;

	uint8_t operands;
	struct x86_operand opnd[X86_OPERANDS_MAX];
};

enum x86_decoded {
	X86_DECODED,
	X86_SHORT,    /* more bytes are needed than were given */
	X86_TOO_LONG, /* no end after 15 bytes: #GP */
};

/*
 * Decode what stands at bytes, of which len (any number; only the first 15
 * count) can be read.  Fills *insn in every case; with X86_SHORT only len is
 * meaningless.  Whether LOCK is allowed is decided here: where it is not, the
 * row is X86_OP_UD.
 */
enum x86_decoded x86_decode(const uint8_t *bytes, unsigned len,
    enum x86_code code, struct x86_insn *insn);

#endif
