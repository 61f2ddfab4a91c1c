/* text_tools.h - what a task may ask of the model's tokenizer, as callbacks: datasets know no tokenizer. */
#ifndef KV_TEXT_TOOLS_H
#define KV_TEXT_TOOLS_H

#include "datasets/text.h"

typedef struct kv_text_tools {
    void *user;
    int n_ctx; /* tokens the model takes, prompt and answer together */
    /* *n = tokens of the text alone, BOS among them where the model wants one.  When there are more than
     * n_first + n_last, appends the text of the first n_first and of the last n_last, without special tokens. */
    int (*keep_ends)(void *user, const char *text, size_t n_first, size_t n_last, size_t *n, kv_text *first,
                     kv_text *last, kv_error *err);
} kv_text_tools;

/* Cuts the middle out of *text (malloc'd, replaced when cut) when it has more than `limit` tokens: the first and the
 * last limit / 2 stay.  *mark, a byte offset, moves with the text behind it; inside the part cut it becomes the place
 * of the cut.  A character split by the cut becomes U+FFFD, as in Python's decoding. */
int kv_cut_middle(const kv_text_tools *t, size_t limit, char **text, size_t *mark, kv_error *err);

#endif
