/* test_plan.c - which cells a command line means, in what order, and what identifies a cell. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bench/items.h"
#include "bench/place.h"
#include "bench/plan.h"
#include "tests/support/scratch.h"

#define TINY KV_SOURCE_DIR "/tests/golden/tiny-llama.gguf"

enum { MAX_ARGS = 32 };

static int parse(kv_cmd_id cmd, const char *line, kv_opts *o) {
    char copy[1024], *argv[MAX_ARGS];
    int n = 0;
    snprintf(copy, sizeof copy, "%s", line);
    for (char *p = strtok(copy, " "); p; p = strtok(NULL, " ")) argv[n++] = p;
    kv_error err = {0};
    int rc = kv_opts_parse(cmd, n, argv, o, &err);
    if (rc) fail_msg("%s: %s", line, err.text);
    return rc;
}

static int axes(const char *line, kv_axes *a, kv_error *err) {
    kv_opts o;
    parse(KV_CMD_RUN, line, &o);
    int rc = kv_axes_read(&o, a, err);
    kv_opts_free(&o);
    return rc;
}

/* "full/0/0/full/after" */
static void describe(const kv_plan_cell *c, char *out, size_t size) {
    char prefill[24];
    kv_prefill_text(c->chunk, prefill);
    snprintf(out, size, "%d %s/%d/%d/%s/%s", c->task, c->policy->canonical, c->budget, c->buffer, prefill,
             c->query_before ? "before" : "after");
}

static void assert_cells(const char *line, size_t n_tasks, const char *const *expected, size_t n_expected) {
    kv_axes a;
    kv_plan_cell *cells;
    size_t n;
    kv_error err = {0};
    if (axes(line, &a, &err)) fail_msg("%s: %s", line, err.text);
    assert_int_equal(kv_plan_cross(&a, 1, n_tasks, &cells, &n, NULL), KV_OK);
    for (size_t i = 0; i < n && i < n_expected; i++) {
        char text[256];
        describe(&cells[i], text, sizeof text);
        assert_string_equal(text, expected[i]);
    }
    assert_int_equal(n, n_expected);
    free(cells);
    kv_axes_free(&a);
}

static void full_appears_once_and_not_per_budget(void **state) {
    (void)state;
    static const char *const expected[] = {"0 full/0/0/full/after", "0 h2o/64/8/full/after", "0 h2o/64/16/full/after",
                                           "0 h2o/128/8/full/after", "0 h2o/128/16/full/after"};
    assert_cells("--policy full,h2o --budget 64,128 --buffer 8,16", 1, expected, 5);
}

static void cells_that_can_share_a_prefill_stand_together(void **state) {
    (void)state;
    static const char *const expected[] = {
        "0 full/0/0/full/after", "0 window/64/32/full/after", "0 full/0/0/full/before", "0 window/64/32/full/before",
        "1 full/0/0/full/after", "1 window/64/32/full/after", "1 full/0/0/full/before", "1 window/64/32/full/before"};
    assert_cells("--policy full,window --budget 64 --query after,before", 2, expected, 8);
}

static void policies_that_mean_the_same_are_one(void **state) {
    (void)state;
    static const char *const expected[] = {"0 window/64/32/full/after", "0 window:sinks=0/64/32/full/after"};
    assert_cells("--policy window,window:sinks=4,window:sinks=0 --budget 64", 1, expected, 2);
}

static void ranges_multiply(void **state) {
    (void)state;
    kv_axes a;
    kv_plan_cell *cells;
    size_t n;
    assert_int_equal(axes("--policy h2o,snapkv --budget 64..512*2 --prefill full,stream:8,stream:16", &a, NULL), KV_OK);
    assert_int_equal(kv_plan_cross(&a, 2, 3, &cells, &n, NULL), KV_OK);
    assert_int_equal(n, 2 * 3 * 3 * 2 * 4);
    free(cells);
    kv_axes_free(&a);
}

