/* figure.c - cells to panels and series.
 *
 * One panel per task (and prompt variant), one series per policy.  Where other parts of a cell's identity differ inside
 * a panel (query order, prefill mode, B, model, adapter, seed ...) they split the series and are written into the
 * label: unlike cells are never joined by a line.  A policy keeps its colour from figure to figure. */
#include "results/figure.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "results/fields.h"
#include "results/figure_layout.h"

#define COUNT(a) (sizeof(a) / sizeof *(a))

/* Identity beyond task, policy and M. */
static const char *const dims[] = {"model", "adapter", "gates",   "backend",  "numerics", "prefill",
                                   "query", "buffer",  "max_new", "sampling", "seed"};
enum { N_DIMS = COUNT(dims) };

static int same_dim(int d, const kv_cell *a, const kv_cell *b) {
    const kv_field *f = kv_field_find(dims[d]);
    if (!kv_field_applies(f, a) || !kv_field_applies(f, b)) return 1;
    if (f->type == KV_FIELD_TEXT) return !strcmp(kv_field_string(f, a), kv_field_string(f, b));
    return kv_field_number(f, a) == kv_field_number(f, b);
}

double kv_figure_cell_x(const kv_figure *f, const kv_cell *c) {
    return f->x == KV_X_BUDGET ? c->budget : (double)c->kv_bytes_peak / (1024 * 1024);
}

static int has_point(const kv_figure *f, const kv_cell *c) {
    if (c->n <= 0 || !isfinite(c->accuracy)) return 0;
    return (f->x == KV_X_BUDGET && kv_cell_is_full(c)) || kv_figure_cell_x(f, c) > 0;
}

/* Where panels differ in the query order, each says its own; inside a panel the series do. */
static void name_orders(kv_figure *f) {
    const char *any = NULL;
    int differ = 0;
    for (size_t i = 0; i < f->n_cells; i++) {
        if (f->panel_of[i] < 0) continue;
        if (any) differ |= strcmp(any, f->cells[i].query) != 0;
        any = f->cells[i].query;
    }
    for (int p = 0; p < f->n_panels && differ; p++) {
        const char *own = NULL;
        int mixed = 0;
        for (size_t i = 0; i < f->n_cells; i++) {
            if (f->panel_of[i] != p) continue;
            if (own) mixed |= strcmp(own, f->cells[i].query) != 0;
            own = f->cells[i].query;
        }
        size_t n = strlen(f->panels[p].title);
        if (!mixed) snprintf(f->panels[p].title + n, sizeof f->panels[p].title - n, ", query %s", own);
    }
}

static int find_panels(kv_figure *f, kv_error *err) {
    f->panels = calloc(f->n_cells + 1, sizeof *f->panels);
    const kv_cell **first = calloc(f->n_cells + 1, sizeof *first);
    if (!f->panels || !first) {
        free(first);
        return kv_fail(err, KV_ENOMEM, "out of memory for the figure");
    }
    for (size_t i = 0; i < f->n_cells; i++) {
        const kv_cell *c = &f->cells[i];
        f->panel_of[i] = -1;
        if (!has_point(f, c)) continue;
        int p = 0;
        while (p < f->n_panels && (strcmp(first[p]->task, c->task) || strcmp(first[p]->variant, c->variant))) p++;
        if (p == f->n_panels) first[f->n_panels++] = c;
        f->panel_of[i] = p;
    }
    for (int p = 0; p < f->n_panels; p++) {
        int shared = 0;
        for (int q = 0; q < f->n_panels; q++) shared += !strcmp(first[p]->task, first[q]->task);
        snprintf(f->panels[p].title, sizeof f->panels[p].title, shared > 1 ? "%s, %s" : "%s", first[p]->task,
                 first[p]->variant);
    }
    free(first);
    name_orders(f);
    return KV_OK;
}

/* splits[full][d]: two cells of one panel, both full or both not, differ in d.  Cells of another query order are not
 * comparable at all, so there one of each is enough. */
static void find_splits(const kv_figure *f, int splits[2][N_DIMS]) {
    memset(splits, 0, 2 * sizeof *splits);
    for (size_t i = 0; i < f->n_cells; i++)
        for (size_t j = i + 1; j < f->n_cells; j++) {
            int a = kv_cell_is_full(&f->cells[i]), b = kv_cell_is_full(&f->cells[j]);
            if (f->panel_of[i] < 0 || f->panel_of[i] != f->panel_of[j]) continue;
            for (int d = 0; d < N_DIMS; d++) {
                if (a != b && strcmp(dims[d], "query")) continue;
                if (!same_dim(d, &f->cells[i], &f->cells[j])) splits[a][d] = splits[b][d] = 1;
            }
        }
}

