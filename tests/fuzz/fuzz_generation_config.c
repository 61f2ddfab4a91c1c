/* fuzz_generation_config.c - generation_config.json of unknown origin: refused with a reason, or usable numbers. */
#include "engine/generation.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int is_share(float x) {
    return x == -1 || (x >= 0 && x <= 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    kv_generation g = kv_generation_none();
    kv_error err = {0};
    if (kv_generation_parse((const char *)data, size, "fuzz", &g, &err)) {
        if (!err.text[0]) abort();
        return 0;
    }
    if (!(g.temperature == -1 || (g.temperature >= 0 && g.temperature <= 100))) abort();
    if (!is_share(g.top_p) || !is_share(g.min_p) || g.top_k < -1 || g.n_eos < 0 || g.n_eos > KV_MAX_EOS) abort();
    for (int i = 0; i < g.n_eos; i++)
        if (g.eos[i] < 0) abort();
    return 0;
}
