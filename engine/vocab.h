/* vocab.h - tokens by id and by their bytes, special tokens by their text: the table under a tokenizer. */
#ifndef KV_VOCAB_H
#define KV_VOCAB_H

#include "engine/tokenizer.h"

/* Kinds beside KV_TOKEN_*: an ordinary token that text never becomes, and one that stands for a single byte where no
 * token has the character (byte fallback). */
enum { TOKEN_RAW = 3, TOKEN_BYTE = 4, TOKEN_KIND = 7 };

typedef struct kv_token_table {
    size_t n;
    char *bytes;    /* all tokens, one after another */
    size_t *offset; /* n + 1 */
    uint8_t *kind;  /* n: kind, and for special tokens KV_TOKEN_LSTRIP, KV_TOKEN_RSTRIP */
    int32_t *slots; /* open addressing from bytes to id, -1 empty; 1 << bits entries */
    int bits;
    int32_t *special; /* ids of special tokens, longest first */
    size_t n_special;
    uint8_t special_first[256]; /* whether a special token starts with this byte */
    int32_t byte_id[256];       /* the token of a single byte, -1: none */
} kv_token_table;

/* Copies and decodes v's tokens.  The caller closes, also after an error; a zeroed table is closed too. */
int kv_token_table_open(kv_token_table *t, const kv_vocab *v, kv_error *err);
void kv_token_table_close(kv_token_table *t);

const char *kv_token_at(const kv_token_table *t, size_t id, size_t *len);
/* Id of the token with these bytes, -1 when there is none. */
int32_t kv_token_find(const kv_token_table *t, const char *s, size_t len);
/* The same, but only a token that text may become. */
int32_t kv_token_find_plain(const kv_token_table *t, const char *s, size_t len);
/* The longest special token that s[0..n) starts with, -1 when there is none; n > 0. */
int32_t kv_token_match_special(const kv_token_table *t, const char *s, size_t n);

/* Decodes a token as the vocabulary spells it into dst (room for len bytes); returns the length, -1 when it is not
 * written that way. */
long kv_token_decode(kv_spelling spelling, const char *s, size_t len, char *dst);

#endif
