/* grade_countdown.c - countdown: the equations decide the score, the search text the partial score.
 *
 * countdown is LongProc's evaluator (countdown_evaluator.py, eval_countdown).  Solved = exactly three lines
 * `a op b = c` between <Solution> tags, each true, using numbers at hand, ending at the target; nothing of the search
 * need be right.  Otherwise the text after the last search header is compared with the generated search: the first
 * line must be equal, then partial = index of the first bad line / lines (0-based, the first line not counted).  When
 * no line is bad the index is that of the last one compared: a perfect search without a solution gets (n - 1) / n.
 * The reference gives -1 / n to a text of the first line only; that is 0 here.
 *
 * That is compat.  score also wants what the prompt asks for, no result that is negative or above 2000, and of an
 * output with a </think> reads only what follows.
 *
 * countdown_short differs in one point: it also accepts <Search Procedure> as the header. */
#include "datasets/countdown.h"
#include "datasets/fold.h"

#include <string.h>

/* A whole number as Python's int() reads it, up to 15 digits: blanks around, a sign, digits. */
static int parse_int(kv_span a, int64_t *out) {
    a = kv_span_trim(a);
    int minus = a.n && a.s[0] == '-';
    if (a.n && (a.s[0] == '-' || a.s[0] == '+')) a.s++, a.n--;
    if (a.n < 1 || a.n > 15) return 0;
    int64_t v = 0;
    for (size_t i = 0; i < a.n; i++) {
        if (a.s[i] < '0' || a.s[i] > '9') return 0;
        v = v * 10 + (a.s[i] - '0');
    }
    *out = minus ? -v : v;
    return 1;
}

/* Splits a at the only occurrence of c. */
static int split_once(kv_span a, char c, kv_span *left, kv_span *right) {
    const char *p = a.n ? memchr(a.s, c, a.n) : NULL;
    if (!p) return 0;
    *left = (kv_span){a.s, (size_t)(p - a.s)};
    *right = (kv_span){p + 1, a.n - left->n - 1};
    return !right->n || !memchr(right->s, c, right->n);
}

/* Takes x out of v[0..*n-1]; 0 when it is not there. */
static int take_value(int64_t *v, int *n, int64_t x) {
    for (int i = 0; i < *n; i++)
        if (v[i] == x) {
            memmove(v + i, v + i + 1, (size_t)(*n - i - 1) * sizeof *v);
            --*n;
            return 1;
        }
    return 0;
}

/* One equation: true, and made of numbers at hand, which it replaces by its result. */
static int apply_equation(kv_span line, int64_t *v, int *n) {
    kv_span lhs, rhs, left, right;
    int64_t a, b, c;
    if (!split_once(kv_unicode_trim(line), '=', &lhs, &rhs)) return 0;
    const char *op = "+-*/";
    while (*op && !memchr(lhs.s, *op, lhs.n)) op++;
    if (!*op || !split_once(lhs, *op, &left, &right)) return 0;
    if (!parse_int(left, &a) || !parse_int(right, &b) || !parse_int(kv_unicode_trim(rhs), &c)) return 0;
    if (!take_value(v, n, a) || !take_value(v, n, b)) return 0;
    int holds = *op == '+' ? a + b == c : *op == '-' ? a - b == c : *op == '*' ? a * b == c : b != 0 && c * b == a;
    v[(*n)++] = c;
    return holds;
}

/* *by_the_rules: no result is negative or above KV_COUNTDOWN_MAX. */
static int is_solution(const kv_countdown *p, kv_span text, int *by_the_rules) {
    kv_span line;
    int64_t v[4];
    int n = 4;
    *by_the_rules = 1;
    for (int i = 0; i < 4; i++) v[i] = p->nums[i];
    for (int i = 0; i < 3; i++) {
        if (!kv_span_line(&text, &line) || !apply_equation(line, v, &n)) return 0;
        *by_the_rules &= v[n - 1] >= 0 && v[n - 1] <= KV_COUNTDOWN_MAX;
    }
    return !text.s && v[0] == p->target;
}

static int contains(kv_span a, const char *needle) {
    return a.n && memmem(a.s, a.n, needle, strlen(needle)) != NULL;
}

static kv_span before_equals(kv_span a) {
    const char *p = a.n ? memchr(a.s, '=', a.n) : NULL;
    return p ? (kv_span){a.s, (size_t)(p - a.s)} : a;
}

/* A pick must be equal; a try must be of the same numbers and agree on dropping the branch. */
static int line_agrees(kv_span gold, kv_span line) {
    if (kv_span_equal(gold, line)) return 1;
    if (contains(gold, "Pick two numbers")) return 0;
    return kv_span_equal(before_equals(gold), before_equals(line)) &&
           contains(gold, "drop this branch") == contains(line, "drop this branch");
}

static double compare_search(kv_span gold, kv_span text) {
    kv_span a, b;
    int i = -1, n = 0, bad = 0;
    if (!kv_span_line(&gold, &a) || !kv_span_line(&text, &b) || !kv_span_equal(a, b)) return 0;
    while (kv_span_line(&gold, &a)) {
        n++;
        if (bad || !kv_span_line(&text, &b)) continue;
        i++;
        bad = !line_agrees(a, b);
    }
    return i > 0 ? (double)i / n : 0;
}

/* The text behind the last occurrence of header, or NULL. */
static const char *after_last(const char *text, const char *header) {
    const char *last = NULL;
    for (const char *p = text; (p = strstr(p, header)); p += strlen(header)) last = p + strlen(header);
    return last;
}

static int is_solved(const kv_countdown *p, const char *output, kv_span *solution, int *by_the_rules) {
    *by_the_rules = 0;
    *solution = (kv_span){NULL, 0};
    return kv_span_tag(output, "Solution", solution) && is_solution(p, *solution, by_the_rules);
}

static void grade(const void *data, const char *output, int tagged, kv_grade *g) {
    const kv_countdown *p = data;
    kv_span solution;
    int by_the_rules;
    g->rule = "Solution tags";
    g->compat = is_solved(p, output, &solution, &by_the_rules);
    output = kv_after_thinking(output);
    int solved = is_solved(p, output, &solution, &by_the_rules);
    if (solution.s) kv_grade_extract(g, solution);
    g->score = solved && by_the_rules;
    g->partial = solved;
    g->reason = !solution.s     ? "no <Solution>"
                : !solved       ? "the equations do not reach the target from the numbers"
                : !by_the_rules ? "a result is negative or above 2000"
                                : NULL;
    if (solved) return;
    const char *search = after_last(output, "# Search Procedure");
    if (tagged) {
        const char *other = after_last(output, "<Search Procedure>");
        if (!search || (other && other > search)) search = other;
    }
    if (!search) return;
    kv_text gold = {0};
    kv_countdown_result r;
    kv_countdown_search(p, &gold, &r);
    if (!gold.failed)
        g->partial = compare_search((kv_span){gold.s, gold.n}, kv_span_trim((kv_span){search, strlen(search)}));
    kv_text_free(&gold);
}

static void grade_official(const void *data, const char *gold, const char *output, kv_grade *g) {
    (void)gold;
    grade(data, output, 0, g);
}

static void grade_short(const void *data, const char *gold, const char *output, kv_grade *g) {
    (void)gold;
    grade(data, output, 1, g);
}

const kv_grader kv_grader_countdown = {
    .name = "countdown", .version = 2, .data_kind = "countdown", .sets_compat = 1, .grade = grade_official};
const kv_grader kv_grader_countdown_short = {
    .name = "countdown_short", .version = 2, .data_kind = "countdown", .sets_compat = 1, .grade = grade_short};
