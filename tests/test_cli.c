/* test_cli.c - the program as a user meets it: bad input is refused with a reason, failures become rows, rows are
 * printed, and a sweep over the tiny model does what it says. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <cjson/cJSON.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/file.h"
#include "tests/support/cli.h"
#include "tests/support/db.h"
#include "tests/support/scratch.h"

#define TINY "golden/tiny-llama.gguf"
#define RUN "run --model " TINY " --prompt-variant short --threads 1 --quiet "

/* "... --db <scratch>/name" */
static const char *with_db(const char *line, const char *name) {
    static char text[2048];
    snprintf(text, sizeof text, "%s --db %s", line, scratch_path(&scratch_dir, name));
    return text;
}

static int64_t count_in(const char *db, const char *sql) {
    return db_int(scratch_path(&scratch_dir, db), sql);
}

static const char *text_of(const cJSON *o, const char *key) {
    const char *s = cJSON_GetStringValue(cJSON_GetObjectItem(o, key));
    return s ? s : "";
}

static double number_of(const cJSON *o, const char *key) {
    const cJSON *n = cJSON_GetObjectItem(o, key);
    if (!cJSON_IsNumber(n)) fail_msg("%s is no number", key);
    return cJSON_GetNumberValue(n);
}

static void help_shows_examples_for_every_command(void **state) {
    (void)state;
    static const char *const commands[] = {"run", "generate", "tokenize", "speed", "list", "doctor", "plot", "paper"};
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        char line[64];
        snprintf(line, sizeof line, "%s --help", commands[i]);
        cli_result r = cli_run(line);
        assert_int_equal(r.code, 0);
        assert_non_null(strstr(r.out, "examples:\n  trimbench "));
        cli_free(&r);
    }
    cli_result r = cli_run("--help");
    assert_int_equal(r.code, 0);
    assert_non_null(strstr(r.out, "generate"));
    cli_free(&r);
}

static void refuses_what_it_does_not_know(void **state) {
    (void)state;
    cli_expect("", 2, "usage");
    cli_expect("genrate", 2, "did you mean 'generate'");
    cli_expect("xyzzy", 2, "unknown command 'xyzzy'");
    cli_expect("help xyzzy", 2, "unknown command 'xyzzy'");
    cli_expect(RUN "--bugdet 3", 2, "did you mean --budget");
    cli_expect(RUN "--policy h3o", 2, "h3o");
    cli_expect(RUN "--policy h2o:resent=3", 2, "resent");
    cli_expect(RUN "--task cuontdown_0.5k", 2, "did you mean 'countdown_0.5k'");
    cli_expect(RUN "--task needle:wrods=5", 2, "wrods");
    cli_expect("run --model " TINY " --prompt-variant shrot", 2, "shrot");
    cli_expect(RUN "--chat klingon", 2, "klingon");
    cli_expect(RUN "--chat smollm2 --thinking off", 2, "--thinking off: the chat template smollm2 has no such switch");
    cli_expect(RUN "--thinking maybe", 2, "maybe");
}

static void refuses_values_that_make_no_sense(void **state) {
    (void)state;
    cli_expect(RUN "--budget 0", 2, "--budget");
    cli_expect(RUN "--buffer 0", 2, "--buffer");
    cli_expect(RUN "--policy h2o --prefill stream:64 --buffer 32", 2, "stream:64 with --buffer 32");
    cli_expect(RUN "--prefill streams", 2, "streams");
    cli_expect(RUN "--samples 4", 2, "--samples 4 of golden/tiny-llama.gguf, which is greedy");
    cli_expect(RUN "--samples 2 --temperature 0 --top-p 0.5", 2, "greedy");
    cli_expect(RUN "--sampling greedy --top-k 5", 2, "--sampling greedy does not go with --top-k");
    cli_expect(RUN "--sampling nucleus", 2, "model|greedy|custom");
    cli_expect(RUN "--sampling model", 2, "golden/generation_config.json is not there");
    cli_expect(RUN "--batch 0", 2, "--batch");
    cli_expect("speed --model " TINY " --ctx 0", 2, "--ctx");
    cli_expect("generate --model " TINY, 2, "--prompt");
    cli_expect("generate --model " TINY " --prompt a --token-ids 1", 2, "one of --prompt");
    cli_expect("generate --model " TINY " --token-ids 1,999999", 2, "999999");
    cli_expect("generate --model " TINY " --token-ids 1,2 --context 3", 2, "--context 3");
    cli_expect("generate --model " TINY " --prompt a --raw --chat smollm2", 2, "contradict");
    cli_expect("generate --model " TINY " --prompt a --chat klingon", 2, "klingon");
    cli_expect("generate --model " TINY " --prompt a --trace", 2, "--json");
    cli_expect("tokenize --model " TINY, 2, "--text or --file");
}

static void says_where_a_model_cannot_run(void **state) {
    (void)state;
    cli_expect(RUN "--backend gpu", 2, "auto|cpu|cuda");
    cli_expect("speed --model " TINY " --backend tpu", 2, "auto|cpu|cuda");
    /* this build, this machine or the device number: one of them is at fault, and is named */
    cli_result r = cli_run("generate --model " TINY " --prompt a --backend cuda --device 200");
    assert_true(r.code == 2 || r.code == 3);
    assert_non_null(strstr(r.err, r.code == 2 ? "--device 200" : "--backend cuda"));
    cli_free(&r);
}

static void random_weights_are_for_speed_only(void **state) {
    (void)state;
    cli_expect("run --model synth:tiny", 2, "random weights have no tokenizer");
    cli_expect("generate --model synth:tiny --prompt a", 2, "random weights have no tokenizer");
    cli_expect("tokenize --model synth:tiny --text a", 2, "random weights have no tokenizer");
    cli_expect("speed --model synth:tinny", 3, "synth:tiny");
    cli_expect("speed --model synth:tiny --adapter golden/tiny-adapter", 2, "--adapter");
}

