/* report.h - tables, JSON, CSV, gnuplot plots and the HTML page, all from the same kv_cell rows and one field list. */
#ifndef KV_REPORT_H
#define KV_REPORT_H

#include <stdio.h>

#include "results/store.h"
#include "results/table.h"

/* Table: constant columns are taken out of the body and named once above it.  JSON: one object per line with at
 * least status, policy, task, budget, buffer, prefill, n, accuracy, stderr, peak_slots, mean_slots, kv_bytes_peak,
 * prefill_tok_s, decode_tok_s, error (NaN is null).  CSV: RFC 4180 with a header. */
int kv_report_cells(FILE *f, kv_format format, const kv_cell *cells, size_t n, kv_error *err);

typedef struct kv_plot_files {
    char budget_svg[512], budget_png[512], bytes_svg[512], bytes_png[512], heatmap_svg[512], heatmap_png[512];
} kv_plot_files;

/* Draws accuracy against M and against measured peak KV bytes, one panel per task and one line per policy, with error
 * bars, into dir/<stem>_budget.{svg,png} and dir/<stem>_bytes.{svg,png}; the .dat and .gp files stay beside them.
 * gnuplot absent: KV_EUNSUPPORTED that names the package; the data files are written all the same. */
int kv_report_plot(const kv_cell *cells, size_t n, const char *dir, const char *stem, const char *gnuplot,
                   kv_plot_files *files, kv_error *err);

/* Draws the score by depth and length of every cell whose items are points of a grid (ids LENGTH/DEPTH/k, as those of
 * needle_grid), a panel each, into dir/<stem>_heatmap.{svg,png}, named in files (the other names stay as they are).
 * Nothing is drawn, and the names are "", when there is no such cell.  Errors as kv_report_plot. */
int kv_report_heatmap(kv_store *s, const kv_cell *cells, size_t n, const char *dir, const char *stem,
                      const char *gnuplot, kv_plot_files *files, kv_error *err);

/* One self-contained page: plots inlined as SVG, the table, how to read it, how it was made (argv, host, build). */
int kv_report_html(const kv_cell *cells, size_t n, const kv_plot_files *plots, const char *title, const char *footer,
                   const char *path, kv_error *err);

#endif