static void refuses_bad_policies_and_prefill_modes(void **state) {
    (void)state;
    static const char *const bad[][2] = {
        {"--policy h3o", "h3o"},
        {"--policy window:sinks=x", "sinks"},
        {"--policy window:sunk=1", "sunk"},
        {"--prefill half", "half"},
        {"--prefill stream", "stream"},
        {"--prefill stream:0", "stream:0"},
        {"--prefill stream:x", "stream:x"},
        {"--prefill stream:-8", "stream:-8"},
        {"--prefill stream:8.5", "stream:8.5"},
        {"--policy h2o --prefill stream:64 --buffer 32", "stream:64 with --buffer 32"},
        {"--policy h2o --prefill stream:32 --buffer 64,16", "stream:32 with --buffer 16"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        kv_axes a;
        kv_error err = {0};
        int rc = axes(bad[i][0], &a, &err);
        if (rc != KV_EARG || !strstr(err.text, bad[i][1])) fail_msg("%s: %d '%s'", bad[i][0], rc, err.text);
        kv_axes_free(&a);
    }
}

static void full_cache_takes_any_chunk(void **state) {
    (void)state;
    kv_axes a;
    assert_int_equal(axes("--policy full --prefill stream:64 --buffer 32", &a, NULL), KV_OK);
    kv_axes_free(&a);
}

static const kv_cell_identity base = {.model = "m",
                                      .adapter = "a",
                                      .gates = "g",
                                      .tokenizer = "t",
                                      .chat = "c",
                                      .task = "needle",
                                      .data = "d",
                                      .variant = "short",
                                      .prompt = "p",
                                      .grader = "contains",
                                      .task_version = 1,
                                      .grader_version = 1,
                                      .policy = "h2o",
                                      .budget = 256,
                                      .buffer = 32,
                                      .max_new = 10,
                                      .temperature = 1,
                                      .top_p = 1,
                                      .seed = 0,
                                      .backend = "cpu",
                                      .numerics = "fast"};

static void the_key_tells_apart_whatever_changes_results(void **state) {
    (void)state;
    kv_cell_identity v[26];
    char keys[26][65];
    size_t n = sizeof v / sizeof *v;
    for (size_t i = 0; i < n; i++) v[i] = base;
    v[1].model = "m2", v[2].adapter = "", v[3].gates = "g2", v[4].tokenizer = "t2", v[5].chat = "c2";
    v[6].task = "gsm8k", v[7].data = "d2", v[8].variant = "official", v[9].grader = "exact";
    v[10].task_version = 2, v[11].grader_version = 2, v[12].policy = "h2o:recent=4", v[13].budget = 128;
    v[14].buffer = 16, v[15].chunk = 32, v[16].query_before = 1, v[17].max_new = 20, v[18].temperature = 0.5;
    v[19].top_p = 0.9, v[20].top_k = 5, v[21].min_p = 0.1, v[22].seed = 1, v[23].numerics = "exact";
    v[24].backend = "cuda", v[25].prompt = "p2";
    for (size_t i = 0; i < n; i++) kv_cell_key(&v[i], keys[i]);
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(strlen(keys[i]), 64);
        for (size_t k = 0; k < i; k++)
            if (strcmp(keys[i], keys[k]) == 0) fail_msg("cells %zu and %zu have one key", k, i);
    }
}

static void greedy_cells_do_not_depend_on_sampling_options(void **state) {
    (void)state;
    kv_cell_identity a = base, b = base;
    char x[65], y[65];
    a.temperature = b.temperature = 0;
    b.top_p = 0.5, b.top_k = 7, b.min_p = 0.2;
    kv_cell_key(&a, x);
    kv_cell_key(&b, y);
    assert_string_equal(x, y);
}

static void the_key_is_stable(void **state) {
    (void)state;
    char key[65];
    kv_cell_key(&base, key);
    assert_string_equal(key, "a567fc0ded9f4dfdd8c69b8668047f5fc3b837bb419937f5459bda00a28134ce");
}

