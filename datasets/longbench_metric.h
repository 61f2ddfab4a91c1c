/* longbench_metric.h - one prediction against one reference answer, by LongBench's metrics. */
#ifndef KV_LONGBENCH_METRIC_H
#define KV_LONGBENCH_METRIC_H

#include "datasets/graders.h"
#include "datasets/longbench.h"

typedef struct kv_longbench_scores {
    double score, compat, partial; /* as in kv_grade */
} kv_longbench_scores;

/* s arrives zeroed; texts are UTF-8.  KV_ENOMEM or KV_ELIMIT. */
typedef int kv_longbench_metric(const kv_longbench *d, kv_span prediction, kv_span answer, kv_longbench_scores *s);

kv_longbench_metric kv_longbench_f1, kv_longbench_f1_zh, kv_longbench_f1_zh_char, kv_longbench_rouge,
    kv_longbench_rouge_zh, kv_longbench_rouge_zh_char;

#endif
