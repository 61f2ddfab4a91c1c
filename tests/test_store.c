/* test_store.c - the results file: rows, resuming, several writers, sudden death, full disks, foreign files. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <math.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "results/embedded.h"
#include "results/process.h"
#include "results/store_internal.h"
#include "tests/support/db.h"

#define KEY_A "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define KEY_B "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"

static char folder[64];

static int make_folder(void **state) {
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/trimbench-store-XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state) {
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command);
}

static const char *in_folder(const char *name) {
    static char path[4][128];
    static int turn;
    char *p = path[turn++ % 4];
    snprintf(p, sizeof path[0], "%s/%s", folder, name);
    return p;
}

static kv_store *open_ok(const char *path) {
    kv_store *s = NULL;
    kv_error err = {0};
    if (kv_store_open(path, &s, &err)) fail_msg("%s", err.text);
    return s;
}

static int64_t begin(kv_store *s, const char *key, const char *commit, int any_build) {
    kv_error err = {0};
    int64_t build, policy, task, model, run;
    assert_int_equal(kv_store_build(s, &(kv_build_row){.commit = commit}, &build, &err), KV_OK);
    assert_int_equal(kv_store_model(s, &(kv_model_row){.name = "tiny", .n_layers = 2}, &model, &err), KV_OK);
    assert_int_equal(
        kv_store_policy(s, &(kv_policy_row){.name = "h2o", .params = "recent=8", .title = "H2O"}, &policy, &err),
        KV_OK);
    assert_int_equal(kv_store_task(s, &(kv_task_row){.name = "needle", .version = 1}, &task, &err), KV_OK);
    kv_run_row r = {.cell_key = key,
                    .build_id = build,
                    .model_id = model,
                    .policy_id = policy,
                    .task_id = task,
                    .budget = 128,
                    .buffer = 32,
                    .batch = 4,
                    .max_new = 64,
                    .prefill = "full",
                    .query = "after",
                    .numerics = "fast",
                    .backend = "cpu",
                    .top_p = 1,
                    .any_build = any_build};
    if (kv_store_begin_run(s, &r, &run, &err)) fail_msg("%s", err.text);
    return run;
}

static kv_sample_row sample(const char *item, int k, double score) {
    static const int32_t tokens[] = {5, 6, 7};
    return (kv_sample_row){.item = item,
                           .k = k,
                           .prompt_tokens = 10,
                           .tokens = tokens,
                           .n_tokens = 3,
                           .stop = "eos",
                           .output = "it's 'quoted'; DROP TABLE run",
                           .score = score,
                           .partial = score,
                           .answered = 1,
                           .strict = NAN,
                           .compat = NAN,
                           .rule = "tag",
                           .peak_slots = 100,
                           .mean_slots = 90,
                           .kv_bytes_peak = 4096,
                           .status = "ok"};
}

static void add(kv_store *s, int64_t run, const char *item, int k, double score) {
    kv_error err = {0};
    kv_sample_row r = sample(item, k, score);
    if (kv_store_sample(s, run, &r, &err)) fail_msg("%s", err.text);
}

static void stores_every_kind_of_row(void **state) {
    (void)state;
    const char *path = in_folder("rows.sqlite");
    kv_store *s = open_ok(path);
    kv_error err = {0};
    int64_t host, gpu, id;
    assert_int_equal(kv_store_host(s, &(kv_host_row){"box", "Linux", "a cpu", 2, 1 << 30}, &host, &err), KV_OK);
    kv_gpu_row g = {"H100", "abc", "550", 80LL << 30, 1980, 2619, 1, 700.0, NAN};
    assert_int_equal(kv_store_gpu(s, &g, &gpu, &err), KV_OK);
    int64_t run = begin(s, KEY_A, "c0ffee", 0);
    add(s, run, "it\tem 'x'", 0, 1);
    kv_timing_row t = {.phase = "decode", .n_tokens = 30, .seconds = 2, .ctx = 100};
    assert_int_equal(kv_store_timing(s, run, &t, &err), KV_OK);
    assert_int_equal(kv_store_memory(s, run, &(kv_memory_row){.weights = 10, .kv = 77}, &err), KV_OK);
    assert_int_equal(kv_store_counter(s, run, "evictions", 12, &err), KV_OK);
    assert_int_equal(kv_store_end_run(s, run, "done", NULL, &err), KV_OK);
    assert_int_equal(kv_store_host(s, &(kv_host_row){.hostname = NULL}, &id, &err), KV_OK);
    kv_store_close(s);
    assert_int_equal(db_int(path, "SELECT count(*) FROM gpu WHERE copy_gb_s IS NULL AND memory_bytes = 85899345920"),
                     1);
    assert_int_equal(db_int(path, "SELECT count(*) FROM host WHERE hostname IS NULL"), 1);
    assert_int_equal(db_int(path, "SELECT count(*) FROM run WHERE status = 'done' AND finished >= started"), 1);
    assert_int_equal(
        db_int(path,
               "SELECT count(*) FROM sample WHERE strict IS NULL AND score = 1 AND rule = 'tag' AND reason IS NULL AND "
               "json_extract(tokens, '$[2]') = 7 AND output LIKE '%DROP TABLE%'"),
        1);
    assert_int_equal(db_int(path, "SELECT value FROM counter WHERE name = 'evictions'"), 12);
    assert_int_equal(db_int(path, "SELECT count(*) FROM pragma_foreign_key_check"), 0);
}

static void finds_reference_rows_again_by_content(void **state) {
    (void)state;
    kv_store *s = open_ok(in_folder("again.sqlite"));
    kv_error err = {0};
    int64_t a, b, c, d;
    assert_int_equal(kv_store_gpu(s, &(kv_gpu_row){.name = "A", .copy_gb_s = 2900.25, .power_cap_w = NAN}, &a, &err),
                     0);
    assert_int_equal(kv_store_gpu(s, &(kv_gpu_row){.name = "A", .copy_gb_s = 2900.5, .power_cap_w = NAN}, &b, &err), 0);
    assert_int_equal(kv_store_gpu(s, &(kv_gpu_row){.name = "A", .copy_gb_s = 2900.25, .power_cap_w = NAN}, &c, &err),
                     0);
    assert_int_equal(kv_store_gpu(s, &(kv_gpu_row){.copy_gb_s = 2900.25, .power_cap_w = NAN}, &d, &err), 0);
    assert_int_equal(a, c);
    assert_int_not_equal(a, b);
    assert_int_not_equal(a, d);
    kv_store_close(s);
}

static void ignores_a_second_sample_of_the_same_item(void **state) {
    (void)state;
    const char *path = in_folder("twice.sqlite");
    kv_store *s = open_ok(path);
    int64_t first = begin(s, KEY_A, "one", 0), second = begin(s, KEY_A, "one", 0), other = begin(s, KEY_A, "two", 0);
    add(s, first, "i", 0, 1);
    add(s, first, "i", 0, 0);
    add(s, second, "i", 0, 0);
    assert_int_equal(db_int(path, "SELECT count(*) FROM sample WHERE score = 1"), 1);
    assert_int_equal(db_int(path, "SELECT count(*) FROM sample"), 1);
    add(s, first, "i", 1, 0);
    add(s, other, "i", 0, 0);
    assert_int_equal(db_int(path, "SELECT count(*) FROM sample"), 3);
    kv_store_close(s);
}

static void ignores_a_second_sample_when_the_build_is_unknown(void **state) {
    (void)state;
    const char *path = in_folder("nobuild.sqlite");
    kv_store *s = open_ok(path);
    kv_error err = {0};
    int64_t run;
    assert_int_equal(kv_store_begin_run(s, &(kv_run_row){.cell_key = KEY_A}, &run, &err), KV_OK);
    add(s, run, "i", 0, 1);
    add(s, run, "i", 0, 1);
    assert_int_equal(db_int(path, "SELECT count(*) FROM sample"), 1);
    kv_store_close(s);
}

static void refuses_a_sample_without_a_run(void **state) {
    (void)state;
    kv_store *s = open_ok(in_folder("norun.sqlite"));
    kv_error err = {0};
    kv_sample_row r = sample("i", 0, 1);
    assert_int_equal(kv_store_sample(s, 77, &r, &err), KV_EDB);
    assert_int_equal(kv_store_timing(s, 77, &(kv_timing_row){.phase = "decode"}, &err), KV_EDB);
    assert_int_equal(kv_store_end_run(s, 77, "done", NULL, &err), KV_ENOTFOUND);
    int64_t run = begin(s, KEY_A, "one", 0);
    assert_int_equal(kv_store_end_run(s, run, "finished", NULL, &err), KV_EARG);
    assert_non_null(strstr(err.text, "finished"));
    add(s, run, "i", 0, 1);
    kv_store_close(s);
}

static void tells_which_samples_are_done(void **state) {
    (void)state;
    kv_store *s = open_ok(in_folder("resume.sqlite"));
    kv_error err = {0};
    int64_t one, two;
    int found;
    add(s, begin(s, KEY_A, "one", 0), "i", 0, 1);
    assert_int_equal(kv_store_build(s, &(kv_build_row){.commit = "one"}, &one, &err), KV_OK);
    assert_int_equal(kv_store_build(s, &(kv_build_row){.commit = "two"}, &two, &err), KV_OK);
    const struct {
        const char *key;
        int64_t build;
        const char *item;
        int k, want;
    } cases[] = {{KEY_A, one, "i", 0, 1}, {KEY_A, two, "i", 0, 0}, {KEY_A, 0, "i", 0, 1},
                 {KEY_A, one, "j", 0, 0}, {KEY_A, one, "i", 1, 0}, {KEY_B, 0, "i", 0, 0}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(kv_store_has_sample(s, cases[i].key, cases[i].build, cases[i].item, cases[i].k, &found, &err),
                         0);
        assert_int_equal(found, cases[i].want);
    }
    kv_store_close(s);
}

static void aggregates_a_cell_over_its_runs(void **state) {
    (void)state;
    kv_store *s = open_ok(in_folder("cells.sqlite"));
    kv_error err = {0};
    const double scores[] = {1, 0, 1, 1};
    int64_t run = begin(s, KEY_A, "one", 0);
    for (int i = 0; i < 4; i++) {
        char item[16];
        if (i == 2) {
            kv_store_end_run(s, run, "interrupted", "ctrl-c", &err);
            run = begin(s, KEY_A, "one", 0);
        }
        snprintf(item, sizeof item, "i%d", i);
        kv_sample_row r = sample(item, 0, scores[i]);
        r.peak_slots = 100 + i;
        r.mean_slots = 10 * i;
        r.kv_bytes_peak = 1000 - i;
        r.stop = i == 3 ? "length" : i == 2 ? "context" : "eos";
        if (i == 1) r.output = "cut within: \xe4\xbd", r.extracted = "\xff";
        r.partial = 0.5;
        r.compat = i == 1;
        r.answered = i != 0 && i != 3; /* item 3 was cut off */
        assert_int_equal(kv_store_sample(s, run, &r, &err), KV_OK);
    }
    kv_sample_row bad = sample("i9", 0, NAN);
    bad.status = "error";
    bad.error = "NaN logits";
    assert_int_equal(kv_store_sample(s, run, &bad, &err), KV_OK);
    for (int rep = 0; rep < 2; rep++) {
        kv_timing_row t = {.phase = "decode", .rep = rep, .n_tokens = 100, .seconds = rep ? 3 : 1};
        assert_int_equal(kv_store_timing(s, run, &t, &err), KV_OK);
    }
    assert_int_equal(kv_store_memory(s, run, &(kv_memory_row){.kv = 55}, &err), KV_OK);
    assert_int_equal(kv_store_end_run(s, run, "done", NULL, &err), KV_OK);
    int64_t failed = begin(s, KEY_B, "one", 0);
    assert_int_equal(kv_store_end_run(s, failed, "oom", "12 GiB wanted, 8 GiB free", &err), KV_OK);

    kv_cell *c;
    size_t n;
    assert_int_equal(kv_store_cells(s, NULL, 0, &c, &n, &err), KV_OK);
    assert_int_equal(n, 2);
    assert_string_equal(c[0].cell_key, KEY_A);
    assert_string_equal(c[0].status, "done");
    assert_string_equal(c[0].error, "");
    assert_string_equal(c[0].policy, "h2o:recent=8");
    assert_string_equal(c[0].policy_title, "H2O");
    assert_string_equal(c[0].model, "tiny");
    assert_string_equal(c[0].task, "needle");
    assert_int_equal(c[0].budget, 128);
    assert_int_equal(c[0].n, 4);
    assert_int_equal(c[0].n_errors, 1);
    assert_int_equal(c[0].n_length, 2);
    assert_true(c[0].accuracy == 0.75);
    assert_true(fabs(c[0].stderr_ - 0.25) < 1e-15); /* sd = sqrt(0.75 / 3) = 0.5 */
    assert_true(c[0].partial == 0.5);
    assert_true(c[0].compat == 0.25);
    assert_int_equal(c[0].n_no_answer, 1);
    assert_true(c[0].peak_slots == 103);
    assert_true(c[0].mean_slots == 15);
    assert_int_equal(c[0].kv_bytes_peak, 1000);
    assert_int_equal(c[0].kv_bytes_batch_peak, 55);
    assert_true(c[0].decode_tok_s == 50);
    assert_true(isnan(c[0].prefill_tok_s));
    assert_true(c[0].mean_tokens == 3);
    assert_string_equal(c[1].status, "oom");
    assert_string_equal(c[1].error, "12 GiB wanted, 8 GiB free");
    assert_int_equal(c[1].n, 0);
    assert_true(isnan(c[1].compat));
    assert_true(isnan(c[1].accuracy) && isnan(c[1].stderr_) && isnan(c[1].peak_slots));
    free(c);
    kv_store_close(s);
    assert_int_equal(db_int(in_folder("cells.sqlite"), "SELECT count(*) FROM sample WHERE extracted = char(65533) AND "
                                                       "output = 'cut within: ' || char(65533, 65533)"),
                     1);
}

