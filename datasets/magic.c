/* magic.c - the keys and values of RULER's needles; see magic.h. */
#include "datasets/magic.h"

#include <string.h>

const char kv_noise_line[] =
    "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again.";

static const char *const names[] = {[KV_NUMBERS] = "numbers", [KV_MAGIC_WORDS] = "words", [KV_UUIDS] = "uuids"};

const char *kv_magic_name(kv_magic kind) {
    return names[kind];
}

int kv_magic_find(const char *name, kv_magic *out) {
    for (int k = KV_NUMBERS; k <= KV_UUIDS; k++)
        if (!strcmp(names[k], name)) {
            *out = (kv_magic)k;
            return 1;
        }
    return 0;
}

static void draw_uuid(kv_rng *rng, kv_text *out) {
    uint64_t a = kv_rng_next(rng), b = kv_rng_next(rng);
    a = (a & ~0xf000ull) | 0x4000; /* version 4 */
    b = (b >> 2) | 1ull << 63;     /* variant 10 */
    kv_text_printf(out, "%08x-%04x-%04x-%04x-%012llx", (unsigned)(a >> 32), (unsigned)(a >> 16 & 0xffff),
                   (unsigned)(a & 0xffff), (unsigned)(b >> 48), (unsigned long long)(b & 0xffffffffffffull));
}

void kv_magic_draw(kv_magic kind, const kv_words *words, kv_rng *rng, kv_text *out) {
    if (kind == KV_NUMBERS)
        kv_text_printf(out, "%u", 1000000 + (unsigned)kv_rng_below(rng, 9000000));
    else if (kind == KV_UUIDS)
        draw_uuid(rng, out);
    else
        kv_words_put_pair(words, (size_t)kv_rng_below(rng, kv_words_n_pairs(words)), out);
}
