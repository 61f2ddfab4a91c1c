/* pretokenize.h - cuts text into the pieces that BPE may not merge across. */
#ifndef KV_PRETOKENIZE_H
#define KV_PRETOKENIZE_H

#include "engine/kv.h"

typedef struct kv_pretok kv_pretok;

/* name as in GGUF tokenizer.ggml.pre, aliases included.  An unknown one is KV_EUNSUPPORTED and lists the known ones.
 * The caller closes.  Read-only afterwards: threads may share it. */
int kv_pretok_open(const char *name, kv_pretok **out, kv_error *err);
void kv_pretok_close(kv_pretok *p);

/* The main name ("llama-bpe") for a name or an alias; NULL when unknown. */
const char *kv_pretok_name(const char *name);

/* The main name for a regular expression as tokenizer.json files carry it in a Split step; NULL when unknown. */
const char *kv_pretok_for_regex(const char *regex);

/* Receives one piece; any result but KV_OK ends the split and is returned. */
typedef int (*kv_piece_fn)(void *ctx, const char *piece, size_t len, kv_error *err);

/* Calls fn for every piece of text[0..n) in order; the pieces cover the text without gaps.  A byte that is not part
 * of well-formed UTF-8 is a piece of its own. */
int kv_pretok_split(const kv_pretok *p, const char *text, size_t n, kv_piece_fn fn, void *ctx, kv_error *err);

#endif
