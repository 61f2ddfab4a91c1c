/* grade_path.c - routes of path traversal.
 *
 * path_traversal is LongProc's evaluator (longproc_data.py, eval_path_traversal): the text between <Route> tags, equal
 * to the reference = 1.  Its partial score counts the first failing line, so a route wrong only in its last line has
 * partial 1.0; kept, because published partial scores have it.  A closing tag before the opening one is no answer
 * here; there it is an empty one, worth 1 / lines.  That is compat; score reads, of an output with a </think>, only
 * what follows.
 *
 * path_traversal_short grades bare routes: the whole output, trimmed; partial = correct leading lines / lines. */
#include "datasets/graders.h"

#include <string.h>

/* Leading lines that are equal, out of the *compared that both texts have; *lines = lines of gold. */
static size_t equal_lines(kv_span gold, kv_span answer, size_t *compared, size_t *lines) {
    kv_span a, b;
    size_t equal = 0;
    int same = 1;
    *compared = *lines = 0;
    while (kv_span_line(&gold, &a)) {
        ++*lines;
        if (!kv_span_line(&answer, &b)) continue;
        ++*compared;
        same = same && kv_span_equal(a, b);
        equal += (size_t)same;
    }
    return equal;
}

static int is_route(const char *gold, kv_span answer) {
    return kv_span_equal(kv_span_trim((kv_span){gold, strlen(gold)}), answer);
}

static void grade_route(const char *gold_text, kv_span answer, int count_failing, kv_grade *g) {
    kv_span gold = kv_span_trim((kv_span){gold_text, strlen(gold_text)});
    size_t compared, lines, equal = equal_lines(gold, answer, &compared, &lines);
    if (count_failing && equal < compared) equal++;
    g->score = is_route(gold_text, answer);
    g->partial = (double)equal / (double)lines;
}

static void grade_official(const void *data, const char *gold, const char *output, kv_grade *g) {
    kv_span route;
    (void)data;
    g->rule = "Route tags";
    g->reason = "no <Route>";
    if (kv_span_tag(output, "Route", &route)) g->compat = is_route(gold, route);
    if (!kv_span_tag(kv_after_thinking(output), "Route", &route)) return;
    kv_grade_extract(g, route);
    grade_route(gold, route, 1, g);
    g->reason = g->score > 0 ? NULL : "another route";
}

static void grade_short(const void *data, const char *gold, const char *output, kv_grade *g) {
    kv_span route = kv_span_trim((kv_span){output, strlen(output)});
    (void)data;
    if (!route.n) return;
    kv_grade_extract(g, route);
    grade_route(gold, route, 0, g);
}

const kv_grader kv_grader_path = {.name = "path_traversal", .version = 2, .sets_compat = 1, .grade = grade_official};
const kv_grader kv_grader_path_short = {.name = "path_traversal_short", .version = 1, .grade = grade_short};
