/* test_graders.c - every grader against a table of (output, verdict).  The countdown rows include the odd points of
 * LongProc's evaluator, which published partial scores contain. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "datasets/countdown.h"
#include "datasets/graders.h"

typedef struct {
    const char *output;
    double score, partial;
    const char *extracted; /* NULL = no answer */
} verdict;

static void check(const char *grader, const void *data, const char *gold, const verdict *v, size_t n) {
    const kv_grader *g = kv_grader_find(grader);
    assert_non_null(g);
    for (size_t i = 0; i < n; i++) {
        kv_grade got;
        memset(&got, 0, sizeof got);
        g->grade(data, gold, v[i].output, &got);
        if (got.score != v[i].score || fabs(got.partial - v[i].partial) > 1e-12 ||
            got.answered != (v[i].extracted != NULL) || (v[i].extracted && strcmp(got.extracted, v[i].extracted)))
            fail_msg("%s row %zu: score %g partial %g answered %d '%s'", grader, i, got.score, got.partial,
                     got.answered, got.extracted);
    }
}

#define CHECK(grader, data, gold, rows) check(grader, data, gold, rows, sizeof rows / sizeof *rows)
#define SOLUTION(lines) "<Solution>" lines "</Solution>"

static const kv_countdown problem = {{40, 19, 23, 7}, 29};

static void countdown_equations_decide(void **state) {
    static const verdict rows[] = {
        {SOLUTION("\n40 + 19 = 59\n59 - 23 = 36\n36 - 7 = 29\n"), 1, 1, "40 + 19 = 59\n59 - 23 = 36\n36 - 7 = 29"},
        {SOLUTION("40+19=59\n59-23=36\n36-7=29"), 1, 1, "40+19=59\n59-23=36\n36-7=29"},
        {"thinking... " SOLUTION("\n 40 + 19 =59\n59 - 23 = 36 \n36 - 7 = 29") " and more", 1, 1,
         "40 + 19 =59\n59 - 23 = 36 \n36 - 7 = 29"},
        /* another order and another way */
        {SOLUTION("19 + 40 = 59\n59 - 7 = 52\n52 - 23 = 29"), 1, 1, "19 + 40 = 59\n59 - 7 = 52\n52 - 23 = 29"},
        /* negative results are not what the prompt asks for (compat takes them) */
        {SOLUTION("7 - 23 = -16\n40 + 19 = 59\n59 - 30 = 29"), 0, 0, "7 - 23 = -16\n40 + 19 = 59\n59 - 30 = 29"},
        {SOLUTION("7 - 23 = -16\n-16 + 19 = 3\n40 - 3 = 37"), 0, 0, "7 - 23 = -16\n-16 + 19 = 3\n40 - 3 = 37"},
        {SOLUTION("19 - 23 = -4\n40 + -4 = 36\n36 - 7 = 29"), 0, 1, "19 - 23 = -4\n40 + -4 = 36\n36 - 7 = 29"},
        /* - is looked for before *, so a negative left factor cannot be parsed */
        {SOLUTION("40 - 7 = 33\n19 - 23 = -4\n33 + -4 = 29"), 0, 1, "40 - 7 = 33\n19 - 23 = -4\n33 + -4 = 29"},
        {SOLUTION("40 - 7 = 33\n19 - 23 = -4\n-4 + 33 = 29"), 0, 1, "40 - 7 = 33\n19 - 23 = -4\n-4 + 33 = 29"},
        /* wrong arithmetic, a number not at hand, one used twice, wrong target, two or four lines, no integer */
        {SOLUTION("40 + 19 = 60\n60 - 23 = 37\n36 - 7 = 29"), 0, 0, "40 + 19 = 60\n60 - 23 = 37\n36 - 7 = 29"},
        {SOLUTION("40 + 18 = 58\n58 - 23 = 35\n36 - 7 = 29"), 0, 0, "40 + 18 = 58\n58 - 23 = 35\n36 - 7 = 29"},
        {SOLUTION("40 + 40 = 80\n80 - 23 = 57\n57 - 7 = 50"), 0, 0, "40 + 40 = 80\n80 - 23 = 57\n57 - 7 = 50"},
        {SOLUTION("40 + 19 = 59\n59 - 23 = 36\n36 + 7 = 43"), 0, 0, "40 + 19 = 59\n59 - 23 = 36\n36 + 7 = 43"},
        {SOLUTION("59 - 23 = 36\n36 - 7 = 29"), 0, 0, "59 - 23 = 36\n36 - 7 = 29"},
        {SOLUTION("40 + 19 = 59\n59 - 23 = 36\n36 - 7 = 29\n29 = 29"), 0, 0,
         "40 + 19 = 59\n59 - 23 = 36\n36 - 7 = 29\n29 = 29"},
        {SOLUTION("40 + 19 = 59\n\n59 - 23 = 36\n36 - 7 = 29"), 0, 0, "40 + 19 = 59\n\n59 - 23 = 36\n36 - 7 = 29"},
        {SOLUTION("40 + 19 = 59.0\n59 - 23 = 36\n36 - 7 = 29"), 0, 0, "40 + 19 = 59.0\n59 - 23 = 36\n36 - 7 = 29"},
        {SOLUTION("40 + 19 = 59 = 59\n59 - 23 = 36\n36 - 7 = 29"), 0, 0,
         "40 + 19 = 59 = 59\n59 - 23 = 36\n36 - 7 = 29"},
        {SOLUTION("9999999999999999999999 + 1 = 1\n1 - 1 = 0\n1 - 1 = 0"), 0, 0,
         "9999999999999999999999 + 1 = 1\n1 - 1 = 0\n1 - 1 = 0"},
        {SOLUTION(""), 0, 0, ""},
        {SOLUTION("\n\n"), 0, 0, ""},
        /* the first pair of tags counts; a missing one is no answer */
        {SOLUTION("no") SOLUTION("40 + 19 = 59\n59 - 23 = 36\n36 - 7 = 29"), 0, 0, "no"},
        {"<Solution>\n40 + 19 = 59\n59 - 23 = 36\n36 - 7 = 29\n", 0, 0, NULL},
        {"40 + 19 = 59\n59 - 23 = 36\n36 - 7 = 29\n</Solution>", 0, 0, NULL},
        {"</Solution>40 + 19 = 59\n59 - 23 = 36\n36 - 7 = 29<Solution>", 0, 0, NULL},
        {"", 0, 0, NULL},
    };
    (void)state;
    CHECK("countdown", &problem, "", rows);
    CHECK("countdown_short", &problem, "", rows);
}

