/* test_tasks.c - task files, task names with parameters, and the committed tasks as a whole: their prompts are the
 * upstream ones (golden hashes), every gold answer scores 1 with its own grader and a damaged one does not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "datasets/countdown.h"
#include "datasets/task.h"
#include "engine/file.h"
#include "tests/support/scratch.h"

#define ROOT KV_SOURCE_DIR "/datasets"

static kv_task *open_task(const char *spec, const char *variant) {
    kv_task_options o = {.root = ROOT, .variant = variant};
    kv_error err = {0};
    kv_task *t = NULL;
    if (kv_task_open(spec, &o, &t, &err)) fail_msg("%s: %s", spec, err.text);
    return t;
}

static void expect_refused(const char *root, const char *spec, const char *variant, int code, const char *text) {
    kv_task_options o = {.root = root, .variant = variant};
    kv_error err = {0};
    kv_task *t = (kv_task *)1;
    int rc = kv_task_open(spec, &o, &t, &err);
    if (!rc) fail_msg("%s was accepted", spec);
    assert_null(t);
    if (!strstr(err.text, text)) fail_msg("%s: '%s' does not say '%s'", spec, err.text, text);
    assert_int_equal(rc, code);
    assert_int_equal(err.code, code);
}

/* --- names and parameters ------------------------------------------------------------------------------------- */

static void note_task(void *user, const char *name, const char *title, const char *variants, int n, int max_new) {
    char line[200], *out = user;
    assert_true(title[0]);
    snprintf(line, sizeof line, "%s %s %d %d\n", name, variants, n, max_new);
    strcat(out, line);
}

static void lists_every_task(void **state) {
    static const char *const want[] = {"aime24 official,rkv,lmeval 30 32768\n",
                                       "countdown_0.5k official,short 200 1024\n",
                                       "countdown_2k official,short 200 3072\n",
                                       "countdown_8k official 200 10240\n",
                                       "countdown_gen official,short -1 2748\n",
                                       "cwe official -1 120\n",
                                       "fwe official -1 50\n",
                                       "gsm8k official,short,rkv,lmeval_cot,lmeval_zeroshot,lmeval_llama 1319 2048\n",
                                       "gsm8k_5shot lmeval 1319 256\n",
                                       "html_to_tsv_0.5k official 100 1024\n",
                                       "html_to_tsv_2k official 189 3072\n",
                                       "html_to_tsv_8k official 120 10240\n",
                                       "longbench_2wikimqa official 200 32\n",
                                       "longbench_dureader official,char 200 128\n",
                                       "longbench_gov_report official 200 512\n",
                                       "longbench_hotpotqa official 200 32\n",
                                       "longbench_lcc official 500 64\n",
                                       "longbench_lsht official 200 64\n",
                                       "longbench_multi_news official 200 512\n",
                                       "longbench_multifieldqa_en official 150 64\n",
                                       "longbench_multifieldqa_zh official,char 200 64\n",
                                       "longbench_musique official 200 32\n",
                                       "longbench_narrativeqa official 200 128\n",
                                       "longbench_passage_count official 200 32\n",
                                       "longbench_passage_retrieval_en official 200 32\n",
                                       "longbench_passage_retrieval_zh official 200 32\n",
                                       "longbench_qasper official 200 128\n",
                                       "longbench_qmsum official 200 512\n",
                                       "longbench_repobench-p official 500 64\n",
                                       "longbench_samsum official 200 128\n",
                                       "longbench_trec official 200 64\n",
                                       "longbench_triviaqa official 200 32\n",
                                       "longbench_v2 official,cot,no_context 503 128\n",
                                       "longbench_vcsum official,char 200 512\n",
                                       "math500 official,rkv,lmeval_minerva,lmeval_hendrycks 500 8192\n",
                                       "needle short -1 10\n",
                                       "needle_grid official -1 32\n",
                                       "needle_grid_sandwich official -1 64\n",
                                       "niah_multikey_1 official -1 128\n",
                                       "niah_multikey_2 official -1 128\n",
                                       "niah_multikey_3 official -1 128\n",
                                       "niah_multiquery official -1 128\n",
                                       "niah_multivalue official -1 128\n",
                                       "niah_single_1 official -1 128\n",
                                       "niah_single_2 official -1 128\n",
                                       "niah_single_3 official -1 128\n",
                                       "path_traversal_0.5k official,short 200 1024\n",
                                       "path_traversal_2k official 200 3072\n",
                                       "path_traversal_8k official 200 10240\n",
                                       "path_traversal_gen official,short -1 840\n",
                                       "pseudo_to_code_0.5k official 199 1024\n",
                                       "pseudo_to_code_2k official 200 3072\n",
                                       "qa_1 official -1 32\n",
                                       "qa_2 official -1 32\n",
                                       "tom_tracking_0.5k official 200 1024\n",
                                       "tom_tracking_2k official 200 3072\n",
                                       "tom_tracking_8k official 200 10240\n",
                                       "tom_tracking_gen official -1 1000\n",
                                       "travel_planning_2k official -1 3072\n",
                                       "travel_planning_8k official -1 10240\n",
                                       "vt official -1 30\n"};
    char out[8000] = "";
    const char *at = out;
    kv_error err;
    (void)state;
    assert_int_equal(kv_task_list(ROOT, note_task, out, &err), KV_OK);
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) { /* in this order, others may stand between */
        at = strstr(at, want[i]);
        if (!at) fail_msg("no '%s' in its place", want[i]);
    }
    assert_int_equal(kv_task_list(ROOT "/none", note_task, out, &err), KV_ENOTFOUND);
}