static void cells_carry_files_sampling_and_seed(void **state) {
    (void)state;
    kv_store *s = open_ok(in_folder("setup.sqlite"));
    kv_error err = {0};
    int64_t plain, merged;
    kv_model_row m = {.name = "tiny", .path = "/models/tiny.F16.gguf"};
    assert_int_equal(kv_store_model(s, &m, &plain, &err), KV_OK);
    m.adapter = "lora/";
    m.gates = "/gates/new";
    assert_int_equal(kv_store_model(s, &m, &merged, &err), KV_OK);
    kv_run_row r = {.cell_key = KEY_A, .model_id = plain, .prefill = "full", .query = "after", .top_p = 1};
    int64_t run;
    assert_int_equal(kv_store_begin_run(s, &r, &run, &err), KV_OK);
    r = (kv_run_row){.cell_key = KEY_B,
                     .model_id = merged,
                     .prefill = "full",
                     .query = "after",
                     .temperature = (float)0.6,
                     .top_p = (float)0.95,
                     .top_k = 20,
                     .seed = 7};
    assert_int_equal(kv_store_begin_run(s, &r, &run, &err), KV_OK);
    kv_cell *c;
    size_t n;
    assert_int_equal(kv_store_cells(s, NULL, 0, &c, &n, &err), KV_OK);
    assert_int_equal(n, 2);
    assert_string_equal(c[0].model, "tiny.F16");
    assert_string_equal(c[0].adapter, "");
    assert_string_equal(c[0].gates, "");
    assert_string_equal(c[0].sampling, "greedy");
    assert_int_equal(c[0].seed, 0);
    assert_string_equal(c[1].model, "tiny.F16");
    assert_string_equal(c[1].adapter, "lora");
    assert_string_equal(c[1].gates, "new");
    assert_string_equal(c[1].sampling, "temperature 0.6 top-p 0.95 top-k 20");
    assert_int_equal(c[1].seed, 7);
    free(c);
    kv_store_close(s);
}

