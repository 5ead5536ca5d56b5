/*
 * The judge of guest payloads: builds a machine as bhyve(8) does, runs one
 * payload in it and holds what it says on com1 against the grammar of guest.h.
 *
 *	judge [-c CPUS] [-e END] [-E ENGINE] [-m MEMORY] [-o KEY=VALUE] [-r]
 *	    [-t SECONDS] [-v] PAYLOAD
 *
 *	-e END	how the machine must end: poweroff (as when not given), reset,
 *		halt, triple
 *	-r	PAYLOAD is no kernel but a ROM that ends at 4 GiB
 *	-v	it needs a KVM with vmx or svm below: others lack instructions
 *
 * Prints TAP: one case for each check of the payload, one for its grammar and
 * one for its end.  Exits 0 if all passed, 1 if not, and 77, with the reason,
 * if the host lacks the engine.
 *
 * Threads      everything here runs on the event loop's thread.
 */
#include <cpuid.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/parse.h"
#include "base/util.h"
#include "cmd/bhyve/machine.h"
#include "vm/device.h"
#include "vm/platform.h"
#include "vm/vm.h"

#define EXIT_SKIP 77
#define CPUID_VMX 0x20u
#define CPUID_SVM 0x4u
#define LINE_MAX_LEN 200
#define CHECKS_MAX 500

struct judge {
	struct loop *loop;
	struct vm *vm;
	int tty; /* the far end of com1 */
	unsigned cases;
	unsigned failures;
	/* The grammar, line by line. */
	char line[LINE_MAX_LEN];
	size_t len;
	bool begun;
	bool done;
	unsigned checks;
	char complaint[2 * LINE_MAX_LEN]; /* the first, or empty */
};

static const char *const end_names[] = {
	[VM_END_NONE] = "none",
	[VM_END_RESET] = "reset",
	[VM_END_POWEROFF] = "poweroff",
	[VM_END_HALT] = "halt",
	[VM_END_TRIPLE_FAULT] = "triple",
	[VM_END_ERROR] = "error",
};

static void
judge_case(struct judge *j, bool ok, const char *label)
{
	j->cases++;
	j->failures += !ok;
	printf("%s %u - %s\n", ok ? "ok" : "not ok", j->cases, label);
}

static void
judge_complain(struct judge *j, const char *what)
{
	if (j->complaint[0] == '\0')
		(void)snprintf(j->complaint, sizeof(j->complaint), "%s: \"%s\"",
		    what, j->line);
}

/* What follows `word` and a space, or NULL. */
static const char *
after_word(const char *line, const char *word)
{
	size_t len = strlen(word);

	if (strncmp(line, word, len) != 0 || line[len] != ' ' ||
	    line[len + 1] == '\0')
		return NULL;
	return line + len + 1;
}

static void
judge_done(struct judge *j, const char *count)
{
	char expected[16];

	j->done = true;
	(void)snprintf(expected, sizeof(expected), "%u", j->checks);
	if (strcmp(count, expected) != 0)
		judge_complain(j, "wrong count");
}

static void
judge_line(struct judge *j)
{
	const char *rest;

	if (j->done) {
		judge_complain(j, "after the last line");
	} else if (!j->begun) {
		j->begun = after_word(j->line, "test") != NULL;
		if (!j->begun)
			judge_complain(j, "not a first line");
	} else if (j->checks == CHECKS_MAX) {
		judge_complain(j, "goes on for ever");
	} else if ((rest = after_word(j->line, "pass")) != NULL) {
		j->checks++;
		judge_case(j, true, rest);
	} else if ((rest = after_word(j->line, "fail")) != NULL) {
		j->checks++;
		judge_case(j, false, rest);
	} else if ((rest = after_word(j->line, "input")) != NULL) {
		if (write(j->tty, rest, strlen(rest)) < 0)
			judge_complain(j, "cannot type");
	} else if ((rest = after_word(j->line, "done")) != NULL) {
		judge_done(j, rest);
	} else {
		judge_complain(j, "not a line of the grammar");
	}
}

