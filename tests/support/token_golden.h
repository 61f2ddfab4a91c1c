/* token_golden.h - golden files of the tokenizer and chat tests. */
#ifndef KV_TEST_TOKEN_GOLDEN_H
#define KV_TEST_TOKEN_GOLDEN_H

#include "engine/json.h"
#include "engine/tokenizer.h"

/* All of these fail the running cmocka test when something is missing. */

/* tests/golden/<name>; the caller frees with cJSON_Delete. */
cJSON *tg_load(const char *name);
/* The tokenizer of tests/golden/: "smollm2", "bpe-qwen2", ...; the caller closes. */
kv_tokenizer *tg_tokenizer(const char *name);
/* Bytes written in hexadecimal, with a NUL behind them; the caller frees. */
char *tg_unhex(const cJSON *hex, size_t *len);
/* Asserts that got holds exactly the numbers of a JSON array; `what` names the case. */
void tg_assert_ids(const kv_ids *got, const cJSON *want, const char *what);
/* Ids of one text. */
kv_ids tg_encode(const kv_tokenizer *t, const char *text, size_t len, int trusted);

#endif
