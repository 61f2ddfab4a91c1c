/* test_snapshot.c - what `--gates SNAPSHOT` fills in, and a run with nothing else. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bench/snapshot.h"
#include "tests/support/cli.h"
#include "tests/support/scratch.h"

#define TINY KV_SOURCE_DIR "/tests/golden/tiny-llama.gguf"
#define SNAPSHOTS KV_SOURCE_DIR "/tests/golden/trimkv/"

enum { MAX_ARGS = 32 };

static char note[KV_SNAPSHOT_NOTE]; /* of the last apply() */
static scratch dir, hub;            /* hub: the cache of the hub for this program and those that it starts */

/* tiny-random/gates and their base model as the hub's cache holds them: a commit named by refs/main, here a link. */
#define COMMIT "0123456789abcdef0123456789abcdef01234567"
static const char *const repositories[2][2] = {
    {"models--tiny-random--gates", SNAPSHOTS "qwen3-rg10"},
    {"models--tiny-random--qwen3", KV_SOURCE_DIR "/tests/data/checkpoints/qwen3"}};
static const char *const below[] = {"", "/refs", "/snapshots"};

/* "<hub>/<repository i><part>" */
static const char *in_hub(int i, const char *part) {
    char name[120];
    snprintf(name, sizeof name, "%s%s", repositories[i][0], part);
    return scratch_path(&hub, name);
}

static int make_folders(void **state) {
    (void)state;
    if (scratch_open(&dir) || scratch_open(&hub) || setenv("HF_HUB_CACHE", hub.dir, 1)) return -1;
    for (int i = 0; i < 2; i++) {
        for (int k = 0; k < 3; k++)
            if (mkdir(in_hub(i, below[k]), 0700)) return -1;
        FILE *f = fopen(in_hub(i, "/refs/main"), "w");
        if (!f || fputs(COMMIT, f) < 0 || fclose(f)) return -1;
        if (symlink(repositories[i][1], in_hub(i, "/snapshots/" COMMIT))) return -1;
    }
    return 0;
}

static int remove_folders(void **state) {
    (void)state;
    for (int i = 0; i < 2; i++) {
        unlink(in_hub(i, "/refs/main"));
        unlink(in_hub(i, "/snapshots/" COMMIT));
        for (int k = 2; k >= 0; k--) rmdir(in_hub(i, below[k]));
    }
    scratch_close(&hub);
    scratch_close(&dir);
    return 0;
}

/* A snapshot with this config.json; what is not read at this point is not in it. */
static void write_snapshot(const char *config) {
    assert_non_null(scratch_write(&dir, "trimkv_weights.pth", "", 0));
    assert_non_null(scratch_write(&dir, "config.json", config, strlen(config)));
}

/* Parses "... --gates <the snapshot>" and applies it; the caller frees the options. */
static int apply(kv_cmd_id cmd, const char *line, kv_opts *o, kv_error *err) {
    char copy[1024], *argv[MAX_ARGS];
    kv_paths paths = {.gates = KV_SOURCE_DIR "/policies/trimkv-smollm2-135m"};
    int n = 0;
    snprintf(copy, sizeof copy, "%s --gates %s", line, dir.dir);
    for (char *p = strtok(copy, " "); p; p = strtok(NULL, " ")) argv[n++] = p;
    if (kv_opts_parse(cmd, n, argv, o, err)) fail_msg("%s: %s", line, err->text);
    return kv_snapshot_apply(o, &paths, note, err);
}

static void expect(const char *line, int budget, int buffer, const char *model, const char *policy) {
    kv_opts o;
    kv_error err = {0};
    if (apply(KV_CMD_RUN, line, &o, &err)) fail_msg("%s: %s", line, err.text);
    assert_int_equal(kv_opts_int(&o, KV_OPT_BUDGET), budget);
    assert_int_equal(kv_opts_int(&o, KV_OPT_BUFFER), buffer);
    const char *got = kv_opts_text(&o, KV_OPT_MODEL);
    if (strcmp(got ? got : "", model) != 0) fail_msg("%s: model %s, not %s", line, got ? got : "", model);
    assert_string_equal(kv_opts_text(&o, KV_OPT_POLICY), policy);
    kv_opts_free(&o);
}

static void budget_and_buffer_come_from_the_snapshot_unless_typed(void **st) {
    (void)st;
    write_snapshot("{\"memory_size\":512,\"buffer_size\":128}");
    expect("--policy trimkv --model m", 512, 128, "m", "trimkv");
    expect("--policy trimkv --model m --budget 64", 64, 128, "m", "trimkv");
    expect("--policy trimkv --model m --buffer 16", 512, 16, "m", "trimkv");
    write_snapshot("{\"memory_size\":512,\"buffer_size\":0}");
    expect("--policy trimkv --model m", 512, 1, "m", "trimkv");
    write_snapshot("{\"memory_size\":null}");
    expect("--policy trimkv --model m", 256, 32, "m", "trimkv");
    write_snapshot("{\"memory_size\":null,\"buffer_size\":128}");
    expect("--policy trimkv --model m", 256, 128, "m", "trimkv");
}

