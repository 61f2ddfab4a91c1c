/* cwe.c - source `cwe`: RULER's common words extraction (arXiv 2404.06654; NVIDIA/RULER, scripts/data/synthetic/
 * common_words_extraction.py).
 *
 * A numbered list in which ten words stand more often than the others: 30 times against 3, or 6 against 1 below 4,096
 * tokens.  A worked example with 40 words (10 against 3) or 20 words (3 against 1) goes before.  As in the reference
 * the list's order is shuffled alike in every item of a length (reshuffle=1: anew for each).
 *
 * Not the same: when a list needs more words than data/words has, all its words are adjective-noun pairs (there: a
 * second dictionary); the example is part of the one user turn.
 *
 * Draws of an item's stream, in order: words of the example, words of the list. */
#include "datasets/fill.h"
#include "datasets/words.h"

#include <stdlib.h>
#include <string.h>

enum { COMMON = 10, SHORT = 4096 };

typedef struct {
    kv_fill fill; /* first: fill.h */
    kv_words words;
} cwe;

enum { EXAMPLE, EXAMPLE_ANSWER, CONTEXT, ANSWERS };
static const char *const slots[] = {"example", "example_answer", "context", "answers", NULL};

static void close_cwe(kv_source_state *s) {
    cwe *p = s->impl;
    if (!p) return;
    kv_words_close(&p->words);
    free(p);
    s->impl = NULL;
}

/* word (n): different words by number, n_all + i for pair i; pairs come in when all words are used.  0: no memory. */
static int draw_words(const kv_words *w, kv_rng *rng, size_t *word, size_t n) {
    size_t n_pairs = kv_words_n_pairs(w), singles = n < w->n_all ? n : w->n_all;
    size_t *order = malloc(w->n_all * sizeof *order);
    unsigned char *taken = calloc(n > singles ? n_pairs : 1, 1);
    int ok = order && taken;
    if (ok) {
        kv_rng_shuffle(rng, order, w->n_all, singles);
        memcpy(word, order, singles * sizeof *word);
        for (size_t k = singles; k < n; k++) {
            size_t i;
            do i = (size_t)kv_rng_below(rng, n_pairs);
            while (taken[i]);
            taken[i] = 1;
            word[k] = w->n_all + i;
        }
    }
    free(order);
    free(taken);
    return ok;
}

static void put_word(const kv_words *w, size_t i, kv_text *out) {
    if (i < w->n_all)
        kv_text_puts(out, w->all[i]);
    else
        kv_words_put_pair(w, i - w->n_all, out);
}

/* How often the common and the other words stand in a list. */
typedef struct {
    size_t words, common, other;
} counts;

/* The list; the answer is its common words, numbered in one line or a line each. */
static void put_list(const cwe *p, int i, kv_rng *rng, counts c, int numbered, kv_text *list, kv_text *answer) {
    size_t entries = COMMON * c.common + (c.words - COMMON) * c.other;
    size_t *word = malloc(c.words * sizeof *word), *order = malloc(entries * sizeof *order);
    if (!word || !order || !draw_words(&p->words, rng, word, c.words)) {
        list->failed = 1;
        entries = 0;
    }
    kv_rng shuffle = kv_fill_shuffle(&p->fill, i);
    if (entries) kv_rng_shuffle(&shuffle, order, entries, entries);
    for (size_t k = 0; k < entries; k++) {
        size_t at = order[k], common = COMMON * c.common;
        size_t which = at < common ? at / c.common : COMMON + (at - common) / c.other;
        kv_text_printf(list, "%s%zu. ", k ? " " : "", k + 1);
        put_word(&p->words, word[which], list);
    }
    for (size_t k = 0; k < COMMON && entries; k++) {
        if (numbered)
            kv_text_printf(answer, "%s%zu. ", k ? " " : "", k + 1);
        else if (k)
            kv_text_puts(answer, "\n");
        put_word(&p->words, word[k], answer);
    }
    free(word);
    free(order);
}

static void cwe_text(const void *impl, int i, size_t units, kv_text *values) {
    const cwe *p = impl;
    kv_rng rng = kv_rng_open(p->fill.seed, (uint64_t)i);
    int small = p->fill.tokens < SHORT;
    put_list(p, i, &rng, small ? (counts){20, 3, 1} : (counts){40, 10, 3}, 1, &values[EXAMPLE],
             &values[EXAMPLE_ANSWER]);
    put_list(p, i, &rng, small ? (counts){units, 6, 1} : (counts){units, 30, 3}, 0, &values[CONTEXT], &values[ANSWERS]);
}

static int open_cwe(const kv_source_args *a, kv_source_state *out, kv_error *err) {
    cwe *p = calloc(1, sizeof *p);
    if (!p) return kv_fail(err, KV_ENOMEM, "no memory for the %s task", a->file->source);
    out->impl = p;
    out->slots = slots;
    out->n_items = (int)kv_source_param(a, "n");
    int rc = kv_words_open(a->root, &p->words, err);
    if (rc) return rc;
    p->fill = (kv_fill){.text = cwe_text,
                        .measure = a->measure,
                        .task = a->task,
                        .seed = a->seed,
                        .reshuffle = (int)kv_source_param(a, "reshuffle"),
                        .impl = p,
                        .tokens = kv_source_param(a, "tokens"),
                        .least = COMMON + 1,
                        .most = kv_words_n_pairs(&p->words) / 2};
    p->fill.start = (size_t)p->fill.tokens / 24;
    return kv_source_identity(a, "cwe 1", p->words.sha256, out->sha256, err);
}

static const char *const params[] = {"tokens", "n", "reshuffle", NULL};

const kv_source kv_source_cwe = {.name = "cwe",
                                 .params = params,
                                 .seeded = 1,
                                 .open = open_cwe,
                                 .close = close_cwe,
                                 .prepare = kv_fill_prepare_source,
                                 .make = kv_fill_make};
