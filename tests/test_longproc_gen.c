/* test_longproc_gen.c - generated routes and stories: the same bytes for the same seed, as long as the released ones,
 * and solved here again from the prompt's text alone. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "datasets/task.h"
#include "datasets/text.h"
#include "engine/file.h"

#define ROOT KV_SOURCE_DIR "/datasets"

static kv_task *open_task(const char *spec, const char *variant, uint64_t seed) {
    kv_task_options o = {.root = ROOT, .variant = variant, .seed = seed};
    kv_error err = {0};
    kv_task *t = NULL;
    if (kv_task_open(spec, &o, &t, &err)) fail_msg("%s: %s", spec, err.text);
    return t;
}

static void item_of(kv_task *t, int i, kv_item *it) {
    kv_error err;
    if (kv_task_item(t, i, it, &err)) fail_msg("%s", err.text);
}

/* --- seeds -----------------------------------------------------------------------------------------------------------
 */

static void hash_items(const char *spec, int n, uint64_t seed, char hex[65]) {
    kv_task *t = open_task(spec, "official", seed);
    kv_text all = {0};
    for (int i = 0; i < n; i++) {
        kv_item it;
        item_of(t, i, &it);
        kv_text_puts(&all, it.prompt);
        kv_text_puts(&all, it.gold);
        kv_item_free(&it);
    }
    kv_sha256_bytes(all.s, all.n, hex);
    kv_text_free(&all);
    kv_task_close(t);
}

static void a_seed_gives_the_same_bytes_everywhere(void **state) {
    static const struct {
        const char *spec, *sha256;
    } cases[] = {
        {"path_traversal_gen:n=5", "2889f8f63461c24b8f21be318d53e8c2419263aa173f2378a57b7b2b27fe2d97"},
        {"path_traversal_gen:n=5:cities=900:max_steps=60",
         "88f824fb12bd62e52079bca922ac5364cc274474849fd7492d14cb7b97b4e0e0"},
        {"tom_tracking_gen:n=5", "c690c586ccf18a010a31b84340fbf3000a7cbfcdac8fc73f2c16d533bd8322e5"},
    };
    char a[65], b[65];
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        hash_items(cases[i].spec, 5, 1, a);
        if (strcmp(a, cases[i].sha256)) fail_msg("%s: %s", cases[i].spec, a);
        hash_items(cases[i].spec, 5, 2, b);
        assert_string_not_equal(a, b);
    }
    hash_items("tom_tracking_gen:n=3", 3, 7, a);
    hash_items("tom_tracking_gen:n=90", 3, 7, b);
    assert_string_equal(a, b);
    hash_items("path_traversal_gen:n=3", 3, 7, a);
    hash_items("path_traversal_gen:n=90", 3, 7, b);
    assert_string_equal(a, b);
}

/* --- lengths ---------------------------------------------------------------------------------------------------------
 */

static void mean_lengths(const char *spec, double *prompt, double *gold) {
    kv_task *t = open_task(spec, "official", 0);
    int n = kv_task_get_info(t)->n_items;
    *prompt = *gold = 0;
    for (int i = 0; i < n; i++) {
        kv_item it;
        item_of(t, i, &it);
        *prompt += (double)strlen(it.prompt) / n;
        *gold += (double)strlen(it.gold) / n;
        kv_item_free(&it);
    }
    kv_task_close(t);
}

static void texts_are_as_long_as_the_released_ones(void **state) {
    static const char *const pairs[][2] = {{"path_traversal_gen", "path_traversal_0.5k"},
                                           {"tom_tracking_gen", "tom_tracking_0.5k"},
                                           {"tom_tracking_gen:steps=40", "tom_tracking_2k"}};
    (void)state;
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        double prompt, gold, want_prompt, want_gold;
        mean_lengths(pairs[i][0], &prompt, &gold);
        mean_lengths(pairs[i][1], &want_prompt, &want_gold);
        if (fabs(prompt / want_prompt - 1) > 0.02 || fabs(gold / want_gold - 1) > 0.02)
            fail_msg("%s: %.0f and %.0f bytes, released %.0f and %.0f", pairs[i][0], prompt, gold, want_prompt,
                     want_gold);
    }
}

/* --- routes, from the prompt's sentences
 * ------------------------------------------------------------------------------ */

typedef struct {
    char from[64], to[64], by[16];
} edge;

/* The connections of the problem part of the prompt. */
static int read_edges(const char *prompt, edge *out, int max) {
    int n = 0;
    for (const char *s = prompt; (s = strstr(s, "You can travel from ")); n++) {
        assert_true(n < max);
        s += strlen("You can travel from ");
        const char *to = strstr(s, " to "), *by = strstr(s, " by "), *end = strchr(s, '\n');
        snprintf(out[n].from, sizeof out[n].from, "%.*s", (int)(to - s), s);
        snprintf(out[n].to, sizeof out[n].to, "%.*s", (int)(by - to - 4), to + 4);
        snprintf(out[n].by, sizeof out[n].by, "%.*s", (int)(end - by - 5), by + 4);
    }
    return n;
}

