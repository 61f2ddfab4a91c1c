/* test_math.c - the maths graders on hand-made vectors: strict, the published rules of R-KV, and extraction. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "datasets/compat.h"
#include "datasets/graders.h"
#include "datasets/math_compare.h"
#include "datasets/math_extract.h"

static kv_span span(const char *s) {
    return (kv_span){s, strlen(s)};
}

static int strict(const char *gold, const char *answer) {
    const char *reason = NULL;
    int verdict = kv_math_strict(span(gold), span(answer), 0, &reason);
    assert_non_null(reason);
    return verdict;
}

static int compat(const char *gold, const char *answer) {
    char output[4096];
    snprintf(output, sizeof output, "Final answer: \\boxed{%s}", answer);
    return kv_compat_grade(gold, output);
}

enum { GOLD, ANSWER, RKV, HENDRYCKS, MINERVA, MATH_VERIFY, WANT, STRICT, COMPAT, NOTE, N_COLUMNS };

static int read_row(FILE *f, char *line, size_t size, char **column) {
    do
        if (!fgets(line, (int)size, f)) return 0;
    while (line[0] == '#');
    line[strcspn(line, "\n")] = 0;
    for (int k = 0; k < N_COLUMNS; k++) {
        char *tab = line + strcspn(line, "\t");
        column[k] = line;
        line = *tab ? tab + 1 : tab;
        *tab = 0;
    }
    return 1;
}

static void agrees_with_the_vectors(void **state) {
    (void)state;
    FILE *f = fopen("golden/math_vectors.tsv", "r");
    char line[2048], *c[N_COLUMNS];
    int rows = 0, differ = 0;
    assert_non_null(f);
    for (; read_row(f, line, sizeof line, c); rows++) {
        char s = strict(c[GOLD], c[ANSWER]) ? 'y' : 'n', p = compat(c[GOLD], c[ANSWER]) ? 'y' : 'n';
        if (s != *c[STRICT] || (*c[WANT] != '?' && s != *c[WANT]))
            fail_msg("strict: gold %s answer %s: %c", c[GOLD], c[ANSWER], s);
        if (p != *c[COMPAT] || (p != *c[RKV]) != (*c[NOTE] != 0))
            fail_msg("compat: gold %s answer %s: %c", c[GOLD], c[ANSWER], p);
        differ += p != *c[RKV];
    }
    fclose(f);
    assert_int_equal(rows, 201);
    assert_true(differ <= 5);
}

static void strict_refuses_what_only_looks_the_same(void **state) {
    static const char *const pairs[][2] = {
        {"\\frac{11}{2}", "1\\frac{11}{2}"},
        {"\\text{(B)}", "1\\text{(B)}"},
        {"\\sqrt{2}", "1.41"},
        {"\\sqrt{2}", "1.4143"},
        {"2", "2.0001"},
        {"|x|", "x"},
        {"\\sqrt{x^2}", "x"},
        {"(1,2)", "1,2"},
        {"1,2", "(1,2)"},
        {"x=5", "x=5,6"},
        {"y=2x", "y=-2x"},
        {"10^{-40}", "0"},
        {"x>3", "x<3"},
        {"x>3", "x\\ge 3"},
        {"\\frac{\\pi}{2}", "90^\\circ"},
        {"5", "5\\text{ million}"},
        {"5", "5\\text{ or more}"},
        {"5", "5 or 6"},
        {"6, 10", "6 and 11"},
        {"6, 10", "6 and"},
        {"12", "12 apples and 5 pears"},
        {"7", "2x = 7"},
        {"7", "\\frac{x}{2} = 7"},
        {"\\frac14:3", "\\frac24:3"},
        {"ab^2", "a^2b^2"},
        {"58,500", "58, 500"},
        {"7:30\\text{ p.m.}", "7:30 a.m."},
        {"1 2:3", "12:3"},
        {"4.5:6", "45:6"},
        {"7", "x^2 = 7"},
        {"5125", "\\log_5 125"},
        {"(xy)^2", "xy^2"},
        {"\\frac{x}{y}", "(xy)^{-1}"},
        {"\\emptyset", "\\{\\emptyset\\}"},
        {"\\{1,2\\}", "\\{\\{1,2\\}\\}"},
        {"\\{x : x>3\\}", "\\{x : x\\ge3\\}"},
        {"(-\\infty,3)", "\\mathbb{R}"},
        {"\\tan 30", "\\tan 30^\\circ"},
        {"n!", "(n+1)!"},
        {"5", "six"},
        {"1000", "1e2"},
        {"52_8", "(52)_9"},
        {"\\begin{pmatrix}1\\\\2\\end{pmatrix}", "-\\begin{pmatrix}1\\\\2\\end{pmatrix}"}};
    (void)state;
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++)
        if (strict(pairs[i][0], pairs[i][1])) fail_msg("%s is not %s", pairs[i][0], pairs[i][1]);
}

static void strict_accepts_other_spellings(void **state) {
    static const char *const pairs[][2] = {
        {"\\frac{34}{455}", "0.07472527472527472"},
        {"\\sqrt{2}", "1.4142"},
        {"xyz", "zyx"},
        {"(-\\infty,3)\\cup(5,\\infty)", "x<3 \\text{ or } x>5"},
        {"x \\ge 3", "[3,\\infty)"},
        {"2\\frac12", "2 1/2"},
        {"2", "\\log_2 4"},
        {"\\binom{5}{2}", "10"},
        {"5!", "120"},
        {"\\sqrt[3]{-8}", "-2"},
        {"\\frac16", "0.1\\overline{6}"},
        {"\\sin^2 x", "(\\sin x)^2"},
        {"e^{i\\pi}", "-1"},
        {"|3-5|", "2"},
        {"x_1+x_{2}", "x_2 + x_{1}"},
        {"\\frac{14}{3}", "\\frac{14}{3} \\approx 4.67"},
        {"\\frac13", "0.3333"},
        {"\\frac19", "0.1111"},
        {"6, 10", "6 and 10"},
        {"1,-1", "x=1 or x=-1"},
        {"(-\\infty,2)\\cup(3,\\infty)", "x<2 or x>3"},
        {"5000000", "5 million dollars"},
        {"n!", "n!"},
        {"a b^2", "ab^2"},
        {"xy^2z", "zx y^2"},
        {"\\frac{x}{y}", "xy^{-1}"},
        {"\\frac{a}{b}c", "\\frac abc"},
        {"ab_1", "a b_1"},
        {"3", "\\log_5 125"},
        {"7:30\\text{ p.m.}", "7:30 p.m."},
        {"12 \\text{ ft } 3 \\text{ in}", "12 ft 3 in"},
        {"f^{-1}(x)=2x", "2x"},
        {"2x", "f^{-1}(x) = 2x"},
        {"5:6", "5 : 6"},
        {"\\frac{\\sqrt3}{3}", "\\tan 30^\\circ"},
        {"\\sin 20^\\circ", "\\cos(90^\\circ - 20^\\circ)"},
        {"(3,4]", "\\{x \\in \\mathbb{R} \\mid 3 < x \\le 4\\}"},
        {"(-\\infty,\\infty)", "\\mathbb{R}"},
        {"\\mathbb{R}", "all real numbers"},
        {".0000672", "6.72e-5"},
        {"2e-5", "2e - 5"},
        {"1000", "1e3"},
        {"5", "Five"},
        {"52_8", "(52)_8"},
        {"x^2+1", "x**2 + 1"},
        {"\\frac{270}{7}", "38 \\frac47^\\circ"},
        {"\\frac13", "33\\frac13\\%"},
        {"\\begin{pmatrix} 1/5 \\\\ -18/5 \\end{pmatrix}", "-\\frac15\\begin{pmatrix}-1\\\\18\\end{pmatrix}"},
        {"5000000", "5\\text{ million dollars}"},
        {"24", "2 dozen"},
        {"12", "12 apples"},
        {"7", "\\frac{a}{b} = 7"}};
    (void)state;
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++)
        if (!strict(pairs[i][0], pairs[i][1])) fail_msg("%s is %s", pairs[i][0], pairs[i][1]);
}

/* --- golds of MATH-500 ---------------------------------------------------------------------------------------- */

