/* fields.c - the field list, short numbers for people, and the choice of columns. */
#include "results/fields.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define FIELD(key, heading, type, member, style, role)                                                                 \
    { key, heading, KV_FIELD_##type, offsetof(kv_cell, member), KV_STYLE_##style, KV_ROLE_##role }

static const kv_field fields[] = {
    FIELD("status", "", TEXT, status, PLAIN, DATA),
    FIELD("model", "model", TEXT, model, PLAIN, IDENTITY),
    FIELD("adapter", "adapter", TEXT, adapter, PLAIN, IDENTITY),
    FIELD("gates", "gates", TEXT, gates, OPTIONAL, IDENTITY),
    FIELD("backend", "backend", TEXT, backend, PLAIN, IDENTITY),
    FIELD("numerics", "numerics", TEXT, numerics, PLAIN, IDENTITY),
    FIELD("task", "task", TEXT, task, PLAIN, IDENTITY),
    FIELD("variant", "variant", TEXT, variant, PLAIN, IDENTITY),
    FIELD("prefill", "prefill", TEXT, prefill, PLAIN, IDENTITY),
    FIELD("query", "query", TEXT, query, PLAIN, IDENTITY),
    FIELD("max_new", "max new", INT, max_new, PLAIN, IDENTITY),
    FIELD("sampling", "sampling", TEXT, sampling, PLAIN, IDENTITY),
    FIELD("seed", "seed", INT64, seed, PLAIN, IDENTITY),
    FIELD("batch", "batch", INT, batch, PLAIN, IDENTITY),
    FIELD("policy", "policy", TEXT, policy, PLAIN, KEEP),
    FIELD("policy_title", "", TEXT, policy_title, PLAIN, DATA),
    FIELD("budget", "M", INT, budget, BUDGET, KEEP),
    FIELD("buffer", "B", INT, buffer, BUDGET, IDENTITY),
    FIELD("n", "n", INT64, n, PLAIN, IDENTITY),
    FIELD("k", "k", INT, k, PLAIN, SAMPLES),
    FIELD("n_items", "", INT64, n_items, PLAIN, DATA),
    FIELD("accuracy", "accuracy", REAL, accuracy, ACCURACY, KEEP),
    FIELD("stderr", "", REAL, stderr_, SHARE, DATA),
    FIELD("stderr_items_fixed", "+-fixed", REAL, stderr_fixed, REPEATED, RESULT),
    FIELD("pass_at_k", "pass@k", REAL, pass_at_k, REPEATED, RESULT),
    FIELD("maj_at_k", "maj@k", REAL, maj_at_k, REPEATED, RESULT),
    FIELD("compat", "compat", REAL, compat, SHARE, RESULT),
    FIELD("compat_stderr", "", REAL, compat_stderr, SHARE, DATA),
    FIELD("compat_stderr_items_fixed", "", REAL, compat_stderr_fixed, REPEATED, DATA),
    FIELD("compat_pass_at_k", "compat pass@k", REAL, compat_pass_at_k, REPEATED, RESULT),
    FIELD("compat_maj_at_k", "compat maj@k", REAL, compat_maj_at_k, REPEATED, RESULT),
    FIELD("partial", "partial", REAL, partial, SHARE, RESULT),
    FIELD("peak_slots", "peak slots", REAL, peak_slots, AMOUNT, RESULT),
    FIELD("mean_slots", "mean slots", REAL, mean_slots, AMOUNT, RESULT),
    FIELD("kv_bytes_peak", "peak KV", INT64, kv_bytes_peak, BYTES, RESULT),
    FIELD("kv_bytes_batch_peak", "", INT64, kv_bytes_batch_peak, BYTES, DATA),
    FIELD("prefill_tok_s", "prefill/s", REAL, prefill_tok_s, AMOUNT, RESULT),
    FIELD("decode_tok_s", "decode/s", REAL, decode_tok_s, AMOUNT, RESULT),
    FIELD("mean_tokens", "tokens", REAL, mean_tokens, AMOUNT, RESULT),
    FIELD("n_length", "cut off", INT64, n_length, PLAIN, TROUBLE),
    FIELD("n_no_answer", "no answer", INT64, n_no_answer, PLAIN, TROUBLE),
    FIELD("n_errors", "errors", INT64, n_errors, PLAIN, TROUBLE),
    FIELD("cell_key", "", TEXT, cell_key, PLAIN, DATA),
    FIELD("error", "", TEXT, error, PLAIN, DATA),
};
enum { N_FIELDS = sizeof fields / sizeof *fields };
_Static_assert((int)N_FIELDS <= (int)KV_MAX_FIELDS, "raise KV_MAX_FIELDS");

const kv_field *kv_field_all(size_t *n) {
    *n = N_FIELDS;
    return fields;
}

const kv_field *kv_field_find(const char *key) {
    const kv_field *f = fields;
    while (strcmp(f->key, key)) f++;
    return f;
}

const char *kv_field_string(const kv_field *f, const kv_cell *c) {
    return (const char *)c + f->offset;
}

double kv_field_number(const kv_field *f, const kv_cell *c) {
    const char *p = (const char *)c + f->offset;
    switch (f->type) {
    case KV_FIELD_INT:
        return *(const int *)p;
    case KV_FIELD_INT64:
        return (double)*(const int64_t *)p;
    default:
        return *(const double *)p;
    }
}

int kv_field_missing(const kv_field *f, const kv_cell *c) {
    if (f->type == KV_FIELD_TEXT) return !*kv_field_string(f, c);
    double v = kv_field_number(f, c);
    return !isfinite(v) || (f->style == KV_STYLE_BYTES && v <= 0) || (f->style == KV_STYLE_REPEATED && c->k <= 1);
}

int kv_cell_policy_text(const kv_cell *c, char *out, size_t size) {
    const char *params = strchr(c->policy, ':');
    if (!c->policy_title[0]) return snprintf(out, size, "%s", c->policy);
    return snprintf(out, size, params ? "%s (%s)" : "%s", c->policy_title, params ? params + 1 : "");
}

int kv_cell_is_full(const kv_cell *c) {
    return strncmp(c->policy, "full", 4) == 0 && (!c->policy[4] || c->policy[4] == ':');
}

int kv_cell_unfinished(const kv_cell *c) {
    return strcmp(c->status, "done") != 0;
}

/* ".945", "1.000" */
static void share_text(double v, char *out, size_t size) {
    char full[32];
    snprintf(full, sizeof full, "%.3f", v);
    snprintf(out, size, "%s", full[0] == '0' ? full + 1 : full);
}

void kv_field_bytes(double bytes, char *out, size_t size) {
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    size_t u = 0;
    while (bytes >= 999.5 && u + 1 < sizeof units / sizeof *units) {
        bytes /= 1024;
        u++;
    }
    snprintf(out, size, "%.*f %s", u == 0 || bytes >= 99.95 ? 0 : bytes >= 9.995 ? 1 : 2, bytes, units[u]);
}

void kv_field_text(const kv_field *f, const kv_cell *c, char *out, size_t size) {
    if (f->style == KV_STYLE_ACCURACY && kv_field_missing(f, c) && kv_cell_unfinished(c)) {
        snprintf(out, size, "%s", c->status);
        return;
    }
    if (kv_field_missing(f, c) || (f->style == KV_STYLE_BUDGET && kv_cell_is_full(c))) {
        snprintf(out, size, "-");
        return;
    }
    if (f->type == KV_FIELD_TEXT) {
        snprintf(out, size, "%s", kv_field_string(f, c));
        return;
    }
    double v = kv_field_number(f, c);
    char a[32], b[32];
    switch (f->style) {
    case KV_STYLE_ACCURACY:
        share_text(v, a, sizeof a);
        share_text(c->stderr_, b, sizeof b);
        snprintf(out, size, isfinite(c->stderr_) ? "%s +-%s" : "%s", a, b);
        break;
    case KV_STYLE_SHARE:
    case KV_STYLE_REPEATED:
        share_text(v, out, size);
        break;
    case KV_STYLE_AMOUNT:
        snprintf(out, size, "%.*f", v >= 99.95 ? 0 : v >= 9.995 ? 1 : 2, v);
        break;
    case KV_STYLE_BYTES:
        kv_field_bytes(v, out, size);
        break;
    default:
        snprintf(out, size, "%.0f", v);
    }
}

static int same_text(const kv_field *f, const kv_cell *a, const kv_cell *b) {
    char x[256], y[256];
    kv_field_text(f, a, x, sizeof x);
    kv_field_text(f, b, y, sizeof y);
    return strcmp(x, y) == 0;
}

int kv_field_applies(const kv_field *f, const kv_cell *c) {
    if (f->style == KV_STYLE_BUDGET) return !kv_cell_is_full(c);
    return f->style != KV_STYLE_OPTIONAL || !kv_field_missing(f, c);
}

static int varies(const kv_field *f, const kv_cell *cells, size_t n) {
    const kv_cell *first = NULL;
    for (size_t i = 0; i < n; i++) {
        if (!kv_field_applies(f, &cells[i])) continue;
        if (first && !same_text(f, first, &cells[i])) return 1;
        if (!first) first = &cells[i];
    }
    return 0;
}

/* Partial credit and published rules that equal the verdict beside them everywhere say nothing. */
static int repeats_another(const kv_field *f, const kv_cell *cells, size_t n) {
    static const struct {
        size_t field, other;
    } pairs[] = {{offsetof(kv_cell, partial), offsetof(kv_cell, accuracy)},
                 {offsetof(kv_cell, compat), offsetof(kv_cell, accuracy)},
                 {offsetof(kv_cell, compat_pass_at_k), offsetof(kv_cell, pass_at_k)},
                 {offsetof(kv_cell, compat_maj_at_k), offsetof(kv_cell, maj_at_k)}};
    size_t p = 0;
    while (p < sizeof pairs / sizeof *pairs && pairs[p].field != f->offset) p++;
    if (p == sizeof pairs / sizeof *pairs) return 0;
    for (size_t i = 0; i < n; i++) {
        double v = kv_field_number(f, &cells[i]), other = *(const double *)((const char *)&cells[i] + pairs[p].other);
        if (!isnan(other) && !isnan(v) && v != other) return 0;
    }
    return 1;
}

void kv_table_make_plan(const kv_cell *cells, size_t n, kv_table_plan *out) {
    memset(out, 0, sizeof *out);
    for (size_t k = 0; k < N_FIELDS && n; k++) {
        const kv_field *f = &fields[k];
        int any = 0, trouble = 0, many = 0;
        for (size_t i = 0; i < n; i++) {
            any |= !kv_field_missing(f, &cells[i]);
            trouble |= f->type != KV_FIELD_TEXT && kv_field_number(f, &cells[i]) > 0;
            many |= f->role == KV_ROLE_SAMPLES && kv_field_number(f, &cells[i]) > 1;
        }
        int identity = (f->role == KV_ROLE_IDENTITY && any) || many;
        if (identity && !varies(f, cells, n))
            out->constant[out->n_constant++] = f;
        else if (f->role == KV_ROLE_KEEP || identity ||
                 (f->role == KV_ROLE_RESULT && any && !repeats_another(f, cells, n)) ||
                 (f->role == KV_ROLE_TROUBLE && trouble))
            out->shown[out->n_shown++] = f;
    }
}

void kv_table_constant(const kv_field *f, const kv_cell *cells, size_t n, char *out, size_t size) {
    size_t i = 0;
    while (i + 1 < n && !kv_field_applies(f, &cells[i])) i++;
    kv_field_text(f, &cells[i], out, size);
}
