/* jieba_file.h - the dictionary of jieba.h in memory: what the reader fills and the segmenter searches. */
#ifndef KV_JIEBA_FILE_H
#define KV_JIEBA_FILE_H

#include "datasets/jieba.h"

enum { KV_JIEBA_B, KV_JIEBA_M, KV_JIEBA_E, KV_JIEBA_S, KV_JIEBA_STATES };

typedef struct kv_jieba_word {
    const char *s; /* in text */
    uint32_t n;
    double log_n; /* log of the frequency; of a frequency of 0: not a word, only the beginning of others */
    int is_word;
} kv_jieba_word;

typedef struct kv_jieba_emit {
    uint32_t c;
    double p[KV_JIEBA_STATES];
} kv_jieba_emit;

struct kv_jieba {
    char *text;           /* the file */
    kv_jieba_word *words; /* (n_words) ordered by bytes */
    kv_jieba_emit *emit;  /* (n_emit) ordered by character */
    size_t n_words, n_emit;
    double log_total, start[KV_JIEBA_STATES], trans[KV_JIEBA_STATES][KV_JIEBA_STATES];
};

/* What jieba takes for "never". */
#define KV_JIEBA_NEVER (-3.14e100)

#endif
