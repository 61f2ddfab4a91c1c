/* report.c - the rows of a results table as aligned text, JSON lines or CSV, from the one field list (fields.c). */
#include "results/report.h"

#include <math.h>
#include <string.h>

#include "results/fields.h"

enum { CELL_TEXT = 256 };

static void add_constants(kv_string *t, const kv_table_plan *p, const kv_cell *cells, size_t n) {
    for (size_t k = 0; k < p->n_constant; k++) {
        char value[CELL_TEXT];
        kv_table_constant(p->constant[k], cells, n, value, sizeof value);
        kv_table_add_constant(t, p->constant[k]->heading, value);
    }
    if (p->n_constant) kv_string_add(t, "\n\n");
}

static void add_body(kv_string *t, const kv_table_plan *p, const kv_cell *cells, size_t n) {
    kv_column columns[KV_MAX_FIELDS];
    kv_table body = {.columns = columns, .n_columns = p->n_shown, .gap = 2, .rule = 1};
    for (size_t k = 0; k < p->n_shown; k++)
        columns[k] = (kv_column){p->shown[k]->heading, p->shown[k]->type == KV_FIELD_TEXT, 0};
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < p->n_shown; k++) {
            char text[CELL_TEXT];
            kv_field_text(p->shown[k], &cells[i], text, sizeof text);
            kv_table_add(&body, text);
        }
    kv_table_print(&body, t);
    kv_string_free(&body.cells);
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

static kv_value value_of(const void *cells, size_t i, size_t k) {
    size_t n_fields;
    const kv_field *f = &kv_field_all(&n_fields)[k];
    const kv_cell *c = (const kv_cell *)cells + i;
    if (kv_field_missing(f, c)) return (kv_value){NULL, NAN};
    return f->type == KV_FIELD_TEXT ? (kv_value){kv_field_string(f, c), 0} : (kv_value){NULL, kv_field_number(f, c)};
}

int kv_report_cells(FILE *f, kv_format format, const kv_cell *cells, size_t n, kv_error *err) {
    kv_string t = {0};
    const char *keys[KV_MAX_FIELDS];
    size_t n_keys;
    const kv_field *fields = kv_field_all(&n_keys);
    for (size_t k = 0; k < n_keys; k++) keys[k] = fields[k].key;
    if (format == KV_TABLE) add_table(&t, cells, n);
    if (format == KV_JSON) kv_table_add_json(&t, keys, n_keys, cells, n, value_of);
    if (format == KV_CSV) kv_table_add_csv(&t, keys, n_keys, cells, n, value_of);
    int rc = kv_string_print(&t, f, "the results table", err);
    kv_string_free(&t);
    return rc;
}
