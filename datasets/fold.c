/* fold.c - text normalisation of LongProc's evaluators; see fold.h.
 *
 * Their order is lower, punctuation, words (`\b(a|an|the)\b`), blanks.  A word is a run of word characters after the
 * punctuation has gone: "a-b" is one word, "ab". */
#include "datasets/fold.h"

#include "datasets/unicode.h"

#include <string.h>

const char *const kv_fold_articles[] = {"a", "an", "the", NULL};

static int is_dropped(const kv_fold *f, kv_span run) {
    for (const char *const *w = f->words; *w; w++)
        if (run.n == strlen(*w) && !memcmp(run.s, *w, run.n)) return 1;
    return 0;
}

/* The run of word characters at s, or the one character there. */
static kv_span take_run(const char *s, const char *end, uint32_t *first) {
    const char *after = s;
    *first = kv_utf8_next(&after, end);
    for (const char *next = after; kv_is_word(*first) && next < end; after = next)
        if (!kv_is_word(kv_utf8_next(&next, end))) break;
    return (kv_span){s, (size_t)(after - s)};
}

void kv_fold_text(kv_span in, const kv_fold *f, kv_text *out) {
    kv_text low = {0}, bare = {0};
    size_t begin = out->n;
    int blank = 0;
    kv_unicode_lower(in.s, in.n, &low);
    for (const char *s = low.s; s && s < low.s + low.n;) {
        uint32_t c = kv_utf8_next(&s, low.s + low.n);
        if (!kv_is_punctuation(c) && !(f->drop_quote && c == 0x2019)) kv_utf8_put(&bare, c);
    }
    for (const char *s = bare.s; s && s < bare.s + bare.n;) {
        uint32_t first;
        kv_span run = take_run(s, bare.s + bare.n, &first);
        s += run.n;
        if (kv_is_space(first) || is_dropped(f, run)) {
            blank = 1;
            continue;
        }
        if (blank && f->keep_blanks && out->n > begin) kv_text_puts(out, " ");
        blank = 0;
        kv_text_append(out, run.s, run.n);
    }
    kv_text_append(out, "", 0);
    out->failed |= low.failed | bare.failed;
    kv_text_free(&low);
    kv_text_free(&bare);
}

kv_span kv_unicode_trim(kv_span a) {
    const char *s = a.s, *end = a.s + a.n, *last = a.s;
    while (s < end) {
        const char *next = s;
        if (!kv_is_space(kv_utf8_next(&next, end))) break;
        s = next;
    }
    for (const char *p = last = s; p < end;)
        if (!kv_is_space(kv_utf8_next(&p, end))) last = p;
    return (kv_span){s, (size_t)(last - s)};
}
