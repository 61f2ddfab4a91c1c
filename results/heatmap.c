/* heatmap.c - the needle test's picture: mean score by depth (down) and length (across), one map per cell.
 *
 * A cell belongs here when its items' ids are points of a grid, LENGTH/DEPTH/k in whole numbers
 * (datasets/needle_grid.c). The panels' titles say policy, M, B and query order, for a map without them cannot be
 * compared with another. */
#include "results/report.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "results/fields.h"
#include "results/plot_script.h"

enum { LEFT = 64, RIGHT = 18, TOP = 40, BOTTOM = 62, WIDTH = 300, HEIGHT = 220, COLUMNS = 3, BAR = 66, MAX_LINES = 6 };

typedef struct point {
    int length, depth, n;
    double sum;
} point;

typedef struct grid {
    const kv_cell *cell;
    point *points; /* (n) each once */
    int n;
    int *lengths, *depths; /* sorted; what stands on the axes */
    int n_lengths, n_depths;
} grid;

static int by_value(const void *a, const void *b) {
    return (*(const int *)a > *(const int *)b) - (*(const int *)a < *(const int *)b);
}

/* Adds v to the sorted set unless it is there; the set has room. */
static void add_value(int *set, int *n, int v) {
    for (int i = 0; i < *n; i++)
        if (set[i] == v) return;
    set[(*n)++] = v;
    qsort(set, (size_t)*n, sizeof *set, by_value);
}

static int read_point(const char *id, int *length, int *depth) {
    int k, used = 0;
    return sscanf(id, "%9d/%3d/%9d%n", length, depth, &k, &used) == 3 && !id[used] && *length > 0 && *depth >= 0 &&
           *depth <= 100;
}

static void free_grid(grid *g) {
    free(g->points);
    free(g->lengths);
    free(g->depths);
    memset(g, 0, sizeof *g);
}

/* g->n stays 0 when the cell has other items. */
static int make_grid(grid *g, const kv_cell *c, const kv_item_score *scores, size_t n, kv_error *err) {
    *g = (grid){.cell = c,
                .points = calloc(n + 1, sizeof *g->points),
                .lengths = calloc(n + 1, sizeof *g->lengths),
                .depths = calloc(n + 1, sizeof *g->depths)};
    if (!g->points || !g->lengths || !g->depths) return kv_fail(err, KV_ENOMEM, "out of memory for the heat map");
    for (size_t i = 0; i < n; i++) {
        int length, depth, p = 0;
        if (!read_point(scores[i].item, &length, &depth)) {
            g->n = 0;
            return KV_OK;
        }
        while (p < g->n && (g->points[p].length != length || g->points[p].depth != depth)) p++;
        if (p == g->n) g->points[g->n++] = (point){.length = length, .depth = depth};
        g->points[p].sum += scores[i].score;
        g->points[p].n++;
        add_value(g->lengths, &g->n_lengths, length);
        add_value(g->depths, &g->n_depths, depth);
    }
    return KV_OK;
}

/* Grids of the cells that are some; *n of them.  grids has room for every cell. */
static int find_grids(kv_store *s, const kv_cell *cells, size_t n_cells, grid *grids, int *n, kv_error *err) {
    int rc = KV_OK;
    for (size_t i = 0; i < n_cells && !rc; i++) {
        kv_item_score *scores;
        size_t n_scores;
        rc = kv_store_scores(s, cells[i].cell_key, &scores, &n_scores, err);
        if (!rc) rc = make_grid(&grids[*n], &cells[i], scores, n_scores, err);
        if (!rc && grids[*n].n)
            ++*n;
        else
            free_grid(&grids[*n]);
        free(scores);
    }
    return rc;
}

/* Fields that say what was run, other than policy, M, B and query order, which every panel shows. */
static int is_setting(const kv_field *f) {
    static const char *const known[] = {"policy", "budget", "buffer", "query", "batch", "n"};
    if (f->role != KV_ROLE_IDENTITY) return 0;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (!strcmp(f->key, known[i])) return 0;
    return 1;
}

static void add_text(char *out, size_t size, const char *heading, const char *value) {
    static const char *const bare[] = {"model", "task", "backend", "numerics", "sampling"};
    size_t n = strlen(out);
    for (size_t i = 0; i < sizeof bare / sizeof *bare; i++)
        if (!strcmp(heading, bare[i])) heading = "";
    snprintf(out + n, size - n, "%s%s%s%s", n ? ", " : "", heading, *heading ? " " : "", value);
}