static void build(const char *line, kv_plan *p) {
    kv_opts o;
    kv_paths paths;
    kv_error err = {0};
    char full[1024];
    snprintf(full, sizeof full, "--model %s %s", TINY, line);
    parse(KV_CMD_RUN, full, &o);
    if (kv_paths_find(&paths, &err) || kv_plan_build(&o, &paths, p, &err)) fail_msg("%s: %s", line, err.text);
    kv_opts_free(&o);
}

static void batch_limit_and_threads_are_not_in_the_key(void **state) {
    (void)state;
    kv_plan a, b;
    build("--policy h2o --prompt-variant short --limit 3 --batch 2 --threads 1", &a);
    build("--policy h2o --prompt-variant short --limit 5 --batch 7 --threads 2", &b);
    assert_int_equal(a.n_cells, 1);
    assert_string_equal(a.cells[0].key, b.cells[0].key);
    assert_int_equal(a.tasks[0].n_items, 3);
    assert_int_equal(b.tasks[0].n_items, 5);
    kv_plan_free(&a);
    kv_plan_free(&b);
}

static void gates_count_only_for_policies_that_use_them(void **state) {
    (void)state;
    kv_plan a, b;
    build("--policy h2o,trimkv --prompt-variant short", &a);
    build("--policy h2o,trimkv --prompt-variant short --gates " KV_SOURCE_DIR "/tests/golden/tiny-gates", &b);
    assert_int_equal(a.n_cells, 2);
    assert_string_equal(a.cells[0].key, b.cells[0].key);
    assert_string_not_equal(a.cells[1].key, b.cells[1].key);
    kv_plan_free(&a);
    build("--policy h2o,trimkv --prompt-variant short --gates " KV_SOURCE_DIR
          "/tests/golden/tiny-gates/trimkv_weights.safetensors",
          &a); /* a folder and the file in it are the same gates */
    assert_string_equal(a.cells[1].key, b.cells[1].key);
    kv_plan_free(&a);
    kv_plan_free(&b);
}

static void a_cell_says_where_it_runs(void **state) {
    (void)state;
    kv_plan p;
    build("--policy h2o --prompt-variant short --backend cpu", &p);
    assert_int_equal(p.cells[0].device, KV_CPU);
    assert_string_equal(kv_place_name(p.cells[0].device), "cpu");
    assert_string_equal(kv_place_name(KV_CUDA), "cuda");
    kv_plan_free(&p);
}

static void auto_takes_only_shapes_that_the_kernels_know(void **state) {
    (void)state;
    const kv_shape odd = {.n_layers = 2, .n_heads = 4, .n_kv_heads = 2, .head_dim = 20, .dim = 80},
                   wide = {.n_layers = 2, .n_heads = 32, .n_kv_heads = 2, .head_dim = 64, .dim = 2048};
    kv_opts o;
    kv_device_kind device = KV_CUDA;
    parse(KV_CMD_RUN, "--backend auto", &o);
    assert_int_equal(kv_place_choose(&o, &odd, &device, NULL), KV_OK);
    assert_int_equal(device, KV_CPU);
    device = KV_CUDA;
    assert_int_equal(kv_place_choose(&o, &wide, &device, NULL), KV_OK);
    assert_int_equal(device, KV_CPU);
    kv_opts_free(&o);
}

static void random_weights_are_no_model_for_tasks(void **state) {
    (void)state;
    kv_opts o;
    kv_paths paths;
    kv_plan p;
    kv_error err = {0};
    parse(KV_CMD_RUN, "--model synth:tiny", &o);
    assert_int_equal(kv_paths_find(&paths, &err), KV_OK);
    assert_int_equal(kv_plan_build(&o, &paths, &p, &err), KV_EARG);
    assert_non_null(strstr(err.text, "tokenizer"));
    kv_plan_free(&p);
    kv_opts_free(&o);
}

