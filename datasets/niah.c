/* niah.c - source `niah`: RULER's needles in a haystack, all eight kinds (arXiv 2404.06654; NVIDIA/RULER,
 * scripts/data/synthetic/niah.py).
 *
 * `values` needles for each of `keys` keys ("One of the special magic numbers for KEY is: VALUE.") are hidden in noise,
 * among needles that nobody asks for, or between the sentences of running text; the question names `queries` of the
 * keys, and all their values are wanted.  form = HAYSTACK KEYS VALUES.
 *
 * The same as the reference: sentences, templates, kinds, depths (of 40 even ones, between sentences), the text from
 * its first word, the needles' order shuffled alike in every item (reshuffle=1: anew for each).  Not the same: the
 * random numbers (rng.h), where sentences end, and keys of one item that always differ.
 *
 * Draws of an item's stream, in order: keys and values, queries, places, distractors; so needles do not change with the
 * length. */
#include "datasets/fill.h"
#include "datasets/haystack.h"
#include "datasets/magic.h"
#include "datasets/words.h"

#include "engine/file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DEPTHS = 40 };
typedef enum hay_kind { NOISE, ESSAY, NEEDLES } hay_kind;

typedef struct {
    kv_fill fill; /* first: fill.h */
    hay_kind kind;
    kv_magic key_kind, value_kind;
    kv_haystack hay;     /* ESSAY */
    unsigned char *ends; /* (hay.n_words) */
    kv_words words;
    int keys, values, queries;
} niah;

/* The needles of one item. */
typedef struct {
    kv_text keys[DEPTHS], values[DEPTHS], needles[DEPTHS]; /* (keys), (keys, values), (keys, values) shuffled */
    size_t asked[DEPTHS];                                  /* (queries) */
    int n;
} item;

enum { SOME, TYPE, ARE, ARE_ALL, QUERY, CONTEXT, ANSWERS };
static const char *const slots[] = {"some", "type", "are", "are_all", "query", "context", "answers", NULL};

static void close_niah(kv_source_state *s) {
    niah *p = s->impl;
    if (!p) return;
    kv_haystack_close(&p->hay);
    free(p->ends);
    kv_words_close(&p->words);
    free(p);
    s->impl = NULL;
}

static int read_form(const kv_source_args *a, niah *p, kv_error *err) {
    static const char *const kinds[] = {"noise", "essay", "needles"};
    char hay[16], key[16], value[16], rest;
    if (sscanf(a->file->form, "%15s %15s %15s %c", hay, key, value, &rest) == 3)
        for (int k = NOISE; k <= NEEDLES; k++)
            if (!strcmp(hay, kinds[k]) && kv_magic_find(key, &p->key_kind) && kv_magic_find(value, &p->value_kind)) {
                p->kind = (hay_kind)k;
                return KV_OK;
            }
    return kv_fail(err, KV_EFORMAT, "%s: form = %.60s; expected noise|essay|needles, then twice numbers|words|uuids",
                   a->file->path, a->file->form);
}

static void put_needle(const niah *p, const char *key, const char *value, kv_text *out) {
    kv_text_puts(out, "One of the special magic ");
    kv_text_puts(out, kv_magic_name(p->value_kind));
    kv_text_puts(out, " for ");
    kv_text_puts(out, key);
    kv_text_puts(out, " is: ");
    kv_text_puts(out, value);
    kv_text_puts(out, ".");
}

/* A key that no earlier one equals. */
static void draw_key(const niah *p, kv_rng *rng, item *it, int k) {
    int j;
    do {
        it->keys[k].n = 0;
        kv_magic_draw(p->key_kind, &p->words, rng, &it->keys[k]);
        for (j = 0; j < k && !it->keys[k].failed && strcmp(it->keys[j].s, it->keys[k].s); j++) {
        }
    } while (j < k && !it->keys[k].failed);
}

static void draw_item(const niah *p, int i, kv_rng *rng, item *it) {
    size_t order[DEPTHS];
    kv_rng shuffle = kv_fill_shuffle(&p->fill, i);
    memset(it, 0, sizeof *it);
    it->n = p->keys * p->values;
    kv_rng_shuffle(&shuffle, order, (size_t)it->n, (size_t)it->n);
    for (int k = 0; k < p->keys; k++) {
        draw_key(p, rng, it, k);
        for (int v = k * p->values; v < (k + 1) * p->values; v++)
            kv_magic_draw(p->value_kind, &p->words, rng, &it->values[v]);
    }
    for (int j = 0; j < it->n; j++) {
        size_t from = order[j];
        if (it->values[from].failed || it->keys[from / (size_t)p->values].failed)
            it->needles[j].failed = 1;
        else
            put_needle(p, it->keys[from / (size_t)p->values].s, it->values[from].s, &it->needles[j]);
    }
    kv_rng_distinct(rng, (size_t)p->keys, it->asked, (size_t)p->queries);
}

static void free_item(item *it) {
    for (int j = 0; j < DEPTHS; j++) {
        kv_text_free(&it->keys[j]);
        kv_text_free(&it->values[j]);
        kv_text_free(&it->needles[j]);
    }
}

static void put(kv_text *out, const kv_text *t) {
    out->failed |= t->failed;
    if (!t->failed) kv_text_append(out, t->s, t->n);
}

