/* rouge.c - ROUGE-L as the Python package rouge 1.0.1 computes it; see rouge.h.
 *
 * It is not the usual ROUGE-L: words are counted once each, an empty sentence holds one empty word, and of equally
 * long subsequences the one that its walk through the table meets counts.  The walk calls itself for every step, so
 * two long sentences exceed Python's stack of 1,000 frames; LongBench's scorer catches that and gives 0. */
#include "datasets/rouge.h"

#include <stdlib.h>
#include <string.h>

#include "datasets/unicode.h"

/* Calls of the walk that still fit when eval.py is the main program (seen with Python 3.11). */
enum { MAX_CALLS = 991 };

static const size_t MAX_CELLS = (size_t)1 << 28;

typedef struct {
    const char *s;
    size_t n;
    size_t at; /* place in the text */
} word;

typedef struct {
    word *words;
    int *ids;      /* (n_words) equal words have equal ids */
    size_t *start; /* (n_sentences + 1) first word of each sentence */
    size_t n_words, n_sentences;
} text;

static void add_word(text *t, const char *s, size_t n) {
    t->words[t->n_words] = (word){s, n, t->n_words};
    t->n_words++;
}

static void add_sentence(text *t, const char *s, const char *end) {
    size_t before = t->n_words;
    t->start[t->n_sentences++] = t->n_words;
    for (const char *p = s, *from = NULL;;) {
        const char *here = p;
        int space = p == end || kv_is_space(kv_utf8_next(&p, end));
        if (space && from) add_word(t, from, (size_t)(here - from));
        if (here == end) break;
        from = space ? NULL : from ? from : here;
    }
    if (t->n_words == before) add_word(t, s, 0);
    t->start[t->n_sentences] = t->n_words;
}

static int split(const char *s, size_t n, text *t) {
    *t = (text){.words = malloc((n + 1) * sizeof *t->words),
                .ids = malloc((n + 1) * sizeof *t->ids),
                .start = malloc((n + 2) * sizeof *t->start)};
    if (!t->words || !t->ids || !t->start) return KV_ENOMEM;
    for (const char *end = s + n; s < end;) {
        const char *dot = memchr(s, '.', (size_t)(end - s)), *stop = dot ? dot : end;
        if (stop > s) add_sentence(t, s, stop);
        s = dot ? dot + 1 : end;
    }
    return KV_OK;
}

static void free_text(text *t) {
    free(t->words);
    free(t->ids);
    free(t->start);
}

static int compare(const void *a, const void *b) {
    const word *x = a, *y = b;
    int c = memcmp(x->s, y->s, x->n < y->n ? x->n : y->n);
    return c ? c : (x->n > y->n) - (x->n < y->n);
}

/* Numbers the words of both texts; returns how many there are, and how many each text has. */
static int number_words(text *a, text *b, int *n_a, int *n_b) {
    size_t i = 0, k = 0;
    int id = 0;
    *n_a = *n_b = 0;
    qsort(a->words, a->n_words, sizeof *a->words, compare);
    qsort(b->words, b->n_words, sizeof *b->words, compare);
    for (; i < a->n_words || k < b->n_words; id++) {
        int c = i == a->n_words ? 1 : k == b->n_words ? -1 : compare(&a->words[i], &b->words[k]);
        const word first = c <= 0 ? a->words[i] : b->words[k];
        *n_a += c <= 0;
        *n_b += c >= 0;
        for (; i < a->n_words && !compare(&a->words[i], &first); i++) a->ids[a->words[i].at] = id;
        for (; k < b->n_words && !compare(&b->words[k], &first); k++) b->ids[b->words[k].at] = id;
    }
    return id;
}

enum { DIAGONAL, UP, LEFT };

/* Marks the words of the longest common subsequence of x (n) and y (m).  rows: 2 * (m + 1) ints; way: n * m bytes.
 * Returns the calls that the package needs for it. */
static int mark_common(const int *x, size_t n, const int *y, size_t m, int *rows, unsigned char *way, char *marked) {
    int *last = rows, *row = rows + m + 1, calls = 1;
    memset(last, 0, (m + 1) * sizeof *last);
    row[0] = 0;
    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; j < m; j++) {
            int up = last[j + 1] > row[j];
            unsigned char d = x[i] == y[j] ? DIAGONAL : up ? UP : LEFT;
            row[j + 1] = d == DIAGONAL ? last[j] + 1 : up ? last[j + 1] : row[j];
            way[i * m + j] = d;
        }
        int *t = last;
        last = row;
        row = t;
        row[0] = 0;
    }
    for (size_t i = n, j = m; i && j; calls++) {
        unsigned char d = way[(i - 1) * m + j - 1];
        if (d == DIAGONAL) marked[x[i - 1]] = 1;
        i -= d != LEFT;
        j -= d != UP;
    }
    return calls;
}

static size_t longest(const text *t) {
    size_t best = 0;
    for (size_t i = 0; i < t->n_sentences; i++)
        if (t->start[i + 1] - t->start[i] > best) best = t->start[i + 1] - t->start[i];
    return best;
}

static int score(text *hyp, text *ref, kv_rouge *out) {
    int n_hyp, n_ref, common = 0, deepest = 0, n = number_words(hyp, ref, &n_hyp, &n_ref);
    size_t rows = longest(ref), columns = longest(hyp);
    if (rows > MAX_CELLS / columns) return KV_ELIMIT;
    int *table = malloc(2 * (columns + 1) * sizeof *table);
    unsigned char *way = malloc(rows * columns);
    char *marked = calloc((size_t)n, 1);
    int rc = table && way && marked ? KV_OK : KV_ENOMEM;
    for (size_t i = 0; !rc && i < ref->n_sentences; i++)
        for (size_t k = 0; k < hyp->n_sentences; k++) {
            size_t r = ref->start[i], h = hyp->start[k];
            int calls = mark_common(ref->ids + r, ref->start[i + 1] - r, hyp->ids + h, hyp->start[k + 1] - h, table,
                                    way, marked);
            if (calls > deepest) deepest = calls;
        }
    for (int i = 0; !rc && i < n; i++) common += marked[i];
    double recall = (double)common / n_ref, precision = (double)common / n_hyp;
    out->f = 2.0 * ((precision * recall) / (precision + recall + 1e-8));
    out->published = deepest > MAX_CALLS ? 0 : out->f;
    free(table);
    free(way);
    free(marked);
    return rc;
}

int kv_rouge_l(const char *output, size_t n_output, const char *answer, size_t n_answer, kv_rouge *out) {
    text hyp = {0}, ref = {0};
    *out = (kv_rouge){0};
    int rc = split(output, n_output, &hyp);
    if (!rc) rc = split(answer, n_answer, &ref);
    if (!rc && hyp.n_sentences && ref.n_sentences) rc = score(&hyp, &ref, out);
    free_text(&hyp);
    free_text(&ref);
    return rc;
}
