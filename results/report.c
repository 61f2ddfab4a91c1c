/* report.c - the rows of a results table as aligned text, JSON lines or CSV, from the one field list (fields.c). */
#include "results/report.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <string.h>

#include "results/fields.h"
#include "results/stringbuf.h"

enum { LINE_WIDTH = 110, CELL_TEXT = 256 };

int kv_format_parse(const char *text, kv_format *out, kv_error *err) {
    static const char *const names[] = {"table", "json", "csv"};
    for (int i = 0; i < 3; i++)
        if (!strcmp(text, names[i])) {
            *out = (kv_format)i;
            return KV_OK;
        }
    return kv_fail(err, KV_EARG, "format '%s' is not known; use table, json or csv", text);
}

static void add_constants(kv_string *t, const kv_table_plan *p, const kv_cell *cells, size_t n) {
    size_t line = t->n;
    for (size_t k = 0; k < p->n_constant; k++) {
        char value[CELL_TEXT];
        kv_table_constant(p->constant[k], cells, n, value, sizeof value);
        if (k) kv_string_add(t, ",");
        if (k && t->n - line + strlen(p->constant[k]->heading) + strlen(value) + 2 > LINE_WIDTH) {
            kv_string_add(t, "\n");
            line = t->n;
        } else if (k) {
            kv_string_add(t, " ");
        }
        kv_string_addf(t, "%s ", p->constant[k]->heading);
        kv_string_add_clean(t, value);
    }
    if (p->n_constant) kv_string_add(t, "\n\n");
}

static void add_padded(kv_string *t, const char *text, size_t width, int left, int last) {
    size_t n = strlen(text), pad = width > n ? width - n : 0;
    if (!left) kv_string_addf(t, "%*s", (int)pad, "");
    kv_string_add_clean(t, text);
    if (left && !last) kv_string_addf(t, "%*s", (int)pad, "");
    kv_string_add(t, last ? "\n" : "  ");
}

static void add_body(kv_string *t, const kv_table_plan *p, const kv_cell *cells, size_t n) {
    size_t width[KV_MAX_FIELDS];
    char text[CELL_TEXT];
    for (size_t k = 0; k < p->n_shown; k++) {
        width[k] = strlen(p->shown[k]->heading);
        for (size_t i = 0; i < n; i++) {
            kv_field_text(p->shown[k], &cells[i], text, sizeof text);
            if (strlen(text) > width[k]) width[k] = strlen(text);
        }
    }
    for (size_t k = 0; k < p->n_shown; k++)
        add_padded(t, p->shown[k]->heading, width[k], p->shown[k]->type == KV_FIELD_TEXT, k + 1 == p->n_shown);
    for (size_t k = 0; k < p->n_shown; k++) {
        for (size_t j = 0; j < width[k]; j++) kv_string_add(t, "-");
        kv_string_add(t, k + 1 == p->n_shown ? "\n" : "  ");
    }
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < p->n_shown; k++) {
            kv_field_text(p->shown[k], &cells[i], text, sizeof text);
            add_padded(t, text, width[k], p->shown[k]->type == KV_FIELD_TEXT, k + 1 == p->n_shown);
        }
}

/* What newcomers ask about the headings above it. */
static void add_legend(kv_string *t, const kv_table_plan *p) {
    static const struct {
        const char *key, *text;
    } notes[] = {{"accuracy", "accuracy: mean +- standard error over n samples"},
                 {"peak_slots", "slots: per layer and KV head, the prompt included"},
                 {"kv_bytes_peak", "peak KV: cache bytes of one sequence, measured"},
                 {"n_length", "cut off: samples stopped at the max new limit or the end of the context"},
                 {"n_no_answer", "no answer: samples that ended before it without one"},
                 {"compat", "compat: the same outputs by the published grader"}};
    const char *gap = "\n";
    size_t results = 0, repeated = 0;
    for (size_t k = 0; k < p->n_shown; k++) {
        results += p->shown[k]->role == KV_ROLE_RESULT;
        repeated += !strcmp(p->shown[k]->key, "stderr_items_fixed");
    }
    if (!results) return;
    for (size_t i = 0; i < sizeof notes / sizeof *notes; i++)
        for (size_t k = 0; k < p->n_shown; k++) {
            if (strcmp(p->shown[k]->key, notes[i].key)) continue;
            kv_string_addf(t, "%s%s", gap, i || !repeated ? notes[i].text : "accuracy: avg@k, mean over n samples");
            gap = i % 2 ? "\n" : "; ";
        }
    kv_string_add(t, "\n");
    if (repeated)
        kv_string_add(t, "+-: standard error with the items a random draw, +-fixed: with these items\n"
                         "pass@k: one of k samples is right, unbiased; maj@k: the most frequent answer is\n");
}

