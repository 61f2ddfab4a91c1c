/* speed.c - the `speed` command: prefill and decode throughput per policy, budget, batch and context.
 *
 * Every sequence gets ctx seeded random tokens, the end-of-text token is ignored and exactly max-new tokens are
 * generated.  The cells of one engine run interleaved, repetition by repetition, after one warm-up; medians and ranges
 * over the repetitions are shown.  A cell whose logits differ between repetitions fails: a fast wrong engine must not
 * look good. */
#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "bench/command.h"
#include "bench/hostinfo.h"
#include "bench/plan.h"
#include "bench/progress.h"
#include "bench/setup.h"
#include "bench/table.h"
#include "engine/file.h"

typedef struct speed_row {
    char status[16], model[96], weights[64], backend[32], policy[192], prefill[24], numerics[16], logits_hash[24],
        commit[48], cpu[128], error[256];
    int64_t budget, buffer, batch, ctx, max_new, threads, reps, kv_bytes_peak, weight_bytes, steps;
    double prefill_tok_s, prefill_min, prefill_max, decode_tok_s, decode_min, decode_max, bytes_per_step, gb_s,
        peak_slots, mean_slots;
} speed_row;

#define TEXT(name)                                                                                                     \
    { #name, KV_FIELD_TEXT, offsetof(speed_row, name), 0, 0 }
#define INT(name)                                                                                                      \
    { #name, KV_FIELD_INT, offsetof(speed_row, name), 0, 0 }
#define REAL(name, digits)                                                                                             \
    { #name, KV_FIELD_REAL, offsetof(speed_row, name), digits, 0 }
#define EXTRA_TEXT(name)                                                                                               \
    { #name, KV_FIELD_TEXT, offsetof(speed_row, name), 0, 1 }
#define EXTRA_INT(name)                                                                                                \
    { #name, KV_FIELD_INT, offsetof(speed_row, name), 0, 1 }
#define EXTRA_REAL(name)                                                                                               \
    { #name, KV_FIELD_REAL, offsetof(speed_row, name), 0, 1 }
static const kv_field fields[] = {
    TEXT(status),
    TEXT(model),
    TEXT(weights),
    TEXT(backend),
    TEXT(numerics),
    INT(threads),
    TEXT(policy),
    INT(budget),
    INT(buffer),
    TEXT(prefill),
    INT(ctx),
    INT(batch),
    INT(max_new),
    REAL(prefill_tok_s, 1),
    EXTRA_REAL(prefill_min),
    EXTRA_REAL(prefill_max),
    REAL(decode_tok_s, 1),
    REAL(decode_min, 1),
    REAL(decode_max, 1),
    REAL(bytes_per_step, 0),
    REAL(gb_s, 2),
    REAL(peak_slots, 1),
    REAL(mean_slots, 1),
    INT(kv_bytes_peak),
    EXTRA_INT(weight_bytes),
    EXTRA_INT(steps),
    EXTRA_INT(reps),
    EXTRA_TEXT(logits_hash),
    EXTRA_TEXT(commit),
    EXTRA_TEXT(cpu),
    TEXT(error),
};

/* One cell: what to run, and every repetition's figures. */
typedef struct speed_cell {
    const kv_policy_spec *policy;
    int budget, buffer, chunk, batch, ctx, max_new;
    double *prefill, *decode; /* (reps) tok/s */
    int n_reps;
    uint64_t hash; /* over all sequences, the same in every repetition */
    speed_row *row;
} speed_cell;

typedef struct speed_call {
    const speed_cell *cell;
    const int32_t *tokens; /* (batch, ctx) */
    int next;
    uint64_t hash;
    double peak_slots, mean_slots;
    kv_error err;
} speed_call;

static int next_request(void *user, kv_request *r) {
    speed_call *x = user;
    if (x->next == x->cell->batch) return 0;
    *r = (kv_request){.prompt = x->tokens + (size_t)x->next * (size_t)x->cell->ctx,
                      .n_prompt = x->cell->ctx,
                      .n_context = x->cell->ctx,
                      .max_new = x->cell->max_new,
                      .ignore_eos = 1,
                      .sampling = {.top_p = 1}};
    x->next++;
    return 1;
}

static int on_done(void *user, const kv_request *r, const kv_completion *c) {
    speed_call *x = user;
    (void)r;
    if (c->status) return kv_fail(&x->err, c->status, "%s", c->err.text);
    x->hash += c->logits_hash;
    if (c->peak_slots > x->peak_slots) x->peak_slots = c->peak_slots;
    x->mean_slots += c->mean_slots / x->cell->batch;
    return KV_OK;
}

static uint64_t next_random(uint64_t *state) { /* splitmix64 */
    uint64_t z = *state += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

/* Random tokens that have a text of their own (control tokens have none). */
static int32_t *random_tokens(const kv_tokenizer *t, size_t n, int64_t seed, kv_error *err) {
    uint64_t state = (uint64_t)seed;
    size_t n_vocab = kv_tokenizer_n_tokens(t), tries = 0;
    int32_t *ids = malloc(n * sizeof *ids);
    if (!ids || !n_vocab) {
        free(ids);
        kv_fail(err, KV_ENOMEM, "out of memory for %zu prompt tokens", n);
        return NULL;
    }
    for (size_t i = 0; i < n;) {
        int32_t id = (int32_t)(next_random(&state) % n_vocab);
        char *text = kv_detokenize(t, &id, 1, 1);
        if ((text && text[0]) || ++tries > 1000 + n) ids[i++] = id;
        free(text);
    }
    return ids;
}

static int run_once(kv_session *s, const speed_cell *c, const int32_t *tokens, int64_t seed, const kv_io *io,
                    speed_call *x, kv_generate_stats *st, kv_error *err) {
    kv_setup setup = {0};
    const kv_setup_args args = {c->policy, c->budget,    c->buffer, c->chunk, seed, kv_engine_info(s->engine),
                                s->gates,  &s->gates_err};
    *x = (speed_call){.cell = c, .tokens = tokens};
    kv_generate_options o = {
        .batch = c->batch, .chunk = c->chunk, .cancel = io->cancel, .next = next_request, .done = on_done, .user = x};
    int rc = kv_setup_open(&args, &setup, err);
    if (rc == KV_OK) rc = kv_generate(s->engine, &setup, &o, st, err);
    if (rc && x->err.code) *err = x->err;
    kv_setup_close(&setup);
    return rc;
}

static void fail_cell(speed_cell *c, const char *status, const char *text) {
    snprintf(c->row->status, sizeof c->row->status, "%s", status);
    snprintf(c->row->error, sizeof c->row->error, "%.255s", text);
}

/* One repetition of one cell; a failure marks the cell. */
static void measure(kv_session *s, speed_cell *c, int64_t seed, const kv_io *io) {
    kv_error err = {0};
    speed_call x;
    kv_generate_stats st = {0};
    speed_row *r = c->row;
    int32_t *tokens = random_tokens(kv_engine_tokenizer(s->engine), (size_t)c->batch * (size_t)c->ctx, seed, &err);
    int rc = tokens ? run_once(s, c, tokens, seed, io, &x, &st, &err) : KV_ENOMEM;
    free(tokens);
    if (rc) {
        fail_cell(c, rc == KV_ENOMEM ? "oom" : rc == KV_ECANCEL ? "interrupted" : "error", err.text);
        return;
    }
    if (c->n_reps && x.hash != c->hash) {
        fail_cell(c, "error", "the logits differ between repetitions");
        return;
    }
    c->hash = x.hash;
    c->prefill[c->n_reps] = st.prefill_s > 0 ? (double)st.n_prefill_tokens / st.prefill_s : NAN;
    c->decode[c->n_reps] = st.decode_s > 0 ? (double)st.n_decode_tokens / st.decode_s : NAN;
    c->n_reps++;
    r->steps = st.n_steps;
    r->kv_bytes_peak = (int64_t)st.kv_bytes_peak;
    r->peak_slots = x.peak_slots;
    r->mean_slots = x.mean_slots;
    r->bytes_per_step = st.n_steps ? (double)st.bytes_read / (double)st.n_steps : NAN;
    snprintf(r->logits_hash, sizeof r->logits_hash, "%016llx", (unsigned long long)x.hash);
}

static int compare_doubles(const void *a, const void *b) {
    double x, y;
    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    return (x > y) - (x < y);
}

static void summarise(double *v, int n, double *median, double *min, double *max) {
    *median = *min = *max = NAN;
    if (!n) return;
    qsort(v, (size_t)n, sizeof *v, compare_doubles);
    *min = v[0];
    *max = v[n - 1];
    *median = n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}

/* Every cell of one engine: warm-up, then the repetitions, cells interleaved. */
static int run_engine(const kv_opts *o, kv_session *s, speed_cell *cells, size_t n, int threads, kv_progress *pg,
                      const kv_io *io) {
    const kv_model_info *info = kv_engine_info(s->engine);
    int reps = (int)kv_opts_int(o, KV_OPT_REPS);
    int64_t seed = kv_opts_int(o, KV_OPT_SEED);
    for (size_t i = 0; i < n; i++) {
        speed_row *r = cells[i].row;
        kv_file_title(s->id.model_path, r->model, sizeof r->model);
        snprintf(r->weights, sizeof r->weights, "%s", info->weights);
        snprintf(r->backend, sizeof r->backend, "%.31s", info->backend);
        r->weight_bytes = (int64_t)info->weight_bytes;
        r->threads = threads;
        if (cells[i].ctx + cells[i].max_new > info->n_ctx)
            fail_cell(&cells[i], "error", "ctx + max-new is more than the model's context");
    }
    for (int rep = -1; rep < reps; rep++)
        for (size_t i = 0; i < n && !*io->cancel; i++) {
            speed_cell warm = cells[i];
            speed_row scratch = *cells[i].row;
            if (cells[i].row->status[0] || (rep < 0 && i > 0)) continue;
            warm.row = &scratch;
            warm.ctx = warm.ctx < 128 ? warm.ctx : 128;
            warm.max_new = warm.max_new < 8 ? warm.max_new : 8;
            measure(s, rep < 0 ? &warm : &cells[i], seed, io);
            pg->cell_done++;
            pg->all_done++;
            kv_progress_cell(pg, i + 1, cells[i].policy->canonical, (size_t)(rep < 0 ? 0 : rep), (size_t)reps);
            kv_progress_show(pg);
        }
    int failed = 0;
    for (size_t i = 0; i < n; i++) {
        speed_row *r = cells[i].row;
        if (!r->status[0])
            snprintf(r->status, sizeof r->status, "%s", cells[i].n_reps == reps ? "done" : "interrupted");
        failed |= strcmp(r->status, "done") != 0;
        r->reps = cells[i].n_reps;
        summarise(cells[i].prefill, cells[i].n_reps, &r->prefill_tok_s, &r->prefill_min, &r->prefill_max);
        summarise(cells[i].decode, cells[i].n_reps, &r->decode_tok_s, &r->decode_min, &r->decode_max);
        r->gb_s = r->bytes_per_step * r->decode_tok_s / cells[i].batch / 1e9;
    }
    return failed;
}

/* The cells of one (model, numerics, threads), and their rows. */
static size_t make_cells(const kv_opts *o, const kv_plan_cell *plan, size_t n_plan, speed_cell *cells, speed_row *rows,
                         double *figures, const kv_host_info *host) {
    size_t n = 0, reps = (size_t)kv_opts_int(o, KV_OPT_REPS);
    for (size_t x = 0; x < kv_opts_n(o, KV_OPT_CTX); x++)
        for (size_t b = 0; b < kv_opts_n(o, KV_OPT_BATCHES); b++)
            for (size_t i = 0; i < n_plan; i++, n++) {
                speed_row *r = &rows[n];
                const kv_plan_cell *p = &plan[i];
                cells[n] = (speed_cell){p->policy,
                                        p->budget,
                                        p->buffer,
                                        p->chunk,
                                        (int)o->v[KV_OPT_BATCHES].ints[b],
                                        (int)o->v[KV_OPT_CTX].ints[x],
                                        p->max_new,
                                        figures + 2 * n * reps,
                                        figures + (2 * n + 1) * reps,
                                        0,
                                        0,
                                        r};
                snprintf(r->policy, sizeof r->policy, "%s", p->policy->canonical);
                kv_prefill_text(p->chunk, r->prefill);
                snprintf(r->numerics, sizeof r->numerics, "%s", p->numerics == KV_EXACT ? "exact" : "fast");
                snprintf(r->commit, sizeof r->commit, "%.40s%s", kv_buildinfo_get()->commit,
                         kv_buildinfo_get()->dirty ? "+" : "");
                snprintf(r->cpu, sizeof r->cpu, "%s", host->cpu);
                r->budget = p->budget;
                r->buffer = p->buffer;
                r->batch = cells[n].batch;
                r->ctx = cells[n].ctx;
                r->max_new = p->max_new;
                r->bytes_per_step = r->gb_s = r->peak_slots = r->mean_slots = NAN;
            }
    return n;
}

/* Opens the engine that plan[0] wants and runs its cells with `threads`; *failed collects failing cells. */
static int run_part(const kv_opts *o, const kv_paths *paths, const kv_plan_cell *plan, size_t n_plan, int threads,
                    speed_row *rows, kv_progress *pg, const kv_io *io, int *failed, kv_error *err) {
    size_t most = n_plan * kv_opts_n(o, KV_OPT_CTX) * kv_opts_n(o, KV_OPT_BATCHES);
    speed_cell *cells = calloc(most, sizeof *cells);
    double *figures = calloc(most * 2 * (size_t)kv_opts_int(o, KV_OPT_REPS), sizeof *figures);
    kv_session s = {0};
    kv_host_info host;
    kv_hostinfo_read(&host);
    int rc = cells && figures ? KV_OK : kv_fail(err, KV_ENOMEM, "out of memory for %zu cells", most);
    if (rc == KV_OK) rc = kv_session_open(o, (size_t)plan->task, paths, plan->numerics, threads, &s, err);
    if (rc == KV_OK) {
        size_t n = make_cells(o, plan, n_plan, cells, rows, figures, &host);
        *failed |= run_engine(o, &s, cells, n, threads ? threads : host.n_cores, pg, io);
    }
    kv_session_close(&s);
    free(cells);
    free(figures);
    return rc;
}

static int run_all(const kv_opts *o, const kv_paths *p, const kv_plan_cell *plan, size_t n_plan, const kv_io *io,
                   int *failed, kv_error *err) {
    size_t per_cell = kv_opts_n(o, KV_OPT_THREADS) * kv_opts_n(o, KV_OPT_CTX) * kv_opts_n(o, KV_OPT_BATCHES);
    size_t n_rows = 0, most = n_plan * per_cell;
    speed_row *rows = most <= 100000 ? calloc(most, sizeof *rows) : NULL;
    kv_format format;
    kv_progress pg;
    int rc = rows ? kv_format_parse(kv_opts_text(o, KV_OPT_FORMAT), &format, err)
                  : kv_fail(err, KV_EARG, "%zu cells are too many", most);
    kv_progress_init(&pg, kv_opts_flag(o, KV_OPT_QUIET) ? NULL : io->err, most,
                     most * (size_t)kv_opts_int(o, KV_OPT_REPS));
    if (rc == KV_OK && kv_buildinfo_warning()) kv_progress_note(&pg, "note: %s", kv_buildinfo_warning());
    for (size_t first = 0, last; rc == KV_OK && first < n_plan && !*io->cancel; first = last) {
        for (last = first;
             last < n_plan && plan[last].task == plan[first].task && plan[last].numerics == plan[first].numerics;)
            last++;
        for (size_t t = 0; rc == KV_OK && t < kv_opts_n(o, KV_OPT_THREADS) && !*io->cancel; t++) {
            rc = run_part(o, p, plan + first, last - first, (int)o->v[KV_OPT_THREADS].ints[t], rows + n_rows, &pg, io,
                          failed, err);
            n_rows += (last - first) * per_cell / kv_opts_n(o, KV_OPT_THREADS);
        }
    }
    kv_progress_clear(&pg);
    if (rc == KV_OK)
        rc = kv_table_print(io->out, format, fields, sizeof fields / sizeof *fields, rows, sizeof *rows, n_rows, err);
    free(rows);
    return rc;
}

/* A model that cannot be opened is said before another one is measured for minutes. */
static int check_models(const kv_opts *o, const kv_paths *p, size_t n, kv_error *err) {
    int rc = KV_OK;
    for (size_t i = 0; i < n && rc == KV_OK; i++) {
        kv_identity id = {0};
        rc = kv_identity_resolve(o, i, p, &id, err);
        if (rc == KV_OK) rc = kv_identity_load_tokenizer(&id, err);
        kv_identity_free(&id);
    }
    return rc;
}

int kv_cmd_speed(const kv_opts *o, const kv_paths *p, const kv_io *io, kv_error *err) {
    kv_axes a = {0};
    kv_plan_cell *plan = NULL;
    size_t n_plan = 0, n_models = kv_opts_n(o, KV_OPT_MODEL) ? kv_opts_n(o, KV_OPT_MODEL) : 1;
    int failed = 0, rc = kv_axes_read(o, &a, err);
    /* a "task" here is a model */
    if (rc == KV_OK) rc = kv_plan_cross(&a, n_models, 1, &plan, &n_plan, err);
    if (rc == KV_OK) rc = check_models(o, p, n_models, err);
    if (rc == KV_OK) rc = run_all(o, p, plan, n_plan, io, &failed, err);
    free(plan);
    kv_axes_free(&a);
    if (rc) return kv_exit_of(rc);
    if (*io->cancel) return KV_EXIT_INTERRUPTED;
    return failed ? KV_EXIT_FAILED : KV_EXIT_OK;
}
