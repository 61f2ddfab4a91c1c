/* test_longproc_graders.c - where the strict verdicts of LongProc's tasks leave the published ones, why an answer got
 * none, and files of data that are damaged. */
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

#include <zip.h>

#include "datasets/countdown.h"
#include "datasets/graders.h"
#include "datasets/programs.h"
#include "datasets/task.h"
#include "datasets/travel.h"
#include "tests/support/scratch.h"

typedef struct {
    const char *output;
    double score, compat, partial;
    int answered;
    const char *reason;
} verdict;

static void check(const char *grader, const void *data, const char *gold, const verdict *v, size_t n) {
    for (size_t i = 0; i < n; i++) {
        kv_grade g;
        memset(&g, 0, sizeof g);
        kv_grader_find(grader)->grade(data, gold, v[i].output, &g);
        if (fabs(g.score - v[i].score) > 1e-12 || fabs(g.compat - v[i].compat) > 1e-12 ||
            fabs(g.partial - v[i].partial) > 1e-12 || g.answered != v[i].answered ||
            strcmp(g.reason ? g.reason : "", v[i].reason ? v[i].reason : ""))
            fail_msg("%s row %zu: score %g compat %g partial %g answered %d reason %s", grader, i, g.score, g.compat,
                     g.partial, g.answered, g.reason ? g.reason : "none");
    }
}

#define CHECK(grader, data, gold, rows) check(grader, data, gold, rows, sizeof rows / sizeof *rows)

static void tables(void **state) {
    static const char gold[] = "name\tprice\nThe Cat\t1.50 EUR\nDog\tN/A\nDog\t2\n";
    static const char none[] = "the table has no row", width[] = "the table has another number of columns";
    static const verdict rows[] = {
        {"```tsv\nname\tprice\nThe Cat\t1.50 EUR\nDog\tN/A\nDog\t2\n```", 1, 1, 1, 1, NULL},
        {"x\ty\ndog\t2.\ncat\t\"1,50 eur\"\ndog\tna", 1, 1, 1, 1, NULL}, /* order, case, marks, articles, quotes */
        {"x\ty\ncat\t150eur", 0.5, 0.5, 1 / 3., 1, NULL},
        /* the same right row three times: each counts as published, once strictly */
        {"x\ty\ndog\t2\ndog\t2\ndog\t2", 1 / 3., 0.5, 1 / 3., 1, NULL},
        {"x\ty\ndog\t2\nand that is all", 0.5, 0.5, 1 / 3., 1, NULL}, /* a last line of another width */
        {"x\ty\nand so on\ndog\t2", 0.4, 0.4, 1 / 3., 1, NULL},       /* which counts before the end */
        {"x\ty\ncat\t1\n", 0, 0, 0, 1, NULL},
        {"<think>```tsv\nx\ty\ndog\t2\n```</think>```tsv\nx\ty\ncat\t150eur\ndog\t2\n```", 0.8, 0.8 / (0.6 + 2 / 3.),
         2 / 3., 1, NULL},
        {"x\ty\tz\ncat\t150eur\tq", 0, 0, 0, 0, width},
        {"x\tx\ncat\t150eur", 0, 0, 0, 0, "a column name twice"},
        {"x\ty\nca\rt\t150eur", 0, 0, 0, 0, "a carriage return within a line"},
        {"x\ty", 0, 0, 0, 0, none},
        {"x\ty\nz", 0, 0, 0, 0, none},
        {"```tsv\n```", 0, 0, 0, 0, none},
    };
    (void)state;
    CHECK("html_to_tsv", NULL, gold, rows);
}

#define TRACE "Ann's belief:\n- Step 0: (initial state) {Ann location: hall}\n- Step 1: {Ann location: den}\n"