static void reads_a_file_without_changing_it(void **state) {
    (void)state;
    char path[256];
    kv_error err = {0};
    snprintf(path, sizeof path, "%s", in_folder("a%20?b#.sqlite"));
    kv_store *s = open_ok(path);
    int64_t run = begin(s, KEY_A, "one", 0);
    add(s, run, "i0", 0, 1);
    kv_store_close(s);
    assert_int_equal(kv_store_open_read(path, &s, &err), KV_OK);
    kv_cell *c;
    size_t n;
    assert_int_equal(kv_store_cells(s, NULL, 0, &c, &n, &err), KV_OK);
    assert_int_equal(n, 1);
    assert_int_equal(c[0].n, 1);
    free(c);
    kv_sample_row r = sample("i1", 0, 1);
    assert_int_equal(kv_store_sample(s, run, &r, &err), KV_EIO);
    assert_non_null(strstr(err.text, "not writable"));
    kv_store_close(s);
    assert_int_not_equal(kv_store_open_read(in_folder("nowhere.sqlite"), &s, &err), KV_OK);
    assert_non_null(strstr(err.text, "nowhere.sqlite"));
    assert_int_not_equal(access(in_folder("nowhere.sqlite"), F_OK), 0);
}

static void returns_cells_in_the_order_of_the_keys(void **state) {
    (void)state;
    kv_store *s = open_ok(in_folder("order.sqlite"));
    kv_error err = {0};
    begin(s, KEY_A, "one", 0);
    begin(s, KEY_B, "one", 0);
    begin(s, KEY_A, "one", 0);
    const char *keys[] = {KEY_B, "no \"such\" key", KEY_A, KEY_B};
    kv_cell *c;
    size_t n;
    assert_int_equal(kv_store_cells(s, keys, 4, &c, &n, &err), KV_OK);
    assert_int_equal(n, 2);
    assert_string_equal(c[0].cell_key, KEY_B);
    assert_string_equal(c[1].cell_key, KEY_A);
    assert_true(isnan(c[0].accuracy));
    free(c);
    assert_int_equal(kv_store_cells(s, keys + 1, 1, &c, &n, &err), KV_OK);
    assert_int_equal(n, 0);
    assert_null(c);
    assert_int_equal(kv_store_cells(s, keys, 0, &c, &n, &err), KV_OK);
    assert_int_equal(n, 0);
    kv_store_close(s);
}

