/* cut_middle.c - shortens a prompt to what a model takes, the way LongBench does it; see text_tools.h. */
#include <stdlib.h>
#include <string.h>

#include "datasets/text_tools.h"
#include "datasets/unicode.h"

static void append_valid(kv_text *out, const kv_text *piece) {
    const char *p = piece->s ? piece->s : "", *end = p + piece->n;
    while (p < end) kv_utf8_put(out, kv_utf8_next(&p, end));
    out->failed |= piece->failed;
}

int kv_cut_middle(const kv_text_tools *t, size_t limit, char **text, size_t *mark, kv_error *err) {
    kv_text first = {0}, last = {0}, all = {0};
    size_t n = 0, half = limit / 2, behind = strlen(*text) - *mark;
    int rc = t->keep_ends(t->user, *text, half, half, &n, &first, &last, err);
    if (!rc && n > limit) {
        char *cut = NULL;
        append_valid(&all, &first);
        size_t seam = all.n;
        append_valid(&all, &last);
        size_t at = all.n > behind && all.n - behind > seam ? all.n - behind : *mark < seam ? *mark : seam;
        rc = kv_text_take(&all, "a shortened prompt", &cut, err);
        if (!rc) {
            free(*text);
            *text = cut;
            *mark = at;
        }
    }
    kv_text_free(&first);
    kv_text_free(&last);
    kv_text_free(&all);
    return rc;
}
