/* test_grade.c - the grade command: items by number or id, answers of a line's own, lines of no use, order, threads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/cli.h"
#include "tests/support/golden.h"
#include "tests/support/scratch.h"

/* "grade <file with these lines> <rest>" */
static const char *command(const char *lines, const char *rest) {
    static char line[512];
    snprintf(line, sizeof line, "grade %s %s", scratch_write(&scratch_dir, "o.jsonl", lines, strlen(lines)), rest);
    return line;
}

static cli_result grade(const char *lines, const char *rest, int code) {
    cli_result r = cli_run(command(lines, rest));
    if (r.code != code) fail_msg("exit %d, expected %d: %s%s", r.code, code, r.out, r.err);
    return r;
}

static cJSON *line_of(cli_result *r, int i) {
    const char *p = r->out;
    for (; i > 0; i--) p = strchr(p, '\n') + 1;
    cJSON *j = cJSON_ParseWithOpts(p, &p, 0);
    if (!j) fail_msg("no JSON in line %d: %s", i, r->out);
    return j;
}

static void check_line(cli_result *r, int i, const char *id, const char *extracted, double strict) {
    cJSON *j = line_of(r, i);
    const cJSON *e = gj_get(j, "extracted"), *name = gj_get(j, "id");
    if (id ? strcmp(name->valuestring, id) : !cJSON_IsNull(name)) fail_msg("line %d: another id", i);
    if (extracted ? strcmp(e->valuestring, extracted) : !cJSON_IsNull(e)) fail_msg("line %d: another answer", i);
    assert_true(gj_number(j, "strict") == strict && gj_number(j, "compat") == strict);
    assert_true(gj_number(j, "line") == i + 1);
    gj_get(j, "reason");
    cJSON_Delete(j);
}

static void grades_items_and_own_answers(void **state) {
    (void)state;
    cli_result r = grade("{\"id\":0,\"output\":\"so 18\"}\n"
                         "{\"id\":\"1\",\"output\":\"\\\\boxed{4}\"}\r\n"
                         "{\"answer\":\"7\",\"output\":\"7.0\"}\n"
                         "{\"answer\":\"7\",\"id\":\"mine\",\"output\":\"nothing\"}\n",
                         "--task gsm8k --format json --threads 2", 0);
    check_line(&r, 0, "0", "18", 1);
    check_line(&r, 1, "1", "4", 0);
    check_line(&r, 2, NULL, "7.0", 1);
    check_line(&r, 3, "mine", NULL, 0);
    cJSON *j = line_of(&r, 4), *t = cJSON_GetObjectItem(j, "totals");
    const cJSON *all = gj_get(t, "groups")->child;
    assert_string_equal(gj_get(t, "grader")->valuestring, "integer");
    assert_true(gj_number(all, "n") == 4 && gj_number(all, "strict") == 0.5 && gj_number(all, "answered") == 3);
    cJSON_Delete(j);
    cli_free(&r);
    r = grade("{\"answer\":7,\"output\":\"7\"}\n \t\n{\"answer\":0.5,\"output\":\"1/2 is \\\\boxed{\\\\frac12}\"}\n"
              "{\"id\":0,\"output\":\"a\\u0000b \\\\u0000 18\"}\n",
              "--task gsm8k --format json", 0);
    for (int i = 0; i < 3; i++) {
        j = line_of(&r, i);
        assert_true(gj_number(j, "strict") == 1);
        cJSON_Delete(j);
    }
    cli_free(&r);
    r = grade("{\"id\":0,\"output\":\"#### 18\"}\n", "--task gsm8k --prompt-variant short", 0);
    assert_non_null(strstr(r.out, "grader gsm8k_short 1"));
    cli_free(&r);
}

/* What a model says after the end of its turn, or as the next question, is no answer. */
static void cuts_outputs_at_the_stop_strings(void **state) {
    (void)state;
    cli_result r = grade("{\"id\":0,\"output\":\"\\\\boxed{18}<|im_end|>\\nuser \\\\boxed{5}\"}\n"
                         "{\"id\":0,\"output\":\"\\\\boxed{5}</s> \\\\boxed{18}\"}\n",
                         "--task gsm8k --format json", 0);
    check_line(&r, 0, "0", "18", 1);
    check_line(&r, 1, "0", "5", 0);
    cli_free(&r);
    r = grade("{\"id\":0,\"output\":\"The answer is 18.\\n\\nQ: More?\\nA: The answer is 5.\"}\n",
              "--task gsm8k --prompt-variant lmeval_cot --format json", 0);
    check_line(&r, 0, "0", "18", 1);
    cli_free(&r);
}

static void names_lines_of_no_use_and_goes_on(void **state) {
    (void)state;
    cli_result r = grade("{\"id\":0,\"output\":\"18\"}\n"
                         "\n"
                         "not json\n"
                         "{\"id\":0}\n"
                         "{\"output\":\"x\"}\n"
                         "{\"id\":1319,\"output\":\"x\"}\n"
                         "{\"id\":\"-1\",\"output\":\"x\"}\n"
                         "{\"id\":\"0:x\",\"output\":\"x\"}\n"
                         "{\"answer\":[7],\"output\":\"x\"}\n"
                         "[]\n"
                         "{\"id\":0,\"output\":\"18\"} x\n"
                         "{\"id\":1.5,\"output\":\"18\"}\n"
                         "{\"id\":0,\"output\":\"18\"}",
                         "--task gsm8k", 1);
    static const char *const says[] = {":3: not a JSON object",
                                       ":4: the field 'output'",
                                       ":5: neither an 'id'",
                                       ":6: task gsm8k has no item '1319'; there are 0..1318",
                                       ":7: task gsm8k has no item '-1'",
                                       ":8: task gsm8k has no item '0:x'",
                                       ":9: the field 'answer' is neither a string nor a number",
                                       ":10: not a JSON object",
                                       ":11: not a JSON object",
                                       ":12: task gsm8k has no item '1.5'"};
    for (size_t i = 0; i < sizeof says / sizeof *says; i++)
        if (!strstr(r.err, says[i])) fail_msg("'%s' is not in %s", says[i], r.err);
    assert_non_null(strstr(r.out, "all    2  1.0000"));
    cli_free(&r);
}