static void countdown_divides_exactly_only(void **state) {
    static const kv_countdown p = {{9, 16, 6, 18}, 12}, odd = {{7, 2, 0, 9}, 12};
    static const verdict good[] = {
        {SOLUTION("16 * 9 = 144\n18 - 6 = 12\n144 / 12 = 12"), 1, 1, "16 * 9 = 144\n18 - 6 = 12\n144 / 12 = 12"}};
    static const verdict bad[] = {
        {SOLUTION("7 / 2 = 3\n3 + 9 = 12\n12 + 0 = 12"), 0, 0, "7 / 2 = 3\n3 + 9 = 12\n12 + 0 = 12"},
        {SOLUTION("7 / 0 = 0\n0 + 9 = 9\n9 + 2 = 11"), 0, 0, "7 / 0 = 0\n0 + 9 = 9\n9 + 2 = 11"},
        {SOLUTION("0 / 7 = 0\n9 + 2 = 11\n11 + 0 = 11"), 0, 0, "0 / 7 = 0\n9 + 2 = 11\n11 + 0 = 11"},
    };
    (void)state;
    CHECK("countdown", &p, "", good);
    CHECK("countdown", &odd, "", bad);
}

/* The search lines of `problem`, first line included, and how many there are. */
static char *search_lines(int *n) {
    kv_text t = {0};
    kv_countdown_result r;
    kv_countdown_search(&problem, &t, &r);
    assert_false(t.failed);
    *n = r.lines;
    return t.s;
}

static double partial_of(const char *grader, const char *header, const char *text) {
    kv_text t = {0};
    kv_grade g;
    memset(&g, 0, sizeof g);
    kv_text_puts(&t, header);
    kv_text_puts(&t, text);
    kv_grader_find(grader)->grade(&problem, "", t.s, &g);
    assert_true(g.score == 0);
    kv_text_free(&t);
    return g.partial;
}

static void near(double a, double b) {
    if (fabs(a - b) > 1e-12) fail_msg("%g is not %g", a, b);
}

/* Cuts text behind its k-th line. */
static char *first_lines(const char *text, int k) {
    char *out = strdup(text), *p = out;
    assert_non_null(out);
    for (int i = 0; i < k && p; i++) p = strchr(p + 1, '\n');
    if (p) *p = 0;
    return out;
}

