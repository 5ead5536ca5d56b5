/*
 * Sessions of any bytes with a writable server, message behind message, each
 * as long as it says.  Whatever they do, what lies beside the shared directory
 * stays as it was, and no descriptor is left open.
 *
 * The first byte: 1 read-only, 2 buffers of odd sizes, 4 little room for
 * replies.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/wire.h"
#include "p9/p9.h"

#define MSIZE 65536
#define MESSAGES 256 /* in one session */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char base[64];
static int base_fd;
static struct stat secret;

static void
must(bool good)
{
	if (!good)
		abort();
}

static int
remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	return remove(path);
}

static void
remove_base(void)
{
	(void)nftw(base, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static void
write_file(int dir, const char *name)
{
	int fd = openat(dir, name, O_CREAT | O_WRONLY | O_CLOEXEC, 0644);

	must(fd >= 0 && write(fd, "contents\n", 9) == 9);
	(void)close(fd);
}

static void
begin(void)
{
	const char *parent =
	    access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";

	/* A hole is no disk space, but reading it back takes time. */
	struct rlimit limit = { MIB, MIB };

	(void)signal(SIGXFSZ, SIG_IGN);
	(void)snprintf(base, sizeof(base), "%s/p9_fuzz.XXXXXX", parent);
	must(mkdtemp(base) != NULL);
	(void)atexit(remove_base);
	base_fd = open(base, O_PATH | O_DIRECTORY | O_CLOEXEC);
	must(base_fd >= 0);
	write_file(base_fd, "secret");
	must(fstatat(base_fd, "secret", &secret, 0) == 0);
	/* Soft only: libFuzzer's own files may be longer. */
	limit.rlim_max = RLIM_INFINITY;
	(void)setrlimit(RLIMIT_FSIZE, &limit);
}

static void
make_tree(void)
{
	int fd;

	must(mkdirat(base_fd, "share", 0755) == 0);
	fd = openat(base_fd, "share", O_PATH | O_DIRECTORY | O_CLOEXEC);
	must(fd >= 0 && mkdirat(fd, "dir", 0755) == 0);
	write_file(fd, "file");
	write_file(fd, "dir/inner");
	must(symlinkat("../secret", fd, "out") == 0);
	must(mkfifoat(fd, "fifo", 0644) == 0);
	(void)close(fd);
}

static int
remove_share(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	/* A guest may have taken our rights to it. */
	if (flag == FTW_DNR)
		(void)chmod(path, 0700);
	(void)remove(path); /* what is left counts as an entry */
	return 0;
}

static void
check_outside(void)
{
	char path[80];
	struct stat st;
	struct dirent *entry;
	DIR *dir;
	unsigned entries = 0;

	(void)snprintf(path, sizeof(path), "%s/share", base);
	/* Each time a level deeper, where directories could not be read. */
	for (unsigned tries = 0; tries < MESSAGES && access(path, F_OK) == 0;
	     tries++)
		(void)nftw(path, remove_share, 8, FTW_DEPTH | FTW_PHYS);
	must(fstatat(base_fd, "secret", &st, 0) == 0);
	must(st.st_ino == secret.st_ino && st.st_mode == secret.st_mode &&
	    st.st_uid == secret.st_uid && st.st_gid == secret.st_gid &&
	    st.st_nlink == secret.st_nlink && st.st_size == secret.st_size &&
	    st.st_ctim.tv_sec == secret.st_ctim.tv_sec &&
	    st.st_ctim.tv_nsec == secret.st_ctim.tv_nsec);
	dir = opendir(base);
	must(dir != NULL);
	while ((entry = readdir(dir)) != NULL)
		entries++;
	(void)closedir(dir);
	must(entries == 3); /* . .. secret */
}

/* The lowest free descriptor: the same before and after. */
static int
next_descriptor(void)
{
	int fd = fcntl(base_fd, F_DUPFD_CLOEXEC, 0);

	must(fd >= 0);
	(void)close(fd);
	return fd;
}

/* One message, in buffers of up to `part` bytes. */
static void
handle(struct p9 *server, const uint8_t *data, size_t size, size_t part,
    size_t room)
{
	static uint8_t reply[MSIZE];
	uint8_t *copy = malloc(size + 1);
	struct iovec in[300], out[300];
	unsigned in_count = 0, out_count = 0;
	ssize_t len;

	must(copy != NULL);
	memcpy(copy, data, size);
	for (size_t off = 0; off < size; in_count++) {
		size_t n = in_count < 299 ? MIN(part, size - off) : size - off;

		in[in_count] = (struct iovec) { copy + off, n };
		off += n;
	}
	for (size_t off = 0; off < room; out_count++) {
		size_t n = out_count < 299 ? MIN(part, room - off) : room - off;

		out[out_count] = (struct iovec) { reply + off, n };
		off += n;
	}
	len = p9_handle(server, in, in_count, out, out_count);
	if (len < 0) {
		must(len == -EPROTO || len == -EMSGSIZE);
	} else {
		must(len >= 7 && (size_t)len <= room);
		must(le32_load(reply) == (size_t)len);
		must(memcmp(reply + 5, copy + 5, 2) == 0);
		must(reply[4] == 7 || reply[4] == copy[4] + 1);
	}
	free(copy);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct p9 *server;
	struct err err;
	uint8_t options;
	char path[80];
	int before;

	if (base[0] == '\0')
		begin();
	if (size == 0)
		return 0;
	options = data[0];
	data++;
	size--;
	make_tree();
	before = next_descriptor();
	(void)snprintf(path, sizeof(path), "%s/share", base);
	must(p9_open(path, !(options & 1), MSIZE, &server, &err) == 0);
	for (unsigned i = 0; i < MESSAGES && size > 0; i++) {
		size_t len = size < 4 ? size : le32_load(data);

		len = MAX((size_t)1, MIN(len, size));
		handle(server, data, len, options & 2 ? 37 : MSIZE,
		    options & 4 ? 64 : MSIZE);
		data += len;
		size -= len;
	}
	p9_close(server);
	must(next_descriptor() == before);
	check_outside();
	return 0;
}
