/* test_longbench.c - LongBench's metrics against the published Python code (golden/longbench_metrics.jsonl), Chinese
 * words against jieba's, and the tasks over small files of the published form. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "datasets/graders.h"
#include "datasets/jieba.h"
#include "datasets/jsonl.h"
#include "datasets/longbench.h"
#include "datasets/task.h"
#include "datasets/text_tools.h"
#include "engine/file.h"
#include "tests/support/scratch.h"

#define ROOT KV_SOURCE_DIR "/datasets"

/* --- metrics -------------------------------------------------------------------------------------------------- */

typedef struct {
    kv_jieba *words;
    cJSON *classes;
    int n, n_cut;
} golden;

static char **strings(const cJSON *list, int *n) {
    *n = list ? cJSON_GetArraySize(list) : 0;
    char **s = calloc((size_t)*n + 1, sizeof *s);
    for (int i = 0; i < *n; i++) s[i] = cJSON_GetArrayItem(list, i)->valuestring;
    return s;
}

static double number(const cJSON *row, const char *key) {
    return cJSON_GetNumberValue(cJSON_GetObjectItem(row, key));
}

static void add_to_array(void *user, const char *s, size_t n) {
    char *word = strndup(s, n);
    cJSON_AddItemToArray(user, cJSON_CreateString(word));
    free(word);
}

static void check_cut(golden *g, const cJSON *row, const char *where) {
    const char *text = cJSON_GetObjectItem(row, "output")->valuestring;
    cJSON *words = cJSON_CreateArray();
    assert_int_equal(kv_jieba_cut(g->words, text, strlen(text), add_to_array, words), KV_OK);
    if (!cJSON_Compare(words, cJSON_GetObjectItem(row, "words"), 1)) {
        char *got = cJSON_PrintUnformatted(words), *want = cJSON_PrintUnformatted(cJSON_GetObjectItem(row, "words"));
        fail_msg("%s:\n%s\n%s", where, got, want);
    }
    cJSON_Delete(words);
    g->n_cut++;
}

static int check_row(void *user, int i, const cJSON *row, const char *where, kv_error *err) {
    golden *g = user;
    (void)i, (void)err;
    const char *metric = cJSON_GetObjectItem(row, "metric")->valuestring;
    char name[64];
    if (!strcmp(metric, "cut")) return check_cut(g, row, where), KV_OK;
    if (!strcmp(metric, "classes")) {
        g->classes = cJSON_Duplicate(cJSON_GetObjectItem(row, "classes"), 1);
        return KV_OK;
    }
    snprintf(name, sizeof name, "longbench_%s", metric);
    const kv_grader *grader = kv_grader_find(name);
    if (!grader) fail_msg("%s: no grader %s", where, name);
    kv_longbench d = {.words = g->words};
    d.answers = strings(cJSON_GetObjectItem(row, "answers"), &d.n_answers);
    d.classes = strings(g->classes, &d.n_classes);
    kv_grade got = {0};
    grader->grade(&d, "", cJSON_GetObjectItem(row, "output")->valuestring, &got);
    if (fabs(got.score - number(row, "score")) > 1e-12 || fabs(got.compat - number(row, "compat")) > 1e-12 ||
        fabs(got.partial - number(row, "partial")) > 1e-12)
        fail_msg("%s, %s: score %.17g compat %.17g partial %.17g", where, name, got.score, got.compat, got.partial);
    free(d.answers);
    free(d.classes);
    g->n++;
    return KV_OK;
}

static void agrees_with_the_published_metrics(void **state) {
    golden g = {0};
    kv_error err = {0};
    int n = 0;
    char sha256[65];
    (void)state;
    if (kv_jieba_open("golden/longbench_words.txt", &g.words, &err)) fail_msg("%s", err.text);
    if (kv_json_objects("golden/longbench_metrics.jsonl", check_row, &g, &n, sha256, &err)) fail_msg("%s", err.text);
    assert_int_equal(n, 1 + g.n + g.n_cut);
    assert_true(g.n > 700 && g.n_cut == 150);
    cJSON_Delete(g.classes);
    kv_jieba_close(g.words);
}

/* --- bytes that are no UTF-8, letters of v2 ------------------------------------------------------------------- */

static kv_grade grade(const char *grader, const void *data, const char *gold, const char *output) {
    kv_grade g = {0};
    kv_grader_find(grader)->grade(data, gold, output, &g);
    return g;
}

