/* needle.c - source `needle`: magic numbers hidden in running text, one of them asked for.
 *
 * The sentence is RULER's (arXiv 2404.06654, niah): "The special magic number for red-cups is: 123456."  An item is
 * `words` consecutive words from a uniform start of the haystack; k needles (needles = 0: k uniform in 1..8) are
 * inserted one after the other, each before a uniform position of the text as it then is and never inside an earlier
 * needle; the question's key is uniform among them.  Keys (colour-object) and numbers differ within an item.
 *
 * Draws of an item's stream (rng.h), in order: start, k, the keys, the numbers, the positions, the question. */
#include "datasets/haystack.h"
#include "datasets/rng.h"
#include "datasets/source.h"

#include "engine/file.h"

#include <stdlib.h>
#include <string.h>

static const char *const colours[] = {"red",   "blue", "green", "black", "white",
                                      "brown", "pink", "gray",  "gold",  "silver"};
static const char *const objects[] = {"cups",  "pens",  "hats",  "balls", "keys", "books",
                                      "boxes", "coins", "lamps", "bags",  "toys", "rings"};

enum {
    COLOURS = sizeof colours / sizeof *colours,
    OBJECTS = sizeof objects / sizeof *objects,
    KEYS = COLOURS * OBJECTS
};

typedef struct {
    kv_haystack hay;
    size_t words;
    int needles;
    uint64_t seed;
} needle_source;

typedef struct {
    int key;
    unsigned number;
} needle;

static const char *const slots[] = {"text", "key", "number", NULL};

static void close_needles(kv_source_state *s) {
    needle_source *p = s->impl;
    if (!p) return;
    kv_haystack_close(&p->hay);
    free(p);
    s->impl = NULL;
}

/* sha256 over the haystack's words and every parameter. */
static int identity(const needle_source *p, int n, char sha256[65], kv_error *err) {
    kv_text t = {0};
    char *all;
    kv_text_puts(&t, p->hay.text);
    kv_text_printf(&t, "\nneedle 1 words=%zu needles=%d n=%d seed=%llu", p->words, p->needles, n,
                   (unsigned long long)p->seed);
    size_t size = t.n;
    int rc = kv_text_take(&t, "the haystack", &all, err);
    if (rc) return rc;
    kv_sha256_bytes(all, size, sha256);
    free(all);
    return KV_OK;
}

static int open_needles(const kv_source_args *a, kv_source_state *out, kv_error *err) {
    needle_source *p = calloc(1, sizeof *p);
    if (!p) return kv_fail(err, KV_ENOMEM, "no memory for the needle task");
    out->impl = p;
    out->slots = slots;
    out->n_items = (int)kv_source_param(a, "n");
    p->words = (size_t)kv_source_param(a, "words");
    p->needles = (int)kv_source_param(a, "needles");
    p->seed = a->seed;
    if (p->needles > KEYS) return kv_fail(err, KV_EARG, "needle: needles=%d, but there are %d keys", p->needles, KEYS);
    int rc = kv_haystack_open_or_own(a->haystack, a->root, &p->hay, err);
    if (rc) return rc;
    if (p->words > p->hay.n_words)
        return kv_fail(err, KV_EARG, "needle: words=%zu, but %s%s has %zu words; ask for fewer or add text", p->words,
                       a->haystack ? "haystack " : "the haystack of the project", a->haystack ? a->haystack : "",
                       p->hay.n_words);
    return identity(p, out->n_items, out->sha256, err);
}

/* The needles of an item, keys and numbers all different. */
static void draw_needles(kv_rng *rng, needle *v, int k) {
    int order[KEYS];
    for (int i = 0; i < KEYS; i++) order[i] = i;
    for (int i = 0; i < k; i++) {
        int j = i + (int)kv_rng_below(rng, (uint64_t)(KEYS - i));
        int key = order[j];
        order[j] = order[i];
        order[i] = v[i].key = key;
    }
    for (int i = 0; i < k; i++) {
        int again;
        do {
            v[i].number = 100000 + (unsigned)kv_rng_below(rng, 900000);
            again = 0;
            for (int j = 0; j < i; j++) again |= v[j].number == v[i].number;
        } while (again);
    }
}

/* pos[j]: the place of needle j among words + k elements.  A later needle pushes those behind it along. */
static void draw_positions(kv_rng *rng, size_t words, size_t *pos, int k) {
    for (int j = 0; j < k; j++) {
        pos[j] = (size_t)kv_rng_below(rng, words + (size_t)j);
        for (int i = 0; i < j; i++) pos[i] += pos[i] >= pos[j];
    }
}

static void put_key(kv_text *t, int key) {
    kv_text_puts(t, colours[key / OBJECTS]);
    kv_text_puts(t, "-");
    kv_text_puts(t, objects[key % OBJECTS]);
}

static void put_needle(kv_text *t, const needle *v) {
    kv_text_puts(t, "The special magic number for ");
    put_key(t, v->key);
    kv_text_printf(t, " is: %u.", v->number);
}

static void needle_item(const kv_source_state *s, int i, kv_text *values, void **data) {
    const needle_source *p = s->impl;
    const kv_haystack *h = &p->hay;
    kv_rng rng = kv_rng_open(p->seed, (uint64_t)i);
    needle v[KEYS];
    size_t pos[KEYS];
    size_t word = (size_t)kv_rng_below(&rng, h->n_words - p->words + 1);
    uint64_t any = 1 + kv_rng_below(&rng, 8);
    int k = p->needles ? p->needles : (int)any;
    draw_needles(&rng, v, k);
    draw_positions(&rng, p->words, pos, k);
    const needle *asked = &v[kv_rng_below(&rng, (uint64_t)k)];
    for (size_t at = 0; at < p->words + (size_t)k; at++) {
        int j = 0;
        while (j < k && pos[j] != at) j++;
        if (at) kv_text_append(&values[0], " ", 1);
        if (j < k) {
            put_needle(&values[0], &v[j]);
        } else {
            kv_text_append(&values[0], h->text + h->word[word], h->word[word + 1] - 1 - h->word[word]);
            word++;
        }
    }
    put_key(&values[1], asked->key);
    kv_text_printf(&values[2], "%u", asked->number);
    *data = NULL;
}

static const char *const params[] = {"words", "needles", "n", NULL};

const kv_source kv_source_needle = {
    .name = "needle", .params = params, .seeded = 1, .open = open_needles, .item = needle_item, .close = close_needles};