static void countdown_partial_counts_good_search_lines(void **state) {
    int n;
    (void)state;
    char *all = search_lines(&n);
    assert_true(n > 5);
    near(partial_of("countdown", "# Search Procedure\n", all), (double)(n - 1) / n); /* whole search, no solution */
    near(partial_of("countdown", "# Search Procedure\n", "Initial number set"), 0);
    near(partial_of("countdown", "# Search Procedure", ""), 0);
    near(partial_of("countdown", "", all), 0); /* no header */
    for (int k = 1; k <= 4; k++) {             /* the first line and k - 1 more; -1 / n is clamped to 0 */
        char *cut = first_lines(all, k);
        near(partial_of("countdown", "# Search Procedure\n", cut), k < 3 ? 0 : (double)(k - 2) / n);
        free(cut);
    }
    free(all);
}

static void countdown_partial_stops_at_the_first_bad_line(void **state) {
    static const struct {
        const char *from, *to;
        int bad; /* index of the line among those behind the first, -1 = none */
    } cases[] = {
        {"|- Pick two numbers (40, 19) (numbers left: [23, 7])", "|- Pick two numbers (40, 19)", 0},
        {"Try 40 + 19 = 59. Add 59", "Try 40 + 19 = 58. Add 58", -1}, /* only the part before = is compared */
        {"Try 40 + 19 = 59.", "Try 40 - 19 = 59.", 1},
        {"  |- Try 40 + 19", " |- Try 40 + 19", 1},
        {"Try 59 + 23 = 82. Add", "Try 59 + 23 = 82. drop this branch. Add", 3},
        {"Evaluate 89 != 29, drop this branch.", "Evaluate 89 != 29.", 4},
        {"Evaluate 89 != 29, drop this branch.", "wrong words, drop this branch.", -1},
        {"Initial", "initial", -2},
    };
    int n;
    (void)state;
    char *all = search_lines(&n);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *at = strstr(all, cases[i].from);
        kv_text t = {0};
        assert_non_null(at);
        kv_text_append(&t, all, (size_t)(at - all));
        kv_text_puts(&t, cases[i].to);
        kv_text_puts(&t, at + strlen(cases[i].from));
        int bad = cases[i].bad;
        near(partial_of("countdown", "# Search Procedure\n", t.s), bad == -2 ? 0 : (double)(bad < 0 ? n - 1 : bad) / n);
        kv_text_free(&t);
    }
    free(all);
}

static void countdown_short_accepts_both_headers_and_the_last_one_counts(void **state) {
    int n;
    (void)state;
    char *all = search_lines(&n);
    double whole = (double)(n - 1) / n;
    near(partial_of("countdown_short", "<Search Procedure>\n", all), whole);
    near(partial_of("countdown_short", "# Search Procedure\n", all), whole);
    near(partial_of("countdown_short", "# Search Procedure\nno\n<Search Procedure>\n", all), whole);
    near(partial_of("countdown_short", "<Search Procedure>\nno\n# Search Procedure\n", all), whole);
    near(partial_of("countdown_short", "<Search Procedure>no<Search Procedure>", all), whole);
    near(partial_of("countdown", "<Search Procedure>\n", all), 0);
    free(all);
}

#define ROUTE "From A, take a bus to B.\nFrom B, take a train to C.\nFrom C, take a bus to D.\nFrom D, take a bus to E."

static void path_traversal_counts_the_failing_line(void **state) {
    static const verdict rows[] = {
        {"<Route>\n" ROUTE "\n</Route>", 1, 1, ROUTE},
        {"Sure:\n<Route>" ROUTE "\n\n</Route> Done.", 1, 1, ROUTE},
        {"<Route>\nFrom A, take a bus to B.\n</Route>", 0, 0.25, "From A, take a bus to B."},
        {"<Route>\nFrom A, take a bus to C.\n</Route>", 0, 0.25, "From A, take a bus to C."},
        {"<Route>\nFrom A, take a bus to B.\nFrom X.\nFrom C, take a bus to D.</Route>", 0, 0.5,
         "From A, take a bus to B.\nFrom X.\nFrom C, take a bus to D."},
        {"<Route>From A, take a bus to B.\nFrom B, take a train to C.\nFrom C, take a bus to D.\nFrom D!</Route>", 0, 1,
         "From A, take a bus to B.\nFrom B, take a train to C.\nFrom C, take a bus to D.\nFrom D!"},
        {"<Route>" ROUTE "\nFrom E, take a bus to F.</Route>", 0, 1, ROUTE "\nFrom E, take a bus to F."},
        {"<Route></Route>", 0, 0.25, ""},
        {"<Route>" ROUTE, 0, 0, NULL},
        {ROUTE "</Route>", 0, 0, NULL},
        {"</Route>" ROUTE "<Route>", 0, 0, NULL},
        {ROUTE, 0, 0, NULL},
        {"", 0, 0, NULL},
    };
    (void)state;
    CHECK("path_traversal", NULL, ROUTE, rows);
}

