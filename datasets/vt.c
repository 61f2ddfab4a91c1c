/* vt.c - source `vt`: RULER's variable tracking (arXiv 2404.06654; NVIDIA/RULER, scripts/data/synthetic/
 * variable_tracking.py, one chain).
 *
 * A chain of assignments ("VAR ABCDE = 12345", "VAR FGHIJ = VAR ABCDE ") stands, in order, at random lines of noise;
 * the question names the value, the answer is every variable of the chain.  A worked example goes before: the same with
 * names of three letters and as much noise as makes it about 500 tokens (the reference counts those 500 with the
 * example's own question, here EXAMPLE_TOKENS is what is left for its lines).  Its lines stay where they are in every
 * item; names and value are new each time.
 *
 * Draws of an item's stream, in order: names, value, the example's names and value, places. */
#include "datasets/fill.h"
#include "datasets/magic.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_VARS = 11, EXAMPLE_TOKENS = 430, EXAMPLE_LETTERS = 3, LETTERS = 5 };

typedef struct {
    kv_fill fill; /* first: fill.h */
    int hops;
    uint64_t seed;
    size_t example_lines, example_at[MAX_VARS];
} vt;

typedef struct {
    char name[MAX_VARS][LETTERS + 1];
    unsigned value;
    int n;
} chain;

enum { EXAMPLE, EXAMPLE_QUERY, EXAMPLE_ANSWER, CONTEXT, QUERY, N_VARS, ANSWERS };
static const char *const slots[] = {"example", "example_query", "example_answer", "context",
                                    "query",   "num_v",         "answers",        NULL};

static void close_vt(kv_source_state *s) {
    free(s->impl);
    s->impl = NULL;
}

static void draw_chain(kv_rng *rng, int n, int letters, chain *c) {
    c->n = n;
    for (int v = 0; v < n; v++) {
        int j;
        do {
            for (int k = 0; k < letters; k++) c->name[v][k] = (char)('A' + kv_rng_below(rng, 26));
            c->name[v][letters] = 0;
            for (j = 0; j < v && strcmp(c->name[j], c->name[v]); j++) {
            }
        } while (j < v);
    }
    c->value = 10000 + (unsigned)kv_rng_below(rng, 89999);
}

/* lines of noise, link j of the chain before line at[j]. */
static void put_lines(const chain *c, const size_t *at, size_t lines, kv_text *out) {
    int j = 0;
    for (size_t l = 0; l < lines; l++) {
        if (j < c->n && at[j] == l) {
            if (j)
                kv_text_printf(out, "VAR %s = VAR %s \n", c->name[j], c->name[j - 1]);
            else
                kv_text_printf(out, "VAR %s = %u\n", c->name[0], c->value);
            j++;
        }
        kv_text_puts(out, kv_noise_line);
        if (l + 1 < lines) kv_text_append(out, "\n", 1);
    }
}

static void put_names(const chain *c, const char *between, kv_text *out) {
    for (int v = 0; v < c->n; v++) {
        if (v) kv_text_puts(out, between);
        kv_text_puts(out, c->name[v]);
    }
}

static void vt_text(const void *impl, int i, size_t units, kv_text *values) {
    const vt *p = impl;
    kv_rng rng = kv_rng_open(p->seed, (uint64_t)i);
    size_t at[MAX_VARS];
    chain asked, example;
    draw_chain(&rng, p->hops + 1, LETTERS, &asked);
    draw_chain(&rng, p->hops + 1, EXAMPLE_LETTERS, &example);
    kv_rng_places(&rng, units, at, (size_t)asked.n);
    put_lines(&example, p->example_at, p->example_lines, &values[EXAMPLE]);
    kv_text_printf(&values[EXAMPLE_QUERY], "%u", example.value);
    put_names(&example, " ", &values[EXAMPLE_ANSWER]);
    put_lines(&asked, at, units, &values[CONTEXT]);
    kv_text_printf(&values[QUERY], "%u", asked.value);
    kv_text_printf(&values[N_VARS], "%d", asked.n);
    put_names(&asked, "\n", &values[ANSWERS]);
}

/* Item 0 with nothing but that many lines of the example: what they cost is the difference to none. */
static void example_text(const void *impl, int i, size_t units, kv_text *values) {
    const vt *p = impl;
    kv_rng rng = kv_rng_open(p->seed, UINT64_MAX);
    size_t at[MAX_VARS];
    chain c;
    (void)i;
    if (!units) return;
    draw_chain(&rng, p->hops + 1, EXAMPLE_LETTERS, &c);
    kv_rng_places(&rng, units, at, (size_t)c.n);
    put_lines(&c, at, units, &values[EXAMPLE]);
}

static int prepare_example(vt *p, kv_error *err) {
    kv_text none[KV_SLOTS] = {{0}};
    kv_fill f = p->fill;
    int64_t empty;
    int rc = p->fill.measure(p->fill.task, none, &empty, err);
    if (rc) return rc;
    f.text = example_text;
    f.tokens = empty + EXAMPLE_TOKENS;
    f.start = EXAMPLE_TOKENS / 30;
    kv_error too_long = {0};
    rc = kv_fill_prepare(&f, &too_long);
    if (rc && rc != KV_EARG) return kv_fail(err, rc, "%s", too_long.text);
    p->example_lines = rc ? f.least : f.start; /* a chain too long for it makes a longer example */
    kv_rng rng = kv_rng_open(p->seed, UINT64_MAX);
    kv_rng_places(&rng, p->example_lines, p->example_at, (size_t)p->hops + 1);
    return KV_OK;
}

static int prepare_vt(kv_source_state *s, kv_error *err) {
    vt *p = s->impl;
    int rc = prepare_example(p, err);
    if (rc) return rc;
    return kv_fill_prepare(&p->fill, err);
}

static int open_vt(const kv_source_args *a, kv_source_state *out, kv_error *err) {
    vt *p = calloc(1, sizeof *p);
    if (!p) return kv_fail(err, KV_ENOMEM, "no memory for the %s task", a->file->source);
    out->impl = p;
    out->slots = slots;
    out->n_items = (int)kv_source_param(a, "n");
    p->hops = (int)kv_source_param(a, "hops");
    p->seed = a->seed;
    if (p->hops + 1 > MAX_VARS) return kv_fail(err, KV_EARG, "vt: hops=%d is more than %d", p->hops, MAX_VARS - 1);
    p->fill = (kv_fill){.text = vt_text,
                        .measure = a->measure,
                        .task = a->task,
                        .impl = p,
                        .tokens = kv_source_param(a, "tokens"),
                        .least = (size_t)p->hops + 1,
                        .most = 100000000};
    p->fill.start = (size_t)p->fill.tokens / 30;
    return kv_source_identity(a, "vt 1", "", out->sha256, err);
}

static const char *const params[] = {"tokens", "n", "hops", NULL};

const kv_source kv_source_vt = {.name = "vt",
                                .params = params,
                                .seeded = 1,
                                .open = open_vt,
                                .close = close_vt,
                                .prepare = prepare_vt,
                                .make = kv_fill_make};
