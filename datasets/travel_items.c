/* travel_items.c - source `travel`: LongProc's trips from their constraints.
 *
 * A line of data is {"stays":[[city,days] or [city,days,first,last],...], "flights":[[from,to],...],
 * "plan":[[city,days],...], "problem": the question}.  The prompt's worked examples are the trips of EXAMPLES_FILE in
 * the same form; procedures and plans follow from the search (travel.h). */
#include "datasets/travel.h"

#include "datasets/jsonl.h"
#include "engine/file.h"

#include <stdlib.h>
#include <string.h>

#define EXAMPLES_FILE "data/travel_planning_examples.jsonl"
#define N_EXAMPLES 4
#define MAX_DAY 1000

typedef struct {
    cJSON **rows; /* (n) own the texts that the trips borrow */
    kv_travel *trips;
    int n;
} trips;

typedef struct {
    trips items, examples;
    kv_text demonstration;
} travel;

static const char *const slots[] = {"problem", "examples", "procedure", NULL};

static void free_trips(trips *t) {
    for (int i = 0; t->rows && i < t->n; i++) cJSON_Delete(t->rows[i]);
    for (int i = 0; t->trips && i < t->n; i++) {
        free(t->trips[i].flights);
        free(t->trips[i].procedure);
    }
    free(t->rows);
    free(t->trips);
}

static void close_travel(kv_source_state *s) {
    travel *v = s->impl;
    if (!v) return;
    free_trips(&v->items);
    free_trips(&v->examples);
    kv_text_free(&v->demonstration);
    free(v);
    s->impl = NULL;
}

static int is_day(const cJSON *c) {
    return cJSON_IsNumber(c) && c->valuedouble == c->valueint && c->valueint >= 1 && c->valueint <= MAX_DAY;
}

/* [city,days] or, where fixed days are allowed, [city,days,first,last]. */
static int read_stay(const cJSON *c, int may_be_fixed, kv_travel_stay *out) {
    const cJSON *days = cJSON_GetArrayItem(c, 1), *first = cJSON_GetArrayItem(c, 2), *last = cJSON_GetArrayItem(c, 3);
    const char *city = cJSON_GetStringValue(cJSON_GetArrayItem(c, 0));
    int n = cJSON_GetArraySize(c);
    if (!city || !is_day(days) || (n != 2 && (n != 4 || !may_be_fixed))) return 0;
    *out = (kv_travel_stay){.city = city, .days = days->valueint};
    if (n == 2) return 1;
    if (!is_day(first) || !is_day(last) || last->valueint < first->valueint) return 0;
    out->first = first->valueint;
    out->last = last->valueint;
    return 1;
}

static int read_trip(const cJSON *row, kv_travel *t) {
    const cJSON *c, *stays = cJSON_GetObjectItemCaseSensitive(row, "stays");
    const cJSON *flights = cJSON_GetObjectItemCaseSensitive(row, "flights");
    const cJSON *plan = cJSON_GetObjectItemCaseSensitive(row, "plan");
    int n = cJSON_GetArraySize(stays), k = 0;
    if (n < 1 || n > KV_TRAVEL_CITIES || cJSON_GetArraySize(plan) != n || !cJSON_IsArray(flights)) return 0;
    cJSON_ArrayForEach(c, stays) if (!read_stay(c, 1, &t->stays[t->n_cities++])) return 0;
    cJSON_ArrayForEach(c, plan) if (!read_stay(c, 0, &t->plan[k++])) return 0;
    t->flights = calloc((size_t)cJSON_GetArraySize(flights) + 1, sizeof *t->flights);
    if (!t->flights) return 0;
    cJSON_ArrayForEach(c, flights) {
        const char *from = cJSON_GetStringValue(cJSON_GetArrayItem(c, 0));
        const char *to = cJSON_GetStringValue(cJSON_GetArrayItem(c, 1));
        if (!from || !to) return 0;
        t->flights[t->n_flights++] = (kv_travel_flight){from, to};
    }
    return 1;
}

static const char *problem_of(const cJSON *row) {
    return cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(row, "problem"));
}

static int add_trip(void *user, int i, const cJSON *row, const char *where, kv_error *err) {
    trips *t = user;
    kv_text procedure = {0};
    t->rows[i] = cJSON_Duplicate(row, 1);
    if (!t->rows[i]) return kv_fail(err, KV_ENOMEM, "%s: no memory for the trip", where);
    if (!problem_of(t->rows[i]) || !read_trip(t->rows[i], &t->trips[i]))
        return kv_fail(err, KV_EFORMAT, "%s: expected a trip: stays, flights, plan, problem", where);
    int found = kv_travel_write(&t->trips[i], &procedure);
    int rc = kv_text_take(&procedure, "a procedure", &t->trips[i].procedure, err);
    return rc || found ? rc : kv_fail(err, KV_EFORMAT, "%s: the search does not find the expected plan", where);
}

static int read_trips(const kv_source_args *a, trips *t, char sha256[65], kv_error *err) {
    t->n = a->file->items;
    t->rows = calloc((size_t)t->n, sizeof *t->rows);
    t->trips = calloc((size_t)t->n, sizeof *t->trips);
    if (!t->rows || !t->trips) return kv_fail(err, KV_ENOMEM, "no memory for %d trips", t->n);
    return kv_jsonl_read(a, add_trip, t, sha256, err);
}

static int open_travel(const kv_source_args *a, kv_source_state *out, kv_error *err) {
    char file[] = EXAMPLES_FILE, sums[2 * 65];
    kv_task_file of_examples = *a->file;
    kv_source_args b = *a;
    travel *v = calloc(1, sizeof *v);
    out->impl = v;
    out->n_items = a->file->items;
    out->slots = slots;
    if (!v) return kv_fail(err, KV_ENOMEM, "no memory for %d trips", a->file->items);
    of_examples.data = file;
    of_examples.items = N_EXAMPLES;
    b.file = &of_examples;
    int rc = read_trips(a, &v->items, sums, err);
    if (!rc) rc = read_trips(&b, &v->examples, sums + 64, err);
    if (rc) return rc;
    kv_sha256_bytes(sums, strlen(sums), out->sha256);
    for (int i = 0; i < N_EXAMPLES; i++) {
        kv_text_puts(&v->demonstration, i ? "\n\n# Example\n" : "# Example\n");
        kv_text_puts(&v->demonstration, problem_of(v->examples.rows[i]));
        kv_text_puts(&v->demonstration, "\n\n");
        kv_text_puts(&v->demonstration, v->examples.trips[i].procedure);
    }
    return v->demonstration.failed ? kv_fail(err, KV_ENOMEM, "no memory for the worked examples") : KV_OK;
}

static void travel_item(const kv_source_state *s, int i, kv_text *values, void **data) {
    travel *v = s->impl;
    kv_text_puts(&values[0], problem_of(v->items.rows[i]));
    kv_text_puts(&values[1], v->demonstration.s);
    kv_text_puts(&values[2], v->items.trips[i].procedure);
    *data = &v->items.trips[i];
}

static const char *const no_params[] = {NULL};

const kv_source kv_source_travel = {.name = "travel",
                                    .params = no_params,
                                    .reads_data = 1,
                                    .data_kind = "travel",
                                    .open = open_travel,
                                    .item = travel_item,
                                    .close = close_travel};
