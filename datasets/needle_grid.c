/* needle_grid.c - source `needle_grid`: one needle at every depth of a text of every length, for the classic heat map
 * (github.com/gkamradt/LLMTest_NeedleInAHaystack).
 *
 * Lengths go evenly from min_tokens to max_tokens, depths evenly from 0 to 100 percent; n items a point.  The haystack
 * is the text from its first word; the needle stands behind the last sentence that ends at or before its depth, counted
 * in words (there: in tokens), at depth 0 in front of everything, at 100 behind it.  A length counts the whole item
 * with the limit on new tokens (there: the context, with 200 tokens kept free).
 *
 * form = numbers: RULER's needle with a random key and a number of seven digits; form = sandwich: the sentence of the
 * original, which models may know from elsewhere.
 *
 * Item i is point i / n, lengths outside, depths inside; its id is LENGTH/DEPTH/k, which the heat map reads. */
#include "datasets/fill.h"
#include "datasets/haystack.h"
#include "datasets/magic.h"

#include "engine/file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    kv_fill fill; /* first: fill.h */
    kv_haystack hay;
    unsigned char *ends; /* (hay.n_words) */
    kv_words words;
    int sandwich, n, lengths, depths;
    int64_t min_tokens, max_tokens;
    uint64_t seed;
} grid;

enum { CONTEXT, QUERY, ANSWERS };
static const char *const slots[] = {"context", "query", "answers", NULL};

static void close_grid(kv_source_state *s) {
    grid *p = s->impl;
    if (!p) return;
    kv_haystack_close(&p->hay);
    free(p->ends);
    kv_words_close(&p->words);
    free(p);
    s->impl = NULL;
}

static int read_params(const kv_source_args *a, grid *p, kv_error *err) {
    p->sandwich = !strcmp(a->file->form, "sandwich");
    if (!p->sandwich && strcmp(a->file->form, "numbers"))
        return kv_fail(err, KV_EFORMAT, "%s: form = %.60s; expected numbers or sandwich", a->file->path, a->file->form);
    p->n = (int)kv_source_param(a, "n");
    p->lengths = (int)kv_source_param(a, "lengths");
    p->depths = (int)kv_source_param(a, "depths");
    p->min_tokens = kv_source_param(a, "min_tokens");
    p->max_tokens = kv_source_param(a, "max_tokens");
    p->seed = a->seed;
    if (p->max_tokens < p->min_tokens)
        return kv_fail(err, KV_EARG, "needle_grid: max_tokens=%lld is less than min_tokens=%lld",
                       (long long)p->max_tokens, (long long)p->min_tokens);
    return KV_OK;
}

/* Step k of `steps` even ones from lo to hi, rounded. */
static int64_t even(int64_t lo, int64_t hi, int k, int steps) {
    return steps > 1 ? lo + ((hi - lo) * k * 2 + (steps - 1)) / (2 * (steps - 1)) : lo;
}

static int64_t length_of(const grid *p, int i) {
    return even(p->min_tokens, p->max_tokens, i / p->n / p->depths, p->lengths);
}

static int depth_of(const grid *p, int i) {
    return p->depths > 1 ? (int)even(0, 100, i / p->n % p->depths, p->depths) : 50;
}

static void put_words(const grid *p, size_t from, size_t to, kv_text *out) {
    size_t all = p->hay.n_words;
    for (size_t w = from; w < to; w++) {
        if (out->n) kv_text_append(out, " ", 1);
        kv_text_append(out, p->hay.text + p->hay.word[w % all], p->hay.word[w % all + 1] - 1 - p->hay.word[w % all]);
    }
}

static void grid_text(const void *impl, int i, size_t units, kv_text *values) {
    const grid *p = impl;
    kv_rng rng = kv_rng_open(p->seed, (uint64_t)i);
    int depth = depth_of(p, i);
    size_t at = units * (size_t)depth / 100;
    while (depth < 100 && at && !p->ends[(at - 1) % p->hay.n_words]) at--;
    kv_text needle = {0};
    if (p->sandwich) {
        kv_text_puts(&needle, "The best thing to do in San Francisco is eat a sandwich and sit in Dolores Park on a "
                              "sunny day.");
        kv_text_puts(&values[ANSWERS], "sandwich\nDolores Park");
    } else {
        kv_magic_draw(KV_MAGIC_WORDS, &p->words, &rng, &values[QUERY]);
        kv_magic_draw(KV_NUMBERS, &p->words, &rng, &values[ANSWERS]);
        kv_text_puts(&needle, "One of the special magic numbers for ");
        kv_text_append(&needle, values[QUERY].s, values[QUERY].n);
        kv_text_puts(&needle, " is: ");
        kv_text_append(&needle, values[ANSWERS].s, values[ANSWERS].n);
        kv_text_puts(&needle, ".");
    }
    put_words(p, 0, at, &values[CONTEXT]);
    if (at) kv_text_append(&values[CONTEXT], " ", 1);
    kv_text_append(&values[CONTEXT], needle.s, needle.n);
    values[CONTEXT].failed |= needle.failed;
    put_words(p, at, units, &values[CONTEXT]);
    kv_text_free(&needle);
}

static int make_grid(const kv_source_state *s, int i, kv_text *values, kv_error *err) {
    const grid *p = s->impl;
    kv_fill f = p->fill;
    f.tokens = length_of(p, i);
    f.start = (size_t)((double)f.start * (double)f.tokens / (double)p->min_tokens);
    return kv_fill_item(&f, i, values, err);
}

static void grid_id(const kv_source_state *s, int i, char *out, size_t cap) {
    const grid *p = s->impl;
    snprintf(out, cap, "%lld/%d/%d", (long long)length_of(p, i), depth_of(p, i), i % p->n);
}

static int open_grid(const kv_source_args *a, kv_source_state *out, kv_error *err) {
    grid *p = calloc(1, sizeof *p);
    char texts[130] = "";
    if (!p) return kv_fail(err, KV_ENOMEM, "no memory for the %s task", a->file->source);
    out->impl = p;
    out->slots = slots;
    int rc = read_params(a, p, err);
    if (!rc) rc = kv_words_open(a->root, &p->words, err);
    if (!rc) rc = kv_haystack_open_or_own(a->haystack, a->root, &p->hay, err);
    if (!rc) rc = kv_haystack_sentences(&p->hay, &p->ends, err);
    if (rc) return rc;
    out->n_items = p->n * p->lengths * p->depths;
    p->fill = (kv_fill){.text = grid_text,
                        .measure = a->measure,
                        .task = a->task,
                        .impl = p,
                        .tokens = p->min_tokens,
                        .least = 1,
                        .most = 100000000,
                        .start = (size_t)p->min_tokens / 2};
    kv_sha256_bytes(p->hay.text, strlen(p->hay.text), texts);
    strcat(texts, p->words.sha256);
    return kv_source_identity(a, "needle_grid 1", texts, out->sha256, err);
}

static const char *const params[] = {"min_tokens", "max_tokens", "lengths", "depths", "n", NULL};

const kv_source kv_source_needle_grid = {.name = "needle_grid",
                                         .params = params,
                                         .seeded = 1,
                                         .open = open_grid,
                                         .close = close_grid,
                                         .forms = "numbers or sandwich",
                                         .prepare = kv_fill_prepare_source,
                                         .make = make_grid,
                                         .id = grid_id};