static void keeps_builds_apart_unless_told_otherwise(void **state) {
    (void)state;
    kv_store *s = open_ok(in_folder("builds.sqlite"));
    kv_error err = {0};
    kv_cell *c;
    size_t n;
    int64_t old = begin(s, KEY_A, "one", 0);
    add(s, old, "i", 0, 1);
    add(s, old, "j", 0, 1);
    add(s, begin(s, KEY_A, "two", 0), "i", 0, 0);
    assert_int_equal(kv_store_cells(s, NULL, 0, &c, &n, &err), KV_OK);
    assert_int_equal(c[0].n, 1);
    assert_true(c[0].accuracy == 0);
    assert_true(isnan(c[0].stderr_));
    free(c);
    add(s, begin(s, KEY_A, "three", 1), "k", 0, 1);
    assert_int_equal(kv_store_cells(s, NULL, 0, &c, &n, &err), KV_OK);
    assert_int_equal(c[0].n, 3); /* i of build two, j of one, k of three */
    assert_true(fabs(c[0].accuracy - 2.0 / 3) < 1e-15);
    free(c);
    kv_store_close(s);
}

static char *slurp(const char *path) {
    static char text[4096];
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    size_t n = fread(text, 1, sizeof text - 1, f);
    text[n] = 0;
    fclose(f);
    return text;
}

static void dumps_samples_in_an_order_of_their_own(void **state) {
    (void)state;
    kv_store *s = open_ok(in_folder("dump.sqlite"));
    kv_error err = {0};
    int64_t b = begin(s, KEY_B, "one", 0), a = begin(s, KEY_A, "one", 0);
    add(s, b, "x", 0, 0.5);
    add(s, a, "y\t", 1, 1);
    add(s, a, "y\t", 0, 0);
    const char *path = in_folder("dump.tsv");
    assert_int_equal(kv_store_dump(s, path, &err), KV_OK);
    assert_string_equal(slurp(path), "y\\t\t0\t[5,6,7]\t0\ny\\t\t1\t[5,6,7]\t1\nx\t0\t[5,6,7]\t0.5\n");
    assert_int_equal(kv_store_dump(s, in_folder("no/such/folder.tsv"), &err), KV_EIO);
    assert_int_equal(kv_store_dump(s, "/dev/full", &err), KV_EIO);
    kv_store_close(s);
}

static void wait_ok(pid_t pid) {
    int st;
    assert_int_equal(waitpid(pid, &st, 0), pid);
    assert_true(WIFEXITED(st));
    assert_int_equal(WEXITSTATUS(st), 0);
}

/* A child's work: no cmocka in it, the exit status tells. */
static int write_samples(const char *path, int n, int ack) {
    kv_store *s;
    kv_error err = {0};
    if (kv_store_open(path, &s, &err)) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    int64_t build, run;
    if (kv_store_build(s, &(kv_build_row){.commit = "shared"}, &build, &err) ||
        kv_store_begin_run(s, &(kv_run_row){.cell_key = KEY_A, .build_id = build}, &run, &err))
        return 2;
    for (int i = 0; n < 0 || i < n; i++) {
        char item[16];
        snprintf(item, sizeof item, "i%d", i);
        kv_sample_row r = sample(item, 0, i % 2);
        if (kv_store_sample(s, run, &r, &err)) {
            fprintf(stderr, "%s\n", err.text);
            return 3;
        }
        if (ack >= 0 && write(ack, "x", 1) != 1) return 4;
    }
    int rc = kv_store_end_run(s, run, "done", NULL, &err);
    kv_store_close(s);
    return rc ? 5 : 0;
}

