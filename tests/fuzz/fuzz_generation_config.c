/* fuzz_generation_config.c - generation_config.json of unknown origin: refused with a reason, or a usable sampling. */
#include "engine/generation_config.h"

#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    kv_generation_config c;
    kv_error err = {0};
    if (kv_generation_config_parse((const char *)data, size, "fuzz", &c, &err)) {
        if (!err.text[0]) abort();
        return 0;
    }
    kv_sampling s = kv_generation_config_sampling(&c);
    if (!(s.temperature >= 0 && s.temperature <= 100 && s.top_p >= 0 && s.top_p <= 1)) abort();
    if (!(s.min_p >= 0 && s.min_p <= 1) || s.top_k < 0) abort();
    return 0;
}
