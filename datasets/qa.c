/* qa.c - source `qa`: RULER's questions over many documents (arXiv 2404.06654; NVIDIA/RULER, scripts/data/synthetic/
 * qa.py), with SQuAD or HotpotQA (form = squad or hotpotqa) from files of the user.
 *
 * Item i is question i of the development set.  Its documents, then others of the same article (SQuAD), then any, up to
 * the number that fits, are shuffled; as in the reference the shuffle is alike in every item with as many documents,
 * and so is the place of the answer (reshuffle=1: anew for each).  When there is room for more documents than the file
 * has, they repeat.
 *
 * Draws of an item's stream: the other documents. */
#include "datasets/fill.h"
#include "datasets/qa_data.h"
#include "datasets/rng.h"

#include <stdlib.h>
#include <string.h>

typedef struct {
    kv_fill fill; /* first: fill.h */
    kv_qa qa;
} qa_source;

enum { CONTEXT, QUERY, ANSWERS };
static const char *const slots[] = {"context", "query", "answers", NULL};

static void close_qa(kv_source_state *s) {
    qa_source *p = s->impl;
    if (!p) return;
    kv_qa_close(&p->qa);
    free(p);
    s->impl = NULL;
}

/* What of an item's documents is settled: list (n), taken (n_docs). */
typedef struct {
    size_t *list, n;
    unsigned char *taken;
} choice;

static void choose(choice *c, size_t doc) {
    if (c->taken[doc]) return;
    c->taken[doc] = 1;
    c->list[c->n++] = doc;
}

/* Up to `units` documents that are not taken, out of from (n) in random order. */
static void choose_any(choice *c, kv_rng *rng, const size_t *from, size_t n, size_t units, size_t *order) {
    kv_rng_shuffle(rng, order, n, n);
    for (size_t k = 0; k < n && c->n < units; k++) choose(c, from ? from[order[k]] : order[k]);
}

static void choose_documents(const qa_source *p, const kv_qa_question *q, kv_rng *rng, size_t units, choice *c,
                             size_t *order) {
    const kv_qa *qa = &p->qa;
    for (size_t k = 0; k < q->n_gold; k++) choose(c, qa->place[q->gold + k]);
    choose_any(c, rng, qa->place + q->related, q->n_related, units, order);
    choose_any(c, rng, NULL, qa->n_docs, units, order);
    while (c->n < units) { /* all of them are there: again from the first */
        c->list[c->n] = c->list[c->n - qa->n_docs];
        c->n++;
    }
}

static void qa_text(const void *impl, int i, size_t units, kv_text *values) {
    const qa_source *p = impl;
    const kv_qa_question *q = &p->qa.questions[i];
    kv_rng rng = kv_rng_open(p->fill.seed, (uint64_t)i);
    kv_rng shuffle = kv_fill_shuffle(&p->fill, i);
    size_t most = units > q->n_gold ? units : q->n_gold, scratch = most + p->qa.n_docs + q->n_related;
    choice c = {malloc(most * sizeof *c.list), 0, calloc(p->qa.n_docs, 1)};
    size_t *order = malloc(scratch * sizeof *order);
    if (c.list && c.taken && order) {
        choose_documents(p, q, &rng, units, &c, order);
        kv_rng_shuffle(&shuffle, order, c.n, c.n);
        for (size_t k = 0; k < c.n; k++) {
            kv_text_printf(&values[CONTEXT], "%sDocument %zu:\n", k ? "\n\n" : "", k + 1);
            kv_text_puts(&values[CONTEXT], p->qa.docs[c.list[order[k]]]);
        }
        kv_text_puts(&values[QUERY], q->text);
        kv_text_puts(&values[ANSWERS], q->answers);
    } else {
        values[CONTEXT].failed = 1;
    }
    free(c.list);
    free(c.taken);
    free(order);
}

static int open_qa(const kv_source_args *a, kv_source_state *out, kv_error *err) {
    int hotpot = !strcmp(a->file->form, "hotpotqa");
    if (!hotpot && strcmp(a->file->form, "squad"))
        return kv_fail(err, KV_EFORMAT, "%s: form = %.60s; expected squad or hotpotqa", a->file->path, a->file->form);
    qa_source *p = calloc(1, sizeof *p);
    if (!p) return kv_fail(err, KV_ENOMEM, "no memory for the %s task", a->file->source);
    out->impl = p;
    out->slots = slots;
    out->n_items = (int)kv_source_param(a, "n");
    int rc = kv_qa_open(a->qa_data, hotpot ? KV_HOTPOTQA : KV_SQUAD, &p->qa, err);
    if (rc) return rc;
    if ((size_t)out->n_items > p->qa.n_questions)
        return kv_fail(err, KV_EARG, "qa: n=%d, but the file has %zu questions with an answer", out->n_items,
                       p->qa.n_questions);
    p->fill = (kv_fill){.text = qa_text,
                        .measure = a->measure,
                        .task = a->task,
                        .seed = a->seed,
                        .reshuffle = (int)kv_source_param(a, "reshuffle"),
                        .impl = p,
                        .tokens = kv_source_param(a, "tokens"),
                        .least = 1,
                        .most = 10000000};
    p->fill.start = (size_t)p->fill.tokens / 150;
    return kv_source_identity(a, "qa 1", p->qa.sha256, out->sha256, err);
}

static const char *const params[] = {"tokens", "n", "reshuffle", NULL};

const kv_source kv_source_qa = {.name = "qa",
                                .params = params,
                                .seeded = 1,
                                .open = open_qa,
                                .close = close_qa,
                                .forms = "squad or hotpotqa",
                                .prepare = kv_fill_prepare_source,
                                .make = kv_fill_make};