static void refuses_empty_values(void **state) {
    (void)state;
    static const char *const lines[][2] = {{"run", "--db"},
                                           {"run", "--task"},
                                           {"run", "--budget"},
                                           {"run", "--haystack"},
                                           {"run", "--policy"},
                                           {"generate", "--gates"},
                                           {"generate", "--policy"},
                                           {"generate", "--prompt-file"},
                                           {"generate", "--token-ids"},
                                           {"speed", "--model"},
                                           {"plot", "--out"}};
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        cli_result r = cli_run_argv((const char *const[]){lines[i][0], lines[i][1], "", NULL});
        assert_int_equal(r.code, 2);
        if (!strstr(r.err, lines[i][1]) || !strstr(r.err, "an empty value")) fail_msg("%s", r.err);
        cli_free(&r);
    }
}

static void refuses_prompts_that_cannot_be_read(void **state) {
    (void)state;
    char line[512];
    cli_expect("generate --model " TINY " --prompt-file nowhere.txt", 3, "nowhere.txt");
    cli_expect("generate --model " TINY " --prompt-file golden", 3, "golden: is a directory");
    scratch_write(&scratch_dir, "zero.txt", "a\0b", 3);
    snprintf(line, sizeof line, "generate --model " TINY " --prompt-file %s", scratch_path(&scratch_dir, "zero.txt"));
    cli_expect(line, 3, "zero byte");
    snprintf(line, sizeof line, "tokenize --model " TINY " --file %s", scratch_path(&scratch_dir, "zero.txt"));
    cli_expect(line, 3, "zero byte");
    scratch_write(&scratch_dir, "empty.txt", "", 0);
    snprintf(line, sizeof line, "generate --raw --model " TINY " --prompt-file %s",
             scratch_path(&scratch_dir, "empty.txt"));
    cli_expect(line, 2, "the prompt is empty");
    snprintf(line, sizeof line, "generate --model " TINY " --prompt %0200d%0200d --raw", 0, 0);
    cli_expect(line, 0, "");
    char *many = malloc(9000);
    assert_non_null(many);
    for (int i = 0; i < 8999; i++) many[i] = i % 5 ? 'x' : ' ';
    many[8999] = 0;
    scratch_write(&scratch_dir, "long.txt", many, 8999);
    free(many);
    snprintf(line, sizeof line, "generate --model " TINY " --prompt-file %s", scratch_path(&scratch_dir, "long.txt"));
    cli_expect(line, 1, "the model's context is 512");
}

static void stray_bytes_in_a_prompt_become_tokens_and_the_json_stays_clean(void **state) {
    (void)state;
    cli_result r = cli_run_argv((const char *const[]){"generate", "--model", TINY, "--prompt", "\xff\xfe(\xc3", "--raw",
                                                      "--max-new", "16", "--ignore-eos", "--json", NULL});
    assert_int_equal(r.code, 0);
    cJSON *j = cJSON_Parse(r.out);
    assert_non_null(j);
    assert_int_equal(cJSON_GetArraySize(cJSON_GetObjectItem(j, "prompt_ids")), 4);
    cJSON_Delete(j);
    cli_free(&r);
}

static void says_what_is_missing_before_it_starts(void **state) {
    (void)state;
    cli_expect("run --model nowhere.gguf", 3, "nowhere.gguf does not exist");
    cli_expect("generate --adapter some-org/adapter --prompt a", 3, "some-org/adapter does not exist: give the folder");
    cli_expect("generate --model nowhere.gguf --prompt a", 3, "nowhere.gguf does not exist");
    cli_expect("tokenize --model nowhere.gguf --text a", 3, "nowhere.gguf does not exist");
    cli_expect("speed --model nowhere.gguf", 3, "nowhere.gguf does not exist");
    cli_expect(RUN "--adapter nowhere", 3, "nowhere");
    cli_expect(RUN "--gates nowhere", 3, "nowhere");
    cli_expect("run --model golden", 3, "golden");
    cli_expect("run --model CMakeLists.txt", 3, "CMakeLists.txt");
    cli_expect("run --model golden/tiny-gates/trimkv_weights.safetensors", 3, "trimkv_weights.safetensors");
    cli_expect("plot --db nowhere.sqlite", 3, "nowhere.sqlite does not exist");
    cli_expect("speed --ctx 8 --model " TINY ",CMakeLists.txt", 3, "CMakeLists.txt: not a GGUF file");
}

static void says_when_the_database_cannot_be_written(void **state) {
    (void)state;
    char line[512];
    cli_expect(RUN "--limit 1 --db /nowhere/at/all.sqlite", 3, "/nowhere/at/all.sqlite");
    cli_expect(RUN "--limit 1 --db /proc/x.sqlite", 3, "/proc/x.sqlite");
    snprintf(line, sizeof line, RUN "--limit 1 --db %s", scratch_dir.dir);
    cli_expect(line, 3, scratch_dir.dir);
    scratch_write(&scratch_dir, "text.sqlite", "this is no database at all, only text that goes on for a while\n", 63);
    cli_expect(with_db(RUN "--limit 1", "text.sqlite"), 3, "text.sqlite");
}

static void says_when_the_disk_is_full(void **state) {
    (void)state;
    struct rlimit old, small;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    small = (struct rlimit){400 * 1024, old.rlim_max};
    void (*was)(int) = signal(SIGXFSZ, SIG_IGN); /* ignored in the child too: a write fails instead */
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    cli_result r = cli_run(with_db(RUN "--policy full,window --limit 200 --max-new 60", "full.sqlite"));
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    signal(SIGXFSZ, was);
    assert_int_equal(r.code, 3);
    assert_non_null(strstr(r.err, "full.sqlite"));
    cli_free(&r);
    cli_expect(with_db(RUN "--policy full,window --limit 200 --max-new 60", "full.sqlite"), 0, "");
}