static void takes_any_bytes(void **state) {
    static const char *const names[] = {"f1",    "f1_line",  "f1_zh_char", "rouge", "rouge_line", "rouge_zh_char",
                                        "f1_zh", "rouge_zh", "class_line", "count", "retrieval",  "retrieval_zh",
                                        "code"};
    static const char *const outputs[] = {"",
                                          "\xff",
                                          "\xe6\xae",
                                          "\xed\xa0\x80 a",
                                          "\xf4\x90\x80\x80",
                                          "\n\n",
                                          "a\xc3(\xc3\xa9)",
                                          "\xf0\x9f\x98 1",
                                          "\xe4\xb8\xad\xe4\xb8",
                                          "\x80.\x80"};
    char *answers[] = {(char *)"", (char *)"\xef\xbf\xbd", (char *)"Paragraph 1"}, *classes[] = {(char *)"a"};
    kv_longbench d = {.answers = answers, .n_answers = 3, .classes = classes, .n_classes = 1};
    kv_jieba *words = NULL;
    (void)state;
    assert_int_equal(kv_jieba_open("golden/longbench_words.txt", &words, NULL), KV_OK);
    d.words = words;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        for (size_t k = 0; k < sizeof outputs / sizeof *outputs; k++) {
            char name[40];
            snprintf(name, sizeof name, "longbench_%s", names[i]);
            kv_grade g = grade(name, &d, "", outputs[k]);
            assert_true(g.score >= 0 && g.score <= 1 && !g.reason);
        }
    assert_true(grade("longbench_f1", &d, "", "\xff").score == 1); /* the replacement character, as Python reads it */
    kv_jieba_close(words);
}

static void finds_the_letter_of_v2(void **state) {
    static const struct {
        const char *output, *gold, *extracted;
        int score;
    } rows[] = {
        {"The correct answer is (B)", "B", "B", 1},
        {"**The correct answer is (B).**", "B", "B", 1},
        {"The correct answer is (**C**)", "C", "C", 1},
        {"The correct answer is C", "C", "C", 1},
        {"The correct answer is Canada (A)", "C", "C", 1},
        {"The correct answer is A, no: The correct answer is (D)", "D", "D", 1},
        {"The correct answer is (E) The correct answer is (A)", "A", "A", 1},
        {"the correct answer is (A)", "A", "", 0},
        {"The correct answer is (insert answer here)", "A", "", 0},
        {"The correct answer is (A", "A", "", 0},
        {"A", "A", "", 0},
        {"", "A", "", 0},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        kv_grade g = grade("longbench_v2", NULL, rows[i].gold, rows[i].output);
        if (strcmp(g.extracted, rows[i].extracted) || g.score != rows[i].score || g.answered != (g.extracted[0] != 0))
            fail_msg("row %zu: '%s' %g", i, g.extracted, g.score);
    }
}

/* --- tasks over files of the published form ------------------------------------------------------------------- */

