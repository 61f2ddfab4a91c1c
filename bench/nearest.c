/* nearest.c - the word that the user probably meant.
 *
 * Levenshtein distance over two rows; a candidate counts as meant when at most a third of the letters differ, when it
 * is the beginning of the word, or when the word, give or take a quarter of its letters, is its beginning. */
#include "bench/options.h"

#include <string.h>

enum { MAX_WORD = 64 };

/* *beginning: the distance to the nearest beginning of b. */
static int distance(const char *a, const char *b, int *beginning) {
    int row[MAX_WORD + 1];
    int na = (int)strlen(a), nb = (int)strlen(b);
    *beginning = MAX_WORD;
    if (na > MAX_WORD || nb > MAX_WORD) return MAX_WORD;
    for (int j = 0; j <= nb; j++) row[j] = j;
    for (int i = 1; i <= na; i++) {
        int diagonal = row[0];
        row[0] = i;
        for (int j = 1; j <= nb; j++) {
            int best = diagonal + (a[i - 1] != b[j - 1]);
            if (row[j] + 1 < best) best = row[j] + 1;
            if (row[j - 1] + 1 < best) best = row[j - 1] + 1;
            diagonal = row[j];
            row[j] = best;
        }
    }
    for (int j = 0; j <= nb; j++)
        if (row[j] < *beginning) *beginning = row[j];
    return row[nb];
}

const char *kv_nearest(const char *word, const char *const *candidates, size_t n) {
    const char *best = NULL;
    int best_distance = MAX_WORD;
    size_t len = strlen(word);
    if (len == 0) return NULL;
    for (size_t i = 0; i < n; i++) {
        const char *c = candidates[i];
        int beginning, d = distance(word, c, &beginning), limit = (int)(len > 6 ? len / 3 : 2);
        if (len >= 3 && strncmp(word, c, strlen(c)) == 0) beginning = 0;
        if (len >= 3 && beginning <= (int)(len / 4) && beginning + 1 < d) d = beginning + 1;
        if (d <= limit && d < best_distance) {
            best_distance = d;
            best = c;
        }
    }
    return best;
}
