/* plot_script.c - a figure as gnuplot script and data file.
 *
 * The script holds every number but the data, draws the SVG and the PNG, and runs again by hand in its folder.  Texts
 * from the data go into single quotes, where gnuplot expands nothing but the quote itself, and are drawn "noenhanced",
 * so that no name can carry markup or commands. */
#include "results/plot_script.h"

#include <math.h>
#include <stdlib.h>

#include "results/embedded.h"

static const struct {
    const char *name, *title, *x_label;
} kinds[] = {
    [KV_X_BUDGET] = {"budget", "Accuracy against cache budget", "M, slots kept per layer and KV head"},
    [KV_X_BYTES] = {"bytes", "Accuracy against cache memory", "measured peak KV bytes per sequence (MiB)"},
};

const char *kv_plot_name(kv_figure_x x) {
    return kinds[x].name;
}

/* One plot element of one panel. */
typedef enum element { BAND, LEVEL, BARS, POINTS } element;

typedef struct script {
    const kv_figure *f;
    kv_string gp, dat, titles;
    int *order;    /* (n_cells) cells of one block */
    int *block_of; /* (n_series) data block in the current panel, -1 = none */
    int n_blocks;
} script;

void kv_plot_quote(kv_string *t, const char *s) {
    kv_string clean = {0};
    kv_string_add_clean(&clean, s);
    t->failed |= clean.failed;
    kv_string_add(t, "'");
    for (size_t i = 0; i < clean.n; i++) {
        if (clean.p[i] == '\'') kv_string_add(t, "'");
        kv_string_add_bytes(t, clean.p + i, 1);
    }
    kv_string_add(t, "'");
    kv_string_free(&clean);
}

void kv_plot_label(kv_string *gp, const char *text, double x, double y, int size, const char *colour) {
    kv_string_add(gp, "    set label ");
    kv_plot_quote(gp, text);
    kv_string_addf(gp, " at screen %.6f, screen %.6f left noenhanced font ',%d' textcolor rgb '%s'\n", x, y, size,
                   colour);
}

void kv_plot_margins(kv_string *gp, double left, double right, double top, double bottom) {
    kv_string_addf(gp, "    set lmargin at screen %.6f\n    set rmargin at screen %.6f\n", left, right);
    kv_string_addf(gp, "    set tmargin at screen %.6f\n    set bmargin at screen %.6f\n", top, bottom);
}

/* Pixels from the top left corner as gnuplot's screen coordinates. */
static void add_at(script *s, double x, double y) {
    kv_string_addf(&s->gp, "screen %.6f, screen %.6f", x / s->f->width, 1 - y / s->f->height);
}

static void add_label(script *s, const char *text, double x, double y, int size, const char *colour) {
    kv_plot_label(&s->gp, text, x / s->f->width, 1 - y / s->f->height, size, colour);
}

/* Texts and legend belong to the whole figure; they are drawn with the first panel. */
static void add_head(script *s) {
    const kv_figure *f = s->f;
    kv_string_addf(&s->gp, "    set label '{/:Bold %s}' at ", kinds[f->x].title);
    add_at(s, 32, 26);
    kv_string_add(&s->gp, " left enhanced font ',17' textcolor rgb '#111111'\n");
    for (int i = 0; i < f->n_subtitle; i++) add_label(s, f->subtitle[i], 32, 48 + 19 * i, 12, "#555555");
    for (int i = 0; i < f->n_series; i++) {
        const kv_legend_entry *e = &f->legend[i];
        const kv_series *q = &f->series[e->series];
        kv_string_add(&s->gp, "    set arrow from ");
        add_at(s, e->x, e->y);
        kv_string_add(&s->gp, " to ");
        add_at(s, e->x + 30, e->y);
        kv_string_addf(&s->gp, " nohead lc rgb '%s' lw 2 dt %d\n", q->colour, q->dash);
        if (!q->full || f->x == KV_X_BYTES) {
            kv_string_add(&s->gp, "    set label '' at ");
            add_at(s, e->x + 15, e->y);
            kv_string_addf(&s->gp, " point pt %d ps 0.8 lc rgb '%s'\n", q->marker, q->colour);
        }
        add_label(s, q->label, e->x + 38, e->y, 13, "#222222");
    }
    if (f->note[0]) add_label(s, f->note, 32, f->height - 14, 11, "#777777");
}