static int same_series(const int *split, const kv_cell *a, const kv_cell *b) {
    if (strcmp(a->policy, b->policy)) return 0;
    for (int d = 0; d < N_DIMS; d++)
        if (split[d] && !same_dim(d, a, b)) return 0;
    return 1;
}

static void label_series(kv_series *s, const int *split) {
    const kv_cell *c = s->first;
    size_t n = (size_t)kv_cell_policy_text(c, s->label, sizeof s->label);
    for (int d = 0; d < N_DIMS && n < sizeof s->label; d++) {
        const kv_field *f = kv_field_find(dims[d]);
        char value[128];
        if (!split[d] || !kv_field_applies(f, c)) continue;
        kv_field_text(f, c, value, sizeof value);
        if (kv_field_missing(f, c)) strcpy(value, "none");
        n += (size_t)snprintf(s->label + n, sizeof s->label - n, ", %s %s", f->heading, value);
    }
}

/* Okabe and Ito's colours, which stay apart for all kinds of colour vision; then Tol's muted ones. */
static const struct {
    const char *policy, *colour;
} palette[] = {
    {"full", "#222222"},   {"trimkv", "#D55E00"}, {"h2o", "#0072B2"},     {"snapkv", "#009E73"}, {"window", "#E69F00"},
    {"random", "#8A8A8A"}, {"rkv", "#CC79A7"},    {"keynorm", "#56B4E9"}, {"", "#882255"},       {"", "#332288"},
    {"", "#999933"},       {"", "#117733"},       {"", "#AA4499"},        {"", "#88CCEE"},
};

static void colour_series(kv_series *all, int n) {
    static const int markers[] = {5, 9, 13, 11, 15, 4, 8, 12, 10, 14, 6};
    enum { OTHERS = 8 };
    for (int i = 0; i < n; i++) {
        size_t len = strcspn(all[i].first->policy, ":"), k = 0;
        while (k < COUNT(palette) &&
               (strlen(palette[k].policy) != len || strncmp(palette[k].policy, all[i].first->policy, len)))
            k++;
        if (k == COUNT(palette)) { /* a policy without a colour of its own takes one by its name */
            unsigned hash = 5381;
            for (size_t j = 0; j < len; j++) hash = hash * 33 + (unsigned char)all[i].first->policy[j];
            k = OTHERS + hash % (COUNT(palette) - OTHERS);
        }
        snprintf(all[i].colour, sizeof all[i].colour, "%s", palette[k].colour);
        all[i].full = kv_cell_is_full(all[i].first);
        /* Series of one colour differ in dash and marker. */
        int before = 0, twins = 0;
        for (int j = 0; j < i; j++) {
            before += !all[j].full;
            twins += !strcmp(all[j].colour, all[i].colour);
        }
        all[i].marker = all[i].full ? 7 : markers[(size_t)before % COUNT(markers)];
        all[i].dash = (all[i].full ? 2 : 1) + twins % 4;
    }
}

static int find_series(kv_figure *f, kv_error *err) {
    int splits[2][N_DIMS];
    find_splits(f, splits);
    f->series = calloc(f->n_cells + 1, sizeof *f->series);
    f->legend = calloc(f->n_cells + 1, sizeof *f->legend);
    if (!f->series || !f->legend) return kv_fail(err, KV_ENOMEM, "out of memory for the figure");
    for (size_t i = 0; i < f->n_cells; i++) {
        const kv_cell *c = &f->cells[i];
        f->series_of[i] = -1;
        if (f->panel_of[i] < 0) continue;
        int s = 0;
        while (s < f->n_series && !same_series(splits[kv_cell_is_full(c)], f->series[s].first, c)) s++;
        if (s == f->n_series) {
            f->series[s].first = c;
            label_series(&f->series[s], splits[kv_cell_is_full(c)]);
            f->n_series++;
        }
        f->series_of[i] = s;
    }
    colour_series(f->series, f->n_series);
    return KV_OK;
}

int kv_figure_make(const kv_cell *cells, size_t n, kv_figure_x x, kv_figure *out, kv_error *err) {
    memset(out, 0, sizeof *out);
    out->x = x;
    out->cells = cells;
    out->n_cells = n;
    out->panel_of = calloc(n + 1, sizeof *out->panel_of);
    out->series_of = calloc(n + 1, sizeof *out->series_of);
    if (!out->panel_of || !out->series_of) return kv_fail(err, KV_ENOMEM, "out of memory for the figure");
    int rc = find_panels(out, err);
    if (!rc) rc = find_series(out, err);
    if (!rc && out->n_panels) kv_figure_lay_out(out);
    return rc;
}

void kv_figure_free(kv_figure *f) {
    free(f->panel_of);
    free(f->series_of);
    free(f->panels);
    free(f->series);
    free(f->legend);
    memset(f, 0, sizeof *f);
}
