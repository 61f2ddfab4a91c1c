/* paper.h - published numbers: from the table results/paper/paper-numbers.tsv into the results file, and back out. */
#ifndef KV_PAPER_H
#define KV_PAPER_H

#include "results/store.h"

/* Text as published, "" = not stated there. */
typedef struct kv_paper_number {
    char paper[32], version[64], table[96], model[64], task[96], metric[96], policy[48], budget[48], buffer[32],
        context[32], batch[16], gen_len[16], hardware[32], unit[32], read_from[24], source[192], note[256];
    double value;
} kv_paper_number;

/* Adds the rows of a .tsv file (results/paper/README.md has its columns) that the results file does not hold yet, all
 * in one transaction.  *n_new may be NULL.  KV_EFORMAT names the line that is wrong; then nothing is added. */
int kv_paper_import(kv_store *s, const char *path, int64_t *n_new, kv_error *err);

/* Rows of one table and metric, in the order of the paper; of rows that differ in nothing but value, source and note
 * the newest.  *out is malloc'd (NULL when *n is 0); the caller frees. */
int kv_paper_find(kv_store *s, const char *paper, const char *table, const char *metric, kv_paper_number **out,
                  size_t *n, kv_error *err);

#endif
