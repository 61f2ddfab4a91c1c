/* csv.h - tab-separated tables as LongProc's evaluator of html_to_tsv reads them. */
#ifndef KV_CSV_H
#define KV_CSV_H

#include "datasets/graders.h"
#include "datasets/text.h"

typedef struct kv_csv {
    char **rows; /* (n_rows) each row's folded cells joined by tabs, which folded cells have none of */
    size_t n_rows;
    size_t n_columns;  /* of the header */
    const char *error; /* static text */
    kv_text text;      /* owns the rows */
} kv_csv;

/* Reads a trimmed text.  0 and out->error when the reference would fail on it.  Free with kv_csv_free in any case. */
int kv_csv_read(kv_span text, kv_csv *out);
void kv_csv_free(kv_csv *t);

#endif
