/* tokenizer.h - BPE over bytes (smollm, gpt-2, llama-3, qwen2) and over characters with byte fallback (Llama 2, Phi-3).
 *
 * Text is UTF-8; invalid bytes are handled as bytes (never an error, never a crash). */
#ifndef KV_TOKENIZER_H
#define KV_TOKENIZER_H

#include "engine/kv.h"

typedef struct kv_tokenizer kv_tokenizer;

/* What a token is.  Control and user-defined ones are matched whole, in trusted text only; user-defined ones (<think>
 * of Qwen3) are part of what a model says, so skip_special leaves them in.  Both may swallow the white space in front
 * of them (LSTRIP) or behind them (RSTRIP: <|user|> of Phi-3), also that of untrusted text. */
enum { KV_TOKEN_NORMAL = 0, KV_TOKEN_CONTROL = 1, KV_TOKEN_USER = 2, KV_TOKEN_LSTRIP = 8, KV_TOKEN_RSTRIP = 16 };

/* How a vocabulary writes tokens: in GPT-2's byte alphabet (blank = U+0120), or as characters with U+2581 for a
 * blank. */
typedef enum kv_spelling { KV_SPELL_BYTES, KV_SPELL_CHARS } kv_spelling;

/* Where a blank is put in front: nowhere; before every run of plain text (normalizer Prepend); before every run that
 * does not start with one (Metaspace, always); before the whole text, unless it starts with one (Metaspace, first). */
typedef enum kv_lead { KV_LEAD_NONE, KV_LEAD_RUN, KV_LEAD_BLANKLESS_RUN, KV_LEAD_TEXT } kv_lead;

/* What happens to plain text before it is split. */
typedef struct kv_normal {
    int nfc;       /* Unicode normalisation form C */
    int metaspace; /* U+2581 in the text is a blank */
    kv_lead lead;
} kv_normal;

/* A vocabulary as GGUF and tokenizer.json both give it; all pointers are borrowed during the call only. */
typedef struct kv_vocab {
    size_t n_tokens;
    const char *(*token)(void *ctx, size_t id, size_t *len); /* as `spelling` says; specials as plain text; NULL: the
                                                              * id is not in use */
    int (*is_special)(void *ctx, size_t id);                 /* KV_TOKEN_* */
    size_t n_merges;
    const char *(*merge)(void *ctx, size_t i, size_t *len); /* "left right" */
    void *ctx;
    const char *pre;   /* "smollm", "gpt-2", "llama-bpe", "qwen2", "metaspace"; "none": one piece */
    int ignore_merges; /* llama-3: a pre-token that is a token is taken whole */
    kv_spelling spelling;
    kv_normal normal;
    int byte_fallback; /* a character without a token becomes tokens "<0x0A>", one a byte */
    int64_t unk;       /* the token of a character that has none, -1: it is dropped */
    int fuse_unk;      /* one unk for a run of them */
    int strip_first;   /* decoded text loses one blank at its start */
    int64_t bos, eos;  /* -1 when there is none */
    int add_bos;
} kv_vocab;

/* Copies what it needs.  Unknown `pre` is KV_EUNSUPPORTED and lists the known ones; a merge whose parts or result
 * are no tokens is KV_EFORMAT. */
int kv_tokenizer_open(const kv_vocab *v, kv_tokenizer **out, kv_error *err);
void kv_tokenizer_close(kv_tokenizer *t);

/* From a GGUF's metadata (tokenizer.ggml.*; byte-level only; qwen2 with NFC, as its authors have it), or from a Hugging
 * Face tokenizer.json.  What a file asks for beyond this (Unigram, WordPiece, lower-casing, single_word ...) is
 * KV_EUNSUPPORTED and named.  A tokenizer.json says nothing about eos. */
struct kv_gguf;
int kv_tokenizer_from_gguf(const struct kv_gguf *g, kv_tokenizer **out, kv_error *err);
int kv_tokenizer_from_json(const char *path, kv_tokenizer **out, kv_error *err);
/* The same from the text of the file; `name` is used in errors. */
int kv_tokenizer_from_json_memory(const char *json, size_t len, const char *name, kv_tokenizer **out, kv_error *err);
/* From a checkpoint's folder: tokenizer.json, with bos, eos and add_bos from tokenizer_config.json where it has them.
 */
int kv_tokenizer_from_dir(const char *dir, kv_tokenizer **out, kv_error *err);

size_t kv_tokenizer_n_tokens(const kv_tokenizer *t);
int64_t kv_tokenizer_bos(const kv_tokenizer *t);
int64_t kv_tokenizer_eos(const kv_tokenizer *t);
int kv_tokenizer_add_bos(const kv_tokenizer *t);
/* Replaces them; ids of the vocabulary or -1. */
void kv_tokenizer_set_ends(kv_tokenizer *t, int64_t bos, int64_t eos, int add_bos);
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

/* Appends BOS where the tokenizer adds it to a text; KV_EFORMAT when it does and has none. */
int kv_tokenizer_push_bos(const kv_tokenizer *t, kv_ids *out, kv_error *err);

/* Appends the ids of the concatenated parts to out.  Plain text on both sides of a part border is joined before
 * normalisation, splitting and BPE; only the search for special tokens respects the border.  No BOS is added.
 * A byte for which the vocabulary has no token is dropped, as Hugging Face does (SmolLM2 lacks 21 of the 256, none of
 * which occurs in assigned characters but a few control codes).  On an error out is as it was. */
int kv_tokenize(const kv_tokenizer *t, const kv_text_part *parts, size_t n_parts, kv_ids *out, kv_error *err);

/* The same ids; *n_before receives how many of those appended start before byte `at` of the concatenated parts.  Where
 * normalisation changes text, `at` lies behind as many bytes as the text before it has when normalised alone. */
int kv_tokenize_at(const kv_tokenizer *t, const kv_text_part *parts, size_t n_parts, size_t at, size_t *n_before,
                   kv_ids *out, kv_error *err);

/* Bytes of one token (special tokens: their text; of a byte token: the byte); *len receives the length.  Owned by the
 * tokenizer.  An id outside the vocabulary has no bytes: "" and 0. */
const char *kv_token_bytes(const kv_tokenizer *t, int32_t id, size_t *len);

/* The bytes that an id adds to decoded text: none for a control token when skip_special.  *first: 1 before the first
 * token that has a text, which clears it. */
const char *kv_token_shown(const kv_tokenizer *t, int32_t id, int skip_special, int *first, size_t *len);

/* Concatenated bytes of n ids, NUL-terminated, malloc'd (NULL: no memory); control tokens are left out when
 * skip_special.  Vocabularies that put a blank in front of text lose one here, as in Hugging Face's decoder. */
char *kv_detokenize(const kv_tokenizer *t, const int32_t *ids, size_t n, int skip_special);

#endif
