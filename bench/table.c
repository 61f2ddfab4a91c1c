/* table.c - prints rows; knows nothing of what is in them. */
#include "bench/table.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <string.h>

enum { CELL = 288, MAX_FIELDS = 96 };

static const char *at(const void *rows, size_t row_size, size_t i) {
    return (const char *)rows + i * row_size;
}

static int64_t int_of(const char *row, const kv_field *f) {
    int64_t x;
    memcpy(&x, row + f->offset, sizeof x);
    return x;
}

static double real_of(const char *row, const kv_field *f) {
    double x;
    memcpy(&x, row + f->offset, sizeof x);
    return x;
}

/* exact: as many digits as the number has, for CSV. */
static void format_value(const char *row, const kv_field *f, int exact, char out[CELL]) {
    out[0] = 0;
    if (f->type == KV_FIELD_TEXT)
        snprintf(out, CELL, "%s", row + f->offset);
    else if (f->type == KV_FIELD_INT)
        snprintf(out, CELL, "%lld", (long long)int_of(row, f));
    else if (isnan(real_of(row, f)))
        snprintf(out, CELL, "%s", exact ? "" : "-");
    else if (exact)
        snprintf(out, CELL, "%.10g", real_of(row, f));
    else
        snprintf(out, CELL, "%.*f", f->digits, real_of(row, f));
}

static int print_json(FILE *f, const kv_field *fields, size_t n_fields, const char *row, kv_error *err) {
    cJSON *j = cJSON_CreateObject();
    for (size_t i = 0; i < n_fields; i++) {
        const kv_field *d = &fields[i];
        if (d->type == KV_FIELD_TEXT)
            cJSON_AddStringToObject(j, d->name, row + d->offset);
        else if (d->type == KV_FIELD_INT)
            cJSON_AddNumberToObject(j, d->name, (double)int_of(row, d));
        else if (isnan(real_of(row, d)))
            cJSON_AddNullToObject(j, d->name);
        else
            cJSON_AddNumberToObject(j, d->name, real_of(row, d));
    }
    char *text = cJSON_PrintUnformatted(j);
    if (text) fprintf(f, "%s\n", text);
    cJSON_Delete(j);
    if (!text) return kv_fail(err, KV_ENOMEM, "out of memory for the output");
    cJSON_free(text);
    return KV_OK;
}

static void print_csv_value(FILE *f, const char *s) {
    if (!s[strcspn(s, ",\"\r\n")]) {
        fputs(s, f);
        return;
    }
    fputc('"', f);
    for (; *s; s++) {
        if (*s == '"') fputc('"', f);
        fputc(*s, f);
    }
    fputc('"', f);
}

static void print_csv(FILE *f, const kv_field *fields, size_t n_fields, const void *rows, size_t row_size,
                      size_t n_rows) {
    char cell[CELL];
    for (size_t i = 0; i < n_fields; i++) fprintf(f, "%s%s", i ? "," : "", fields[i].name);
    fprintf(f, "\r\n");
    for (size_t r = 0; r < n_rows; r++) {
        for (size_t i = 0; i < n_fields; i++) {
            if (i) fputc(',', f);
            format_value(at(rows, row_size, r), &fields[i], 1, cell);
            print_csv_value(f, cell);
        }
        fprintf(f, "\r\n");
    }
}

/* Width of a column; 0 when it does not vary and *constant receives its value. */
static size_t column_width(const kv_field *d, const void *rows, size_t row_size, size_t n_rows, char constant[CELL]) {
    char cell[CELL];
    size_t width = strlen(d->name);
    int varies = n_rows < 2, measured = d->type != KV_FIELD_REAL;
    format_value(at(rows, row_size, 0), d, 0, constant);
    for (size_t r = 0; r < n_rows; r++) {
        format_value(at(rows, row_size, r), d, 0, cell);
        measured |= d->type == KV_FIELD_REAL && !isnan(real_of(at(rows, row_size, r), d));
        if (strlen(cell) > width) width = strlen(cell);
        varies |= strcmp(cell, constant) != 0;
    }
    if (!measured) constant[0] = 0; /* nowhere: not worth a word */
    return varies && measured ? width : 0;
}

static void print_table(FILE *f, const kv_field *fields, size_t n_fields, const void *rows, size_t row_size,
                        size_t n_rows) {
    size_t width[MAX_FIELDS];
    char cell[CELL];
    int constants = 0;
    if (!n_rows) return;
    for (size_t i = 0; i < n_fields; i++) {
        width[i] = column_width(&fields[i], rows, row_size, n_rows, cell);
        if (fields[i].json_only)
            width[i] = 0;
        else if (!width[i] && cell[0])
            fprintf(f, "%s%s %s", constants++ ? ", " : "", fields[i].name, cell);
    }
    if (constants) fprintf(f, "\n\n");
    for (size_t r = 0; r <= n_rows; r++) {
        const char *gap = "";
        for (size_t i = 0; i < n_fields; i++) {
            if (!width[i]) continue;
            if (r == 0)
                snprintf(cell, sizeof cell, "%s", fields[i].name);
            else
                format_value(at(rows, row_size, r - 1), &fields[i], 0, cell);
            fprintf(f, "%s%*s", gap, fields[i].type == KV_FIELD_TEXT ? -(int)width[i] : (int)width[i], cell);
            gap = "  ";
        }
        fprintf(f, "\n");
    }
}

int kv_table_print(FILE *f, kv_format format, const kv_field *fields, size_t n_fields, const void *rows,
                   size_t row_size, size_t n_rows, kv_error *err) {
    int rc = KV_OK;
    if (n_fields > MAX_FIELDS) return kv_fail(err, KV_ELIMIT, "a table of %zu columns", n_fields);
    if (format == KV_CSV) print_csv(f, fields, n_fields, rows, row_size, n_rows);
    if (format == KV_TABLE) print_table(f, fields, n_fields, rows, row_size, n_rows);
    for (size_t r = 0; format == KV_JSON && r < n_rows && rc == KV_OK; r++)
        rc = print_json(f, fields, n_fields, at(rows, row_size, r), err);
    return rc;
}
