/* prompt_text.h - the chat template that the options choose, and the prompt of `generate` and `tokenize`. */
#ifndef KV_PROMPT_TEXT_H
#define KV_PROMPT_TEXT_H

#include "bench/options.h"
#include "engine/chat.h"

/* Whole file, or standard input for "-"; NUL-terminated and malloc'd.  A zero byte inside is KV_EFORMAT. */
int kv_prompt_read(const char *path, char **out, kv_error *err);

/* The chat template for --chat, --raw, --thinking and --double-bos: NULL = none.  own: that of the model's file, or
 * NULL when it is unknown, which is KV_EARG when it is wanted.  fallback_own: without --chat and --raw it is. */
int kv_prompt_chat(const kv_opts *o, const kv_chat *own, int fallback_own, const kv_chat **out, kv_error *err);

/* Ids of one user turn (chat) or of the text alone (chat NULL; special tokens in it are recognised, BOS is added when
 * the model wants one).  *n_context receives the ids that start before byte question_at. */
int kv_prompt_ids(const kv_chat *chat, const kv_tokenizer *t, const char *system, const char *text, size_t question_at,
                  kv_ids *out, size_t *n_context, kv_error *err);

#endif
