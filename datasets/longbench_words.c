/* longbench_words.c - LongBench's metrics over words: F1 and ROUGE-L, for English and Chinese; see longbench_metric.h.
 *
 * Chinese words are jieba's; the functions ending in _char take characters in their place, need no dictionary, and
 * give other numbers.  ROUGE-L ends in 0 where Python's stack ends (rouge.h): that is compat, score goes on. */
#include "datasets/longbench_metric.h"

#include <stdlib.h>
#include <string.h>

#include "datasets/fold.h"
#include "datasets/rouge.h"
#include "datasets/unicode.h"

static kv_span text_span(const kv_text *t) {
    return (kv_span){t->s ? t->s : "", t->n};
}

/* --- F1 over words -------------------------------------------------------------------------------------------- */

typedef struct {
    kv_text text;  /* all words, one after the other */
    size_t *start; /* (n + 1) */
    size_t n, cap;
    int failed;
} words;

static void end_word(words *w) {
    size_t from = w->n ? w->start[w->n] : 0;
    if (w->failed || w->text.failed || w->text.n == from) return;
    if (w->n + 2 > w->cap) {
        size_t cap = w->cap ? 2 * w->cap : 64;
        size_t *p = realloc(w->start, cap * sizeof *p);
        if (!p) {
            w->failed = 1;
            return;
        }
        w->start = p;
        w->cap = cap;
        w->start[0] = 0;
    }
    w->start[++w->n] = w->text.n;
}

static void free_words(words *w) {
    kv_text_free(&w->text);
    free(w->start);
}

static int by_bytes(const void *a, const void *b) {
    const kv_span *x = a, *y = b;
    int c = memcmp(x->s, y->s, x->n < y->n ? x->n : y->n);
    return c ? c : (x->n > y->n) - (x->n < y->n);
}

static kv_span *sorted(const words *w) {
    kv_span *s = malloc((w->n + 1) * sizeof *s);
    for (size_t i = 0; s && i < w->n; i++) s[i] = (kv_span){w->text.s + w->start[i], w->start[i + 1] - w->start[i]};
    if (s) qsort(s, w->n, sizeof *s, by_bytes);
    return s;
}

static int f1(const words *prediction, const words *answer, kv_longbench_scores *out) {
    if (prediction->failed || prediction->text.failed || answer->failed || answer->text.failed) return KV_ENOMEM;
    kv_span *p = sorted(prediction), *a = sorted(answer);
    size_t same = 0;
    int rc = p && a ? KV_OK : KV_ENOMEM;
    for (size_t i = 0, k = 0; !rc && i < prediction->n && k < answer->n;) {
        int c = by_bytes(&p[i], &a[k]);
        same += c == 0;
        i += c <= 0;
        k += c >= 0;
    }
    free(p);
    free(a);
    if (rc || !same) return rc;
    double precision = (double)same / (double)prediction->n, recall = (double)same / (double)answer->n;
    out->score = out->compat = out->partial = (2 * precision * recall) / (precision + recall);
    return KV_OK;
}

/* Words of normalize_answer: lower case, without ASCII punctuation and articles. */
static void english_words(kv_span text, words *w) {
    static const kv_fold fold = {.words = kv_fold_articles, .keep_blanks = 1};
    kv_text folded = {0};
    kv_fold_text(text, &fold, &folded);
    w->failed |= folded.failed;
    for (const char *p = folded.failed ? "" : folded.s; *p;) {
        size_t n = strcspn(p, " ");
        kv_text_append(&w->text, p, n);
        end_word(w);
        p += n + (p[n] == ' ');
    }
    kv_text_free(&folded);
}

int kv_longbench_f1(const kv_longbench *d, kv_span prediction, kv_span answer, kv_longbench_scores *s) {
    words p = {0}, a = {0};
    (void)d;
    english_words(prediction, &p);
    english_words(answer, &a);
    int rc = f1(&p, &a, s);
    free_words(&p);
    free_words(&a);
    return rc;
}

/* --- Chinese -------------------------------------------------------------------------------------------------- */