static void every_task_of_the_list_opens_in_every_variant(void **state) {
    static const struct {
        const char *name, *variant, *grader;
        int n, max_new;
    } want[] = {
        {"countdown_0.5k", "official", "countdown", 200, 1024},
        {"countdown_0.5k", "short", "countdown_short", 200, 700},
        {"countdown_2k", "official", "countdown", 200, 3072},
        {"countdown_2k", "short", "countdown_short", 200, 2600},
        {"countdown_gen", "official", "countdown", 200, 2748},
        {"countdown_gen", "short", "countdown_short", 200, 2748},
        {"gsm8k", "official", "integer", 1319, 2048},
        {"gsm8k", "short", "gsm8k_short", 1319, 300},
        {"gsm8k", "rkv", "integer", 1319, 8192},
        {"gsm8k", "lmeval_cot", "lmeval_gsm8k_cot", 1319, 256},
        {"gsm8k", "lmeval_zeroshot", "lmeval_gsm8k_cot", 1319, 256},
        {"gsm8k", "lmeval_llama", "lmeval_gsm8k_llama", 1319, 256},
        {"math500", "official", "math", 500, 8192},
        {"math500", "rkv", "math", 500, 8192},
        {"math500", "lmeval_minerva", "lmeval_minerva", 500, 256},
        {"math500", "lmeval_hendrycks", "lmeval_hendrycks", 500, 256},
        {"needle", "short", "needle", 200, 10},
        {"path_traversal_0.5k", "official", "path_traversal", 200, 1024},
        {"path_traversal_0.5k", "short", "path_traversal_short", 200, 540},
    };
    (void)state;
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        kv_task *t = open_task(want[i].name, want[i].variant);
        const kv_task_info *o = kv_task_get_info(t);
        assert_string_equal(o->name, want[i].name);
        assert_string_equal(o->variant, want[i].variant);
        assert_string_equal(o->grader, want[i].grader);
        assert_int_equal(o->n_items, want[i].n);
        assert_int_equal(o->max_new, want[i].max_new);
        assert_true(o->version >= 1 && o->grader_version >= 1);
        assert_int_equal(strlen(o->data_sha256), 64);
        assert_int_equal(strlen(o->prompt_sha256), 64);
        kv_task_close(t);
    }
}

static void the_default_variant_is_the_official_one_where_there_is_one(void **state) {
    (void)state;
    kv_task *t = open_task("countdown_2k", NULL);
    assert_string_equal(kv_task_get_info(t)->variant, "official");
    kv_task_close(t);
    t = open_task("needle", NULL);
    assert_string_equal(kv_task_get_info(t)->variant, "short");
    kv_task_close(t);
}

static void stop_strings_come_from_the_variant(void **state) {
    (void)state;
    kv_task *t = open_task("gsm8k", "official");
    const char *const *stop = kv_task_get_info(t)->stop;
    assert_string_equal(stop[0], "</s>");
    assert_string_equal(stop[1], "<|im_end|>");
    assert_string_equal(stop[2], "<|endoftext|>");
    assert_null(stop[3]);
    kv_task_close(t);
    t = open_task("gsm8k", "short");
    assert_null(kv_task_get_info(t)->stop[0]);
    kv_task_close(t);
}

