/* fwe.c - source `fwe`: RULER's frequent words extraction (arXiv 2404.06654; NVIDIA/RULER, scripts/data/synthetic/
 * freq_words_extraction.py, alpha 2).
 *
 * A text of coded words of six letters in which the word of rank r stands int(N / (r^2 zeta(2))) times; rank 1 is
 * replaced by "...", the answer is ranks 2 to 4.  The vocabulary has a word for every 50 tokens of the prompt.  As in
 * the reference it is sorted before ranks are dealt out, and both shuffles start alike in every item (reshuffle=1: anew
 * for each).  There N is one for a length, so that an item is the shorter, the fewer tokens its commonest words take;
 * here it is each item's own, in steps of STEP, and only items of the same N have their noise in the same places.
 *
 * Draws of an item's stream: the vocabulary. */
#include "datasets/fill.h"
#include "datasets/rng.h"

#include <stdlib.h>
#include <string.h>

enum { LETTERS = 6, STEP = 4, LEAST_WORDS = 80, TOKENS_PER_WORD = 50 };
static const double zeta2 = 1.6449340668482264; /* pi^2 / 6 */

typedef char coded[LETTERS + 1];

typedef struct {
    kv_fill fill; /* first: fill.h */
    size_t vocabulary;
} fwe;

enum { CONTEXT, ANSWERS };
static const char *const slots[] = {"context", "answers", NULL};

static void close_fwe(kv_source_state *s) {
    free(s->impl);
    s->impl = NULL;
}

static int by_text(const void *a, const void *b) {
    return strcmp(a, b);
}

/* Different words, sorted. */
static void draw_vocabulary(kv_rng *rng, coded *v, size_t n) {
    for (size_t have = 0; have < n;) {
        for (size_t k = have; k < n; k++)
            for (int c = 0; c < LETTERS; c++) v[k][c] = (char)('a' + kv_rng_below(rng, 26));
        qsort(v, n, sizeof *v, by_text);
        have = 1;
        for (size_t k = 1; k < n; k++)
            if (strcmp(v[k], v[have - 1])) memcpy(v[have++], v[k], sizeof *v);
    }
}

/* rank (n_words): the rank, from 0, of each word of the text; returns their number, at most n. */
static size_t deal_ranks(size_t n, size_t vocabulary, size_t *rank) {
    size_t words = 0;
    for (size_t r = 0; r < vocabulary; r++) {
        size_t count = (size_t)((double)n / ((double)(r + 1) * (double)(r + 1)) / zeta2);
        for (size_t k = 0; k < count; k++) rank[words++] = r;
    }
    return words;
}

static void fwe_text(const void *impl, int i, size_t units, kv_text *values) {
    const fwe *p = impl;
    size_t n = units * STEP, v = p->vocabulary;
    coded *word = calloc(v, sizeof *word);
    size_t *deal = malloc(v * sizeof *deal), *rank = malloc(n * sizeof *rank), *order = malloc(n * sizeof *order);
    if (word && deal && rank && order) {
        kv_rng rng = kv_rng_open(p->fill.seed, (uint64_t)i);
        kv_rng shuffle = kv_fill_shuffle(&p->fill, i);
        draw_vocabulary(&rng, word, v);
        kv_rng_shuffle(&shuffle, deal, v, v);
        size_t words = deal_ranks(n, v, rank);
        kv_rng_shuffle(&shuffle, order, words, words);
        for (size_t k = 0; k < words; k++) {
            size_t r = rank[order[k]];
            if (k) kv_text_append(&values[CONTEXT], " ", 1);
            kv_text_puts(&values[CONTEXT], r ? word[deal[r]] : "...");
        }
        for (int r = 1; r <= 3; r++) {
            kv_text_puts(&values[ANSWERS], r > 1 ? "\n" : "");
            kv_text_puts(&values[ANSWERS], word[deal[r]]);
        }
    } else {
        values[CONTEXT].failed = 1;
    }
    free(word);
    free(deal);
    free(rank);
    free(order);
}

static int open_fwe(const kv_source_args *a, kv_source_state *out, kv_error *err) {
    fwe *p = calloc(1, sizeof *p);
    if (!p) return kv_fail(err, KV_ENOMEM, "no memory for the %s task", a->file->source);
    out->impl = p;
    out->slots = slots;
    out->n_items = (int)kv_source_param(a, "n");
    int64_t tokens = kv_source_param(a, "tokens"), room = (tokens - a->max_new) / TOKENS_PER_WORD;
    if (room < 5)
        return kv_fail(err, KV_EARG, "fwe: tokens=%lld is too short: %lld words are no vocabulary", (long long)tokens,
                       (long long)room);
    p->vocabulary = (size_t)room;
    p->fill = (kv_fill){.text = fwe_text,
                        .measure = a->measure,
                        .task = a->task,
                        .seed = a->seed,
                        .reshuffle = (int)kv_source_param(a, "reshuffle"),
                        .impl = p,
                        .tokens = tokens,
                        .least = LEAST_WORDS / STEP,
                        .most = 100000000};
    p->fill.start = (size_t)tokens / (2 * STEP);
    return kv_source_identity(a, "fwe 1", "", out->sha256, err);
}

static const char *const params[] = {"tokens", "n", "reshuffle", NULL};

const kv_source kv_source_fwe = {.name = "fwe",
                                 .params = params,
                                 .seeded = 1,
                                 .open = open_fwe,
                                 .close = close_fwe,
                                 .prepare = kv_fill_prepare_source,
                                 .make = kv_fill_make};