static void a_synthetic_model_is_known_by_name_and_seed(void **state) {
    (void)state;
    kv_opts o;
    kv_paths paths;
    kv_identity a;
    kv_error err = {0};
    assert_int_equal(kv_paths_find(&paths, &err), KV_OK);
    parse(KV_CMD_SPEED, "--model synth:tiny --seed 3", &o);
    assert_int_equal(kv_identity_resolve(&o, 0, &paths, &a, &err), KV_OK);
    assert_int_equal(kv_identity_load(&a, &err), KV_OK);
    assert_string_equal(a.model_sha256, "synth:tiny:3");
    assert_true(a.synth_gates && a.gates_sha256[0] && !a.tokenizer);
    assert_int_equal(a.shape.n_layers, kv_synth_find("tiny")->shape.n_layers);
    kv_gate_file *gates;
    kv_identity_open_gates(&a, &a.shape, &gates, &err);
    assert_non_null(gates);
    kv_gates_close(gates);
    kv_identity_free(&a);
    kv_opts_free(&o);
    parse(KV_CMD_SPEED, "--model synth:tiny --gates none", &o);
    assert_int_equal(kv_identity_resolve(&o, 0, &paths, &a, &err), KV_OK);
    kv_identity_open_gates(&a, &a.synth->shape, &gates, &err);
    assert_null(gates);
    kv_opts_free(&o);
    parse(KV_CMD_SPEED, "--model synth:tinny", &o);
    assert_int_equal(kv_identity_resolve(&o, 0, &paths, &a, &err), KV_ENOTFOUND);
    kv_opts_free(&o);
}

static void predicts_slots_for_every_kind_of_prefill(void **state) {
    (void)state;
    kv_policy_spec full, h2o;
    assert_int_equal(kv_policy_parse("full", &full, NULL), KV_OK);
    assert_int_equal(kv_policy_parse("h2o", &h2o, NULL), KV_OK);
    assert_int_equal(kv_plan_slots(full.policy, 0, 0, 0, 100, 50, 1000), 150);
    assert_int_equal(kv_plan_slots(full.policy, 0, 0, 0, 100, 50, 120), 120);
    assert_int_equal(kv_plan_slots(h2o.policy, 32, 8, 0, 100, 50, 1000), 100);
    assert_int_equal(kv_plan_slots(h2o.policy, 32, 8, 8, 100, 50, 1000), 40);
    assert_int_equal(kv_plan_slots(h2o.policy, 32, 8, 0, 10, 5, 1000), 15);
}

static void two_spellings_of_one_cell_are_one_cell(void **state) {
    (void)state;
    kv_plan p;
    char line[128];
    build("--policy h2o --task gsm8k --prompt-variant short", &p);
    int max_new = p.cells[0].max_new;
    assert_true(max_new > 0);
    kv_plan_free(&p);
    snprintf(line, sizeof line, "--policy h2o --task gsm8k --prompt-variant short --max-new 0,%d", max_new);
    build(line, &p);
    assert_int_equal(p.n_cells, 1);
    kv_plan_free(&p);
}

static void an_other_model_gets_the_tasks_own_variant_and_no_gates(void **state) {
    (void)state;
    kv_plan p;
    build("--policy h2o", &p);
    assert_string_equal(p.tasks[0].variant, "");
    assert_string_equal(p.models[0].adapter_sha256, "");
    assert_string_equal(p.models[0].gates_sha256, "");
    kv_plan_free(&p);
}

static void prints_what_would_be_held(void **state) {
    (void)state;
    kv_plan p;
    char text[4096] = "";
    build("--policy full,h2o --budget 64 --prefill stream:32 --prompt-variant short --limit 2 --max-new 300", &p);
    FILE *f = fmemopen(text, sizeof text, "w");
    assert_non_null(f);
    assert_int_equal(kv_plan_print(&p, 16, 1, f, NULL), KV_OK);
    fclose(f);
    assert_non_null(strstr(text, "countdown_0.5k"));
    assert_non_null(strstr(text, "would not fit"));
    assert_non_null(strstr(text, "2 cells"));
    /* 96 slots are 6 pages for each of 2 layers and 2 heads: 16 slots of K and V in fp16, positions and the mass */
    assert_non_null(strstr(text, " 96       101376"));
    /* the cache of a batch alone would fit, but not beside the weights */
    f = fmemopen(text, sizeof text, "w");
    assert_non_null(f);
    assert_int_equal(kv_plan_print(&p, 1, 600000, f, NULL), KV_OK);
    fclose(f);
    assert_non_null(strstr(text, "would not fit: 0.00 GiB with the weights"));
    kv_plan_free(&p);
}

