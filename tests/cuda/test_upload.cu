/* test_upload.cu - weights on the device are those of the files, rounded as the host rounds, whatever their type and
 * however many chunks they take. */
#include "tests/cuda/check.cuh"

#include "engine/cuda/bf16.h"
#include "engine/cuda/engine.cuh"

#include <fcntl.h>
#include <unistd.h>

/* Larger than three chunks of 16 MiB in any type, in rows that no chunk is a multiple of. */
enum { N_IN = 1000, ROWS_1 = 40000, ROWS_2 = 333, ALL = ROWS_1 + ROWS_2, OFFSET = 9 };

/* Random bits are numbers of every size, infinities and NaN; NaN are replaced, as conversions may change their bits. */
static void fill(char *bytes, kv_dtype type, size_t n) {
    size_t size = kv_dtype_bytes(type, 1);
    for (size_t i = 0; i < n; i++) {
        float x, r = check_random(size, i);
        uint32_t u;
        memcpy(&u, &r, sizeof u);
        u = u * 2654435761u ^ (uint32_t)i << 7;
        uint16_t half = (uint16_t)u;
        char *at = bytes + i * size;
        memcpy(at, type == KV_F32 ? (void *)&u : (void *)&half, size);
        kv_dequantize(type, at, &x, 1);
        if (x != x) memset(at, 0, size);
    }
}

static kv_weights two_parts(const char *bytes, kv_dtype first, kv_dtype second) {
    kv_weights w = {ALL, N_IN, 2, {}};
    w.parts[0].n_rows = ROWS_1;
    w.parts[0].type = first;
    w.parts[0].data = bytes + OFFSET;
    w.parts[1].n_rows = ROWS_2;
    w.parts[1].type = second;
    w.parts[1].data = bytes + OFFSET + kv_dtype_bytes(first, (size_t)ROWS_1 * N_IN);
    return w;
}

/* Rows in fp32 as the host has them, against the device's. */
static int compare(kv_backend *b, const kv_weights *w, const kv_matrix *m, const char *what) {
    size_t n = (size_t)ALL * N_IN, size = m->type == KV_CUDA_F32 ? 4 : 2, bad = 0, at = 0;
    float *want = (float *)malloc(n * sizeof *want);
    char *got = (char *)malloc(n * size);
    for (int i = 0; i < w->n_parts; i++) {
        size_t here = (size_t)w->parts[i].n_rows * N_IN;
        kv_dequantize(w->parts[i].type, w->parts[i].data, want + at, here);
        at += here;
    }
    CHECK_CUDA(cudaStreamSynchronize(((kv_cuda_backend *)b)->stream));
    CHECK_CUDA(cudaMemcpy(got, m->data, n * size, cudaMemcpyDeviceToHost));
    for (size_t i = 0; i < n; i++) {
        uint16_t half = kv_bf16_from(want[i]);
        bad += memcmp(got + i * size, size == 4 ? (void *)&want[i] : (void *)&half, size) != 0;
    }
    if (bad) printf("  %s to %s: %zu of %zu differ\n", what, size == 4 ? "fp32" : "bf16", bad, n);
    free(want);
    free(got);
    return bad != 0;
}

static int create(kv_backend *b, const kv_weights *w, kv_matrix **m) {
    kv_error err;
    if (b->ops->matrix_create(b, w, m, &err) == KV_OK) return 0;
    printf("  %s\n", err.text);
    return 1;
}

static int device_matrices_are_those_of_the_host(void) {
    static const kv_dtype types[][2] = {
        {KV_BF16, KV_BF16}, {KV_F16, KV_F16}, {KV_F32, KV_F32}, {KV_BF16, KV_F16}, {KV_F32, KV_BF16}};
    char *bytes = (char *)malloc(OFFSET + (size_t)ALL * N_IN * 4), what[32];
    int bad = 0;
    for (int numerics = KV_EXACT; numerics <= KV_FAST; numerics++) {
        kv_backend *b;
        if (kv_cuda_backend_create((kv_numerics)numerics, 0, 0, &b, NULL)) return 1;
        for (size_t k = 0; k < sizeof types / sizeof *types; k++) {
            kv_weights w = two_parts(bytes, types[k][0], types[k][1]);
            kv_matrix *m[2] = {NULL, NULL};
            for (int i = 0; i < 2; i++)
                fill((char *)w.parts[i].data, w.parts[i].type, (size_t)w.parts[i].n_rows * N_IN);
            snprintf(what, sizeof what, "%s, %s", kv_dtype_name(types[k][0]), kv_dtype_name(types[k][1]));
            bad += create(b, &w, &m[0]) || compare(b, &w, m[0], what); /* before and after the end */
            bad += create(b, &w, &m[1]) || b->ops->matrices_end(b, NULL) || compare(b, &w, m[1], what);
            for (int i = 0; i < 2; i++) b->ops->matrix_free(b, m[i]);
        }
        b->ops->destroy(b);
    }
    free(bytes);
    return bad;
}

static int files_are_read_and_cut_ones_are_errors(void) {
    char path[] = "/tmp/trimbench-upload-XXXXXX", *bytes = (char *)malloc(OFFSET + (size_t)ALL * N_IN * 2);
    size_t n_bytes = OFFSET + (size_t)ALL * N_IN * 2;
    int bad = 0, fd = mkstemp(path);
    kv_map map = {};
    kv_matrix *m = NULL;
    kv_backend *b;
    kv_error err;
    kv_weights w = two_parts(bytes, KV_BF16, KV_BF16);
    for (int i = 0; i < 2; i++) fill((char *)w.parts[i].data, KV_BF16, (size_t)w.parts[i].n_rows * N_IN);
    if (fd < 0 || write(fd, bytes, n_bytes) != (ssize_t)n_bytes || kv_map_open(path, &map, &err) ||
        kv_cuda_backend_create(KV_FAST, 0, 0, &b, &err)) {
        printf("  %s cannot be made\n", path);
        return 1;
    }
    for (int i = 0; i < 2; i++) {
        w.parts[i].data = (const char *)map.data + ((const char *)w.parts[i].data - bytes);
        w.parts[i].map = &map;
        w.parts[i].file = path;
    }
    bad += create(b, &w, &m) || compare(b, &w, m, "file");
    b->ops->matrix_free(b, m);
    size_t used = b->books.used[KV_USE_WEIGHTS];
    bad += ftruncate(fd, (off_t)n_bytes / 2) != 0;
    bad += b->ops->matrix_create(b, &w, &m, &err) != KV_EIO || !strstr(err.text, path) || m;
    bad += b->books.used[KV_USE_WEIGHTS] != used;
    bad += b->ops->matrices_end(b, &err) != KV_OK;
    b->ops->destroy(b);
    kv_map_close(&map);
    close(fd);
    unlink(path);
    free(bytes);
    return bad;
}

int main(int argc, char **argv) {
    static const check checks[] = {
        {"device_matrices_are_those_of_the_host", device_matrices_are_those_of_the_host},
        {"files_are_read_and_cut_ones_are_errors", files_are_read_and_cut_ones_are_errors},
    };
    return check_main(argc, argv, checks, sizeof checks / sizeof *checks);
}