static void
judge_hear(void *arg, int fd, unsigned ready)
{
	struct judge *j = arg;
	char bytes[512];
	ssize_t n = read(fd, bytes, sizeof(bytes));

	for (ssize_t i = 0; i < n; i++) {
		if (bytes[i] == '\n') {
			j->line[j->len] = '\0';
			judge_line(j);
			j->len = 0;
		} else if (j->len < sizeof(j->line) - 1) {
			j->line[j->len++] = bytes[i];
		} else {
			judge_complain(j, "line too long");
		}
	}
}

static void
judge_out_of_time(void *arg, uint64_t expirations)
{
	struct judge *j = arg;
	struct err err;

	(void)err_set(&err, -ETIMEDOUT, "still running at its time limit");
	vm_end_failed(j->vm, &err);
}

/* ---- the machine -------------------------------------------------------- */

struct options {
	const char *engine;
	const char *end;
	const char *payload;
	const char *cpus;
	const char *memory;
	const char *extra[8];
	unsigned extras;
	unsigned seconds;
	bool rom;
	bool virtualization;
};

/* The ROM's bytes, so placed that they end at 4 GiB. */
static int
load_rom(struct mem *mem, const char *path, struct err *err)
{
	static uint8_t bytes[256 * 1024];
	FILE *file = fopen(path, "rb");
	size_t len;
	int ret;

	if (file == NULL)
		return err_set_errno(err, -errno, "%s", path);
	len = fread(bytes, 1, sizeof(bytes), file);
	(void)fclose(file);
	if (len == 0 || len % MEM_PAGE_SIZE != 0)
		return err_set(err, -EINVAL, "%s: %zu bytes are no ROM", path,
		    len);
	ret = mem_add(mem, "bootrom", MEM_ROM, PLAT_4GIB - len, len, err);
	if (ret == 0)
		ret = mem_write_rom(mem, PLAT_4GIB - len, bytes, len);
	return ret;
}

static int
configure(struct config *root, const struct options *o, const char *com1,
    struct err *err)
{
	const char *const settings[][2] = {
		{ "name", "payload" },
		{ "engine", o->engine },
		{ "cpus", o->cpus },
		{ "memory.size", o->memory },
		{ "x86.vmexit_on_hlt", "true" },
		{ "acpi_tables", "true" },
		{ "pci.0.0.0.device", "hostbridge" },
		{ "pci.0.31.0.device", "lpc" },
	};
	int ret = 0;

	for (size_t i = 0; i < ARRAY_SIZE(settings) && ret == 0; i++)
		ret = config_set(root, settings[i][0], settings[i][1], err);
	if (ret == 0)
		ret = config_set(root, "lpc.com1.path", com1, err);
	if (ret == 0 && !o->rom)
		ret = config_set(root, "boot.kernel", o->payload, err);
	for (unsigned i = 0; i < o->extras && ret == 0; i++)
		ret = config_set_option(root, o->extra[i], err);
	return ret;
}

/* A pseudo-terminal: the judge keeps the master, com1 gets the slave. */
static int
open_tty(char *slave, size_t len, struct err *err)
{
	int fd = posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);

	if (fd < 0 || grantpt(fd) != 0 || unlockpt(fd) != 0 ||
	    ptsname_r(fd, slave, len) != 0)
		return err_set_errno(err, -errno, "pseudo-terminal");
	return fd;
}

