/* jieba.c - Chinese word segmentation; see jieba.h.
 *
 * Text falls into blocks of Chinese, ASCII letters, digits and + # & . _ % -, and the rest, which is cut into single
 * characters.  In a block the likeliest row of dictionary words is found by dynamic programming; what it leaves as a
 * run of single characters goes through a hidden Markov model with the states begin, middle, end, single.  Ties go
 * as Python's max() over tuples decides them: to the later end, to the state whose letter is later. */
#include "datasets/jieba_file.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "datasets/unicode.h"

typedef void word_fn(void *user, const char *s, size_t n);

/* One block, character by character, and the work space for it. */
typedef struct {
    const kv_jieba *j;
    const char *s;
    uint32_t *c;                 /* (n) */
    size_t *at;                  /* (n + 1) byte offset of each character in s */
    size_t *next;                /* (n) where the likeliest word that starts here ends */
    double *best;                /* (n + 1) log probability of the likeliest row of words from here on */
    unsigned char *from, *state; /* (n, states) and (n): of the Markov model */
    size_t n;
    word_fn *word;
    void *user;
} block;

static int is_han(uint32_t c) {
    return c >= 0x4e00 && c <= 0x9fd5;
}

static int is_alnum(uint32_t c) {
    return c < 0x80 && kv_is_word(c) && c != '_';
}

static int is_block(uint32_t c) {
    return is_han(c) || is_alnum(c) || (c < 0x80 && c && strchr("+#&._%-", (int)c));
}

static void emit(const block *b, size_t from, size_t to) {
    b->word(b->user, b->s + b->at[from], b->at[to] - b->at[from]);
}

/* First of words[low, high), which agree in the first `skip` bytes, whose bytes from there on are not less than those
 * of s[0, n); with `after`, the first that does not start with them either. */
