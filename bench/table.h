/* table.h - rows of plain structs as a table, JSON lines or CSV, from one list of fields. */
#ifndef KV_TABLE_H
#define KV_TABLE_H

#include <stdio.h>

#include "results/report.h"

typedef enum kv_field_type {
    KV_FIELD_TEXT, /* char[] inside the row */
    KV_FIELD_INT,  /* int64_t */
    KV_FIELD_REAL  /* double; NAN = not measured: null, empty */
} kv_field_type;

typedef struct kv_field {
    const char *name;
    kv_field_type type;
    size_t offset;
    int digits;    /* decimals of a real in a table */
    int json_only; /* left out of the table */
} kv_field;

/* Table: columns that do not vary over two rows or more are named once above it, reals that no row has are left out. */
int kv_table_print(FILE *f, kv_format format, const kv_field *fields, size_t n_fields, const void *rows,
                   size_t row_size, size_t n_rows, kv_error *err);

#endif
