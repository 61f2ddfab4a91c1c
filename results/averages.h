/* averages.h - what several answers per item amount to: avg@k, pass@k, maj@k and two standard errors. */
#ifndef KV_AVERAGES_H
#define KV_AVERAGES_H

#include "engine/kv.h"

/* One graded answer.  Those of an item stand side by side, in the order in which they were sampled. */
typedef struct kv_answer {
    int item;
    double score;
    const char *text; /* normalised; NULL or "" = none was found */
} kv_answer;

typedef struct kv_averages {
    int64_t n, n_items;
    int k; /* answers of the item that has fewest: what pass and maj are of */
    double avg;
    double se_random; /* the items are a random draw: sd of the item means (n_items - 1) / sqrt(n_items) */
    double se_fixed;  /* the items are these: sqrt(sum_i p_i (1 - p_i) / (k_i - 1)) / n_items */
    double pass;      /* mean over items of kv_pass_at_k */
    double maj;       /* share of items whose most frequent of the first k answers is right */
} kv_averages;

/* NAN stands for what the answers do not tell: everything without answers, se_random with one item, se_fixed with an
 * item that has one answer, pass and maj when a score is neither 0 nor 1.  Scores between 0 and 1 enter se_fixed with
 * their variance, which for 0 and 1 is the formula above. */
void kv_averages_of(const kv_answer *a, size_t n, kv_averages *out);

/* The chance that k answers drawn without replacement from n, c of which are right, hold a right one: the unbiased
 * estimate 1 - C(n - c, k) / C(n, k) of arXiv 2107.03374.  1 <= k <= n, 0 <= c <= n. */
double kv_pass_at_k(int n, int c, int k);

#endif