static void belief_traces(void **state) {
    static const char gold[] = TRACE "Final Answer: the den's rack", differs[] = "the trace differs";
    static const char last[] = "the trace is right, its final answer is not";
    static const verdict rows[] = {
        {TRACE "Final Answer: the den's rack", 1, 1, 1, 1, NULL},
        {TRACE "Final Answer: Den\u2019s rack.\nDone", 1, 1, 1, 1, NULL},
        {TRACE, 0, 1, 1, 0, last}, /* never looked at in the published evaluator */
        {TRACE "Final Answer: the den's shelf", 0, 1, 1, 1, last},
        {"- first I think\n" TRACE "Final Answer: the den's rack", 0, 0, 0, 1, differs},
        {"<think>\n- so\n</think>" TRACE "Final Answer: the den's rack", 1, 0, 1, 1, NULL},
        {"  - STEP 0 initial state, Ann hall\n - no\n-Step 1 Ann: den", 0, 1, 1, 0, last},
        {"- Step 0: (initial state) {Ann location: hall}", 0, 0, 0.5, 0, differs},
        {TRACE "- Step 2: more", 0, 0, 1, 0, differs},
        {"- the\n" TRACE, 0, 1, 1, 0, last}, /* an empty line vanishes */
        {"", 0, 0, 0, 0, differs},
    };
    (void)state;
    CHECK("tom_tracking", NULL, gold, rows);
}

static void trip_plans(void **state) {
    static kv_travel trip = {.n_cities = 2,
                             .plan = {{.city = "Rome", .days = 3}, {.city = "Oslo", .days = 2}},
                             .procedure =
                                 "<Solving Procedure>\nOne.\nThe two.\n</Solving Procedure>\n<Plan>\nX\n</Plan>"};
    static const char other[] = "another plan", none[] = "no <Plan>";
#define RIGHT "**Day 1-3:** Rome.\n**Day 3:** Fly from Rome to Oslo.\n**Day 3-4:** Oslo."
    static const verdict rows[] = {
        {"<Plan>" RIGHT "</Plan>", 1, 1, 1, 1, NULL},
        {"<Plan>1-9 from Day 3: from Rome to Oslo\n2-4</Plan>", 1, 1, 1, 1, NULL},
        {"<Plan>" RIGHT "\nDay 4: from Oslo to Bonn. 4-5</Plan>", 0, 1, 1, 1,
         "the plan goes on behind the expected one"},
        {"<Plan>**Day 1-3:** Rome.\n**Day 3:** Fly from Rome to Oslo.\n**Day 3-5:** Oslo.</Plan>", 0, 0, 0, 1, other},
        {"<Plan>**Day 3:** Fly from Rome to Oslo.</Plan>", 0, 0, 0, 1, other},
        {"<Solving Procedure>\none\ntwo and more\n<Plan></Plan>", 0, 0, 3 / 7., 1, other},
        {"so <Solving Procedure>\n\nONE, yes\n\nthree", 0, 0, 2 / 7., 0, none},
        {"<think><Plan>no</Plan></think><Plan>" RIGHT "</Plan>", 1, 0, 1, 1, NULL},
        {"", 0, 0, 0, 0, none},
    };
    (void)state;
    CHECK("travel_planning", &trip, "", rows);
}

static void routes(void **state) {
    static const verdict rows[] = {
        {"<Route>\nA.\nB.\n</Route>", 1, 1, 1, 1, NULL},
        {"<think><Route>A.</Route></think><Route>\nA.\nB.\n</Route>", 1, 0, 1, 1, NULL},
        {"<Route>A.\nB.</Route></think>", 0, 1, 0, 0, "no <Route>"},
        {"<Route>A.\nC.</Route>", 0, 0, 1, 1, "another route"}, /* the failing line is counted */
    };
    (void)state;
    CHECK("path_traversal", NULL, "A.\nB.", rows);
}

static void countdown_solutions(void **state) {
    static const kv_countdown problem = {{40, 19, 23, 7}, 29}, large = {{50, 49, 2, 100}, 24};
    static const char rules[] = "a result is negative or above 2000";
    static const verdict rows[] = {
        {"<Solution>40 + 19 = 59\n59 - 23 = 36\n36 - 7 = 29</Solution>", 1, 1, 1, 1, NULL},
        {"<Solution>19 - 23 = -4\n40 + -4 = 36\n36 - 7 = 29</Solution>", 0, 1, 1, 1, rules},
        {"<Solution>no</Solution></think><Solution>40 + 19 = 59\n59 - 23 = 36\n36 - 7 = 29</Solution>", 1, 0, 1, 1,
         NULL},
        {"<Solution>40 + 19 = 59\n59 - 23 = 36\n36 - 7 = 29\u00a0</Solution>", 1, 1, 1, 1, NULL},
        {"<Solution>40 + 19 = 59</Solution>", 0, 0, 0, 1, "the equations do not reach the target from the numbers"},
        {"40 + 19 = 59", 0, 0, 0, 0, "no <Solution>"},
    };
    static const verdict above[] = {{"<Solution>50 * 49 = 2450\n2450 - 2 = 2448\n2448 / 100 = 24</Solution>", 0, 0, 0,
                                     1, "the equations do not reach the target from the numbers"},
                                    {"<Solution>50 * 49 = 2450\n2450 - 50 = 2400\n2400 / 100 = 24</Solution>", 0, 0, 0,
                                     1, "the equations do not reach the target from the numbers"}};
    static const kv_countdown big = {{50, 49, 50, 100}, 24};
    static const verdict over[] = {
        {"<Solution>50 * 49 = 2450\n2450 - 50 = 2400\n2400 / 100 = 24</Solution>", 0, 1, 1, 1, rules}};
    (void)state;
    CHECK("countdown", &problem, "", rows);
    CHECK("countdown", &large, "", above);
    CHECK("countdown", &big, "", over);
}

