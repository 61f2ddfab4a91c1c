/* grade_travel.c - trip plans: LongProc's evaluator of travel_planning (travel_planning_evaluator.py), whose plan
 * parser is that of Natural Plan (arXiv 2406.04520).
 *
 * compat: in the text between <Plan> tags each line may hold a range of days, \d+-\d+, and a flight, `Day n ... from X
 * to Y` with one-word cities.  Cities are the first flight's two and each later one's second; a stay lasts from its
 * flight's day to the next one's.  1 when the cities and lengths begin with the expected ones, so a plan may go on
 * behind them, and the days of the ranges but the last end are not looked at.  Otherwise partial is the index of the
 * first line that does not contain its line of the reference procedure (lower case, without punctuation and articles;
 * blank lines and what precedes <Solving Procedure> skipped) / the procedure's lines.
 *
 * score also wants no city behind the expected ones, and of an output with a </think> reads only what follows. */
#include "datasets/fold.h"
#include "datasets/travel.h"
#include "datasets/unicode.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdlib.h>
#include <string.h>

enum { TOTAL, RANGE, FLIGHT, N_PATTERNS };

static const char *const patterns[N_PATTERNS] = {"European cities for (\\d+) days", "(\\d+)-(\\d+)",
                                                 ".*Day (\\d+).*from (\\w+) to (\\w+)"};

typedef struct {
    pcre2_code *code[N_PATTERNS];
    pcre2_match_data *match;
    pcre2_match_context *limits;
} matcher;

/* A plan as read: one stay more than there are flights. */
typedef struct {
    kv_span city[KV_TRAVEL_CITIES + 2];
    int64_t day[KV_TRAVEL_CITIES + 2]; /* of the flight to city i; of the first, 1 */
    size_t n;                          /* cities; those past the arrays only count */
    int64_t last_day, total_days;      /* -1: not seen */
} plan;

static void close_matcher(matcher *m) {
    for (int i = 0; i < N_PATTERNS; i++) pcre2_code_free(m->code[i]);
    pcre2_match_data_free(m->match);
    pcre2_match_context_free(m->limits);
}

static int open_matcher(matcher *m) {
    int error, ok = 1;
    PCRE2_SIZE at;
    memset(m, 0, sizeof *m);
    for (int i = 0; i < N_PATTERNS; i++) {
        m->code[i] = pcre2_compile((PCRE2_SPTR)patterns[i], PCRE2_ZERO_TERMINATED,
                                   PCRE2_UTF | PCRE2_UCP | PCRE2_MATCH_INVALID_UTF, &error, &at, NULL);
        ok = ok && m->code[i];
    }
    m->match = pcre2_match_data_create(4, NULL);
    m->limits = pcre2_match_context_create(NULL);
    if (m->limits) pcre2_set_match_limit(m->limits, 10000000);
    return ok && m->match && m->limits;
}

static int matches(matcher *m, int which, kv_span line) {
    return pcre2_match(m->code[which], (PCRE2_SPTR)line.s, line.n, 0, 0, m->match, m->limits) > 0;
}

static kv_span group(const matcher *m, kv_span line, int i) {
    const PCRE2_SIZE *v = pcre2_get_ovector_pointer(m->match);
    return (kv_span){line.s + v[2 * i], v[2 * i + 1] - v[2 * i]};
}

/* Days as int() reads them, cut off far above any; digits of other scripts are none here. */
static int64_t number(kv_span a) {
    int64_t v = 0;
    for (size_t i = 0; i < a.n; i++)
        if (a.s[i] >= '0' && a.s[i] <= '9' && v < 1000000000) v = v * 10 + (a.s[i] - '0');
    return v;
}

static void add_city(plan *p, kv_span city, int64_t day) {
    if (p->n < KV_TRAVEL_CITIES + 2) {
        p->city[p->n] = city;
        p->day[p->n] = day;
    }
    p->n++;
}

static void read_plan(matcher *m, kv_span text, plan *p) {
    kv_span line;
    *p = (plan){.last_day = -1, .total_days = -1};
    while (kv_span_line(&text, &line)) {
        if (matches(m, TOTAL, line)) p->total_days = number(group(m, line, 1));
        if (matches(m, RANGE, line)) {
            p->last_day = number(group(m, line, 2));
            if (p->last_day == p->total_days) break; /* not on to alternative plans */
        }
        if (matches(m, FLIGHT, line)) {
            if (!p->n) add_city(p, group(m, line, 2), 1);
            add_city(p, group(m, line, 3), number(group(m, line, 1)));
        }
    }
    if (p->last_day < 0) p->n = 0;
}

