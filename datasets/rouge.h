/* rouge.h - ROUGE-L as the Python package rouge 1.0.1 computes it (github.com/pltrdy/rouge), which LongBench uses. */
#ifndef KV_ROUGE_H
#define KV_ROUGE_H

#include "datasets/text.h"

typedef struct kv_rouge {
    double f;         /* F of "rouge-l" */
    double published; /* what LongBench's scorer makes of it: 0 where the package's recursion goes too deep */
} kv_rouge;

/* Texts are UTF-8.  Sentences end at each '.', words at white space; the summary-level form: the words of the longest
 * common subsequences of every pair of sentences, counted as sets.  A text without a sentence gives 0.  KV_ENOMEM, or
 * KV_ELIMIT when two sentences have more than 2^28 pairs of words. */
int kv_rouge_l(const char *output, size_t n_output, const char *answer, size_t n_answer, kv_rouge *out);

#endif
