/* table.h - rows as an aligned table, as JSON lines or as CSV: the one place where they are laid out and escaped. */
#ifndef KV_TABLE_H
#define KV_TABLE_H

#include "results/stringbuf.h"

typedef enum kv_format { KV_TABLE, KV_JSON, KV_CSV } kv_format;
int kv_format_parse(const char *text, kv_format *out, kv_error *err);

enum { KV_TABLE_COLUMNS = 96 };

typedef struct kv_column {
    const char *heading;
    int left;  /* text; numbers stand to the right */
    int width; /* at least */
} kv_column;

/* Cells in reading order.  Starts without cells, the other members set. */
typedef struct kv_table {
    const kv_column *columns; /* (n_columns), which outlive the table */
    size_t n_columns;         /* <= KV_TABLE_COLUMNS */
    int gap;                  /* blanks between columns */
    int rule;                 /* dashes under the headings */
    kv_string cells;          /* each ends with a NUL; kv_string_free */
} kv_table;

/* The next cell, cleaned as kv_string_add_clean does it. */
void kv_table_add(kv_table *t, const char *text);
void kv_table_addf(kv_table *t, const char *fmt, ...) KV_PRINTF(2, 3); /* up to 63 bytes */
void kv_table_add_count(kv_table *t, int64_t n, const char *zero);     /* zero: what stands for 0 */
/* Headings and rows, no blanks at their ends.  A column is as wide as the characters of its longest cell. */
void kv_table_print(const kv_table *t, kv_string *out);

/* "name value, name value": what is the same in all rows of the table below; starts with an empty string and goes on
 * in a new line where one would be too long. */
void kv_table_add_constant(kv_string *out, const char *name, const char *value);

/* Text, or with text NULL a number; one that is not finite is missing: null, empty. */
typedef struct kv_value {
    const char *text;
    double number;
} kv_value;

/* Of column k in row i of rows. */
typedef kv_value kv_value_of(const void *rows, size_t i, size_t k);

/* Rows as JSON objects, one a line, or as CSV (RFC 4180) under a line of keys.  Out of memory: out->failed. */
void kv_table_add_json(kv_string *out, const char *const *keys, size_t n_keys, const void *rows, size_t n_rows,
                       kv_value_of *value_of);
void kv_table_add_csv(kv_string *out, const char *const *keys, size_t n_keys, const void *rows, size_t n_rows,
                      kv_value_of *value_of);

#endif
