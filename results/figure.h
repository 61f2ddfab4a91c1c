/* figure.h - what a plot shows, before any gnuplot: panels, series, ranges, tics and positions in pixels. */
#ifndef KV_FIGURE_H
#define KV_FIGURE_H

#include "results/store.h"

typedef enum kv_figure_x { KV_X_BUDGET, KV_X_BYTES } kv_figure_x;

typedef struct kv_series {
    const kv_cell *first; /* the cell that began the series */
    char label[256];      /* "H2O", "H2O (recent=8), query before" */
    char colour[8];       /* "#0072B2" */
    int marker, dash;     /* gnuplot's pt and dt */
    int full;
} kv_series;

typedef struct kv_panel {
    char title[192];
    double x_min, x_max, y_min, y_max, y_step;
    double x_tics[24];
    int n_x_tics;
    char heading[2][96];          /* the title in lines that fit over the panel; the second may be "" */
    int heading_size;             /* of its font */
    int left, top, width, height; /* the plot area, pixels from the top left corner of the figure */
} kv_panel;

typedef struct kv_legend_entry {
    int series, x, y;
} kv_legend_entry;

typedef struct kv_figure {
    kv_figure_x x;
    const kv_cell *cells;
    size_t n_cells;
    int *panel_of, *series_of; /* (n_cells); -1: the cell has no point here */
    kv_panel *panels;
    kv_series *series;
    kv_legend_entry *legend; /* (n_series) */
    int n_panels, n_series;
    int width, height; /* pixels */
    char subtitle[4][160];
    int n_subtitle;
    char note[200]; /* cells that are missing or unfinished; "" */
} kv_figure;

/* Arranges the cells that have a sample (and, for bytes, a measured peak).  n_panels 0: there is none.  The cells
 * must outlive the figure; kv_figure_free also after an error. */
int kv_figure_make(const kv_cell *cells, size_t n, kv_figure_x x, kv_figure *out, kv_error *err);
void kv_figure_free(kv_figure *f);

/* Horizontal position of a cell's point: M, or MiB. */
double kv_figure_cell_x(const kv_figure *f, const kv_cell *c);

#endif
