/* plot_script.h - a figure as gnuplot script and data file. */
#ifndef KV_PLOT_SCRIPT_H
#define KV_PLOT_SCRIPT_H

#include "results/figure.h"
#include "results/stringbuf.h"

typedef struct kv_plot_script {
    kv_string gp, dat;
    kv_string titles; /* a line per plot element, in drawing order: the series' label, alone for the element that
                         carries the data, with ", standard error" or ", level" for what goes with it */
} kv_plot_script;

/* "budget" or "bytes": ends the file names and begins the ids in the SVG. */
const char *kv_plot_name(kv_figure_x x);

/* For files <stem>_<name>.gp and .dat, run in their own folder, drawing <stem>_<name>.svg and .png. */
int kv_plot_script_make(const kv_figure *f, const char *stem, kv_plot_script *out, kv_error *err);
void kv_plot_script_free(kv_plot_script *p); /* also after an error */

/* Parts of any figure's script.  quote: a string in single quotes.  label, margins: of a panel, in screen coordinates
 * (0 to 1, from below).  head: style, the names `out` and `data`, and the
 * loop over both terminals, in pixels, up to the first panel; the script ends it with tail. */
void kv_plot_quote(kv_string *gp, const char *s);
void kv_plot_label(kv_string *gp, const char *text, double x, double y, int size, const char *colour);
void kv_plot_margins(kv_string *gp, double left, double right, double top, double bottom);
void kv_plot_head(kv_string *gp, const char *stem, const char *name, int width, int height);
void kv_plot_tail(kv_string *gp);

/* plot.c: writes dir/<stem>_<name>.gp and .dat, runs gnuplot, checks what it drew and names the SVG's groups.  svg and
 * png (512 bytes each) receive the paths, "" after an error. */
int kv_plot_draw(const kv_plot_script *s, const char *dir, const char *stem, const char *name, const char *gnuplot,
                 char *svg, char *png, kv_error *err);

#endif
