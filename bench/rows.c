/* rows.c - prints rows; knows nothing of what is in them. */
#include "bench/rows.h"

#include <math.h>
#include <string.h>

enum { CELL = 288 };

typedef struct row_list {
    const kv_row_field *fields;
    size_t n_fields;
    const void *rows;
    size_t row_size, n_rows;
} row_list;

static kv_value value_of(const void *list, size_t i, size_t k) {
    const row_list *l = list;
    const kv_row_field *f = &l->fields[k];
    const char *at = (const char *)l->rows + i * l->row_size + f->offset;
    kv_value v = {NULL, 0};
    int64_t whole;
    if (f->type == KV_ROW_TEXT) {
        v.text = at;
    } else if (f->type == KV_ROW_INT) {
        memcpy(&whole, at, sizeof whole);
        v.number = whole < 0 ? NAN : (double)whole;
    } else {
        memcpy(&v.number, at, sizeof v.number);
    }
    return v;
}

/* For people. */
static void format_value(const row_list *l, size_t i, size_t k, char out[CELL]) {
    kv_value v = value_of(l, i, k);
    if (v.text)
        snprintf(out, CELL, "%s", v.text);
    else if (isnan(v.number))
        snprintf(out, CELL, "-");
    else
        snprintf(out, CELL, "%.*f", l->fields[k].digits, v.number);
}

/* 1 when field k is a column; else constant receives what all rows have, "" when that is nothing. */
static int is_column(const row_list *l, size_t k, char constant[CELL]) {
    char cell[CELL];
    int varies = l->n_rows < 2, measured = 0;
    format_value(l, 0, k, constant);
    for (size_t i = 0; i < l->n_rows; i++) {
        format_value(l, i, k, cell);
        kv_value v = value_of(l, i, k);
        measured |= v.text ? v.text[0] : !isnan(v.number);
        varies |= strcmp(cell, constant) != 0;
    }
    if (!measured || l->fields[k].json_only) constant[0] = 0;
    return varies && measured && !l->fields[k].json_only;
}

static void add_table(kv_string *t, const row_list *l) {
    size_t shown[KV_TABLE_COLUMNS];
    kv_column columns[KV_TABLE_COLUMNS];
    kv_table body = {.columns = columns, .gap = 2};
    char cell[CELL];
    for (size_t k = 0; k < l->n_fields; k++) {
        const kv_row_field *f = &l->fields[k];
        if (is_column(l, k, cell)) {
            columns[body.n_columns] = (kv_column){f->name, f->type == KV_ROW_TEXT, 0};
            shown[body.n_columns++] = k;
        } else if (cell[0]) {
            kv_table_add_constant(t, f->name, cell);
        }
    }
    if (t->n) kv_string_add(t, "\n\n");
    for (size_t i = 0; i < l->n_rows; i++)
        for (size_t k = 0; k < body.n_columns; k++) {
            format_value(l, i, shown[k], cell);
            kv_table_add(&body, cell);
        }
    kv_table_print(&body, t);
    kv_string_free(&body.cells);
}

int kv_rows_print(FILE *f, kv_format format, const kv_row_field *fields, size_t n_fields, const void *rows,
                  size_t row_size, size_t n_rows, kv_error *err) {
    const row_list l = {fields, n_fields, rows, row_size, n_rows};
    const char *keys[KV_TABLE_COLUMNS];
    kv_string t = {0};
    if (n_fields > KV_TABLE_COLUMNS) return kv_fail(err, KV_ELIMIT, "a table of %zu columns", n_fields);
    for (size_t k = 0; k < n_fields; k++) keys[k] = fields[k].name;
    if (format == KV_TABLE && n_rows) add_table(&t, &l);
    if (format == KV_JSON) kv_table_add_json(&t, keys, n_fields, &l, n_rows, value_of);
    if (format == KV_CSV) kv_table_add_csv(&t, keys, n_fields, &l, n_rows, value_of);
    int rc = kv_string_print(&t, f, "the table", err);
    kv_string_free(&t);
    return rc;
}
