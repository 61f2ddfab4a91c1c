/* countdown_items.c - sources `countdown` (released problems) and `countdown_gen` (new ones of a wanted length).
 *
 * The released files only give numbers and target; everything else follows from the search (countdown.h).  A new
 * problem is four numbers of 1..49 and a target of 10..50, the ranges of the released files, drawn again until the
 * search succeeds with min_lines..max_lines lines: so the length of the answer, and with it of the decode, is chosen
 * freely. */
#include "datasets/countdown.h"
#include "datasets/jsonl.h"
#include "datasets/rng.h"

#include "engine/file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_DRAWS 200000 /* about a second; ranges that hold any useful share of the problems need a few thousand */

typedef struct {
    kv_countdown *problems;
    kv_text examples; /* the worked examples of the official prompt */
} problems;

static const char *const slots[] = {"nums", "target", "solution", "examples", NULL};

static void close_problems(kv_source_state *s) {
    problems *p = s->impl;
    if (!p) return;
    free(p->problems);
    kv_text_free(&p->examples);
    free(p);
    s->impl = NULL;
}

static int open_problems(int n, kv_source_state *out, kv_error *err) {
    problems *p = calloc(1, sizeof *p);
    out->impl = p;
    out->n_items = n;
    out->slots = slots;
    if (p) {
        p->problems = calloc((size_t)n, sizeof *p->problems);
        kv_countdown_examples(&p->examples);
    }
    if (!p || !p->problems || p->examples.failed) return kv_fail(err, KV_ENOMEM, "no memory for %d problems", n);
    return KV_OK;
}

static int is_whole(const cJSON *c, int min, int max) {
    return cJSON_IsNumber(c) && c->valuedouble >= min && c->valuedouble <= max && c->valuedouble == (int)c->valuedouble;
}

static int add_problem(void *user, int i, const cJSON *row, const char *where, kv_error *err) {
    kv_countdown *p = &((problems *)user)->problems[i];
    const cJSON *nums = cJSON_GetObjectItemCaseSensitive(row, "nums");
    const cJSON *target = cJSON_GetObjectItemCaseSensitive(row, "target");
    kv_countdown_result r;
    int ok = cJSON_IsArray(nums) && cJSON_GetArraySize(nums) == 4 && is_whole(target, 0, KV_COUNTDOWN_MAX - 1) &&
             cJSON_GetArraySize(row) == 2;
    for (int k = 0; ok && k < 4; k++) {
        const cJSON *c = cJSON_GetArrayItem(nums, k);
        ok = is_whole(c, 0, KV_COUNTDOWN_MAX - 1);
        if (ok) p->nums[k] = c->valueint;
    }
    if (!ok)
        return kv_fail(err, KV_EFORMAT, "%s: expected {\"nums\":[a,b,c,d],\"target\":t} with whole numbers 0..%d",
                       where, KV_COUNTDOWN_MAX - 1);
    p->target = target->valueint;
    kv_countdown_search(p, NULL, &r);
    return r.solved ? KV_OK : kv_fail(err, KV_EFORMAT, "%s: the numbers cannot reach the target", where);
}

static int open_released(const kv_source_args *a, kv_source_state *out, kv_error *err) {
    int rc = open_problems(a->file->items, out, err);
    return rc ? rc : kv_jsonl_read(a, add_problem, out->impl, out->sha256, err);
}

/* Problem i of the seed.  KV_ELIMIT when the range of lengths is too rare. */
static int draw(const kv_source_args *a, int i, kv_countdown *p, kv_error *err) {
    int min = (int)kv_source_param(a, "min_lines"), max = (int)kv_source_param(a, "max_lines");
    kv_rng rng = kv_rng_open(a->seed, (uint64_t)i);
    for (int n = 0; n < MAX_DRAWS; n++) {
        kv_countdown_result r;
        for (int k = 0; k < 4; k++) p->nums[k] = 1 + (int)kv_rng_below(&rng, 49);
        p->target = 10 + (int)kv_rng_below(&rng, 41);
        kv_countdown_search(p, NULL, &r);
        if (r.solved && r.lines >= min && r.lines <= max) return KV_OK;
    }
    return kv_fail(
        err, KV_ELIMIT,
        "countdown_gen: item %d: no problem with %d to %d search lines in %d draws; widen min_lines..max_lines", i, min,
        max, MAX_DRAWS);
}

static int open_generated(const kv_source_args *a, kv_source_state *out, kv_error *err) {
    int n = (int)kv_source_param(a, "n"), rc = KV_OK;
    int min = (int)kv_source_param(a, "min_lines"), max = (int)kv_source_param(a, "max_lines");
    char text[160];
    if (min > max)
        return kv_fail(err, KV_EARG, "countdown_gen: min_lines=%d is above max_lines=%d; give min_lines <= max_lines",
                       min, max);
    snprintf(text, sizeof text, "countdown_gen 1 n=%d min_lines=%d max_lines=%d seed=%llu", n, min, max,
             (unsigned long long)a->seed);
    kv_sha256_bytes(text, strlen(text), out->sha256);
    rc = open_problems(n, out, err);
    for (int i = 0; i < n && !rc; i++) rc = draw(a, i, &((problems *)out->impl)->problems[i], err);
    return rc;
}

static void problem_item(const kv_source_state *s, int i, kv_text *values, void **data) {
    problems *all = s->impl;
    kv_countdown *p = &all->problems[i];
    kv_countdown_result r;
    kv_countdown_search(p, NULL, &r);
    kv_countdown_list(p->nums, 4, &values[0]);
    kv_text_printf(&values[1], "%d", p->target);
    kv_text_printf(&values[2], "%s\n%s\n%s", r.eq[0], r.eq[1], r.eq[2]);
    kv_text_append(&values[3], all->examples.s, all->examples.n);
    *data = p;
}

static const char *const no_params[] = {NULL};
static const char *const gen_params[] = {"n", "min_lines", "max_lines", NULL};

const kv_source kv_source_countdown = {.name = "countdown",
                                       .params = no_params,
                                       .reads_data = 1,
                                       .data_kind = "countdown",
                                       .open = open_released,
                                       .item = problem_item,
                                       .close = close_problems};
const kv_source kv_source_countdown_gen = {.name = "countdown_gen",
                                           .params = gen_params,
                                           .seeded = 1,
                                           .data_kind = "countdown",
                                           .open = open_generated,
                                           .item = problem_item,
                                           .close = close_problems};