/* "SnapKV, M = 256, B = 32, query after", then what else tells the cells apart. */
static void label_grid(const grid *g, const kv_table_plan *plan, char *out, size_t size) {
    const kv_cell *c = g->cell;
    size_t n = (size_t)kv_cell_policy_text(c, out, size);
    if (!kv_cell_is_full(c) && n < size)
        n += (size_t)snprintf(out + n, size - n, ", M = %d, B = %d", c->budget, c->buffer);
    if (n < size) snprintf(out + n, size - n, ", query %s", c->query);
    for (size_t i = 0; i < plan->n_shown; i++) {
        char value[128];
        if (!is_setting(plan->shown[i]) || !kv_field_applies(plan->shown[i], c)) continue;
        kv_field_text(plan->shown[i], c, value, sizeof value);
        add_text(out, size, plan->shown[i]->heading, value);
    }
}

typedef struct canvas {
    kv_plot_script s;
    char line[MAX_LINES][200]; /* under the title */
    int n_lines, head;         /* head: pixels above the first row of panels */
    int width, height;
} canvas;

static void add_label(canvas *v, const char *text, double x, double y, int size, const char *colour) {
    kv_plot_label(&v->s.gp, text, x / v->width, 1 - y / v->height, size, colour);
}

/* Every step-th value as the name of its place, so that at most `most` stand on an axis. */
static void add_tics(kv_string *gp, const char *axis, const int *values, int n, int most) {
    int step = (n + most - 1) / most;
    kv_string_addf(gp, "    set %stics (", axis);
    for (int i = 0; i < n; i += step) kv_string_addf(gp, "%s'%d' %d", i ? ", " : "", values[i], i);
    kv_string_add(gp, ")\n");
}

static void add_data(canvas *v, const grid *g, const char *label, int panel) {
    kv_string_add(&v->s.dat, panel ? "\n\n# " : "# ");
    kv_string_add_clean(&v->s.dat, label);
    kv_string_add(&v->s.dat, "\n");
    for (int d = 0; d < g->n_depths; d++)
        for (int l = 0; l < g->n_lengths; l++) {
            int p = 0;
            while (p < g->n && (g->points[p].length != g->lengths[l] || g->points[p].depth != g->depths[d])) p++;
            kv_string_addf(&v->s.dat, "%d %d ", l, d);
            if (p < g->n)
                kv_string_add_number(&v->s.dat, g->points[p].sum / g->points[p].n);
            else
                kv_string_add(&v->s.dat, "NaN");
            kv_string_addf(&v->s.dat, " %d %d %d\n", g->lengths[l], g->depths[d], p < g->n ? g->points[p].n : 0);
        }
}

static void add_panel(canvas *v, const grid *g, const char *label, int panel) {
    kv_string *gp = &v->s.gp;
    int left = LEFT + panel % COLUMNS * (LEFT + WIDTH + RIGHT);
    int top = v->head + TOP + panel / COLUMNS * (TOP + HEIGHT + BOTTOM);
    kv_plot_margins(gp, (double)left / v->width, (double)(left + WIDTH) / v->width, 1 - (double)top / v->height,
                    1 - (double)(top + HEIGHT) / v->height);
    kv_string_addf(gp, "    set xrange [-0.5:%d.5]\n    set yrange [%d.5:-0.5]\n", g->n_lengths - 1, g->n_depths - 1);
    add_tics(gp, "x", g->lengths, g->n_lengths, 6);
    add_tics(gp, "y", g->depths, g->n_depths, 11);
    kv_string_add(gp, "    set xlabel 'length (tokens)' offset 0,0.4 font ',12' textcolor rgb '#404040'\n"
                      "    set ylabel 'depth (%)' offset 1.2,0 font ',12' textcolor rgb '#404040'\n");
    kv_string_add(gp, panel ? "    unset colorbox\n" : "");
    add_label(v, label, left, top - 14, 12, "#111111");
    kv_string_addf(gp, "    plot data index %d using 1:2:3 with image pixels\n    unset label\n", panel);
    kv_string_add_clean(&v->s.titles, label);
    kv_string_add(&v->s.titles, "\n");
    add_data(v, g, label, panel);
}

