/* fields.h - the one list of what a cell shows; table, JSON, CSV and HTML all walk it. */
#ifndef KV_FIELDS_H
#define KV_FIELDS_H

#include "results/store.h"

enum { KV_MAX_FIELDS = 56 };

typedef enum kv_field_type { KV_FIELD_TEXT, KV_FIELD_INT, KV_FIELD_INT64, KV_FIELD_REAL } kv_field_type;
typedef enum kv_field_style {
    KV_STYLE_PLAIN,
    KV_STYLE_BUDGET,   /* "-" for the full cache, which has none */
    KV_STYLE_OPTIONAL, /* not every policy has one */
    KV_STYLE_ACCURACY, /* .945 +-.016; the status when there is none */
    KV_STYLE_SHARE,    /* .945 */
    KV_STYLE_REPEATED, /* the same, missing where items have one sample each */
    KV_STYLE_AMOUNT,   /* three digits or more */
    KV_STYLE_BYTES     /* 12.3 MiB; 0 = not measured */
} kv_field_style;
typedef enum kv_field_role {
    KV_ROLE_KEEP,     /* always a column */
    KV_ROLE_IDENTITY, /* a column when it varies, named above the table when it does not */
    KV_ROLE_SAMPLES,  /* as identity, when any cell has more than 1 */
    KV_ROLE_RESULT,   /* a column when any cell has it */
    KV_ROLE_TROUBLE,  /* a column when any cell has more than 0 */
    KV_ROLE_DATA      /* not in tables */
} kv_field_role;

typedef struct kv_field {
    const char *key, *heading; /* of JSON and CSV; of tables */
    kv_field_type type;
    size_t offset; /* in kv_cell */
    kv_field_style style;
    kv_field_role role;
} kv_field;

const kv_field *kv_field_all(size_t *n);
/* The field of a key that there is. */
const kv_field *kv_field_find(const char *key);

/* 1 when the cell has no value here: NaN, an empty text, bytes never measured. */
int kv_field_missing(const kv_field *f, const kv_cell *c);
double kv_field_number(const kv_field *f, const kv_cell *c);      /* not of text fields */
const char *kv_field_string(const kv_field *f, const kv_cell *c); /* of text fields */
/* Short text for people, "-" when missing. */
void kv_field_text(const kv_field *f, const kv_cell *c, char *out, size_t size);

/* "1.50 MiB": three significant digits. */
void kv_field_bytes(double bytes, char *out, size_t size);

/* 0 when the field means nothing for the cell (M and B of the full cache, gates of a policy without): such a cell has
 * no say in whether the field varies. */
int kv_field_applies(const kv_field *f, const kv_cell *c);

/* "SnapKV (window=16)": title, else name, and parameters; as snprintf. */
int kv_cell_policy_text(const kv_cell *c, char *out, size_t size);
/* 1 for the full cache, whose M and B mean nothing. */
int kv_cell_is_full(const kv_cell *c);
/* 1 when the last run of the cell is not done: oom, timeout, error, interrupted, still running. */
int kv_cell_unfinished(const kv_cell *c);

/* Which fields become columns and which are constant; shown and constant point into kv_field_all. */
typedef struct kv_table_plan {
    const kv_field *shown[KV_MAX_FIELDS], *constant[KV_MAX_FIELDS];
    size_t n_shown, n_constant;
} kv_table_plan;
void kv_table_make_plan(const kv_cell *cells, size_t n, kv_table_plan *out);
/* The value all cells share in a constant field (those to which it applies).  n >= 1. */
void kv_table_constant(const kv_field *f, const kv_cell *cells, size_t n, char *out, size_t size);

#endif
