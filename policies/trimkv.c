/* trimkv.c - learned retention gates (TRIM-KV, arXiv:2512.03324).
 *
 * A small gate per layer (gate.h) predicts, once, when a token is appended, the log retention lb = ln beta <= 0 of
 * every KV head.  With T tokens seen, a slot of position p scores (T + 1 - p) lb, or with lookahead=n the sum of its
 * retention over n future steps (kv_gate_score): it decays geometrically with age.  Slots of different age cross over
 * as T grows: scores are recomputed at every trigger.  knorm=1 adds ln |k| of the cached key (the authors'
 * knorm_alpha), window=w protects the newest w slots, round=bf16 rounds the gate where the authors' bf16 code does
 * (each linear map, activation, bias, logsigmoid), for parity with their rankings.
 *
 * Columns: lb, and ln |k| (0 unless knorm=1), since what a policy declares is fixed: 4 bytes more than lb alone.
 *
 * Departs from the paper as the authors' code does: its exponent is T - p.  Departs from their code: gate and lb in
 * fp32 by default; where lb > -1e-7 the lookahead form uses its limit, ln n, instead of inf - inf. */
#include "policies/gate.h"
#include "policies/policy_cuda.h"

#include <math.h>
#include <stdlib.h>

enum { OPT_WINDOW, OPT_LOOKAHEAD, OPT_KNORM, OPT_ROUND };
enum { STAT_LB, STAT_LNK, N_STATS };

typedef struct trimkv_state {
    const kv_gates *gates;
    int head_dim;
    int window, lookahead, knorm, bf16;
} trimkv_state;

static int trimkv_open(void **state, const kv_shape *shape, const kv_policy_args *args, kv_error *err) {
    const kv_gates *g = args->gates;
    if (!g)
        return kv_fail(err, KV_EARG,
                       "trimkv: no retention gates were given; pass --gates FOLDER (the one that holds "
                       "trimkv_weights.safetensors or .pth for this model)");
    int rc = kv_gate_check(g, shape, "trimkv", err);
    if (rc) return rc;
    trimkv_state *s = malloc(sizeof *s);
    if (!s) return kv_fail(err, KV_ENOMEM, "trimkv: out of memory for the policy's state");
    *s = (trimkv_state){
        .gates = g,
        .head_dim = shape->head_dim,
        .window = (int)args->values[OPT_WINDOW],
        .lookahead = (int)args->values[OPT_LOOKAHEAD],
        .knorm = (int)args->values[OPT_KNORM],
        .bf16 = (int)args->values[OPT_ROUND],
    };
    *state = s;
    return KV_OK;
}

static void trimkv_close(void *state) {
    free(state);
}

static void trimkv_protect(const void *state, int *n_sink, int *n_recent) {
    *n_sink = 0;
    *n_recent = ((const trimkv_state *)state)->window;
}

static float log_norm(const float *k, int n) {
    double sum = 0;
    for (int i = 0; i < n; i++) sum += (double)k[i] * k[i];
    return (float)log(fmax(sqrt(sum), 1e-12));
}

static void trimkv_observe(const void *state, const kv_services *sv, const kv_observe_args *a) {
    const trimkv_state *s = state;
    size_t d = (size_t)s->head_dim, n = (size_t)a->n_rows * (size_t)s->gates->n_kv_heads;
    kv_gate_observe(s->gates, s->head_dim, s->bf16, sv, a, N_STATS, STAT_LB);
    for (size_t i = 0; i < n; i++) a->stats[i * N_STATS + STAT_LNK] = s->knorm ? log_norm(a->k + i * d, (int)d) : 0;
}

static void trimkv_score(const void *state, const kv_score_args *a, float *score) {
    const trimkv_state *s = state;
    kv_gate_score(a, a->stats[STAT_LB], s->lookahead, score);
    for (int i = 0; s->knorm && i < a->n_slots; i++) score[i] += a->stats[STAT_LNK][i];
}

#ifdef KV_HAVE_CUDA
static int trimkv_score_cuda(const void *state, const kv_cuda_heads *h) {
    const trimkv_state *s = state;
    return kv_cuda_score_retention(h, s->lookahead, s->knorm);
}
#endif

static int trimkv_gate_stat(const void *state) {
    const trimkv_state *s = state;
    return s->knorm || s->bf16 ? -1 : STAT_LB;
}

static const kv_option options[] = {
    {"window", 0, 0, 1048576, 1, NULL, "newest slots that never leave"},
    {"lookahead", 1, 1, 1048576, 1, NULL, "future steps over which retention is summed"},
    {"knorm", 0, 0, 1, 1, NULL, "1 = add ln of the key's norm to the score"},
    {"round", 0, 0, 1, 1, "fp32|bf16", "precision of the gate: fp32, or bf16 after every operation for parity"},
    {.name = NULL},
};

const kv_policy kv_policy_trimkv = {
    .name = "trimkv",
    .title = "TRIM-KV",
    .paper = "arXiv:2512.03324",
    .help = "retention predicted per token by a learned gate, decaying with age; needs --gates",
    .needs = KV_NEED_GATES | KV_NEED_OBSERVE,
    .n_stats = N_STATS,
    .options = options,
    .open = trimkv_open,
    .close = trimkv_close,
    .protect = trimkv_protect,
    .observe = trimkv_observe,
    .score = trimkv_score,
    .score_cuda = KV_CUDA_FN(trimkv_score_cuda),
    .gate_stat = trimkv_gate_stat,
};