/* Cells of one series in one panel in order of x; returns their number. */
static int sort_cells(script *s, int panel, int series) {
    const kv_figure *f = s->f;
    int n = 0;
    for (size_t i = 0; i < f->n_cells; i++) {
        if (f->panel_of[i] != panel || f->series_of[i] != series) continue;
        int at = n++;
        double x = kv_figure_cell_x(f, &f->cells[i]);
        for (; at > 0 && kv_figure_cell_x(f, &f->cells[s->order[at - 1]]) > x; at--) s->order[at] = s->order[at - 1];
        s->order[at] = (int)i;
    }
    return n;
}

static void add_point(script *s, double x, const kv_cell *c) {
    kv_string_add_number(&s->dat, x);
    kv_string_add(&s->dat, " ");
    kv_string_add_number(&s->dat, c->accuracy);
    kv_string_add(&s->dat, " ");
    kv_string_add_number(&s->dat, isfinite(c->stderr_) ? c->stderr_ : 0);
    kv_string_addf(&s->dat, " %lld\n", (long long)c->n);
}

/* The full cache has no M: in that figure each of its cells is a horizontal line over the whole panel. */
static void add_block(script *s, int panel, int series) {
    const kv_figure *f = s->f;
    const kv_panel *p = &f->panels[panel];
    int n = sort_cells(s, panel, series), level = f->x == KV_X_BUDGET && f->series[series].full;
    s->block_of[series] = n ? s->n_blocks++ : -1;
    if (!n) return;
    kv_string_add(&s->dat, s->block_of[series] ? "\n\n# " : "# ");
    kv_string_add_clean(&s->dat, p->title);
    kv_string_add(&s->dat, ": ");
    kv_string_add_clean(&s->dat, f->series[series].label);
    kv_string_add(&s->dat, "\n");
    for (int i = 0; i < n; i++) {
        const kv_cell *c = &f->cells[s->order[i]];
        if (i && level) kv_string_add(&s->dat, "\n");
        add_point(s, level ? p->x_min : kv_figure_cell_x(f, c), c);
        if (level) add_point(s, p->x_max, c);
    }
}

/* A policy is points with bars; the full cache a level with a band, or, where it has an x, a level and a point. */
static int draws(element e, kv_figure_x x, int full) {
    if (!full) return e == BARS || e == POINTS;
    return e == LEVEL || (x == KV_X_BUDGET ? e == BAND : e == BARS || e == POINTS);
}

static void add_element(script *s, element e, int series, int first) {
    const kv_series *q = &s->f->series[series];
    kv_string *t = &s->gp;
    int main_element = e == POINTS || (e == LEVEL && s->f->x == KV_X_BUDGET);
    kv_string_addf(t, "%sdata index %d ", first ? "    plot " : ", \\\n         ", s->block_of[series]);
    if (e == BAND)
        kv_string_addf(t, "using 1:($2-$3):($2+$3) with filledcurves fc rgb '%s' fs transparent solid 0.08 noborder",
                       q->colour);
    else if (main_element && e == LEVEL)
        kv_string_addf(t, "using 1:2 with lines lc rgb '%s' lw 2 dt %d", q->colour, q->dash);
    else if (e == LEVEL)
        kv_string_addf(t, "using (x_min):2:(x_max-x_min):(0) with vectors nohead lc rgb '%s' lw 1.2 dt %d", q->colour,
                       q->dash);
    else if (e == BARS)
        kv_string_addf(t, "using 1:($2-$3):(0):(2*$3) with vectors nohead lc rgb '#60%s' lw 1.4", q->colour + 1);
    else
        kv_string_addf(t, "using 1:2 with %s pt %d ps 0.8 lc rgb '%s' lw 2 dt %d", q->full ? "points" : "linespoints",
                       q->marker, q->colour, q->dash);
    kv_string_add_clean(&s->titles, q->label);
    kv_string_add(&s->titles, main_element ? "\n" : e == LEVEL ? ", level\n" : ", standard error\n");
}