static void check_route(const kv_item *it, int cities, int min_steps, int max_steps) {
    edge *edges = calloc((size_t)cities + 1, sizeof *edges);
    const char *problem = strstr(it->prompt, "[PROBLEM]"), *find = strstr(problem, "Now find the route from ");
    char at[64], dst[64];
    int steps = 0, n = read_edges(problem, edges, cities + 1);
    kv_text route = {0};
    assert_int_equal(n, cities);
    find += strlen("Now find the route from ");
    const char *to = strstr(find, " to "), *end = strstr(find, " based on");
    snprintf(at, sizeof at, "%.*s", (int)(to - find), find);
    snprintf(dst, sizeof dst, "%.*s", (int)(end - to - 4), to + 4);
    for (int i = 0; i < n; i++)
        for (int k = 0; k < i; k++) assert_string_not_equal(edges[i].from, edges[k].from);
    for (int i = 0; i < n; i++) assert_string_not_equal(edges[i].to, at); /* nothing enters the first city */
    for (; strcmp(at, dst) && steps <= n; steps++) {
        int i = 0;
        while (i < n && strcmp(edges[i].from, at)) i++;
        assert_true(i < n);
        kv_text_printf(&route, "%sFrom %s, take a %s to %s.", steps ? "\n" : "", at, edges[i].by, edges[i].to);
        snprintf(at, sizeof at, "%s", edges[i].to);
    }
    assert_in_range(steps, min_steps, max_steps);
    assert_string_equal(route.s, it->gold);
    kv_text_free(&route);
    free(edges);
}

static void routes_follow_from_the_sentences(void **state) {
    static const struct {
        const char *spec;
        int cities, min, max;
    } cases[] = {{"path_traversal_gen:n=40", 49, 24, 39},
                 {"path_traversal_gen:n=5:cities=900:min_steps=400:max_steps=420", 900, 400, 420},
                 {"path_traversal_gen:n=20:cities=1:min_steps=1:max_steps=1", 1, 1, 1},
                 {"path_traversal_gen:n=20:cities=3:min_steps=1:max_steps=3", 3, 1, 3}};
    (void)state;
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        kv_task *t = open_task(cases[k].spec, "official", 3);
        for (int i = 0; i < kv_task_get_info(t)->n_items; i++) {
            kv_item it;
            item_of(t, i, &it);
            check_route(&it, cases[k].cities, cases[k].min, cases[k].max);
            kv_item_free(&it);
        }
        kv_task_close(t);
    }
}

/* --- stories, from their sentences
 * ------------------------------------------------------------------------------------ */

/* Whether the text at s begins with the words; moves behind them. */
static int take(const char **s, const char *words) {
    size_t n = strlen(words);
    if (strncmp(*s, words, n)) return 0;
    *s += n;
    return 1;
}

/* Copies up to the next of the marks. */
static void take_name(const char **s, const char *marks, char out[64]) {
    size_t n = 0;
    for (const char *p = *s;; p++, n++)
        if (!*p || strchr(marks, *p)) break;
    assert_true(n > 0 && n < 64);
    memcpy(out, *s, n);
    out[n] = 0;
    *s += n;
}

typedef struct {
    char who[64], what[64];            /* of the question */
    char at[64], lies[64], belief[64]; /* where who is, what lies, and who believes it lies */
} view;

/* One sentence of a step; "the X's Y" is a place, "the X" a room. */
static void follow(const char *s, view *v) {
    char name[64], place[64];
    if (take(&s, "the ")) { /* Step 0: the object is on the place */
        const char *is = strstr(s, " is on the ");
        int mine = (size_t)(is - s) == strlen(v->what) && !strncmp(s, v->what, strlen(v->what));
        s = is + strlen(" is on the ");
        take_name(&s, ";.\n", place);
        if (mine) strcpy(v->lies, place);
        return;
    }
    take_name(&s, " ", name);
    int mine = !strcmp(name, v->who);
    if (take(&s, " is in the ") || take(&s, " enters the ") || (!strstr(s, "'s") && take(&s, " moves to the "))) {
        take_name(&s, ";.,\n", place);
        if (mine) strcpy(v->at, place);
    } else if (take(&s, " leaves the room he was in")) {
        if (mine) strcpy(v->at, "None");
    } else {
        if (take(&s, " moves to the ")) {
            take_name(&s, ",", place);
            if (mine) strcpy(v->at, place);
            assert_true(take(&s, ", and"));
        }
        assert_true(take(&s, " moves the "));
        const char *to = strstr(s, " to the ");
        int object = (size_t)(to - s) == strlen(v->what) && !strncmp(s, v->what, strlen(v->what));
        s = to + strlen(" to the ");
        take_name(&s, ".\n", place);
        if (object) strcpy(v->lies, place);
    }
}

