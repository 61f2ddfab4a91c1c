/* tokenizer.h - byte-level BPE with the split patterns of smollm, gpt-2, llama-3 and qwen2.
 *
 * Text is UTF-8; invalid bytes are handled as bytes (never an error, never a crash). */
#ifndef KV_TOKENIZER_H
#define KV_TOKENIZER_H

#include "engine/kv.h"

typedef struct kv_tokenizer kv_tokenizer;

/* What a token is.  Control and user-defined ones are matched whole, in trusted text only; user-defined ones (<think>
 * of Qwen3) are part of what a model says, so skip_special leaves them in. */
enum { KV_TOKEN_NORMAL = 0, KV_TOKEN_CONTROL = 1, KV_TOKEN_USER = 2 };

/* A vocabulary as GGUF and tokenizer.json both give it; all pointers are borrowed during the call only. */
typedef struct kv_vocab {
    size_t n_tokens;
    const char *(*token)(void *ctx, size_t id, size_t *len); /* in the GPT-2 byte alphabet (space = U+0120); specials
                                                              * as plain text; NULL: the id is not in use */
    int (*is_special)(void *ctx, size_t id);                 /* KV_TOKEN_* */
    size_t n_merges;
    const char *(*merge)(void *ctx, size_t i, size_t *len); /* "left right" */
    void *ctx;
    const char *pre;   /* "smollm", "gpt-2", "llama-bpe", "qwen2" */
    int ignore_merges; /* llama-3: a pre-token that is a token is taken whole */
    int64_t bos, eos;  /* -1 when there is none */
    int add_bos;
} kv_vocab;

/* Copies what it needs.  Unknown `pre` is KV_EUNSUPPORTED and lists the known ones; a merge whose parts or result
 * are no tokens is KV_EFORMAT. */
int kv_tokenizer_open(const kv_vocab *v, kv_tokenizer **out, kv_error *err);
void kv_tokenizer_close(kv_tokenizer *t);

/* From a GGUF's metadata (tokenizer.ggml.*), or from a Hugging Face tokenizer.json.  What a file asks for beyond
 * byte-level BPE (SentencePiece, byte fallback, lower-casing ...) is KV_EUNSUPPORTED and named.  One exception: the
 * NFC step of the Qwen files is not applied, text is taken as it comes.  A tokenizer.json says nothing about eos. */
struct kv_gguf;
int kv_tokenizer_from_gguf(const struct kv_gguf *g, kv_tokenizer **out, kv_error *err);
int kv_tokenizer_from_json(const char *path, kv_tokenizer **out, kv_error *err);
/* The same from the text of the file; `name` is used in errors. */
int kv_tokenizer_from_json_memory(const char *json, size_t len, const char *name, kv_tokenizer **out, kv_error *err);

size_t kv_tokenizer_n_tokens(const kv_tokenizer *t);
int64_t kv_tokenizer_bos(const kv_tokenizer *t);
int64_t kv_tokenizer_eos(const kv_tokenizer *t);
int kv_tokenizer_add_bos(const kv_tokenizer *t);
/* Id of a special token given by its text, -1 when absent. */
int64_t kv_tokenizer_special(const kv_tokenizer *t, const char *text);

/* One piece of a prompt.  trusted: special tokens inside it are parsed; otherwise they stay plain text. */
typedef struct kv_text_part {
    const char *text;
    size_t len;
    int trusted;
} kv_text_part;

typedef struct kv_ids {
    int32_t *ids;
    size_t n, cap;
} kv_ids;
void kv_ids_free(kv_ids *v);

/* Appends the ids of the concatenated parts to out.  Plain text on both sides of a part border is joined before
 * splitting and BPE; only the search for special tokens respects the border.  No BOS is added.
 * A byte for which the vocabulary has no token is dropped, as Hugging Face does (SmolLM2 lacks 21 of the 256, none of
 * which occurs in assigned characters but a few control codes).  On an error out is as it was. */
int kv_tokenize(const kv_tokenizer *t, const kv_text_part *parts, size_t n_parts, kv_ids *out, kv_error *err);

/* The same ids; *n_before receives how many of those appended start before byte `at` of the concatenated parts. */
int kv_tokenize_at(const kv_tokenizer *t, const kv_text_part *parts, size_t n_parts, size_t at, size_t *n_before,
                   kv_ids *out, kv_error *err);

/* Bytes of one token (special tokens: their text); *len receives the length.  Owned by the tokenizer.  An id outside
 * the vocabulary has no bytes: "" and 0. */
const char *kv_token_bytes(const kv_tokenizer *t, int32_t id, size_t *len);

/* Concatenated bytes of n ids, NUL-terminated, malloc'd (NULL: no memory); control tokens are left out when
 * skip_special. */
char *kv_detokenize(const kv_tokenizer *t, const int32_t *ids, size_t n, int skip_special);

#endif
