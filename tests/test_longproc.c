/* test_longproc.c - LongProc's tasks against LongProc: every prompt and reference is the upstream one, every reference
 * scores 1, and the graders say of damaged answers what the published evaluators say (tests/golden/longproc*, made by
 * scripts/golden_longproc.py). */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "datasets/countdown.h"
#include "datasets/task.h"
#include "engine/file.h"
#include "tests/support/golden.h"
#include "tests/support/scratch.h"

#define ROOT KV_SOURCE_DIR "/datasets"

static kv_task *open_task(const char *root, const char *spec) {
    kv_task_options o = {.root = root};
    kv_error err = {0};
    kv_task *t = NULL;
    if (kv_task_open(spec, &o, &t, &err)) fail_msg("%s: %s", spec, err.text);
    return t;
}

static void item_of(kv_task *t, int i, kv_item *it) {
    kv_error err;
    if (kv_task_item(t, i, it, &err)) fail_msg("%s", err.text);
}

/* What a perfect model would answer. */
static char *perfect_answer(const kv_task *t, const kv_item *it) {
    const char *grader = kv_task_get_info(t)->grader;
    kv_text a = {0};
    if (!strcmp(grader, "countdown")) {
        kv_countdown_write(it->data, KV_COUNTDOWN_OFFICIAL, &a);
    } else {
        int tsv = !strcmp(grader, "html_to_tsv"), cpp = !strcmp(grader, "pseudo_to_code");
        int route = !strcmp(grader, "path_traversal");
        kv_text_puts(&a, tsv ? "```tsv\n" : cpp ? "```cpp\n" : route ? "<Route>\n" : "");
        kv_text_puts(&a, it->gold);
        kv_text_puts(&a, tsv || cpp ? "\n```" : route ? "\n</Route>" : "");
    }
    assert_false(a.failed);
    return a.s;
}

/* --- prompts and references --------------------------------------------------------------------------------------- */

static void add_text(kv_text *all, const char *s) {
    kv_text_append(all, s, strlen(s) + 1);
}

static void prompts_and_references_are_the_upstream_ones(void **state) {
    FILE *f = fopen("golden/longproc.sha256", "r");
    char want[65], hex[65], task[40];
    int n, rows = 0;
    (void)state;
    assert_non_null(f);
    while (fscanf(f, "%64s %39s %d", want, task, &n) == 3) {
        kv_task *t = open_task(ROOT, task);
        kv_text all = {0};
        assert_int_equal(kv_task_get_info(t)->n_items, n);
        for (int i = 0; i < n; i++) {
            kv_item it;
            item_of(t, i, &it);
            add_text(&all, it.prompt);
            /* only these ask after their text: --query after reduces the page before the instruction is seen */
            const char *question = it.prompt + it.question_at;
            if (strncmp(task, "html_to_tsv", 11) ? *question != 0 : strncmp(question, "[TARGET INFORMATION]\n", 21))
                fail_msg("%s %d: the question starts elsewhere", task, i);
            if (strncmp(task, "countdown", 9)) add_text(&all, it.gold);
            kv_item_free(&it);
        }
        assert_false(all.failed);
        kv_sha256_bytes(all.s, all.n, hex);
        if (strcmp(hex, want)) fail_msg("%s: prompts or references differ from upstream's", task);
        kv_text_free(&all);
        kv_task_close(t);
        rows++;
    }
    fclose(f);
    assert_int_equal(rows, 8);
}

/* --- scores ---------------------------------------------------------------------------------------------------------
 */

static void every_reference_scores_one_and_a_damaged_one_less(void **state) {
    static const char *const tasks[] = {"html_to_tsv_0.5k", "html_to_tsv_2k",
                                        "html_to_tsv_8k",   "tom_tracking_0.5k",
                                        "tom_tracking_2k",  "tom_tracking_gen:n=50:steps=60",
                                        "countdown_8k",     "path_traversal_gen:n=50:cities=300:max_steps=200"};
    (void)state;
    for (size_t k = 0; k < sizeof tasks / sizeof *tasks; k++) {
        kv_task *t = open_task(ROOT, tasks[k]);
        for (int i = 0; i < kv_task_get_info(t)->n_items; i++) {
            kv_item it;
            kv_grade g;
            item_of(t, i, &it);
            char *answer = perfect_answer(t, &it);
            kv_task_grade(t, &it, answer, &g);
            if (g.score != 1 || g.compat != 1 || g.partial != 1 || !g.answered || g.reason)
                fail_msg("%s item %d: its reference scores %g (%s)", tasks[k], i, g.score, g.reason);
            /* in a table the first row, else the last line, its end mark, or the end of a block */
            char *row = strncmp(tasks[k], "html", 4) ? NULL : strchr(strchr(answer, '\n') + 1, '\n');
            memcpy(row ? row + 1 : strrchr(answer, '\n') - 2, "ZZ", 2);
            kv_task_grade(t, &it, answer, &g);
            if (g.score >= 1) fail_msg("%s item %d: a damaged reference scores", tasks[k], i);
            kv_task_grade(t, &it, "", &g);
            if (g.score != 0 || g.compat != 0 || g.partial != 0 || g.answered)
                fail_msg("%s item %d: silence scores", tasks[k], i);
            free(answer);
            kv_item_free(&it);
        }
        kv_task_close(t);
    }
}

