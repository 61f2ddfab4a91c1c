/* reduce.h - what the two reductions share: a head's scores.  reduce.c has heads with budgets of their own,
 * reduce_pooled.c heads that share one. */
#ifndef KV_CPU_REDUCE_H
#define KV_CPU_REDUCE_H

#include "engine/cpu/runner.h"

/* One head's scratch: score, keys, columns, queries, policy scratch, positions, kept, selector scratch. */
typedef struct kv_cpu_scratch {
    float *score, *keys, *cols, *queries, *policy;
    int32_t *pos, *kept, *select;
} kv_cpu_scratch;

/* Of a head that holds n_slots slots; a multiple of 64. */
size_t kv_cpu_scratch_bytes(const kv_shape *s, const kv_columns *c, int n_slots);
void kv_cpu_scratch_cut(kv_cpu_scratch *sc, char *mem, const kv_shape *s, const kv_columns *c, int n_slots);

/* Fills sc->score and sc->pos; a head without slots is left alone. */
void kv_cpu_score_head(kv_engine *e, const kv_seq *q, int layer, int head, const kv_cpu_scratch *sc);

/* Of n kept slots, those whose index changes. */
int kv_cpu_count_moved(const int32_t *kept, int n);

/* One sequence whose heads share budgets: every pool that holds at least `at` slots per head goes to the budget. */
int kv_cpu_reduce_pooled(kv_engine *e, kv_seq *q, kv_pooling p, int at, const kv_trace *trace, kv_error *err);

#endif
