/* test_export.c - exported results have the files, keys, hashes and figures of lm-evaluation-harness
 * (golden/lm_eval_layout.json, made from its package). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/file.h"
#include "results/export.h"
#include "results/export_line.h"
#include "results/store.h"
#include "tests/support/cli.h"
#include "tests/support/golden.h"
#include "tests/support/scratch.h"

static scratch dir;
static char written[8][600]; /* paths of the last export, moved to the scratch folder's own files */
static int n_written;

static int make_folder(void **state) {
    (void)state;
    return scratch_open(&dir);
}

/* scratch_close removes no folders. */
static int remove_folder(void **state) {
    (void)state;
    for (int i = 0; i < n_written; i++) remove(written[i]);
    for (int i = 0; i < n_written; i++) {
        *strrchr(written[i], '/') = 0;
        rmdir(written[i]);
    }
    scratch_close(&dir);
    return 0;
}

static int no_task(void *user, const char *name, const char *variant, int version, const char *sha, int64_t seed) {
    (void)user, (void)variant, (void)version, (void)sha, (void)seed;
    return strcmp(name, "gsm8k") ? 0 : 1319;
}

static const char *prompt_of(void *user, const char *item) {
    (void)user;
    return strcmp(item, "0") ? NULL : "What?";
}

static void note(void *user, const char *path) {
    (void)user;
    assert_true(n_written < 8);
    snprintf(written[n_written++], sizeof *written, "%s", path);
}

static const kv_export_source source = {NULL, no_task, prompt_of, note, "test"};

static int64_t begin(kv_store *s, const char *key, const char *task, const char *policy, int budget) {
    int64_t build, policy_id, task_id, model, host, run;
    kv_error err = {0};
    kv_store_build(s, &(kv_build_row){.commit = "abc", .flags = "-O3", .compiler = "GNU"}, &build, &err);
    kv_store_host(s, &(kv_host_row){.os = "Linux", .cpu = "Some CPU", .n_cores = 2}, &host, &err);
    kv_store_model(s, &(kv_model_row){.path = "models/tiny.gguf", .sha256 = "00", .weights = "Q4_1", .n_ctx = 512},
                   &model, &err);
    kv_store_policy(s, &(kv_policy_row){.name = policy}, &policy_id, &err);
    kv_store_task(s, &(kv_task_row){.name = task, .variant = "short", .version = 3, .grader = "g"}, &task_id, &err);
    kv_run_row r = {.cell_key = key,
                    .build_id = build,
                    .model_id = model,
                    .policy_id = policy_id,
                    .task_id = task_id,
                    .host_id = host,
                    .budget = budget,
                    .buffer = 32,
                    .batch = 4,
                    .max_new = 64,
                    .prefill = "full",
                    .query = "after",
                    .numerics = "fast",
                    .backend = "cpu:a",
                    .temperature = 0.5,
                    .top_p = 1};
    if (kv_store_begin_run(s, &r, &run, &err)) fail_msg("%s", err.text);
    return run;
}

static void add(kv_store *s, int64_t run, const char *item, int k, const char *output, const char *gold, double score) {
    static const int32_t tokens[] = {1, 2};
    kv_error err = {0};
    kv_sample_row r = {.item = item,
                       .k = k,
                       .tokens = tokens,
                       .n_tokens = 2,
                       .output = output,
                       .extracted = "ex",
                       .gold = gold,
                       .score = score,
                       .compat = 1,
                       .strict = score,
                       .partial = 0.25,
                       .status = "ok",
                       .stop = "eos",
                       .prompt_sha256 = "ids"};
    if (kv_store_sample(s, run, &r, &err)) fail_msg("%s", err.text);
}

/* Two settings; the first has two tasks, one with two samples of an item and all the golden texts. */
static void fill(kv_store *s, const cJSON *docs) {
    kv_error err = {0};
    int64_t run = begin(s, "a", "gsm8k", "h2o", 64), n = 0;
    const cJSON *doc;
    cJSON_ArrayForEach(doc, docs) {
        char item[8];
        snprintf(item, sizeof item, "%d", (int)n++);
        add(s, run, item, 0, "bad \xff byte", gj_get(doc, "gold")->valuestring, 1);
    }
    add(s, run, "1", 1, "second", "", 0);
    kv_store_end_run(s, run, "done", NULL, &err);
    run = begin(s, "b", "needle:words=9", "h2o", 64);
    add(s, run, "0:hard/short", 0, "x", "g", 1);
    kv_store_end_run(s, run, "done", NULL, &err);
    run = begin(s, "c", "gsm8k", "full", 0);
    add(s, run, "0", 0, "x", "g", 0.5);
    kv_store_end_run(s, run, "done", NULL, &err);
    kv_store_end_run(s, begin(s, "d", "gsm8k", "window", 8), "error", "none", &err); /* no samples: left out */
}

