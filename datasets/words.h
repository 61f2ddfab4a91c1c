/* words.h - the English words of the generators: data/words/{nouns,adjectives,verbs}.txt, one a line, sorted. */
#ifndef KV_WORDS_H
#define KV_WORDS_H

#include "datasets/rng.h"
#include "datasets/text.h"

typedef struct kv_word_list {
    char *text;  /* the file, its line ends turned into NULs; owned */
    char **word; /* (n) */
    size_t n;
} kv_word_list;

typedef struct kv_words {
    kv_word_list nouns, adjectives, verbs;
    const char **all; /* (n_all) every word once, sorted; owned, the words belong to the lists */
    size_t n_all;
    char sha256[65]; /* of the three files */
} kv_words;

/* root: the datasets folder.  A list that is missing, empty or has an empty line or a zero byte is an error.  Free with
 * kv_words_close, also after a failure. */
int kv_words_open(const char *root, kv_words *out, kv_error *err);
void kv_words_close(kv_words *w);

/* "adjective-noun" number i of all kv_words_n_pairs. */
size_t kv_words_n_pairs(const kv_words *w);
void kv_words_put_pair(const kv_words *w, size_t i, kv_text *out);

#endif
