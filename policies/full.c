/* full.c - the full cache: nothing ever leaves.  The upper end of every table, measured in the same engine. */
#include "policies/policy.h"

static int full_open(void **state, const kv_shape *shape, const kv_policy_args *args, kv_error *err) {
    (void)shape, (void)args, (void)err;
    *state = NULL;
    return KV_OK;
}

const kv_policy kv_policy_full = {
    .name = "full",
    .title = "Full cache",
    .paper = "",
    .help = "keeps every token; budget and buffer are ignored",
    .never_evicts = 1,
    .open = full_open,
};