/* Their list; the opening double angle bracket U+300A is not in it. */
static int is_chinese_punctuation(uint32_t c) {
    static const uint16_t list[] = {
        0xff01, 0xff1f, 0xff61, 0x3002, 0xff02, 0xff03, 0xff04, 0xff05, 0xff06, 0xff07, 0xff08, 0xff09, 0xff0a,
        0xff0b, 0xff0c, 0xff0d, 0xff0f, 0xff1a, 0xff1b, 0xff1c, 0xff1d, 0xff1e, 0xff20, 0xff3b, 0xff3c, 0xff3d,
        0xff3e, 0xff3f, 0xff40, 0xff5b, 0xff5c, 0xff5d, 0xff5e, 0xff5f, 0xff60, 0xff62, 0xff63, 0xff64, 0x3001,
        0x3003, 0x300b, 0x300c, 0x300d, 0x300e, 0x300f, 0x3010, 0x3011, 0x3014, 0x3015, 0x3016, 0x3017, 0x3018,
        0x3019, 0x301a, 0x301b, 0x301c, 0x301d, 0x301e, 0x301f, 0x3030, 0x303e, 0x303f, 0x2013, 0x2014, 0x2018,
        0x2019, 0x201b, 0x201c, 0x201d, 0x201e, 0x201f, 0x2026, 0x2027, 0xfe4f};
    for (size_t i = 0; i < sizeof list / sizeof *list; i++)
        if (list[i] == c) return 1;
    return 0;
}

/* normalize_zh_answer of one segment; nothing left is no word. */
static void add_chinese(void *user, const char *s, size_t n) {
    words *w = user;
    kv_text lower = {0};
    kv_unicode_lower(s, n, &lower);
    kv_span t = text_span(&lower);
    for (const char *p = t.s, *end = p + t.n; p < end;) {
        uint32_t c = kv_utf8_next(&p, end);
        if (!kv_is_punctuation(c) && !is_chinese_punctuation(c) && !kv_is_space(c)) kv_utf8_put(&w->text, c);
    }
    w->failed |= lower.failed;
    kv_text_free(&lower);
    end_word(w);
}

static void add_spaced(void *user, const char *s, size_t n) {
    kv_text *t = user;
    if (t->n) kv_text_puts(t, " ");
    kv_text_append(t, s, n);
}

/* Characters in place of words. */
static int each_character(kv_span t, void (*word)(void *user, const char *s, size_t n), void *user) {
    for (const char *p = t.s, *end = p + t.n; p < end;) {
        const char *from = p;
        kv_utf8_next(&p, end);
        word(user, from, (size_t)(p - from));
    }
    return KV_OK;
}

static int segment(const kv_longbench *d, int by_char, kv_span t, void (*word)(void *user, const char *s, size_t n),
                   void *user) {
    return by_char ? each_character(t, word, user) : kv_jieba_cut(d->words, t.s, t.n, word, user);
}

static int chinese_f1(const kv_longbench *d, int by_char, kv_span prediction, kv_span answer, kv_longbench_scores *s) {
    words p = {0}, a = {0};
    int rc = segment(d, by_char, prediction, add_chinese, &p);
    if (!rc) rc = segment(d, by_char, answer, add_chinese, &a);
    if (!rc) rc = f1(&p, &a, s);
    free_words(&p);
    free_words(&a);
    return rc;
}

int kv_longbench_f1_zh(const kv_longbench *d, kv_span prediction, kv_span answer, kv_longbench_scores *s) {
    return chinese_f1(d, 0, prediction, answer, s);
}

int kv_longbench_f1_zh_char(const kv_longbench *d, kv_span prediction, kv_span answer, kv_longbench_scores *s) {
    return chinese_f1(d, 1, prediction, answer, s);
}

int kv_longbench_rouge(const kv_longbench *d, kv_span prediction, kv_span answer, kv_longbench_scores *s) {
    kv_rouge r;
    (void)d;
    int rc = kv_rouge_l(prediction.s, prediction.n, answer.s, answer.n, &r);
    s->score = s->partial = r.f;
    s->compat = r.published;
    return rc;
}

static int chinese_rouge(const kv_longbench *d, int by_char, kv_span prediction, kv_span answer,
                         kv_longbench_scores *s) {
    kv_text p = {0}, a = {0};
    int rc = segment(d, by_char, prediction, add_spaced, &p);
    if (!rc) rc = segment(d, by_char, answer, add_spaced, &a);
    if (!rc && (p.failed || a.failed)) rc = KV_ENOMEM;
    if (!rc) rc = kv_longbench_rouge(d, text_span(&p), text_span(&a), s);
    kv_text_free(&p);
    kv_text_free(&a);
    return rc;
}

int kv_longbench_rouge_zh(const kv_longbench *d, kv_span prediction, kv_span answer, kv_longbench_scores *s) {
    return chinese_rouge(d, 0, prediction, answer, s);
}

int kv_longbench_rouge_zh_char(const kv_longbench *d, kv_span prediction, kv_span answer, kv_longbench_scores *s) {
    return chinese_rouge(d, 1, prediction, answer, s);
}