/* --- the published evaluators ---------------------------------------------------------------------------------------
 */

static char *edit(char *text, const cJSON *edits) {
    const cJSON *e;
    cJSON_ArrayForEach(e, edits) {
        size_t n = strlen(text), at = (size_t)cJSON_GetArrayItem(e, 0)->valueint;
        size_t gone = (size_t)cJSON_GetArrayItem(e, 1)->valueint;
        const char *add = cJSON_GetArrayItem(e, 2)->valuestring;
        assert_true(at + gone <= n);
        char *out = malloc(n - gone + strlen(add) + 1);
        assert_non_null(out);
        memcpy(out, text, at);
        strcpy(out + at, add);
        strcat(out, text + at + gone);
        free(text);
        text = out;
    }
    return text;
}

static void check_verdict(kv_task *t, const cJSON *row, int line) {
    const char *name = gj_get(row, "task")->valuestring;
    const cJSON *verdict = gj_get(row, "verdict");
    double compat = cJSON_GetArrayItem(verdict, 0)->valuedouble, partial = cJSON_GetArrayItem(verdict, 1)->valuedouble;
    kv_item it;
    kv_grade g;
    item_of(t, (int)gj_number(row, "item"), &it);
    char *answer = edit(perfect_answer(t, &it), gj_get(row, "edits"));
    kv_task_grade(t, &it, answer, &g);
    if (fabs(g.compat - compat) > 1e-12) fail_msg("line %d, %s: %g, published %g", line, name, g.compat, compat);
    /* html_to_tsv has no partial score; countdown's is negative for a bare first line, 0 here */
    if (strncmp(name, "html", 4) && fabs(g.partial - fmax(partial, 0)) > 1e-12)
        fail_msg("line %d, %s: partial %g, published %g", line, name, g.partial, partial);
    free(answer);
    kv_item_free(&it);
}

/* The rows of golden/longproc.jsonl of one task; root holds it. */
static int check_verdicts(const char *task, const char *root, const char *spec) {
    char *text = NULL;
    size_t size;
    int n = 0, line_number = 0;
    assert_int_equal(kv_read_file("golden/longproc.jsonl", &text, &size, NULL), KV_OK);
    kv_task *t = open_task(root, spec);
    for (char *line = text, *next; *line; line = next) {
        next = line + strcspn(line, "\n");
        if (*next) *next++ = 0;
        cJSON *row = cJSON_Parse(line);
        assert_non_null(row);
        line_number++;
        if (!strcmp(gj_get(row, "task")->valuestring, task)) {
            check_verdict(t, row, line_number);
            n++;
        }
        cJSON_Delete(row);
    }
    kv_task_close(t);
    free(text);
    return n;
}

static void tables_are_judged_as_published(void **state) {
    (void)state;
    assert_int_equal(check_verdicts("html_to_tsv_0.5k", ROOT, "html_to_tsv_0.5k"), 400);
}

static void belief_traces_are_judged_as_published(void **state) {
    (void)state;
    assert_int_equal(check_verdicts("tom_tracking_0.5k", ROOT, "tom_tracking_0.5k"), 400);
}

static void routes_are_judged_as_published(void **state) {
    (void)state;
    assert_in_range(check_verdicts("path_traversal_0.5k", ROOT, "path_traversal_0.5k"), 290, 300);
}

static void countdown_is_judged_as_published(void **state) {
    (void)state;
    assert_in_range(check_verdicts("countdown_0.5k", ROOT, "countdown_0.5k"), 290, 300);
}

static void programs_are_judged_as_published(void **state) {
    (void)state;
    assert_int_equal(check_verdicts("pseudo_to_code_0.5k", ROOT, "pseudo_to_code_0.5k"), 10);
}

/* --- travel planning, whose released trips are not part of the project ------------------------------------------- */

typedef struct {
    scratch root, tasks;
    char link[80];
} world;

