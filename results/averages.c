/* averages.c - averages over items with several answers each.
 *
 * pass@k: arXiv 2107.03374.  maj@k (self-consistency, arXiv 2203.11171): the answer given most often by an item's first
 * k samples, the one seen first among equals; samples without an answer have no vote, and an item without any is
 * wrong. */
#include "results/averages.h"

#include <math.h>
#include <string.h>

double kv_pass_at_k(int n, int c, int k) {
    double none = 1;
    if (n - c < k) return 1;
    for (int i = n - c + 1; i <= n; i++) none *= 1 - (double)k / i;
    return 1 - none;
}

static int is_binary(double score) {
    return score == 0 || score == 1;
}

static int votes(const char *text) {
    return text && text[0];
}

/* Score of the most frequent answer. */
static double majority(const kv_answer *a, int k) {
    int most = 0;
    double score = 0;
    for (int i = 0; i < k; i++) {
        int count = 0;
        if (!votes(a[i].text)) continue;
        for (int j = i; j < k; j++) count += votes(a[j].text) && !strcmp(a[i].text, a[j].text);
        if (count <= most) continue;
        most = count;
        score = a[i].score;
    }
    return score;
}

/* Answers of the item that begins at a[0]. */
static int count_item(const kv_answer *a, size_t n) {
    size_t k = 1;
    while (k < n && a[k].item == a[0].item) k++;
    return (int)k;
}

static double mean_of(const kv_answer *a, int k) {
    double sum = 0;
    for (int i = 0; i < k; i++) sum += a[i].score;
    return sum / k;
}

/* Variance of the mean of k answers: s^2 / k, where s^2 has the divisor k - 1. */
static double variance_of_mean(const kv_answer *a, int k, double mean) {
    double sum = 0;
    for (int i = 0; i < k; i++) sum += (a[i].score - mean) * (a[i].score - mean);
    return k > 1 ? sum / (k - 1) / k : NAN;
}

static int count_right(const kv_answer *a, int k) {
    int right = 0;
    for (int i = 0; i < k; i++) right += a[i].score == 1;
    return right;
}

void kv_averages_of(const kv_answer *a, size_t n, kv_averages *out) {
    double sum = 0, item_sum = 0, fixed = 0, spread = 0, pass = 0, maj = 0;
    int binary = n > 0, k;
    *out = (kv_averages){.n = (int64_t)n, .avg = NAN, .se_random = NAN, .se_fixed = NAN, .pass = NAN, .maj = NAN};
    for (size_t i = 0; i < n; i += (size_t)k) {
        k = count_item(a + i, n - i);
        if (!out->n_items++ || k < out->k) out->k = k;
        item_sum += mean_of(a + i, k);
    }
    if (!n) return;
    for (size_t i = 0; i < n; i += (size_t)k) {
        k = count_item(a + i, n - i);
        double mean = mean_of(a + i, k), off = mean - item_sum / (double)out->n_items;
        sum += mean * k;
        spread += off * off;
        fixed += variance_of_mean(a + i, k, mean);
        for (int j = 0; j < k; j++) binary &= is_binary(a[i + (size_t)j].score);
        pass += kv_pass_at_k(k, count_right(a + i, k), out->k);
        maj += majority(a + i, out->k);
    }
    double items = (double)out->n_items;
    out->avg = sum / (double)n;
    if (out->n_items > 1) out->se_random = sqrt(spread / (items - 1) / items);
    out->se_fixed = sqrt(fixed) / items;
    if (!binary) return;
    out->pass = pass / items;
    out->maj = maj / items;
}
