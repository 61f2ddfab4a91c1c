/* test_options.c - lists, ranges, defaults, and every way of typing an option wrongly. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "bench/options.h"

enum { MAX_ARGS = 32 };

/* Parses a blank-separated line. */
static int parse(kv_cmd_id cmd, const char *line, kv_opts *o, kv_error *err) {
    char copy[1024], *argv[MAX_ARGS];
    int n = 0;
    snprintf(copy, sizeof copy, "%s", line);
    for (char *p = strtok(copy, " "); p; p = strtok(NULL, " ")) argv[n++] = p;
    return kv_opts_parse(cmd, n, argv, o, err);
}

static void assert_ints(const char *text, const int64_t *expected, size_t n) {
    int64_t *v = NULL;
    size_t got = 0;
    kv_error err = {0};
    if (kv_list_ints(text, 0, 1 << 20, &v, &got, &err)) fail_msg("%s: %s", text, err.text);
    assert_int_equal(got, n);
    for (size_t i = 0; i < n; i++) assert_int_equal(v[i], expected[i]);
    free(v);
}

static void reads_lists_and_ranges(void **state) {
    (void)state;
    assert_ints("7", (int64_t[]){7}, 1);
    assert_ints("3,1,2", (int64_t[]){3, 1, 2}, 3);
    assert_ints("128..1024*2", (int64_t[]){128, 256, 512, 1024}, 4);
    assert_ints("128..1000*2", (int64_t[]){128, 256, 512}, 3);
    assert_ints("16..64+16", (int64_t[]){16, 32, 48, 64}, 4);
    assert_ints("16..63+16", (int64_t[]){16, 32, 48}, 3);
    assert_ints("1..4", (int64_t[]){1, 2, 3, 4}, 4);
    assert_ints("512-8192*2", (int64_t[]){512, 1024, 2048, 4096, 8192}, 5);
    assert_ints("5-7", (int64_t[]){5, 6, 7}, 3);
    assert_ints("64,128..256*2", (int64_t[]){64, 128, 256}, 3);
    assert_ints("9..9*3", (int64_t[]){9}, 1);
}

static void names_each_value_once(void **state) {
    (void)state;
    assert_ints("2,1..3,2", (int64_t[]){2, 1, 3}, 3);
}

static void refuses_broken_lists(void **state) {
    (void)state;
    static const char *const bad[] = {"",
                                      ",",
                                      "1,",
                                      ",1",
                                      "1,,2",
                                      "x",
                                      "1x",
                                      "-1",
                                      "1..",
                                      "..2",
                                      "1..2*",
                                      "1..8*1",
                                      "1..8*0",
                                      "1..8+0",
                                      "8..1",
                                      "0..8*2",
                                      "1..8*2x",
                                      "1.5",
                                      "1e3",
                                      "0x10",
                                      "1..2..3",
                                      "1048577",
                                      "1..9999999999999999999",
                                      "99999999999999999999",
                                      "0..1000000+1"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        int64_t *v = NULL;
        size_t n;
        kv_error err = {0};
        if (!kv_list_ints(bad[i], 0, 1 << 20, &v, &n, &err)) fail_msg("'%s' was accepted", bad[i]);
        assert_int_equal(err.code, KV_EARG);
        assert_true(err.text[0]);
        free(v);
    }
}

static void says_that_a_number_is_too_large(void **state) {
    (void)state;
    kv_error err = {0};
    int64_t *v = NULL;
    size_t n;
    assert_int_equal(kv_list_ints("99999999999999999999", 0, 1024, &v, &n, &err), KV_EARG);
    assert_non_null(strstr(err.text, "more than 1024 is not possible"));
    free(v);
}

static void token_ids_keep_repeats(void **state) {
    (void)state;
    int64_t *v = NULL;
    size_t n;
    assert_int_equal(kv_list_ids("5,5,1,5", 100, &v, &n, NULL), KV_OK);
    assert_int_equal(n, 4);
    assert_int_equal(v[3], 5);
    free(v);
    v = NULL;
    assert_int_equal(kv_list_ids("5..7", 100, &v, &n, NULL), KV_EARG);
    free(v);
}

static void gives_defaults_of_the_command(void **state) {
    (void)state;
    kv_opts o;
    assert_int_equal(parse(KV_CMD_RUN, "", &o, NULL), KV_OK);
    assert_int_equal(kv_opts_int(&o, KV_OPT_BUDGET), 256);
    assert_int_equal(kv_opts_int(&o, KV_OPT_BUFFER), 32);
    assert_int_equal(kv_opts_int(&o, KV_OPT_BATCH), 16);
    assert_string_equal(kv_opts_text(&o, KV_OPT_PREFILL), "full");
    assert_string_equal(kv_opts_text(&o, KV_OPT_QUERY), "after");
    assert_string_equal(kv_opts_text(&o, KV_OPT_NUMERICS), "fast");
    assert_int_equal(kv_opts_n(&o, KV_OPT_POLICY), 2);
    assert_null(kv_opts_text(&o, KV_OPT_MODEL));
    assert_false(kv_opts_flag(&o, KV_OPT_DRY_RUN));
    assert_false(kv_opts_given(&o, KV_OPT_BUDGET));
    kv_opts_free(&o);
    assert_int_equal(parse(KV_CMD_GENERATE, "", &o, NULL), KV_OK);
    assert_string_equal(kv_opts_text(&o, KV_OPT_POLICY_ONE), "full");
    assert_int_equal(kv_opts_n(&o, KV_OPT_POLICY), 0);
    kv_opts_free(&o);
}

