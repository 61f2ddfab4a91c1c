/* synth.c - the shapes of synthetic models and their weights on the host.
 *
 * Shapes are those of config.json in the named Hugging Face repositories; R1-Distill-Llama-8B has the shape of
 * Llama-3.1-8B.  Three things differ on purpose:
 *   context: 262,144 everywhere, while the published ones end at 4,096 (Phi-3-mini) to 131,072 (Llama), because decode
 *     is timed at long contexts too and random weights have no range in which they were trained;
 *   rotary scaling: Llama's stretches some angles, which changes no shape and no time;
 *   sliding window: Phi-3-mini's of 2,047 tokens is left out; here a policy decides what leaves the cache. */
#include "engine/synth.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "engine/synth_value.h"

enum { LONG = 262144 };

/* Columns as in the struct: {layers, heads, KV heads, head size, dim}, ff, vocabulary, context, tied, q/k norm, rope
 * base, eps, gate width. */
/* clang-format off */
static const kv_synth_shape shapes[] = {
    {"tiny", NULL, "llama",
     {4, 4, 2, 64, 256}, 512, 1000, 131072, 0, 0, 1e4f, 1e-5f, 64},
    {"smollm2-135m", "HuggingFaceTB/SmolLM2-135M-Instruct", "llama",
     {30, 9, 3, 64, 576}, 1536, 49152, LONG, 1, 0, 1e5f, 1e-5f, 128},
    {"qwen3-1.7b", "Qwen/Qwen3-1.7B", "qwen3",
     {28, 16, 8, 128, 2048}, 6144, 151936, LONG, 1, 1, 1e6f, 1e-6f, 512},
    {"phi-3-mini", "microsoft/Phi-3-mini-4k-instruct", "phi3",
     {32, 32, 32, 96, 3072}, 8192, 32064, LONG, 0, 0, 1e4f, 1e-5f, 1024},
    {"qwen3-4b", "Qwen/Qwen3-4B", "qwen3",
     {36, 32, 8, 128, 2560}, 9728, 151936, LONG, 1, 1, 1e6f, 1e-6f, 512},
    {"llama-3.1-8b", "meta-llama/Llama-3.1-8B", "llama",
     {32, 32, 8, 128, 4096}, 14336, 128256, LONG, 0, 0, 5e5f, 1e-5f, 512},
    {"qwen3-8b", "Qwen/Qwen3-8B", "qwen3",
     {36, 32, 8, 128, 4096}, 12288, 151936, LONG, 0, 1, 1e6f, 1e-6f, 512},
    {"qwen3-14b", "Qwen/Qwen3-14B", "qwen3",
     {40, 40, 8, 128, 5120}, 17408, 151936, LONG, 0, 1, 1e6f, 1e-6f, 512},
};
/* clang-format on */

enum { N_SHAPES = sizeof shapes / sizeof *shapes };

const kv_synth_shape *kv_synth_all(int *n) {
    *n = N_SHAPES;
    return shapes;
}

const kv_synth_shape *kv_synth_find(const char *name) {
    for (int i = 0; i < N_SHAPES; i++)
        if (strcmp(shapes[i].name, name) == 0) return &shapes[i];
    return NULL;
}

static int same(char a, char b) {
    return tolower((unsigned char)a) == tolower((unsigned char)b);
}

/* Letters that agree at the beginning and at the end: the family leads and the size trails, and what is mistyped is
 * mostly between them ("qwen-4b", "llama-8b"). */
static size_t likeness(const char *a, const char *b) {
    size_t na = strlen(a), nb = strlen(b), head = 0, tail = 0;
    while (head < na && head < nb && same(a[head], b[head])) head++;
    while (tail + head < na && tail + head < nb && same(a[na - 1 - tail], b[nb - 1 - tail])) tail++;
    return head + tail;
}

int kv_synth_get(const char *name, const kv_synth_shape **out, kv_error *err) {
    char all[256] = "", hint[64] = "";
    size_t most = 2; /* fewer letters in common say nothing */
    *out = kv_synth_find(name);
    if (*out) return KV_OK;
    for (int i = 0; i < N_SHAPES; i++) {
        size_t used = strlen(all), like = likeness(name, shapes[i].name);
        snprintf(all + used, sizeof all - used, "%s%s", i ? ", " : "", shapes[i].name);
        if (like <= most) continue;
        most = like;
        snprintf(hint, sizeof hint, " Did you mean 'synth:%s'?", shapes[i].name);
    }
    return kv_fail(err, KV_ENOTFOUND, "no synthetic model '%.60s'.%s There are: %s", name, hint, all);
}

uint64_t kv_synth_matrix(kv_synth_part part, int layer) {
    return (uint64_t)layer * KV_SYNTH_PARTS + (uint64_t)part;
}

void kv_synth_dims(const kv_synth_shape *s, kv_synth_part part, int *n_out, int *n_in) {
    const kv_shape *m = &s->shape;
    int q = m->n_heads * m->head_dim, kv = m->n_kv_heads * m->head_dim;
    const int dims[][2] = {[KV_SYNTH_EMBED] = {s->n_vocab, m->dim},    [KV_SYNTH_HEAD] = {s->n_vocab, m->dim},
                           [KV_SYNTH_QKV] = {q + 2 * kv, m->dim},      [KV_SYNTH_OUT] = {m->dim, q},
                           [KV_SYNTH_GATE_UP] = {2 * s->n_ff, m->dim}, [KV_SYNTH_DOWN] = {m->dim, s->n_ff}};
    *n_out = dims[part][0];
    *n_in = dims[part][1];
}

float kv_synth_std(const kv_synth_shape *s, kv_synth_part part) {
    int n_out, n_in;
    kv_synth_dims(s, part, &n_out, &n_in);
    if (part == KV_SYNTH_EMBED) return s->tied ? 0.02f : 1.0f;
    double to_residual = part == KV_SYNTH_OUT || part == KV_SYNTH_DOWN ? 2.0 * s->shape.n_layers : 1.0;
    return (float)(1 / sqrt(n_in * to_residual));
}

static int64_t part_size(const kv_synth_shape *s, kv_synth_part part) {
    int n_out, n_in;
    kv_synth_dims(s, part, &n_out, &n_in);
    return (int64_t)n_out * n_in;
}

int64_t kv_synth_params(const kv_synth_shape *s) {
    int64_t layer = 2 * s->shape.dim + (s->qk_norm ? 2 * s->shape.head_dim : 0);
    for (kv_synth_part p = KV_SYNTH_QKV; p <= KV_SYNTH_DOWN; p++) layer += part_size(s, p);
    return part_size(s, KV_SYNTH_EMBED) * (s->tied ? 1 : 2) + s->shape.n_layers * layer + s->shape.dim;
}

void kv_synth_fill(float *out, size_t n, uint64_t seed, uint64_t matrix, float std) {
    uint64_t key = kv_synth_key(seed, matrix);
    for (size_t i = 0; i < n; i += KV_SYNTH_GROUP) {
        uint64_t levels = kv_synth_levels(key, i / KV_SYNTH_GROUP);
        for (unsigned k = 0; k < KV_SYNTH_GROUP && i + k < n; k++)
            out[i + k] = kv_synth_scaled(kv_synth_level(levels, k), std);
    }
}