static const char *find(const char *a, const char *b) {
    for (int i = 0; i < n_written; i++)
        if (strstr(written[i], a) && strstr(written[i], b)) return written[i];
    fail_msg("no file of %s, %s", a, b);
    return NULL;
}

static char *load(const char *path) {
    char *text;
    size_t n;
    assert_int_equal(kv_read_file(path, &text, &n, NULL), KV_OK);
    return text;
}

static int has(const cJSON *names, const char *key) {
    const cJSON *c;
    cJSON_ArrayForEach(c, names) if (!strcmp(c->valuestring, key)) return 1;
    return 0;
}

/* Is it one of the words of a text? */
static int among(const char *words, const char *word) {
    size_t n = strlen(word);
    for (const char *p = words; (p = strstr(p, word)); p += n)
        if ((p == words || p[-1] == ' ') && (!p[n] || p[n] == ' ')) return 1;
    return 0;
}

/* Every key of the object is one of lm_eval's, or (metrics) holds a comma or is listed; and all but `without` are
 * there. */
static void check_keys(const cJSON *object, const cJSON *names, const char *without, const char *more) {
    const cJSON *c;
    cJSON_ArrayForEach(c, object) {
        if (!has(names, c->string) && !strchr(c->string, ',') && !among(more, c->string))
            fail_msg("%s is no key of lm_eval", c->string);
    }
    cJSON_ArrayForEach(c, names) {
        if (cJSON_HasObjectItem(object, c->valuestring) == among(without, c->valuestring))
            fail_msg("%s is missing, or there after all", c->valuestring);
    }
}

static void check_results(const cJSON *layout) {
    char *text = load(find("h2o", "/results_"));
    int real = strstr(text, "\"compat,none\":\t1.0,") != NULL;
    cJSON *r = cJSON_Parse(text);
    free(text);
    assert_non_null(r);
    check_keys(r, gj_get(layout, "EvalResults"),
               "groups samples tokenizer_bos_token tokenizer_eos_token tokenizer_pad_token", "start_time end_time");
    assert_true(gj_number(r, "start_time") > 1e9 && gj_number(r, "end_time") >= gj_number(r, "start_time"));
    check_keys(gj_get(r, "config"), gj_get(layout, "_EvalConfig"), "model_num_parameters", "");
    const cJSON *g = gj_get(gj_get(r, "results"), "gsm8k_short");
    check_keys(g, gj_get(layout, "_TaskMetrics"), "sample_count", "");
    check_keys(gj_get(gj_get(r, "n-samples"), "gsm8k_short"), gj_get(layout, "_SampleCount"), "", "");
    int n = cJSON_GetArraySize(gj_get(layout, "docs"));
    assert_true(gj_number(gj_get(gj_get(r, "n-samples"), "gsm8k_short"), "original") == 1319);
    assert_true(gj_number(g, "sample_len") == n);
    double mean = (n - 0.5) / n; /* one item was right in one of its two samples */
    assert_true(fabs(gj_number(g, "score,none") - mean) < 1e-12);
    double variance = ((n - 1) * (1 - mean) * (1 - mean) + (0.5 - mean) * (0.5 - mean)) / (n - 1);
    assert_true(fabs(gj_number(g, "score_stderr,none") - sqrt(variance / n)) < 1e-12);
    assert_string_equal(gj_get(gj_get(gj_get(r, "results"), "needle-words-9_short"), "score_stderr,none")->valuestring,
                        "N/A");
    assert_true(gj_number(gj_get(gj_get(r, "configs"), "gsm8k_short"), "repeats") == 2);
    assert_true(gj_number(gj_get(r, "versions"), "gsm8k_short") == 3);
    assert_int_equal(cJSON_GetArraySize(gj_get(r, "results")), 2);
    assert_non_null(strstr(find("h2o", "/results_"), gj_get(r, "model_name_sanitized")->valuestring));
    assert_true(real); /* not 1: readers take the type from what they see first */
    cJSON_Delete(r);
}

