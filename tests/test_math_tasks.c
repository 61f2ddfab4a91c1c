/* test_math_tasks.c - the maths tasks: prompts against upstream's, the draw of few-shot examples, data that is fetched.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "datasets/mt19937.h"
#include "datasets/task.h"
#include "datasets/text.h"
#include "engine/file.h"
#include "tests/support/scratch.h"

#define ROOT KV_SOURCE_DIR "/datasets"

static void draws_the_numbers_of_python(void **state) {
    static const uint32_t first[] = {4150886329u, 3342196574u, 1892932127u, 501869158u, 32175636u};
    static const uint32_t samples[4][5] = {{6374, 3610, 957, 61, 742},
                                           {7462, 6610, 4769, 286, 5501},
                                           {5677, 687, 806, 6279, 2905},
                                           {1939, 142, 252, 6461, 129}};
    kv_mt m;
    uint32_t drawn[5];
    (void)state;
    kv_mt_seed(&m, 1234);
    for (int i = 0; i < 5; i++) assert_int_equal(kv_mt_next(&m), first[i]);
    kv_mt_seed(&m, 1234);
    for (int i = 0; i < 4; i++) {
        kv_mt_sample(&m, 7473, 5, drawn);
        assert_memory_equal(drawn, samples[i], sizeof drawn);
    }
    for (int i = 0; i < 2000; i++) { /* a refill, and samples without repetition from few numbers */
        kv_mt_sample(&m, 22, 5, drawn);
        for (int a = 0; a < 5; a++)
            for (int b = 0; b < a; b++) assert_true(drawn[a] < 22 && drawn[a] != drawn[b]);
    }
}

static void hash_prompts(kv_task *t, char hex[65]) {
    kv_text all = {0};
    kv_error err;
    for (int i = 0; i < kv_task_get_info(t)->n_items; i++) {
        kv_item it;
        if (kv_task_item(t, i, &it, &err)) fail_msg("%s", err.text);
        kv_text_append(&all, it.prompt, strlen(it.prompt) + 1);
        kv_item_free(&it);
    }
    assert_false(all.failed);
    kv_sha256_bytes(all.s, all.n, hex);
    kv_text_free(&all);
}

static void prompts_are_the_upstream_ones(void **state) {
    FILE *f = fopen("golden/math_prompts.sha256", "r");
    char want[65], hex[65], task[40], variant[40];
    int n, rows = 0, absent = 0;
    (void)state;
    assert_non_null(f);
    for (; fscanf(f, "%64s %39s %39s %d", want, task, variant, &n) == 4; rows++) {
        kv_task_options o = {.root = ROOT, .variant = variant};
        kv_error err;
        kv_task *t;
        int rc = kv_task_open(task, &o, &t, &err);
        if (rc == KV_ENOTFOUND && strstr(err.text, "run scripts/get_data.sh")) {
            absent++;
            continue;
        }
        if (rc) fail_msg("%s", err.text);
        assert_int_equal(kv_task_get_info(t)->n_items, n);
        hash_prompts(t, hex);
        if (strcmp(hex, want)) fail_msg("%s %s: the prompts differ from upstream's", task, variant);
        kv_task_close(t);
    }
    fclose(f);
    assert_int_equal(rows, 12);
    assert_true(absent <= 4); /* aime24 and gsm8k_5shot */
    if (absent) print_message("%d of %d prompt sets not checked: their data is not fetched\n", absent, rows);
}

static void variants_without_a_chat_template_are_other_cells(void **state) {
    static const char *const tasks[] = {"gsm8k", "math500"};
    kv_error err;
    (void)state;
    for (int k = 0; k < 2; k++) {
        kv_task *official, *rkv;
        kv_item a, b;
        assert_int_equal(kv_task_open(tasks[k], &(kv_task_options){.root = ROOT}, &official, &err), KV_OK);
        assert_int_equal(kv_task_open(tasks[k], &(kv_task_options){.root = ROOT, .variant = "rkv"}, &rkv, &err), KV_OK);
        assert_false(kv_task_get_info(official)->no_chat);
        assert_true(kv_task_get_info(rkv)->no_chat);
        assert_string_not_equal(kv_task_get_info(official)->prompt_sha256, kv_task_get_info(rkv)->prompt_sha256);
        assert_int_equal(kv_task_item(official, 3, &a, &err), KV_OK);
        assert_int_equal(kv_task_item(rkv, 3, &b, &err), KV_OK);
        assert_string_equal(a.prompt, b.prompt);
        kv_item_free(&a);
        kv_item_free(&b);
        kv_task_close(official);
        kv_task_close(rkv);
    }
}

static const char shot_task[] = "title = t\nversion = 1\nlicence = MIT\norigin = here\nsource = rows_5shot\n"
                                "data = tasks/d.jsonl\nitems = 2\nfetch = fetch-it pool\nshots = tasks/pool.jsonl\n"
                                "shot_items = 30\nshot = <{q}>\ngold = {q}\ndefault = v\n"
                                "[v]\nprompt = {shots} {q}\nmax_new = 5\ngrader = needle\n";

static int open_in(const scratch *root, kv_task **t, kv_error *err) {
    return kv_task_open("t", &(kv_task_options){.root = root->dir}, t, err);
}

static void examples_are_drawn_for_each_item(void **state) {
    scratch root, tasks;
    kv_text pool = {0};
    kv_task *t;
    kv_item it;
    kv_error err;
    kv_mt m;
    (void)state;
    assert_int_equal(scratch_open(&root), 0);
    snprintf(tasks.dir, sizeof tasks.dir, "%.50s/tasks", root.dir);
    assert_int_equal(mkdir(tasks.dir, 0700), 0);
    scratch_write(&tasks, "t.task", shot_task, strlen(shot_task));
    scratch_write(&tasks, "d.jsonl", "{\"q\":\"one\"}\n{\"q\":\"two\"}", 23);
    assert_int_equal(open_in(&root, &t, &err), KV_ENOTFOUND);
    assert_non_null(strstr(err.text, "tasks/pool.jsonl is not there; run fetch-it pool"));
    for (int i = 0; i < 30; i++) kv_text_printf(&pool, "{\"q\":\"p%d\"}\n", i);
    scratch_write(&tasks, "pool.jsonl", pool.s, pool.n);
    if (open_in(&root, &t, &err)) fail_msg("%s", err.text);
    kv_mt_seed(&m, 1234);
    for (int i = 0; i < 2; i++) {
        uint32_t d[5];
        char want[100];
        kv_mt_sample(&m, 30, 5, d);
        snprintf(want, sizeof want, "<p%u><p%u><p%u><p%u><p%u> %s", d[0], d[1], d[2], d[3], d[4], i ? "two" : "one");
        assert_int_equal(kv_task_item(t, i, &it, &err), KV_OK);
        assert_string_equal(it.prompt, want);
        kv_item_free(&it);
    }
    kv_task_close(t);
    scratch_write(&tasks, "pool.jsonl", "{}", 2);
    assert_int_equal(open_in(&root, &t, &err), KV_EFORMAT);
    assert_non_null(strstr(err.text, "pool.jsonl"));
    kv_text_free(&pool);
    scratch_close(&tasks);
    scratch_close(&root);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(draws_the_numbers_of_python),
        cmocka_unit_test(prompts_are_the_upstream_ones),
        cmocka_unit_test(variants_without_a_chat_template_are_other_cells),
        cmocka_unit_test(examples_are_drawn_for_each_item),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
