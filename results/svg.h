/* svg.h - what gnuplot's SVG needs to be read by people and programs, and to live inside a page. */
#ifndef KV_SVG_H
#define KV_SVG_H

#include "results/stringbuf.h"

/* Rewrites the file: the i-th plot group gets line i of titles as <title> (browsers show it as a tooltip), and ids are
 * prefixed so that two figures can share a page.  A file without its closing tag, or with another number of groups, is
 * KV_EFORMAT. */
int kv_svg_name_groups(const char *path, const char *prefix, const char *titles, kv_error *err);

/* Appends the <svg> element without XML prolog, fit for an HTML page. */
int kv_svg_add_inline(kv_string *page, const char *path, const char *label, kv_error *err);

#endif