static kv_task *open_task(const char *name) {
    kv_task_options o = {.root = KV_SOURCE_DIR "/datasets"};
    kv_task *t;
    kv_error err;
    if (kv_task_open(name, &o, &t, &err)) fail_msg("%s", err.text);
    return t;
}

static void gold_of(kv_task *t, int i, char *out, size_t size) {
    kv_item it;
    kv_error err;
    assert_int_equal(kv_task_item(t, i, &it, &err), KV_OK);
    assert_true(strlen(it.gold) < size);
    strcpy(out, it.gold);
    kv_item_free(&it);
}

static void every_gold_is_understood_and_equals_itself(void **state) {
    kv_task *t = open_task("math500");
    (void)state;
    for (int i = 0; i < 500; i++) {
        char gold[512];
        const char *reason;
        gold_of(t, i, gold, sizeof gold);
        if (!kv_math_strict(span(gold), span(gold), 0, &reason) || strcmp(reason, "same"))
            fail_msg("item %d, %s: %s", i, gold, reason);
    }
    kv_task_close(t);
}

static void the_published_rules_keep_their_broken_items(void **state) {
    kv_task *t = open_task("math500");
    char gold[512];
    (void)state;
    for (int i = 0; i < 500; i++) {
        gold_of(t, i, gold, sizeof gold);
        if (compat(gold, gold) != (i != 383)) fail_msg("item %d, %s", i, gold);
    }
    gold_of(t, 383, gold, sizeof gold);
    assert_string_equal(gold, "x \\in [-2,7]");
    assert_int_equal(compat(gold, "[-2,7]"), 0);
    gold_of(t, 97, gold, sizeof gold);
    assert_string_equal(gold, "\\text{east}");
    assert_int_equal(compat(gold, "north"), 1);
    assert_int_equal(compat(gold, "42"), 1);
    assert_int_equal(compat(gold, "East"), 0);
    assert_int_equal(kv_compat_grade(gold, "I do not know"), 1);
    assert_int_equal(compat("52_8", "528"), 1);
    assert_int_equal(compat("52_8", "52"), 0);
    kv_task_close(t);
}

