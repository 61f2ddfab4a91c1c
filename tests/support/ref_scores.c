/* ref_scores.c - naive double-precision twins of the policies (see ref_scores.h), one function per policy, O(anything).
 */
#include "tests/support/ref_scores.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct replay {
    const kv_policy_spec *spec;
    const kv_ref_trace *t;
    int32_t *live; /* positions held now */
    double *score; /* per live slot */
    double *mass;  /* by position */
    int n_live;
} replay;

static double value(const kv_policy_spec *spec, const char *name) {
    for (int i = 0; spec->policy->options[i].name; i++)
        if (strcmp(spec->policy->options[i].name, name) == 0) return spec->values[i];
    return NAN;
}

static const float *query(const kv_ref_trace *t, int pos, int group_head) {
    int group = t->shape.n_heads / t->shape.n_kv_heads, head = t->kv_head * group + group_head;
    return t->q + ((size_t)pos * (size_t)t->shape.n_heads + (size_t)head) * (size_t)t->shape.head_dim;
}

static const float *key(const kv_ref_trace *t, int pos) {
    return t->k + ((size_t)pos * (size_t)t->shape.n_kv_heads + (size_t)t->kv_head) * (size_t)t->shape.head_dim;
}

static double logit(const kv_ref_trace *t, int q_pos, int group_head, int k_pos) {
    const float *q = query(t, q_pos, group_head), *k = key(t, k_pos);
    double sum = 0;
    for (int i = 0; i < t->shape.head_dim; i++) sum += (double)q[i] * k[i];
    return sum / sqrt(t->shape.head_dim);
}

static void softmax(double *x, int n) {
    double top = -INFINITY, sum = 0;
    for (int i = 0; i < n; i++) top = fmax(top, x[i]);
    for (int i = 0; i < n; i++) sum += x[i] = exp(x[i] - top);
    for (int i = 0; i < n; i++) x[i] /= sum;
}

/* Window: no score but age. */
static int window_twin(replay *r) {
    for (int i = 0; i < r->n_live; i++) r->score[i] = r->live[i];
    return KV_OK;
}