static void refuses_a_truncated_model(void **state) {
    (void)state;
    char *whole = NULL, line[512];
    size_t size;
    assert_int_equal(kv_read_file(TINY, &whole, &size, NULL), KV_OK);
    for (size_t n = 0; n < size; n += 256 * 1024) { /* every 4 KiB: test_engine.c */
        scratch_write(&scratch_dir, "cut.gguf", whole, n);
        snprintf(line, sizeof line, "run --prompt-variant short --limit 1 --model %s",
                 scratch_path(&scratch_dir, "cut.gguf"));
        cli_expect(line, 3, "cut.gguf");
        snprintf(line, sizeof line, "generate --prompt a --model %s", scratch_path(&scratch_dir, "cut.gguf"));
        cli_expect(line, 3, "cut.gguf");
    }
    free(whole);
}

static void a_dry_run_shows_cells_and_runs_nothing(void **state) {
    (void)state;
    cli_result r = cli_run(with_db(RUN "--policy full,window,h2o --budget 16..64*2 --dry-run", "dry.sqlite"));
    assert_int_equal(r.code, 0);
    assert_non_null(strstr(r.out, "7 cells"));
    assert_int_not_equal(access(scratch_path(&scratch_dir, "dry.sqlite"), F_OK), 0);
    cli_free(&r);
    r = cli_run(RUN "--policy full --task gsm8k --limit 2 --max-new 500 --dry-run");
    assert_non_null(strstr(r.out, "326 of 500 new tokens fit behind the longest prompt"));
    cli_free(&r);
}

static void prints_one_object_per_cell(void **state) {
    (void)state;
    static const char *const keys[] = {
        "status", "policy",     "task",       "budget",        "buffer",        "prefill",      "n",    "accuracy",
        "stderr", "peak_slots", "mean_slots", "kv_bytes_peak", "prefill_tok_s", "decode_tok_s", "error"};
    cJSON *cells =
        cli_json(with_db(RUN "--policy full,window,h2o --budget 32 --buffer 8 --limit 3 --max-new 40 --format json",
                         "json.sqlite"),
                 0);
    assert_int_equal(cJSON_GetArraySize(cells), 3);
    const cJSON *c;
    cJSON_ArrayForEach(c, cells) {
        for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
            if (!cJSON_GetObjectItem(c, keys[i])) fail_msg("%s is missing", keys[i]);
        assert_string_equal(text_of(c, "status"), "done");
        assert_true(number_of(c, "n") == 3);
        assert_true(number_of(c, "kv_bytes_peak") > 0);
        assert_true(number_of(c, "decode_tok_s") > 0);
        assert_true(number_of(c, "prefill_tok_s") > 0);
    }
    assert_string_equal(text_of(cJSON_GetArrayItem(cells, 0), "policy"), "full");
    assert_true(number_of(cJSON_GetArrayItem(cells, 1), "mean_slots") <= 40);
    cJSON_Delete(cells);
}

static void failed_cells_are_rows_and_the_sweep_goes_on(void **state) {
    (void)state;
    cJSON *cells = cli_json(
        with_db(RUN "--policy trimkv,window --budget 32 --limit 2 --max-new 8 --format json", "fail.sqlite"), 1);
    assert_int_equal(cJSON_GetArraySize(cells), 2);
    const cJSON *a = cJSON_GetArrayItem(cells, 0), *b = cJSON_GetArrayItem(cells, 1);
    assert_string_equal(text_of(a, "status"), "error");
    assert_non_null(strstr(text_of(a, "error"), "--gates"));
    assert_string_equal(text_of(b, "status"), "done");
    cJSON_Delete(cells);
}

static void gates_of_another_shape_are_a_failed_cell(void **state) {
    (void)state;
    cJSON *cells = cli_json(with_db(RUN "--policy trimkv,window --gates " KV_SOURCE_DIR
                                        "/policies/trimkv-smollm2-135m --budget 32 --limit 2 --max-new 8 --format json",
                                    "shape.sqlite"),
                            1);
    const cJSON *a = cJSON_GetArrayItem(cells, 0), *b = cJSON_GetArrayItem(cells, 1);
    assert_string_equal(text_of(a, "status"), "error");
    assert_true(strlen(text_of(a, "error")) > 20);
    assert_string_equal(text_of(b, "status"), "done");
    cJSON_Delete(cells);
}

static void a_prompt_longer_than_the_context_is_a_failed_cell(void **state) {
    (void)state;
    const char *line =
        with_db("run --model " TINY " --task countdown_0.5k --prompt-variant official --policy full,window "
                "--limit 2 --quiet --format json",
                "long.sqlite");
    for (int again = 0; again < 2; again++) { /* the second time nothing is left to do */
        cJSON *cells = cli_json(line, 1);
        assert_int_equal(cJSON_GetArraySize(cells), 2);
        for (int i = 0; i < 2; i++) {
            assert_string_equal(text_of(cJSON_GetArrayItem(cells, i), "status"), "error");
            assert_non_null(strstr(text_of(cJSON_GetArrayItem(cells, i), "error"), "context"));
        }
        cJSON_Delete(cells);
    }
}

static void a_task_that_cannot_be_opened_is_a_failed_cell(void **state) {
    (void)state;
    cJSON *cells =
        cli_json(with_db(RUN "--task needle:words=100,countdown_0.5k --haystack nowhere --policy full --limit 2 "
                             "--max-new 4 --format json",
                         "task.sqlite"),
                 1);
    assert_int_equal(cJSON_GetArraySize(cells), 2);
    assert_string_equal(text_of(cJSON_GetArrayItem(cells, 0), "status"), "error");
    assert_non_null(strstr(text_of(cJSON_GetArrayItem(cells, 0), "error"), "nowhere"));
    assert_string_equal(text_of(cJSON_GetArrayItem(cells, 1), "status"), "done");
    cJSON_Delete(cells);
}

static void a_cell_out_of_time_is_a_row(void **state) {
    (void)state;
    cJSON *cells = cli_json(
        with_db(RUN "--policy full --timeout 0.000001 --limit 2 --max-new 40 --format json", "time.sqlite"), 1);
    assert_string_equal(text_of(cJSON_GetArrayItem(cells, 0), "status"), "timeout");
    cJSON_Delete(cells);
}

