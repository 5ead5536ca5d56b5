/*
 * Choosing an engine by name.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/engine_impl.h"
#include "engine/x86/cpuid.h"
#include "engine/x86/model.h"

static struct engine own;

static int
own_create(const struct engine_params *params, struct engine **engine,
    struct err *err)
{
	own.params = *params;
	*engine = &own;
	return 0;
}

static void
own_destroy(struct engine *engine)
{
	engine->params.vcpus = 99;
}

static const struct engine_ops own_ops = {
	.name = "own",
	.create = own_create,
	.destroy = own_destroy,
};

static void
a_registered_engine_is_found(void **state)
{
	struct engine_params params = { .vcpus = 3 };
	struct engine *engine = NULL;
	struct err err;

	assert_int_equal(engine_new("own", &params, &engine, &err), -EINVAL);
	engine_register(&own_ops);
	own.ops = &own_ops;
	assert_int_equal(engine_new("own", &params, &engine, &err), 0);
	assert_ptr_equal(engine, &own);
	assert_int_equal(engine->params.vcpus, 3);
	assert_string_equal(engine_name(engine), "own");
	/* It has no short cuts. */
	assert_int_equal(engine_irqfd(engine, 0, NULL), -ENOTSUP);
	assert_int_equal(engine_ioeventfd(engine, NULL, 0, true), -ENOTSUP);
	engine_time_stop(engine);
	engine_time_start(engine);
	engine_free(engine);
	assert_int_equal(own.params.vcpus, 99);
	engine_free(NULL);
	engine_vcpu_free(NULL);
}

static void
an_unknown_name_lists_the_known(void **state)
{
	struct engine *engine = NULL;
	struct err err;

	assert_int_equal(engine_new("abacus", NULL, &engine, &err), -EINVAL);
	assert_non_null(strstr(err.msg, "abacus"));
	assert_non_null(strstr(err.msg, engine_names()));
	assert_null(engine);
}

static bool
host_has_kvm(void)
{
	struct cpuid_table *host = calloc(1, sizeof(*host));
	bool has;

	assert_non_null(host);
	cpuid_host(host);
	has = cpuid_has_virtualization(host) &&
	    access("/dev/kvm", R_OK | W_OK) == 0;
	free(host);
	return has;
}

/* Auto takes KVM where the processor can, and else the translator. */
static void
auto_wants_real_virtualization(void **state)
{
	static const struct mem_params mem_params;
	struct mem *mem = mem_new(&mem_params);
	struct engine_params params = { .mem = mem,
		.vcpus = 1,
		.cores = 1,
		.sockets = 1,
		.threads = 1 };
	struct engine *engine = NULL;
	struct err err = { .msg = "" };

	assert_int_equal(engine_new("auto", &params, &engine, &err), 0);
	assert_string_equal(engine_name(engine),
	    host_has_kvm() ? "kvm" : "jit");
	engine_free(engine);
	mem_free(mem);
}

/* A model that there is not, and one that this host may lack. */
static void
models_are_chosen_by_name(void **state)
{
	static const struct mem_params mem_params;
	struct mem *mem = mem_new(&mem_params);
	struct engine_params params = { .mem = mem,
		.vcpus = 1,
		.cores = 1,
		.sockets = 1,
		.threads = 1,
		.soft.cpu_model = "z80" };
	struct engine *engine = NULL;
	struct err err = { .msg = "" };

	assert_int_equal(engine_new("jit", &params, &engine, &err), -EINVAL);
	assert_non_null(strstr(err.msg, "z80: unknown cpu model"));
	assert_non_null(strstr(err.msg, model_names()));
	params.soft.cpu_model = "x86-64-v2";
	assert_int_equal(engine_new("interp", &params, &engine, &err), 0);
	assert_string_equal(engine_name(engine), "interp");
	engine_free(engine);
	mem_free(mem);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_registered_engine_is_found),
		cmocka_unit_test(an_unknown_name_lists_the_known),
		cmocka_unit_test(auto_wants_real_virtualization),
		cmocka_unit_test(models_are_chosen_by_name),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