static void takes_both_notations(void **state) {
    (void)state;
    kv_opts o;
    assert_int_equal(
        parse(KV_CMD_RUN, "--budget 64,128 --buffer=8 --policy=window:sinks=0,h2o:recent=4 --dry-run", &o, NULL),
        KV_OK);
    assert_int_equal(kv_opts_n(&o, KV_OPT_BUDGET), 2);
    assert_int_equal(kv_opts_int(&o, KV_OPT_BUFFER), 8);
    assert_int_equal(kv_opts_n(&o, KV_OPT_POLICY), 2);
    assert_string_equal(o.v[KV_OPT_POLICY].texts[0], "window:sinks=0");
    assert_string_equal(o.v[KV_OPT_POLICY].texts[1], "h2o:recent=4");
    assert_true(kv_opts_flag(&o, KV_OPT_DRY_RUN));
    kv_opts_free(&o);
    assert_int_equal(parse(KV_CMD_GENERATE, "--prompt=a=b --temperature 0.5", &o, NULL), KV_OK);
    assert_string_equal(kv_opts_text(&o, KV_OPT_PROMPT), "a=b");
    assert_true(kv_opts_real(&o, KV_OPT_TEMPERATURE) == 0.5);
    kv_opts_free(&o);
}

static void keeps_commas_where_no_list_is_meant(void **state) {
    (void)state;
    kv_opts o;
    assert_int_equal(parse(KV_CMD_GENERATE, "--prompt a,b,,c", &o, NULL), KV_OK);
    assert_int_equal(kv_opts_n(&o, KV_OPT_PROMPT), 1);
    assert_string_equal(kv_opts_text(&o, KV_OPT_PROMPT), "a,b,,c");
    kv_opts_free(&o);
}

static void names_option_and_value_in_errors(void **state) {
    (void)state;
    static const struct {
        kv_cmd_id cmd;
        const char *line, *a, *b;
    } cases[] = {
        {KV_CMD_RUN, "--budget 0", "--budget", "0 is outside 1"},
        {KV_CMD_RUN, "--buffer 0", "--buffer", "0 is outside 1"},
        {KV_CMD_RUN, "--budget -4", "--budget", "-4"},
        {KV_CMD_RUN, "--budget ten", "--budget", "ten"},
        {KV_CMD_RUN, "--bugdet 10", "--bugdet", "did you mean --budget"},
        {KV_CMD_RUN, "--xyzzy 10", "--xyzzy", "--help"},
        {KV_CMD_RUN, "--ctx 10", "--ctx", "speed"},
        {KV_CMD_RUN, "--budget", "--budget", "needs a value"},
        {KV_CMD_RUN, "--dry-run=1", "--dry-run", "takes no value"},
        {KV_CMD_RUN, "--budget 1 --budget 2", "--budget", "twice"},
        {KV_CMD_RUN, "--batch 1,2", "--batch", "not a list"},
        {KV_CMD_RUN, "--batch 1025", "--batch", "1025 is outside"},
        {KV_CMD_RUN, "--batch max", "--batch", "'max'"},
        {KV_CMD_SPEED, "--batch 4,maxi", "--batch", "'maxi'"},
        {KV_CMD_SPEED, "--batch 4,,max", "--batch", "empty"},
        {KV_CMD_RUN, "--backend gpu", "--backend", "auto|cpu|cuda"},
        {KV_CMD_RUN, "--device -1", "--device", "-1"},
        {KV_CMD_RUN, "--profile", "--profile", "speed"},
        {KV_CMD_PAPER, "one two", "two", "start with --"},
        {KV_CMD_PAPER, "one --name two", "--name", "twice"},
        {KV_CMD_PAPER, "-x", "-x", "start with --"},
        {KV_CMD_RUN, "--query sideways", "--query", "after|before"},
        {KV_CMD_RUN, "--numerics exact,slow", "--numerics", "'slow'"},
        {KV_CMD_RUN, "--format xml", "--format", "table|json|csv"},
        {KV_CMD_RUN, "--policy h2o,", "--policy", "empty"},
        {KV_CMD_RUN, "--top-p 2", "--top-p", "outside"},
        {KV_CMD_RUN, "--temperature warm", "--temperature", "warm"},
        {KV_CMD_RUN, "--temperature nan", "--temperature", "nan"},
        {KV_CMD_RUN, "countdown", "countdown", "start with --"},
        {KV_CMD_RUN, "--", "--", "start with --"},
        {KV_CMD_GENERATE, "--budget 1,2", "--budget", "not a list"},
        {KV_CMD_GENERATE, "--token-ids 1,x", "--token-ids", "'x'"},
        {KV_CMD_SPEED, "--task gsm8k", "--task", "run"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        kv_opts o;
        kv_error err = {0};
        int rc = parse(cases[i].cmd, cases[i].line, &o, &err);
        if (rc != KV_EARG || !strstr(err.text, cases[i].a) || !strstr(err.text, cases[i].b))
            fail_msg("'%s': code %d, text '%s', expected '%s' and '%s'", cases[i].line, rc, err.text, cases[i].a,
                     cases[i].b);
        kv_opts_free(&o);
    }
}

static void a_word_may_stand_in_a_list_of_numbers(void **state) {
    (void)state;
    kv_opts o;
    assert_int_equal(parse(KV_CMD_SPEED, "--batch 4,max,8..16*2,4,max", &o, NULL), KV_OK);
    static const int64_t expected[] = {4, 0, 8, 16};
    assert_int_equal(kv_opts_n(&o, KV_OPT_BATCHES), 4);
    for (size_t i = 0; i < 4; i++) assert_int_equal(o.v[KV_OPT_BATCHES].ints[i], expected[i]);
    kv_opts_free(&o);
}

static void a_table_is_named_with_or_without_its_option(void **state) {
    (void)state;
    static const char *const lines[] = {"trimkv-table5 --reps 2", "--reps 2 trimkv-table5", "--name trimkv-table5",
                                        "--name=trimkv-table5"};
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        kv_opts o;
        assert_int_equal(parse(KV_CMD_PAPER, lines[i], &o, NULL), KV_OK);
        assert_string_equal(kv_opts_text(&o, KV_OPT_PAPER_NAME), "trimkv-table5");
        kv_opts_free(&o);
    }
}