/* A datasets folder whose task `trips` has the trips of golden/longproc_travel.jsonl and the official prompt. */
static void open_world(world *w) {
    char *text = NULL, *rest;
    size_t size;
    kv_text task = {0};
    assert_int_equal(scratch_open(&w->root), 0);
    snprintf(w->tasks.dir, sizeof w->tasks.dir, "%.50s/tasks", w->root.dir);
    assert_int_equal(mkdir(w->tasks.dir, 0700), 0);
    snprintf(w->link, sizeof w->link, "%.60s/data", w->root.dir);
    assert_int_equal(symlink(ROOT "/data", w->link), 0);
    assert_int_equal(kv_read_file("golden/longproc_travel.jsonl", &text, &size, NULL), KV_OK);
    assert_non_null(scratch_write(&w->tasks, "trips.jsonl", text, size));
    free(text);
    assert_int_equal(kv_read_file(ROOT "/tasks/travel_planning_2k.task", &text, &size, NULL), KV_OK);
    rest = strstr(text, "data = data/travel_planning_2k.jsonl\n");
    assert_non_null(rest);
    kv_text_append(&task, text, (size_t)(rest - text));
    kv_text_puts(&task, "data = tasks/trips.jsonl\n");
    kv_text_puts(&task, strchr(rest, '\n') + 1);
    assert_non_null(scratch_write(&w->tasks, "trips.task", task.s, task.n));
    kv_text_free(&task);
    free(text);
}

static void close_world(world *w) {
    unlink(w->link);
    scratch_close(&w->tasks);
    scratch_close(&w->root);
}

static void trip_prompts_and_searches_are_the_published_ones(void **state) {
    FILE *f = fopen("golden/longproc_travel.sha256", "r");
    char want[65], hex[65];
    int n = 0;
    world w;
    (void)state;
    assert_non_null(f);
    open_world(&w);
    kv_task *t = open_task(w.root.dir, "trips");
    for (; fscanf(f, "%64s", want) == 1; n++) {
        kv_item it;
        kv_grade g;
        kv_text both = {0};
        item_of(t, n, &it);
        add_text(&both, it.prompt);
        add_text(&both, it.gold);
        kv_sha256_bytes(both.s, both.n, hex);
        if (strcmp(hex, want)) fail_msg("trip %d differs from the published one", n);
        kv_task_grade(t, &it, it.gold, &g);
        if (g.score != 1 || g.compat != 1 || g.partial != 1 || !g.answered) fail_msg("trip %d scores %g", n, g.score);
        kv_text_free(&both);
        kv_item_free(&it);
    }
    assert_int_equal(n, kv_task_get_info(t)->n_items);
    assert_int_equal(n, 44);
    kv_task_close(t);
    fclose(f);
    close_world(&w);
}

static void trips_are_judged_as_published(void **state) {
    world w;
    (void)state;
    open_world(&w);
    assert_in_range(check_verdicts("travel_planning", w.root.dir, "trips"), 280, 300);
    close_world(&w);
}

static void data_that_is_fetched_is_named_with_its_command(void **state) {
    static const char *const tasks[] = {"path_traversal_2k", "path_traversal_8k", "tom_tracking_8k",
                                        "travel_planning_2k", "travel_planning_8k"};
    world w;
    (void)state;
    open_world(&w);
    unlink(w.link);
    for (size_t i = 0; i < sizeof tasks / sizeof *tasks; i++) {
        char path[200], file[40], command[80], *text = NULL;
        size_t size;
        kv_task_options o = {.root = w.root.dir};
        kv_error err = {0};
        kv_task *t = NULL;
        snprintf(path, sizeof path, ROOT "/tasks/%s.task", tasks[i]);
        assert_int_equal(kv_read_file(path, &text, &size, NULL), KV_OK);
        snprintf(file, sizeof file, "%s.task", tasks[i]);
        assert_non_null(scratch_write(&w.tasks, file, text, size));
        free(text);
        snprintf(command, sizeof command, "is not there; run python3 scripts/get_longproc.py %s", tasks[i]);
        assert_int_equal(kv_task_open(tasks[i], &o, &t, &err), KV_ENOTFOUND);
        if (!strstr(err.text, command)) fail_msg("%s", err.text);
    }
    close_world(&w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(prompts_and_references_are_the_upstream_ones),
        cmocka_unit_test(every_reference_scores_one_and_a_damaged_one_less),
        cmocka_unit_test(tables_are_judged_as_published),
        cmocka_unit_test(belief_traces_are_judged_as_published),
        cmocka_unit_test(routes_are_judged_as_published),
        cmocka_unit_test(countdown_is_judged_as_published),
        cmocka_unit_test(programs_are_judged_as_published),
        cmocka_unit_test(trip_prompts_and_searches_are_the_published_ones),
        cmocka_unit_test(trips_are_judged_as_published),
        cmocka_unit_test(data_that_is_fetched_is_named_with_its_command),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