static void several_processes_create_and_fill_one_file(void **state) {
    (void)state;
    enum { WRITERS = 3, SAMPLES = 150 };
    const char *path = in_folder("crowd.sqlite");
    pid_t pid[WRITERS];
    for (int i = 0; i < WRITERS; i++)
        if (!(pid[i] = fork())) _exit(write_samples(path, SAMPLES, -1));
    for (int i = 0; i < WRITERS; i++) wait_ok(pid[i]);
    assert_int_equal(db_int(path, "SELECT count(*) FROM run WHERE status = 'done'"), WRITERS);
    assert_int_equal(db_int(path, "SELECT count(*) FROM build"), 1);
    assert_int_equal(db_int(path, "SELECT count(*) FROM sample"), SAMPLES);
}

static void keeps_every_committed_sample_when_the_writer_is_killed(void **state) {
    (void)state;
    srand(7);
    for (int round = 0; round < 6; round++) {
        char name[32];
        snprintf(name, sizeof name, "killed%d.sqlite", round);
        const char *path = in_folder(name);
        int fd[2];
        assert_int_equal(pipe(fd), 0);
        pid_t pid = fork();
        if (!pid) {
            close(fd[0]);
            _exit(write_samples(path, -1, fd[1]));
        }
        close(fd[1]);
        char c;
        int acked = 0;
        assert_int_equal(read(fd[0], &c, 1), 1);
        acked++;
        nanosleep(&(struct timespec){0, rand() % 60 * 1000000L + rand() % 1000000}, NULL);
        assert_int_equal(kill(pid, SIGKILL), 0);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
        while (read(fd[0], &c, 1) == 1) acked++;
        close(fd[0]);

        kv_store *s = open_ok(path);
        kv_store_close(s);
        int64_t there = db_int(path, "SELECT count(*) FROM sample");
        assert_in_range(there, acked, acked + 1);
        assert_int_equal(db_int(path, "SELECT count(*) FROM pragma_integrity_check WHERE integrity_check = 'ok'"), 1);
        assert_int_equal(db_int(path, "SELECT count(*) FROM run WHERE status = 'interrupted' AND finished NOTNULL"), 1);
    }
}

static void leaves_runs_of_the_living_and_of_other_machines_alone(void **state) {
    (void)state;
    const char *path = in_folder("living.sqlite");
    kv_store *mine = open_ok(path);
    begin(mine, KEY_A, "one", 0);
    begin(mine, KEY_B, "one", 0);
    db_exec(path, "UPDATE run SET hostname = hostname || '.elsewhere', pid = 1, pid_start = 1 WHERE id = 2");
    kv_store_close(open_ok(path));
    assert_int_equal(db_int(path, "SELECT count(*) FROM run WHERE status = 'running'"), 2);
    db_exec(path, "UPDATE run SET pid_start = pid_start + 1 WHERE id = 1"); /* the number went to another process */
    kv_store_close(open_ok(path));
    assert_int_equal(db_int(path, "SELECT count(*) FROM run WHERE status = 'interrupted' AND id = 1"), 1);
    assert_int_equal(db_int(path, "SELECT count(*) FROM run WHERE status = 'running' AND id = 2"), 1);
    begin(mine, KEY_A, "one", 0);
    db_exec(path, "UPDATE run SET boot_id = 'earlier' WHERE id = 3");
    kv_store_close(open_ok(path));
    assert_int_equal(db_int(path, "SELECT count(*) FROM run WHERE status = 'interrupted' AND id = 3"), 1);
    kv_store_close(mine);
}

static void migrates_a_file_of_version_0_and_keeps_its_rows(void **state) {
    (void)state;
    const char *path = in_folder("old.sqlite");
    db_exec(path, "PRAGMA application_id = 1414678861; CREATE TABLE scrap(x); INSERT INTO scrap VALUES (41)");
    kv_store_close(open_ok(path));
    assert_int_equal(db_int(path, "PRAGMA user_version"), KV_STORE_VERSION);
    assert_int_equal(db_int(path, "SELECT x FROM scrap"), 41);
    assert_int_equal(db_int(path, "SELECT count(*) FROM paper_number"), 0);
    kv_store_close(open_ok(path));
}

static void migrates_a_file_of_version_1(void **state) {
    (void)state;
    const char *path = in_folder("one.sqlite");
    db_exec(path, kv_embedded_schema_sql);
    db_exec(path, kv_embedded_views_sql); /* views are there already */
    db_exec(path, "PRAGMA application_id = 1414678861; PRAGMA user_version = 1;"
                  "INSERT INTO run(id, cell_key, status) VALUES (1, 'k', 'done');"
                  "INSERT INTO sample(run_id, cell_key, item, k, tokens, n_tokens, stop, score, answered, status)"
                  " VALUES (1, 'k', 'i', 0, '[]', 0, 'eos', 1, 1, 'ok')");
    kv_store *s = open_ok(path);
    kv_error err = {0};
    kv_cell *c;
    size_t n;
    assert_int_equal(kv_store_cells(s, NULL, 0, &c, &n, &err), KV_OK);
    assert_int_equal(n, 1);
    assert_true(c[0].accuracy == 1 && isnan(c[0].compat) && c[0].n_no_answer == 0);
    free(c);
    kv_store_close(s);
    assert_int_equal(db_int(path, "SELECT count(*) FROM sample WHERE rule IS NULL AND reason IS NULL"), 1);
}

