/* fuzz_tokenizer_json.c - tokenizer.json files of unknown origin: refused with a reason, or usable. */
#include "engine/tokenizer.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    kv_tokenizer *t;
    kv_error err = {0};
    if (kv_tokenizer_from_json_memory((const char *)data, size, "fuzz", &t, &err)) {
        if (t || !err.text[0]) abort();
        return 0;
    }
    static const char text[] = "ab <x> 12\n\xC3\xA9\xFF<a>";
    kv_ids ids = {0};
    if (kv_tokenize(t, &(kv_text_part){text, sizeof text - 1, 1}, 1, &ids, &err)) abort();
    for (size_t i = 0; i < ids.n; i++)
        if (ids.ids[i] < 0 || (size_t)ids.ids[i] >= kv_tokenizer_n_tokens(t)) abort();
    char *back = kv_detokenize(t, ids.ids, ids.n, 0);
    if (!back) abort();
    free(back);
    kv_ids_free(&ids);
    kv_tokenizer_close(t);
    return 0;
}