static int
run(struct judge *j, const struct options *o, enum vm_end *how, struct err *err)
{
	char com1[64];
	struct config *root = config_new();
	struct event *hear = NULL;
	struct event *limit = NULL;
	struct device *dev;
	int ret;

	ret = j->tty = open_tty(com1, sizeof(com1), err);
	if (ret >= 0)
		ret = configure(root, o, com1, err);
	if (ret == 0)
		ret = machine_new(root, j->loop, &j->vm, err);
	if (ret == 0)
		ret = device_new(j->vm, "testdev", "testdev", NULL, &dev, err);
	if (ret == 0 && o->rom)
		ret = load_rom(vm_mem(j->vm), o->payload, err);
	if (ret == 0)
		ret = event_add_fd(j->loop, j->tty, EVENT_READ, judge_hear, j,
		    &hear, err);
	if (ret == 0)
		ret =
		    event_add_timer(j->loop, judge_out_of_time, j, &limit, err);
	if (ret == 0)
		ret = vm_start(j->vm, err);
	if (ret == 0) {
		event_arm(limit, o->seconds * NS_PER_SEC, 0);
		*how = vm_run(j->vm);
		event_disarm(limit);
		/* What the payload said last may still be on its way. */
		for (int i = 0; i < 50 && !j->done; i++)
			loop_run_once(j->loop, 20);
	}
	event_remove(limit);
	event_remove(hear);
	if (j->tty >= 0)
		(void)close(j->tty);
	if (*how == VM_END_ERROR)
		(void)err_set(err, -EIO, "%s", vm_end_error(j->vm));
	vm_free(j->vm);
	config_free(root);
	return ret;
}

static int
judge(const struct options *o)
{
	struct judge j = { 0 };
	struct err err = { 0 };
	enum vm_end how = VM_END_NONE;
	char label[64];
	int ret;

	j.loop = loop_new(&err);
	ret = j.loop == NULL ? -1 : run(&j, o, &how, &err);
	loop_free(j.loop);

	if (j.complaint[0] == '\0' && !j.done)
		(void)snprintf(j.complaint, sizeof(j.complaint),
		    "fell silent after %u checks", j.checks);
	judge_case(&j, j.complaint[0] == '\0', "says what the grammar allows");
	if (j.complaint[0] != '\0')
		printf("# %s\n", j.complaint);
	(void)snprintf(label, sizeof(label), "ends by %s", o->end);
	judge_case(&j, ret >= 0 && strcmp(end_names[how], o->end) == 0, label);
	if (err.msg[0] != '\0')
		printf("# %s\n", err.msg);
	else if (strcmp(end_names[how], o->end) != 0)
		printf("# it ended by %s\n", end_names[how]);
	printf("1..%u\n", j.cases);
	return j.failures == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* Says why not. */
static bool
have_kvm(bool with_virtualization)
{
	unsigned eax, ebx, ecx, edx;

	if (access("/dev/kvm", R_OK | W_OK) != 0) {
		printf("/dev/kvm: %s\n", strerror(errno));
		return false;
	}
	if (!with_virtualization ||
	    (__get_cpuid(1, &eax, &ebx, &ecx, &edx) && (ecx & CPUID_VMX)) ||
	    (__get_cpuid(0x80000001, &eax, &ebx, &ecx, &edx) &&
		(ecx & CPUID_SVM)))
		return true;
	printf(
	    "/dev/kvm here has neither vmx nor svm below and only emulates\n");
	return false;
}

int
main(int argc, char **argv)
{
	struct options o = {
		.engine = "kvm",
		.end = "poweroff",
		.cpus = "1",
		.memory = "64M",
		.seconds = 60,
	};
	int opt;

	while ((opt = getopt(argc, argv, "c:e:E:m:o:rt:v")) != -1) {
		switch (opt) {
		case 'c':
			o.cpus = optarg;
			break;
		case 'e':
			o.end = optarg;
			break;
		case 'E':
			o.engine = optarg;
			break;
		case 'm':
			o.memory = optarg;
			break;
		case 'o':
			if (o.extras < ARRAY_SIZE(o.extra))
				o.extra[o.extras++] = optarg;
			break;
		case 'r':
			o.rom = true;
			break;
		case 't':
			o.seconds = (unsigned)atoi(optarg);
			break;
		case 'v':
			o.virtualization = true;
			break;
		default:
			return EXIT_FAILURE;
		}
	}
	if (optind != argc - 1) {
		fprintf(stderr, "usage: judge [options] PAYLOAD\n");
		return EXIT_FAILURE;
	}
	o.payload = argv[optind];
	if (strcmp(o.engine, "kvm") == 0 && !have_kvm(o.virtualization))
		return EXIT_SKIP;
	return judge(&o);
}