/* The figures of such files came from views that did not count what the context cut off. */
static void gives_a_file_of_version_2_the_views_of_today(void **state) {
    (void)state;
    const char *path = in_folder("two.sqlite");
    kv_cell *c;
    size_t n;
    kv_error err = {0};
    kv_store *s = open_ok(path);
    int64_t run = begin(s, KEY_A, "one", 0);
    add(s, run, "i0", 0, 1);
    kv_store_close(s);
    db_exec(path, "UPDATE sample SET stop = 'context', answered = 0; DROP VIEW cell; DROP VIEW cell_sample;"
                  "CREATE VIEW cell_sample AS SELECT * FROM sample WHERE 0; PRAGMA user_version = 2");
    s = open_ok(path);
    assert_int_equal(kv_store_cells(s, NULL, 0, &c, &n, &err), KV_OK);
    assert_int_equal(n, 1);
    assert_int_equal(c[0].n, 1);
    assert_int_equal(c[0].n_length, 1);
    assert_int_equal(c[0].n_no_answer, 0);
    free(c);
    kv_store_close(s);
}

static void rolls_a_failed_migration_back(void **state) {
    (void)state;
    const char *path = in_folder("clash.sqlite");
    db_exec(path, "PRAGMA application_id = 1414678861; CREATE TABLE sample(mine); INSERT INTO sample VALUES (42)");
    kv_store *s;
    kv_error err = {0};
    assert_int_equal(kv_store_open(path, &s, &err), KV_EDB);
    assert_non_null(strstr(err.text, "migrating"));
    assert_null(s);
    assert_int_equal(db_int(path, "PRAGMA user_version"), 0);
    assert_int_equal(db_int(path, "SELECT mine FROM sample"), 42);
    assert_int_equal(db_int(path, "SELECT count(*) FROM sqlite_schema"), 1);
}

static int open_fails(const char *path, int code, const char *word) {
    kv_store *s = NULL;
    kv_error err = {0};
    int rc = kv_store_open_wait(path, 200, &s, &err);
    if (rc != code || s || !strstr(err.text, word) || (*path && !strstr(err.text, path))) {
        fprintf(stderr, "open %s: %d '%s', want %d '%s'\n", path, rc, err.text, code, word);
        return 0;
    }
    return 1;
}

/* Opening and looking give the same reason. */
static int refused(const char *path, int code, const char *word) {
    kv_error err = {0};
    int rc = kv_store_check(path, &err);
    return rc == code && strstr(err.text, word) && open_fails(path, code, word);
}

static void refuses_a_file_of_a_newer_version(void **state) {
    (void)state;
    const char *path = in_folder("newer.sqlite");
    kv_store_close(open_ok(path));
    db_exec(path, "PRAGMA user_version = 99");
    assert_true(refused(path, KV_EUNSUPPORTED, "version 99"));
    db_exec(path, "PRAGMA user_version = -1");
    assert_true(refused(path, KV_EUNSUPPORTED, "version -1"));
}

static void refuses_what_is_not_a_results_file(void **state) {
    (void)state;
    const char *text = in_folder("text.sqlite"), *foreign = in_folder("foreign.sqlite"), *cut = in_folder("cut.sqlite");
    FILE *f = fopen(text, "w");
    for (int i = 0; i < 200; i++) fprintf(f, "this is no database\n");
    fclose(f);
    assert_true(refused(text, KV_EFORMAT, "not an SQLite database"));
    db_exec(foreign, "CREATE TABLE bookmarks(x)");
    assert_true(refused(foreign, KV_EFORMAT, "another program"));
    assert_int_equal(db_int(foreign, "SELECT count(*) FROM pragma_journal_mode WHERE journal_mode = 'delete'"), 1);
    kv_store_close(open_ok(cut));
    assert_int_equal(truncate(cut, 6000), 0);
    assert_true(refused(cut, KV_EFORMAT, "damaged"));
    assert_true(refused(folder, KV_EIO, "is a folder"));
    assert_true(refused("/dev/null", KV_EIO, "not a regular file"));
    assert_true(refused("", KV_EARG, "not a file name"));
    assert_true(refused(":memory:", KV_EARG, "not a file name"));
    assert_true(refused(in_folder("gone/x.sqlite"), KV_EIO, "does not exist"));
}

static void looks_at_a_file_without_changing_it(void **state) {
    (void)state;
    kv_error err = {0};
    const char *path = in_folder("looked-at.sqlite"), *empty = in_folder("looked-at-empty.sqlite");
    kv_store_close(open_ok(path));
    db_exec(path, "PRAGMA user_version = 1");
    assert_int_equal(kv_store_check(path, &err), KV_OK);
    assert_int_not_equal(access(in_folder("looked-at.sqlite-shm"), F_OK), 0);
    assert_int_equal(db_int(path, "PRAGMA user_version"), 1);
    fclose(fopen(empty, "w"));
    assert_int_equal(kv_store_check(empty, &err), KV_OK);
    assert_int_equal(kv_store_check(in_folder("looked-at-none.sqlite"), &err), KV_OK);
    assert_int_not_equal(access(in_folder("looked-at-none.sqlite"), F_OK), 0);
}