/* --- R-KV's steps --------------------------------------------------------------------------------------------- */

static void compat_finds_the_answer_as_published(void **state) {
    static const char *const cases[][2] = {
        {"so \\boxed{7}", "7"},
        {"\\boxed{7} and a boxed thing $x$", "thing"},
        {"\\boxed{\\frac{1}{2", "\\frac{1}{2"},
        {"\\boxed", ""},
        {"final answer is $5$. I hope", "5"},
        {"The answer is 12.\nSo", "12So"},
        {"the final answer is: 9/", "9"},
        {"\xe7\xad\x94\xe6\xa1\x88\xe6\x98\xaf 8\n\nx", "8"},
        {"from 1,234 to -2,345.50 apples", "-2345.50"},
        {"5. .5", "0.5"},
        {"none", ""},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        kv_text t = {0};
        kv_compat_extract(cases[i][0], &t);
        assert_string_equal(kv_str_span(&t).s, cases[i][1]);
        kv_text_free(&t);
    }
}

static void compat_strips_as_published(void **state) {
    static const char *const cases[][2] = {
        {" 12.000 ", "12"},
        {"12.050", "12.050"},
        {"(a+5)(b+2)", "(+5)(b+2)"},
        {"x=5", "5"},
        {"x = 5", "5"},
        {"x \\in [1,2]", "x\\in[1,2]"},
        {"15\\mbox{ cm}^2", "15^2"},
        {"5 \\text{ cm}", "5"},
        {"\\text{five}", "five"},
        {"twenty-one point five", "21.5"},
        {"two million five thousand", "2006005"},
        {"two hundred and three", "203"},
        {"thousand million", "thousmillion"},
        {"007", "7"},
        {"\\frac12", "\\frac{1}{2}"},
        {"\\frac{1}2", "\\frac{1}2"},
        {"\\frac1{72}", "\\frac{1}{72}"},
        {"\\frac1", "\\frac1"},
        {"\\sqrt12", "\\sqrt{12}"},
        {"1/2", "\\frac{1}{2}"},
        {"01/2", "01/2"},
        {"3j", "3i"},
        {"\\begin{array}{cc}1&2\\end{array}", "\\begin{pmatrix}1&2\\end{pmatrix}"},
        {"\\left(1,\\infty\\right)", "(1,\\infty)"},
        {"inf", "\\infty"},
        {".5", "0.5"},
        {"50\\%", "50"},
        {"5 m m", "5"},
        {"meters", "meters"},
        {"90\xc2\xb0", "90\xc2\xb0"},
        {"", ""},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        kv_text t = {0};
        kv_str_set(&t, span(cases[i][0]));
        kv_compat_strip(&t);
        if (strcmp(kv_str_span(&t).s, cases[i][1])) fail_msg("'%s' -> '%s'", cases[i][0], kv_str_span(&t).s);
        kv_text_free(&t);
    }
}

