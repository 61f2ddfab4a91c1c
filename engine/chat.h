/* chat.h - chat templates as data, rendered in C. */
#ifndef KV_CHAT_H
#define KV_CHAT_H

#include "engine/tokenizer.h"

typedef struct kv_chat kv_chat; /* one family; static storage */

/* "smollm2", "qwen3", "qwen3-nothink", "qwen3-instruct" and "qwen3-thinking" (2507), "qwen2.5", "qwen2.5-math",
 * "llama-3", "llama-3.1" (also 3.2, 3.3), "deepseek-r1", "deepseek-r1-plain" (without the opening <think>), "phi-3"
 * (BOS as the tokenizer says), "phi-3-bos" (the older files), "none"; families that start with BOS have a
 * "...-double-bos", too.  NULL when unknown. */
const kv_chat *kv_chat_find(const char *name);
const kv_chat *const *kv_chat_all(int *n);

/* Recognises a family from the text of a Jinja template (GGUF tokenizer.chat_template, chat_template.jinja or
 * tokenizer_config.json) and the special tokens that the tokenizer has; NULL when unknown.  jinja NULL: the model has
 * no template, which is "none". */
const kv_chat *kv_chat_detect(const char *jinja, size_t len, const kv_tokenizer *t);

/* The family with thinking on or off, which is c itself where it is so anyway; NULL when c cannot. */
const kv_chat *kv_chat_with_thinking(const kv_chat *c, int on);

/* The family with a second BOS, as harnesses get it that tokenise a rendered template with special tokens added; c
 * itself when its text starts with none. */
const kv_chat *kv_chat_with_double_bos(const kv_chat *c);

const char *kv_chat_name(const kv_chat *c);
/* sha256 (hex) of the rendered template with fixed marker texts: the identity stored with results. */
void kv_chat_hash(const kv_chat *c, char hex[65]);

/* Renders one user turn, ready to generate.  system NULL = the family's default.  question_at: byte offset in user
 * where the question starts (strlen(user) when there is no split).  Appends ids to out, BOS as the table says, once;
 * *n_context (may be NULL) receives how many ids start before question_at.  The ids do not depend on question_at.
 * KV_EARG: the tokenizer lacks a special token of the family, the family has no place for the system message, or
 * question_at lies behind the text.  On an error out is as it was. */
int kv_chat_render(const kv_chat *c, const kv_tokenizer *t, const char *system, const char *user, size_t question_at,
                   kv_ids *out, size_t *n_context, kv_error *err);

/* The same with the start of the assistant's turn, which the model is to continue. */
int kv_chat_render_answer(const kv_chat *c, const kv_tokenizer *t, const char *system, const char *user,
                          size_t question_at, const char *answer, kv_ids *out, size_t *n_context, kv_error *err);

/* Stop ids of the family present in the tokenizer (4 at most; "none" has none); returns the count (at most max). */
int kv_chat_stop_ids(const kv_chat *c, const kv_tokenizer *t, int32_t *ids, int max);

#endif