static void data_hash_is_that_of_the_file(void **state) {
    char hex[65];
    kv_error err;
    (void)state;
    kv_task *t = open_task("gsm8k", NULL);
    assert_int_equal(kv_sha256_file(ROOT "/data/gsm8k_test.jsonl", hex, &err), KV_OK);
    assert_string_equal(kv_task_get_info(t)->data_sha256, hex);
    kv_task_close(t);
}

static void canonical_name_carries_parameters_that_differ(void **state) {
    static const char *const cases[][2] = {
        {"needle", "needle"},
        {"needle:words=900", "needle"},
        {"needle:needles=4:words=450", "needle:words=450:needles=4"},
        {"needle:seed=0", "needle"},
        {"needle:seed=7:n=50", "needle:n=50:seed=7"},
        {"countdown_gen:max_lines=0040:n=2", "countdown_gen:n=2:max_lines=40"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        kv_task *t = open_task(cases[i][0], NULL);
        assert_string_equal(kv_task_get_info(t)->name, cases[i][1]);
        kv_task_close(t);
    }
}

static void a_parameter_can_raise_max_new(void **state) {
    (void)state;
    kv_task *t = open_task("countdown_gen:n=1:max_lines=100", NULL);
    assert_int_equal(kv_task_get_info(t)->max_new, 300 + 36 * 100);
    kv_task_close(t);
}

static void refuses_bad_names_and_parameters(void **state) {
    static const struct {
        const char *spec, *variant;
        int code;
        const char *text;
    } cases[] = {
        {"nope", NULL, KV_ENOTFOUND, "there are: aime24 countdown_0.5k"},
        {"", NULL, KV_ENOTFOUND, "no task ''"},
        {"../tasks/needle", NULL, KV_ENOTFOUND, "no task '../tasks/needle'"},
        {"needle", "official", KV_EARG, "no prompt variant 'official'; it has short"},
        {"gsm8k", "long", KV_EARG, "it has official, short, rkv"},
        {"needle:word=5", NULL, KV_EARG, "no parameter 'word'; it takes n (1..100000, default 200), words ("},
        {"needle:words=0", NULL, KV_EARG, "words=0 is no whole number of 1..1000000"},
        {"needle:words=-5", NULL, KV_EARG, "words=-5 is no whole number"},
        {"needle:words=12x", NULL, KV_EARG, "words=12x"},
        {"needle:words=", NULL, KV_EARG, "words= is no whole number"},
        {"needle:words=99999999999999999999", NULL, KV_EARG, "is no whole number"},
        {"needle:needles=121", NULL, KV_EARG, "0..120"},
        {"needle:words", NULL, KV_EARG, "'words' is no key=value"},
        {"needle:", NULL, KV_EARG, "'' is no key=value"},
        {"needle:=4", NULL, KV_EARG, "'=4' is no key=value"},
        {"needle:n=3:n=3", NULL, KV_EARG, "n is given twice"},
        {"needle:words=1000000", NULL, KV_EARG, "words; ask for fewer or add text"},
        {"gsm8k:n=3", NULL, KV_EARG, "takes no parameters"},
        {"gsm8k:seed=3", NULL, KV_EARG, "takes no parameters"},
        {"countdown_gen:min_lines=90", NULL, KV_EARG, "min_lines=90 is above max_lines=68"},
        {"countdown_gen:n=1:min_lines=1500:max_lines=1500", NULL, KV_ELIMIT, "widen min_lines..max_lines"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        expect_refused(ROOT, cases[i].spec, cases[i].variant, cases[i].code, cases[i].text);
    expect_refused(ROOT "/none", "gsm8k", NULL, KV_ENOTFOUND, "there are: none");
}

static void refuses_items_out_of_range(void **state) {
    kv_item it;
    kv_error err;
    (void)state;
    kv_task *t = open_task("countdown_0.5k", NULL);
    assert_int_equal(kv_task_item(t, 200, &it, &err), KV_EARG);
    assert_int_equal(kv_task_item(t, -1, &it, &err), KV_EARG);
    kv_task_close(t);
}

/* --- the committed items -------------------------------------------------------------------------------------- */

static void item_of(kv_task *t, int i, kv_item *it) {
    kv_error err;
    if (kv_task_item(t, i, it, &err)) fail_msg("%s", err.text);
}

/* sha256 over every prompt and a zero byte; without (when not NULL) is cut out of each first. */
static void hash_prompts(kv_task *t, const char *without, char hex[65]) {
    char *all = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&all, &n);
    assert_non_null(f);
    for (int i = 0; i < kv_task_get_info(t)->n_items; i++) {
        kv_item it;
        item_of(t, i, &it);
        const char *cut = without ? strstr(it.prompt, without) : NULL, *p = it.prompt;
        assert_int_equal(it.question_at, strlen(it.prompt));
        if (cut) {
            fwrite(p, 1, (size_t)(cut - p), f);
            p = cut + strlen(without);
        }
        fputs(p, f);
        fputc(0, f);
        kv_item_free(&it);
    }
    fclose(f);
    kv_sha256_bytes(all, n, hex);
    free(all);
}

static void prompts_are_the_upstream_ones(void **state) {
    FILE *f = fopen("golden/prompts.sha256", "r");
    char want[65], hex[65], task[40], variant[40];
    kv_text examples = {0};
    int n, rows = 0;
    (void)state;
    kv_countdown_examples(&examples);
    assert_non_null(f);
    while (fscanf(f, "%64s %39s %39s %d", want, task, variant, &n) == 4) {
        kv_task *t = open_task(task, variant);
        assert_int_equal(kv_task_get_info(t)->n_items, n);
        hash_prompts(t, examples.s, hex);
        if (strcmp(hex, want)) fail_msg("%s %s: the prompts differ from upstream's", task, variant);
        kv_task_close(t);
        rows++;
    }
    fclose(f);
    kv_text_free(&examples);
    assert_int_equal(rows, 8);
}

/* The answer that a perfect model would give to the item. */
static char *perfect_answer(const kv_task_info *o, const kv_item *it) {
    kv_text t = {0};
    if (!strcmp(o->grader, "countdown"))
        kv_countdown_write(it->data, KV_COUNTDOWN_OFFICIAL, &t);
    else if (!strcmp(o->grader, "countdown_short"))
        kv_countdown_write(it->data, KV_COUNTDOWN_TAGGED, &t);
    else {
        int route = !strcmp(o->grader, "path_traversal"), box = !strcmp(o->grader, "integer");
        int mark = !strcmp(o->grader, "gsm8k_short");
        kv_text_puts(&t, route ? "<Route>\n" : box ? "It is \\boxed{" : mark ? "So it is.\n#### " : "");
        kv_text_puts(&t, it->gold);
        kv_text_puts(&t, route ? "\n</Route>" : box ? "}." : "");
    }
    assert_false(t.failed);
    return t.s;
}

/* Damages the answer where it counts: the last digit, or the last letter, of the part that is graded. */
static void damage(const kv_task_info *o, char *answer) {
    const char *tag = !strncmp(o->grader, "countdown", 9)    ? "</Solution>"
                      : !strcmp(o->grader, "path_traversal") ? "</Route>"
                                                             : NULL;
    size_t n = tag ? (size_t)(strstr(answer, tag) - answer) : strlen(answer);
    while (!strchr("0123456789abcdefghijklmnopqrstuvwxyz", answer[--n])) assert_true(n > 0);
    answer[n] = answer[n] == '9' ? '8' : answer[n] == 'z' ? 'y' : (char)(answer[n] + 1);
}

static void every_gold_answer_scores_one_and_a_damaged_one_does_not(void **state) {
    static const char *const tasks[][2] = {{"countdown_0.5k", "official"},
                                           {"countdown_0.5k", "short"},
                                           {"countdown_2k", "official"},
                                           {"countdown_2k", "short"},
                                           {"path_traversal_0.5k", "short"},
                                           {"path_traversal_0.5k", "official"},
                                           {"gsm8k", "official"},
                                           {"gsm8k", "short"},
                                           {"needle:n=40", "short"},
                                           {"countdown_gen:n=40", "short"}};
    (void)state;
    for (size_t k = 0; k < sizeof tasks / sizeof *tasks; k++) {
        kv_task *t = open_task(tasks[k][0], tasks[k][1]);
        const kv_task_info *o = kv_task_get_info(t);
        for (int i = 0; i < o->n_items; i++) {
            kv_item it;
            kv_grade g;
            item_of(t, i, &it);
            assert_true(it.prompt[0] && it.gold[0] && it.id[0]);
            char *answer = perfect_answer(o, &it);
            kv_task_grade(t, &it, answer, &g);
            if (g.score != 1 || g.partial != 1 || !g.answered || !g.extracted[0])
                fail_msg("%s %s item %d: its gold answer scores %g", o->name, o->variant, i, g.score);
            damage(o, answer);
            kv_task_grade(t, &it, answer, &g);
            if (g.score != 0) fail_msg("%s %s item %d: a damaged answer scores", o->name, o->variant, i);
            kv_task_grade(t, &it, "", &g);
            if (g.score != 0 || g.partial != 0 || g.answered) fail_msg("%s item %d: silence scores", o->name, i);
            free(answer);
            kv_item_free(&it);
        }
        kv_task_close(t);
    }
}

/* --- broken files --------------------------------------------------------------------------------------------- */

static const char good_task[] = "# a task\n"                           /* 1 */
                                "title = A task\n"                     /* 2 */
                                "version = 3\n"                        /* 3 */
                                "licence = MIT\n"                      /* 4 */
                                "origin = here\n"                      /* 5 */
                                "source = rows\n"                      /* 6 */
                                "data = tasks/d.jsonl\n"               /* 7 */
                                "items = 2\n"                          /* 8 */
                                "gold = {a}\n"                         /* 9 */
                                "default = v\n"                        /* 10 */
                                "\n"                                   /* 11 */
                                "[v]\n"                                /* 12 */
                                "prompt = Q: {q}\n"                    /* 13 */
                                "prompt +=\n"                          /* 14 */
                                "prompt +=  {split}\\{\\\\\\n\\}\\s\n" /* 15 */
                                "max_new = 5\n"                        /* 16 */
                                "grader = needle\n"                    /* 17 */
                                "stop = a\\nb\n";                      /* 18 */
static const char good_rows[] = "{\"q\":\"one\",\"a\":\"1\"}\n{\"q\":\"t\\u00e9o\",\"a\":\"2\"}";

typedef struct {
    scratch root, tasks; /* tasks is a folder in root */
} folder;

static void open_folder(folder *f) {
    assert_int_equal(scratch_open(&f->root), 0);
    assert_int_equal(snprintf(f->tasks.dir, sizeof f->tasks.dir, "%.50s/tasks", f->root.dir) < 64, 1);
    assert_int_equal(mkdir(f->tasks.dir, 0700), 0);
}

static void close_folder(folder *f) {
    scratch_close(&f->tasks);
    scratch_close(&f->root);
}

static void put_file(folder *f, const char *name, const char *text) {
    assert_non_null(scratch_write(&f->tasks, name, text, strlen(text)));
}

/* text with the first `from` replaced; from = "" appends. */
static void put_edited(folder *f, const char *name, const char *text, const char *from, const char *to) {
    char out[2000];
    const char *at = *from ? strstr(text, from) : text + strlen(text);
    assert_non_null(at);
    snprintf(out, sizeof out, "%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
    put_file(f, name, out);
}

static void renders_templates_and_splits_at_the_question(void **state) {
    folder f;
    kv_error err;
    kv_task *t;
    kv_item it;
    (void)state;
    open_folder(&f);
    put_file(&f, "t.task", good_task);
    put_file(&f, "d.jsonl", good_rows);
    kv_task_options o = {.root = f.root.dir};
    if (kv_task_open("t", &o, &t, &err)) fail_msg("%s", err.text);
    item_of(t, 1, &it);
    assert_string_equal(it.prompt, "Q: t\xc3\xa9o\n\n {\\\n} ");
    assert_int_equal(it.question_at, strlen("Q: t\xc3\xa9o\n\n "));
    assert_string_equal(it.gold, "2");
    assert_string_equal(it.id, "1");
    assert_string_equal(kv_task_get_info(t)->stop[0], "a\nb");
    assert_int_equal(kv_task_get_info(t)->version, 3);
    kv_item_free(&it);
    kv_task_close(t);
    close_folder(&f);
}

static void bad_task_files_are_refused_with_file_and_line(void **state) {
    static const struct {
        const char *from, *to, *text;
    } cases[] = {
        {"version = 3\n", "", "t.task:17: the file ends and has no 'version'"},
        {"title = A task\n", "", "no 'title'"},
        {"gold = {a}\n", "", "no 'gold'"},
        {"version = 3", "version = 0", "t.task:3: key 'version'"},
        {"version = 3", "version = 3x", "t.task:3: key 'version'"},
        {"version = 3", "version = 3\nversion = 4", "t.task:4: key 'version' was already given"},
        {"title = A task", "titel = A task", "t.task:2: unknown key 'titel'; known are title"},
        {"title = A task", "title =", "t.task:2: key 'title' has no value"},
        {"title = A task", "title", "t.task:2: expected 'key = value'"},
        {"title = A task", "= A task", "t.task:2: expected 'key = value'"},
        {"title = A task", "title = A task ", "t.task:2: blank at the end"},
        {"title = A task", "title = A task\r", "t.task:2: carriage return"},
        {"title = A task", "title += A task", "t.task:2: += is for the prompt"},
        {"source = rows", "source = row", "t.task:6: no source 'row'; known are rows"},
        {"source = rows", "source = rows\nform = a b", "t.task:6: source rows takes no 'form'"},
        {"source = rows", "source = rows\nform = a\nform = b", "t.task:8: key 'form' was already given"},
        {"source = rows", "source = ro ws", "t.task:6: source 'ro ws'"},
        {"source = rows", "source = needle", "t.task:6: source needle takes no 'data'"},
        {"data = tasks/d.jsonl\nitems = 2\n", "", "t.task:6: source rows needs 'data'"},
        {"data = tasks/d.jsonl\n", "", "only one of 'data' and 'items'"},
        {"data = tasks/d.jsonl", "data = ../d.jsonl", "t.task:7: data must be a path inside"},
        {"data = tasks/d.jsonl", "data = /etc/passwd", "t.task:7: data must be a path inside"},
        {"data = tasks/d.jsonl", "data = tasks/e.jsonl", "tasks/e.jsonl"},
        {"items = 2", "items = 3", "t.task:8: items = 3, but"},
        {"items = 2", "items = 1", "t.task:8: items = 1, but"},
        {"gold = {a}", "gold = {b}", "t.task:9: no slot {b} here; known are {q}, {a}"},
        {"gold = {a}", "gold = {split}{a}", "t.task:9: {split} belongs in a prompt"},
        {"default = v", "default = w", "t.task:10: default 'w' is not a variant"},
        {"[v]", "[v", "t.task:12: expected [variant]"},
        {"[v]", "[]", "t.task:12: variant ''"},
        {"[v]", "[v]\n[v]", "t.task:13: variant [v] was already given"},
        {"[v]\n", "", "t.task:12: unknown key 'prompt'"},
        {"Q: {q}", "Q: {q", "t.task:13: '{' without '}'"},
        {"Q: {q}", "Q: q}", "t.task:13: '}' without '{'"},
        {"Q: {q}", "Q: \\q", "t.task:13: unknown escape '\\q'"},
        {"Q: {q}", "Q: {split}", "t.task:13: more than one {split}"},
        {"prompt = Q", "prompt += Q", "t.task:13: 'prompt +=' before 'prompt ='"},
        {"max_new = 5\n", "", "t.task:12: [v] has no 'max_new'"},
        {"max_new = 5", "max_new = 0", "t.task:16: max_new: expected a number"},
        {"max_new = 5", "max_new = 5 + 2", "t.task:16: max_new: expected a number"},
        {"max_new = 5", "max_new = 5 + 2*len", "t.task:16: max_new: there is no param.len"},
        {"grader = needle\n", "", "t.task:12: [v] has no 'grader'"},
        {"grader = needle", "grader = nope", "t.task:17: no grader 'nope'; known are countdown, "},
        {"grader = needle", "grader = countdown", "t.task:17: grader countdown needs a countdown source, not rows"},
        {"grader = needle", "grader = needle\nanswer = {z}", "t.task:18: no slot {z} here"},
        {"grader = needle", "grader = needle\nanswer = {split}", "t.task:18: {split} belongs in a prompt"},
        {"grader = needle", "grader = needle\nanswer = a\nanswer = b", "t.task:19: key 'answer' was already given"},
        {"stop = a", "stop = {q}a", "t.task:18: no slot {q} here"},
        {"stop = a", "halt = a", "t.task:18: unknown key 'halt' in [v]"},
        {"", "param.n = 3 in 1..9\n", "t.task:19: unknown key 'param.n' in [v]"},
        {"version", "param.n = 3 in 1..9\nversion", "t.task:7: source rows has no parameter 'n'"},
        {"version", "param.n = 3 in 4..9\nversion", "t.task:3: param.n: expected 'DEFAULT in MIN..MAX'"},
        {"version", "param.n = 3\nversion", "t.task:3: param.n: expected"},
        {"version", "param.n = 3 in 1..9\nparam.n = 3 in 1..9\nversion", "t.task:4: key 'param.n' was already"},
        {"[v]", "[a]\n[b]\n[c]\n[d]\n[e]\n[f]\n[g]\n[h]\n[i]", "t.task:20: more than 8 variants"},
        {"stop = a", "chat = yes\nstop = a", "t.task:18: chat: expected none"},
        {"stop = a", "chat = none\nchat = none\nstop = a", "t.task:19: key 'chat' was already given"},
        {"items = 2", "items = 2\nshots = d.jsonl", "shots, shot and shot_items belong together"},
        {"items = 2", "items = 2\nshots = ../d\nshot = {q}\nshot_items = 9", "data must be a path inside"},
        {"items = 2", "items = 2\nshots = d\nshot = {q}\nshot_items = 9", "source rows takes no 'shots'"},
        {"source = rows", "source = rows_5shot", "source rows_5shot needs 'shots'"},
    };
    folder f;
    (void)state;
    open_folder(&f);
    put_file(&f, "d.jsonl", good_rows);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        put_edited(&f, "t.task", good_task, cases[i].from, cases[i].to);
        int code = strstr(cases[i].to, "e.jsonl") ? KV_ENOTFOUND : KV_EFORMAT;
        expect_refused(f.root.dir, "t", NULL, code, cases[i].text);
    }
    assert_non_null(scratch_write(&f.tasks, "t.task", good_task, sizeof good_task)); /* with its zero byte */
    expect_refused(f.root.dir, "t", NULL, KV_EFORMAT, "zero byte");
    close_folder(&f);
}

static void bad_rows_are_refused_with_file_and_line(void **state) {
    static const struct {
        const char *from, *to, *text;
    } cases[] = {
        {"\"1\"", "1", "d.jsonl:1: field 'a' is no string"},
        {"{\"q\":\"one\",", "[\"q\",", "d.jsonl:1: not a JSON object"},
        {"\"2\"}", "\"2\"", "d.jsonl:2: not a JSON object"},
        {"\"2\"}", "\"2\"} x", "d.jsonl:2: not a JSON object"},
        {"\n", "\n\n", "d.jsonl:2: not a JSON object"},
        {"{\"q\":\"t", "{\"r\":\"t", "d.jsonl:2: field 'r' is not in the first line"},
        {",\"a\":\"2\"", "", "d.jsonl:2: field 'a' is missing"},
        {",\"a\":\"2\"", ",\"a\":\"2\",\"b\":\"2\"", "d.jsonl:2: field 'b' is not in the first line"},
        {"\"q\":\"one\",\"a\":\"1\"", "", "d.jsonl:1: the object has no fields"},
    };
    folder f;
    (void)state;
    open_folder(&f);
    put_file(&f, "t.task", good_task);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        put_edited(&f, "d.jsonl", good_rows, cases[i].from, cases[i].to);
        expect_refused(f.root.dir, "t", NULL, KV_EFORMAT, cases[i].text);
    }
    assert_non_null(scratch_write(&f.tasks, "d.jsonl", good_rows, sizeof good_rows));
    expect_refused(f.root.dir, "t", NULL, KV_EFORMAT, "zero byte");
    close_folder(&f);
}

static void bad_problems_and_worlds_are_refused(void **state) {
    static const struct {
        const char *source, *row, *text;
    } cases[] = {
        {"countdown", "{\"nums\":[1,2,3],\"target\":6}", "d.jsonl:1: expected {\"nums\""},
        {"countdown", "{\"nums\":[1,2,3,4.5],\"target\":6}", "d.jsonl:1: expected {\"nums\""},
        {"countdown", "{\"nums\":[1,2,3,2000],\"target\":6}", "d.jsonl:1: expected {\"nums\""},
        {"countdown", "{\"nums\":[1,2,3,4],\"target\":-6}", "d.jsonl:1: expected {\"nums\""},
        {"countdown", "{\"nums\":[1,1,1,1],\"target\":50}", "d.jsonl:1: the numbers cannot reach"},
        {"countdown", "{\"nums\":[1,2,3,4]}", "d.jsonl:1: expected {\"nums\""},
        {"path", "{\"edges\":[[\"A\",\"B\"]],\"src\":\"A\",\"dst\":\"B\"}", "d.jsonl:1: expected {\"edges\""},
        {"path", "{\"edges\":[],\"src\":\"A\",\"dst\":\"B\"}", "d.jsonl:1: expected {\"edges\""},
        {"path", "{\"edges\":[[\"A\",\"B\",7]],\"src\":\"A\",\"dst\":\"B\"}", "d.jsonl:1: expected {\"edges\""},
        {"path", "{\"edges\":[[\"A\",\"B\",\"bus\"]],\"src\":\"A\"}", "d.jsonl:1: expected {\"edges\""},
        {"path", "{\"edges\":[[\"A\",\"B\",\"bus\"]],\"src\":\"A\",\"dst\":\"C\"}", "no route from 'A' to 'C'"},
        {"path", "{\"edges\":[[\"A\",\"A\",\"bus\"]],\"src\":\"A\",\"dst\":\"C\"}", "no route from 'A' to 'C'"},
        {"path", "{\"edges\":[[\"A\",\"A\",\"bus\"]],\"src\":\"A\",\"dst\":\"A\"}", "no route from 'A' to 'A'"},
    };
    folder f;
    (void)state;
    open_folder(&f);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char task[64];
        snprintf(task, sizeof task, "source = %s", cases[i].source);
        put_edited(&f, "t.task", good_task, "source = rows", task);
        put_file(&f, "d.jsonl", cases[i].row);
        expect_refused(f.root.dir, "t", NULL, KV_EFORMAT, cases[i].text);
    }
    close_folder(&f);
}

