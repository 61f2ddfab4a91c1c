/* longbench.h - LongBench (arXiv 2308.14508) and LongBench v2 (arXiv 2412.15204): what their graders compare with. */
#ifndef KV_LONGBENCH_H
#define KV_LONGBENCH_H

#include "datasets/jieba.h"

/* kv_item.data of the sources longbench and longbench_v2 (data kind "longbench"). */
typedef struct kv_longbench {
    char **answers; /* (n_answers) the best one counts */
    char **classes; /* (n_classes) of classification sets */
    int n_answers, n_classes;
    const kv_jieba *words; /* for Chinese; NULL unless the variant's grader needs it */
    char *id;              /* the data's own _id; NULL when it has none */
    char group[24];        /* "0-4k" of LongBench-E, "hard/short" of v2, else "" */
} kv_longbench;

#endif
