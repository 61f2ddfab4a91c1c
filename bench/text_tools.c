/* text_tools.c - counts and cuts prompts the way a Hugging Face tokenizer would: special tokens in the text are
 * recognised, BOS counts, and neither is written back. */
#include "bench/text_tools.h"

#include <stdlib.h>
#include <string.h>

#include "bench/prompt_text.h"

static void append(const kv_tokenizer *t, const int32_t *ids, size_t n, kv_text *out) {
    char *s = kv_detokenize(t, ids, n, 1);
    if (s)
        kv_text_puts(out, s);
    else
        out->failed = 1;
    free(s);
}

static int keep_ends(void *user, const char *text, size_t n_first, size_t n_last, size_t *n, kv_text *first,
                     kv_text *last, kv_error *err) {
    const kv_identity *id = user;
    kv_ids ids = {0};
    size_t n_context;
    int rc = kv_prompt_ids(NULL, id->tokenizer, NULL, text, strlen(text), &ids, &n_context, err);
    *n = ids.n;
    if (!rc && ids.n > n_first + n_last) {
        append(id->tokenizer, ids.ids, n_first, first);
        append(id->tokenizer, ids.ids + ids.n - n_last, n_last, last);
    }
    kv_ids_free(&ids);
    return rc;
}

kv_text_tools kv_text_tools_of(const kv_identity *id) {
    return (kv_text_tools){.user = (void *)id, .n_ctx = id->n_ctx, .keep_ends = keep_ends};
}
