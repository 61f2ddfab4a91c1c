/* tom_items.c - sources `tom` (released stories) and `tom_gen` (new ones of a chosen number of steps).
 *
 * A line of data holds the words of a story, its start ("0 1 0.1 1.0": the agents' rooms, then the objects' places),
 * its steps (tom.h) and whom and what is asked for.
 *
 * A new story has two agents, two objects, two rooms and two containers in each, as the released ones do.  Mostly the
 * agents take turns; what they do is drawn so that the shares come out near those of the 400 released stories (of all
 * steps 31% move, 18% carry an object along, 18% put one elsewhere in the room, 17% leave, 16% enter). */
#include "datasets/jsonl.h"
#include "datasets/rng.h"
#include "datasets/tom.h"

#include "engine/file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WORDS_FILE "data/tom_words.jsonl"

typedef struct {
    kv_tom *stories; /* (n) */
    cJSON **rows;    /* (n) released stories borrow their words from these */
    int n;
    cJSON *words[KV_TOM_KINDS]; /* of tom_gen: {"kind":..., "words":[...]} */
} stories;

static const char *const slots[] = {"story", "question", "answer", NULL};
static const char *const kinds[KV_TOM_KINDS] = {"agents", "objects", "rooms", "containers"};

static void close_stories(kv_source_state *s) {
    stories *w = s->impl;
    if (!w) return;
    for (int i = 0; i < w->n; i++) {
        if (w->stories) free(w->stories[i].steps);
        if (w->rows) cJSON_Delete(w->rows[i]);
    }
    for (int k = 0; k < KV_TOM_KINDS; k++) cJSON_Delete(w->words[k]);
    free(w->stories);
    free(w->rows);
    free(w);
    s->impl = NULL;
}

static int open_stories(int n, kv_source_state *out, kv_error *err) {
    stories *w = calloc(1, sizeof *w);
    out->impl = w;
    out->n_items = n;
    out->slots = slots;
    if (w) {
        w->n = n;
        w->stories = calloc((size_t)n, sizeof *w->stories);
        w->rows = calloc((size_t)n, sizeof *w->rows);
    }
    return w && w->stories && w->rows ? KV_OK : kv_fail(err, KV_ENOMEM, "no memory for %d stories", n);
}

static void story_item(const kv_source_state *s, int i, kv_text *values, void **data) {
    const kv_tom *t = &((const stories *)s->impl)->stories[i];
    kv_tom_write_story(t, &values[0]);
    kv_tom_write_question(t, &values[1]);
    kv_tom_write_answer(t, &values[2]);
    *data = NULL;
}

/* --- released stories ------------------------------------------------------------------------------------------ */

static int read_words(const cJSON *row, kv_tom *t) {
    for (int k = 0; k < KV_TOM_KINDS; k++) {
        const cJSON *c, *list = cJSON_GetObjectItemCaseSensitive(row, kinds[k]);
        if (!cJSON_IsArray(list)) return 0;
        cJSON_ArrayForEach(c, list) {
            const char *word = cJSON_GetStringValue(c);
            if (!word || !*word || t->n[k] == KV_TOM_WORDS) return 0;
            t->words[k][t->n[k]++] = word;
        }
        if (!t->n[k]) return 0;
    }
    return 1;
}

/* A digit below n at *s; moves *s behind it. */
static int take_index(const char **s, int n, int *out) {
    if (**s < '0' || **s >= '0' + n) return 0;
    *out = *(*s)++ - '0';
    return 1;
}

/* "0 1 0.1 1.0". */
static int read_start(const char *s, kv_tom *t) {
    int agents = t->n[KV_TOM_AGENTS], all = agents + t->n[KV_TOM_OBJECTS];
    for (int i = 0; i < all; i++) {
        kv_tom_place *p = i < agents ? NULL : &t->object_place[i - agents];
        if (i && *s++ != ' ') return 0;
        if (!take_index(&s, t->n[KV_TOM_ROOMS], p ? &p->room : &t->agent_room[i])) return 0;
        if (p && (*s++ != '.' || !take_index(&s, t->n[KV_TOM_CONTAINERS], &p->container))) return 0;
    }
    return !*s;
}