/* --- where the answer is -------------------------------------------------------------------------------------- */

static void strict_finds_the_answer(void **state) {
    static const char *const cases[][3] = {
        {"\\boxed{5} then \\boxed{6}.", "boxed", "6"},
        {"\\boxed{\\frac{1}{2}} and \\boxed{", "boxed", "\\frac{1}{2}"},
        {"\\boxed{} is empty, \\boxed{7}, \\boxed{}", "boxed", "7"},
        {"\\boxed 8$ and", "boxed", "8"},
        {"\\fbox{9} \\boxed{4} \\fbox{3}", "boxed", "3"},
        {"\\boxed{\\{1,2\\}}", "boxed", "\\{1,2\\}"},
        {"<think>\\boxed{1}</think> The answer is 2.", "answer is", "2"},
        {"The answer is $\\frac12$. Yes", "answer is", "\\frac12"},
        {"The answer is \\$5. Yes, $x$", "answer is", "\\$5"},
        {"**Final Answer:** 12", "answer is", "12"},
        {"The answer is 12 bolts of fiber.", "answer is", "12"},
        {"The answer is $-1,234.50 per day", "answer is", "-1,234.50"},
        {"The answer is 5 thousand.", "answer is", "5 thousand"},
        {"The answer is 3 of 4 pies", "answer is", "3 of 4 pies"},
        {"The answer is 5x apples", "answer is", "5x apples"},
        {"The answer is 2 + x apples", "answer is", "2 + x apples"},
        {"So 3.\n#### 1,234\n", "####", "1,234"},
        {"between 16-3 and -1,234.5 lies", "last number", "-1,234.5"},
        {"#### Step 1: add\nx\n#### 2. Check\nThe answer is 42.", "answer is", "42"},
        {"#### Final answer\n42", "last number", "42"},
        {"#### 18. So", "last number", "18"},
        {"16-3", "last number", "3"},
        {"no", NULL, ""},
        {"", NULL, ""},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        kv_span a = {"", 0};
        const char *rule = kv_math_extract(cases[i][0], &a);
        if (!rule != !cases[i][1] || (rule && strcmp(rule, cases[i][1]))) fail_msg("'%s': %s", cases[i][0], rule);
        if (!kv_span_equal(a, span(cases[i][2]))) fail_msg("'%s': '%.*s'", cases[i][0], (int)a.n, a.s);
    }
}

static void a_word_behind_a_whole_number_is_a_unit(void **state) {
    static const struct {
        const char *answer;
        int want;
    } cases[] = {{"18 eggs", 1},        {"18 more pens", 1}, {"18 percent", 1},    {"18 hundred", 0},
                 {"18 or 19", 0},       {"18 minus 1", 0},   {"18x", 0},           {"17 and 18", 0},
                 {"18:30", 0},          {"18 out of 20", 0}, {"1 hundred and", 0}, {"18\\text{ k}", 0},
                 {"\\text{18 eggs}", 1}};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *reason;
        if (kv_math_strict(span("18"), span(cases[i].answer), KV_PARSE_PERCENT, &reason) != cases[i].want)
            fail_msg("%s: %s", cases[i].answer, reason);
    }
}