static void check_samples(const cJSON *layout) {
    char *text = load(find("h2o", "/samples_gsm8k_short_"));
    const cJSON *doc = gj_get(layout, "docs")->child;
    int i = 0;
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"), doc = doc->next, i++) {
        cJSON *l = cJSON_Parse(line);
        assert_true(l && doc);
        check_keys(l, gj_get(layout, "SampleResult"), "", "score compat partial");
        assert_string_equal(gj_get(l, "target_hash")->valuestring, gj_get(doc, "target_hash")->valuestring);
        assert_string_equal(gj_get(l, "target")->valuestring, gj_get(doc, "gold")->valuestring);
        if (!i) assert_string_equal(gj_get(l, "doc_hash")->valuestring, gj_get(doc, "doc_hash")->valuestring);
        const cJSON *request = gj_get(gj_get(l, "arguments"), "gen_args_0");
        assert_string_equal(gj_get(request, "arg_0")->valuestring, i ? "" : "What?");
        assert_true(gj_number(gj_get(request, "arg_1"), "max_gen_toks") == 64);
        assert_int_equal(strlen(gj_get(l, "prompt_hash")->valuestring), i ? 3 : 64);
        assert_string_equal(gj_get(l, "resps")->child->child->valuestring, "bad \xef\xbf\xbd byte");
        assert_int_equal(cJSON_GetArraySize(gj_get(l, "resps")->child), i == 1 ? 2 : 1);
        assert_true(gj_number(l, "score") == (i == 1 ? 0.5 : 1) && gj_number(l, "doc_id") == i);
        cJSON_Delete(l);
    }
    assert_null(doc);
    free(text);
}

static void writes_the_files_of_lm_eval(void **state) {
    kv_store *s = NULL;
    kv_error err = {0};
    cJSON *layout = gj_load("lm_eval_layout.json");
    (void)state;
    char db[192];
    snprintf(db, sizeof db, "%s", scratch_path(&dir, "r.sqlite"));
    assert_int_equal(kv_store_open(db, &s, &err), KV_OK);
    assert_int_equal(kv_export_lm_eval(s, dir.dir, &source, &err), KV_ENOTFOUND);
    fill(s, gj_get(layout, "docs"));
    if (kv_export_lm_eval(s, dir.dir, &source, &err)) fail_msg("%s", err.text);
    kv_store_close(s);
    assert_int_equal(n_written, 5);
    check_results(layout);
    check_samples(layout);
    cJSON_Delete(layout);
}

/* doc_hash depends on the id, which the golden docs share. */
static void hashes_documents_as_lm_eval_does(void **state) {
    cJSON *layout = gj_load("lm_eval_layout.json");
    const cJSON *doc, *name;
    kv_error err;
    (void)state;
    cJSON_ArrayForEach(doc, gj_get(layout, "docs")) {
        kv_export_line l = {0};
        assert_int_equal(kv_export_line_begin(&l, "0", "", gj_get(doc, "gold")->valuestring, NULL,
                                              "{\"generation_kwargs\":{}}", &err),
                         KV_OK);
        assert_string_equal(gj_get(l.json, "doc_hash")->valuestring, gj_get(doc, "doc_hash")->valuestring);
        kv_export_line_free(&l);
    }
    cJSON_ArrayForEach(name, gj_get(layout, "names")) {
        char out[128];
        kv_export_sanitize(gj_get(name, "name")->valuestring, out, sizeof out);
        assert_string_equal(out, gj_get(name, "sanitized")->valuestring);
    }
    cJSON_Delete(layout);
}

static void the_command_says_what_is_wrong(void **state) {
    (void)state;
    cli_expect("export /nowhere.sqlite", 3, "does not exist");
    cli_expect("export --format csv", 2, "must be one of lm-eval");
    char line[256];
    snprintf(line, sizeof line, "export %s --out /proc/none", scratch_path(&dir, "r.sqlite"));
    cli_expect(line, 3, "/proc/none");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(writes_the_files_of_lm_eval),
        cmocka_unit_test(hashes_documents_as_lm_eval_does),
        cmocka_unit_test(the_command_says_what_is_wrong),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
