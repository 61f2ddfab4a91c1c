/* option_list.c - lists and ranges: `a,b`, `128..1024*2`, `16..64+16`, and llama-bench's `512-8192*2`. */
#include "bench/options.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_ENTRIES = 1 << 20, MAX_RANGE = 65536 };

typedef struct int_list {
    int64_t *v;
    size_t n, cap;
} int_list;

static int push(int_list *l, int64_t x, kv_error *err) {
    if (l->n == MAX_ENTRIES) return kv_fail(err, KV_EARG, "more than %d values", MAX_ENTRIES);
    if (l->n == l->cap) {
        size_t cap = l->cap ? l->cap * 2 : 16;
        int64_t *v = realloc(l->v, cap * sizeof *v);
        if (!v) return kv_fail(err, KV_ENOMEM, "out of memory for a list of %zu values", cap);
        l->v = v;
        l->cap = cap;
    }
    l->v[l->n++] = x;
    return KV_OK;
}

static int push_once(int_list *l, int64_t x, kv_error *err) {
    for (size_t i = 0; i < l->n; i++)
        if (l->v[i] == x) return KV_OK;
    return push(l, x, err);
}

/* Reads digits at *p and moves on; -1 when there are none, the largest number when they overflow. */
static int64_t digits(const char **p) {
    char *end;
    if (**p < '0' || **p > '9') return -1;
    long long x = strtoll(*p, &end, 10);
    *p = end;
    return x;
}

static int in_range(int64_t x, int64_t min, int64_t max, kv_error *err) {
    if (x >= min && x <= max) return KV_OK;
    if (x == INT64_MAX) return kv_fail(err, KV_EARG, "more than %lld is not possible", (long long)max);
    return kv_fail(err, KV_EARG, "%lld is outside %lld..%lld", (long long)x, (long long)min, (long long)max);
}

/* One entry: a number, or first..last with *factor or +step (a missing step is +1). */
static int add_entry(int_list *l, const char *entry, int64_t min, int64_t max, kv_error *err) {
    const char *p = entry;
    int64_t first = digits(&p), last, step = 1;
    char op = '+';
    if (first < 0) return kv_fail(err, KV_EARG, "'%s' is no whole number of 0 or more", entry);
    if (in_range(first, min, max, err)) return KV_EARG;
    if (*p == 0) return push_once(l, first, err);
    if (strncmp(p, "..", 2) == 0)
        p += 2;
    else if (*p == '-')
        p += 1;
    else
        return kv_fail(err, KV_EARG, "'%s' is neither a number nor a range such as 128..1024*2", entry);
    last = digits(&p);
    if (last >= 0 && (*p == '*' || *p == '+')) {
        op = *p++;
        step = digits(&p);
    }
    if (last < 0 || *p || step < (op == '*' ? 2 : 1))
        return kv_fail(err, KV_EARG, "'%s' is no range: write first..last*factor (factor >= 2) or first..last+step",
                       entry);
    if (in_range(last, min, max, err)) return KV_EARG;
    if (last < first) return kv_fail(err, KV_EARG, "range '%s' ends before it starts", entry);
    if (op == '*' && first == 0) return kv_fail(err, KV_EARG, "range '%s' never leaves 0", entry);
    if (op == '+' && (last - first) / step >= MAX_RANGE)
        return kv_fail(err, KV_EARG, "range '%s' has more than %d values", entry, MAX_RANGE);
    for (int64_t x = first;; x = op == '*' ? x * step : x + step) {
        int rc = push_once(l, x, err);
        if (rc) return rc;
        if (op == '*' ? x > last / step : x > last - step) return KV_OK;
    }
}

int kv_list_texts(const char *text, char ***out, size_t *n, kv_error *err) {
    size_t count = 1, i = 0;
    for (const char *p = text; *p; p++) count += *p == ',';
    *n = 0;
    *out = calloc(count, sizeof **out);
    if (!*out) return kv_fail(err, KV_ENOMEM, "out of memory for a list of %zu values", count);
    for (const char *p = text; i < count; i++) {
        size_t len = strcspn(p, ",");
        if (len == 0) return kv_fail(err, KV_EARG, count == 1 ? "an empty value" : "an empty value in the list");
        (*out)[i] = strndup(p, len);
        if (!(*out)[i]) return kv_fail(err, KV_ENOMEM, "out of memory for a list of %zu values", count);
        *n = i + 1;
        p += len + 1;
    }
    return KV_OK;
}

static int list_of(const char *text, int64_t min, int64_t max, int ranges, int64_t **out, size_t *n, kv_error *err) {
    char **texts = NULL;
    size_t count = 0;
    int_list l = {0};
    int rc = kv_list_texts(text, &texts, &count, err);
    for (size_t i = 0; i < count && rc == KV_OK; i++) {
        const char *p = texts[i];
        if (ranges) {
            rc = add_entry(&l, p, min, max, err);
        } else {
            int64_t x = digits(&p);
            rc = x < 0 || *p ? kv_fail(err, KV_EARG, "'%s' is no whole number of 0 or more", texts[i])
                             : in_range(x, min, max, err);
            if (rc == KV_OK) rc = push(&l, x, err);
        }
    }
    for (size_t i = 0; i < count; i++) free(texts[i]);
    free(texts);
    *out = l.v;
    *n = l.n;
    return rc;
}

int kv_list_ints(const char *text, int64_t min, int64_t max, int64_t **out, size_t *n, kv_error *err) {
    return list_of(text, min, max, 1, out, n, err);
}

int kv_list_ids(const char *text, int64_t max, int64_t **out, size_t *n, kv_error *err) {
    return list_of(text, 0, max, 0, out, n, err);
}