static void path_traversal_short_counts_good_leading_lines(void **state) {
    static const verdict rows[] = {
        {ROUTE, 1, 1, ROUTE},
        {"\n " ROUTE " \n\n", 1, 1, ROUTE},
        {"From A, take a bus to B.", 0, 0.25, "From A, take a bus to B."},
        {"From A, take a bus to C.", 0, 0, "From A, take a bus to C."},
        {"From A, take a bus to B.\nFrom X.\nFrom C, take a bus to D.", 0, 0.25,
         "From A, take a bus to B.\nFrom X.\nFrom C, take a bus to D."},
        {ROUTE "\nFrom E, take a bus to F.", 0, 1, ROUTE "\nFrom E, take a bus to F."},
        {"<Route>\n" ROUTE "\n</Route>", 0, 0, "<Route>\n" ROUTE "\n</Route>"},
        {" \n\t ", 0, 0, NULL},
        {"", 0, 0, NULL},
    };
    (void)state;
    CHECK("path_traversal_short", NULL, ROUTE, rows);
}

static void needle_wants_the_number_anywhere(void **state) {
    static const verdict rows[] = {
        {"123456", 1, 1, "123456"},        {" The number is 123456.", 1, 1, "123456"},
        {"not 99 but 123456", 1, 1, "99"}, {"9123456", 1, 1, "9123456"},
        {"12345", 0, 0, "12345"},          {"1 2 3 4 5 6", 0, 0, "1"},
        {"no idea", 0, 0, NULL},           {"", 0, 0, NULL},
    };
    (void)state;
    CHECK("needle", NULL, "123456", rows);
}

static void gsm8k_short_reads_the_marked_number(void **state) {
    static const verdict rows[] = {
        {"2 + 2 is 4.\n#### 1234", 1, 1, "1234"},
        {"#### 1,234", 1, 1, "1234"},
        {"#### $1,234.00", 1, 1, "1234"},
        {"####  1234 dollars", 1, 1, "1234"},
        {"#### 1234.", 1, 1, "1234"},
        {"#### 01234", 1, 1, "1234"},
        {"#### 5\n#### 1234", 1, 1, "1234"},
        {"#### 1234\n#### 5", 0, 0, "5"},
        {"#### 1234, 5", 1, 1, "1234"},
        {"#### 1234.5", 0, 0, "1234.5"},
        {"#### -1234", 0, 0, "-1234"},
        {"#### 123", 0, 0, "123"},
        {"#### many", 0, 0, NULL},
        {"####1234", 0, 0, NULL},
        {"1234", 0, 0, NULL},
        {"#### ", 0, 0, NULL},
        {"", 0, 0, NULL},
    };
    static const verdict minus[] = {{"#### -5", 1, 1, "-5"}, {"#### -$5.0", 1, 1, "-5"}, {"#### 5", 0, 0, "5"}};
    static const verdict zero[] = {{"#### -0.0", 1, 1, "0"}, {"#### 0", 1, 1, "0"}, {"#### 00", 1, 1, "0"}};
    (void)state;
    CHECK("gsm8k_short", NULL, "1234", rows);
    CHECK("gsm8k_short", NULL, "-5", minus);
    CHECK("gsm8k_short", NULL, "0", zero);
}