static void add_failed(kv_string *t, const kv_cell *cells, size_t n) {
    int any = 0;
    for (size_t i = 0; i < n; i++) {
        const kv_cell *c = &cells[i];
        if (!kv_cell_unfinished(c)) continue;
        if (!any++) kv_string_add(t, "\nnot finished:\n");
        kv_string_add(t, "  ");
        kv_string_add_clean(t, c->task);
        kv_string_add(t, " ");
        kv_string_add_clean(t, c->policy);
        if (!kv_cell_is_full(c)) kv_string_addf(t, " M=%d", c->budget);
        kv_string_addf(t, ": %s", c->status);
        if (c->error[0]) kv_string_add(t, ": ");
        kv_string_add_clean(t, c->error);
        kv_string_add(t, "\n");
    }
}

static void add_table(kv_string *t, const kv_cell *cells, size_t n) {
    if (!n) {
        kv_string_add(t, "no cells\n");
        return;
    }
    kv_table_plan plan;
    kv_table_make_plan(cells, n, &plan);
    add_constants(t, &plan, cells, n);
    add_body(t, &plan, cells, n);
    add_legend(t, &plan);
    add_failed(t, cells, n);
}

static int add_json_row(kv_string *t, const kv_cell *c) {
    size_t n_fields;
    const kv_field *f = kv_field_all(&n_fields);
    cJSON *row = cJSON_CreateObject();
    int ok = row != NULL;
    for (size_t k = 0; ok && k < n_fields; k++) {
        if (kv_field_missing(&f[k], c)) {
            ok = cJSON_AddNullToObject(row, f[k].key) != NULL;
        } else if (f[k].type == KV_FIELD_TEXT) {
            kv_string clean = {0};
            kv_string_add_clean(&clean, kv_field_string(&f[k], c));
            ok = !clean.failed && cJSON_AddStringToObject(row, f[k].key, clean.p);
            kv_string_free(&clean);
        } else {
            ok = cJSON_AddNumberToObject(row, f[k].key, kv_field_number(&f[k], c)) != NULL;
        }
    }
    char *text = ok ? cJSON_PrintUnformatted(row) : NULL;
    cJSON_Delete(row);
    if (!text) return 0;
    kv_string_add(t, text);
    kv_string_add(t, "\n");
    cJSON_free(text);
    return 1;
}

/* RFC 4180: quotes around what holds a comma, a quote or a line end; quotes inside are doubled. */
static void add_csv_text(kv_string *t, const char *s) {
    int quote = strpbrk(s, ",\"\r\n") != NULL;
    if (quote) kv_string_add(t, "\"");
    for (; *s; s++) {
        if (*s == '"') kv_string_add(t, "\"");
        kv_string_add_bytes(t, s, 1);
    }
    if (quote) kv_string_add(t, "\"");
}

static void add_csv(kv_string *t, const kv_cell *cells, size_t n) {
    size_t n_fields;
    const kv_field *f = kv_field_all(&n_fields);
    for (size_t k = 0; k < n_fields; k++) kv_string_addf(t, "%s%s", k ? "," : "", f[k].key);
    kv_string_add(t, "\r\n");
    for (size_t i = 0; i < n; i++) {
        for (size_t k = 0; k < n_fields; k++) {
            if (k) kv_string_add(t, ",");
            if (kv_field_missing(&f[k], &cells[i])) continue;
            if (f[k].type == KV_FIELD_TEXT)
                add_csv_text(t, kv_field_string(&f[k], &cells[i]));
            else
                kv_string_add_number(t, kv_field_number(&f[k], &cells[i]));
        }
        kv_string_add(t, "\r\n");
    }
}

int kv_report_cells(FILE *f, kv_format format, const kv_cell *cells, size_t n, kv_error *err) {
    kv_string t = {0};
    int ok = 1;
    if (format == KV_TABLE) add_table(&t, cells, n);
    if (format == KV_CSV) add_csv(&t, cells, n);
    for (size_t i = 0; ok && format == KV_JSON && i < n; i++) ok = add_json_row(&t, &cells[i]);
    int rc = ok && !t.failed ? KV_OK : kv_fail(err, KV_ENOMEM, "out of memory for the results table");
    if (!rc && t.n && (fwrite(t.p, 1, t.n, f) != t.n || fflush(f)))
        rc = kv_fail(err, KV_EIO, "the results table cannot be written: %s", strerror(errno));
    kv_string_free(&t);
    return rc;
}