/* The sanitizers need terabytes of address space and count otherwise. */
#ifndef __has_feature
#define __has_feature(x) 0
#endif
#if defined __SANITIZE_ADDRESS__ || __has_feature(address_sanitizer)
enum { LIMITS_WORK = 0 };
#else
enum { LIMITS_WORK = 1 };
#endif

static void a_cell_without_memory_is_a_row_and_nothing_crashes(void **state) {
    (void)state;
    if (!LIMITS_WORK) skip();
    struct rlimit old;
    int n_oom = 0;
    assert_int_equal(getrlimit(RLIMIT_DATA, &old), 0);
    for (rlim_t mib = 1; mib <= 128; mib *= 2) {
        struct rlimit small = {mib << 20, old.rlim_max};
        char name[32];
        snprintf(name, sizeof name, "memory%d.sqlite", (int)mib);
        assert_int_equal(setrlimit(RLIMIT_DATA, &small), 0);
        cli_result r =
            cli_run(with_db(RUN "--policy full,window --budget 16 --limit 3 --max-new 8 --format json", name));
        assert_int_equal(setrlimit(RLIMIT_DATA, &old), 0);
        int row = strstr(r.out, "\"status\":\"oom\"") != NULL;
        if (r.code == 127) { /* not even the C library could start */
        } else if (r.code == 1 ? !row : r.code == 3 ? !strstr(r.err, "memory") : r.code != 0)
            fail_msg("%d MiB: exit %d\n%s%s", (int)mib, r.code, r.out, r.err);
        n_oom += row;
        cli_free(&r);
    }
    assert_true(n_oom > 0);
}

static void raising_the_limit_extends_a_cell(void **state) {
    (void)state;
    char *first, *second;
    cJSON *cells =
        cli_json(with_db(RUN "--policy h2o --budget 16 --max-new 12 --limit 2 --format json", "grow.sqlite"), 0);
    assert_true(number_of(cJSON_GetArrayItem(cells, 0), "n") == 2);
    cJSON_Delete(cells);
    first = db_dump(scratch_path(&scratch_dir, "grow.sqlite"));
    cells = cli_json(
        with_db(RUN "--policy h2o --budget 16 --max-new 12 --limit 5 --batch 2 --format json", "grow.sqlite"), 0);
    assert_true(number_of(cJSON_GetArrayItem(cells, 0), "n") == 5);
    cJSON_Delete(cells);
    second = db_dump(scratch_path(&scratch_dir, "grow.sqlite"));
    assert_int_equal(strncmp(second, first, strlen(first)), 0);
    free(first);
    free(second);
}

static void sharing_the_prefill_changes_no_token(void **state) {
    (void)state;
    const char *const sweep =
        RUN "--policy full,window,random,h2o,snapkv,trimkv --gates golden/tiny-gates --budget 24,48 "
            "--buffer 8 --limit 4 --max-new 40 --batch 3 --task countdown_0.5k,needle:words=40 "
            "--query after,before";
    char line[1024], *shared, *alone;
    cli_expect(with_db(sweep, "shared.sqlite"), 0, "");
    snprintf(line, sizeof line, "%s --no-share", sweep);
    cli_expect(with_db(line, "alone.sqlite"), 0, "");
    /* eleven cells a group: each prompt is computed once and copied eleven times */
    assert_int_equal(
        count_in("shared.sqlite",
                 "SELECT 11 * sum(n_tokens) FILTER (WHERE phase = 'prefill_saved') = 10 * sum(n_tokens) FILTER "
                 "(WHERE phase = 'fork') AND min(seconds) > 0 FROM timing WHERE phase IN ('fork', 'prefill_saved')"),
        1);
    assert_int_equal(count_in("alone.sqlite", "SELECT count(*) FROM timing WHERE phase NOT IN ('prefill', 'decode')"),
                     0);
    assert_int_equal(count_in("shared.sqlite", "SELECT sum(n_tokens) FROM timing WHERE phase = 'prefill'"),
                     count_in("alone.sqlite", "SELECT sum(n_tokens) FROM timing WHERE phase = 'prefill'"));
    shared = db_dump(scratch_path(&scratch_dir, "shared.sqlite"));
    alone = db_dump(scratch_path(&scratch_dir, "alone.sqlite"));
    assert_true(strlen(shared) > 1000);
    assert_string_equal(shared, alone);
    free(shared);
    free(alone);
}