/* The needles between the first n words' sentences, in their order. */
static void put_essay(const niah *p, size_t n, kv_rng *rng, const item *it, kv_text *out) {
    size_t depth[DEPTHS], sentences = 0, sentence = 0, words = p->hay.n_words;
    int next = 0;
    for (size_t w = 0; w < n; w++) sentences += p->ends[w % words] || w + 1 == n;
    kv_rng_places(rng, DEPTHS, depth, (size_t)it->n);
    for (int j = 0; j < it->n; j++)
        depth[j] = (size_t)((double)sentences * (int)((double)depth[j] * 100 / (DEPTHS - 1) + 0.5) / 100);
    for (size_t w = 0; w <= n; w++) {
        for (; next < it->n && (w == n || depth[next] == sentence); next++) {
            if (out->n) kv_text_append(out, " ", 1);
            put(out, &it->needles[next]);
        }
        if (w == n) break;
        const size_t *at = &p->hay.word[w % words], *from = at;
        /* The rest of the sentence in one piece. */
        while (!p->ends[w % words] && w + 1 < n) w++, at++;
        if (out->n) kv_text_append(out, " ", 1);
        kv_text_append(out, p->hay.text + *from, at[1] - 1 - *from);
        sentence++;
    }
}

/* n lines; needle j stands before the line with the j-th largest of the numbers drawn. */
static void put_lines(const niah *p, size_t n, kv_rng *rng, const item *it, kv_text *out) {
    size_t line[DEPTHS];
    kv_text key = {0}, value = {0};
    int next = it->n;
    kv_rng_places(rng, n, line, (size_t)it->n);
    for (size_t l = 0; l < n; l++) {
        if (next && line[it->n - next] == l) {
            put(out, &it->needles[--next]);
            kv_text_append(out, "\n", 1);
        }
        if (p->kind == NOISE) {
            kv_text_puts(out, kv_noise_line);
        } else {
            key.n = value.n = 0;
            kv_magic_draw(p->key_kind, &p->words, rng, &key);
            kv_magic_draw(p->value_kind, &p->words, rng, &value);
            out->failed |= key.failed | value.failed;
            if (!out->failed) put_needle(p, key.s, value.s, out);
        }
        if (l + 1 < n) kv_text_append(out, "\n", 1);
    }
    kv_text_free(&key);
    kv_text_free(&value);
}

/* "a", "a, and b", "a, b, and c": the reference's commas. */
static void put_query(const niah *p, const item *it, kv_text *values) {
    for (int q = 0; q < p->queries; q++) {
        if (q) kv_text_puts(&values[QUERY], q + 1 < p->queries ? ", " : ", and ");
        put(&values[QUERY], &it->keys[it->asked[q]]);
        for (int v = 0; v < p->values; v++) {
            if (values[ANSWERS].n) kv_text_append(&values[ANSWERS], "\n", 1);
            put(&values[ANSWERS], &it->values[it->asked[q] * (size_t)p->values + (size_t)v]);
        }
    }
}

static void niah_text(const void *impl, int i, size_t units, kv_text *values) {
    const niah *p = impl;
    kv_rng rng = kv_rng_open(p->fill.seed, (uint64_t)i);
    const char *type = kv_magic_name(p->value_kind);
    int one = p->queries * p->values == 1;
    item it;
    draw_item(p, i, &rng, &it);
    kv_text_puts(&values[SOME], one ? "A" : "Some");
    kv_text_append(&values[TYPE], type, strlen(type) - (size_t)one);
    kv_text_puts(&values[ARE], one ? "is" : "are");
    kv_text_puts(&values[ARE_ALL], one ? "is" : "are all");
    put_query(p, &it, values);
    if (p->kind == ESSAY)
        put_essay(p, units, &rng, &it, &values[CONTEXT]);
    else
        put_lines(p, units, &rng, &it, &values[CONTEXT]);
    free_item(&it);
}

static int open_niah(const kv_source_args *a, kv_source_state *out, kv_error *err) {
    niah *p = calloc(1, sizeof *p);
    if (!p) return kv_fail(err, KV_ENOMEM, "no memory for the %s task", a->file->source);
    out->impl = p;
    out->slots = slots;
    out->n_items = (int)kv_source_param(a, "n");
    p->queries = (int)kv_source_param(a, "queries");
    p->keys = (int)kv_source_param(a, "keys");
    p->values = (int)kv_source_param(a, "values");
    if (p->keys < p->queries) p->keys = p->queries; /* as the reference does */
    if (p->keys * p->values > DEPTHS)
        return kv_fail(err, KV_EARG, "niah: %d keys with %d values each are more than %d needles", p->keys, p->values,
                       DEPTHS);
    int rc = read_form(a, p, err);
    if (!rc) rc = kv_words_open(a->root, &p->words, err);
    if (!rc && p->kind == ESSAY) rc = kv_haystack_open_or_own(a->haystack, a->root, &p->hay, err);
    if (!rc && p->kind == ESSAY) rc = kv_haystack_sentences(&p->hay, &p->ends, err);
    if (rc) return rc;
    char texts[130] = "";
    if (p->hay.text) kv_sha256_bytes(p->hay.text, strlen(p->hay.text), texts);
    strcat(texts, p->words.sha256);
    p->fill = (kv_fill){.text = niah_text,
                        .measure = a->measure,
                        .task = a->task,
                        .seed = a->seed,
                        .reshuffle = (int)kv_source_param(a, "reshuffle"),
                        .impl = p,
                        .tokens = kv_source_param(a, "tokens"),
                        .least = (size_t)(p->keys * p->values),
                        .most = 100000000};
    p->fill.start = (size_t)p->fill.tokens / (p->kind == ESSAY ? 2 : 40);
    return kv_source_identity(a, "niah 1", texts, out->sha256, err);
}

static const char *const params[] = {"tokens", "n", "keys", "values", "queries", "reshuffle", NULL};

const kv_source kv_source_niah = {.name = "niah",
                                  .params = params,
                                  .seeded = 1,
                                  .open = open_niah,
                                  .close = close_niah,
                                  .forms = "noise|essay|needles, then twice numbers|words|uuids",
                                  .prepare = kv_fill_prepare_source,
                                  .make = kv_fill_make};
