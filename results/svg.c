/* svg.c - edits gnuplot's SVG.
 *
 * gnuplot names its plot groups <name>_plot_1a, 2a, ..., 1b (a letter per panel) and repeats that name in <title>;
 * markers are shared definitions gpPt0, gpPt1, ... with the same ids in every file.  Both are changed by plain text
 * replacement: texts from the data cannot look like this, because in them < and quotes inside tags are escaped. */
#include "results/svg.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/file.h"

static int starts(const char *s, const char *with) {
    return strncmp(s, with, strlen(with)) == 0;
}

/* Replaces the <title> at *s by the first line of *titles; 0 when there is no line left. */
static int replace_title(kv_string *out, const char **s, const char **titles) {
    const char *end = strstr(*s, "</title>"), *eol = strchr(*titles, '\n');
    if (!end || !eol) return 0;
    char *title = strndup(*titles, (size_t)(eol - *titles));
    if (!title) out->failed = 1;
    kv_string_add(out, "<title>");
    kv_string_add_html(out, title ? title : "");
    free(title);
    *s = end;
    *titles = eol + 1;
    return 1;
}

static int rewrite(kv_string *out, const char *svg, const char *prefix, const char *titles) {
    static const char *const shared[] = {"gpPt", "gpDot", "textbox", "greybox", "gnuplot_canvas"};
    int in_group = 0;
    for (const char *s = svg; *s;) {
        if (starts(s, "<g id=\"") && starts(s + 7, prefix) && starts(s + 7 + strlen(prefix), "_plot_")) in_group = 1;
        if (in_group && starts(s, "<title>")) {
            in_group = 0;
            if (!replace_title(out, &s, &titles)) return 0;
            continue;
        }
        if (starts(s, "<title>")) { /* the picture's own: a tooltip all over it */
            const char *end = strstr(s, "</title>");
            if (!end) return 0;
            s = end + strlen("</title>");
            continue;
        }
        kv_string_add_bytes(out, s, 1);
        if (*s == '#' || *s == '\'' || *s == '"')
            for (size_t i = 0; i < sizeof shared / sizeof *shared; i++)
                if (starts(s + 1, shared[i])) kv_string_addf(out, "%s_", prefix);
        s++;
    }
    return !in_group && !*titles;
}

static int is_whole(const char *svg) {
    const char *end = NULL;
    for (const char *s = svg; (s = strstr(s, "</svg>")); s++) end = s;
    return end && end[6 + strspn(end + 6, " \t\r\n")] == 0;
}

int kv_svg_name_groups(const char *path, const char *prefix, const char *titles, kv_error *err) {
    char *svg = NULL;
    size_t size;
    kv_string out = {0};
    int rc = kv_read_file(path, &svg, &size, err);
    if (rc) return rc;
    if (!is_whole(svg))
        rc = kv_fail(err, KV_EFORMAT, "%s: gnuplot did not finish this file; is the disk full?", path);
    else if (!rewrite(&out, svg, prefix, titles))
        rc = kv_fail(err, KV_EFORMAT, "%s: not the plots that the script draws; this gnuplot is not understood", path);
    else
        rc = kv_string_write(&out, path, err);
    kv_string_free(&out);
    free(svg);
    return rc;
}

int kv_svg_add_inline(kv_string *page, const char *path, const char *label, kv_error *err) {
    char *svg = NULL;
    size_t size;
    int rc = kv_read_file(path, &svg, &size, err);
    if (rc) return rc;
    const char *tag = strstr(svg, "<svg"), *end = tag ? strchr(tag, '>') : NULL,
               *box = tag ? strstr(tag, "viewBox=\"") : NULL;
    size_t box_size = box && box < end ? strcspn(box + 9, "\"") : 0;
    if (!box_size || !is_whole(svg)) {
        rc = kv_fail(err, KV_EFORMAT, "%s: not an SVG picture with a viewBox; draw it again", path);
    } else {
        /* HTML knows the namespaces of SVG by itself. */
        kv_string_add(page, "<svg viewBox=\"");
        kv_string_add_bytes(page, box + 9, box_size);
        /* Its natural width; the page's style lets it shrink. */
        int width = 0;
        if (sscanf(box + 9, "%*f %*f %d", &width) == 1) kv_string_addf(page, "\" width=\"%d", width);
        kv_string_add(page, "\" role=\"img\" aria-label=\"");
        kv_string_add_html(page, label);
        kv_string_add(page, "\"");
        kv_string_add(page, end);
        if (page->failed) rc = kv_fail(err, KV_ENOMEM, "%s: out of memory", path);
    }
    free(svg);
    return rc;
}