/* The number of the first step that cannot be, counted from 1; 0 when all are good. */
static int read_steps(const char *s, kv_tom *t) {
    kv_tom_state state;
    kv_tom_begin(t, &state);
    while (*s) {
        kv_tom_step *p = &t->steps[t->n_steps++];
        if (!kv_tom_parse_step(&s, p) || !kv_tom_apply(t, p, &state)) return t->n_steps;
        if (*s && !*++s) return t->n_steps + 1;
    }
    return 0;
}

static int is_index(const cJSON *c, int n) {
    return cJSON_IsNumber(c) && c->valuedouble == c->valueint && c->valueint >= 0 && c->valueint < n;
}

static int read_story(const cJSON *row, kv_tom *t, const char *where, kv_error *err) {
    const char *start = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(row, "start"));
    const char *steps = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(row, "steps"));
    const cJSON *ask = cJSON_GetObjectItemCaseSensitive(row, "ask");
    const cJSON *agent = cJSON_GetArrayItem(ask, 0), *object = cJSON_GetArrayItem(ask, 1);
    if (!start || !steps || !read_words(row, t) || !read_start(start, t) || cJSON_GetArraySize(ask) != 2 ||
        !is_index(agent, t->n[KV_TOM_AGENTS]) || !is_index(object, t->n[KV_TOM_OBJECTS]))
        return kv_fail(err, KV_EFORMAT, "%s: expected a story: agents, objects, rooms, containers, start, steps, ask",
                       where);
    t->agent = agent->valueint;
    t->object = object->valueint;
    t->steps = calloc(strlen(steps) / 2 + 1, sizeof *t->steps); /* a step has two characters at least */
    if (!t->steps) return kv_fail(err, KV_ENOMEM, "%s: no memory for the story", where);
    int bad = read_steps(steps, t);
    return bad ? kv_fail(err, KV_EFORMAT, "%s: step %d cannot be", where, bad) : KV_OK;
}

static int add_story(void *user, int i, const cJSON *row, const char *where, kv_error *err) {
    stories *w = user;
    w->rows[i] = cJSON_Duplicate(row, 1);
    return w->rows[i] ? read_story(w->rows[i], &w->stories[i], where, err)
                      : kv_fail(err, KV_ENOMEM, "%s: no memory for the story", where);
}

static int open_released(const kv_source_args *a, kv_source_state *out, kv_error *err) {
    int rc = open_stories(a->file->items, out, err);
    return rc ? rc : kv_jsonl_read(a, add_story, out->impl, out->sha256, err);
}

/* --- new stories ------------------------------------------------------------------------------------------------ */

static int add_words(void *user, int i, const cJSON *row, const char *where, kv_error *err) {
    stories *w = user;
    const cJSON *c, *words = cJSON_GetObjectItemCaseSensitive(row, "words");
    const char *kind = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(row, "kind"));
    int ok = kind && !strcmp(kind, kinds[i]) && cJSON_GetArraySize(words) >= 2;
    cJSON_ArrayForEach(c, words) ok = ok && cJSON_IsString(c);
    if (!ok) return kv_fail(err, KV_EFORMAT, "%s: expected {\"kind\":\"%s\",\"words\":[...]}", where, kinds[i]);
    w->words[i] = cJSON_Duplicate(words, 1);
    return w->words[i] ? KV_OK : kv_fail(err, KV_ENOMEM, "%s: no memory for the words", where);
}

static int elsewhere(kv_rng *rng, int n, int not ) {
    int i = (int)kv_rng_below(rng, (uint64_t)(n - 1));
    return i + (i >= not );
}

/* An object in the room, or -1. */
static int draw_object(kv_rng *rng, const kv_tom_state *s, int n, int room) {
    int here[KV_TOM_WORDS], k = 0;
    for (int i = 0; i < n; i++)
        if (s->object_place[i].room == room) here[k++] = i;
    return k ? here[kv_rng_below(rng, (uint64_t)k)] : -1;
}

