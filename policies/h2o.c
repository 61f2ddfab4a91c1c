/* h2o.c - keep the heavy hitters, the slots that received most attention so far (arXiv:2306.14048).
 *
 * Score = attention probability received by the slot, accumulated over every query since it was appended, the prompt's
 * queries included; never normalised by age.  The newest `recent` slots are protected, since they had no time to
 * collect any.  The sums come out of the attention kernel itself (KV_NEED_MASS) and travel with the slot.
 *
 * Departs from the paper: probabilities are summed over the query heads that share a KV head (the original is
 * multi-head only; the mean would rank the same), and the reduction runs when the buffer is full instead of at every
 * token.  The default split, half recent and half heavy, is the authors'. */
#include "policies/policy.h"
#include "policies/policy_cuda.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { OPT_RECENT };

typedef struct h2o_state {
    int n_recent;
} h2o_state;

static int h2o_open(void **state, const kv_shape *shape, const kv_policy_args *args, kv_error *err) {
    (void)shape;
    h2o_state *s = malloc(sizeof *s);
    if (!s) return kv_fail(err, KV_ENOMEM, "h2o: out of memory for the policy's state");
    double given = args->values[OPT_RECENT];
    s->n_recent = isnan(given) ? args->budget / 2 : (int)given;
    *state = s;
    return KV_OK;
}

static void h2o_close(void *state) {
    free(state);
}

static void h2o_protect(const void *state, int *n_sink, int *n_recent) {
    *n_sink = 0;
    *n_recent = ((const h2o_state *)state)->n_recent;
}

static void h2o_score(const void *state, const kv_score_args *a, float *score) {
    (void)state;
    memcpy(score, a->mass, (size_t)a->n_slots * sizeof *score);
}

#ifdef KV_HAVE_CUDA
static int h2o_score_cuda(const void *state, const kv_cuda_heads *h) {
    (void)state;
    return kv_cuda_score_mass(h);
}
#endif

static const kv_option options[] = {
    {"recent", NAN, 0, 1048576, 1, NULL, "newest slots that never leave; default: half the budget"},
    {.name = NULL},
};

const kv_policy kv_policy_h2o = {
    .name = "h2o",
    .title = "H2O",
    .paper = "arXiv:2306.14048",
    .help = "most attention received so far, and the newest slots",
    .needs = KV_NEED_MASS,
    .options = options,
    .open = h2o_open,
    .close = h2o_close,
    .protect = h2o_protect,
    .score = h2o_score,
    .score_cuda = KV_CUDA_FN(h2o_score_cuda),
};
