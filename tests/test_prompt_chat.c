/* test_prompt_chat.c - which chat template the options choose, and what they cannot. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "bench/prompt_text.h"

/* What the options of a command make of the model's own template; NULL when there is none in the end. */
static int choose(kv_cmd_id cmd, const char *line, const char *own, int fallback_own, const kv_chat **out,
                  kv_error *err) {
    char copy[256], *argv[8];
    int n = 0;
    kv_opts o;
    snprintf(copy, sizeof copy, "%s", line);
    for (char *p = strtok(copy, " "); p; p = strtok(NULL, " ")) argv[n++] = p;
    int rc = kv_opts_parse(cmd, n, argv, &o, err);
    if (rc == KV_OK) rc = kv_prompt_chat(&o, own ? kv_chat_find(own) : NULL, fallback_own, out, err);
    kv_opts_free(&o);
    return rc;
}

static void chooses_by_name_and_varies_it(void **state) {
    (void)state;
    static const struct {
        const char *line, *own, *want;
    } cases[] = {
        {"", "qwen3", "qwen3"},
        {"--chat model", "qwen3", "qwen3"},
        {"--thinking on", "qwen3", "qwen3"},
        {"--thinking off", "qwen3", "qwen3-nothink"},
        {"--chat qwen3 --thinking off", "none", "qwen3-nothink"},
        {"--chat llama-3", NULL, "llama-3"},
        {"--chat none", NULL, "none"},
        {"--double-bos", "llama-3.1", "llama-3.1-double-bos"},
        {"--double-bos", "qwen2.5", "qwen2.5"},
        {"--chat deepseek-r1 --double-bos", "qwen3", "deepseek-r1-double-bos"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const kv_chat *c;
        kv_error err = {0};
        if (choose(KV_CMD_RUN, cases[i].line, cases[i].own, 1, &c, &err)) fail_msg("%s: %s", cases[i].line, err.text);
        assert_string_equal(kv_chat_name(c), cases[i].want);
    }
}

static void does_without_for_raw_text(void **state) {
    (void)state;
    const kv_chat *c;
    kv_error err;
    assert_int_equal(choose(KV_CMD_GENERATE, "--raw", "qwen3", 1, &c, &err), KV_OK);
    assert_null(c);
    assert_int_equal(choose(KV_CMD_TOKENIZE, "", "qwen3", 0, &c, &err), KV_OK);
    assert_null(c);
    assert_int_equal(choose(KV_CMD_TOKENIZE, "--chat model", "qwen3", 0, &c, &err), KV_OK);
    assert_string_equal(kv_chat_name(c), "qwen3");
}

static void says_how_to_choose(void **state) {
    (void)state;
    static const struct {
        kv_cmd_id cmd;
        const char *line, *own, *says;
    } cases[] = {
        {KV_CMD_RUN, "", NULL, "choose one with --chat NAME (none: the text alone): smollm2, qwen3"},
        {KV_CMD_GENERATE, "--chat model", NULL, "not one of those known here"},
        {KV_CMD_RUN, "--chat klingon", "qwen3", "--chat 'klingon': there are model, smollm2"},
        {KV_CMD_RUN, "--chat klingon", "qwen3", "phi-3-bos, phi-3-bos-double-bos, none"},
        {KV_CMD_GENERATE, "--raw --chat qwen3", "qwen3", "contradict"},
        {KV_CMD_GENERATE, "--raw --thinking off", "qwen3", "--thinking"},
        {KV_CMD_GENERATE, "--raw --double-bos", "llama-3", "--double-bos"},
        {KV_CMD_RUN, "--thinking off", "qwen3-thinking", "qwen3-thinking has no such switch"},
        {KV_CMD_RUN, "--thinking on", "qwen3-instruct", "qwen3-instruct has no such switch"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const kv_chat *c;
        kv_error err = {0};
        int rc = choose(cases[i].cmd, cases[i].line, cases[i].own, 1, &c, &err);
        if (rc != KV_EARG || !strstr(err.text, cases[i].says)) fail_msg("case %zu: %d, \"%s\"", i, rc, err.text);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(chooses_by_name_and_varies_it),
        cmocka_unit_test(does_without_for_raw_text),
        cmocka_unit_test(says_how_to_choose),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
