/* registry.h - the list of policies and the `name:key=value:key=value` notation. */
#ifndef KV_REGISTRY_H
#define KV_REGISTRY_H

#include "policies/policy.h"

typedef struct kv_policy_spec {
    const kv_policy *policy;
    double values[KV_MAX_OPTIONS]; /* one per option, defaults filled in */
    char canonical[192];           /* name with every non-default parameter, in option order: the identity */
} kv_policy_spec;

/* All policies; *n receives the count.  Static storage. */
const kv_policy *const *kv_policy_all(int *n);

/* NULL when there is none of that name. */
const kv_policy *kv_policy_find(const char *name);

/* Parses "h2o:recent=64".  KV_ENOTFOUND (naming the nearest policy), KV_EARG (unknown key, value out of range). */
int kv_policy_parse(const char *text, kv_policy_spec *spec, kv_error *err);

#endif