static void parameters_of_the_score_come_from_the_snapshot_unless_typed(void **st) {
    (void)st;
    write_snapshot("{\"strategy\":\"fixed_budget\",\"lookahead_steps\":4,\"sliding_window_size\":16}");
    expect("--model m --policy trimkv", 256, 32, "m", "trimkv:window=16:lookahead=4");
    expect("--model m --policy trimkv:lookahead=1", 256, 32, "m", "trimkv:lookahead=1:window=16");
    expect("--model m --policy h2o", 256, 32, "m", "h2o");
    write_snapshot("{\"compress_strategy\":\"knorm_alpha\"}");
    expect("--model m --policy trimkv", 256, 32, "m", "trimkv:knorm=1");
}

static void strategies_without_a_budget_are_refused(void **st) {
    (void)st;
    kv_opts o;
    kv_error err = {0};
    write_snapshot("{\"strategy\":\"threshold\"}");
    assert_int_equal(apply(KV_CMD_RUN, "--model m", &o, &err), KV_EUNSUPPORTED);
    assert_non_null(strstr(err.text, "strategy 'threshold'"));
    kv_opts_free(&o);
    expect("--model m --policy trimkv --budget 64", 64, 32, "m", "trimkv");
    write_snapshot("{\"skip_layers\":0}");
    expect("--model m --policy trimkv", 256, 32, "m", "trimkv");
    write_snapshot("{\"skip_layers\":2}");
    assert_int_equal(apply(KV_CMD_RUN, "--model m --budget 64", &o, &err), KV_EUNSUPPORTED);
    assert_non_null(strstr(err.text, "skip_layers is 2"));
    kv_opts_free(&o);
}

static void the_base_model_is_used_when_it_is_there(void **st) {
    (void)st;
    kv_opts o;
    kv_error err = {0};
    write_snapshot("{\"base_model\":\"" TINY "\"}");
    expect("--policy trimkv", 256, 32, TINY, "trimkv");
    expect("--policy trimkv --model m", 256, 32, "m", "trimkv");
    write_snapshot("{\"base_model\":\"HuggingFaceTB/SmolLM2-135M-Instruct\"}"); /* the default model's */
    expect("--policy trimkv", 256, 32, "", "trimkv");
    write_snapshot("{\"base_model\":\"no-such-org/no-such-model\"}");
    expect("--policy trimkv --model m", 256, 32, "m", "trimkv");
    assert_int_equal(apply(KV_CMD_RUN, "--policy trimkv", &o, &err), KV_ENOTFOUND);
    assert_non_null(strstr(err.text, "scripts/get_model.sh no-such-org/no-such-model"));
    kv_opts_free(&o);
}

static void another_model_than_the_base_is_noted(void **st) {
    (void)st;
    static const char *const same[] = {"tiny-random/qwen3",
                                       "tiny-random/qwen3@" COMMIT,
                                       KV_SOURCE_DIR "/tests/data/checkpoints/qwen3/",
                                       "synth:tiny",
                                       "no-such-model",
                                       KV_SOURCE_DIR "/tests/data/checkpoints/qwen3.gguf"};
    static const char *const other[] = {"tiny-random/gates", KV_SOURCE_DIR "/tests/data/checkpoints/qwen2", TINY};
    char line[1024];
    write_snapshot("{\"base_model\":\"tiny-random/qwen3\"}");
    for (size_t i = 0; i < sizeof same / sizeof *same; i++) {
        snprintf(line, sizeof line, "--policy trimkv --model %s", same[i]);
        expect(line, 256, 32, same[i], "trimkv");
        if (note[0]) fail_msg("%s: %s", same[i], note);
    }
    for (size_t i = 0; i < sizeof other / sizeof *other; i++) {
        snprintf(line, sizeof line, "--policy trimkv --model %s", other[i]);
        expect(line, 256, 32, other[i], "trimkv");
        if (!strstr(note, "made for tiny-random/qwen3: --model ") || !strstr(note, other[i]))
            fail_msg("%s: %s", other[i], note);
    }
    expect("--policy trimkv", 256, 32, "tiny-random/qwen3", "trimkv");
    assert_string_equal(note, "");
}