static int is_seen(const view *v) {
    size_t n = strlen(v->at);
    return !strncmp(v->lies, v->at, n) && !strncmp(v->lies + n, "'s ", 3);
}

static void write_line(const view *v, const view *before, int step, kv_text *out) {
    kv_text_printf(out, "- Step %d: (", step);
    if (step)
        kv_text_printf(out, "%s location %s; %s location %s", v->who,
                       strcmp(v->at, before->at) ? "changed" : "unchanged", v->what,
                       strcmp(v->lies, before->lies) ? "changed" : "unchanged");
    else
        kv_text_puts(out, "initial state");
    kv_text_printf(out, ") {%s location: %s; %s location: %s; ", v->who, v->at, v->what, v->lies);
    kv_text_printf(out, "%s sees %s: %s; %s's belief on %s: %s}\n", v->who, v->what, is_seen(v) ? "True" : "False",
                   v->who, v->what, v->belief);
}

static void check_story(const kv_item *it, int steps) {
    const char *story = strstr(it->prompt, "[STORY]\n") + 8, *question = strstr(it->prompt, "[QUESTION]\nWhere does ");
    view v = {.belief = "None"};
    kv_text answer = {0};
    int n = 0;
    question += strlen("[QUESTION]\nWhere does ");
    take_name(&question, " ", v.who);
    assert_true(take(&question, " believe the "));
    const char *is = strstr(question, " is?");
    snprintf(v.what, sizeof v.what, "%.*s", (int)(is - question), question);
    kv_text_printf(&answer, "%s's belief on the %s:\n", v.who, v.what);
    for (const char *s = story; !strncmp(s, "Step ", 5); n++) {
        view before = v;
        const char *end = strchr(s, '\n');
        char line[600];
        snprintf(line, sizeof line, "%.*s", (int)(end - s), s);
        for (char *part = strstr(line, ": ") + 2, *next; part; part = next) {
            next = strstr(part, "; ");
            if (next) *next = 0, next += 2;
            follow(part, &v);
        }
        if (is_seen(&v)) strcpy(v.belief, v.lies);
        write_line(&v, &before, n, &answer);
        s = end + 1;
    }
    assert_int_equal(n, steps + 1);
    kv_text_printf(&answer, "Final Answer: %s%s", strcmp(v.belief, "None") ? "the " : "", v.belief);
    assert_string_equal(answer.s, it->gold);
    kv_text_free(&answer);
}

static void answers_follow_from_the_sentences(void **state) {
    static const struct {
        const char *spec;
        int steps;
    } cases[] = {
        {"tom_tracking_gen", 10}, {"tom_tracking_gen:n=30:steps=160", 160}, {"tom_tracking_gen:n=50:steps=1", 1}};
    (void)state;
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        kv_task *t = open_task(cases[k].spec, NULL, 5);
        for (int i = 0; i < kv_task_get_info(t)->n_items; i++) {
            kv_item it;
            item_of(t, i, &it);
            check_story(&it, cases[k].steps);
            kv_item_free(&it);
        }
        kv_task_close(t);
    }
}

static void refuses_what_it_cannot_draw(void **state) {
    static const char *const cases[][2] = {
        {"path_traversal_gen:min_steps=40", "needs min_steps <= max_steps <= cities, not 40, 39, 49"},
        {"path_traversal_gen:cities=30", "needs min_steps <= max_steps <= cities, not 24, 39, 30"},
        {"path_traversal_gen:cities=5001", "cities=5001 is no whole number of 1..5000"},
        {"tom_tracking_gen:steps=0", "steps=0 is no whole number of 1..2000"},
        {"tom_tracking_gen:agents=3", "no parameter 'agents'; it takes n (1..10000, default 200), steps ("},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        kv_task_options o = {.root = ROOT};
        kv_error err = {0};
        kv_task *t = NULL;
        assert_int_equal(kv_task_open(cases[i][0], &o, &t, &err), KV_EARG);
        if (!strstr(err.text, cases[i][1])) fail_msg("%s: %s", cases[i][0], err.text);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_seed_gives_the_same_bytes_everywhere),
        cmocka_unit_test(texts_are_as_long_as_the_released_ones),
        cmocka_unit_test(routes_follow_from_the_sentences),
        cmocka_unit_test(answers_follow_from_the_sentences),
        cmocka_unit_test(refuses_what_it_cannot_draw),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
