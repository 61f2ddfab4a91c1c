/* store_averages.c - fills in what a cell's samples amount to (averages.h) from queries/answers.sql. */
#include "results/store_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "results/averages.h"
#include "results/embedded.h"
#include "results/stringbuf.h"
#include "results/vote.h"

/* The answers of one cell, item after item. */
typedef struct answers {
    kv_answer *a;
    double *compat;
    size_t *text_at; /* in texts; text pointers are set when the cell is complete, because texts moves as it grows */
    size_t n, cap;
    kv_string cell, item, texts;
} answers;

static void free_answers(answers *x) {
    free(x->a);
    free(x->compat);
    free(x->text_at);
    kv_string_free(&x->cell);
    kv_string_free(&x->item);
    kv_string_free(&x->texts);
}

static int grow(answers *x) {
    size_t cap = x->cap ? 2 * x->cap : 256;
    kv_answer *a = realloc(x->a, cap * sizeof *a);
    if (a) x->a = a;
    double *compat = realloc(x->compat, cap * sizeof *compat);
    if (compat) x->compat = compat;
    size_t *text_at = realloc(x->text_at, cap * sizeof *text_at);
    if (text_at) x->text_at = text_at;
    if (a && compat && text_at) x->cap = cap;
    return x->cap == cap;
}

static const char *text_of(sqlite3_stmt *st, int col) {
    const unsigned char *t = sqlite3_column_text(st, col);
    return t ? (const char *)t : "";
}

static void set(kv_string *s, const char *text) {
    s->n = 0;
    kv_string_add(s, text);
}

static int add_answer(answers *x, sqlite3_stmt *st) {
    const char *item = text_of(st, 1);
    char vote[1024];
    size_t n = kv_vote_text(text_of(st, 4), vote, sizeof vote);
    if (x->n == x->cap && !grow(x)) return 0;
    int same = x->n && !strcmp(x->item.p, item);
    x->a[x->n] = (kv_answer){.item = x->n ? x->a[x->n - 1].item + !same : 0, .score = sqlite3_column_double(st, 2)};
    x->compat[x->n] = sqlite3_column_type(st, 3) == SQLITE_NULL ? NAN : sqlite3_column_double(st, 3);
    x->text_at[x->n++] = x->texts.n;
    kv_string_add_bytes(&x->texts, vote, n + 1);
    if (!same) set(&x->item, item);
    return !x->texts.failed && !x->item.failed;
}

static void fill_in(answers *x, kv_cell *c) {
    kv_averages v;
    for (size_t i = 0; i < x->n; i++) x->a[i].text = x->texts.p + x->text_at[i];
    kv_averages_of(x->a, x->n, &v);
    c->k = v.k;
    c->n_items = v.n_items;
    c->stderr_ = v.se_random;
    c->stderr_fixed = v.se_fixed;
    c->pass_at_k = v.pass;
    c->maj_at_k = v.maj;
    for (size_t i = 0; i < x->n; i++) x->a[i].score = x->compat[i];
    kv_averages_of(x->a, x->n, &v);
    c->compat_stderr = v.se_random;
    c->compat_stderr_fixed = v.se_fixed;
    c->compat_pass_at_k = v.pass;
    c->compat_maj_at_k = v.maj;
}

static int by_key(const void *a, const void *b) {
    return strcmp((*(kv_cell *const *)a)->cell_key, (*(kv_cell *const *)b)->cell_key);
}

/* Walks rows and cells side by side, both in order of the key. */
static int walk(sqlite3_stmt *st, answers *x, kv_cell **sorted, size_t n) {
    size_t at = 0;
    int step, ok = 1;
    do {
        step = sqlite3_step(st);
        int more = step == SQLITE_ROW;
        if (x->n && (!more || strcmp(text_of(st, 0), x->cell.p))) {
            while (at < n && strcmp(sorted[at]->cell_key, x->cell.p) < 0) at++;
            if (at < n && !strcmp(sorted[at]->cell_key, x->cell.p)) fill_in(x, sorted[at]);
            x->n = x->texts.n = 0;
        }
        if (!more) break;
        if (!x->n) set(&x->cell, text_of(st, 0));
        ok = !x->cell.failed && add_answer(x, st);
    } while (ok);
    return ok ? step : SQLITE_NOMEM;
}

int kv_store_averages(kv_store *s, const char *keys_json, kv_cell *cells, size_t n, kv_error *err) {
    sqlite3_stmt *st = NULL;
    answers x = {0};
    int rc = KV_OK, step;
    kv_cell **sorted = malloc((n + 1) * sizeof *sorted);
    if (!sorted) return kv_fail(err, KV_ENOMEM, "%s: out of memory for the cells", s->path);
    for (size_t i = 0; i < n; i++) sorted[i] = &cells[i];
    qsort(sorted, n, sizeof *sorted, by_key);
    if (sqlite3_prepare_v2(s->db, kv_embedded_queries_answers_sql, -1, &st, NULL) != SQLITE_OK ||
        sqlite3_bind_text(st, 1, keys_json, -1, SQLITE_STATIC) != SQLITE_OK)
        rc = kv_store_fail(s, "reading answers", err);
    else if ((step = walk(st, &x, sorted, n)) == SQLITE_NOMEM)
        rc = kv_fail(err, KV_ENOMEM, "%s: out of memory for the answers", s->path);
    else if (step != SQLITE_DONE)
        rc = kv_store_fail(s, "reading answers", err);
    sqlite3_finalize(st);
    free_answers(&x);
    free(sorted);
    return rc;
}
