/* safetensors_writer.c - see safetensors_writer.h. */
#include "tests/support/safetensors_writer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/quantize.h"

struct sw_writer {
    char *header;
    unsigned char *data;
    size_t n_header, n_data;
    int failed;
};

sw_writer *sw_new(void) {
    return calloc(1, sizeof(sw_writer));
}

void sw_free(sw_writer *w) {
    if (!w) return;
    free(w->header);
    free(w->data);
    free(w);
}

static void add_text(sw_writer *w, const char *text) {
    size_t n = strlen(text);
    char *p = w->failed ? NULL : realloc(w->header, w->n_header + n + 1);
    w->failed |= !p;
    if (!p) return;
    memcpy(p + w->n_header, text, n + 1);
    w->header = p;
    w->n_header += n;
}

void sw_tensor(sw_writer *w, const char *name, kv_dtype type, int n_dims, const int64_t *dims, const float *values) {
    char text[256];
    size_t n = 1;
    snprintf(text, sizeof text, "%s\"%.120s\":{\"dtype\":\"%s\",\"shape\":[", w->n_header ? "," : "{", name,
             kv_dtype_name(type));
    add_text(w, text);
    for (int i = 0; i < n_dims; i++) {
        n *= (size_t)dims[i];
        snprintf(text, sizeof text, "%s%lld", i ? "," : "", (long long)dims[i]);
        add_text(w, text);
    }
    size_t bytes = kv_dtype_bytes(type, n);
    snprintf(text, sizeof text, "],\"data_offsets\":[%zu,%zu]}", w->n_data, w->n_data + bytes);
    add_text(w, text);
    unsigned char *p = w->failed ? NULL : realloc(w->data, w->n_data + bytes + 1);
    w->failed |= !p;
    if (!p) return;
    tq_quantize(type, values, p + w->n_data, n);
    w->data = p;
    w->n_data += bytes;
}

int sw_write(const sw_writer *w, const char *path) {
    if (w->failed) return -1;
    const char *header = w->n_header ? w->header : "{", *end = "}";
    uint64_t n = strlen(header) + 1;
    FILE *f = fopen(path, "wb");
    if (!f) return -1;
    int ok = fwrite(&n, sizeof n, 1, f) == 1 && fputs(header, f) >= 0 && fputs(end, f) >= 0 &&
             fwrite(w->data, 1, w->n_data, f) == w->n_data;
    if (fclose(f) != 0) ok = 0;
    return ok ? 0 : -1;
}