static void a_given_answer_follows_a_prompt_without_a_template(void **state) {
    static const char row[] = "{\"q\":\"once upon\",\"gold\":\"x\"}\n";
    static const char task[] = "title = t\nversion = 1\nlicence = l\norigin = o\nsource = rows\ndata = rows.jsonl\n"
                               "items = 1\ngold = {gold}\ndefault = split\n[split]\nprompt = {q}\nanswer = \\sa time\n"
                               "chat = none\nmax_new = 4\ngrader = needle\n[whole]\nprompt = {q} a time\n"
                               "chat = none\nmax_new = 4\ngrader = needle\n";
    static const char *const variants[] = {"split", "whole"};
    char sha[2][65], folder[192];
    scratch dir;
    kv_plan p;
    (void)state;
    build("--policy full --prompt-variant short", &p);
    assert_int_equal(scratch_open(&dir), 0);
    snprintf(folder, sizeof folder, "%s", scratch_path(&dir, "tasks"));
    assert_int_equal(mkdir(folder, 0700), 0);
    assert_non_null(scratch_write(&dir, "rows.jsonl", row, strlen(row)));
    assert_non_null(scratch_write(&dir, "tasks/x.task", task, strlen(task)));
    for (int i = 0; i < 2; i++) {
        kv_items *items;
        const kv_prompt *prompt;
        kv_error err;
        kv_task_options o = {.root = dir.dir, .variant = variants[i]};
        if (kv_items_open("x", &o, &p.models[0], &items, &err)) fail_msg("%s", err.text);
        if (kv_items_render(items, 0, &prompt, &err)) fail_msg("%s", err.text);
        assert_true(prompt->n > 2);
        strcpy(sha[i], prompt->sha256);
        kv_items_close(items);
    }
    assert_string_equal(sha[0], sha[1]);
    unlink(scratch_path(&dir, "tasks/x.task"));
    rmdir(folder);
    scratch_close(&dir);
    kv_plan_free(&p);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(full_appears_once_and_not_per_budget),
        cmocka_unit_test(cells_that_can_share_a_prefill_stand_together),
        cmocka_unit_test(policies_that_mean_the_same_are_one),
        cmocka_unit_test(ranges_multiply),
        cmocka_unit_test(refuses_bad_policies_and_prefill_modes),
        cmocka_unit_test(full_cache_takes_any_chunk),
        cmocka_unit_test(the_key_tells_apart_whatever_changes_results),
        cmocka_unit_test(greedy_cells_do_not_depend_on_sampling_options),
        cmocka_unit_test(the_key_is_stable),
        cmocka_unit_test(batch_limit_and_threads_are_not_in_the_key),
        cmocka_unit_test(gates_count_only_for_policies_that_use_them),
        cmocka_unit_test(a_cell_says_where_it_runs),
        cmocka_unit_test(auto_takes_only_shapes_that_the_kernels_know),
        cmocka_unit_test(random_weights_are_no_model_for_tasks),
        cmocka_unit_test(a_synthetic_model_is_known_by_name_and_seed),
        cmocka_unit_test(predicts_slots_for_every_kind_of_prefill),
        cmocka_unit_test(two_spellings_of_one_cell_are_one_cell),
        cmocka_unit_test(an_other_model_gets_the_tasks_own_variant_and_no_gates),
        cmocka_unit_test(prints_what_would_be_held),
        cmocka_unit_test(a_given_answer_follows_a_prompt_without_a_template),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
