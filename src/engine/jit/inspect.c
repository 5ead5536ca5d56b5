/*
 * Looking into the translator: what it counts, what it makes, and names for
 * perf(1).
 *
 * Dump         jit.dump=FILE: each block as it is made, every guest instruction
 *              followed by its host code.  In bytes, and as text where the
 *              project was built with Zydis.
 * perf         jit.perf_map=true: /tmp/perf-PID.map, a line a block, named for
 *              the guest-physical address and the kind of code.
 * Locking      files with code_lock; counters are read while others count, so
 *              a number may be a moment old.
 */
#include <errno.h>
#include <inttypes.h>
#include <unistd.h>

#ifdef HAVE_ZYDIS
#include <Zydis/Zydis.h>
#endif

#include "engine/jit/jit_impl.h"

static const char *const mode_names[] = {
	[X86_CODE16] = "16",
	[X86_CODE32] = "32",
	[X86_CODE64] = "64",
};

/* A file of ours alone: others can guess the name. */
static FILE *
open_new(const char *path, struct err *err)
{
	FILE *file = NULL;

	if (unlink(path) == 0 || errno == ENOENT)
		file = fopen(path, "wxe");
	if (file == NULL)
		(void)err_set_errno(err, -errno, "%s", path);
	return file;
}

int
jit_inspect_init(struct jit *jit, struct err *err)
{
	const struct engine_soft *soft = &jit->engine.params.soft;
	char path[64];

	if (soft->dump != NULL) {
		jit->dump = open_new(soft->dump, err);
		if (jit->dump == NULL)
			return -EIO;
	}
	if (soft->perf_map) {
		(void)snprintf(path, sizeof(path), "/tmp/perf-%d.map",
		    (int)getpid());
		jit->perf_map = open_new(path, err);
		if (jit->perf_map == NULL)
			return -EIO;
	}
	return 0;
}

void
jit_inspect_fini(struct jit *jit)
{
	if (jit->dump != NULL)
		(void)fclose(jit->dump);
	if (jit->perf_map != NULL)
		(void)fclose(jit->perf_map);
}

/* ------------------------------------------------------------------- dump */

#ifdef HAVE_ZYDIS
static unsigned
print_insn(FILE *file, const uint8_t *bytes, size_t len, uint64_t at,
    enum x86_code code, char *line, size_t size)
{
	static const struct {
		ZydisMachineMode mode;
		ZydisStackWidth width;
	} modes[] = {
		[X86_CODE16] = { ZYDIS_MACHINE_MODE_LONG_COMPAT_16,
		    ZYDIS_STACK_WIDTH_16 },
		[X86_CODE32] = { ZYDIS_MACHINE_MODE_LONG_COMPAT_32,
		    ZYDIS_STACK_WIDTH_32 },
		[X86_CODE64] = { ZYDIS_MACHINE_MODE_LONG_64,
		    ZYDIS_STACK_WIDTH_64 },
	};
	ZydisDecoder decoder;
	ZydisDecodedInstruction insn;
	ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
	ZydisFormatter formatter;

	line[0] = '\0';
	ZydisDecoderInit(&decoder, modes[code].mode, modes[code].width);
	ZydisFormatterInit(&formatter, ZYDIS_FORMATTER_STYLE_INTEL);
	if (!ZYAN_SUCCESS(
		ZydisDecoderDecodeFull(&decoder, bytes, len, &insn, operands)))
		return 0;
	(void)ZydisFormatterFormatInstruction(&formatter, &insn, operands,
	    insn.operand_count_visible, line, size, at, NULL);
	return insn.length;
}
#else
/* No text: all of it is one line of bytes. */
static unsigned
print_insn(FILE *file, const uint8_t *bytes, size_t len, uint64_t at,
    enum x86_code code, char *line, size_t size)
{
	line[0] = '\0';
	return 0;
}
#endif

static void
dump_code(FILE *file, const char *indent, const uint8_t *bytes, size_t len,
    uint64_t at, enum x86_code code)
{
	while (len > 0) {
		char line[128];
		unsigned n =
		    print_insn(file, bytes, len, at, code, line, sizeof(line));

		if (n == 0)
			n = (unsigned)MIN(len, 16UL);
		(void)fprintf(file, "%s%12" PRIx64 " ", indent, at);
		for (unsigned i = 0; i < n; i++)
			(void)fprintf(file, " %02x", bytes[i]);
		(void)fprintf(file, "%*s%s\n", (int)(3 * (16 - n)), "", line);
		bytes += n;
		at += n;
		len -= n;
	}
}

