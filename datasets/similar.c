/* similar.c - fuzz.ratio over difflib and over Levenshtein; see similar.h. */
#include "datasets/similar.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "datasets/unicode.h"

typedef struct {
    uint32_t c;
    int at;
} place;

typedef struct {
    const uint32_t *a, *b;
    int n_a, n_b;
    place *places;       /* (n_b) characters of b with their places, sorted */
    int *first, *last;   /* (n_a) the range of places that hold a[i]; empty for what is too frequent in b */
    int *length, *stamp; /* (2, n_b) blocks that end at j in the row of that stamp */
    int row;             /* stamps given so far */
} matcher;

typedef struct {
    int a, b, n;
} block;

typedef struct {
    int a_low, a_high, b_low, b_high;
} range;

static int by_character(const void *x, const void *y) {
    const place *p = x, *q = y;
    return p->c != q->c ? (p->c > q->c) - (p->c < q->c) : (p->at > q->at) - (p->at < q->at);
}

/* First place whose character is c or more. */
static int find(const place *p, int n, uint32_t c) {
    int low = 0;
    while (n > 0) {
        int half = n / 2;
        if (p[low + half].c < c)
            low += half + 1, n -= half + 1;
        else
            n = half;
    }
    return low;
}

static void index_b(matcher *m) {
    for (int j = 0; j < m->n_b; j++) m->places[j] = (place){m->b[j], j};
    qsort(m->places, (size_t)m->n_b, sizeof *m->places, by_character);
    for (int i = 0; i < m->n_a; i++) {
        m->first[i] = find(m->places, m->n_b, m->a[i]);
        m->last[i] = find(m->places, m->n_b, m->a[i] + 1);
        if (m->n_b >= 200 && m->last[i] - m->first[i] > m->n_b / 100 + 1) m->last[i] = m->first[i];
    }
}

/* difflib's find_longest_match: the longest block, of several the one that starts first in a, then in b. */
static block longest(matcher *m, range r) {
    block best = {r.a_low, r.b_low, 0};
    m->row++; /* no row of an earlier call is the one before */
    for (int i = r.a_low; i < r.a_high; i++) {
        int row = ++m->row, *length = m->length + (row & 1) * m->n_b, *stamp = m->stamp + (row & 1) * m->n_b;
        const int *above = m->length + (~row & 1) * m->n_b, *mark = m->stamp + (~row & 1) * m->n_b;
        for (int k = m->first[i]; k < m->last[i]; k++) {
            int j = m->places[k].at;
            if (j < r.b_low) continue;
            if (j >= r.b_high) break;
            int n = 1 + (j > 0 && mark[j - 1] == row - 1 ? above[j - 1] : 0);
            length[j] = n;
            stamp[j] = row;
            if (n > best.n) best = (block){i - n + 1, j - n + 1, n};
        }
    }
    while (best.a > r.a_low && best.b > r.b_low && m->a[best.a - 1] == m->b[best.b - 1]) best.a--, best.b--, best.n++;
    while (best.a + best.n < r.a_high && best.b + best.n < r.b_high && m->a[best.a + best.n] == m->b[best.b + best.n])
        best.n++;
    return best;
}

/* Characters in common blocks.  stack: room for n_a + 2 ranges, as each block found leaves two and takes a character
 * of a. */
static int count_blocks(matcher *m, range *stack) {
    int n = 1, total = 0;
    stack[0] = (range){0, m->n_a, 0, m->n_b};
    while (n) {
        range r = stack[--n];
        block x = longest(m, r);
        total += x.n;
        if (!x.n) continue;
        if (r.a_low < x.a && r.b_low < x.b) stack[n++] = (range){r.a_low, x.a, r.b_low, x.b};
        if (x.a + x.n < r.a_high && x.b + x.n < r.b_high)
            stack[n++] = (range){x.a + x.n, r.a_high, x.b + x.n, r.b_high};
    }
    return total;
}

/* Length of the longest common subsequence; row: n_b + 1 ints. */
static int subsequence(const uint32_t *a, int n_a, const uint32_t *b, int n_b, int *row) {
    memset(row, 0, (size_t)(n_b + 1) * sizeof *row);
    for (int i = 0; i < n_a; i++)
        for (int j = 0, corner = 0; j < n_b; j++) {
            int up = row[j + 1];
            row[j + 1] = a[i] == b[j] ? corner + 1 : up > row[j] ? up : row[j];
            corner = up;
        }
    return row[n_b];
}

static int compare(matcher *m, int *blocks, int *indel) {
    size_t a = (size_t)m->n_a, b = (size_t)m->n_b;
    range *stack = malloc((a + 2) * sizeof *stack);
    int *ints = calloc(2 * a + 4 * b, sizeof *ints), *row = malloc((b + 1) * sizeof *row);
    m->places = malloc(b * sizeof *m->places);
    int ok = stack && ints && row && m->places;
    if (ok) {
        m->first = ints, m->last = ints + a, m->length = ints + 2 * a, m->stamp = m->length + 2 * b;
        index_b(m);
        double sum = (double)(a + b);
        *blocks = (int)rint(100 * (2.0 * count_blocks(m, stack) / sum));
        *indel = (int)rint(100 * (1.0 - (sum - 2.0 * subsequence(m->a, m->n_a, m->b, m->n_b, row)) / sum));
    }
    free(stack);
    free(ints);
    free(row);
    free(m->places);
    return ok ? KV_OK : KV_ENOMEM;
}

int kv_similar(const char *a, size_t n_a, const char *b, size_t n_b, int *blocks, int *indel) {
    *blocks = *indel = n_a == n_b && (!n_a || !memcmp(a, b, n_a)) ? 100 : 0;
    if (*blocks || !n_a || !n_b) return KV_OK;
    size_t chars_a, chars_b;
    uint32_t *x = kv_utf8_decode(a, n_a, &chars_a), *y = kv_utf8_decode(b, n_b, &chars_b);
    matcher m = {.a = x, .b = y, .n_a = (int)chars_a, .n_b = (int)chars_b};
    int rc = x && y ? compare(&m, blocks, indel) : KV_ENOMEM;
    free(x);
    free(y);
    return rc;
}