/* The hash as it is published in the head comment of policies/random.c. */
static uint64_t hash_step(uint64_t h, uint64_t word) {
    uint64_t z = h + 0x9e3779b97f4a7c15ull * word;
    z ^= z >> 30;
    z *= 0xbf58476d1ce4e5b9ull;
    z ^= z >> 27;
    z *= 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

static int random_twin(replay *r) {
    double given = value(r->spec, "seed");
    uint64_t base = hash_step(isnan(given) ? r->t->seed : (uint64_t)given, 1);
    base = hash_step(hash_step(base, (uint64_t)r->t->layer + 1), (uint64_t)r->t->kv_head + 1);
    for (int i = 0; i < r->n_live; i++)
        r->score[i] = (double)(hash_step(base, (uint64_t)r->live[i] + 1) >> 40) / 16777216.0;
    return KV_OK;
}

/* H2O: column sums of the probabilities of all queries so far, added over the group; filled by attend_rows. */
static int h2o_twin(replay *r) {
    for (int i = 0; i < r->n_live; i++) r->score[i] = r->mass[r->live[i]];
    return KV_OK;
}

/* SnapKV while decoding: group maximum, softmax over the past, mean over the window, maximum pooling. */
static int snapkv_twin(replay *r) {
    const kv_ref_trace *t = r->t;
    int w = (int)value(r->spec, "window"), half = (int)value(r->spec, "pool") / 2;
    int group = t->shape.n_heads / t->shape.n_kv_heads, n_past = r->n_live - w;
    int n_queries = w < t->n_seen ? w : t->n_seen;
    for (int i = 0; i < r->n_live; i++) r->score[i] = 0;
    if (n_past <= 0) return KV_OK;
    double *row = calloc(2 * (size_t)n_past, sizeof *row);
    if (!row) return KV_ENOMEM;
    double *mean = row + n_past;
    for (int q = t->n_seen - n_queries; q < t->n_seen; q++) {
        for (int j = 0; j < n_past; j++) {
            row[j] = -INFINITY;
            for (int g = 0; g < group; g++) row[j] = fmax(row[j], logit(t, q, g, r->live[j]));
        }
        softmax(row, n_past);
        for (int j = 0; j < n_past; j++) mean[j] += row[j] / n_queries;
    }
    for (int j = 0; j < n_past; j++)
        for (int i = 0; i < n_past; i++)
            if (abs(i - j) <= half) r->score[j] = fmax(r->score[j], mean[i]);
    free(row);
    return KV_OK;
}

/* Nearest bf16, ties to even: 8 significant bits (the gate's values are far from the subnormals). */
static double bf16(double x) {
    int e;
    double m = frexp(x, &e);
    return ldexp(nearbyint(ldexp(m, 8)), e - 8);
}

static double bf16_if(int round, double x) {
    return round ? bf16(x) : x;
}

static double silu(double x) {
    return x / (1 + exp(-x));
}

/* Element i of the gate's input: the hidden state, or K and V side by side in every head. */
static double gate_input(const kv_ref_trace *t, int pos, int i) {
    int d = t->shape.head_dim, head = i / (2 * d), at = i % (2 * d);
    size_t row = ((size_t)pos * (size_t)t->shape.n_kv_heads + (size_t)head) * (size_t)d;
    if (t->gates->type == KV_GATE_RG || t->gates->type == KV_GATE_RG10)
        return t->hidden[(size_t)pos * (size_t)t->shape.dim + (size_t)i];
    return at < d ? t->k[row + (size_t)at] : t->v[row + (size_t)(at - d)];
}

/* Hidden unit i behind the first map (rg3: behind the product of two). */
static double gate_unit(const kv_ref_trace *t, int pos, int i, int round) {
    const kv_gate_layer *w = &t->gates->layers[t->layer];
    double h = w->b1 ? w->b1[i] : 0, u = 0;
    for (int j = 0; j < t->gates->n_in; j++) {
        double x = gate_input(t, pos, j);
        h += w->w1[(size_t)i * (size_t)t->gates->n_in + (size_t)j] * x;
        if (w->up) u += w->up[(size_t)i * (size_t)t->gates->n_in + (size_t)j] * x;
    }
    h = bf16_if(round, silu(bf16_if(round, h)));
    return w->up ? bf16_if(round, h * bf16_if(round, u)) : h;
}

/* Hidden unit i in front of the last map: rg10 has one map more. */
static double gate_last_unit(const kv_ref_trace *t, int pos, int i, int round) {
    const kv_gate_layer *w = &t->gates->layers[t->layer];
    if (!w->mid) return gate_unit(t, pos, i, round);
    double h = w->mid_b[i];
    for (int j = 0; j < t->gates->n_hidden; j++)
        h += w->mid[(size_t)i * (size_t)t->gates->n_hidden + (size_t)j] * gate_unit(t, pos, j, round);
    return bf16_if(round, silu(bf16_if(round, h)));
}

/* TRIM-KV's gate.  The matrix products of the parity option are rounded from double. */
static double gate_log_beta(const kv_ref_trace *t, int pos, int round) {
    const kv_gate_layer *w = &t->gates->layers[t->layer];
    double z = 0;
    for (int i = 0; i < t->gates->n_hidden; i++)
        z += gate_last_unit(t, pos, i, round) * w->w2[(size_t)t->kv_head * (size_t)t->gates->n_hidden + (size_t)i];
    z = bf16_if(round, bf16_if(round, z) + w->bias[t->kv_head]);
    return bf16_if(round, z >= 0 ? -log1p(exp(-z)) : z - log1p(exp(z)));
}

/* TRIM-KV and DBTrimKV; the lookahead score as the sum it stands for, ln of beta^(T+2-p) + ... + beta^(T+2-p+n-1). */
static int retention_twin(replay *r, int knorm) {
    const kv_ref_trace *t = r->t;
    int n = (int)value(r->spec, "lookahead"), round = (int)value(r->spec, "round");
    for (int i = 0; i < r->n_live; i++) {
        int p = r->live[i];
        double lb = gate_log_beta(t, p, round), sum = 0, norm = 0;
        if (n == 1) {
            r->score[i] = (t->n_seen + 1 - p) * lb;
        } else {
            for (int m = 0; m < n; m++) sum += exp(m * lb);
            r->score[i] = (t->n_seen + 2 - p) * lb + log(sum);
        }
        for (int j = 0; knorm && j < t->shape.head_dim; j++) norm += (double)key(t, p)[j] * key(t, p)[j];
        if (knorm) r->score[i] += log(fmax(sqrt(norm), 1e-12));
    }
    return KV_OK;
}

static int trimkv_twin(replay *r) {
    return retention_twin(r, (int)value(r->spec, "knorm"));
}

static int dbtrimkv_twin(replay *r) {
    return retention_twin(r, 0);
}

static int full_twin(replay *r) {
    for (int i = 0; i < r->n_live; i++) r->score[i] = 0;
    return KV_OK;
}

static const struct twin {
    const char *name;
    int (*score)(replay *r);
    int needs_mass;
    const char *sink_option, *recent_option;
} twins[] = {
    {"full", full_twin, 0, NULL, NULL},         {"window", window_twin, 0, "sinks", NULL},
    {"random", random_twin, 0, NULL, NULL},     {"h2o", h2o_twin, 1, NULL, "recent"},
    {"snapkv", snapkv_twin, 0, NULL, "window"}, {"trimkv", trimkv_twin, 0, NULL, "window"},
    {"dbtrimkv", dbtrimkv_twin, 0, NULL, NULL},
};

static const struct twin *find_twin(const char *name) {
    for (size_t i = 0; i < sizeof twins / sizeof *twins; i++)
        if (strcmp(twins[i].name, name) == 0) return &twins[i];
    return NULL;
}

static int no_twin(const char *name, kv_error *err) {
    return kv_fail(err, KV_ENOTFOUND, "tests/support/ref_scores.c has no twin of policy '%s'; write one", name);
}

/* The n newest live slots are this forward's: query i of it sees everything up to itself. */
static int attend_rows(replay *r, int n) {
    const kv_ref_trace *t = r->t;
    double *p = malloc((size_t)r->n_live * sizeof *p);
    if (!p) return KV_ENOMEM;
    for (int s = r->n_live - n; s < r->n_live; s++)
        for (int g = 0; g < t->shape.n_heads / t->shape.n_kv_heads; g++) {
            for (int j = 0; j <= s; j++) p[j] = logit(t, r->live[s], g, r->live[j]);
            softmax(p, s + 1);
            for (int j = 0; j <= s; j++) r->mass[r->live[j]] += p[j];
        }
    free(p);
    return KV_OK;
}

static int run_event(replay *r, const kv_ref_event *e, int *n_seen, int mass, kv_error *err) {
    if (e->kind == KV_REF_APPEND) {
        for (int i = 0; i < e->n; i++) {
            if (e->pos[i] != *n_seen || *n_seen >= r->t->n_seen)
                return kv_fail(err, KV_EARG, "trace: position %d appended where %d of %d was due", e->pos[i], *n_seen,
                               r->t->n_seen);
            r->live[r->n_live++] = (*n_seen)++;
        }
        return mass ? attend_rows(r, e->n) : KV_OK;
    }
    int n = 0;
    for (int i = 0; i < r->n_live && n < e->n; i++)
        if (r->live[i] == e->pos[n]) {
            r->live[n] = e->pos[n];
            n++;
        }
    if (n < e->n) return kv_fail(err, KV_EARG, "trace: position %d was kept but is not live", e->pos[n]);
    r->n_live = n;
    return KV_OK;
}

int kv_ref_score(const kv_policy_spec *spec, const kv_ref_trace *t, int32_t *live, double *score, kv_error *err) {
    const struct twin *twin = find_twin(spec->policy->name);
    if (!twin) return no_twin(spec->policy->name, err);
    replay r = {.spec = spec, .t = t, .live = live, .score = score};
    r.mass = calloc((size_t)t->n_seen + 1, sizeof *r.mass);
    if (!r.mass) return kv_fail(err, KV_ENOMEM, "reference scores of %d tokens: out of memory", t->n_seen);
    int n_seen = 0, rc = KV_OK;
    for (int i = 0; i < t->n_events && rc == KV_OK; i++)
        rc = run_event(&r, &t->events[i], &n_seen, twin->needs_mass, err);
    if (rc == KV_OK && n_seen != t->n_seen)
        rc = kv_fail(err, KV_EARG, "trace: %d tokens appended, n_seen is %d", n_seen, t->n_seen);
    if (rc == KV_OK) rc = twin->score(&r);
    free(r.mass);
    return rc ? rc : r.n_live;
}

int kv_ref_protect(const kv_policy_spec *spec, int budget, int *n_sink, int *n_recent, kv_error *err) {
    const struct twin *twin = find_twin(spec->policy->name);
    if (!twin) return no_twin(spec->policy->name, err);
    double recent = twin->recent_option ? value(spec, twin->recent_option) : 0;
    *n_sink = twin->sink_option ? (int)value(spec, twin->sink_option) : 0;
    *n_recent = isnan(recent) ? budget / 2 : (int)recent; /* only h2o derives it: half the budget */
    return KV_OK;
}

typedef struct record {
    int class;
    double score;
    int index;
} record;

/* Best first. */
static int compare_records(const void *a, const void *b) {
    const record *x = a, *y = b;
    if (x->class != y->class) return x->class > y->class ? -1 : 1;
    if (x->class == 0 && x->score != y->score) return x->score > y->score ? -1 : 1;
    return x->index > y->index ? -1 : 1;
}

static int compare_indices(const void *a, const void *b) {
    return *(const int32_t *)a - *(const int32_t *)b;
}

int kv_ref_select(const double *score, const int32_t *pos, int n, int keep, int n_sink, int n_recent, int32_t *kept,
                  double *margin) {
    if (margin) *margin = INFINITY;
    if (n == 0 || keep <= 0) return 0;
    record *all = malloc((size_t)n * sizeof *all);
    if (!all) return KV_ENOMEM;
    for (int i = 0; i < n; i++) all[i] = (record){pos[i] < n_sink ? 2 : i >= n - n_recent ? 1 : 0, score[i], i};
    qsort(all, (size_t)n, sizeof *all, compare_records);
    int m = keep < n ? keep : n;
    for (int i = 0; i < m; i++) kept[i] = all[i].index;
    if (margin && m < n && all[m - 1].class == 0) *margin = all[m - 1].score - all[m].score;
    free(all);
    qsort(kept, (size_t)m, sizeof *kept, compare_indices);
    return m;
}
