/* dbtrimkv.c - learned retention gates with one budget for all layers and heads (DBTrimKV, arXiv:2605.09649).
 *
 * Scores are those of trimkv.c: (T + 1 - p) lb with lb from the gate at append, or with lookahead=n the sum of the
 * retention over n future steps.  They are ranked together: as soon as all heads of a sequence hold M + B slots on
 * average, the n_layers n_kv_heads M best stay, in whatever heads they lie.  Nothing is protected, neither sinks nor
 * the newest, and a head may end with no slot at all: its next token attends to itself.
 *
 * floor=m (the authors' min_tokens_per_head) shares out M - m slots per head only; a head then keeps its own best, m
 * more than it won.  One that holds fewer keeps all, and what it lacks goes to nobody.  pool=layer is the authors'
 * layer_wise_ variant, every layer for itself.
 *
 * Departs from the authors' code: scores are ranked in fp32, where theirs multiplies in bf16 without lookahead; slots
 * are counted for the head they lie in, where their flat cache with a floor gives every head's first slot to the head
 * before; pool=layer starts at M + B like everything else and knows the floor, where theirs starts one slot later and
 * ignores it. */
#include "policies/gate.h"
#include "policies/policy_cuda.h"

#include <stdlib.h>

enum { OPT_LOOKAHEAD, OPT_FLOOR, OPT_POOL, OPT_ROUND };
enum { STAT_LB, N_STATS };

typedef struct dbtrimkv_state {
    const kv_gates *gates;
    int head_dim;
    int lookahead, floor, bf16;
    kv_pool pool;
} dbtrimkv_state;

static int dbtrimkv_open(void **state, const kv_shape *shape, const kv_policy_args *args, kv_error *err) {
    const kv_gates *g = args->gates;
    if (!g)
        return kv_fail(err, KV_EARG,
                       "dbtrimkv: no retention gates were given; pass --gates FOLDER (the one that holds "
                       "trimkv_weights.safetensors or .pth for this model)");
    if (args->values[OPT_FLOOR] > args->budget)
        return kv_fail(err, KV_EARG, "dbtrimkv: floor=%d is more than the budget of %d; give at most that",
                       (int)args->values[OPT_FLOOR], args->budget);
    int rc = kv_gate_check(g, shape, "dbtrimkv", err);
    if (rc) return rc;
    dbtrimkv_state *s = malloc(sizeof *s);
    if (!s) return kv_fail(err, KV_ENOMEM, "dbtrimkv: out of memory for the policy's state");
    *s = (dbtrimkv_state){
        .gates = g,
        .head_dim = shape->head_dim,
        .lookahead = (int)args->values[OPT_LOOKAHEAD],
        .floor = (int)args->values[OPT_FLOOR],
        .bf16 = (int)args->values[OPT_ROUND],
        .pool = args->values[OPT_POOL] == 0 ? KV_POOL_MODEL : KV_POOL_LAYER,
    };
    *state = s;
    return KV_OK;
}

static void dbtrimkv_close(void *state) {
    free(state);
}

static kv_pool dbtrimkv_pool(const void *state, int *floor) {
    const dbtrimkv_state *s = state;
    *floor = s->floor;
    return s->pool;
}

static void dbtrimkv_observe(const void *state, const kv_services *sv, const kv_observe_args *a) {
    const dbtrimkv_state *s = state;
    kv_gate_observe(s->gates, s->head_dim, s->bf16, sv, a, N_STATS, STAT_LB);
}

static void dbtrimkv_score(const void *state, const kv_score_args *a, float *score) {
    kv_gate_score(a, a->stats[STAT_LB], ((const dbtrimkv_state *)state)->lookahead, score);
}

#ifdef KV_HAVE_CUDA
static int dbtrimkv_score_cuda(const void *state, const kv_cuda_heads *h) {
    return kv_cuda_score_retention(h, ((const dbtrimkv_state *)state)->lookahead, 0);
}
#endif

static int dbtrimkv_gate_stat(const void *state) {
    return ((const dbtrimkv_state *)state)->bf16 ? -1 : STAT_LB;
}

static const kv_option options[] = {
    {"lookahead", 1, 1, 1048576, 1, NULL, "future steps over which retention is summed"},
    {"floor", 0, 0, 1048576, 1, NULL, "slots of each head's budget that are not shared"},
    {"pool", 0, 0, 1, 1, "model|layer", "heads that share a budget: all of the model, or those of a layer"},
    {"round", 0, 0, 1, 1, "fp32|bf16", "precision of the gate: fp32, or bf16 after every operation for parity"},
    {.name = NULL},
};

const kv_policy kv_policy_dbtrimkv = {
    .name = "dbtrimkv",
    .title = "DBTrimKV",
    .paper = "arXiv:2605.09649",
    .help = "retention by a learned gate, one budget for all layers and heads; needs --gates",
    .needs = KV_NEED_GATES | KV_NEED_OBSERVE,
    .n_stats = N_STATS,
    .options = options,
    .open = dbtrimkv_open,
    .close = dbtrimkv_close,
    .pool = dbtrimkv_pool,
    .observe = dbtrimkv_observe,
    .score = dbtrimkv_score,
    .score_cuda = KV_CUDA_FN(dbtrimkv_score_cuda),
    .gate_stat = dbtrimkv_gate_stat,
};