/* --- lm-evaluation-harness ------------------------------------------------------------------------------------ */

static void lmeval_graders_score_as_published(void **state) {
    static const struct {
        const char *grader, *gold, *output;
        int compat, strict;
        const char *reason;
    } cases[] = {
        {"lmeval_gsm8k", "18", "So.\n#### 18", 1, 1, "flexible-extract right, strict-match right"},
        {"lmeval_gsm8k", "18", "#### 17\n#### 18", 0, 1, "flexible-extract right"},
        {"lmeval_gsm8k", "18", "It is $18.", 0, 1, "flexible-extract right"},
        {"lmeval_gsm8k", "18", "#### 18.00", 0, 1, "flexible-extract wrong"},
        {"lmeval_gsm8k", "1234", "#### 1,234.", 1, 1, "flexible-extract right, strict-match right"},
        {"lmeval_gsm8k_cot", "18", "The answer is 18.", 1, 1, "flexible-extract right, strict-match right"},
        {"lmeval_gsm8k_cot", "18", "The answer is 18", 0, 1, "flexible-extract right"},
        {"lmeval_gsm8k_cot", "1", "The answer is 18", 1, 0, "flexible-extract wrong, strict-match right"},
        {"lmeval_gsm8k_cot", "5", "The answer is 5\n", 0, 1, "flexible-extract right"},
        {"lmeval_gsm8k_llama", "18", "The final answer is 17. The final answer is $18", 1, 1,
         "flexible-extract right, strict-match right"},
        {"lmeval_gsm8k_llama", "18", "none", 0, 0, "flexible-extract wrong"},
        {"lmeval_minerva", "\\frac12", "Final Answer: The final answer is $0.5$. I hope it is correct.", 1, 1, "same"},
        {"lmeval_minerva", "24", "Final Answer: The final answer is $24$. ", 1, 1, "same"},
        {"lmeval_minerva", "24", "Final Answer: The final answer is $24$.", 0, 1, "same"},
        {"lmeval_minerva", "(3,4]", "Final Answer: The final answer is $(3,4]$. I hope it is correct.", 0, 1, "same"},
        {"lmeval_minerva", "5", "Final Answer: The final answer is $x=5$. I hope it is correct.", 1, 1, "same"},
        {"lmeval_hendrycks", "\\frac{1}{2}", "It is $0.5$.", 1, 1, "same"},
        {"lmeval_hendrycks", "\\frac{1}{2}", "1/2", 1, 0, "another value"},
        {"lmeval_hendrycks", "5", "$a$ is $5$", 0, 1, "same"},
        {"lmeval_hendrycks", "a/b", "a/b", 1, 0, "no answer"},
        {"lmeval_aime", "025", "\\boxed{25}", 1, 1, "same"},
        {"lmeval_aime", "025", "\\boxed{025}", 0, 1, "same"},
        {"lmeval_aime", "25", "\\boxed 25$", 1, 1, "same"},
        {"lmeval_aime", "25", "it is $25$ then", 1, 1, "same"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        kv_grade g;
        memset(&g, 0, sizeof g);
        kv_grader_find(cases[i].grader)->grade(NULL, cases[i].gold, cases[i].output, &g);
        if (g.compat != cases[i].compat || g.score != cases[i].strict || strcmp(g.reason, cases[i].reason))
            fail_msg("%s, '%s': compat %g strict %g, %s", cases[i].grader, cases[i].output, g.compat, g.score,
                     g.reason);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(agrees_with_the_vectors),
        cmocka_unit_test(strict_refuses_what_only_looks_the_same),
        cmocka_unit_test(strict_accepts_other_spellings),
        cmocka_unit_test(every_gold_is_understood_and_equals_itself),
        cmocka_unit_test(the_published_rules_keep_their_broken_items),
        cmocka_unit_test(compat_finds_the_answer_as_published),
        cmocka_unit_test(compat_strips_as_published),
        cmocka_unit_test(strict_finds_the_answer),
        cmocka_unit_test(a_word_behind_a_whole_number_is_a_unit),
        cmocka_unit_test(lmeval_graders_score_as_published),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
