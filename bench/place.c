/* place.c - chooses between the CPU and a GPU. */
#include "bench/place.h"

#include <string.h>

#ifdef KV_HAVE_CUDA
#include "engine/cuda/device.h"
#endif

#ifdef KV_HAVE_CUDA
static int count_devices(int *n, kv_error *err) {
    return kv_cuda_device_count(n, err);
}
#else
static int count_devices(int *n, kv_error *err) {
    *n = 0;
    return kv_fail(err, KV_EUNSUPPORTED, "this build has no CUDA backend: build with -DKV_CUDA=ON");
}
#endif

/* Head sizes and groups that the attention kernels are built for; the engine has the last word. */
static int kernels_know(const kv_shape *s) {
    int group = s->n_kv_heads > 0 ? s->n_heads / s->n_kv_heads : 0;
    return (s->head_dim == 64 || s->head_dim == 96 || s->head_dim == 128) && group >= 1 && group <= 8;
}

int kv_place_is_free(const kv_opts *o) {
    const char *word = kv_opts_text(o, KV_OPT_BACKEND);
    return !word || strcmp(word, "auto") == 0;
}

int kv_place_choose(const kv_opts *o, const kv_shape *shape, kv_device_kind *out, kv_error *err) {
    const char *word = kv_opts_text(o, KV_OPT_BACKEND);
    int index = (int)kv_opts_int(o, KV_OPT_DEVICE), n = 0;
    kv_error why = {0};
    *out = KV_CPU;
    if (word && strcmp(word, "cpu") == 0) return KV_OK;
    int rc = count_devices(&n, &why);
    if (rc) return kv_place_is_free(o) ? KV_OK : kv_fail(err, rc, "--backend cuda: %.460s", why.text);
    if (index >= n)
        return kv_fail(err, KV_EARG, "--device %d: this machine has %d CUDA device%s, counted from 0", index, n,
                       n == 1 ? "" : "s");
    if (!kv_place_is_free(o) || !shape || kernels_know(shape)) *out = KV_CUDA;
    return KV_OK;
}

const char *kv_place_name(kv_device_kind kind) {
    return kind == KV_CUDA ? "cuda" : "cpu";
}
