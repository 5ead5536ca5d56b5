/*
 * bhyve: run one virtual machine, which is this process.
 *
 * Signals      SIGTERM presses the power button of a guest that would see it.
 *              If none would, it ends the process as it does by default, as
 *              SIGINT and SIGHUP always do; all three only once the devices
 *              are gone and the terminal is as it was.  One that was ignored
 *              when we started, as below nohup(1), stays so.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/log.h"
#include "chipset/acpi_pm.h"
#include "cmd/bhyve/machine.h"
#include "cmd/bhyve/options.h"
#include "vm/device.h"

/* Room for a file of that name, and for what stands around it. */
#define NAME_LEN_MAX 229

/* How the process ends, by enum vm_end. */
static const int end_status[] = {
	[VM_END_RESET] = EXIT_RESET,
	[VM_END_POWEROFF] = EXIT_POWEROFF,
	[VM_END_HALT] = 2,
	[VM_END_TRIPLE_FAULT] = 3,
	[VM_END_ERROR] = EXIT_ERROR,
};

static const int signals[] = { SIGHUP, SIGINT, SIGTERM };

struct run {
	struct loop *loop;
	struct vm *vm;
	struct event *events[ARRAY_SIZE(signals)];
	int killed_by; /* 0: by none */
};

static void
run_signal(void *arg, const siginfo_t *info)
{
	struct run *run = arg;
	struct err err;

	if (info->si_signo == SIGTERM &&
	    acpi_pm_power_button(device_find(run->vm, "acpi_pm")))
		return;
	run->killed_by = info->si_signo;
	(void)err_set(&err, -EINTR, "%s", strsignal(run->killed_by));
	vm_end_failed(run->vm, &err);
}

static int
run_catch_signals(struct run *run, struct err *err)
{
	struct sigaction old;
	int r = 0;

	(void)signal(SIGPIPE, SIG_IGN);
	for (size_t i = 0; i < ARRAY_SIZE(signals) && r == 0; i++) {
		(void)sigaction(signals[i], NULL, &old);
		if (old.sa_handler != SIG_IGN)
			r = event_add_signal(run->loop, signals[i], run_signal,
			    run, &run->events[i], err);
	}
	return r;
}

static void
print_statistic(void *arg, int vcpu, const char *name, uint64_t value)
{
	FILE *file = arg;

	if (vcpu >= 0)
		(void)fprintf(file, "vcpu%d: ", vcpu);
	(void)fprintf(file, "%s: %" PRIu64 "\n", name, value);
}

/*
 * What the machine has counted, to the file that "statistics" names.  How the
 * machine ended stays the exit status, whatever becomes of the file.
 */
static void
write_statistics(struct config *root, struct vm *vm)
{
	struct err err;
	FILE *file;
	char *path;

	if (config_str(root, "statistics", NULL, &path, &err) < 0) {
		log_warn("%s", err.msg);
		return;
	}
	if (path == NULL)
		return;
	file = fopen(path, "we");
	if (file != NULL)
		engine_stats(vm_engine(vm), print_statistic, file);
	if (file == NULL || fclose(file) != 0)
		log_warn("statistics: %s: %s", path, strerror(errno));
	free(path);
}

/* The exit status; a sentence in err where it is EXIT_ERROR. */
static int
run_machine(struct run *run, struct config *root, struct err *err)
{
	enum vm_end how = VM_END_ERROR;
	int r;

	run->loop = loop_new(err);
	if (run->loop == NULL)
		return EXIT_ERROR;
	/* Before the machine: its threads must inherit the signal mask. */
	r = run_catch_signals(run, err);
	if (r == 0)
		r = machine_new(root, run->loop, &run->vm, err);
	if (r == 0)
		r = vm_start(run->vm, err);
	if (r == 0) {
		how = vm_run(run->vm);
		if (how == VM_END_ERROR)
			(void)err_set(err, -EIO, "%s", vm_end_error(run->vm));
		write_statistics(root, run->vm);
	}
	vm_free(run->vm);
	for (size_t i = 0; i < ARRAY_SIZE(signals); i++)
		event_remove(run->events[i]);
	loop_free(run->loop);
	return end_status[how];
}

static int
check_name(struct config *root, struct err *err)
{
	char *name;
	int r = config_get(root, "name", &name, err);

	if (r < 0)
		return r;
	if (strlen(name) > NAME_LEN_MAX || strchr(name, '/') != NULL ||
	    name[0] == '.')
		r = err_set(err, -EINVAL, "invalid virtual machine name '%s'",
		    name);
	free(name);
	return r;
}

/* Or the next file opened would be taken for standard output. */
static void
fill_standard_fds(void)
{
	int fd;

	do
		fd = open("/dev/null", O_RDWR);
	while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd >= 0)
		(void)close(fd);
}

int
main(int argc, char **argv)
{
	struct config *root = config_new();
	struct err err = { 0 };
	struct run run = { 0 };
	uint64_t mem_size;
	int status;
	bool dump;

	fill_standard_fds();
	if (options_parse(root, argc, argv, &status, &err) != 0)
		goto out;
	status = EXIT_ERROR;
	if (check_name(root, &err) < 0 ||
	    config_bool(root, "config.dump", false, &dump, &err) < 0)
		goto out;
	if (dump) {
		if (config_dump(root, stdout, &err) == 0)
			status = EXIT_POWEROFF;
		goto out;
	}
	if (machine_mem_size(root, &mem_size, &err) < 0) {
		status = EXIT_USAGE;
		goto out;
	}
	if (machine_check_boot(root, &err) == 0)
		status = run_machine(&run, root, &err);
out:
	config_free(root);
	if (run.killed_by != 0) {
		(void)signal(run.killed_by, SIG_DFL);
		(void)raise(run.killed_by);
	}
	if (err.msg[0] != '\0')
		(void)fprintf(stderr, "bhyve: %s\n", err.msg);
	return status;
}