static void every_truncation_of_a_task_file_is_refused_or_complete(void **state) {
    folder f;
    size_t last = (size_t)(strstr(good_task, "stop =") - good_task) - 1;
    (void)state;
    open_folder(&f);
    put_file(&f, "d.jsonl", good_rows);
    for (size_t n = 0; n < strlen(good_task); n++) {
        kv_task_options o = {.root = f.root.dir};
        kv_error err = {0};
        kv_task *t = NULL;
        assert_non_null(scratch_write(&f.tasks, "t.task", good_task, n));
        int rc = kv_task_open("t", &o, &t, &err);
        if (!rc && n < last) fail_msg("the first %zu bytes were accepted", n);
        if (rc && !strstr(err.text, "t.task")) fail_msg("the first %zu bytes: '%s' names no file", n, err.text);
        kv_task_close(t);
    }
    close_folder(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lists_every_task),
        cmocka_unit_test(every_task_of_the_list_opens_in_every_variant),
        cmocka_unit_test(the_default_variant_is_the_official_one_where_there_is_one),
        cmocka_unit_test(stop_strings_come_from_the_variant),
        cmocka_unit_test(data_hash_is_that_of_the_file),
        cmocka_unit_test(canonical_name_carries_parameters_that_differ),
        cmocka_unit_test(a_parameter_can_raise_max_new),
        cmocka_unit_test(refuses_bad_names_and_parameters),
        cmocka_unit_test(refuses_items_out_of_range),
        cmocka_unit_test(prompts_are_the_upstream_ones),
        cmocka_unit_test(every_gold_answer_scores_one_and_a_damaged_one_does_not),
        cmocka_unit_test(renders_templates_and_splits_at_the_question),
        cmocka_unit_test(bad_task_files_are_refused_with_file_and_line),
        cmocka_unit_test(bad_rows_are_refused_with_file_and_line),
        cmocka_unit_test(bad_problems_and_worlds_are_refused),
        cmocka_unit_test(every_truncation_of_a_task_file_is_refused_or_complete),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
