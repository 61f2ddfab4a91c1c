/* similar.h - how alike two lines are, as fuzzywuzzy 0.18.0's fuzz.ratio says it (0..100, whole numbers).
 *
 * fuzzywuzzy takes Python's difflib unless the package python-Levenshtein is there too; the two disagree. */
#ifndef KV_SIMILAR_H
#define KV_SIMILAR_H

#include "datasets/text.h"

/* Texts are UTF-8.  *blocks: by difflib (longest common blocks, with its rule for frequent characters from 200
 * characters on); *indel: by Levenshtein's ratio (characters kept when only insertions and deletions count).
 * KV_ENOMEM. */
int kv_similar(const char *a, size_t n_a, const char *b, size_t n_b, int *blocks, int *indel);

#endif