/* Whether the plan begins with the expected one; *more: it goes on. */
static int is_expected(const kv_travel *t, const plan *p, int *more) {
    *more = p->n > (size_t)t->n_cities;
    if (p->n < (size_t)t->n_cities) return 0;
    for (int i = 0; i < t->n_cities; i++) {
        const char *city = t->plan[i].city;
        int64_t until = (size_t)i + 1 < p->n ? p->day[i + 1] : p->last_day;
        if (!kv_span_equal(p->city[i], (kv_span){city, strlen(city)}) || until - p->day[i] + 1 != t->plan[i].days)
            return 0;
    }
    return 1;
}

/* 0 no plan, 1 another, 2 the expected one and more, 3 the expected one. */
static int judge_plan(const kv_travel *t, const char *output, kv_span *text) {
    matcher m;
    plan p;
    int more = 0, right = 0;
    if (!kv_span_tag(output, "Plan", text)) return 0;
    if (open_matcher(&m)) {
        read_plan(&m, *text, &p);
        right = is_expected(t, &p, &more);
    }
    close_matcher(&m);
    return !right ? 1 : more ? 2 : 3;
}

/* Copies text without the sentence that both sides drop. */
static void drop_sentence(const char *text, kv_text *out) {
    static const char sentence[] = "Output the plan in the required format:";
    for (const char *p; (p = strstr(text, sentence)); text = p + strlen(sentence))
        kv_text_append(out, text, (size_t)(p - text));
    kv_text_puts(out, text);
}

/* The part from the first tag to the second one, if any; the whole text without one. */
static kv_span cut_procedure(const kv_text *t) {
    static const char tag[] = "<Solving Procedure>";
    const char *a = strstr(t->s, tag);
    if (!a) return (kv_span){t->s, t->n};
    const char *b = strstr(a + 1, tag);
    return (kv_span){a, b ? (size_t)(b - a) : strlen(a)};
}

static int next_visible(kv_span *rest, kv_span *line) {
    while (kv_span_line(rest, line))
        if (kv_unicode_trim(*line).n) return 1;
    return 0;
}

static int holds(kv_span line, kv_span gold, kv_text *a, kv_text *b) {
    static const kv_fold how = {.words = kv_fold_articles, .keep_blanks = 1};
    a->n = b->n = 0;
    kv_fold_text(line, &how, a);
    kv_fold_text(gold, &how, b);
    return !a->failed && !b->failed && strstr(a->s, b->s) != NULL;
}

static double compare_procedure(const char *output, const char *procedure) {
    kv_text out = {0}, want = {0}, a = {0}, b = {0};
    drop_sentence(output, &out);
    drop_sentence(procedure, &want);
    size_t lines = 0, at = 0, compared = 0;
    int good = !out.failed && !want.failed;
    if (good) {
        kv_span x = kv_unicode_trim(cut_procedure(&out)), y = cut_procedure(&want), line, gold;
        while (next_visible(&y, &gold)) {
            lines++;
            if (!good || !next_visible(&x, &line)) {
                good = 0;
                continue;
            }
            at = compared++;
            good = holds(line, gold, &a, &b);
        }
    }
    kv_text_free(&out);
    kv_text_free(&want);
    kv_text_free(&a);
    kv_text_free(&b);
    return lines ? (double)at / (double)lines : 0;
}

static void grade(const void *data, const char *gold, const char *output, kv_grade *g) {
    static const char *const reasons[] = {"no <Plan>", "another plan", "the plan goes on behind the expected one",
                                          NULL};
    const kv_travel *t = data;
    const char *final = kv_after_thinking(output);
    kv_span text;
    (void)gold;
    g->compat = judge_plan(t, output, &text) >= 2;
    int verdict = judge_plan(t, final, &text);
    if (verdict) kv_grade_extract(g, text);
    g->score = verdict == 3;
    g->partial = verdict >= 2 ? 1 : compare_procedure(final, t->procedure);
    g->rule = "Plan tags";
    g->reason = reasons[verdict];
}

const kv_grader kv_grader_travel = {
    .name = "travel_planning", .version = 1, .data_kind = "travel", .sets_compat = 1, .grade = grade};
