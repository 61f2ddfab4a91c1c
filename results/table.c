/* table.c - lays out tables and writes JSON and CSV lines; knows nothing of what is in them. */
#include "results/table.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { LINE_WIDTH = 110 };

int kv_format_parse(const char *text, kv_format *out, kv_error *err) {
    static const char *const names[] = {"table", "json", "csv"};
    for (int i = 0; i < 3; i++)
        if (!strcmp(text, names[i])) {
            *out = (kv_format)i;
            return KV_OK;
        }
    return kv_fail(err, KV_EARG, "format '%s' is not known; use table, json or csv", text);
}

void kv_table_add(kv_table *t, const char *text) {
    kv_string_add_clean(&t->cells, text);
    kv_string_add_bytes(&t->cells, "", 1);
}

void kv_table_addf(kv_table *t, const char *fmt, ...) {
    char text[64];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    kv_table_add(t, text);
}

void kv_table_add_count(kv_table *t, int64_t n, const char *zero) {
    if (n)
        kv_table_addf(t, "%lld", (long long)n);
    else
        kv_table_add(t, zero);
}

/* Characters of well-formed UTF-8. */
static size_t width_of(const char *s) {
    size_t n = 0;
    for (; *s; s++) n += ((unsigned char)*s & 0xc0) != 0x80;
    return n;
}

static void find_widths(const kv_table *t, size_t *width) {
    const char *cell = t->cells.p, *end = cell + t->cells.n;
    for (size_t k = 0; k < t->n_columns; k++) {
        size_t heading = width_of(t->columns[k].heading), least = (size_t)t->columns[k].width;
        width[k] = heading > least ? heading : least;
    }
    for (size_t k = 0; cell < end; cell += strlen(cell) + 1, k = (k + 1) % t->n_columns) {
        size_t w = width_of(cell);
        if (w > width[k]) width[k] = w;
    }
}

/* Cell k of a line.  Blanks are owed until something follows them, so that no line ends with any. */
static void print_cell(const kv_table *t, size_t k, const char *text, size_t width, size_t *owed, kv_string *out) {
    size_t pad = width - width_of(text);
    if (k == 0) *owed = 0;
    if (!t->columns[k].left) *owed += pad;
    if (*text) {
        kv_string_addf(out, "%*s%s", (int)*owed, "", text);
        *owed = 0;
    }
    if (t->columns[k].left) *owed += pad;
    *owed += (size_t)t->gap;
    if (k + 1 == t->n_columns) kv_string_add(out, "\n");
}

void kv_table_print(const kv_table *t, kv_string *out) {
    size_t width[KV_TABLE_COLUMNS], owed = 0, n = t->n_columns;
    const char *cell = t->cells.p, *end = cell + t->cells.n;
    out->failed |= t->cells.failed;
    if (out->failed) return;
    find_widths(t, width);
    for (size_t k = 0; k < n; k++) print_cell(t, k, t->columns[k].heading, width[k], &owed, out);
    for (size_t k = 0; t->rule && k < n; k++) {
        for (size_t i = 0; i < width[k]; i++) kv_string_add(out, "-");
        kv_string_addf(out, "%*s", k + 1 < n ? t->gap : 0, "");
    }
    if (t->rule) kv_string_add(out, "\n");
    for (size_t k = 0; cell < end; cell += strlen(cell) + 1, k = (k + 1) % n)
        print_cell(t, k, cell, width[k], &owed, out);
}

void kv_table_add_constant(kv_string *out, const char *name, const char *value) {
    const char *line = out->n ? strrchr(out->p, '\n') : NULL;
    size_t used = !out->n ? 0 : line ? strlen(line) : out->n + 1;
    if (used) kv_string_add(out, used + strlen(name) + strlen(value) + 2 > LINE_WIDTH ? ",\n" : ", ");
    kv_string_addf(out, "%s ", name);
    kv_string_add_clean(out, value);
}

/* Cleaned: cJSON takes no text that is not UTF-8. */
static int add_json_value(cJSON *o, const char *key, kv_value v) {
    kv_string clean = {0};
    if (!v.text)
        return (isfinite(v.number) ? cJSON_AddNumberToObject(o, key, v.number) : cJSON_AddNullToObject(o, key)) != NULL;
    kv_string_add_clean(&clean, v.text);
    int ok = !clean.failed && cJSON_AddStringToObject(o, key, clean.p);
    kv_string_free(&clean);
    return ok;
}

void kv_table_add_json(kv_string *out, const char *const *keys, size_t n_keys, const void *rows, size_t n_rows,
                       kv_value_of *value_of) {
    for (size_t i = 0; i < n_rows && !out->failed; i++) {
        cJSON *o = cJSON_CreateObject();
        int ok = o != NULL;
        for (size_t k = 0; ok && k < n_keys; k++) ok = add_json_value(o, keys[k], value_of(rows, i, k));
        char *text = ok ? cJSON_PrintUnformatted(o) : NULL;
        if (text) kv_string_addf(out, "%s\n", text);
        out->failed |= !text;
        cJSON_free(text);
        cJSON_Delete(o);
    }
}

/* Quotes around what holds a comma, a quote or a line end; quotes inside are doubled. */
static void add_csv_text(kv_string *out, const char *s) {
    int quote = strpbrk(s, ",\"\r\n") != NULL;
    if (quote) kv_string_add(out, "\"");
    for (; *s; s++) {
        if (*s == '"') kv_string_add(out, "\"");
        kv_string_add_bytes(out, s, 1);
    }
    if (quote) kv_string_add(out, "\"");
}

void kv_table_add_csv(kv_string *out, const char *const *keys, size_t n_keys, const void *rows, size_t n_rows,
                      kv_value_of *value_of) {
    for (size_t k = 0; k < n_keys; k++) kv_string_addf(out, "%s%s", k ? "," : "", keys[k]);
    for (size_t i = 0; i < n_rows; i++)
        for (size_t k = 0; k < n_keys; k++) {
            kv_value v = value_of(rows, i, k);
            kv_string_add(out, k ? "," : "\r\n");
            if (v.text)
                add_csv_text(out, v.text);
            else if (isfinite(v.number))
                kv_string_add_number(out, v.number);
        }
    kv_string_add(out, "\r\n");
}
