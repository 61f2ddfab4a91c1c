/* haystack.h - the filler text of needle tasks: every *.txt of a folder, in file-name order, as words. */
#ifndef KV_HAYSTACK_H
#define KV_HAYSTACK_H

#include "engine/kv.h"

typedef struct kv_haystack {
    char *text;   /* all words, one blank between them, NUL-terminated; owned */
    size_t *word; /* (n_words + 1) byte offset of each word in text; the last is strlen(text) + 1; owned */
    size_t n_words;
} kv_haystack;

/* Words are split at ASCII white space; the end of a file ends a word.  Fails when the folder is missing, holds no
 * .txt file, a file has a zero byte, or there is no word at all.  Free with kv_haystack_close, also after a failure. */
int kv_haystack_open(const char *folder, kv_haystack *out, kv_error *err);
/* The same; folder NULL = the public-domain text under root, the datasets folder. */
int kv_haystack_open_or_own(const char *folder, const char *root, kv_haystack *out, kv_error *err);
void kv_haystack_close(kv_haystack *h);

/* Marks the words that end a sentence: *ends (n_words) is malloc'd, 1 = a sentence ends behind this word.  The last
 * word always does. */
int kv_haystack_sentences(const kv_haystack *h, unsigned char **ends, kv_error *err);

#endif