static kv_tom_step draw_step(kv_rng *rng, const kv_tom *t, const kv_tom_state *s, int agent) {
    int room = s->agent_room[agent], share = (int)kv_rng_below(rng, 100), rooms = t->n[KV_TOM_ROOMS];
    kv_tom_step p = {.agent = agent, .object = -1};
    if (room < 0) {
        p.move = '+';
        p.room = (int)kv_rng_below(rng, (uint64_t)rooms);
        return p;
    }
    if (share >= 22 && share < 80) p.object = draw_object(rng, s, t->n[KV_TOM_OBJECTS], room);
    if (share >= 80) {
        p.move = '-';
    } else if (share < 51 || p.object < 0) { /* alone or with an object; to put one, there must be one */
        p.move = '>';
        p.room = elsewhere(rng, rooms, room);
        p.place = (kv_tom_place){p.room, (int)kv_rng_below(rng, (uint64_t)t->n[KV_TOM_CONTAINERS])};
    } else {
        p.place = (kv_tom_place){room, elsewhere(rng, t->n[KV_TOM_CONTAINERS], s->object_place[p.object].container)};
    }
    return p;
}

static void draw_story(kv_rng *rng, cJSON *const words[], kv_tom *t) {
    kv_tom_state s;
    for (int k = 0; k < KV_TOM_KINDS; k++) {
        int n = cJSON_GetArraySize(words[k]), a = (int)kv_rng_below(rng, (uint64_t)n), b = elsewhere(rng, n, a);
        t->n[k] = 2;
        t->words[k][0] = cJSON_GetStringValue(cJSON_GetArrayItem(words[k], a));
        t->words[k][1] = cJSON_GetStringValue(cJSON_GetArrayItem(words[k], b));
    }
    for (int i = 0; i < 2; i++) {
        t->agent_room[i] = (int)kv_rng_below(rng, 2);
        t->object_place[i].room = (int)kv_rng_below(rng, 2);
        t->object_place[i].container = (int)kv_rng_below(rng, 2);
    }
    t->agent = (int)kv_rng_below(rng, 2);
    t->object = (int)kv_rng_below(rng, 2);
    kv_tom_begin(t, &s);
    for (int i = 0, agent = 1; i < t->n_steps; i++) {
        if (kv_rng_below(rng, 8)) agent = !agent;
        t->steps[i] = draw_step(rng, t, &s, agent);
        kv_tom_apply(t, &t->steps[i], &s);
    }
}

static int open_generated(const kv_source_args *a, kv_source_state *out, kv_error *err) {
    int n = (int)kv_source_param(a, "n"), steps = (int)kv_source_param(a, "steps");
    kv_task_file words = *a->file;
    kv_source_args of_words = *a;
    char words_sha[65], text[200];
    char file[] = WORDS_FILE;
    words.data = file;
    words.items = KV_TOM_KINDS;
    of_words.file = &words;
    int rc = open_stories(n, out, err);
    stories *w = out->impl;
    if (!rc) rc = kv_jsonl_read(&of_words, add_words, w, words_sha, err);
    if (rc) return rc;
    snprintf(text, sizeof text, "tom_gen 1 %s n=%d steps=%d seed=%llu", words_sha, n, steps,
             (unsigned long long)a->seed);
    kv_sha256_bytes(text, strlen(text), out->sha256);
    for (int i = 0; i < n; i++) {
        kv_rng rng = kv_rng_open(a->seed, (uint64_t)i);
        w->stories[i].steps = calloc((size_t)steps, sizeof *w->stories[i].steps);
        if (!w->stories[i].steps) return kv_fail(err, KV_ENOMEM, "no memory for %d stories", n);
        w->stories[i].n_steps = steps;
        draw_story(&rng, w->words, &w->stories[i]);
    }
    return KV_OK;
}

static const char *const no_params[] = {NULL};
static const char *const gen_params[] = {"n", "steps", NULL};

const kv_source kv_source_tom = {.name = "tom",
                                 .params = no_params,
                                 .reads_data = 1,
                                 .open = open_released,
                                 .item = story_item,
                                 .close = close_stories};
const kv_source kv_source_tom_gen = {.name = "tom_gen",
                                     .params = gen_params,
                                     .seeded = 1,
                                     .open = open_generated,
                                     .item = story_item,
                                     .close = close_stories};
