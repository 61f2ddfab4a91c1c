/* stop_text.c - looks only at the tail that a new token can complete, so that the check costs the same at any length.
 */
#include "bench/stop_text.h"

#include <string.h>

enum { MAX_STOP = 256, MAX_TAIL = 1024 };

int kv_stop_reached(const kv_tokenizer *t, const char *const *stop, const int32_t *tokens, int n) {
    char tail[MAX_TAIL + 1];
    size_t at = MAX_TAIL, len, last = 0;
    if (!stop[0] || n == 0) return 0;
    tail[MAX_TAIL] = 0;
    for (int i = n - 1; i >= 0 && MAX_TAIL - at < last + MAX_STOP; i--) {
        const char *bytes = kv_token_bytes(t, tokens[i], &len);
        if (i == n - 1) last = len;
        if (len > at) {
            bytes += len - at;
            len = at;
        }
        at -= len;
        memcpy(tail + at, bytes, len);
    }
    for (int s = 0; stop[s]; s++) {
        size_t n_stop = strlen(stop[s]), have = MAX_TAIL - at;
        if (n_stop == 0 || n_stop > MAX_STOP || n_stop > have) continue;
        size_t from = have > n_stop - 1 + last ? have - (n_stop - 1 + last) : 0;
        if (memmem(tail + at + from, have - from, stop[s], n_stop)) return 1;
    }
    return 0;
}

void kv_stop_cut(char *text, const char *const *stop) {
    for (int s = 0; stop[s]; s++) {
        char *found = stop[s][0] ? strstr(text, stop[s]) : NULL;
        if (found) *found = 0;
    }
}