static void shows_a_file_that_is_there(void **state) {
    (void)state;
    kv_error err = {0};
    kv_store *s;
    const char *path = in_folder("shown.sqlite");
    assert_int_equal(kv_store_open_existing(path, &s, &err), KV_ENOTFOUND);
    assert_null(s);
    assert_non_null(strstr(err.text, "does not exist"));
    kv_store_close(open_ok(path));
    db_exec(path, "INSERT INTO run(cell_key, status, pid, pid_start, hostname, boot_id, pid_space) "
                  "VALUES ('k', 'done', 0, 0, '', '', '')");
    assert_int_equal(kv_store_open_existing(path, &s, &err), KV_OK);
    kv_store_close(s);
    db_exec(path, "PRAGMA user_version = 99");
    assert_int_equal(kv_store_open_existing(path, &s, &err), KV_EUNSUPPORTED);
    assert_null(s);
}

static void notices_that_its_file_is_gone(void **state) {
    (void)state;
    kv_error err = {0};
    const char *path = in_folder("lost.sqlite");
    kv_store *s = open_ok(path);
    int64_t run = begin(s, KEY_A, "one", 0);
    add(s, run, "i0", 0, 1);
    assert_int_equal(rename(path, in_folder("found.sqlite")), 0);
    kv_sample_row r = sample("i1", 0, 1);
    assert_int_equal(kv_store_sample(s, run, &r, &err), KV_EIO);
    assert_non_null(strstr(err.text, "moved or deleted"));
    assert_int_equal(kv_store_end_run(s, run, "done", NULL, &err), KV_EIO);
    assert_int_equal(rename(in_folder("found.sqlite"), path), 0);
    assert_int_equal(kv_store_sample(s, run, &r, &err), KV_OK);
    kv_store_close(s);
    assert_int_equal(db_int(path, "SELECT count(*) FROM sample"), 2);
}

static void creates_a_file_where_an_empty_one_is(void **state) {
    (void)state;
    const char *path = in_folder("empty.sqlite");
    fclose(fopen(path, "w"));
    kv_store_close(open_ok(path));
    assert_int_equal(db_int(path, "PRAGMA user_version"), KV_STORE_VERSION);
}

/* Root may write anywhere, so the child first becomes somebody else. */
static void reports_paths_that_cannot_be_written(void **state) {
    (void)state;
    const char *file = in_folder("readonly.sqlite"), *dir = in_folder("locked"), *in_dir = in_folder("locked/x.sqlite");
    const char *older = in_folder("older.sqlite");
    kv_store_close(open_ok(file));
    kv_store_close(open_ok(older));
    db_exec(older, "PRAGMA user_version = 2");
    assert_int_equal(chmod(file, 0444) | chmod(older, 0444), 0);
    assert_int_equal(mkdir(dir, 0555), 0);
    assert_int_equal(chmod(folder, 0755), 0);
    pid_t pid = fork();
    if (!pid) {
        if (geteuid() == 0 && (setgroups(0, NULL) || setgid(65534) || setuid(65534))) _exit(9);
        kv_store *s = NULL;
        kv_error err = {0};
        int ok = open_fails(file, KV_EIO, "not writable") & open_fails(in_dir, KV_EIO, "no file can be made in");
        ok &= kv_store_open_existing(file, &s, NULL) == KV_OK;
        kv_store_close(s);
        ok &= kv_store_open_existing(older, &s, &err) == KV_EUNSUPPORTED && strstr(err.text, "copy it") != NULL;
        _exit(ok ? 0 : 1);
    }
    wait_ok(pid);
}

