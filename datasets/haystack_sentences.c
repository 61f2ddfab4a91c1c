/* haystack_sentences.c - where sentences end in a haystack, for needles that must stand between two of them.
 *
 * A word ends a sentence when, without closing quotes and brackets, it ends in . ! or ? and the next word, without
 * opening ones, begins with a capital or a digit.  Titles, common abbreviations and initials do not count.  (The
 * reference asks NLTK's trained splitter; where one of the two sees a border more, only the place of a needle moves by
 * a sentence.) */
#include "datasets/haystack.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

static const char closing[] = "\"')]}_*", opening[] = "\"'([{_*`";

static int is_abbreviation(const char *s, size_t n) {
    static const char *const known[] = {"Mr.",  "Mrs.", "Ms.",   "Dr.", "St.",  "Prof.", "Prop.", "Fig.",
                                        "Exp.", "Obs.", "Sect.", "Qu.", "Def.", "vs.",   "etc.",  "i.e.",
                                        "e.g.", "No.",  "Jr.",   "Sr.", "Vol.", "Ax."};
    if (n == 2 && isupper((unsigned char)s[0])) return 1; /* an initial */
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strlen(known[i]) == n && !memcmp(known[i], s, n)) return 1;
    return 0;
}

static int ends_sentence(const char *word, size_t n, const char *next) {
    while (n && strchr(closing, word[n - 1])) n--;
    if (!n || !strchr(".!?", word[n - 1])) return 0;
    size_t from = strspn(word, opening);
    if (from < n && word[n - 1] == '.' && is_abbreviation(word + from, n - from)) return 0;
    next += strspn(next, opening);
    return isupper((unsigned char)*next) || isdigit((unsigned char)*next);
}

int kv_haystack_sentences(const kv_haystack *h, unsigned char **ends, kv_error *err) {
    *ends = calloc(h->n_words, 1);
    if (!*ends) return kv_fail(err, KV_ENOMEM, "no memory for the sentences of %zu words", h->n_words);
    for (size_t w = 0; w + 1 < h->n_words; w++)
        (*ends)[w] = (unsigned char)ends_sentence(h->text + h->word[w], h->word[w + 1] - 1 - h->word[w],
                                                  h->text + h->word[w + 1]);
    (*ends)[h->n_words - 1] = 1;
    return KV_OK;
}
