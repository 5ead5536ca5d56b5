/*
 * The kernel of the boot.* keys: its files read, put into guest memory, and
 * the first processor set to its entry.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "cmd/bhyve/machine_impl.h"
#include "firmware/boot.h"

/* A file that is to go into guest memory: so it is no larger than that. */
static int
image_read(const char *path, uint64_t limit, struct boot_image *image,
    struct err *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC), r = 0;
	uint8_t *data = NULL;
	struct stat st;
	size_t len = 0;

	if (fd < 0)
		return err_set_errno(err, -errno, "%s", path);
	if (fstat(fd, &st) < 0)
		r = err_set_errno(err, -errno, "%s", path);
	else if (!S_ISREG(st.st_mode))
		r = err_set(err, -EINVAL, "%s: not a regular file", path);
	else if ((uint64_t)st.st_size > limit)
		r = err_set(err, -ENOSPC, "%s: larger than the guest's memory",
		    path);
	if (r == 0) {
		data = malloc((size_t)st.st_size + 1);
		if (data == NULL)
			r = err_set_errno(err, -ENOMEM, "%s", path);
	}
	while (r == 0 && len < (size_t)st.st_size) {
		ssize_t n = read(fd, data + len, (size_t)st.st_size - len);

		if (n < 0 && errno != EINTR)
			r = err_set_errno(err, -errno, "%s", path);
		if (n == 0)
			break; /* somebody cuts it while we read */
		len += n > 0 ? (size_t)n : 0;
	}
	(void)close(fd);
	if (r < 0) {
		free(data);
		return r;
	}
	image->name = path;
	image->data = data;
	image->len = len;
	return 0;
}

static int
module_add(struct boot_params *params, const char *path, uint64_t limit,
    struct err *err)
{
	int r;

	if (params->module_count == BOOT_MODULES_MAX)
		return err_set(err, -E2BIG, "boot.modules: more than %u",
		    BOOT_MODULES_MAX);
	r = image_read(path, limit, &params->modules[params->module_count],
	    err);
	if (r == 0)
		params->module_count++;
	return r;
}

int
machine_boot(struct vm *vm, gpa_t rsdp, struct err *err)
{
	struct mem *mem = vm_mem(vm);
	uint64_t limit = mem_lowmem(mem) + mem_highmem(mem);
	struct boot_params params = { .rsdp = rsdp };
	struct cpu_state *cpu = xcalloc(1, sizeof(*cpu));
	char *kernel, *initrd, *modules, *rest, *word, *cmdline, *protocol;
	const struct {
		const char *key;
		const char *dflt;
		char **value;
	} keys[] = {
		{ "boot.kernel", NULL, &kernel },
		{ "boot.initrd", NULL, &initrd },
		{ "boot.modules", NULL, &modules },
		{ "boot.cmdline", NULL, &cmdline },
		{ "boot.protocol", "auto", &protocol },
	};
	int r = 0;

	for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
		*keys[i].value = NULL;
	for (size_t i = 0; i < ARRAY_SIZE(keys) && r == 0; i++)
		r = config_str(vm_config(vm), keys[i].key, keys[i].dflt,
		    keys[i].value, err);
	if (r < 0 || kernel == NULL)
		goto out;
	params.protocol = protocol;
	params.cmdline = cmdline;
	r = image_read(kernel, limit, &params.kernel, err);
	if (r == 0 && initrd != NULL)
		r = module_add(&params, initrd, limit, err);
	rest = modules;
	while (r == 0 && (word = strsep(&rest, ",")) != NULL)
		r = module_add(&params, word, limit, err);
	if (r < 0)
		goto out;
	/* Not started yet, so this is its state after reset. */
	r = vm_get_cpu(vm, 0, cpu, err);
	if (r == 0)
		r = boot_load(mem, &params, cpu, err);
	if (r == 0)
		r = vm_set_cpu(vm, 0, cpu, err);
out:
	free((void *)params.kernel.data);
	for (unsigned i = 0; i < params.module_count; i++)
		free((void *)params.modules[i].data);
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
		free(*keys[i].value);
	free(cpu);
	return r;
}