static void help_wins_over_mistakes(void **state) {
    (void)state;
    kv_opts o;
    assert_int_equal(parse(KV_CMD_RUN, "--nonsense --help", &o, NULL), KV_OK);
    assert_true(o.help);
    kv_opts_free(&o);
}

static void the_table_is_consistent(void **state) {
    (void)state;
    const kv_opt_def *t = kv_opt_table();
    for (int i = 0; i < KV_N_OPTS; i++) {
        if (!t[i].name || !t[i].help[0] || !t[i].commands) fail_msg("option %d is incomplete", i);
        if ((t[i].lists & ~t[i].commands) || (t[i].type == KV_TYPE_FLAG) != (t[i].arg == NULL))
            fail_msg("--%s contradicts itself", t[i].name);
        for (int k = 0; k < i; k++)
            if (strcmp(t[i].name, t[k].name) == 0 && (t[i].commands & t[k].commands))
                fail_msg("--%s is there twice in one command", t[i].name);
    }
    for (int c = 0; c < KV_N_CMDS; c++) {
        kv_opts o;
        kv_error err = {0};
        if (kv_opts_parse((kv_cmd_id)c, 0, NULL, &o, &err)) fail_msg("defaults: %s", err.text);
        kv_opts_free(&o);
    }
}

static void suggests_only_what_is_near(void **state) {
    (void)state;
    static const char *const words[] = {"budget", "buffer", "batch", "policy"};
    assert_string_equal(kv_nearest("budgte", words, 4), "budget");
    assert_string_equal(kv_nearest("polic", words, 4), "policy");
    assert_string_equal(kv_nearest("batches", words, 4), "batch");
    const char *tasks[] = {"aime24", "countdown_0.5k", "gsm8k"};
    assert_string_equal(kv_nearest("countdwn", tasks, 3), "countdown_0.5k");
    assert_string_equal(kv_nearest("gms8k", tasks, 3), "gsm8k");
    assert_null(kv_nearest("copyright", tasks, 3));
    assert_null(kv_nearest("temperature", words, 4));
    assert_null(kv_nearest("", words, 4));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_lists_and_ranges),
        cmocka_unit_test(names_each_value_once),
        cmocka_unit_test(refuses_broken_lists),
        cmocka_unit_test(says_that_a_number_is_too_large),
        cmocka_unit_test(token_ids_keep_repeats),
        cmocka_unit_test(gives_defaults_of_the_command),
        cmocka_unit_test(takes_both_notations),
        cmocka_unit_test(keeps_commas_where_no_list_is_meant),
        cmocka_unit_test(names_option_and_value_in_errors),
        cmocka_unit_test(a_word_may_stand_in_a_list_of_numbers),
        cmocka_unit_test(a_table_is_named_with_or_without_its_option),
        cmocka_unit_test(help_wins_over_mistakes),
        cmocka_unit_test(the_table_is_consistent),
        cmocka_unit_test(suggests_only_what_is_near),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
