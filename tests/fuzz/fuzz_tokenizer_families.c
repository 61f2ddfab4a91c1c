/* fuzz_tokenizer_families.c - any bytes through the pipelines that change text: NFC, byte fallback, blanks in front,
 * special tokens that take blanks.
 *
 * Byte 0 chooses the vocabulary, byte 1 which parts are trusted, bytes 2 and 3 where the text is cut in three.  Cuts
 * between untrusted parts must not change the ids; ids of untrusted text must spell it, U+2581 as a blank; and what
 * NFC made of it is NFC, so encoding the decoded text gives the same ids. */
#include "engine/tokenizer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { QWEN3, PHI_3, FIRST, METASPACE, N_FAMILIES };

static kv_tokenizer *open_family(int which) {
    static const char *const names[] = {"qwen3", "phi-3", "phi-3-first", "metaspace"};
    static const char *const folders[] = {"tests/golden", "golden"};
    static kv_tokenizer *open[N_FAMILIES]; /* for the life of the fuzzer; reachable, so no leak */
    for (int i = 0; i < 2 && !open[which]; i++) {
        char path[64];
        snprintf(path, sizeof path, "%s/family-%s.json", folders[i], names[which]);
        kv_tokenizer_from_json(path, &open[which], NULL);
    }
    if (!open[which]) {
        fprintf(stderr, "run this in the project's root or in tests/, where the vocabularies are\n");
        abort();
    }
    return open[which];
}

static kv_ids encode(const kv_tokenizer *t, const char *text, size_t len) {
    kv_ids ids = {0};
    if (kv_tokenize(t, &(kv_text_part){text, len, 0}, 1, &ids, NULL)) abort();
    return ids;
}

static void check_same(const kv_ids *a, const kv_ids *b) {
    if (a->n != b->n || (a->n && memcmp(a->ids, b->ids, a->n * sizeof *a->ids) != 0)) abort();
}

/* Decoded text with its length: it may hold NUL. */
static char *decode(const kv_tokenizer *t, const kv_ids *ids, size_t *len) {
    size_t total = 0, n;
    int first = 1;
    for (size_t i = 0; i < ids->n; i++) {
        kv_token_bytes(t, ids->ids[i], &n);
        total += n;
    }
    char *out = malloc(total + 1);
    if (!out) abort();
    *len = 0;
    for (size_t i = 0; i < ids->n; i++) {
        const char *b = kv_token_shown(t, ids->ids[i], 1, &first, &n);
        memcpy(out + *len, b, n);
        *len += n;
    }
    return out;
}

/* Prepend's blank is the one that decoding takes away, so the text is there as it came. */
static void check_spelling(const kv_tokenizer *t, const kv_ids *ids, const char *text, size_t len) {
    size_t n, at = 0;
    char *out = decode(t, ids, &n);
    for (size_t i = 0; i < len; i++, at++) {
        int blank = len - i >= 3 && memcmp(text + i, "\xE2\x96\x81", 3) == 0;
        if (at >= n || out[at] != (blank ? ' ' : text[i])) abort();
        if (blank) i += 2;
    }
    if (at != n) abort();
    free(out);
}

static void check_nfc(const kv_tokenizer *t, const kv_ids *ids) {
    size_t n;
    char *out = decode(t, ids, &n);
    kv_ids again = encode(t, out, n);
    check_same(ids, &again);
    kv_ids_free(&again);
    free(out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 4) return 0;
    int which = data[0] % N_FAMILIES;
    const kv_tokenizer *t = open_family(which);
    const char *text = (const char *)data + 4;
    size_t len = size - 4, cut = len * data[2] / 256, more = (len - cut) * data[3] / 256, before;
    kv_text_part parts[] = {{text, cut, data[1] & 1},
                            {text + cut, more, data[1] >> 1 & 1},
                            {text + cut + more, len - cut - more, data[1] >> 2 & 1}};
    kv_ids ids = {0}, whole = encode(t, text, len);
    if (kv_tokenize_at(t, parts, 3, cut, &before, &ids, NULL)) abort();
    if (before > ids.n || (cut == 0 && before)) abort();
    for (size_t i = 0; i < ids.n; i++)
        if (ids.ids[i] < 0 || (size_t)ids.ids[i] >= kv_tokenizer_n_tokens(t)) abort();
    if ((data[1] & 7) == 0) check_same(&ids, &whole);
    if (which == PHI_3) check_spelling(t, &whole, text, len);
    if (which == QWEN3) check_nfc(t, &whole);
    kv_ids_free(&ids);
    kv_ids_free(&whole);
    return 0;
}
