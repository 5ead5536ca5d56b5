/*
 * elf.h's reader.
 *
 * Models       the ELF header, program headers and notes of the System V ABI.
 * Leaves out   sections, so PN_XNUM (more than 65534 headers) is refused.
 * Invariants   every read is preceded by range_within() on the file's length;
 *              elf_open() has checked the whole table of program headers.
 */
#include <errno.h>
#include <string.h>

#include "base/wire.h"
#include "firmware/elf.h"

/* Offsets in the ELF header and in a program header, 32- and 64-bit. */
struct elf_layout {
	unsigned ehsize, e_entry, e_phoff, e_phentsize, e_phnum;
	unsigned phsize, p_offset, p_vaddr, p_paddr, p_filesz, p_memsz;
	unsigned word; /* bytes of an address */
};

static const struct elf_layout elf_layout32 = {
	.ehsize = 52,
	.e_entry = 24,
	.e_phoff = 28,
	.e_phentsize = 42,
	.e_phnum = 44,
	.phsize = 32,
	.p_offset = 4,
	.p_vaddr = 8,
	.p_paddr = 12,
	.p_filesz = 16,
	.p_memsz = 20,
	.word = 4,
};

static const struct elf_layout elf_layout64 = {
	.ehsize = 64,
	.e_entry = 24,
	.e_phoff = 32,
	.e_phentsize = 54,
	.e_phnum = 56,
	.phsize = 56,
	.p_offset = 8,
	.p_vaddr = 16,
	.p_paddr = 24,
	.p_filesz = 32,
	.p_memsz = 40,
	.word = 8,
};

#define EI_CLASS 4
#define EI_DATA 5
#define EI_VERSION 6
#define ELFCLASS32 1
#define ELFCLASS64 2
#define ELFDATA2LSB 1
#define EV_CURRENT 1
#define E_TYPE 16
#define ET_EXEC 2
#define ET_DYN 3
#define E_MACHINE 18
#define EM_386 3
#define EM_X86_64 62
#define PN_XNUM 0xffffu

static const struct elf_layout *
elf_layout(const struct elf *elf)
{
	return elf->is64 ? &elf_layout64 : &elf_layout32;
}

/* An address or size, as wide as the file's class. */
static uint64_t
elf_word(const struct elf *elf, const uint8_t *p)
{
	return elf->is64 ? le64_load(p) : le32_load(p);
}

int
elf_open(struct elf *elf, const void *data, size_t len, struct err *err)
{
	const struct elf_layout *layout;
	const uint8_t *ehdr = data;
	uint16_t type, machine;

	if (len < EI_VERSION + 1 || memcmp(ehdr, "\177ELF", 4) != 0)
		return -ENOEXEC;
	if ((ehdr[EI_CLASS] != ELFCLASS32 && ehdr[EI_CLASS] != ELFCLASS64) ||
	    ehdr[EI_DATA] != ELFDATA2LSB || ehdr[EI_VERSION] != EV_CURRENT)
		return err_set(err, -EINVAL,
		    "ELF of class %u, byte order %u, version %u is not for an "
		    "x86 processor",
		    ehdr[EI_CLASS], ehdr[EI_DATA], ehdr[EI_VERSION]);
	*elf = (struct elf) {
		.data = ehdr,
		.len = len,
		.is64 = ehdr[EI_CLASS] == ELFCLASS64,
	};
	layout = elf_layout(elf);
	if (len < layout->ehsize)
		return err_set(err, -EINVAL, "ELF header is cut short");
	type = le16_load(ehdr + E_TYPE);
	machine = le16_load(ehdr + E_MACHINE);
	if (machine != EM_386 && machine != EM_X86_64)
		return err_set(err, -EINVAL,
		    "ELF for machine %u is not for an x86 processor", machine);
	if (type != ET_EXEC && type != ET_DYN)
		return err_set(err, -EINVAL, "ELF of type %u is no executable",
		    type);
	elf->entry = elf_word(elf, ehdr + layout->e_entry);
	elf->phoff = elf_word(elf, ehdr + layout->e_phoff);
	elf->phentsize = le16_load(ehdr + layout->e_phentsize);
	elf->phnum = le16_load(ehdr + layout->e_phnum);
	if (elf->phnum == 0 || elf->phnum == PN_XNUM ||
	    elf->phentsize < layout->phsize ||
	    !range_within(elf->phoff, (uint64_t)elf->phnum * elf->phentsize,
		len))
		return err_set(err, -EINVAL,
		    "ELF program headers (%u of %u bytes at 0x%llx) do not lie "
		    "in the file",
		    elf->phnum, elf->phentsize, (unsigned long long)elf->phoff);
	return 0;
}

