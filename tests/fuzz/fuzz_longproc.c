/* fuzz_longproc.c - answers of any bytes to LongProc's tasks: every grader gives a verdict within its range, the table
 * reader counts what it returns, and a story's steps are refused or leave everyone somewhere.
 *
 * The first byte chooses; what follows is "reference NUL output" for the graders, else the text.  Programs are left
 * out: their grader hands the text to a compiler. */
#include "datasets/csv.h"
#include "datasets/fold.h"
#include "datasets/graders.h"
#include "datasets/tom.h"
#include "datasets/travel.h"

#include <stdlib.h>
#include <string.h>

static void grade(const char *name, const void *data, const char *gold, const char *output) {
    kv_grade g;
    memset(&g, 0, sizeof g);
    kv_grader_find(name)->grade(data, gold, output, &g);
    if (!(g.score >= 0 && g.score <= 1 && g.compat >= 0 && g.compat <= 1 && g.partial >= 0 && g.partial <= 1)) abort();
    if (!memchr(g.extracted, 0, sizeof g.extracted)) abort();
}

static void read_table(const char *text) {
    kv_csv t;
    int ok = kv_csv_read(kv_unicode_trim((kv_span){text, strlen(text)}), &t);
    if (ok == (t.error != NULL)) abort();
    for (size_t i = 0; ok && i < t.n_rows; i++) {
        size_t tabs = 0;
        for (const char *s = t.rows[i]; *s; s++) tabs += *s == '\t';
        if (tabs + 1 != t.n_columns) abort();
    }
    kv_csv_free(&t);
}

static void tell_story(const char *text) {
    static const char *const words[] = {"x", "y", "z", "w", "v", "u", "t", "s"};
    kv_tom t = {.n = {3, 3, 3, 2}};
    kv_tom_state s;
    for (int k = 0; k < KV_TOM_KINDS; k++) memcpy(t.words[k], words, sizeof words);
    t.steps = calloc(strlen(text) + 1, sizeof *t.steps);
    if (!t.steps) return;
    kv_tom_begin(&t, &s);
    while (*text && kv_tom_parse_step(&text, &t.steps[t.n_steps]) && kv_tom_apply(&t, &t.steps[t.n_steps], &s)) {
        t.n_steps++;
        text += *text == ' ';
    }
    for (int i = 0; i < 3; i++)
        if (s.agent_room[i] < -1 || s.agent_room[i] > 2 || s.object_place[i].room > 2) abort();
    kv_text story = {0}, answer = {0};
    kv_tom_write_story(&t, &story);
    kv_tom_write_answer(&t, &answer);
    grade("tom_tracking", NULL, answer.s, answer.s);
    kv_text_free(&story);
    kv_text_free(&answer);
    free(t.steps);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static kv_travel trip = {.n_cities = 2,
                             .plan = {{.city = "Rome", .days = 3}, {.city = "Oslo", .days = 2}},
                             .procedure =
                                 "<Solving Procedure>\nOne a.\nThe two.\n</Solving Procedure>\n<Plan>\n</Plan>"};
    char *text = malloc(size + 2);
    if (!text) return 0;
    if (size) memcpy(text, data, size);
    text[size] = text[size + 1] = 0;
    if (size) {
        const char *gold = text + 1, *output = gold + strlen(gold) + 1;
        if (output > text + size) output = gold;
        switch (text[0]) {
        case 'h':
            grade("html_to_tsv", NULL, gold, output);
            break;
        case 't':
            grade("tom_tracking", NULL, gold, output);
            break;
        case 'r':
            grade("path_traversal", NULL, gold, output);
            break;
        case 'p':
            grade("travel_planning", &trip, "", gold);
            break;
        case 's':
            tell_story(gold);
            break;
        default:
            read_table(gold);
        }
    }
    free(text);
    return 0;
}
