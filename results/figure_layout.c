/* figure_layout.c - where things go.  Ranges and margins are all explicit, so that a position in the picture can be
 * turned back into data (the tests do). */
#include "results/figure_layout.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "results/fields.h"

#define COUNT(a) (sizeof(a) / sizeof *(a))

enum { LEFT = 64, RIGHT = 22, PANEL_TOP = 34, PANEL_BOTTOM = 56, HEAD = 42, LINE = 19, TIC_GAP = 36 };

static double pixel_gap(const kv_panel *p, double a, double b) {
    return fabs(log(b / a)) / log(p->x_max / p->x_min) * p->width;
}

/* Every M that occurs gets a tic, as far as the labels fit. */
static void budget_tics(const kv_figure *f, int panel) {
    kv_panel *p = &f->panels[panel];
    double last = 0, next;
    do {
        next = INFINITY;
        for (size_t i = 0; i < f->n_cells; i++) {
            double x = kv_figure_cell_x(f, &f->cells[i]);
            if (f->panel_of[i] == panel && !kv_cell_is_full(&f->cells[i]) && x > last && x < next) next = x;
        }
        if (isfinite(next) && (!p->n_x_tics || pixel_gap(p, p->x_tics[p->n_x_tics - 1], next) >= TIC_GAP))
            p->x_tics[p->n_x_tics++] = next;
        last = next;
    } while (isfinite(next) && p->n_x_tics < (int)COUNT(p->x_tics));
}