static void waits_for_a_lock_and_then_says_so(void **state) {
    (void)state;
    const char *path = in_folder("locked.sqlite");
    kv_store *s = NULL;
    kv_error err = {0};
    assert_int_equal(kv_store_open_wait(path, 100, &s, &err), KV_OK);
    int64_t run = begin(s, KEY_A, "one", 0);
    sqlite3 *db;
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
    kv_sample_row r = sample("i", 0, 1);
    assert_int_equal(kv_store_sample(s, run, &r, &err), KV_ETIMEOUT);
    assert_non_null(strstr(err.text, path));
    assert_int_equal(kv_store_build(s, &(kv_build_row){.commit = "new"}, &run, &err), KV_ETIMEOUT);
    assert_int_equal(sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
    assert_int_equal(kv_store_build(s, &(kv_build_row){.commit = "new"}, &run, &err), KV_OK);
    kv_store_close(s);
}

/* Writes until it fails; 0 when the failure is the one wanted and the file is sound afterwards. */
static int fill(const char *path) {
    kv_store *s;
    kv_error err = {0};
    int64_t run;
    int rc = kv_store_open(path, &s, &err), n = 0;
    if (!rc) rc = kv_store_begin_run(s, &(kv_run_row){.cell_key = KEY_A}, &run, &err);
    if (rc) {
        fprintf(stderr, "%s\n", err.text);
        return 10;
    }
    char output[4000];
    memset(output, 'o', sizeof output - 1);
    output[sizeof output - 1] = 0;
    for (; !rc && n < 2000; n++) {
        char item[16];
        snprintf(item, sizeof item, "i%d", n);
        kv_sample_row r = sample(item, 0, 1);
        r.output = output;
        rc = kv_store_sample(s, run, &r, &err);
    }
    if (rc != KV_EIO || !strstr(err.text, "no space left") || !strstr(err.text, path)) {
        fprintf(stderr, "%d after %d samples: %s\n", rc, n, err.text);
        return 12;
    }
    kv_cell *c = NULL;
    size_t n_cells;
    rc = kv_store_cells(s, NULL, 0, &c, &n_cells, &err);
    int ok = !rc && n_cells == 1 && c[0].n == n - 1;
    if (!ok) fprintf(stderr, "%d: %s\n", rc, err.text);
    free(c);
    kv_store_close(s);
    return ok ? 0 : 13;
}

static void reports_a_file_size_limit_as_no_space(void **state) {
    (void)state;
    const char *path = in_folder("limited.sqlite");
    pid_t pid = fork();
    if (!pid) {
        signal(SIGXFSZ, SIG_IGN);
        setrlimit(RLIMIT_FSIZE, &(struct rlimit){400000, 400000});
        _exit(fill(path));
    }
    wait_ok(pid);
    kv_store_close(open_ok(path));
    assert_int_equal(db_int(path, "SELECT count(*) > 10 FROM sample"), 1);
}

static int write_text(const char *path, const char *text) {
    FILE *f = fopen(path, "w");
    if (!f) return -1;
    int bad = fputs(text, f) < 0;
    return fclose(f) || bad ? -1 : 0;
}

/* Lets this process mount, as root or in a user namespace of its own. */
static int enter_own_mounts(void) {
    if (unshare(CLONE_NEWNS) == 0) return 0;
    char uid[64], gid[64];
    snprintf(uid, sizeof uid, "0 %d 1", (int)geteuid());
    snprintf(gid, sizeof gid, "0 %d 1", (int)getegid());
    if (unshare(CLONE_NEWUSER | CLONE_NEWNS)) return -1;
    return write_text("/proc/self/uid_map", uid) || write_text("/proc/self/setgroups", "deny") ||
           write_text("/proc/self/gid_map", gid);
}

static void reports_a_full_disk(void **state) {
    (void)state;
    const char *dir = in_folder("small"), *path = in_folder("small/x.sqlite");
    assert_int_equal(mkdir(dir, 0755), 0);
    pid_t pid = fork();
    if (!pid) {
        if (enter_own_mounts()) _exit(77);
        mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL);
        if (mount("tmpfs", dir, "tmpfs", 0, "size=1m")) _exit(77);
        _exit(fill(path));
    }
    int st;
    assert_int_equal(waitpid(pid, &st, 0), pid);
    assert_true(WIFEXITED(st));
    if (WEXITSTATUS(st) == 77) skip(); /* no small file system can be mounted here */
    assert_int_equal(WEXITSTATUS(st), 0);
}

static void knows_the_living_from_the_dead(void **state) {
    (void)state;
    kv_process me;
    kv_process_self(&me);
    assert_int_equal(me.pid, getpid());
    assert_true(kv_process_alive(me.pid, me.start));
    assert_true(kv_process_alive(me.pid, 0));
    assert_false(kv_process_alive(0, 0));
    pid_t pid = fork();
    if (!pid) _exit(0);
    siginfo_t info;
    assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
    assert_false(kv_process_alive(pid, 0)); /* not reaped yet */
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    assert_false(kv_process_alive(pid, 0));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stores_every_kind_of_row),
        cmocka_unit_test(finds_reference_rows_again_by_content),
        cmocka_unit_test(ignores_a_second_sample_of_the_same_item),
        cmocka_unit_test(ignores_a_second_sample_when_the_build_is_unknown),
        cmocka_unit_test(refuses_a_sample_without_a_run),
        cmocka_unit_test(tells_which_samples_are_done),
        cmocka_unit_test(aggregates_a_cell_over_its_runs),
        cmocka_unit_test(cells_carry_files_sampling_and_seed),
        cmocka_unit_test(reads_a_file_without_changing_it),
        cmocka_unit_test(returns_cells_in_the_order_of_the_keys),
        cmocka_unit_test(keeps_builds_apart_unless_told_otherwise),
        cmocka_unit_test(dumps_samples_in_an_order_of_their_own),
        cmocka_unit_test(several_processes_create_and_fill_one_file),
        cmocka_unit_test(keeps_every_committed_sample_when_the_writer_is_killed),
        cmocka_unit_test(leaves_runs_of_the_living_and_of_other_machines_alone),
        cmocka_unit_test(migrates_a_file_of_version_0_and_keeps_its_rows),
        cmocka_unit_test(migrates_a_file_of_version_1),
        cmocka_unit_test(gives_a_file_of_version_2_the_views_of_today),
        cmocka_unit_test(rolls_a_failed_migration_back),
        cmocka_unit_test(refuses_a_file_of_a_newer_version),
        cmocka_unit_test(refuses_what_is_not_a_results_file),
        cmocka_unit_test(looks_at_a_file_without_changing_it),
        cmocka_unit_test(shows_a_file_that_is_there),
        cmocka_unit_test(notices_that_its_file_is_gone),
        cmocka_unit_test(creates_a_file_where_an_empty_one_is),
        cmocka_unit_test(reports_paths_that_cannot_be_written),
        cmocka_unit_test(waits_for_a_lock_and_then_says_so),
        cmocka_unit_test(reports_a_file_size_limit_as_no_space),
        cmocka_unit_test(reports_a_full_disk),
        cmocka_unit_test(knows_the_living_from_the_dead),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