static void a_sweep_ends_with_what_sharing_saved(void **state) {
    (void)state;
    const char *const line =
        "run --model " TINY
        " --prompt-variant short --backend cpu --policy window,h2o --budget 24 --buffer 8 --limit 3 "
        "--samples 2 --temperature 1 --max-new 4 --task countdown_0.5k";
    sqlite3 *db;
    sqlite3_stmt *st;
    char *query;
    size_t size;
    cli_result r = cli_run(with_db(line, "saving.sqlite"));
    assert_int_equal(r.code, 0);
    const char *said = strstr(r.err, "shared prefill: ");
    long long computed, asked;
    assert_non_null(said);
    assert_int_equal(sscanf(said, "shared prefill: %lld of %lld prompt tokens computed", &computed, &asked), 2);
    assert_true(computed > 0 && computed < asked);
    cli_free(&r);
    assert_int_equal(kv_read_file(KV_SOURCE_DIR "/results/queries/prefill.sql", &query, &size, NULL), KV_OK);
    assert_int_equal(sqlite3_open(scratch_path(&scratch_dir, "saving.sqlite"), &db), SQLITE_OK);
    assert_int_equal(sqlite3_prepare_v2(db, query, -1, &st, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(st), SQLITE_ROW);
    assert_int_equal(sqlite3_column_int64(st, 1), 2);
    assert_int_equal(sqlite3_column_int64(st, 2), 4 * sqlite3_column_int64(st, 3)); /* two cells, two samples */
    assert_true(sqlite3_column_double(st, 4) > 0 && sqlite3_column_double(st, 5) > 0);
    assert_int_equal(sqlite3_step(st), SQLITE_DONE);
    sqlite3_finalize(st);
    sqlite3_close(db);
    free(query);
}

static void samples_differ_and_come_back_the_same(void **state) {
    (void)state;
    const char *const line =
        RUN "--policy window --budget 32 --temperature 1 --samples 3 --limit 2 --max-new 16 --seed 5";
    cli_expect(with_db(line, "a.sqlite"), 0, "");
    char *a = db_dump(scratch_path(&scratch_dir, "a.sqlite"));
    cli_expect(
        with_db(RUN "--policy window --budget 32 --temperature 1 --samples 3 --limit 2 --max-new 16 --seed 5 --batch 1",
                "b.sqlite"),
        0, "");
    char *b = db_dump(scratch_path(&scratch_dir, "b.sqlite"));
    assert_string_equal(a, b);
    char *one = strchr(strchr(a, '\t') + 1, '\t'), *two = strchr(strchr(strchr(a, '\n') + 1, '\t') + 1, '\t');
    assert_int_not_equal(strncmp(one, two, strcspn(one, "\n")), 0);
    free(a);
    free(b);
}

static void generate_prints_everything_needed_to_compare_engines(void **state) {
    (void)state;
    const char *const line =
        "generate --model " TINY " --raw --prompt every_number_has_a_place --max-new 20 --threads 1 "
        "--numerics exact --ignore-eos --json";
    char traced[512];
    snprintf(traced, sizeof traced, "%s --policy h2o --budget 8 --buffer 4 --trace", line);
    cJSON *full = cli_json(line, 0), *few = cli_json(traced, 0);
    const cJSON *a = cJSON_GetArrayItem(full, 0), *b = cJSON_GetArrayItem(few, 0);
    assert_int_equal(cJSON_GetArraySize(cJSON_GetObjectItem(a, "ids")), 20);
    assert_int_equal(cJSON_GetArraySize(cJSON_GetObjectItem(a, "top")), 20);
    const cJSON *top = cJSON_GetArrayItem(cJSON_GetObjectItem(a, "top"), 0);
    assert_int_equal(cJSON_GetArraySize(top), 5);
    assert_true(cJSON_GetNumberValue(cJSON_GetArrayItem(cJSON_GetArrayItem(top, 0), 0)) ==
                cJSON_GetNumberValue(cJSON_GetArrayItem(cJSON_GetObjectItem(a, "ids"), 0)));
    assert_true(number_of(a, "evicted") == 0);
    assert_null(cJSON_GetObjectItem(a, "evictions"));
    const cJSON *events = cJSON_GetObjectItem(b, "evictions"), *e;
    assert_true(cJSON_GetArraySize(events) > 0);
    cJSON_ArrayForEach(e, events) {
        assert_int_equal(cJSON_GetArraySize(cJSON_GetObjectItem(e, "kept")), 8);
        assert_true(cJSON_GetArraySize(cJSON_GetObjectItem(e, "before")) >= 12);
    }
    cJSON_Delete(full);
    cJSON_Delete(few);
}

static void generate_without_eviction_ignores_the_policy(void **state) {
    (void)state;
    cJSON *a = cli_json("generate --model " TINY " --prompt hello --max-new 12 --json", 0);
    cJSON *b = cli_json("generate --model " TINY " --prompt hello --max-new 12 --json --policy snapkv --budget 400", 0);
    char *x = cJSON_Print(cJSON_GetObjectItem(cJSON_GetArrayItem(a, 0), "ids"));
    char *y = cJSON_Print(cJSON_GetObjectItem(cJSON_GetArrayItem(b, 0), "ids"));
    assert_string_equal(x, y);
    cJSON_free(x);
    cJSON_free(y);
    cJSON_Delete(a);
    cJSON_Delete(b);
}

static void generate_splits_the_question_off(void **state) {
    (void)state;
    const char *const argv[] = {"generate",   "--model",       TINY,        "--prompt", "a small model can keep",
                                "--question", "what it needs", "--max-new", "4",        "--json",
                                NULL};
    cli_result r = cli_run_argv(argv);
    assert_int_equal(r.code, 0);
    cJSON *j = cJSON_Parse(r.out);
    int n = cJSON_GetArraySize(cJSON_GetObjectItem(j, "prompt_ids"));
    assert_true(number_of(j, "n_context") > 0 && number_of(j, "n_context") < n);
    cJSON_Delete(j);
    cli_free(&r);
}

static void tokenize_prints_ids(void **state) {
    (void)state;
    cli_result plain = cli_run("tokenize --model " TINY " --text hello"),
               raw = cli_run("tokenize --model " TINY " --text hello --raw"),
               chat = cli_run("tokenize --model " TINY " --text hello --chat model");
    cJSON *a = cJSON_Parse(plain.out), *b = cJSON_Parse(chat.out);
    assert_int_equal(plain.code, 0);
    assert_string_equal(plain.out, raw.out);
    assert_true(cJSON_GetArraySize(a) > 0);
    assert_true(cJSON_GetArraySize(b) > cJSON_GetArraySize(a));
    cJSON_Delete(a);
    cJSON_Delete(b);
    cli_free(&plain);
    cli_free(&raw);
    cli_free(&chat);
}

#define SPEED "speed --model " TINY " --backend cpu --quiet --format json "

static void speed_prints_one_object_per_cell(void **state) {
    (void)state;
    cJSON *rows =
        cli_json(with_db(SPEED "--policy full,window --budget 32 --buffer 8 --ctx 64 --batch 1,2 --max-new 20 "
                               "--reps 2 --threads 1",
                         "speed1.sqlite"),
                 0);
    const cJSON *r;
    assert_int_equal(cJSON_GetArraySize(rows), 4);
    cJSON_ArrayForEach(r, rows) {
        assert_string_equal(text_of(r, "status"), "done");
        assert_true(number_of(r, "ctx") == 64 && number_of(r, "steps") == 19);
        assert_true(number_of(r, "prefill_tok_s") > 0 && number_of(r, "decode_tok_s") > 0);
        assert_true(number_of(r, "bytes_per_step") > 0);
        assert_true(number_of(r, "decode_min") <= number_of(r, "decode_tok_s"));
        assert_true(number_of(r, "ms_min") <= number_of(r, "ms_per_step"));
        assert_true(number_of(r, "mem_sum") >= number_of(r, "weight_bytes"));
        assert_true(cJSON_IsNull(cJSON_GetObjectItem(r, "copy_share")));
    }
    /* the same weights, more keys and values */
    assert_true(number_of(cJSON_GetArrayItem(rows, 0), "bytes_per_step") >
                number_of(cJSON_GetArrayItem(rows, 1), "bytes_per_step"));
    cJSON_Delete(rows);
    rows = cli_json(
        with_db(SPEED "--policy full,trimkv --ctx 16,510 --batch 1,max --max-new 8 --reps 1", "speed2.sqlite"), 1);
    assert_int_equal(cJSON_GetArraySize(rows), 8);
    assert_string_equal(text_of(cJSON_GetArrayItem(rows, 0), "status"), "done");
    assert_non_null(strstr(text_of(cJSON_GetArrayItem(rows, 1), "error"), "gates"));
    assert_non_null(strstr(text_of(cJSON_GetArrayItem(rows, 2), "error"), "--batch max"));
    assert_non_null(strstr(text_of(cJSON_GetArrayItem(rows, 4), "error"), "context"));
    cJSON_Delete(rows);
}

static void speed_records_every_repetition(void **state) {
    (void)state;
    const char *db = "speed3.sqlite";
    cJSON_Delete(
        cli_json(with_db(SPEED "--policy full,h2o --budget 32 --buffer 8 --ctx 64 --batch 2 --max-new 20 --reps 3 "
                               "--prefill-reps 2 --threads 1",
                         db),
                 0));
    assert_int_equal(count_in(db, "SELECT count(*) FROM run WHERE status = 'done' AND task_id IS NULL"), 2);
    assert_int_equal(count_in(db, "SELECT count(*) FROM timing WHERE phase = 'decode'"), 6);
    assert_int_equal(count_in(db, "SELECT count(*) FROM timing WHERE phase = 'prefill'"), 4);
    assert_int_equal(count_in(db, "SELECT count(*) FROM timing WHERE phase = 'decode' AND batch = 2 AND ctx = 64 AND "
                                  "n_tokens = 38 AND seconds > 0 AND sm_clock_mhz IS NULL AND throttle IS NULL"),
                     6);
    assert_int_equal(count_in(db, "SELECT count(*) FROM memory WHERE weights > 0 AND kv > 0"), 2);
    assert_int_equal(count_in(db, "SELECT count(*) FROM counter WHERE name = 'steps' AND value = 19"), 2);
    assert_int_equal(count_in(db, "SELECT count(*) FROM counter WHERE name = 'evictions' AND value > 0"), 1);
    assert_int_equal(count_in(db, "SELECT count(DISTINCT cell_key) FROM run"), 2);
    /* the same cells again are new runs of the same keys */
    cJSON_Delete(
        cli_json(with_db(SPEED "--policy full --ctx 64 --batch 2 --max-new 20 --reps 1 --prefill-reps 0", db), 0));
    assert_int_equal(count_in(db, "SELECT count(*) FROM run"), 3);
    assert_int_equal(count_in(db, "SELECT count(DISTINCT cell_key) FROM run"), 2);
    cli_expect(with_db("plot --gnuplot /nowhere/gnuplot", db), 3, "no cell");
}

static void speed_covers_ten_cycles_unless_told_otherwise(void **state) {
    (void)state;
    cJSON *rows = cli_json(
        with_db(SPEED "--policy full,window --budget 16 --buffer 16,4 --ctx 20 --batch 1 --reps 1", "speed4.sqlite"),
        0);
    assert_int_equal(cJSON_GetArraySize(rows), 3);
    const cJSON *r;
    cJSON_ArrayForEach(r, rows) assert_true(number_of(r, "max_new") == 161);
    cJSON_Delete(rows);
}

static void speed_streams_a_prompt_and_says_that_the_cpu_has_no_profile(void **state) {
    (void)state;
    cli_result r = cli_run(with_db("speed --model " TINY
                                   " --backend cpu --policy window,h2o --budget 32 --buffer 8 --prefill stream:8,full "
                                   "--ctx 60 --batch 3 --max-new 9 --reps 1 --quiet --profile",
                                   "speed5.sqlite"));
    assert_int_equal(r.code, 0);
    assert_non_null(strstr(r.out, "stream:8"));
    char *line = strstr(r.err, "--profile:");
    assert_non_null(line);
    assert_null(strstr(line + 1, "--profile:"));
    cli_free(&r);
}

/* 13.5 MB hold the tiny model, its work buffers, and not much of a cache. */
static void speed_records_what_does_not_fit_and_goes_on(void **state) {
    (void)state;
#define SMALL SPEED "--policy full,window --budget 32 --buffer 8 --max-new 30 --reps 1 --device-memory 0.01"
    static const char *const want[] = {"done", "done", "oom", "oom", "done", "done", "oom", "oom"};
    const char *db = "speed6.sqlite";
    int64_t most[2];
    cJSON *rows = cli_json(with_db(SMALL "35 --ctx 400 --batch 1,64,max", db), 1);
    for (int i = 0; i < 6; i++) assert_string_equal(text_of(cJSON_GetArrayItem(rows, i), "status"), want[i]);
    assert_non_null(strstr(text_of(cJSON_GetArrayItem(rows, 2), "error"), "KV cache and buffers of a batch of 64"));
    for (int i = 0; i < 2; i++) {
        const cJSON *r = cJSON_GetArrayItem(rows, 4 + i);
        most[i] = (int64_t)number_of(r, "batch");
        assert_true(number_of(r, "batch_max") == 1 && number_of(r, "mem_sum") <= 0.0135 * 1073741824);
    }
    assert_true(most[0] >= 1 && most[1] > 4 * most[0]);
    cJSON_Delete(rows);
    assert_int_equal(count_in(db, "SELECT count(*) FROM run WHERE status = 'oom' AND error LIKE '%KV cache%'"), 2);
    for (int i = 0; i < 2; i++) { /* one more is one too many */
        char line[256];
        snprintf(line, sizeof line, SMALL "35 --ctx 400 --batch %d,%d", (int)most[i], (int)most[i] + 1);
        rows = cli_json(with_db(line, db), 1);
        assert_string_equal(text_of(cJSON_GetArrayItem(rows, i), "status"), "done");
        assert_string_equal(text_of(cJSON_GetArrayItem(rows, 2 + i), "status"), "oom");
        cJSON_Delete(rows);
    }
    /* a prompt that does not fit, then one that does; not even one sequence; not even the weights */
    rows = cli_json(with_db(SMALL "455 --ctx 400,40 --batch 1 --numerics exact", db), 1);
    assert_string_equal(text_of(cJSON_GetArrayItem(rows, 0), "status"), "oom");
    assert_string_equal(text_of(cJSON_GetArrayItem(rows, 3), "status"), "done");
    cJSON_Delete(rows);
    rows = cli_json(with_db(SMALL "13 --ctx 400 --batch max", db), 1);
    assert_non_null(strstr(text_of(cJSON_GetArrayItem(rows, 0), "error"), "one sequence takes"));
    cJSON_Delete(rows);
    rows = cli_json(with_db(SPEED "--policy full --ctx 400 --batch 1,max --device-memory 0.001", db), 1);
    assert_non_null(strstr(text_of(cJSON_GetArrayItem(rows, 1), "error"), "for weights"));
    static const char *const unknown[] = {"batch", "kv_bytes_peak", "weight_bytes", "evictions", "steps", "mem_sum"};
    for (size_t i = 0; i < sizeof unknown / sizeof *unknown; i++)
        assert_true(cJSON_IsNull(cJSON_GetObjectItem(cJSON_GetArrayItem(rows, 1), unknown[i])));
    cJSON_Delete(rows);
#undef SMALL
}

static void a_dry_run_of_speed_predicts_bytes(void **state) {
    (void)state;
    cli_result r = cli_run("speed --model synth:qwen3-4b," TINY " --policy full,trimkv --ctx 400,2000000 --batch 4,max "
                           "--dry-run --backend cpu");
    assert_int_equal(r.code, 0);
    assert_non_null(strstr(r.out, "would not fit"));
    assert_non_null(strstr(r.out, "cannot run: the model's context"));
    assert_non_null(strstr(r.out, "cannot run: no gates"));
    assert_non_null(strstr(r.out, "cannot run: random weights are for a GPU"));
    assert_non_null(strstr(r.out, "16 cells"));
    cli_free(&r);
    /* weights alone are too much: of a file's model, too */
    r = cli_run("speed --model " TINY " --policy full --ctx 16 --batch 1 --dry-run --backend cpu --device-memory 1e-5");
    assert_int_equal(r.code, 0);
    assert_non_null(strstr(r.out, "would not fit"));
    cli_free(&r);
}

static void paper_lists_and_predicts_published_tables(void **state) {
    (void)state;
    cli_result r = cli_run("paper");
    assert_int_equal(r.code, 0);
    assert_non_null(strstr(r.out, "trimkv-table5"));
    cli_free(&r);
    cli_expect("paper trimkv-tabel5", 2, "did you mean 'trimkv-table5'");
    cli_expect("paper trimkv-table5 --model nowhere.gguf --dry-run --db /nowhere/x.sqlite", 3, "/nowhere");
    r = cli_run(with_db("paper trimkv-table5 --dry-run", "paper.sqlite"));
    assert_int_equal(r.code, 0);
    assert_non_null(strstr(r.out, "9 cells"));
    assert_non_null(strstr(r.out, "32786"));
    cli_free(&r);
    assert_true(count_in("paper.sqlite", "SELECT count(*) FROM paper_number") > 2000);
    assert_int_equal(count_in("paper.sqlite", "SELECT count(*) FROM run"), 0);
}

static void paper_sets_published_beside_measured(void **state) {
    (void)state;
    /* the tiny model's context is too short: every cell fails, the published values stand */
    cJSON *rows = cli_json(
        with_db("paper trimkv-table5 --backend cpu --model " TINY " --quiet --format json --reps 1", "paper.sqlite"),
        1);
    assert_int_equal(cJSON_GetArraySize(rows), 12);
    const cJSON *r = cJSON_GetArrayItem(rows, 0);
    assert_string_equal(text_of(r, "policy"), "FullKV");
    assert_true(number_of(r, "published") == 68.44 && number_of(r, "ctx") == 32786 && number_of(r, "batch") == 4);
    assert_non_null(strstr(text_of(r, "error"), "context"));
    r = cJSON_GetArrayItem(rows, 1);
    assert_string_equal(text_of(r, "policy"), "SeerAttn-R");
    assert_string_equal(text_of(r, "status"), "published");
    cJSON_Delete(rows);
}

static void plot_without_gnuplot_says_what_to_install(void **state) {
    (void)state;
    cli_expect(with_db(RUN "--policy full,window --budget 16,32 --limit 2 --max-new 8", "plot.sqlite"), 0, "");
    cli_expect(with_db("plot --gnuplot /nowhere/gnuplot", "plot.sqlite"), 1, "gnuplot");
    assert_int_equal(access(scratch_path(&scratch_dir, "plot.html"), F_OK), 0);
    cli_expect(with_db("plot --task nothing", "plot.sqlite"), 3, "filters");
    cli_expect(with_db("plot --out /proc/nowhere", "plot.sqlite"), 3, "/proc/nowhere");
    cli_expect(with_db("plot --out CMakeLists.txt", "plot.sqlite"), 3, "CMakeLists.txt is no folder");
}

static void plot_makes_the_folder_it_writes_to(void **state) {
    (void)state;
    char line[512], page[256];
    cli_expect(with_db(RUN "--policy full,window --budget 16,32 --limit 2 --max-new 8", "made.by.me.sqlite"), 0, "");
    snprintf(line, sizeof line, "plot --gnuplot /nowhere/gnuplot --out %s/deep/er/", scratch_dir.dir);
    cli_expect(with_db(line, "made.by.me.sqlite"), 1, "gnuplot");
    static const char *const files[] = {"made.by.me.html", "made.by.me_budget.dat", "made.by.me_budget.gp",
                                        "made.by.me_bytes.dat", "made.by.me_bytes.gp"};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        snprintf(page, sizeof page, "%s/deep/er/%s", scratch_dir.dir, files[i]);
        assert_int_equal(unlink(page), 0);
    }
    snprintf(page, sizeof page, "%s/deep/er", scratch_dir.dir);
    assert_int_equal(rmdir(page), 0);
    snprintf(page, sizeof page, "%s/deep", scratch_dir.dir);
    assert_int_equal(rmdir(page), 0);
}