static void programs(void **state) {
    static const kv_program sum = {.tests = {{"1 2\n", "3\n"}, {"20 22\n", "42\n"}}, .n_tests = 2};
    static const char wrong[] = "a test's output is wrong";
    static const verdict rows[] = {
        {"```c++\nint main() { int a, b; cin >> a >> b; cout << a + b << endl; return 3; }\n```", 1, 1, 1, 1, NULL},
        {"```cpp\nint main() { int a, b; cin >> a >> b; cout << 3 << endl; }\n```", 0, 0, 0, 1, wrong},
        {"```cpp\nint main() { int a, b; cin >> a >> b; cout << a + b << endl; abort(); }\n```", 1, 1, 1, 1, NULL},
        {"```cpp\nint main() { int a, b; cin >> a >> b; cout << a + b << endl; for (;;) {} }\n```", 0, 0, 0, 1,
         "a test takes too long"},
        {"```cpp\nint main() { cout << \"3\" }\n```", 0, 0, 0, 1, "does not compile"},
        {"int main() {}", 0, 0, 0, 0, "no ```cpp block"},
        {"```cpp\nint main() {}", 0, 0, 0, 0, "no ```cpp block"},
    };
    kv_error err = {0};
    (void)state;
    if (kv_grader_find("pseudo_to_code")->ready(&err)) fail_msg("%s", err.text);
    CHECK("pseudo_to_code", &sum, "", rows);
}

/* Every byte, alone and repeated: a grade, no crash. */
static void any_bytes_get_a_grade(void **state) {
    static kv_travel trip = {
        .n_cities = 1, .plan = {{.city = "Rome", .days = 3}}, .procedure = "<Solving Procedure>\nx"};
    static const char *const pieces[] = {"- \xc3", "```tsv\n\"", "\xff\t\n", "<Plan>1-1 Day 9 from \xe2\x82 to",
                                         "- ",     "a\n"};
    (void)state;
    for (size_t k = 0; k < sizeof pieces / sizeof *pieces; k++) {
        size_t n = strlen(pieces[k]), count = 20000;
        char *text = malloc(n * count + 1);
        assert_non_null(text);
        for (size_t i = 0; i < count; i++) memcpy(text + i * n, pieces[k], n);
        text[n * count] = 0;
        kv_grade g;
        memset(&g, 0, sizeof g);
        kv_grader_find("html_to_tsv")->grade(NULL, "a\n1", text, &g);
        kv_grader_find("tom_tracking")->grade(NULL, "- a b c", text, &g);
        kv_grader_find("travel_planning")->grade(&trip, "", text, &g);
        assert_true(g.score == 0);
        free(text);
    }
}

/* --- damaged data
 * ----------------------------------------------------------------------------------------------------- */

typedef struct {
    scratch root, tasks;
} folder;

static void open_folder(folder *f) {
    assert_int_equal(scratch_open(&f->root), 0);
    assert_true(snprintf(f->tasks.dir, sizeof f->tasks.dir, "%.50s/tasks", f->root.dir) < 64);
    assert_int_equal(mkdir(f->tasks.dir, 0700), 0);
}

static void close_folder(folder *f) {
    scratch_close(&f->tasks);
    scratch_close(&f->root);
}