int
elf_segment(const struct elf *elf, unsigned i, struct elf_segment *segment,
    struct err *err)
{
	const struct elf_layout *layout = elf_layout(elf);
	const uint8_t *phdr;
	struct elf_segment s;
	uint64_t offset;

	assert(i < elf->phnum);
	phdr = elf->data + elf->phoff + (uint64_t)i * elf->phentsize;
	offset = elf_word(elf, phdr + layout->p_offset);
	s = (struct elf_segment) {
		.type = le32_load(phdr),
		.vaddr = elf_word(elf, phdr + layout->p_vaddr),
		.paddr = elf_word(elf, phdr + layout->p_paddr),
		.filesz = elf_word(elf, phdr + layout->p_filesz),
		.memsz = elf_word(elf, phdr + layout->p_memsz),
	};
	/* An empty segment's offset means nothing, and may point anywhere. */
	if (s.filesz == 0)
		offset = 0;
	if (!range_within(offset, s.filesz, elf->len))
		return err_set(err, -EINVAL,
		    "ELF segment %u (0x%llx bytes at 0x%llx) does not lie in "
		    "the file",
		    i, (unsigned long long)s.filesz,
		    (unsigned long long)offset);
	if (s.type == ELF_PT_LOAD &&
	    (s.filesz > s.memsz || s.memsz > UINT64_MAX - s.paddr))
		return err_set(err, -EINVAL,
		    "ELF segment %u claims 0x%llx bytes of memory at 0x%llx "
		    "for 0x%llx in the file",
		    i, (unsigned long long)s.memsz, (unsigned long long)s.paddr,
		    (unsigned long long)s.filesz);
	s.bytes = elf->data + offset;
	*segment = s;
	return 0;
}

/*
 * Notes that a search looks at.  Segments may overlap, so that without a limit
 * a small file could keep us busy for hours.
 */
#define ELF_NOTES_MAX 4096u

/* Look for a note in the bytes of one PT_NOTE segment. */
static const uint8_t *
elf_note_in(const struct elf_segment *s, const char *name, uint32_t type,
    unsigned *notes, size_t *len)
{
	const size_t header = 12;
	uint64_t pos = 0;

	while (*notes > 0 && range_within(pos, header, s->filesz)) {
		const uint8_t *note = s->bytes + pos;
		uint32_t namesz = le32_load(note);
		uint32_t descsz = le32_load(note + 4);
		uint64_t desc = pos + header + round_up(namesz, 4);

		(*notes)--;
		/* 32-bit lengths in 64-bit sums: nothing wraps here. */
		if (!range_within(desc, descsz, s->filesz))
			return NULL;
		if (le32_load(note + 8) == type && namesz == strlen(name) + 1 &&
		    memcmp(note + header, name, namesz) == 0) {
			*len = descsz;
			return s->bytes + desc;
		}
		pos = desc + round_up(descsz, 4);
	}
	return NULL;
}

const uint8_t *
elf_note(const struct elf *elf, const char *name, uint32_t type, size_t *len)
{
	unsigned notes = ELF_NOTES_MAX;

	for (unsigned i = 0; i < elf->phnum; i++) {
		const uint8_t *desc;
		struct elf_segment s;

		if (elf_segment(elf, i, &s, NULL) != 0 || s.type != ELF_PT_NOTE)
			continue;
		desc = elf_note_in(&s, name, type, &notes, len);
		if (desc != NULL)
			return desc;
	}
	return NULL;
}