static void add_axes(script *s, int panel) {
    const kv_figure *f = s->f;
    const kv_panel *p = &f->panels[panel];
    kv_string *t = &s->gp;
    int two_digits = p->y_step < 0.1 || p->y_step == 0.25;
    kv_plot_margins(t, (double)p->left / f->width, (double)(p->left + p->width) / f->width,
                    1 - (double)p->top / f->height, 1 - (double)(p->top + p->height) / f->height);
    kv_string_addf(t, "    set logscale x 2\n    x_min = %.17g\n    x_max = %.17g\n    set xrange [x_min:x_max]\n",
                   p->x_min, p->x_max);
    kv_string_addf(t, "    set yrange [%.17g:%.17g]\n    set ytics %g format '%s'\n", p->y_min, p->y_max, p->y_step,
                   two_digits ? "%.2f" : "%.1f");
    kv_string_add(t, "    set xtics (");
    for (int i = 0; i < p->n_x_tics; i++) kv_string_addf(t, "%s'%g' %.17g", i ? ", " : "", p->x_tics[i], p->x_tics[i]);
    kv_string_addf(t, ")\n    set xlabel '%s' offset 0,0.4 font ',12' textcolor rgb '#404040'\n", kinds[f->x].x_label);
    kv_string_addf(t, "    set ylabel '%s' offset %s,0 font ',12' textcolor rgb '#404040'\n",
                   p->left == f->panels[0].left ? "accuracy" : "", two_digits ? "0.2" : "0.5");
    add_label(s, p->heading[0], p->left, p->top - (p->heading[1][0] ? 22 : 14), p->heading_size, "#111111");
    if (p->heading[1][0]) add_label(s, p->heading[1], p->left, p->top - 9, p->heading_size, "#111111");
}

static void add_panel(script *s, int panel) {
    const kv_figure *f = s->f;
    int first = 1;
    kv_string_add(&s->gp, "\n    # ");
    kv_string_add_clean(&s->gp, f->panels[panel].title);
    kv_string_add(&s->gp, "\n    unset label\n    unset arrow\n");
    if (!panel) add_head(s);
    add_axes(s, panel);
    for (int q = 0; q < f->n_series; q++) add_block(s, panel, q);
    for (int e = BAND; e <= POINTS; e++) /* back to front */
        for (int q = 0; q < f->n_series; q++) {
            if (s->block_of[q] < 0 || !draws((element)e, f->x, f->series[q].full)) continue;
            add_element(s, (element)e, q, first);
            first = 0;
        }
    kv_string_add(&s->gp, "\n");
}

void kv_plot_head(kv_string *gp, const char *stem, const char *name, int width, int height) {
    kv_string file = {0};
    kv_string_add(gp, "# Run in the folder of this file; generated by trimbench.\n");
    kv_string_add(gp, kv_embedded_plots_style_gp);
    kv_string_addf(&file, "%s_%s", stem, name);
    gp->failed |= file.failed;
    kv_string_add(gp, "\nout = ");
    kv_plot_quote(gp, file.failed ? "" : file.p);
    kv_string_free(&file);
    kv_string_add(gp, "\ndata = out.'.dat'\n\n");
    kv_string_addf(gp,
                   "do for [kind in 'svg png'] {\n"
                   "    if (kind eq 'svg') {\n"
                   "        set terminal svg enhanced size %d,%d dynamic name '%s' background '#ffffff' "
                   "font 'Helvetica, Arial, sans-serif,13'\n"
                   "    } else {\n"
                   "        if (strstrt(GPVAL_TERMINALS, 'pngcairo')) {\n"
                   "            set terminal pngcairo enhanced size %d,%d fontscale 1.5 linewidth 2 pointscale 2 "
                   "background '#ffffff' font 'Sans,13'\n"
                   "        } else {\n"
                   "            set terminal png enhanced size %d,%d background '#ffffff'\n"
                   "        }\n"
                   "    }\n"
                   "    set output out.'.'.kind\n"
                   "    set multiplot\n",
                   width, height, name, 2 * width, 2 * height, width, height);
}

void kv_plot_tail(kv_string *gp) {
    kv_string_add(gp, "\n    unset multiplot\n    unset output\n}\n");
}

int kv_plot_script_make(const kv_figure *f, const char *stem, kv_plot_script *out, kv_error *err) {
    script s = {.f = f};
    s.order = calloc(f->n_cells + 1, sizeof *s.order);
    s.block_of = calloc((size_t)f->n_series + 1, sizeof *s.block_of);
    int ok = s.order && s.block_of;
    if (ok) {
        kv_plot_head(&s.gp, stem, kv_plot_name(f->x), f->width, f->height);
        kv_string_addf(&s.dat, "# x (%s), accuracy, standard error, n; one block per panel and series\n",
                       kinds[f->x].x_label);
        for (int p = 0; p < f->n_panels; p++) add_panel(&s, p);
        kv_plot_tail(&s.gp);
        ok = !s.gp.failed && !s.dat.failed && !s.titles.failed;
    }
    free(s.order);
    free(s.block_of);
    *out = (kv_plot_script){s.gp, s.dat, s.titles};
    return ok ? KV_OK : kv_fail(err, KV_ENOMEM, "out of memory for the figure");
}

void kv_plot_script_free(kv_plot_script *p) {
    kv_string_free(&p->gp);
    kv_string_free(&p->dat);
    kv_string_free(&p->titles);
}