static size_t bound(const kv_jieba *j, size_t low, size_t high, size_t skip, const char *s, size_t n, int after) {
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        const kv_jieba_word *w = &j->words[mid];
        int c = strncmp(w->s + skip, s, n);
        if (c < 0 || (after && c == 0))
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

/* Tries all words that start at character k. */
static void best_from(block *b, size_t k) {
    const kv_jieba *j = b->j;
    size_t low = 0, high = j->n_words, skip = 0;
    double best = -INFINITY;
    for (size_t i = k; i < b->n; i++) {
        const char *s = b->s + b->at[i];
        size_t n = b->at[i + 1] - b->at[i];
        low = bound(j, low, high, skip, s, n, 0);
        high = bound(j, low, high, skip, s, n, 1);
        if (low == high) break;
        skip += n;
        const kv_jieba_word *w = &j->words[low];
        if (w->n != skip || !w->is_word) continue;
        double p = w->log_n - j->log_total + b->best[i + 1];
        if (p >= best) best = p, b->next[k] = i + 1;
    }
    if (best == -INFINITY) best = 0.0 - j->log_total + b->best[k + 1], b->next[k] = k + 1;
    b->best[k] = best;
}

static const double *emission(const kv_jieba *j, uint32_t c) {
    static const double never[KV_JIEBA_STATES] = {KV_JIEBA_NEVER, KV_JIEBA_NEVER, KV_JIEBA_NEVER, KV_JIEBA_NEVER};
    size_t low = 0, n = j->n_emit;
    while (n) {
        size_t half = n / 2;
        if (j->emit[low + half].c < c)
            low += half + 1, n -= half + 1;
        else
            n = half;
    }
    return low < j->n_emit && j->emit[low].c == c ? j->emit[low].p : never;
}

/* The two states that may come before each, the one with the later letter second. */
static const int before[KV_JIEBA_STATES][2] = {
    [KV_JIEBA_B] = {KV_JIEBA_E, KV_JIEBA_S},
    [KV_JIEBA_M] = {KV_JIEBA_B, KV_JIEBA_M},
    [KV_JIEBA_E] = {KV_JIEBA_B, KV_JIEBA_M},
    [KV_JIEBA_S] = {KV_JIEBA_E, KV_JIEBA_S},
};

/* Characters [from, to), all Chinese, into words by the likeliest row of states. */
static void cut_unknown(block *b, size_t from, size_t to) {
    const kv_jieba *j = b->j;
    double v[2][KV_JIEBA_STATES];
    const double *e = emission(j, b->c[from]);
    for (int y = 0; y < KV_JIEBA_STATES; y++) v[from & 1][y] = j->start[y] + e[y];
    for (size_t t = from + 1; t < to; t++) {
        const double *last = v[~t & 1];
        e = emission(j, b->c[t]);
        for (int y = 0; y < KV_JIEBA_STATES; y++) {
            int p = before[y][0], q = before[y][1];
            double x = last[p] + j->trans[p][y] + e[y], z = last[q] + j->trans[q][y] + e[y];
            v[t & 1][y] = z >= x ? z : x;
            b->from[t * KV_JIEBA_STATES + (size_t)y] = (unsigned char)(z >= x ? q : p);
        }
    }
    const double *last = v[(to - 1) & 1];
    b->state[to - 1] = last[KV_JIEBA_S] >= last[KV_JIEBA_E] ? KV_JIEBA_S : KV_JIEBA_E;
    for (size_t t = to - 1; t > from; t--) b->state[t - 1] = b->from[t * KV_JIEBA_STATES + b->state[t]];
    size_t begin = from;
    for (size_t t = from; t < to; t++)
        if (b->state[t] == KV_JIEBA_E || b->state[t] == KV_JIEBA_S) {
            emit(b, b->state[t] == KV_JIEBA_S ? t : begin, t + 1);
            begin = t + 1;
        }
    if (begin < to) emit(b, begin, to);
}

/* End of letters and digits from k on, with a fraction and a percent sign after them; k when there are none. */
static size_t number_end(const block *b, size_t k, size_t to) {
    size_t i = k;
    while (i < to && is_alnum(b->c[i])) i++;
    if (i == k) return k;
    if (i < to && b->c[i] == '.') {
        size_t f = i + 1;
        while (f < to && b->c[f] - '0' < 10) f++;
        if (f > i + 1) i = f;
    }
    return i < to && b->c[i] == '%' ? i + 1 : i;
}

/* A run of characters that the dictionary left single. */
static void cut_run(block *b, size_t from, size_t to) {
    for (size_t k = from, i; k < to; k = i) {
        i = k;
        while (i < to && is_han(b->c[i])) i++;
        if (i > k) {
            cut_unknown(b, k, i);
            continue;
        }
        if ((i = number_end(b, k, to)) == k)
            while (i < to && !is_han(b->c[i]) && !is_alnum(b->c[i])) i++;
        emit(b, k, i);
    }
}

static int is_word(const block *b, size_t from, size_t to) {
    const char *s = b->s + b->at[from];
    size_t n = b->at[to] - b->at[from], low = bound(b->j, 0, b->j->n_words, 0, s, n, 0);
    return low < b->j->n_words && b->j->words[low].n == n && !memcmp(b->j->words[low].s, s, n) &&
           b->j->words[low].is_word;
}

static void end_run(block *b, size_t from, size_t to) {
    if (to > from + 1 && !is_word(b, from, to))
        cut_run(b, from, to);
    else
        for (; from < to; from++) emit(b, from, from + 1);
}

static void cut_block(block *b) {
    size_t run = 0, x = 0;
    b->best[b->n] = 0;
    for (size_t k = b->n; k-- > 0;) best_from(b, k);
    for (; x < b->n; x = b->next[x]) {
        if (b->next[x] == x + 1) continue;
        end_run(b, run, x);
        emit(b, x, b->next[x]);
        run = b->next[x];
    }
    end_run(b, run, x);
}

static int make_room(block *b, size_t n) {
    b->c = malloc(n * sizeof *b->c);
    b->at = malloc((n + 1) * sizeof *b->at);
    b->next = malloc(n * sizeof *b->next);
    b->best = malloc((n + 1) * sizeof *b->best);
    b->from = malloc(n * KV_JIEBA_STATES);
    b->state = malloc(n);
    return b->c && b->at && b->next && b->best && b->from && b->state;
}

static void free_room(block *b) {
    free(b->c);
    free(b->at);
    free(b->next);
    free(b->best);
    free(b->from);
    free(b->state);
}

int kv_jieba_cut(const kv_jieba *j, const char *s, size_t n, void (*word)(void *user, const char *s, size_t n),
                 void *user) {
    block b = {.j = j, .word = word, .user = user};
    int rc = !n || make_room(&b, n) ? KV_OK : KV_ENOMEM;
    for (const char *p = s, *end = s + n; !rc && p < end;) {
        const char *from = b.s = p;
        for (b.n = 0; p < end; b.n++) {
            from = p;
            b.at[b.n] = (size_t)(p - b.s);
            b.c[b.n] = kv_utf8_next(&p, end);
            if (!is_block(b.c[b.n])) break;
            from = p;
        }
        b.at[b.n] = (size_t)(from - b.s);
        if (b.n) cut_block(&b);
        if (from == p) continue;
        if (*from == '\r' && p < end && *p == '\n') p++;
        word(user, from, (size_t)(p - from));
    }
    free_room(&b);
    return rc;
}