/* A task of one item from tasks/d. */
static void expect_refused(folder *f, const char *source, const char *text) {
    char task[400];
    kv_task_options o = {.root = f->root.dir};
    kv_error err = {0};
    kv_task *t = NULL;
    snprintf(task, sizeof task,
             "title = T\nversion = 1\nlicence = -\norigin = -\nsource = %s\ndata = tasks/d\nitems = 1\ngold = 1\n"
             "default = v\n[v]\nprompt = Q\nmax_new = 5\ngrader = needle\n",
             source);
    assert_non_null(scratch_write(&f->tasks, "t.task", task, strlen(task)));
    if (!kv_task_open("t", &o, &t, &err)) fail_msg("%s was accepted where '%s' was expected", source, text);
    if (!strstr(err.text, text)) fail_msg("'%s' does not say '%s'", err.text, text);
}

#define WORDS "\"agents\":[\"A\"],\"objects\":[\"o\"],\"rooms\":[\"r\",\"s\"],\"containers\":[\"c\"]"

static void bad_rows_are_refused(void **state) {
    static const char *const rows[][3] = {
        {"tom", "{" WORDS ",\"start\":\"0 0.0\",\"steps\":\"0>1\"}", "d:1: expected a story"},
        {"tom", "{" WORDS ",\"start\":\"0 0.0\",\"steps\":\"0>1\",\"ask\":[0,1]}", "d:1: expected a story"},
        {"tom", "{" WORDS ",\"start\":\"0 0.1\",\"steps\":\"0>1\",\"ask\":[0,0]}", "d:1: expected a story"},
        {"tom", "{" WORDS ",\"start\":\"0\",\"steps\":\"0>1\",\"ask\":[0,0]}", "d:1: expected a story"},
        {"tom", "{" WORDS ",\"start\":\"\",\"steps\":\"0>1\",\"ask\":[0,0]}", "d:1: expected a story"},
        {"tom", "{" WORDS ",\"start\":\"0 0.0\",\"steps\":\"0>1 0>1\",\"ask\":[0,0]}", "d:1: step 2 cannot be"},
        {"tom", "{" WORDS ",\"start\":\"0 0.0\",\"steps\":\"0>1 0,0=0.0\",\"ask\":[0,0]}", "d:1: step 2 cannot be"},
        {"tom", "{" WORDS ",\"start\":\"0 0.0\",\"steps\":\"0+1\",\"ask\":[0,0]}", "d:1: step 1 cannot be"},
        {"tom", "{" WORDS ",\"start\":\"0 0.0\",\"steps\":\"0- 0-\",\"ask\":[0,0]}", "d:1: step 2 cannot be"},
        {"tom", "{" WORDS ",\"start\":\"0 0.0\",\"steps\":\"0\",\"ask\":[0,0]}", "d:1: step 1 cannot be"},
        {"tom", "{" WORDS ",\"start\":\"0 0.0\",\"steps\":\"0>1,\",\"ask\":[0,0]}", "d:1: step 1 cannot be"},
        {"tom", "{" WORDS ",\"start\":\"0 0.0\",\"steps\":\"0>1 \",\"ask\":[0,0]}", "d:1: step 2 cannot be"},
        {"tom", "{" WORDS ",\"start\":\"0 0.0\",\"steps\":\"9>1\",\"ask\":[0,0]}", "d:1: step 1 cannot be"},
        {"programs", "{\"pseudocode\":\"p\",\"code\":\"c\",\"tests\":[]}", "d:1: expected {\"pseudocode\""},
        {"programs", "{\"pseudocode\":\"p\",\"tests\":[[\"1\",\"2\"]]}", "d:1: expected {\"pseudocode\""},
        {"programs", "{\"pseudocode\":\"p\",\"code\":\"c\",\"tests\":[[\"1\",2]]}", "d:1: expected {\"pseudocode\""},
        {"programs", "{\"pseudocode\":\"p\",\"code\":\"c\",\"tests\":[[\"1\"]]}", "d:1: expected {\"pseudocode\""},
        {"travel", "{\"stays\":[[\"A\",2]],\"flights\":[],\"plan\":[[\"A\",2]]}", "d:1: expected a trip"},
        {"travel", "{\"stays\":[[\"A\",0]],\"flights\":[],\"plan\":[[\"A\",2]],\"problem\":\"p\"}",
         "d:1: expected a trip"},
        {"travel", "{\"stays\":[[\"A\",2]],\"flights\":[[\"A\"]],\"plan\":[[\"A\",2]],\"problem\":\"p\"}",
         "d:1: expected a trip"},
        {"travel", "{\"stays\":[],\"flights\":[],\"plan\":[],\"problem\":\"p\"}", "d:1: expected a trip"},
        {"travel", "{\"stays\":[[\"A\",2]],\"flights\":[],\"plan\":[[\"A\",3]],\"problem\":\"p\"}",
         "d:1: the search does not find the expected plan"},
        {"travel", "{\"stays\":[[\"A\",2],[\"B\",2]],\"flights\":[],\"plan\":[[\"A\",2],[\"B\",2]],\"problem\":\"p\"}",
         "d:1: the search does not find the expected plan"},
        {"pages", "{\"page\":\"p\"}", "no zip archive"},
    };
    folder f;
    (void)state;
    open_folder(&f);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        assert_non_null(scratch_write(&f.tasks, "d", rows[i][1], strlen(rows[i][1])));
        expect_refused(&f, rows[i][0], rows[i][2]);
    }
    close_folder(&f);
}