/* What all cells have in common, in lines cut at commas: about 6.4 pixels a letter of size 12. */
static void make_lines(canvas *v, const grid *grids, int n, const kv_table_plan *plan, const kv_cell *drawn) {
    char text[900] = "", value[128];
    int least = grids[0].points[0].n, most = least;
    for (int i = 0; i < n; i++)
        for (int p = 0; p < grids[i].n; p++) {
            if (grids[i].points[p].n < least) least = grids[i].points[p].n;
            if (grids[i].points[p].n > most) most = grids[i].points[p].n;
        }
    for (size_t i = 0; i < plan->n_constant; i++) {
        if (!is_setting(plan->constant[i])) continue;
        kv_table_constant(plan->constant[i], drawn, (size_t)n, value, sizeof value);
        if (strcmp(value, "-")) add_text(text, sizeof text, plan->constant[i]->heading, value);
    }
    snprintf(value, sizeof value, least == most ? "%d" : "%d to %d", least, most);
    add_text(text, sizeof text, "answers a point", value);
    size_t fits = (size_t)((v->width - 64) / 6.4);
    if (fits > sizeof *v->line - 1) fits = sizeof *v->line - 1;
    for (const char *s = text; *s && v->n_lines < MAX_LINES;) {
        size_t cut = strlen(s);
        if (cut > fits)
            for (cut = fits; cut && strncmp(s + cut, ", ", 2); cut--) {
            }
        if (!cut) cut = strcspn(s, ",");
        snprintf(v->line[v->n_lines++], sizeof *v->line, "%.*s", (int)cut, s);
        s += cut + (s[cut] ? 2 : 0);
    }
}

static void add_head(canvas *v) {
    kv_string_add(&v->s.gp, "    set palette defined (0 '#7f1d1d', 0.25 '#d6604d', 0.5 '#f7e3c5', 0.75 '#6baed6', 1 "
                            "'#08519c')\n    set cbrange [0:1]\n    set cbtics 0.5 font ',11'\n    unset grid\n");
    kv_string_addf(&v->s.gp, "    set colorbox user origin screen %.6f, screen %.6f size screen %.6f, screen %.6f\n",
                   1 - 54.0 / v->width, 1 - (double)(v->head + TOP + HEIGHT) / v->height, 14.0 / v->width,
                   (double)HEIGHT / v->height);
    add_label(v, "Score by depth of the needle and length", 32, 26, 17, "#111111");
    for (int i = 0; i < v->n_lines; i++) add_label(v, v->line[i], 32, 48 + 18 * i, 12, "#555555");
}

static int draw(const grid *grids, int n, const char *dir, const char *stem, const char *gnuplot, kv_plot_files *files,
                kv_error *err) {
    int columns = n < COLUMNS ? n : COLUMNS, rows = (n + COLUMNS - 1) / COLUMNS, rc = KV_ENOMEM;
    canvas v = {.width = columns * (LEFT + WIDTH + RIGHT) + BAR};
    kv_cell *drawn = calloc((size_t)n, sizeof *drawn);
    if (drawn) {
        kv_table_plan plan;
        for (int i = 0; i < n; i++) drawn[i] = *grids[i].cell;
        kv_table_make_plan(drawn, (size_t)n, &plan);
        make_lines(&v, grids, n, &plan, drawn);
        v.head = 48 + 18 * v.n_lines;
        v.height = v.head + rows * (TOP + HEIGHT + BOTTOM);
        kv_plot_head(&v.s.gp, stem, "heatmap", v.width, v.height);
        add_head(&v);
        kv_string_add(&v.s.dat, "# places on the axes, mean score, length, depth, answers; one block per panel\n");
        for (int i = 0; i < n; i++) {
            char label[300];
            label_grid(&grids[i], &plan, label, sizeof label);
            add_panel(&v, &grids[i], label, i);
        }
        kv_plot_tail(&v.s.gp);
        if (!v.s.gp.failed && !v.s.dat.failed && !v.s.titles.failed)
            rc = kv_plot_draw(&v.s, dir, stem, "heatmap", gnuplot, files->heatmap_svg, files->heatmap_png, err);
    }
    if (rc == KV_ENOMEM) kv_fail(err, rc, "out of memory for the heat map");
    kv_plot_script_free(&v.s);
    free(drawn);
    return rc;
}

int kv_report_heatmap(kv_store *s, const kv_cell *cells, size_t n, const char *dir, const char *stem,
                      const char *gnuplot, kv_plot_files *files, kv_error *err) {
    grid *grids = calloc(n + 1, sizeof *grids);
    int n_grids = 0;
    files->heatmap_svg[0] = files->heatmap_png[0] = 0;
    if (!grids) return kv_fail(err, KV_ENOMEM, "out of memory for the heat map");
    int rc = find_grids(s, cells, n, grids, &n_grids, err);
    if (!rc && n_grids) rc = draw(grids, n_grids, dir, stem, gnuplot, files, err);
    for (int i = 0; i < n_grids; i++) free_grid(&grids[i]);
    free(grids);
    return rc;
}