static void
dump_block(FILE *file, const struct jit_block *block, const uint8_t *page)
{
	unsigned off = block->gpa % MEM_PAGE_SIZE;

	(void)fprintf(file,
	    "block 0x%" PRIx64 ": %s-bit, mode 0x%x, %u instructions, %u "
	    "bytes, host %p, %td bytes\n",
	    block->gpa, mode_names[block->mode & JIT_MODE_CODE], block->mode,
	    block->insns, block->len, (const void *)block->entry,
	    block->end - block->entry);
	for (unsigned i = 0; i < block->insns; i++) {
		const struct jit_place *p = &block->places[i];
		bool last = i + 1 == block->insns;
		unsigned next = last ? off + block->len : p[1].guest;
		const uint8_t *host = block->entry + p->host;
		const uint8_t *end =
		    last ? block->end : block->entry + p[1].host;

		/* What is on the next page is not shown. */
		dump_code(file, "", page + p->guest,
		    MIN(next, MEM_PAGE_SIZE) - p->guest,
		    block->gpa - off + p->guest, block->mode & JIT_MODE_CODE);
		dump_code(file, "\t", host, (size_t)(end - host),
		    (uint64_t)(uintptr_t)host, X86_CODE64);
	}
}

void
jit_inspect_block(struct jit *jit, const struct jit_block *block,
    const uint8_t *page)
{
	if (jit->dump != NULL)
		dump_block(jit->dump, block, page);
	if (jit->perf_map != NULL) {
		(void)fprintf(jit->perf_map,
		    "%" PRIxPTR " %tx guest-0x%" PRIx64 "-%s%s\n",
		    (uintptr_t)block->entry, block->end - block->entry,
		    block->gpa, mode_names[block->mode & JIT_MODE_CODE],
		    block->mode & JIT_MODE_CPL3 ? "-user" : "");
		(void)fflush(jit->perf_map);
	}
}

/* --------------------------------------------------------------- counters */

void
jit_stats(struct engine *engine, engine_stat_fn *fn, void *arg)
{
	static const char *const reasons[JIT_REASONS] = {
		[JIT_ATTENTION] = "exits for attention",
		[JIT_EMULATE] = "exits for the interpreter",
		[JIT_GOTO] = "exits of jumps that cannot be linked",
		[JIT_LINK] = "exits of jumps to link",
		[JIT_LOOKUP] = "exits of jumps not in the table",
		[JIT_STEPPED] = "exits after the interpreter",
	};
	struct jit *jit = jit_of(engine);
	const struct jit_cache *cache = &jit->cache;

	fn(arg, -1, "blocks made", cache->made);
	fn(arg, -1, "blocks invalidated", cache->killed);
	fn(arg, -1, "code cache flushes", cache->generation);
	fn(arg, -1, "code cache bytes", cache->used);
	for (unsigned i = 0; i < engine->params.vcpus; i++) {
		const struct jit_vcpu *vcpu = jit->vcpus[i];
		const struct x86_cpu *cpu;

		if (vcpu == NULL)
			continue;
		cpu = vcpu->cpu;
		fn(arg, (int)i, "instructions interpreted", cpu->stat_interp);
		fn(arg, (int)i, "exceptions", cpu->stat_exceptions);
		fn(arg, (int)i, "interrupts", cpu->stat_interrupts);
		fn(arg, (int)i, "TLB fills", cpu->stat_tlb_fills);
		fn(arg, (int)i, "TLB flushes", cpu->stat_tlb_flushes);
		fn(arg, (int)i, "port accesses", cpu->stat_pio);
		fn(arg, (int)i, "device memory accesses", cpu->stat_mmio);
		for (unsigned r = 0; r < JIT_REASONS; r++) {
			if (reasons[r] != NULL)
				fn(arg, (int)i, reasons[r],
				    vcpu->stat_exits[r]);
		}
	}
}
