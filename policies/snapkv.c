/* snapkv.c - what the last few queries look at (SnapKV, arXiv:2404.14469), in the form used while decoding.
 *
 * The paper prunes once, after the prompt.  This is the decode-time variant published with R-KV (arXiv:2505.24133),
 * which runs at every trigger.  With the last w queries and the past slots j < S - w of one KV head:
 *   x[t][j] = max over the group's query heads of q_t . k_j / sqrt(d)
 *   p[t]    = softmax of x[t] over the past slots alone
 *   score_j = max over |i - j| <= pool / 2 of the mean over t of p[t][i]
 * The newest w slots are protected.
 *
 * Departs from that code: slots are in temporal order, so pooling mixes neighbours in time at every trigger (there:
 * neighbours in score order after the first); all in fp32.  Departs from the paper: group maximum before the softmax,
 * softmax without the window's own columns, mean instead of sum, maximum pooling. */
#include "policies/policy.h"
#include "policies/policy_cuda.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { OPT_WINDOW, OPT_POOL };

typedef float quad __attribute__((vector_size(16)));

typedef struct snapkv_state {
    int window, pool;
} snapkv_state;

static int snapkv_open(void **state, const kv_shape *shape, const kv_policy_args *args, kv_error *err) {
    (void)shape;
    int pool = (int)args->values[OPT_POOL];
    if (pool % 2 == 0)
        return kv_fail(err, KV_EARG, "snapkv: pool=%d must be odd, so that it is centred on its slot; use %d or %d",
                       pool, pool - 1, pool + 1);
    snapkv_state *s = malloc(sizeof *s);
    if (!s) return kv_fail(err, KV_ENOMEM, "snapkv: out of memory for the policy's state");
    s->window = (int)args->values[OPT_WINDOW];
    s->pool = pool;
    *state = s;
    return KV_OK;
}

static void snapkv_close(void *state) {
    free(state);
}

static void snapkv_protect(const void *state, int *n_sink, int *n_recent) {
    *n_sink = 0;
    *n_recent = ((const snapkv_state *)state)->window;
}

static int snapkv_window(const void *state) {
    return ((const snapkv_state *)state)->window;
}

static quad load(const float *p) {
    quad v;
    memcpy(&v, p, sizeof v);
    return v;
}

/* Sixteen partial sums, added in a fixed order, since a plain float loop may not be vectorised; this is where the time
 * goes. */
static float dot(const float *a, const float *b, int n) {
    quad s0 = {0}, s1 = {0}, s2 = {0}, s3 = {0};
    float tail = 0;
    int i = 0;
    for (; i + 16 <= n; i += 16) {
        s0 += load(a + i) * load(b + i);
        s1 += load(a + i + 4) * load(b + i + 4);
        s2 += load(a + i + 8) * load(b + i + 8);
        s3 += load(a + i + 12) * load(b + i + 12);
    }
    for (; i < n; i++) tail += a[i] * b[i];
    quad s = (s0 + s2) + (s1 + s3);
    return (s[0] + s[2]) + (s[1] + s[3]) + tail;
}

/* mean (n_past) += softmax over the past of the group's largest logits, for one query position. */
static void add_row(const kv_score_args *a, const float *q, int n_past, float *row, float *mean) {
    const int d = a->head_dim;
    float scale = 1 / sqrtf((float)d), top = -INFINITY;
    for (int j = 0; j < n_past; j++) {
        const float *k = a->keys + (size_t)j * (size_t)d;
        float x = dot(q, k, d);
        for (int g = 1; g < a->group; g++) {
            float y = dot(q + (size_t)g * (size_t)d, k, d);
            x = y > x ? y : x;
        }
        row[j] = x * scale;
        top = row[j] > top ? row[j] : top;
    }
    double sum = 0;
    for (int j = 0; j < n_past; j++) {
        row[j] = expf(row[j] - top);
        sum += row[j];
    }
    float weight = (float)(1 / (sum * a->n_queries));
    for (int j = 0; j < n_past; j++) mean[j] += row[j] * weight;
}

static void snapkv_score(const void *state, const kv_score_args *a, float *score) {
    const snapkv_state *s = state;
    int n_past = a->n_slots - s->window;
    float *row = a->scratch, *mean = a->scratch + a->n_slots;
    for (int j = n_past > 0 ? n_past : 0; j < a->n_slots; j++) score[j] = 0; /* protected: no score needed */
    if (n_past <= 0) return;
    for (int j = 0; j < n_past; j++) mean[j] = 0;
    for (int t = 0; t < a->n_queries; t++)
        add_row(a, a->queries + (size_t)t * (size_t)a->group * (size_t)a->head_dim, n_past, row, mean);
    for (int j = 0; j < n_past; j++) {
        int from = j - s->pool / 2, to = j + s->pool / 2;
        if (from < 0) from = 0;
        if (to > n_past - 1) to = n_past - 1;
        score[j] = mean[from];
        for (int i = from + 1; i <= to; i++) score[j] = mean[i] > score[j] ? mean[i] : score[j];
    }
}

#ifdef KV_HAVE_CUDA
static int snapkv_score_cuda(const void *state, const kv_cuda_heads *h) {
    const snapkv_state *s = state;
    return kv_cuda_score_attention(h, s->window, s->pool);
}
#endif

static const kv_option options[] = {
    {"window", 8, 1, 256, 1, NULL, "newest queries that vote; their slots never leave"},
    {"pool", 7, 1, 255, 1, NULL, "odd width of the maximum pooling over neighbouring slots; 1 = none"},
    {.name = NULL},
};

const kv_policy kv_policy_snapkv = {
    .name = "snapkv",
    .title = "SnapKV",
    .paper = "arXiv:2404.14469",
    .help = "attention of the last queries to the past, pooled over neighbours (decode-time variant)",
    .needs = KV_NEED_QUERIES | KV_NEED_KEYS,
    .options = options,
    .open = snapkv_open,
    .close = snapkv_close,
    .protect = snapkv_protect,
    .window = snapkv_window,
    .score = snapkv_score,
    .score_cuda = KV_CUDA_FN(snapkv_score_cuda),
};
