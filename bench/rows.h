/* rows.h - rows of plain structs as a table, JSON lines or CSV, from one list of fields. */
#ifndef KV_ROWS_H
#define KV_ROWS_H

#include "results/table.h"

typedef enum kv_row_type {
    KV_ROW_TEXT, /* char[] inside the row */
    KV_ROW_INT,  /* int64_t; below 0 = not measured */
    KV_ROW_REAL  /* double; NAN = not measured */
} kv_row_type;

typedef struct kv_row_field {
    const char *name;
    kv_row_type type;
    size_t offset;
    int digits;    /* decimals of a real in a table */
    int json_only; /* left out of the table */
} kv_row_field;

/* What was not measured is null, in CSV empty.  Table: columns that do not vary over two rows or more are named once
 * above it, what no row has is left out. */
int kv_rows_print(FILE *f, kv_format format, const kv_row_field *fields, size_t n_fields, const void *rows,
                  size_t row_size, size_t n_rows, kv_error *err);

#endif