static void put(const char *name, const char *text) {
    FILE *f = fopen(scratch_path(&scratch_dir, name), "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static int open_at(const char *spec, const char *variant, const kv_text_tools *tools, kv_task **t, kv_error *err) {
    kv_task_options o = {.root = ROOT, .variant = variant, .data_dir = scratch_dir.dir, .tools = tools};
    return kv_task_open(spec, &o, t, err);
}

static kv_task *open_task(const char *spec, const char *variant, const kv_text_tools *tools) {
    kv_error err = {0};
    kv_task *t = NULL;
    if (open_at(spec, variant, tools, &t, &err)) fail_msg("%s: %s", spec, err.text);
    return t;
}

static void expect_refused(const char *spec, int code, const char *text) {
    kv_error err = {0};
    kv_task *t = NULL;
    assert_int_equal(open_at(spec, NULL, NULL, &t, &err), code);
    if (!strstr(err.text, text)) fail_msg("%s: '%s' does not say '%s'", spec, err.text, text);
}

static const char three_rows[] =
    "{\"input\":\"Who?\",\"context\":\"Ann saw Bob.\",\"answers\":[\"Ann\",\"ann b\"],\"length\":3999,"
    "\"dataset\":\"qasper\",\"language\":\"en\",\"all_classes\":null,\"_id\":\"x1\"}\n"
    "{\"input\":\"\",\"context\":\"c\",\"answers\":[\"a\"],\"length\":4000,\"all_classes\":[\"a\"],\"_id\":\"x2\"}\n"
    "{\"input\":\"\",\"context\":\"c\",\"answers\":[\"a\"],\"length\":8000,\"all_classes\":[],\"_id\":\"x3\"}\n";

static void makes_prompts_and_groups_by_length(void **state) {
    kv_item it;
    kv_error err;
    kv_grade g;
    (void)state;
    put("qasper_e.jsonl", three_rows);
    kv_task *t = open_task("longbench_qasper:e=1", NULL, NULL);
    assert_string_equal(kv_task_get_info(t)->name, "longbench_qasper:e=1");
    assert_int_equal(kv_task_get_info(t)->n_items, 3);
    assert_int_equal(kv_task_get_info(t)->no_chat, 0);
    static const char *const ids[] = {"0:0-4k", "1:4-8k", "2:8k+"};
    for (int i = 0; i < 3; i++) {
        assert_int_equal(kv_task_item(t, i, &it, &err), KV_OK);
        assert_string_equal(it.id, ids[i]);
        kv_item_free(&it);
    }
    assert_string_equal(kv_task_item_name(t, 1), "x2");
    assert_int_equal(kv_task_item(t, 0, &it, &err), KV_OK);
    assert_non_null(strstr(it.prompt, "Article: Ann saw Bob.\n\n Answer the question based"));
    assert_string_equal(it.prompt + strlen(it.prompt) - 23, "Question: Who?\n\nAnswer:");
    assert_memory_equal(it.prompt + it.question_at, " Answer the question", 20);
    assert_string_equal(it.gold, "Ann | ann b");
    kv_task_grade(t, &it, "The Ann B.", &g);
    assert_true(g.score == 1 && g.compat == 1);
    kv_item_free(&it);
    kv_task_close(t);
}

static void refuses_files_that_are_not_the_published_ones(void **state) {
    (void)state;
    put("qasper.jsonl", three_rows);
    expect_refused("longbench_qasper", KV_EFORMAT, "3 items, expected 200");
    expect_refused("longbench_hotpotqa", KV_ENOTFOUND, "get_longbench.sh");
    expect_refused("longbench_hotpotqa", KV_ENOTFOUND, "--data DIR");
    expect_refused("longbench_qasper:e=2", KV_EARG, "0..1");
    expect_refused("longbench_qasper:seed=2", KV_EARG, "it takes e (0..1, default 0), max_prompt");
    expect_refused("longbench_vcsum", KV_ENOTFOUND, "jieba.txt");
    static const struct {
        const char *text, *says;
    } rows[] = {
        {"", "no items"},
        {"{}", "object 1: field 'context' is missing"},
        {"{\"context\":\"c\",\"input\":\"\",\"length\":1,\"answers\":[]}", "there is no 'answers'"},
        {"{\"context\":\"c\",\"input\":\"\",\"length\":1,\"answers\":[1]}", "no list of strings"},
        {"{\"context\":\"c\",\"input\":\"\",\"answers\":[\"a\"]}", "length is no number"},
        {"[{\"context\":\"c\"", "not a JSON object"},
        {"[1]", "not a JSON object"},
        {"[] x", "text behind"},
        {"x", "not a JSON object"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        put("qasper_e.jsonl", rows[i].text);
        expect_refused("longbench_qasper:e=1", KV_EFORMAT, rows[i].says);
    }
    static const char *const words[] = {"",
                                        "total 5\n",
                                        "total x\n",
                                        "word\n",
                                        "total 1\ntotal 1\n",
                                        "word b 1\nword a 1\n",
                                        "emit ab 1 1 1 1\n",
                                        "trans 1 2\n",
                                        "start 1 1 1 1 1\n"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        put("jieba.txt", words[i]);
        expect_refused("longbench_vcsum", KV_EFORMAT, "jieba.txt:");
    }
}

/* A tokenizer whose tokens are bytes. */
static int keep_ends(void *user, const char *text, size_t n_first, size_t n_last, size_t *n, kv_text *first,
                     kv_text *last, kv_error *err) {
    (void)user, (void)err;
    *n = strlen(text);
    if (*n <= n_first + n_last) return KV_OK;
    kv_text_append(first, text, n_first);
    kv_text_append(last, text + *n - n_last, n_last);
    return KV_OK;
}

static void cuts_the_middle_of_long_prompts(void **state) {
    static const struct {
        const char *text;
        size_t limit, mark;
        const char *cut;
        size_t mark_after;
    } rows[] = {
        {"0123456789", 10, 7, "0123456789", 7},
        {"0123456789", 9, 8, "01236789", 6}, /* halves of 4 */
        {"0123456789", 4, 9, "0189", 3},
        {"0123456789", 4, 4, "0189", 2}, /* the question's start is cut away */
        {"0123456789", 4, 1, "0189", 1},
        {"0123456789", 4, 10, "0189", 4},
        {"\xe4\xb8\xad\xe6\x96\x87"
         "56789",
         8, 11,
         "\xe4\xb8\xad\xef\xbf\xbd"
         "6789",
         10},
    };
    const kv_text_tools tools = {.n_ctx = 400, .keep_ends = keep_ends};
    kv_error err;
    kv_item it;
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char *text = strdup(rows[i].text);
        size_t mark = rows[i].mark;
        assert_int_equal(kv_cut_middle(&tools, rows[i].limit, &text, &mark, &err), KV_OK);
        if (strcmp(text, rows[i].cut) || mark != rows[i].mark_after) fail_msg("row %zu: '%s' %zu", i, text, mark);
        free(text);
    }
    put("qasper_e.jsonl", three_rows);
    kv_task *t = open_task("longbench_qasper:e=1:max_prompt=100", NULL, &tools);
    assert_int_equal(kv_task_item(t, 0, &it, &err), KV_OK);
    assert_int_equal(strlen(it.prompt), 100);
    kv_item_free(&it);
    kv_task_close(t);
    t = open_task("longbench_qasper:e=1", NULL, &tools); /* 400 - 128 new tokens - 100 for a chat template */
    assert_int_equal(kv_task_item(t, 0, &it, &err), KV_OK);
    assert_int_equal(strlen(it.prompt), 172);
    kv_item_free(&it);
    kv_task_close(t);
}

static void reads_v2_with_its_groups(void **state) {
    static const char row[] = "{\"_id\":\"q\",\"difficulty\":\"hard\",\"length\":\"short\",\"question\":\" Q? \","
                              "\"choice_A\":\"a \",\"choice_B\":\"b\",\"choice_C\":\"c\",\"choice_D\":\"d\","
                              "\"answer\":\"C\",\"context\":\"\\u3000 text\\n\"}";
    kv_text all = {0};
    kv_item it;
    kv_error err;
    kv_grade g;
    (void)state;
    kv_text_puts(&all, "[\n");
    for (int i = 0; i < 503; i++) {
        kv_text_puts(&all, i ? ",\n" : "");
        kv_text_puts(&all, row);
    }
    kv_text_puts(&all, "\n]\n");
    put("longbench_v2.json", all.s);
    kv_text_free(&all);
    kv_task *t = open_task("longbench_v2", NULL, NULL);
    assert_int_equal(kv_task_item(t, 502, &it, &err), KV_OK);
    assert_string_equal(it.id, "502:hard/short");
    assert_non_null(strstr(it.prompt, "<text>\ntext\n</text>\n\nWhat is the correct answer to this question: Q?\n"
                                      "Choices:\n(A) a\n(B) b\n"));
    kv_task_grade(t, &it, "The correct answer is (C).", &g);
    assert_true(g.score == 1);
    kv_item_free(&it);
    kv_task_close(t);
}

static void chat_is_left_out_where_the_benchmark_does(void **state) {
    static const char *const raw[] = {"trec", "triviaqa", "samsum", "lsht", "lcc", "repobench-p"};
    kv_task_options o = {.root = ROOT, .no_items = 1};
    kv_task *t;
    (void)state;
    for (size_t i = 0; i < sizeof raw / sizeof *raw; i++) {
        char name[64];
        snprintf(name, sizeof name, "longbench_%s", raw[i]);
        assert_int_equal(kv_task_open(name, &o, &t, NULL), KV_OK);
        assert_int_equal(kv_task_get_info(t)->no_chat, 1);
        kv_task_close(t);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(agrees_with_the_published_metrics),
        cmocka_unit_test(takes_any_bytes),
        cmocka_unit_test(finds_the_letter_of_v2),
        cmocka_unit_test(makes_prompts_and_groups_by_length),
        cmocka_unit_test(refuses_files_that_are_not_the_published_ones),
        cmocka_unit_test(cuts_the_middle_of_long_prompts),
        cmocka_unit_test(reads_v2_with_its_groups),
        cmocka_unit_test(chat_is_left_out_where_the_benchmark_does),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
