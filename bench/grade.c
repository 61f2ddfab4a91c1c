/* grade.c - the `grade` command: scores outputs made elsewhere with a task's grader; no model is opened.
 *
 * Lines are read and parsed in order, graded in parallel, and printed in order, a batch at a time, so that memory
 * does not grow with the file. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench/command.h"
#include "bench/grade_rows.h"
#include "bench/hostinfo.h"
#include "bench/rows.h"
#include "bench/task_name.h"
#include "engine/threads.h"

enum { BATCH = 2048, MAX_GROUPS = 16, MAX_SHOWN = 10 };

/* Sums over all rows, or over those of one part of the items' groups ("hard", "8k+"). */
typedef struct {
    char group[24];
    int64_t n, answered;
    double sum, squares, compat_sum, partial_sum;
    double strict, stderr_, compat, partial; /* of the table */
} total;

typedef struct {
    const kv_io *io;
    const kv_task *task;
    int json;
    kv_grade_row *rows; /* (BATCH) */
    total totals[1 + MAX_GROUPS];
    size_t n_totals;
    int64_t n_bad;
} grading;

static const kv_row_field fields[] = {
    {"group", KV_ROW_TEXT, offsetof(total, group), 0, 0},      {"n", KV_ROW_INT, offsetof(total, n), 0, 0},
    {"strict", KV_ROW_REAL, offsetof(total, strict), 4, 0},    {"stderr", KV_ROW_REAL, offsetof(total, stderr_), 4, 0},
    {"compat", KV_ROW_REAL, offsetof(total, compat), 4, 0},    {"partial", KV_ROW_REAL, offsetof(total, partial), 4, 0},
    {"answered", KV_ROW_INT, offsetof(total, answered), 0, 0},
};

static void grade_one(void *ctx, int i, int thread) {
    grading *x = ctx;
    kv_grade_row *r = &x->rows[i];
    (void)thread;
    if (r->output) kv_task_grade(x->task, r->item, r->output, &r->grade);
}

static void add(total *t, const kv_grade *g) {
    t->n++;
    t->answered += g->answered != 0;
    t->sum += g->score;
    t->squares += g->score * g->score;
    t->compat_sum += g->compat;
    t->partial_sum += g->partial;
}

/* Adds to the groups that an id such as 12:hard/short names. */
static void add_groups(grading *x, const char *id, const kv_grade *g) {
    const char *p = strchr(id, ':');
    while (p && *p) {
        size_t n = strcspn(++p, "/"), k = 1;
        while (k < x->n_totals && (strncmp(x->totals[k].group, p, n) || x->totals[k].group[n])) k++;
        if (k == 1 + MAX_GROUPS || n >= sizeof x->totals->group) return;
        if (k == x->n_totals) snprintf(x->totals[x->n_totals++].group, sizeof x->totals->group, "%.*s", (int)n, p);
        add(&x->totals[k], g);
        p += n;
    }
}

static void finish(total *t) {
    double n = (double)t->n, mean = t->sum / n, spread = (t->squares - n * mean * mean) / (n - 1);
    t->strict = t->n ? mean : NAN;
    t->stderr_ = t->n > 1 ? sqrt(spread > 0 ? spread / n : 0) : NAN;
    t->compat = t->n ? t->compat_sum / n : NAN;
    t->partial = t->n ? t->partial_sum / n : NAN;
}

static void add_text(cJSON *o, const char *key, const char *text) {
    if (text)
        cJSON_AddStringToObject(o, key, text);
    else
        cJSON_AddNullToObject(o, key);
}

static int print_object(FILE *f, cJSON *o, kv_error *err) {
    char *text = cJSON_PrintUnformatted(o);
    if (text) fprintf(f, "%s\n", text);
    cJSON_Delete(o);
    if (!text) return kv_fail(err, KV_ENOMEM, "out of memory for the output");
    cJSON_free(text);
    return KV_OK;
}

static int print_row(const grading *x, const kv_grade_row *r, kv_error *err) {
    const kv_grade *g = &r->grade;
    cJSON *o = cJSON_CreateObject();
    cJSON_AddNumberToObject(o, "line", (double)r->line);
    add_text(o, "id", r->id[0] ? r->id : NULL);
    if (!r->output) {
        cJSON_AddStringToObject(o, "error", r->problem.text);
        return print_object(x->io->out, o, err);
    }
    add_text(o, "extracted", g->answered ? g->extracted : NULL);
    cJSON_AddNumberToObject(o, "strict", g->score);
    cJSON_AddNumberToObject(o, "compat", g->compat);
    cJSON_AddNumberToObject(o, "partial", g->partial);
    add_text(o, "rule", g->rule);
    add_text(o, "reason", g->reason);
    return print_object(x->io->out, o, err);
}

