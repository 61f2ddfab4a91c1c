/* template.c - prompt and gold texts with {slots}; see template.h. */
#include "datasets/template.h"

#include <string.h>

/* The character that \c stands for, or 0. */
static char escape(char c) {
    switch (c) {
    case 'n':
        return '\n';
    case 't':
        return '\t';
    case 's':
        return ' ';
    case '\\':
    case '{':
    case '}':
        return c;
    default:
        return 0;
    }
}

/* Index of the slot name[0..n-1], or -1. */
static int find_slot(const char *const *names, const char *name, size_t n) {
    for (int k = 0; names[k]; k++)
        if (strlen(names[k]) == n && !memcmp(names[k], name, n)) return k;
    return -1;
}

static int is_split(const char *name, size_t n) {
    return n == 5 && !memcmp(name, "split", 5);
}

static int unknown_slot(const char *const *names, const char *name, size_t n, const char *where, kv_error *err) {
    char known[200] = "";
    for (int k = 0; names[k] && strlen(known) + strlen(names[k]) + 4 < sizeof known; k++) {
        strcat(known, known[0] ? ", {" : "{");
        strcat(known, names[k]);
        strcat(known, "}");
    }
    return kv_fail(err, KV_EFORMAT, "%s: no slot {%.*s} here; known are %s", where, (int)(n < 40 ? n : 40), name,
                   known[0] ? known : "none (write \\{ for a brace)");
}

int kv_template_check(const char *tpl, const char *const *names, int may_split, const char *where, kv_error *err) {
    int splits = 0;
    for (const char *p = tpl; *p; p++) {
        if (*p == '\\') {
            if (!escape(p[1]))
                return kv_fail(err, KV_EFORMAT, "%s: unknown escape '\\%.1s'; known are \\n \\t \\s \\\\ \\{ \\}",
                               where, p + 1);
            p++;
        } else if (*p == '}') {
            return kv_fail(err, KV_EFORMAT, "%s: '}' without '{'; write \\} for a brace", where);
        } else if (*p == '{') {
            size_t n = strcspn(p + 1, "{}\\\n");
            if (p[1 + n] != '}') return kv_fail(err, KV_EFORMAT, "%s: '{' without '}'; write \\{ for a brace", where);
            if (is_split(p + 1, n)) {
                if (!may_split) return kv_fail(err, KV_EFORMAT, "%s: {split} belongs in a prompt only", where);
                if (splits++) return kv_fail(err, KV_EFORMAT, "%s: more than one {split}", where);
            } else if (find_slot(names, p + 1, n) < 0) {
                return unknown_slot(names, p + 1, n, where, err);
            }
            p += 1 + n;
        }
    }
    return KV_OK;
}

void kv_template_render(const char *tpl, const char *const *names, const kv_text *values, kv_text *out, size_t *split) {
    size_t at = SIZE_MAX;
    for (const char *p = tpl; *p; p++) {
        if (*p == '\\') {
            char c = escape(*++p);
            kv_text_append(out, &c, 1);
        } else if (*p == '{') {
            size_t n = strcspn(p + 1, "}");
            if (is_split(p + 1, n)) {
                at = out->n;
            } else {
                const kv_text *v = &values[find_slot(names, p + 1, n)];
                if (v->failed) out->failed = 1;
                kv_text_append(out, v->s ? v->s : "", v->n);
            }
            p += 1 + n;
        } else {
            size_t n = strcspn(p, "\\{");
            kv_text_append(out, p, n);
            p += n - 1;
        }
    }
    if (split) *split = at < out->n ? at : out->n;
}