static void other_commands_take_what_concerns_them(void **st) {
    (void)st;
    kv_opts o;
    kv_error err = {0};
    write_snapshot("{\"base_model\":\"no-such-org/no-such-model\",\"memory_size\":512,\"lookahead_steps\":4}");
    assert_int_equal(apply(KV_CMD_PAPER, "trimkv-table5", &o, &err), KV_OK);
    kv_opts_free(&o);
    assert_int_equal(apply(KV_CMD_GENERATE, "--model m --prompt x --policy trimkv", &o, &err), KV_OK);
    assert_int_equal(kv_opts_int(&o, KV_OPT_BUDGET), 512);
    assert_string_equal(kv_opts_text(&o, KV_OPT_POLICY_ONE), "trimkv:lookahead=4");
    kv_opts_free(&o);
}

static void a_bad_config_stops_the_command(void **st) {
    (void)st;
    kv_opts o;
    kv_error err = {0};
    write_snapshot("{\"memory_size\":\"512\"}");
    assert_int_equal(apply(KV_CMD_RUN, "--model m", &o, &err), KV_EFORMAT);
    assert_non_null(strstr(err.text, "memory_size"));
    kv_opts_free(&o);
}

/* M and B of the config, gates from a .pth. */
static void a_snapshot_of_every_type_runs(void **st) {
    (void)st;
    static const char *const types[] = {"rg", "rg2", "rg3", "rg10"};
    for (int t = 0; t < 4; t++) {
        char line[1024], name[32];
        snprintf(name, sizeof name, "%s.sqlite", types[t]);
        snprintf(line, sizeof line,
                 "run --model " TINY " --gates " SNAPSHOTS "llama-%s --policy trimkv --prompt-variant short --task "
                 "countdown_0.5k --limit 1 --max-new 4 --threads 1 --quiet --format json --db %s",
                 types[t], scratch_path(&dir, name));
        cli_result r = cli_run(line);
        if (r.code) fail_msg("%s: %s", line, r.err);
        cJSON *cell = cJSON_Parse(r.out);
        assert_non_null(cell);
        assert_string_equal(cJSON_GetStringValue(cJSON_GetObjectItem(cell, "status")), "done");
        assert_int_equal(cJSON_GetNumberValue(cJSON_GetObjectItem(cell, "budget")), 7);
        assert_int_equal(cJSON_GetNumberValue(cJSON_GetObjectItem(cell, "buffer")), 32);
        cJSON_Delete(cell);
        cli_free(&r);
    }
}

/* The command of the README with an id in place of the folders: everything else comes out of the snapshot. */
static void an_id_of_the_hub_is_enough(void **st) {
    (void)st;
    char line[1024];
    snprintf(line, sizeof line,
             "run --gates tiny-random/gates --policy trimkv --prompt-variant short --task countdown_0.5k --limit 1 "
             "--max-new 4 --threads 1 --quiet --format json --db %s",
             scratch_path(&dir, "hub.sqlite"));
    cli_result r = cli_run(line);
    if (r.code) fail_msg("%s: %s", line, r.err);
    cJSON *cell = cJSON_Parse(r.out);
    assert_non_null(cell);
    assert_string_equal(cJSON_GetStringValue(cJSON_GetObjectItem(cell, "status")), "done");
    assert_string_equal(cJSON_GetStringValue(cJSON_GetObjectItem(cell, "model")), "qwen3");
    assert_int_equal(cJSON_GetNumberValue(cJSON_GetObjectItem(cell, "budget")), 7);
    cJSON_Delete(cell);
    cli_free(&r);
    cli_expect("run --gates tiny-random/other --policy trimkv", 3, "scripts/get_model.sh tiny-random/other");
    cli_expect("run --gates tiny-random --policy trimkv", 3, "--gates: tiny-random does not exist");
}

static void gates_of_another_model_name_both_shapes(void **st) {
    (void)st;
    cli_result r = cli_run("generate --model " TINY " --gates " KV_SOURCE_DIR
                           "/policies/trimkv-smollm2-135m --policy trimkv --prompt x --max-new 2");
    assert_int_equal(r.code, 2);
    if (!strstr(r.err,
                "made for HuggingFaceTB/SmolLM2-135M-Instruct for 30 layers, inputs of 576, 3 KV heads; the model "
                "has 2, 256, 2"))
        fail_msg("%s", r.err);
    cli_free(&r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(budget_and_buffer_come_from_the_snapshot_unless_typed),
        cmocka_unit_test(parameters_of_the_score_come_from_the_snapshot_unless_typed),
        cmocka_unit_test(strategies_without_a_budget_are_refused),
        cmocka_unit_test(the_base_model_is_used_when_it_is_there),
        cmocka_unit_test(another_model_than_the_base_is_noted),
        cmocka_unit_test(other_commands_take_what_concerns_them),
        cmocka_unit_test(a_bad_config_stops_the_command),
        cmocka_unit_test(a_snapshot_of_every_type_runs),
        cmocka_unit_test(an_id_of_the_hub_is_enough),
        cmocka_unit_test(gates_of_another_model_name_both_shapes),
    };
    return cmocka_run_group_tests(tests, make_folders, remove_folders);
}