static int print_totals(grading *x, kv_error *err) {
    const kv_task_info *i = kv_task_get_info(x->task);
    for (size_t k = 0; k < x->n_totals; k++) finish(&x->totals[k]);
    if (!x->json) {
        fprintf(x->io->out, "task %s, variant %s, version %d, grader %s %d\n\n", i->name, i->variant, i->version,
                i->grader, i->grader_version);
        return kv_rows_print(x->io->out, KV_TABLE, fields, sizeof fields / sizeof *fields, x->totals, sizeof *x->totals,
                             x->n_totals, err);
    }
    cJSON *o = cJSON_CreateObject(), *all = cJSON_AddObjectToObject(o, "totals");
    cJSON_AddStringToObject(all, "task", i->name);
    cJSON_AddStringToObject(all, "variant", i->variant);
    cJSON_AddNumberToObject(all, "version", i->version);
    cJSON_AddStringToObject(all, "grader", i->grader);
    cJSON_AddNumberToObject(all, "grader_version", i->grader_version);
    cJSON_AddNumberToObject(all, "bad_lines", (double)x->n_bad);
    cJSON *groups = cJSON_AddArrayToObject(all, "groups");
    for (size_t k = 0; k < x->n_totals; k++) {
        const total *t = &x->totals[k];
        cJSON *g = cJSON_CreateObject();
        cJSON_AddItemToArray(groups, g);
        cJSON_AddStringToObject(g, "group", t->group);
        cJSON_AddNumberToObject(g, "n", (double)t->n);
        cJSON_AddNumberToObject(g, "strict", t->strict);
        cJSON_AddNumberToObject(g, "stderr", t->stderr_);
        cJSON_AddNumberToObject(g, "compat", t->compat);
        cJSON_AddNumberToObject(g, "partial", t->partial);
        cJSON_AddNumberToObject(g, "answered", (double)t->answered);
    }
    return print_object(x->io->out, o, err);
}

/* Counts and prints a batch that has been graded. */
static int take_batch(grading *x, size_t n, kv_error *err) {
    int rc = KV_OK;
    for (size_t i = 0; i < n && !rc; i++) {
        const kv_grade_row *r = &x->rows[i];
        if (r->output) {
            add(&x->totals[0], &r->grade);
            add_groups(x, r->item->id, &r->grade);
        } else if (x->n_bad++ < MAX_SHOWN) {
            fprintf(x->io->err, "trimbench grade: %s\n", r->problem.text);
        }
        if (x->json) rc = print_row(x, r, err);
    }
    return rc;
}

static int grade_all(grading *x, kv_grade_rows *rows, kv_threads *threads, kv_error *err) {
    size_t n = 1;
    int rc = KV_OK;
    while (!rc && n) {
        if (*x->io->cancel) return kv_fail(err, KV_ECANCEL, "interrupted");
        n = 0;
        rc = kv_grade_rows_read(rows, x->rows, BATCH, &n, err);
        x->task = kv_grade_rows_task(rows);
        if (!rc) kv_threads_for(threads, (int)n, grade_one, x);
        if (!rc) rc = take_batch(x, n, err);
        for (size_t i = 0; i < n; i++) kv_grade_row_free(&x->rows[i]);
    }
    return rc;
}

static int run(const kv_opts *o, const kv_paths *p, grading *x, kv_grade_rows **rows, kv_threads **threads,
               kv_error *err) {
    const char *path = kv_opts_text(o, KV_OPT_OUTPUTS), *task = kv_opts_text(o, KV_OPT_TASK_ONE);
    kv_task_options t = {.root = p->datasets,
                         .haystack = kv_opts_text(o, KV_OPT_HAYSTACK),
                         .data_dir = kv_opts_text(o, KV_OPT_DATA),
                         .qa_data = kv_opts_text(o, KV_OPT_QA_DATA),
                         .variant = kv_opts_text(o, KV_OPT_VARIANT_ONE),
                         .seed = (uint64_t)kv_opts_int(o, KV_OPT_SEED)};
    char variants[KV_VARIANTS_MAX];
    kv_host_info host;
    if (!path || !task)
        return kv_fail(err, KV_EARG, "give %s",
                       path ? "--task NAME" : "the file of outputs: trimbench grade FILE.jsonl");
    int rc = kv_task_name_check(t.root, task, t.variant, variants, err);
    if (rc) return rc;
    int n = (int)kv_opts_int(o, KV_OPT_THREADS);
    if (!n) {
        kv_hostinfo_read(&host);
        n = host.n_cores;
    }
    rc = kv_grade_rows_open(path, task, &t, rows, err);
    if (!rc) rc = kv_threads_create(n, threads, err);
    if (!rc && !(x->rows = malloc(BATCH * sizeof *x->rows))) rc = kv_fail(err, KV_ENOMEM, "out of memory");
    if (!rc) rc = grade_all(x, *rows, *threads, err);
    if (!rc && !x->totals[0].n && !x->n_bad) rc = kv_fail(err, KV_EFORMAT, "%.400s: there are no lines in it", path);
    return rc ? rc : print_totals(x, err);
}

int kv_cmd_grade(const kv_opts *o, const kv_paths *p, const kv_io *io, kv_error *err) {
    kv_grade_rows *rows = NULL;
    kv_threads *threads = NULL;
    const char *format = kv_opts_text(o, KV_OPT_GRADE_FORMAT);
    grading x = {.io = io, .json = strcmp(format, "json") == 0, .totals = {{.group = "all"}}, .n_totals = 1};
    int rc = run(o, p, &x, &rows, &threads, err);
    if (x.n_bad > MAX_SHOWN)
        fprintf(io->err, "trimbench grade: %lld more lines were of no use\n", (long long)(x.n_bad - MAX_SHOWN));
    kv_threads_free(threads);
    kv_grade_rows_close(rows);
    free(x.rows);
    if (!rc && x.n_bad) return KV_EXIT_FAILED;
    return kv_exit_of(rc);
}
