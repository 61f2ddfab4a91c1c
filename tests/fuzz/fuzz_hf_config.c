/* fuzz_hf_config.c - any bytes as config.json and as an index of shards: refused with a reason, or sizes and angles
 * that a model can be built with. */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "engine/hf_config.h"
#include "engine/hf_weights.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_config(const char *text, size_t n, int max_ctx) {
    kv_model_config c;
    kv_error err = {0};
    float inv[KV_ROPE_HALF_MOST];
    if (kv_hf_config_parse(text, n, "fuzz", max_ctx, &c, &err)) {
        if (!err.text[0]) abort();
        return;
    }
    if (kv_model_config_check(&c, "fuzz", &err) || (max_ctx && c.n_ctx > max_ctx)) abort();
    float scale = kv_rope_frequencies(&c.rope, c.shape.head_dim, c.n_ctx, inv);
    if (!(scale > 0 && isfinite(scale))) abort();
    for (int i = 0; i < c.shape.head_dim / 2; i++)
        if (!(inv[i] >= 0 && isfinite(inv[i]))) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const char *text = (const char *)data;
    kv_hf_index x;
    kv_error err = {0};
    check_config(text, size, 0);
    check_config(text, size, 64);
    if (kv_hf_index_parse(text, size, "fuzz", &x, &err) == KV_OK) {
        if (x.n_files < 1) abort();
        for (size_t i = 0; i < x.n_files; i++)
            if (strchr(x.files[i], '/') || (i && strcmp(x.files[i - 1], x.files[i]) >= 0)) abort();
        kv_hf_index_free(&x);
    }
    return 0;
}
