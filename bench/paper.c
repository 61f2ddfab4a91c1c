/* paper.c - the `paper` command: runs what a published table measured and prints both.
 *
 * Which cells there are and what was published comes out of the results file (paper_number, filled from
 * results/paper/paper-numbers.tsv); here stands only where a table is found, what its names mean to us, and what
 * differs from the paper's set-up.  Cells are measured and recorded exactly as `speed` does it. */
#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "bench/speed.h"
#include "bench/rows.h"
#include "results/paper.h"

typedef struct paper_table {
    const char *name, *title;
    const char *paper, *table, *metric; /* where its rows are */
    const char *model;                  /* unless --model is given */
    int buffer;                         /* B where the table states none */
    const char *differs;                /* lines */
} paper_table;

static const paper_table tables[] = {
    {"trimkv-table5", "TRIM-KV, decode throughput at 16k and 32k of context", "2512.03324", "Table 5", "throughput",
     "synth:qwen3-4b", 128,
     "  the table states no B; 128, the default of the authors' scripts, is used\n"
     "  its caption names no model; Qwen3-4B is taken\n"
     "  policies are those of this program: SnapKV is its decode-time variant, SeerAttn-R is not here\n"},
};

enum { N_TABLES = sizeof tables / sizeof *tables };

/* What the papers call our policies. */
static const struct {
    const char *published, *ours;
} names[] = {{"FullKV", "full"}, {"SnapKV", "snapkv"}, {"TRIM-KV", "trimkv"}};

enum { N_NAMES = sizeof names / sizeof *names };

typedef struct paper_row {
    char policy[48], ours[192], status[16], gpu[256], published_on[32], unit[32], read_from[24], error[256];
    int64_t ctx, batch, budget, buffer;
    double published, measured, min, max, ratio, gb_s, ceiling_gb_s, share;
} paper_row;