static void a_file_of_a_newer_version_is_left_alone(void **state) {
    (void)state;
    static const char *const commands[] = {RUN "--limit 1 --policy full", "plot", "export"};
    cli_expect(with_db(RUN "--policy full --limit 1 --max-new 4", "newer.sqlite"), 0, "");
    db_exec(scratch_path(&scratch_dir, "newer.sqlite"), "PRAGMA user_version = 99");
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
        cli_expect(with_db(commands[i], "newer.sqlite"), 3, "version 99");
    cli_result r = cli_run(with_db("doctor --model " TINY, "newer.sqlite"));
    assert_int_equal(r.code, 1);
    assert_non_null(strstr(r.out, "FAIL  results"));
    cli_free(&r);
}

static void output_that_is_lost_is_a_failure(void **state) {
    (void)state;
    static const char *const lines[] = {"list", "--help", RUN "--policy full --limit 1 --max-new 4",
                                        RUN "--policy full --limit 1 --dry-run"};
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        char line[2300];
        snprintf(line, sizeof line, "%s %s >/dev/full 2>&1", KV_BINARY,
                 i < 2 ? lines[i] : with_db(lines[i], "lost.sqlite"));
        int status = system(line);
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), 1);
    }
}

static void list_and_doctor_tell_what_is_there(void **state) {
    (void)state;
    cli_result r = cli_run("list");
    assert_int_equal(r.code, 0);
    assert_non_null(strstr(r.out, "trimkv"));
    assert_non_null(strstr(r.out, "countdown_0.5k"));
    cli_free(&r);
    r = cli_run(with_db("doctor --model " TINY, "doctor.sqlite"));
    assert_int_equal(r.code, 0);
    assert_non_null(strstr(r.out, "ok    model"));
    cli_free(&r);
    r = cli_run("doctor --model nowhere.gguf --db /nowhere/x.sqlite --gnuplot /nowhere/gnuplot");
    assert_int_equal(r.code, 1);
    assert_non_null(strstr(r.out, "FAIL  model"));
    assert_non_null(strstr(r.out, "FAIL  results"));
    assert_non_null(strstr(r.out, "warn  gnuplot"));
    cli_free(&r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(help_shows_examples_for_every_command),
        cmocka_unit_test(refuses_what_it_does_not_know),
        cmocka_unit_test(refuses_values_that_make_no_sense),
        cmocka_unit_test(says_where_a_model_cannot_run),
        cmocka_unit_test(random_weights_are_for_speed_only),
        cmocka_unit_test(refuses_empty_values),
        cmocka_unit_test(refuses_prompts_that_cannot_be_read),
        cmocka_unit_test(stray_bytes_in_a_prompt_become_tokens_and_the_json_stays_clean),
        cmocka_unit_test(says_what_is_missing_before_it_starts),
        cmocka_unit_test(says_when_the_database_cannot_be_written),
        cmocka_unit_test(says_when_the_disk_is_full),
        cmocka_unit_test(refuses_a_truncated_model),
        cmocka_unit_test(a_dry_run_shows_cells_and_runs_nothing),
        cmocka_unit_test(prints_one_object_per_cell),
        cmocka_unit_test(failed_cells_are_rows_and_the_sweep_goes_on),
        cmocka_unit_test(gates_of_another_shape_are_a_failed_cell),
        cmocka_unit_test(a_prompt_longer_than_the_context_is_a_failed_cell),
        cmocka_unit_test(a_task_that_cannot_be_opened_is_a_failed_cell),
        cmocka_unit_test(a_cell_out_of_time_is_a_row),
        cmocka_unit_test(a_cell_without_memory_is_a_row_and_nothing_crashes),
        cmocka_unit_test(raising_the_limit_extends_a_cell),
        cmocka_unit_test(sharing_the_prefill_changes_no_token),
        cmocka_unit_test(a_sweep_ends_with_what_sharing_saved),
        cmocka_unit_test(samples_differ_and_come_back_the_same),
        cmocka_unit_test(generate_prints_everything_needed_to_compare_engines),
        cmocka_unit_test(generate_without_eviction_ignores_the_policy),
        cmocka_unit_test(generate_splits_the_question_off),
        cmocka_unit_test(tokenize_prints_ids),
        cmocka_unit_test(speed_prints_one_object_per_cell),
        cmocka_unit_test(speed_records_every_repetition),
        cmocka_unit_test(speed_covers_ten_cycles_unless_told_otherwise),
        cmocka_unit_test(speed_streams_a_prompt_and_says_that_the_cpu_has_no_profile),
        cmocka_unit_test(speed_records_what_does_not_fit_and_goes_on),
        cmocka_unit_test(a_dry_run_of_speed_predicts_bytes),
        cmocka_unit_test(paper_lists_and_predicts_published_tables),
        cmocka_unit_test(paper_sets_published_beside_measured),
        cmocka_unit_test(plot_without_gnuplot_says_what_to_install),
        cmocka_unit_test(plot_makes_the_folder_it_writes_to),
        cmocka_unit_test(a_file_of_a_newer_version_is_left_alone),
        cmocka_unit_test(output_that_is_lost_is_a_failure),
        cmocka_unit_test(list_and_doctor_tell_what_is_there),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
