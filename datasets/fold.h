/* fold.h - the text normalisation of LongProc's evaluators: lower case, ASCII punctuation gone, some words gone, blanks
 * made one or none. */
#ifndef KV_FOLD_H
#define KV_FOLD_H

#include "datasets/graders.h"
#include "datasets/text.h"

typedef struct kv_fold {
    const char *const *words; /* NULL-terminated: whole words that leave a blank */
    int drop_quote;           /* the right single quotation mark goes like punctuation */
    int keep_blanks;          /* one between two pieces; else none at all */
} kv_fold;

/* The articles a, an, the. */
extern const char *const kv_fold_articles[];

void kv_fold_text(kv_span in, const kv_fold *f, kv_text *out);
/* Without white space (str.isspace) at both ends. */
kv_span kv_unicode_trim(kv_span a);

#endif
