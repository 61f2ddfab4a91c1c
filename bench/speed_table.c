/* speed_table.c - medians and ranges of a cell's repetitions, and how rows are printed. */
#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "bench/speed.h"
#include "bench/rows.h"

#define TEXT(name)                                                                                                     \
    { #name, KV_ROW_TEXT, offsetof(kv_speed_row, name), 0, 0 }
#define INT(name)                                                                                                      \
    { #name, KV_ROW_INT, offsetof(kv_speed_row, name), 0, 0 }
#define REAL(name, digits)                                                                                             \
    { #name, KV_ROW_REAL, offsetof(kv_speed_row, name), digits, 0 }
#define EXTRA_TEXT(name)                                                                                               \
    { #name, KV_ROW_TEXT, offsetof(kv_speed_row, name), 0, 1 }
#define EXTRA_INT(name)                                                                                                \
    { #name, KV_ROW_INT, offsetof(kv_speed_row, name), 0, 1 }
#define EXTRA_REAL(name)                                                                                               \
    { #name, KV_ROW_REAL, offsetof(kv_speed_row, name), 0, 1 }
static const kv_row_field fields[] = {
    TEXT(status),
    TEXT(model),
    TEXT(weights),
    TEXT(backend),
    TEXT(gpu),
    TEXT(numerics),
    EXTRA_TEXT(cache_type),
    INT(threads),
    TEXT(policy),
    INT(budget),
    INT(buffer),
    TEXT(prefill),
    INT(ctx),
    INT(batch),
    EXTRA_INT(batch_max),
    INT(max_new),
    REAL(prefill_tok_s, 1),
    EXTRA_REAL(prefill_min),
    EXTRA_REAL(prefill_max),
    REAL(decode_tok_s, 1),
    REAL(decode_min, 1),
    REAL(decode_max, 1),
    REAL(ms_per_step, 3),
    EXTRA_REAL(ms_min),
    EXTRA_REAL(ms_max),
    REAL(bytes_per_step, 0),
    REAL(gb_s, 2),
    REAL(copy_gb_s, 0),
    REAL(copy_share, 3),
    EXTRA_REAL(datasheet_gb_s),
    REAL(datasheet_share, 3),
    REAL(launches_per_step, 1),
    TEXT(score_path),
    EXTRA_REAL(slots_first),
    EXTRA_REAL(slots_last),
    REAL(peak_slots, 1),
    REAL(mean_slots, 1),
    INT(kv_bytes_peak),
    EXTRA_INT(kv_live_peak),
    EXTRA_INT(weight_bytes),
    EXTRA_REAL(mem_kv),
    EXTRA_REAL(mem_workspace),
    EXTRA_REAL(mem_graphs),
    EXTRA_REAL(mem_sum),
    EXTRA_REAL(device_free_before),
    EXTRA_REAL(device_free_after),
    EXTRA_REAL(device_used),
    EXTRA_REAL(mem_unaccounted),
    EXTRA_INT(evictions),
    EXTRA_INT(moved),
    EXTRA_INT(triggers),
    EXTRA_INT(page_allocs),
    EXTRA_INT(decode_allocs),
    EXTRA_INT(steps),
    EXTRA_INT(reps),
    EXTRA_INT(warmups),
    EXTRA_REAL(sm_clock_mhz),
    EXTRA_REAL(mem_clock_mhz),
    EXTRA_REAL(temp_c),
    TEXT(throttle),
    EXTRA_TEXT(driver),
    EXTRA_TEXT(logits_hash),
    EXTRA_TEXT(commit),
    EXTRA_TEXT(cpu),
    TEXT(error),
};

#define OP_TEXT(name)                                                                                                  \
    { #name, KV_ROW_TEXT, offsetof(kv_speed_op, name), 0, 0 }
#define OP_INT(name)                                                                                                   \
    { #name, KV_ROW_INT, offsetof(kv_speed_op, name), 0, 0 }
#define OP_REAL(name, digits)                                                                                          \
    { #name, KV_ROW_REAL, offsetof(kv_speed_op, name), digits, 0 }
static const kv_row_field op_fields[] = {
    OP_TEXT(policy),
    OP_INT(budget),
    OP_INT(buffer),
    OP_INT(ctx),
    OP_INT(batch),
    OP_TEXT(op),
    OP_REAL(calls_per_step, 2),
    OP_REAL(us_per_step, 2),
    OP_REAL(gb_s, 0),
    OP_REAL(copy_share, 3),
};

static int compare_doubles(const void *a, const void *b) {
    double x, y;
    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    return (x > y) - (x < y);
}

/* Median and range; the order of v stays. */
static void summarise(const double *v, int n, double *median, double *min, double *max) {
    *median = *min = *max = NAN;
    double *s = n ? malloc((size_t)n * sizeof *s) : NULL;
    if (!s) return;
    memcpy(s, v, (size_t)n * sizeof *s);
    qsort(s, (size_t)n, sizeof *s, compare_doubles);
    *min = s[0];
    *max = s[n - 1];
    *median = n % 2 ? s[n / 2] : (s[n / 2 - 1] + s[n / 2]) / 2;
    free(s);
}

void kv_speed_sum_up(kv_speed_cell *c) {
    kv_speed_row *r = c->row;
    double median, min, max, batch = (double)r->batch;
    r->reps = c->n_reps;
    summarise(c->prefill_s, c->n_prefill, &median, &min, &max);
    r->prefill_tok_s = (double)c->spec->ctx / median;
    r->prefill_min = (double)c->spec->ctx / max;
    r->prefill_max = (double)c->spec->ctx / min;
    summarise(c->step_s, c->n_reps, &median, &min, &max);
    r->decode_tok_s = batch / median;
    r->decode_min = batch / max;
    r->decode_max = batch / min;
    r->ms_per_step = 1e3 * median;
    r->ms_min = 1e3 * min;
    r->ms_max = 1e3 * max;
    r->gb_s = r->bytes_per_step / median / 1e9;
    r->copy_share = r->gb_s / r->copy_gb_s;
    r->datasheet_share = r->gb_s / r->datasheet_gb_s;
}

int kv_speed_print(FILE *f, kv_format format, const kv_speed_result *r, kv_error *err) {
    int rc = kv_rows_print(f, format, fields, sizeof fields / sizeof *fields, r->rows, sizeof *r->rows, r->n_rows, err);
    return rc || !r->n_ops ? rc : kv_speed_print_ops(f, format, r, err);
}

int kv_speed_print_ops(FILE *f, kv_format format, const kv_speed_result *r, kv_error *err) {
    if (format != KV_JSON) fputc('\n', f);
    return kv_rows_print(f, format, op_fields, sizeof op_fields / sizeof *op_fields, r->ops, sizeof *r->ops, r->n_ops,
                         err);
}
