/* programs.c - source `programs`: pseudocode, the C++ program it describes and tests of it, as LongProc's
 * pseudo_to_code (arXiv 2501.05414) takes them from SPoC (arXiv 1906.04908).
 *
 * A line of data is {"pseudocode":..., "code":..., "tests":[[stdin,stdout],...]}. */
#include "datasets/programs.h"

#include "datasets/jsonl.h"

#include <stdlib.h>
#include <string.h>

typedef struct {
    cJSON **rows;         /* (n) own every text */
    kv_program *programs; /* (n) */
    int n;
} programs;

static const char *const slots[] = {"pseudocode", "code", NULL};

static void close_programs(kv_source_state *s) {
    programs *p = s->impl;
    if (!p) return;
    for (int i = 0; p->rows && i < p->n; i++) cJSON_Delete(p->rows[i]);
    free(p->rows);
    free(p->programs);
    free(p);
    s->impl = NULL;
}

static const char *text_of(const cJSON *row, const char *key) {
    return cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(row, key));
}

static int read_tests(const cJSON *row, kv_program *p) {
    const cJSON *t, *tests = cJSON_GetObjectItemCaseSensitive(row, "tests");
    cJSON_ArrayForEach(t, tests) {
        const char *in = cJSON_GetStringValue(cJSON_GetArrayItem(t, 0));
        const char *out = cJSON_GetStringValue(cJSON_GetArrayItem(t, 1));
        if (cJSON_GetArraySize(t) != 2 || !in || !out || p->n_tests == KV_PROGRAM_TESTS) return 0;
        p->tests[p->n_tests++] = (kv_program_test){in, out};
    }
    return p->n_tests > 0;
}

static int add_program(void *user, int i, const cJSON *row, const char *where, kv_error *err) {
    programs *p = user;
    cJSON *copy = p->rows[i] = cJSON_Duplicate(row, 1);
    if (!copy) return kv_fail(err, KV_ENOMEM, "%s: no memory for the program", where);
    if (!text_of(copy, "pseudocode") || !text_of(copy, "code") || !read_tests(copy, &p->programs[i]))
        return kv_fail(
            err, KV_EFORMAT,
            "%s: expected {\"pseudocode\":...,\"code\":...,\"tests\":[[stdin,stdout],...]} with 1 to %d tests", where,
            KV_PROGRAM_TESTS);
    return KV_OK;
}

static int open_programs(const kv_source_args *a, kv_source_state *out, kv_error *err) {
    programs *p = calloc(1, sizeof *p);
    out->impl = p;
    out->n_items = a->file->items;
    out->slots = slots;
    if (p) {
        p->n = a->file->items;
        p->rows = calloc((size_t)p->n, sizeof *p->rows);
        p->programs = calloc((size_t)p->n, sizeof *p->programs);
    }
    if (!p || !p->rows || !p->programs) return kv_fail(err, KV_ENOMEM, "no memory for %d programs", a->file->items);
    return kv_jsonl_read(a, add_program, p, out->sha256, err);
}

static void program_item(const kv_source_state *s, int i, kv_text *values, void **data) {
    programs *p = s->impl;
    kv_text_puts(&values[0], text_of(p->rows[i], "pseudocode"));
    kv_text_puts(&values[1], text_of(p->rows[i], "code"));
    *data = &p->programs[i];
}

static const char *const no_params[] = {NULL};

const kv_source kv_source_programs = {.name = "programs",
                                      .params = no_params,
                                      .reads_data = 1,
                                      .data_kind = "programs",
                                      .open = open_programs,
                                      .item = program_item,
                                      .close = close_programs};
