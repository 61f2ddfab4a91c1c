/* counted_task.h - tasks whose length is counted in tokens, opened with SmolLM2's tokenizer and chat template. */
#ifndef KV_TEST_COUNTED_TASK_H
#define KV_TEST_COUNTED_TASK_H

#include "datasets/task.h"
#include "engine/tokenizer.h"

/* The datasets folder of the project. */
#define CT_ROOT KV_SOURCE_DIR "/datasets"

/* All of these fail the running cmocka test when something goes wrong. */

/* Loads the tokenizer once per program; ct_close frees it. */
void ct_start(void);
void ct_close(void);

/* qa_data: folder of SQuAD and HotpotQA files, or NULL. */
kv_task *ct_open(const char *spec, uint64_t seed, const char *qa_data);
/* Expects an error of that code whose text contains `text`. */
void ct_refused(const char *spec, const char *qa_data, int code, const char *text);
kv_item ct_item(kv_task *t, int i);
/* Tokens of prompt and answer's start, counted anew. */
size_t ct_tokens(const kv_item *it);
/* The tokenizer of ct_start. */
const kv_tokenizer *ct_tokenizer(void);

/* The k-th line of gold (from 0), NUL-terminated in out; 0 when there are fewer. */
int ct_gold(const kv_item *it, int k, char *out, size_t cap);
/* How often `what` stands in the text before its byte `end`. */
int ct_occurs(const char *text, size_t end, const char *what);

#endif
