/* fuzz_tokenizer.c - any bytes through every split pattern, cut into trusted and untrusted parts anywhere.
 *
 * Byte 0 chooses the vocabulary, byte 1 which parts are trusted, bytes 2 and 3 where the text is cut in three.  The
 * vocabularies have all 256 bytes, so the ids must spell the input; they must not change when the cuts separate only
 * untrusted text; and counting ids before a byte must agree with their lengths. */
#include "engine/tokenizer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static kv_tokenizer *open_vocabulary(int which) {
    static const char *const names[] = {"smollm", "gpt-2", "llama-bpe", "qwen2"};
    static const char *const folders[] = {"tests/golden", "golden"};
    static kv_tokenizer *open[4]; /* for the life of the fuzzer; reachable, so no leak */
    for (int i = 0; i < 2 && !open[which]; i++) {
        char path[64];
        snprintf(path, sizeof path, "%s/bpe-%s.json", folders[i], names[which]);
        kv_tokenizer_from_json(path, &open[which], NULL);
    }
    if (!open[which]) {
        fprintf(stderr, "run this in the project's root or in tests/, where the vocabularies are\n");
        abort();
    }
    return open[which];
}

static void check_bytes(const kv_tokenizer *t, const kv_ids *ids, const char *text, size_t len) {
    size_t at = 0, n;
    for (size_t i = 0; i < ids->n; i++) {
        const char *b = kv_token_bytes(t, ids->ids[i], &n);
        if (n == 0 || n > len - at || memcmp(text + at, b, n) != 0) abort();
        at += n;
    }
    if (at != len) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 4) return 0;
    const kv_tokenizer *t = open_vocabulary(data[0] & 3);
    const char *text = (const char *)data + 4;
    size_t len = size - 4, cut = len * data[2] / 256, more = (len - cut) * data[3] / 256, before, start = 0, want = 0;
    kv_text_part parts[] = {{text, cut, data[1] & 1},
                            {text + cut, more, data[1] >> 1 & 1},
                            {text + cut + more, len - cut - more, data[1] >> 2 & 1}};
    kv_ids ids = {0}, whole = {0};
    if (kv_tokenize_at(t, parts, 3, cut, &before, &ids, NULL)) abort();
    check_bytes(t, &ids, text, len);
    for (size_t i = 0, n; i < ids.n && start < cut; i++, want++) {
        kv_token_bytes(t, ids.ids[i], &n);
        start += n;
    }
    if (want != before) abort();
    if ((data[1] & 7) == 0) {
        if (kv_tokenize(t, &(kv_text_part){text, len, 0}, 1, &whole, NULL)) abort();
        if (whole.n != ids.n || (ids.n && memcmp(whole.ids, ids.ids, ids.n * sizeof *ids.ids) != 0)) abort();
    }
    kv_ids_free(&ids);
    kv_ids_free(&whole);
    return 0;
}
