/* plot.c - draws the two figures: data file and script first, then gnuplot, then the names into the SVG. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "results/plot_script.h"
#include "results/process.h"
#include "results/report.h"
#include "results/svg.h"

enum { PATH_SIZE = sizeof((kv_plot_files *)0)->budget_svg };

static int make_path(char *out, const char *dir, const char *stem, const char *name, const char *ending,
                     kv_error *err) {
    int n = snprintf(out, PATH_SIZE, "%s/%s_%s.%s", dir, stem, name, ending);
    if (n < PATH_SIZE) return KV_OK;
    out[0] = 0;
    return kv_fail(err, KV_ELIMIT, "%s: path longer than %d bytes; use a shorter folder or name", dir, PATH_SIZE - 1);
}

static int check_drawn(const char *path, const char *complaint, kv_error *err) {
    struct stat sb;
    if (stat(path, &sb) == 0 && sb.st_size > 0) return KV_OK;
    return kv_fail(err, KV_EIO, "%s: gnuplot drew nothing: %.200s", path, complaint);
}

/* gnuplot runs in dir, so its own path must not be relative to where we are. */
static int run_gnuplot(const char *gnuplot, const char *dir, const char *script, char *complaint, size_t n,
                       kv_error *err) {
    char absolute[PATH_MAX];
    int status;
    if (strchr(gnuplot, '/') && realpath(gnuplot, absolute)) gnuplot = absolute;
    const char *argv[] = {gnuplot, script, NULL};
    kv_error why = {0};
    int rc = kv_process_run(argv, dir, &status, complaint, n, &why);
    if (rc == KV_ENOTFOUND || (!rc && status == 127))
        return kv_fail(
            err, KV_EUNSUPPORTED,
            "%s: not found; install gnuplot (Debian and Ubuntu: apt install gnuplot-nox), then draw again or "
            "run `gnuplot %s` in %s, where the data lie",
            gnuplot, script, dir);
    if (rc) return kv_fail(err, rc, "%s", why.text);
    if (status)
        return kv_fail(err, KV_EIO, "%s failed on %s/%s (status %d): %.240s", gnuplot, dir, script, status, complaint);
    return KV_OK;
}

int kv_plot_draw(const kv_plot_script *s, const char *dir, const char *stem, const char *name, const char *gnuplot,
                 char *svg, char *png, kv_error *err) {
    char gp[PATH_SIZE], dat[PATH_SIZE], complaint[400];
    int rc = make_path(svg, dir, stem, name, "svg", err);
    if (!rc) rc = make_path(png, dir, stem, name, "png", err);
    if (!rc) rc = make_path(gp, dir, stem, name, "gp", err);
    if (!rc) rc = make_path(dat, dir, stem, name, "dat", err);
    if (!rc) rc = kv_string_write(&s->dat, dat, err);
    if (!rc) rc = kv_string_write(&s->gp, gp, err);
    if (!rc) {
        /* What an earlier call drew must not pass for this one's. */
        remove(svg);
        remove(png);
        rc = run_gnuplot(gnuplot ? gnuplot : "gnuplot", dir, strrchr(gp, '/') + 1, complaint, sizeof complaint, err);
    }
    if (!rc) rc = check_drawn(svg, complaint, err);
    if (!rc) rc = check_drawn(png, complaint, err);
    if (!rc) rc = kv_svg_name_groups(svg, name, s->titles.p, err);
    if (rc) svg[0] = png[0] = 0;
    return rc;
}

static int draw(const kv_figure *f, const char *dir, const char *stem, const char *gnuplot, char *svg, char *png,
                kv_error *err) {
    kv_plot_script s = {0};
    int rc = kv_plot_script_make(f, stem, &s, err);
    if (!rc) rc = kv_plot_draw(&s, dir, stem, kv_plot_name(f->x), gnuplot, svg, png, err);
    kv_plot_script_free(&s);
    return rc;
}

int kv_report_plot(const kv_cell *cells, size_t n, const char *dir, const char *stem, const char *gnuplot,
                   kv_plot_files *files, kv_error *err) {
    kv_plot_files none;
    if (!files) files = &none;
    memset(files, 0, sizeof *files);
    int odd = !*stem || strchr(stem, '/') || *stem == '-';
    for (const char *s = stem; *s; s++) odd |= (unsigned char)*s < ' ';
    if (odd)
        return kv_fail(err, KV_EARG, "plot name '%s': give a file name without folder that does not begin with '-'",
                       stem);
    int rc = KV_OK, drawn = 0;
    for (int x = KV_X_BUDGET; x <= KV_X_BYTES; x++) {
        kv_figure f;
        kv_error why = {0};
        char *svg = x == KV_X_BUDGET ? files->budget_svg : files->bytes_svg;
        char *png = x == KV_X_BUDGET ? files->budget_png : files->bytes_png;
        int one = kv_figure_make(cells, n, (kv_figure_x)x, &f, &why);
        if (!one && f.n_panels) {
            one = draw(&f, dir, stem, gnuplot, svg, png, &why);
            drawn++;
        }
        kv_figure_free(&f);
        /* Without gnuplot the second figure's data are written all the same. */
        if (one && !rc) rc = kv_fail(err, one, "%s", why.text);
    }
    if (!rc && !drawn)
        return kv_fail(err, KV_ENOTFOUND, "no cell has a sample yet, so there is nothing to plot in %s/%s", dir, stem);
    return rc;
}