static int by_size(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* A tic at digit x 10^n for every n, where it is in range and there is room for a label. */
static void add_tics(kv_panel *p, double digit) {
    for (double decade = pow(10, floor(log10(p->x_min))); decade <= p->x_max; decade *= 10) {
        double x = decade * digit;
        int fits = x >= p->x_min && x <= p->x_max && p->n_x_tics < (int)COUNT(p->x_tics);
        for (int i = 0; i < p->n_x_tics; i++) fits &= pixel_gap(p, p->x_tics[i], x) >= TIC_GAP;
        if (fits) p->x_tics[p->n_x_tics++] = x;
    }
}

/* Round numbers first, then ever finer ones. */
static void bytes_tics(kv_panel *p) {
    static const double digits[] = {1, 5, 2, 3, 7, 4, 6, 8, 9, 1.5, 1.2, 1.8, 2.5};
    for (size_t k = 0; k < COUNT(digits); k++) add_tics(p, digits[k]);
    for (int k = 10; k < 100 && p->n_x_tics < 4; k++) add_tics(p, k / 10.0);
    qsort(p->x_tics, (size_t)p->n_x_tics, sizeof *p->x_tics, by_size);
}

/* Cells that are all alike still get an axis of some length: a tenth, between 0 and 1. */
static void widen(double *y0, double *y1) {
    const double least = 0.1;
    double middle = (*y0 + *y1) / 2;
    if (*y1 - *y0 >= least) return;
    *y0 = fmin(*y0, fmax(0, fmin(middle - least / 2, 1 - least)));
    *y1 = fmax(*y1, *y0 + least);
}

/* Accuracy starts at 0 unless that would squeeze the differences into the upper part of the panel. */
static void set_ranges(const kv_figure *f, int panel) {
    kv_panel *p = &f->panels[panel];
    double x0 = INFINITY, x1 = 0, y0 = 1, y1 = 0;
    for (size_t i = 0; i < f->n_cells; i++) {
        const kv_cell *c = &f->cells[i];
        if (f->panel_of[i] != panel) continue;
        double bar = isfinite(c->stderr_) ? c->stderr_ : 0, x = kv_figure_cell_x(f, c);
        y0 = fmin(y0, c->accuracy - bar);
        y1 = fmax(y1, c->accuracy + bar);
        if (f->x == KV_X_BUDGET && kv_cell_is_full(c)) continue;
        x0 = fmin(x0, x);
        x1 = fmax(x1, x);
    }
    if (!isfinite(x0)) x0 = x1 = 1; /* only the full cache: no M to show */
    double pad = fmax(pow(x1 / x0, 0.06), x0 == x1 ? 2 : 1.05);
    p->x_min = x0 / pad;
    p->x_max = x1 * pad;
    if (y0 > 0 && y0 < 0.6 * y1) y0 = 0;
    widen(&y0, &y1);
    static const double steps[] = {0.01, 0.02, 0.05, 0.1, 0.2, 0.25, 0.5};
    double span = y1 - y0;
    size_t s = 0;
    while (s + 1 < COUNT(steps) && span / steps[s] > 5.5) s++;
    p->y_step = steps[s];
    p->y_min = floor(y0 / steps[s] + 1e-9) * steps[s];
    p->y_max = ceil(y1 / steps[s] - 1e-9) * steps[s];
    if (p->y_max - p->y_min < 2 * steps[s]) p->y_max = p->y_min + 2 * steps[s];
    /* Bars may stick out above 1 and below 0; a little air keeps markers at the edge whole. */
    p->y_min = fmax(p->y_min, fmin(0, y0)) - 0.02 * span;
    p->y_max = fmin(p->y_max, fmax(1, y1)) + 0.04 * span;
    if (f->x == KV_X_BYTES)
        bytes_tics(p);
    else
        budget_tics(f, panel);
}

/* A rough width: no font metrics here, so rather too wide. */
static int text_width(const char *s, int font_size) {
    return (int)((double)strlen(s) * font_size * 0.56) + 1;
}

static void add_subtitle(kv_figure *f, const char *item) {
    int last = f->n_subtitle - 1;
    if (last >= 0) {
        size_t used = strlen(f->subtitle[last]);
        if (text_width(f->subtitle[last], 12) + text_width(item, 12) + 16 < f->width - LEFT / 2 - RIGHT) {
            snprintf(f->subtitle[last] + used, sizeof f->subtitle[last] - used, ", %s", item);
            return;
        }
        if (f->n_subtitle == (int)COUNT(f->subtitle)) return;
        snprintf(f->subtitle[last] + used, sizeof f->subtitle[last] - used, ",");
    }
    snprintf(f->subtitle[f->n_subtitle++], sizeof f->subtitle[0], "%s", item);
}

/* "query after" or "query after/before": what the drawn cells have in this field. */
static void subtitle_field(kv_figure *f, const char *key, const char *name) {
    const kv_field *field = kv_field_find(key);
    char item[120];
    size_t used = 0;
    const kv_cell *seen[4];
    int n_seen = 0;
    for (size_t i = 0; i < f->n_cells && n_seen < 4; i++) {
        const kv_cell *c = &f->cells[i];
        char value[100], other[100];
        int again = f->panel_of[i] < 0 || kv_field_missing(field, c) || !kv_field_applies(field, c);
        kv_field_text(field, c, value, sizeof value);
        for (int j = 0; j < n_seen && !again; j++) {
            kv_field_text(field, seen[j], other, sizeof other);
            again = !strcmp(value, other);
        }
        if (again) continue;
        used += (size_t)snprintf(item + used, sizeof item - used, "%s%s", n_seen ? "/" : name, value);
        if (used >= sizeof item) used = sizeof item - 1;
        seen[n_seen++] = c;
    }
    if (n_seen) add_subtitle(f, item);
}

static void make_texts(kv_figure *f) {
    int64_t n_min = INT64_MAX, n_max = 0;
    int failed = 0, open = 0, k_min = INT_MAX, k_max = 0;
    char item[64];
    for (size_t i = 0; i < f->n_cells; i++) {
        const kv_cell *c = &f->cells[i];
        failed += f->panel_of[i] < 0;
        if (f->panel_of[i] < 0) continue;
        open += strcmp(c->status, "done") != 0;
        if (c->n < n_min) n_min = c->n;
        if (c->n > n_max) n_max = c->n;
        if (c->k < k_min) k_min = c->k;
        if (c->k > k_max) k_max = c->k;
    }
    subtitle_field(f, "query", "query "); /* first, because lines that do not fit are dropped from the end */
    subtitle_field(f, "model", "");
    subtitle_field(f, "adapter", "adapter ");
    subtitle_field(f, "backend", "");
    subtitle_field(f, "numerics", "");
    subtitle_field(f, "prefill", "prefill ");
    subtitle_field(f, "buffer", "B = ");
    if (n_min == n_max)
        snprintf(item, sizeof item, "n = %lld", (long long)n_min);
    else
        snprintf(item, sizeof item, "n = %lld to %lld", (long long)n_min, (long long)n_max);
    add_subtitle(f, item);
    if (k_max > 1) {
        snprintf(item, sizeof item, k_min == k_max ? "%d per item" : "%d to %d per item", k_min, k_max);
        add_subtitle(f, item);
    }
    add_subtitle(f, k_max > 1 ? "bars: one standard error, items drawn at random" : "bars: one standard error");
    size_t used = 0;
    if (failed)
        used = (size_t)snprintf(f->note, sizeof f->note, "%d cell%s without a result not shown. ", failed,
                                failed > 1 ? "s" : "");
    if (open)
        snprintf(f->note + used, sizeof f->note - used, "%d cell%s unfinished, shown with the samples so far.", open,
                 open > 1 ? "s" : "");
}

/* A title that is too wide for its panel gets smaller and breaks at a ':' or ','; what then is left ends in "...". */
static void set_heading(kv_panel *p) {
    enum { BIG = 14, SMALL = 11 };
    size_t n = strlen(p->title), most = sizeof p->heading[0] - 1;
    p->heading[1][0] = 0;
    p->heading_size = text_width(p->title, BIG) <= p->width + RIGHT && n <= most ? BIG : SMALL;
    size_t fits = (size_t)((p->width + RIGHT) / (SMALL * 0.56)), cut = n;
    if (fits < most) most = fits;
    if (p->heading_size == SMALL && n > most)
        for (cut = most; cut > most / 2 && !strchr(":, ", p->title[cut]); cut--) {
        }
    snprintf(p->heading[0], sizeof p->heading[0], "%.*s", (int)cut, p->title);
    if (cut == n || n - cut <= most)
        snprintf(p->heading[1], sizeof p->heading[1], "%s", p->title + cut);
    else
        snprintf(p->heading[1], sizeof p->heading[1], "%.*s...", (int)most - 3, p->title + cut);
}

/* Legend entries flow from the left; returns the number of lines. */
static int place_legend(kv_figure *f, int top) {
    int x = LEFT / 2, line = 0;
    for (int s = 0; s < f->n_series; s++) {
        int width = 40 + text_width(f->series[s].label, 13) + 18;
        if (x > LEFT / 2 && x + width > f->width - RIGHT) {
            x = LEFT / 2;
            line++;
        }
        f->legend[s] = (kv_legend_entry){s, x, top + line * (LINE + 2)};
        x += width;
    }
    return line + 1;
}

void kv_figure_lay_out(kv_figure *f) {
    int columns = f->n_panels <= 3   ? f->n_panels
                  : f->n_panels == 4 ? 2
                                     : 3,
        rows = (f->n_panels + columns - 1) / columns;
    int w = columns == 1 ? 560 : columns == 2 ? 360 : 300, h = columns == 1 ? 300 : 230;
    f->width = columns * (LEFT + w + RIGHT);
    make_texts(f);
    int legend_top = HEAD + f->n_subtitle * LINE + 12;
    int top = legend_top + place_legend(f, legend_top) * (LINE + 2);
    for (int p = 0; p < f->n_panels; p++) {
        kv_panel *q = &f->panels[p];
        q->left = p % columns * (LEFT + w + RIGHT) + LEFT;
        q->top = top + p / columns * (PANEL_TOP + h + PANEL_BOTTOM) + PANEL_TOP;
        q->width = w;
        q->height = h;
        set_heading(q);
        set_ranges(f, p);
    }
    f->height = top + rows * (PANEL_TOP + h + PANEL_BOTTOM) + (f->note[0] ? LINE + 4 : 0);
}
