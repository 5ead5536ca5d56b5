/*
 * CPU models: what a software processor offers of what the host has.
 */
#ifndef ENGINE_X86_MODEL_H
#define ENGINE_X86_MODEL_H

#include "base/err.h"
#include "engine/x86/cpuid.h"

/*
 * CPUID of a model, before bhyve's edits (cpuid_guest).  NULL is the default,
 * x86-64-v3.  -EINVAL for a name that there is not; -ENOTSUP, naming the
 * feature, for a host that lacks something the model or the engine needs.
 */
int model_cpuid(const char *name, struct cpuid_table *table, struct err *err);
/* "x86-64-v2, x86-64-v3 ...": static storage. */
const char *model_names(void);

#endif