static void integer_reads_the_last_box_then_the_last_number(void **state) {
    static const verdict rows[] = {
        {"Final answer:  \\boxed{1234}", 1, 1, "1234"},
        {"\\boxed{5} no, \\boxed{ 1,234 }", 1, 1, "1,234"},
        {"\\boxed{1{,}234}", 1, 1, "1{,}234"},
        {"\\boxed{\\$1,\\!234.00}", 1, 1, "\\$1,\\!234.00"},
        {"\\boxed{1234\\text{ dollars}}", 1, 1, "1234\\text{ dollars}"},
        {"\\boxed{x = 1234\\%}", 1, 1, "x = 1234\\%"},
        {"\\boxed{1234.}", 1, 1, "1234."},
        {"\\boxed{\\frac{1234}{1}}", 1, 1, "\\frac{1234}{1}"},
        {"\\boxed{12 34 5}", 0, 0, "12 34 5"},
        {"\\boxed{1234} and \\boxed{", 1, 1, "1234"},
        {"\\boxed{1234} then 99", 1, 1, "1234"},
        {"\\boxed{} 1234", 1, 1, "1234"},
        {"so it is 1,234.", 1, 1, "1,234"},
        {"7 * 2 = 1234", 1, 1, "1234"},
        {"2468-1234", 1, 1, "1234"},
        {"it is -1234", 0, 0, "-1234"},
        {"<think>\\boxed{5}</think> it is 1234", 1, 1, "1234"},
        {"<think>\\boxed{1234}</think> it is 5", 0, 0, "5"},
        {"no number", 0, 0, NULL},
        {"", 0, 0, NULL},
    };
    (void)state;
    CHECK("integer", NULL, "1234", rows);
}

/* --- any bytes ------------------------------------------------------------------------------------------------ */

static const char *const all_graders[] = {"countdown",
                                          "countdown_short",
                                          "path_traversal",
                                          "path_traversal_short",
                                          "needle",
                                          "gsm8k_short",
                                          "math",
                                          "integer",
                                          "lmeval_gsm8k",
                                          "lmeval_gsm8k_cot",
                                          "lmeval_gsm8k_llama",
                                          "lmeval_minerva",
                                          "lmeval_hendrycks",
                                          "lmeval_aime",
                                          "ruler_all",
                                          "ruler_part",
                                          "all_phrases"};

static void grade_all(const char *output) {
    for (size_t i = 0; i < sizeof all_graders / sizeof *all_graders; i++) {
        const kv_grader *grader = kv_grader_find(all_graders[i]);
        kv_grade g;
        memset(&g, 0, sizeof g);
        grader->grade(grader->data_kind ? &problem : NULL, grader->data_kind ? "" : "1234", output, &g);
        assert_true(g.score == 0 || g.score == 1);
        assert_true(g.partial >= 0 && g.partial <= 1);
        assert_non_null(memchr(g.extracted, 0, sizeof g.extracted));
    }
}

static void ruler_counts_the_references_found(void **state) {
    static const struct {
        const char *gold, *output;
        double all, part, phrases;
    } cases[] = {
        {"8436555", " 8436555.", 1, 1, 1},
        {"8436555", "843655", 0, 0, 0},
        {"8436555", "184365551", 1, 1, 1}, /* no word borders */
        {"8436555", "8,436,555", 0, 0, 0},
        {"8436555", "", 0, 0, 0},
        {"1\n2\n3\n4", "4, 3", 0.5, 1, 0},
        {"1\n2\n3\n4", "1 2 3 4", 1, 1, 1},
        {"12", "4123", 1, 1, 1},
        {"Paris\nthe city of Paris", "It is PARIS.", 0.5, 1, 0},
        {"TV", "a list of tvs", 1, 1, 1},
        {"VAR\nABCDE", "abcde", 0.5, 1, 0},
        {"sandwich\nDolores Park", "Eat a Sandwich in dolores park", 1, 1, 1},
        {"sandwich\nDolores Park", "Eat a sandwich", 0.5, 1, 0},
        {"two words", "two\nwords", 0, 0, 0},
        {"\xc3\x89mile", "\xc3\x89MILE", 1, 1, 1},
        {"\xc3\x89mile", "\xc3\xa9mile", 1, 1, 1},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        kv_grade all = {0}, part = {0}, phrases = {0};
        kv_grader_find("ruler_all")->grade(NULL, cases[i].gold, cases[i].output, &all);
        kv_grader_find("ruler_part")->grade(NULL, cases[i].gold, cases[i].output, &part);
        kv_grader_find("all_phrases")->grade(NULL, cases[i].gold, cases[i].output, &phrases);
        if (all.score != cases[i].all || part.score != cases[i].part || phrases.score != cases[i].phrases ||
            phrases.partial != cases[i].all)
            fail_msg("'%s' in '%s': %g %g %g %g", cases[i].gold, cases[i].output, all.score, part.score, phrases.score,
                     phrases.partial);
        assert_int_equal(all.answered, cases[i].output[0] != 0);
    }
}

