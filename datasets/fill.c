/* fill.c - searches the number of units of filler that fit; see fill.h. */
#include "datasets/fill.h"

typedef struct {
    const kv_fill *f;
    int i;
    kv_text *values;
    size_t made; /* units that values hold */
} attempt;

static int measure(attempt *a, size_t units, int64_t *tokens, kv_error *err) {
    for (int k = 0; k < KV_SLOTS; k++) a->values[k].n = 0;
    a->f->text(a->f->impl, a->i, units, a->values);
    a->made = units;
    for (int k = 0; k < KV_SLOTS; k++)
        if (a->values[k].failed) return kv_fail(err, KV_ENOMEM, "no memory for an item of %zu units", units);
    return a->f->measure(a->f->task, a->values, tokens, err);
}

/* The next number of units to try, strictly between lo (fits) and hi (does not): where the line through both, or the
 * average cost of a unit while no hi is known, meets the target. */
static size_t guess(const kv_fill *f, size_t lo, int64_t lo_tokens, size_t hi, int64_t hi_tokens, int turn) {
    double slope =
        hi_tokens ? (double)(hi_tokens - lo_tokens) / (double)(hi - lo) : (double)lo_tokens / (double)(lo + 1);
    double step = (double)(f->tokens - lo_tokens) / slope;
    if (turn % 4 == 3 && hi_tokens) return lo + (hi - lo) / 2; /* no long creeping along a bend */
    if (step < 1) step = 1;
    return step >= (double)(hi - lo) ? hi - 1 : lo + (size_t)step;
}

static int search(attempt *a, size_t *units, kv_error *err) {
    const kv_fill *f = a->f;
    size_t lo = f->least, hi = f->most + 1, at = f->start < lo ? lo : f->start > f->most ? f->most : f->start;
    int64_t lo_tokens = 0, hi_tokens = 0, tokens; /* 0: not measured */
    for (int turn = 0;; turn++) {
        int rc = measure(a, at, &tokens, err);
        if (rc) return rc;
        if (tokens <= f->tokens) {
            lo = at;
            lo_tokens = tokens;
        } else if (at == f->least) {
            return kv_fail(err, KV_EARG,
                           "tokens=%lld is too short: the smallest item takes %lld with the limit on new tokens",
                           (long long)f->tokens, (long long)tokens);
        } else {
            hi = at;
            hi_tokens = tokens;
        }
        if (!lo_tokens) {
            /* Too long at the first guess: scale it down, a little too far. */
            double part = 0.98 * (double)f->tokens / (double)tokens;
            at = (size_t)((double)at * part) > f->least && turn < 8 ? (size_t)((double)at * part) : f->least;
            continue;
        }
        if (hi - lo <= 1) break;
        if (hi_tokens && (f->tokens - lo_tokens) * (int64_t)(hi - lo) < hi_tokens - lo_tokens) break;
        at = guess(f, lo, lo_tokens, hi, hi_tokens, turn);
    }
    *units = lo;
    return a->made == lo ? KV_OK : measure(a, lo, &tokens, err);
}

kv_rng kv_fill_shuffle(const kv_fill *f, int i) {
    return kv_rng_open(f->seed, UINT64_MAX - (f->reshuffle ? 1 + (uint64_t)i : 0));
}

int kv_fill_prepare(kv_fill *f, kv_error *err) {
    kv_text values[KV_SLOTS] = {{0}};
    attempt a = {f, 0, values, 0};
    size_t units = 0;
    int rc = search(&a, &units, err);
    for (int k = 0; k < KV_SLOTS; k++) kv_text_free(&values[k]);
    f->start = units;
    return rc;
}

int kv_fill_item(const kv_fill *f, int i, kv_text *values, kv_error *err) {
    attempt a = {f, i, values, 0};
    size_t units;
    return search(&a, &units, err);
}

int kv_fill_prepare_source(kv_source_state *s, kv_error *err) {
    return kv_fill_prepare(s->impl, err);
}

int kv_fill_make(const kv_source_state *s, int i, kv_text *values, kv_error *err) {
    return kv_fill_item(s->impl, i, values, err);
}