#define TEXT(name, json)                                                                                               \
    { #name, KV_ROW_TEXT, offsetof(paper_row, name), 0, json }
#define INT(name)                                                                                                      \
    { #name, KV_ROW_INT, offsetof(paper_row, name), 0, 0 }
#define REAL(name, digits)                                                                                             \
    { #name, KV_ROW_REAL, offsetof(paper_row, name), digits, 0 }
static const kv_row_field fields[] = {
    INT(ctx),
    INT(batch),
    TEXT(policy, 0),
    TEXT(ours, 1),
    INT(budget),
    INT(buffer),
    REAL(published, 2),
    REAL(measured, 2),
    REAL(min, 2),
    REAL(max, 2),
    REAL(ratio, 2),
    REAL(gb_s, 0),
    REAL(ceiling_gb_s, 0),
    REAL(share, 3),
    TEXT(status, 0),
    TEXT(unit, 1),
    TEXT(published_on, 1),
    TEXT(gpu, 1),
    TEXT(read_from, 1),
    TEXT(error, 0),
};

static void list_tables(FILE *f) {
    fprintf(f, "published tables (trimbench paper NAME)\n");
    for (int i = 0; i < N_TABLES; i++)
        fprintf(f, "  %-16s %s [arXiv:%s, %s]\n", tables[i].name, tables[i].title, tables[i].paper, tables[i].table);
}

static int find_table(const char *name, const paper_table **out, kv_error *err) {
    const char *all[N_TABLES];
    for (int i = 0; i < N_TABLES; i++) {
        all[i] = tables[i].name;
        if (strcmp(tables[i].name, name) == 0) {
            *out = &tables[i];
            return KV_OK;
        }
    }
    const char *meant = kv_nearest(name, all, N_TABLES);
    return kv_fail(err, KV_EARG, "no table '%.100s'%s%s%s", name, meant ? ": did you mean '" : "", meant ? meant : "",
                   meant ? "'?" : "");
}

/* The options of `speed` that `paper` was given, with the table's model. */
static int speed_options(const kv_opts *o, const paper_table *t, kv_opts *out, kv_error *err) {
    static const kv_opt_id passed[] = {KV_OPT_GATES,        KV_OPT_SEED,    KV_OPT_REPS,
                                       KV_OPT_BACKEND,      KV_OPT_DEVICE,  KV_OPT_WARMUP,
                                       KV_OPT_PREFILL_REPS, KV_OPT_PROFILE, KV_OPT_QUIET};
    enum { N_PASSED = sizeof passed / sizeof *passed };
    const char *model = kv_opts_text(o, KV_OPT_PAPER_MODEL);
    char flags[N_PASSED][32], numbers[N_PASSED][32], *argv[2 * N_PASSED + 2];
    int n = 0;
    argv[n++] = "--model";
    argv[n++] = (char *)(model ? model : t->model);
    for (int i = 0; i < N_PASSED; i++) {
        const kv_opt_def *d = &kv_opt_table()[passed[i]];
        if (!kv_opts_given(o, passed[i])) continue;
        snprintf(flags[i], sizeof flags[i], "--%s", d->name);
        argv[n++] = flags[i];
        if (d->type == KV_TYPE_TEXT) argv[n++] = (char *)kv_opts_text(o, passed[i]);
        if (d->type != KV_TYPE_INT) continue;
        snprintf(numbers[i], sizeof numbers[i], "%lld", (long long)kv_opts_int(o, passed[i]));
        argv[n++] = numbers[i];
    }
    return kv_opts_parse(KV_CMD_SPEED, n, argv, out, err);
}

/* Published values of the table; the results file learns them when it does not know them yet. */
static int read_published(const paper_table *t, const kv_paths *p, const char *db, kv_paper_number **rows, size_t *n,
                          kv_error *err) {
    char path[KV_PATH_MAX + 64];
    kv_store *s = NULL;
    snprintf(path, sizeof path, "%s/results/paper/paper-numbers.tsv", p->root);
    int rc = kv_store_open(db, &s, err);
    if (rc == KV_OK) rc = kv_paper_import(s, path, NULL, err);
    if (rc == KV_OK) rc = kv_paper_find(s, t->paper, t->table, t->metric, rows, n, err);
    if (rc == KV_OK && *n == 0) rc = kv_fail(err, KV_ENOTFOUND, "%.300s: no rows of %s", path, t->table);
    kv_store_close(s);
    return rc;
}

/* One cell per published row that we have the policy of; cell_of[row] = its index or -1. */
static int make_specs(const paper_table *t, const kv_paper_number *rows, size_t n, kv_policy_spec policies[N_NAMES],
                      kv_speed_spec *specs, int *cell_of, size_t *n_specs, kv_error *err) {
    *n_specs = 0;
    for (int i = 0; i < N_NAMES; i++) {
        int rc = kv_policy_parse(names[i].ours, &policies[i], err);
        if (rc) return rc;
    }
    for (size_t i = 0; i < n; i++) {
        const kv_paper_number *r = &rows[i];
        cell_of[i] = -1;
        for (int k = 0; k < N_NAMES; k++) {
            int keeps_all = policies[k].policy->never_evicts;
            if (strcmp(names[k].published, r->policy) != 0) continue;
            cell_of[i] = (int)*n_specs;
            specs[(*n_specs)++] = (kv_speed_spec){.numerics = KV_FAST,
                                                  .policy = &policies[k],
                                                  .budget = keeps_all ? 0 : atoi(r->budget),
                                                  .buffer = keeps_all      ? 0
                                                            : r->buffer[0] ? atoi(r->buffer)
                                                                           : t->buffer,
                                                  .ctx = atoi(r->context),
                                                  .batch = atoi(r->batch),
                                                  .max_new = atoi(r->gen_len)};
            if (specs[*n_specs - 1].ctx < 1 || specs[*n_specs - 1].batch < 1 || specs[*n_specs - 1].max_new < 2)
                return kv_fail(err, KV_EFORMAT, "%s, %s: context, batch or generated tokens are missing", t->table,
                               r->policy);
        }
    }
    return KV_OK;
}

static void fill_row(const kv_paper_number *p, const kv_speed_spec *spec, const kv_speed_row *r, paper_row *out) {
    memset(out, 0, sizeof *out);
    snprintf(out->policy, sizeof out->policy, "%s", p->policy);
    snprintf(out->published_on, sizeof out->published_on, "%s", p->hardware);
    snprintf(out->unit, sizeof out->unit, "%s", p->unit);
    snprintf(out->read_from, sizeof out->read_from, "%s", p->read_from);
    out->ctx = atoi(p->context);
    out->batch = atoi(p->batch);
    out->budget = atoi(p->budget);
    out->published = p->value;
    out->measured = out->min = out->max = out->ratio = out->gb_s = out->ceiling_gb_s = out->share = NAN;
    snprintf(out->status, sizeof out->status, "published");
    if (!r) return;
    out->buffer = spec->buffer;
    memcpy(out->ours, r->policy, sizeof out->ours);
    memcpy(out->status, r->status, sizeof out->status);
    memcpy(out->gpu, r->gpu, sizeof out->gpu);
    memcpy(out->error, r->error, sizeof out->error);
    out->measured = r->decode_tok_s;
    out->min = r->decode_min;
    out->max = r->decode_max;
    out->ratio = r->decode_tok_s / p->value;
    out->gb_s = r->gb_s;
    out->ceiling_gb_s = r->copy_gb_s;
    out->share = r->copy_share;
}

static void print_frame(const paper_table *t, const kv_paper_number *p, const kv_speed_result *r, FILE *f) {
    const kv_speed_row *first = &r->rows[0];
    fprintf(f, "arXiv:%s %s, %s; %s, %s generated tokens, decoding only\n", t->paper, t->table, t->title, p->unit,
            p->gen_len);
    fprintf(f, "published: %s on %s; measured: %s (%s) on %s, commit %s\n\n", p->model, p->hardware, first->model,
            first->weights, first->gpu[0] ? first->gpu : first->cpu, first->commit);
}

static void print_differences(const paper_table *t, const kv_paper_number *p, const kv_speed_result *r, int synth,
                              FILE *f) {
    const kv_speed_row *first = &r->rows[0];
    fprintf(f,
            "\nratio: measured / published; share: of the memory ceiling, the best of a copy and a read in this run\n"
            "what differs:\n");
    fprintf(f, "  hardware: published on %s, measured on %s\n", p->hardware, first->gpu[0] ? first->gpu : first->cpu);
    fprintf(f, "  weights: %s, %s\n", synth ? "random, in the published shape" : first->model, first->weights);
    fputs(t->differs, f);
}

static int print_rows(const paper_table *t, const kv_paper_number *rows, size_t n, const kv_speed_spec *specs,
                      const int *cell_of, const kv_speed_result *r, int synth, kv_format format, FILE *f,
                      kv_error *err) {
    paper_row *out = calloc(n, sizeof *out);
    if (!out) return kv_fail(err, KV_ENOMEM, "out of memory for %zu rows", n);
    for (size_t i = 0; i < n; i++)
        fill_row(&rows[i], cell_of[i] < 0 ? NULL : &specs[cell_of[i]], cell_of[i] < 0 ? NULL : &r->rows[cell_of[i]],
                 &out[i]);
    if (format == KV_TABLE) print_frame(t, &rows[0], r, f);
    int rc = kv_rows_print(f, format, fields, sizeof fields / sizeof *fields, out, sizeof *out, n, err);
    if (rc == KV_OK && format == KV_TABLE) print_differences(t, &rows[0], r, synth, f);
    free(out);
    return rc;
}

/* KV_EUNSUPPORTED when the table should run on a GPU and there is none; the CPU only when it was asked for. */
static int find_gpu(const kv_opts *o, const kv_paths *p, int *synth, kv_error *err) {
    kv_identity m;
    kv_device_kind device = KV_CPU;
    kv_error why = {0};
    const char *word = kv_opts_text(o, KV_OPT_BACKEND);
    int rc = kv_identity_resolve_model(o, 0, p, &m, err);
    if (rc) return rc;
    *synth = m.synth != NULL;
    rc = kv_place_choose(o, m.synth ? &m.synth->shape : NULL, &device, &why);
    if (rc == KV_EARG) return kv_fail(err, rc, "%s", why.text);
    if (rc == KV_OK && (device == KV_CUDA || strcmp(word, "cpu") == 0)) return KV_OK;
    return kv_fail(err, KV_EUNSUPPORTED, "the table needs a GPU, and none can be used here%s%.300s", rc ? ": " : "",
                   rc ? why.text : "");
}

/* Everything once the cells are known. */
static int compare(const kv_opts *o, const kv_opts *so, const kv_paths *p, const kv_io *io, const paper_table *t,
                   const char *db, const kv_paper_number *rows, size_t n, int *failed, kv_error *err) {
    kv_policy_spec policies[N_NAMES];
    kv_speed_spec *specs = calloc(n, sizeof *specs);
    int *cell_of = calloc(n, sizeof *cell_of), synth = 0;
    size_t n_specs = 0;
    kv_speed_result r = {0};
    kv_format format = KV_TABLE;
    kv_error no_gpu = {0};
    int rc = specs && cell_of ? KV_OK : kv_fail(err, KV_ENOMEM, "out of memory for %zu rows", n);
    if (rc == KV_OK) rc = kv_format_parse(kv_opts_text(o, KV_OPT_FORMAT), &format, err);
    if (rc == KV_OK) rc = make_specs(t, rows, n, policies, specs, cell_of, &n_specs, err);
    int place = rc == KV_OK ? find_gpu(so, p, &synth, &no_gpu) : KV_OK;
    if (rc == KV_OK && place && place != KV_EUNSUPPORTED) {
        rc = kv_fail(err, place, "%s", no_gpu.text);
    } else if (rc == KV_OK && (place || kv_opts_flag(o, KV_OPT_DRY_RUN))) {
        const char *word = kv_opts_text(so, KV_OPT_BACKEND);
        fprintf(io->out, "arXiv:%s %s would run these cells:\n", t->paper, t->table);
        rc = kv_speed_predict(so, p, specs, n_specs, strcmp(word, "cpu") != 0, io->out, err);
        if (rc == KV_OK && !kv_opts_flag(o, KV_OPT_DRY_RUN)) rc = kv_fail(err, place, "%s", no_gpu.text);
    } else if (rc == KV_OK) {
        rc = kv_speed_run(so, p, specs, n_specs, db, io, &r, err);
        if (rc == KV_OK) rc = print_rows(t, rows, n, specs, cell_of, &r, synth, format, io->out, err);
        if (rc == KV_OK && r.n_ops) rc = kv_speed_print_ops(io->out, format, &r, err);
        *failed = r.failed;
    }
    kv_speed_free(&r);
    free(specs);
    free(cell_of);
    return rc;
}

int kv_cmd_paper(const kv_opts *o, const kv_paths *p, const kv_io *io, kv_error *err) {
    const char *name = kv_opts_text(o, KV_OPT_PAPER_NAME);
    const char *db = kv_opts_text_or(o, KV_OPT_DB, p->db);
    const paper_table *t = NULL;
    kv_paper_number *rows = NULL;
    kv_opts so = {0};
    size_t n = 0;
    int failed = 0;
    if (!name) {
        list_tables(io->out);
        return KV_EXIT_OK;
    }
    int rc = find_table(name, &t, err);
    if (rc) {
        list_tables(io->err);
        return kv_exit_of(rc);
    }
    rc = speed_options(o, t, &so, err);
    if (rc == KV_OK) rc = read_published(t, p, db, &rows, &n, err);
    if (rc == KV_OK) rc = compare(o, &so, p, io, t, db, rows, n, &failed, err);
    kv_opts_free(&so);
    free(rows);
    if (rc) return kv_exit_of(rc);
    if (*io->cancel) return KV_EXIT_INTERRUPTED;
    return failed ? KV_EXIT_FAILED : KV_EXIT_OK;
}