static void refuses_what_cannot_start(void **state) {
    (void)state;
    cli_expect("grade --task gsm8k", 2, "give the file of outputs");
    cli_expect("grade x.jsonl", 2, "give --task");
    cli_expect("grade /nowhere.jsonl --task gsm8k", 3, "/nowhere.jsonl: No such file");
    cli_expect("grade x.jsonl --task nope", 2, "no task 'nope'");
    cli_expect("grade x.jsonl --task gms8k", 2, "did you mean 'gsm8k'?");
    cli_expect("grade x.jsonl --task qa_1 --qa-data /nonexistent", 3, "not in /nonexistent");
    cli_expect("grade x.jsonl --task gsm8k --prompt-variant nope", 2, "task gsm8k has official,short");
    cli_expect("grade x.jsonl --task gsm8k --format csv", 2, "table|json");
    cli_expect(command("\n\n", "--task gsm8k"), 3, "no lines");
    cli_expect(command("{\"id\":0,\"output\":\"x\"}", "--task longbench_qasper --data /nowhere"), 3,
               "get_longbench.sh");
    cli_expect(command("{\"answer\":\"1\",\"output\":\"x\"}", "--task countdown_2k"), 1, "give its id, no answer");
}

static void takes_standard_input(void **state) {
    (void)state;
    cli_expect("grade - --task gsm8k", 3, "no lines"); /* the tests' input is empty */
}

/* More lines than a batch, more threads than cores: the order stays. */
static void keeps_the_order_of_many_lines(void **state) {
    enum { N = 5000 };
    char *text = malloc(N * 64), *p = text;
    (void)state;
    assert_non_null(text);
    for (int i = 0; i < N; i++) p += sprintf(p, "{\"answer\":\"%d\",\"output\":\"it is %d\"}\n", i, i % 3 ? i : -1 - i);
    cli_result r = grade(text, "--task gsm8k --format json --threads 5", 0);
    int i = 0;
    for (char *line = strtok(r.out, "\n"); i < N; line = strtok(NULL, "\n"), i++) {
        char want[96];
        snprintf(want, sizeof want, "{\"line\":%d,\"id\":null,\"extracted\":\"%d\",\"strict\":%d,", i + 1,
                 i % 3 ? i : -1 - i, i % 3 != 0);
        assert_true(line && !strncmp(line, want, strlen(want)));
    }
    cli_free(&r);
    free(text);
}

static void measured_tasks_grade_a_lines_own_answer(void **state) {
    (void)state;
    cli_result r = grade("{\"answer\":\"11\\n22\",\"output\":\"22, 33\"}\n", "--task niah_multivalue", 0);
    assert_non_null(strstr(r.out, "all    1  0.5000"));
    cli_free(&r);
    r = grade("{\"id\":0,\"output\":\"22, 33\"}\n", "--task niah_multivalue", 2);
    assert_non_null(strstr(r.err, "a model is needed"));
    cli_free(&r);
}

static void longbench_lines_bring_lists_and_groups(void **state) {
    static const char rows[] =
        "{\"input\":\"\",\"context\":\"c\",\"answers\":[\"red\"],\"length\":1,\"_id\":\"x1\"}\n"
        "{\"input\":\"\",\"context\":\"c\",\"answers\":[\"blue\"],\"length\":9000,\"_id\":\"2\"}\n";
    char rest[256];
    (void)state;
    cli_result r = grade("{\"answer\":[\"a b\",\"c\"],\"output\":\"C\"}\n{\"answers\":[\"x\"],\"output\":\"y\"}\n",
                         "--task longbench_qasper", 0);
    assert_non_null(strstr(r.out, "all    2  0.5000"));
    cli_free(&r);
    r = grade("{\"answer\":\"B\",\"all_classes\":[\"A\",\"B\"],\"output\":\"A B\\nC\"}\n", "--task longbench_trec", 0);
    assert_non_null(strstr(r.out, "0.5000"));
    cli_free(&r);
    scratch_write(&scratch_dir, "qasper_e.jsonl", rows, strlen(rows));
    snprintf(rest, sizeof rest, "--task longbench_qasper:e=1 --data %s", scratch_dir.dir);
    r = grade("{\"id\":\"x1\",\"output\":\"red\"}\n{\"id\":\"2\",\"output\":\"red\"}\n{\"id\":0,\"output\":\"Red.\"}\n"
              "{\"id\":\"1:8k+\",\"output\":\"blue\"}\n",
              rest, 0);
    assert_non_null(strstr(r.out, "\nall    4  0.7500"));
    assert_non_null(strstr(r.out, "\n0-4k   2  1.0000"));
    assert_non_null(strstr(r.out, "\n8k+    2  0.5000"));
    cli_free(&r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(grades_items_and_own_answers),
        cmocka_unit_test(cuts_outputs_at_the_stop_strings),
        cmocka_unit_test(names_lines_of_no_use_and_goes_on),
        cmocka_unit_test(refuses_what_cannot_start),
        cmocka_unit_test(takes_standard_input),
        cmocka_unit_test(keeps_the_order_of_many_lines),
        cmocka_unit_test(measured_tasks_grade_a_lines_own_answer),
        cmocka_unit_test(longbench_lines_bring_lists_and_groups),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
