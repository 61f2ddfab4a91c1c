/* checkpoints.h - the tiny checkpoints of tests/data/checkpoints with what transformers says to them. */
#ifndef KV_TEST_CHECKPOINTS_H
#define KV_TEST_CHECKPOINTS_H

#include "engine/engine.h"

#define TC_DIR KV_SOURCE_DIR "/tests/data/checkpoints/"

enum { TC_CASES = 9, TC_PROMPT = 512, TC_GREEDY = 128, TC_TOP = 8 };

typedef struct tc_case {
    const char *path, *golden; /* below TC_DIR; member of golden.json */
    int max_ctx;
} tc_case;
extern const tc_case tc_cases[TC_CASES];

typedef struct tc_golden {
    int n_prompt, n_greedy;
    int32_t prompt[TC_PROMPT], greedy[TC_GREEDY];
    int32_t ids[TC_PROMPT][TC_TOP]; /* of the largest logits at every position of the prompt */
    double logits[TC_PROMPT][TC_TOP];
} tc_golden;

/* Both fail the test when something is wrong; the CUDA one skips it without a GPU. */
kv_engine *tc_open(const tc_case *c, kv_numerics numerics, kv_device_kind device);
/* The caller frees. */
tc_golden *tc_load(const tc_case *c);

#endif
