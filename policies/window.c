/* window.c - attention sinks and the most recent tokens (StreamingLLM, arXiv:2309.17453).
 *
 * The first `sinks` positions are protected; among the rest the score is the position, so the oldest leaves first.
 * sinks=0 is the plain sliding window.  The budget counts the sinks, as the capacity of the paper does.
 *
 * Departs from the paper: keys keep the rotation of their original positions (the authors re-index them inside the
 * cache), and the reduction runs when the buffer is full instead of at every token. */
#include "policies/policy.h"
#include "policies/policy_cuda.h"

#include <stdlib.h>

enum { OPT_SINKS };

typedef struct window_state {
    int n_sink;
} window_state;

static int window_open(void **state, const kv_shape *shape, const kv_policy_args *args, kv_error *err) {
    (void)shape;
    window_state *s = malloc(sizeof *s);
    if (!s) return kv_fail(err, KV_ENOMEM, "window: out of memory for the policy's state");
    s->n_sink = (int)args->values[OPT_SINKS];
    *state = s;
    return KV_OK;
}

static void window_close(void *state) {
    free(state);
}

static void window_protect(const void *state, int *n_sink, int *n_recent) {
    *n_sink = ((const window_state *)state)->n_sink;
    *n_recent = 0;
}

static void window_score(const void *state, const kv_score_args *a, float *score) {
    (void)state;
    for (int i = 0; i < a->n_slots; i++) score[i] = (float)a->pos[i];
}

#ifdef KV_HAVE_CUDA
static int window_score_cuda(const void *state, const kv_cuda_heads *h) {
    (void)state;
    return kv_cuda_score_position(h);
}
#endif

static const kv_option options[] = {
    {"sinks", 4, 0, 1048576, 1, NULL, "first positions that never leave; 0 is the plain sliding window"},
    {.name = NULL},
};

const kv_policy kv_policy_window = {
    .name = "window",
    .title = "Window",
    .paper = "arXiv:2309.17453",
    .help = "attention sinks and the newest tokens (StreamingLLM, original positions)",
    .options = options,
    .open = window_open,
    .close = window_close,
    .protect = window_protect,
    .score = window_score,
    .score_cuda = KV_CUDA_FN(window_score_cuda),
};