static void survives_any_bytes(void **state) {
    static const char *const pieces[] = {"<Solution>",
                                         "</Solution>",
                                         "# Search Procedure",
                                         "<Search Procedure>",
                                         "<Route>",
                                         "</Route>",
                                         "\\boxed{",
                                         "}",
                                         "#### ",
                                         "\n",
                                         "40 + 19 = 59",
                                         "=",
                                         "\xff\xfe",
                                         "\xe2\x82",
                                         "-",
                                         "1,234.5",
                                         "$",
                                         "\\text{",
                                         "|- Try 40",
                                         "</think>"};
    unsigned r = 1;
    (void)state;
    for (int k = 0; k < 3000; k++) {
        kv_text t = {0};
        for (int i = 0; i < 1 + k % 40; i++) {
            r = r * 1103515245u + 12345u;
            unsigned pick = (r >> 16) % (sizeof pieces / sizeof *pieces + 4);
            char byte[2] = {(char)(1 + (r >> 8) % 255), 0};
            kv_text_puts(&t, pick < sizeof pieces / sizeof *pieces ? pieces[pick] : byte);
        }
        grade_all(t.s);
        kv_text_free(&t);
    }
}

/* The address sanitizer's strstr walks the whole rest of the text at every call, which is quadratic here. */
#if defined(__SANITIZE_ADDRESS__)
#define LONG_OUTPUT 50000
#else
#define LONG_OUTPUT 1000000
#endif

static void survives_a_megabyte_of_the_same(void **state) {
    static const char *const pieces[] = {"9",       "9,",          "a",  "\n",      "\\boxed{", "\\boxed{}", "#### ",
                                         "<Route>", "<Solution>=", "\\", "{{{{}}}", "-1",       "$"};
    (void)state;
    for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++) {
        kv_text t = {0};
        while (t.n < LONG_OUTPUT) kv_text_puts(&t, pieces[i]);
        grade_all(t.s);
        kv_text_free(&t);
    }
}

static void long_answers_are_cut_between_characters(void **state) {
    kv_grade g;
    char text[1200];
    (void)state;
    for (size_t shift = 0; shift < 3; shift++) {
        memset(&g, 0, sizeof g);
        memset(text, 'a', shift);
        for (size_t i = shift; i + 3 < sizeof text; i += 3) memcpy(text + i, "\xe2\x82\xac", 4);
        kv_grade_extract(&g, (kv_span){text, strlen(text)});
        assert_int_equal((strlen(g.extracted) - shift) % 3, 0);
        assert_in_range(strlen(g.extracted), 509, 511);
    }
    memset(text, 0x80, sizeof text); /* no character starts anywhere */
    kv_grade_extract(&g, (kv_span){text, sizeof text});
    assert_in_range(strlen(g.extracted), 508, 511);
}

static void knows_its_graders_by_name(void **state) {
    char names[400], few[12];
    (void)state;
    assert_null(kv_grader_find("nope"));
    kv_grader_names(names, sizeof names);
    assert_non_null(strstr(names, "countdown, countdown_short, path_traversal, path_traversal_short, needle, gsm8k"));
    kv_grader_names(few, sizeof few);
    assert_string_equal(few, "countdown, ");
    for (size_t i = 0; i < sizeof all_graders / sizeof *all_graders; i++) {
        assert_string_equal(kv_grader_find(all_graders[i])->name, all_graders[i]);
        assert_true(kv_grader_find(all_graders[i])->version >= 1);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(countdown_equations_decide),
        cmocka_unit_test(countdown_divides_exactly_only),
        cmocka_unit_test(countdown_partial_counts_good_search_lines),
        cmocka_unit_test(countdown_partial_stops_at_the_first_bad_line),
        cmocka_unit_test(countdown_short_accepts_both_headers_and_the_last_one_counts),
        cmocka_unit_test(path_traversal_counts_the_failing_line),
        cmocka_unit_test(path_traversal_short_counts_good_leading_lines),
        cmocka_unit_test(needle_wants_the_number_anywhere),
        cmocka_unit_test(gsm8k_short_reads_the_marked_number),
        cmocka_unit_test(integer_reads_the_last_box_then_the_last_number),
        cmocka_unit_test(ruler_counts_the_references_found),
        cmocka_unit_test(survives_any_bytes),
        cmocka_unit_test(survives_a_megabyte_of_the_same),
        cmocka_unit_test(long_answers_are_cut_between_characters),
        cmocka_unit_test(knows_its_graders_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