static void put_archive(folder *f, const char *const *members) {
    int code;
    remove(scratch_path(&f->tasks, "d"));
    zip_t *z = zip_open(scratch_path(&f->tasks, "d"), ZIP_CREATE, &code);
    assert_non_null(z);
    for (; *members; members += 2)
        assert_true(zip_file_add(z, members[0], zip_source_buffer(z, members[1], strlen(members[1]), 0), 0) >= 0);
    assert_int_equal(zip_close(z), 0);
}

static void bad_archives_are_refused(void **state) {
    static const char item[] =
        "{\"page\":\"p.html\",\"topic\":\"\",\"description\":\"\",\"filter\":\"\",\"header\":\"\","
        "\"gold\":\"\"}\n";
    static const struct {
        const char *members[5], *text;
    } cases[] = {
        {{"p.html", "<p>", "items.jsonl", item}, "its first entry is p.html, not items.jsonl"},
        {{"items.jsonl", item, "q.html", "<p>"}, "items.jsonl:1: there is no page 'p.html'"},
        {{"items.jsonl", "{\"page\":\"p.html\"}\n", "p.html", "<p>"}, "items.jsonl:1: expected a string 'topic'"},
        {{"items.jsonl", "nothing", "p.html", "<p>"}, "items.jsonl:1: not a JSON object"},
    };
    folder f;
    (void)state;
    open_folder(&f);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        put_archive(&f, cases[i].members);
        expect_refused(&f, "pages", cases[i].text);
    }
    remove(scratch_path(&f.tasks, "d"));
    expect_refused(&f, "pages", "tasks/d: no such file");
    close_folder(&f);
}

/* A good archive with each byte changed: refused with its name, or the same text. */
static void a_damaged_archive_is_refused(void **state) {
    static const char *const members[] = {"items.jsonl",
                                          "{\"page\":\"p.html\",\"topic\":\"t\",\"description\":\"d\",\"filter\":\"f\","
                                          "\"header\":\"h\",\"gold\":\"g\"}\n",
                                          "p.html", "<p>a page a page a page a page a page a page a page a page</p>",
                                          NULL};
    folder f;
    char bytes[2000];
    (void)state;
    open_folder(&f);
    put_archive(&f, members);
    FILE *in = fopen(scratch_path(&f.tasks, "d"), "rb");
    assert_non_null(in);
    size_t n = fread(bytes, 1, sizeof bytes, in);
    fclose(in);
    for (size_t i = 0; i < n; i++) {
        kv_task_options o = {.root = f.root.dir};
        kv_error err = {0};
        kv_task *t = NULL;
        bytes[i] ^= 0x41;
        assert_non_null(scratch_write(&f.tasks, "d", bytes, n));
        bytes[i] ^= 0x41;
        if (!i) expect_refused(&f, "pages", "tasks/d"); /* writes the task too */
        if (kv_task_open("t", &o, &t, &err) && !strstr(err.text, "tasks/d")) fail_msg("byte %zu: '%s'", i, err.text);
        kv_task_close(t);
    }
    close_folder(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tables),
        cmocka_unit_test(belief_traces),
        cmocka_unit_test(trip_plans),
        cmocka_unit_test(routes),
        cmocka_unit_test(countdown_solutions),
        cmocka_unit_test(programs),
        cmocka_unit_test(any_bytes_get_a_grade),
        cmocka_unit_test(bad_rows_are_refused),
        cmocka_unit_test(bad_archives_are_refused),
        cmocka_unit_test(a_damaged_archive_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
