/* countdown.c - the countdown search and its text; see countdown.h.
 *
 * Each pair (x, y), x >= y, of the current list is tried with + - * / in that order; the result goes to the front of
 * the list, the others keep their order.  Checked against all 600 released traces
 * (tests/golden/countdown_traces.sha256). */
#include "datasets/countdown.h"

#include <stdio.h>
#include <string.h>

typedef struct {
    kv_text *out;
    int target, lines;
    struct {
        int x, y, z;
        char op;
    } step[3]; /* the operation now tried at each level: the solution, when the search stops */
} search;

static int explore(search *s, const int *v, int n, int depth);

static void put(search *s, const char *text) {
    if (s->out) kv_text_puts(s->out, text);
}

/* A newline, the indent of the level and "|- ". */
static void open_line(search *s, int depth) {
    s->lines++;
    if (s->out) kv_text_printf(s->out, "\n%*s|- ", depth, "");
}

void kv_countdown_list(const int *nums, int n, kv_text *out) {
    for (int i = 0; i < n; i++) kv_text_printf(out, "%s%d", i ? ", " : "[", nums[i]);
    kv_text_puts(out, n ? "]" : "[]");
}

static void put_state(search *s, const char *what, const int *v, int n) {
    if (!s->out) return;
    kv_text_printf(s->out, "%s number set: ", what);
    kv_countdown_list(v, n, s->out);
    kv_text_printf(s->out, ", target: %d", s->target);
    if (n == 2) {
        kv_text_puts(s->out, ", just two numbers left.");
        return;
    }
    kv_text_puts(s->out, ". Options for choosing two numbers: ");
    const char *sep = "[";
    for (int i = 0; i < n; i++)
        for (int j = i + 1; j < n; j++, sep = ", ") kv_text_printf(s->out, "%s(%d, %d)", sep, v[i], v[j]);
    kv_text_puts(s->out, "].");
}

/* One operation: its line, and what follows from it.  Returns 1 when the target was found below. */
static int try_one(search *s, int x, char op, int y, const int *rest, int n_rest, int depth) {
    open_line(s, depth);
    if (op == '/' && y == 0) {
        if (s->out) kv_text_printf(s->out, "Try %d / 0 (invalid operation). drop this branch.", x);
        return 0;
    }
    if (op == '/' && x % y) {
        double q = (double)x / y;
        if (s->out) kv_text_printf(s->out, "Try %d / %d = %.1f. %.1f is a decimal, drop this branch.", x, y, q, q);
        return 0;
    }
    int z = op == '+' ? x + y : op == '-' ? x - y : op == '*' ? x * y : x / y;
    s->step[2 - n_rest].x = x, s->step[2 - n_rest].y = y;
    s->step[2 - n_rest].z = z, s->step[2 - n_rest].op = op;
    if (s->out) kv_text_printf(s->out, "Try %d %c %d = %d. ", x, op, y, z);
    if (z >= KV_COUNTDOWN_MAX) {
        if (s->out) kv_text_printf(s->out, "%d exceeds the maximum intermediate result, drop this branch.", z);
        return 0;
    }
    if (n_rest == 0) {
        int found = z == s->target;
        if (s->out)
            kv_text_printf(s->out, "Evaluate %d %s %d, %s", z, found ? "==" : "!=", s->target,
                           found ? "target found!" : "drop this branch.");
        return found;
    }
    int v[4] = {z};
    memcpy(v + 1, rest, (size_t)n_rest * sizeof *rest);
    if (s->out) kv_text_printf(s->out, "Add %d to the number set. ", z);
    put_state(s, "Current", v, n_rest + 1);
    return explore(s, v, n_rest + 1, depth + 1);
}

/* Tries every pair of v[0..n-1].  depth is the indent of Pick lines, or of the tries when only two are left. */
static int explore(search *s, const int *v, int n, int depth) {
    for (int i = 0; i < n; i++)
        for (int j = i + 1; j < n; j++) {
            int rest[2], n_rest = 0;
            for (int k = 0; k < n; k++)
                if (k != i && k != j) rest[n_rest++] = v[k];
            if (n > 2) {
                open_line(s, depth);
                if (s->out) {
                    kv_text_printf(s->out, "Pick two numbers (%d, %d) (numbers left: ", v[i], v[j]);
                    kv_countdown_list(rest, n_rest, s->out);
                }
                put(s, "). Try possible operations.");
            }
            int x = v[i] >= v[j] ? v[i] : v[j], y = v[i] >= v[j] ? v[j] : v[i];
            for (const char *op = "+-*/"; *op; op++)
                if (try_one(s, x, *op, y, rest, n_rest, n > 2 ? depth + 1 : depth)) return 1;
        }
    return 0;
}

void kv_countdown_search(const kv_countdown *p, kv_text *out, kv_countdown_result *r) {
    search s = {.out = out, .target = p->target};
    memset(r, 0, sizeof *r);
    put_state(&s, "Initial", p->nums, 4);
    r->solved = explore(&s, p->nums, 4, 1);
    r->lines = s.lines;
    for (int i = 0; i < 3 && r->solved; i++)
        snprintf(r->eq[i], sizeof r->eq[i], "%d %c %d = %d", s.step[i].x, s.step[i].op, s.step[i].y, s.step[i].z);
}

int kv_countdown_write(const kv_countdown *p, int frame, kv_text *out) {
    kv_countdown_result r;
    kv_text_puts(out, frame == KV_COUNTDOWN_TAGGED ? "<Search Procedure>\n" : "# Search Procedure\n");
    kv_countdown_search(p, out, &r);
    if (!r.solved) return 0;
    kv_text_puts(out, frame == KV_COUNTDOWN_TAGGED ? "\n</Search Procedure>\n\n" : "\n\n");
    kv_text_printf(out,
                   "Now we have found the target, let's trace back the solution:\n"
                   "Final step: %s\nThe step before: %s\nThe first step: %s\n\n",
                   r.eq[2], r.eq[1], r.eq[0]);
    kv_text_printf(out, "Output the solution in the required format:\n<Solution>\n%s\n%s\n%s\n</Solution>\n", r.eq[0],
                   r.eq[1], r.eq[2]);
    return 1;
}

void kv_countdown_examples(kv_text *out) {
    static const kv_countdown examples[2] = {{{40, 19, 23, 7}, 29}, {{9, 16, 6, 18}, 12}};
    for (int i = 0; i < 2; i++) {
        kv_text_puts(out, i ? "\n\n# Example\nNumbers: " : "# Example\nNumbers: ");
        kv_countdown_list(examples[i].nums, 4, out);
        kv_text_printf(out, "\nTarget: %d\n\n", examples[i].target);
        kv_countdown_write(&examples[i], KV_COUNTDOWN_OFFICIAL, out);
    }
}
