/* test_weights.c - rows of matrices as backends read them: from memory and from files, in every type, across parts, in
 * any order and by any number of threads the same; a file that is cut meanwhile is an error that names it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/cpu/cpu.h"
#include "tests/support/ops.h"
#include "tests/support/quantize.h"
#include "tests/support/scratch.h"

/* The largest part has more bytes than a thread takes at a time; OFFSET: tensors in files are not aligned. */
enum { N_IN = 96, ROWS_1 = 7000, ROWS_2 = 40, ROWS_3 = 33, ALL = ROWS_1 + ROWS_2 + ROWS_3, OFFSET = 13 };

static const int part_rows[KV_WEIGHT_PARTS] = {ROWS_1, ROWS_2, ROWS_3};

/* Three parts with their values in memory, in a file, and in fp32. */
typedef struct matrix {
    scratch s;
    char *path, *bytes;
    size_t n_bytes;
    kv_map map;
    kv_weights memory, file;
    float *floats; /* (ALL, N_IN) as kv_dequantize has them */
} matrix;

static void open_matrix(matrix *m, const kv_dtype types[KV_WEIGHT_PARTS]) {
    kv_error err;
    float *values = kv_test_floats((size_t)ALL * N_IN, 5);
    size_t at = OFFSET, row = 0;
    *m = (matrix){.memory = {ALL, N_IN, KV_WEIGHT_PARTS, {{0}}}};
    assert_int_equal(scratch_open(&m->s), 0);
    m->bytes = malloc(OFFSET + (size_t)ALL * N_IN * sizeof(float));
    m->floats = malloc((size_t)ALL * N_IN * sizeof(float));
    assert_true(m->bytes && m->floats);
    for (int i = 0; i < KV_WEIGHT_PARTS; i++) {
        size_t n = (size_t)part_rows[i] * N_IN;
        m->memory.parts[i] = (kv_weight_part){.n_rows = part_rows[i], .type = types[i], .data = m->bytes + at};
        tq_quantize(types[i], values + row * N_IN, (unsigned char *)m->bytes + at, n);
        kv_dequantize(types[i], m->bytes + at, m->floats + row * N_IN, n);
        at += kv_dtype_bytes(types[i], n);
        row += (size_t)part_rows[i];
    }
    m->n_bytes = at;
    m->path = strdup(scratch_write(&m->s, "weights", m->bytes, at));
    assert_non_null(m->path);
    if (kv_map_open(m->path, &m->map, &err)) fail_msg("%s", err.text);
    m->file = m->memory;
    for (int i = 0; i < KV_WEIGHT_PARTS; i++) {
        kv_weight_part *p = &m->file.parts[i];
        p->data = (const char *)m->map.data + ((const char *)p->data - m->bytes);
        p->map = &m->map;
        p->file = m->path;
    }
    free(values);
}

static void close_matrix(matrix *m) {
    kv_map_close(&m->map);
    scratch_close(&m->s);
    free(m->path);
    free(m->bytes);
    free(m->floats);
}

static kv_threads *pool(int n) {
    kv_threads *t;
    assert_int_equal(kv_threads_create(n, &t, NULL), KV_OK);
    return t;
}

static void any_range_has_the_rows_of_the_whole(void **state) {
    (void)state;
    static const int ranges[][2] = {{0, ALL}, {0, 1}, {ROWS_1 - 1, 2}, {ROWS_1 - 1, ROWS_2 + 2}, {ALL - 1, 1}, {7, 0}};
    static const kv_dtype types[] = {KV_F32, KV_F16, KV_BF16};
    char *got = malloc((size_t)ALL * N_IN * sizeof(float));
    assert_non_null(got);
    for (int k = 0; k < 3; k++) {
        matrix m;
        open_matrix(&m, (kv_dtype[]){types[k], types[k], types[k]});
        size_t row = kv_dtype_bytes(types[k], N_IN);
        assert_int_equal(kv_weights_type(&m.file), types[k]);
        for (int threads = 1; threads <= 5; threads += 2) {
            kv_threads *t = pool(threads);
            for (size_t i = 0; i < 2 * sizeof ranges / sizeof *ranges; i++) {
                int first = ranges[i / 2][0], n = ranges[i / 2][1];
                memset(got, 0x5a, (size_t)ALL * N_IN * sizeof(float));
                assert_int_equal(kv_weights_read(i % 2 ? &m.file : &m.memory, t, first, n, got, NULL), KV_OK);
                assert_memory_equal(got, m.bytes + OFFSET + row * (size_t)first, row * (size_t)n);
                if (n < ALL) assert_int_equal(got[row * (size_t)n], 0x5a);
            }
            kv_threads_free(t);
        }
        close_matrix(&m);
    }
    free(got);
}

static void parts_of_other_types_come_in_fp32(void **state) {
    (void)state;
    static const kv_dtype types[][KV_WEIGHT_PARTS] = {
        {KV_BF16, KV_BF16, KV_F16}, {KV_F32, KV_BF16, KV_F16}, {KV_Q8_0, KV_Q8_0, KV_Q8_0}};
    float *got = malloc((size_t)ALL * N_IN * sizeof *got);
    kv_threads *t = pool(3);
    assert_non_null(got);
    for (int k = 0; k < 3; k++) {
        matrix m;
        open_matrix(&m, types[k]);
        for (int i = 0; i < 2; i++) {
            const kv_weights *w = i ? &m.file : &m.memory;
            assert_int_equal(kv_weights_type(w), KV_F32);
            assert_int_equal(kv_weights_read(w, t, 3, ALL - 3, got, NULL), KV_OK);
            assert_memory_equal(got, m.floats + (size_t)3 * N_IN, (size_t)(ALL - 3) * N_IN * sizeof *got);
        }
        close_matrix(&m);
    }
    kv_threads_free(t);
    free(got);
}

typedef struct collected {
    int block_rows;
    float *rows;
    int *calls; /* per block */
} collected;

static void collect(void *ctx, int block, const float *rows, int n) {
    collected *c = ctx;
    memcpy(c->rows + (size_t)block * (size_t)c->block_rows * N_IN, rows, (size_t)n * N_IN * sizeof *rows);
    c->calls[block] += n;
}

static void blocks_come_once_and_in_fp32(void **state) {
    (void)state;
    static const int block_rows[] = {1, 32, 100, ALL};
    collected c = {.rows = malloc((size_t)ALL * N_IN * sizeof(float)), .calls = malloc(ALL * sizeof(int))};
    kv_threads *t = pool(4);
    matrix m;
    assert_true(c.rows && c.calls);
    open_matrix(&m, (kv_dtype[]){KV_BF16, KV_BF16, KV_BF16});
    for (int k = 0; k < 8; k++) {
        int rows = c.block_rows = block_rows[k / 2];
        memset(c.calls, 0, ALL * sizeof *c.calls);
        assert_int_equal(kv_weights_blocks(k % 2 ? &m.file : &m.memory, t, rows, collect, &c, NULL), KV_OK);
        assert_memory_equal(c.rows, m.floats, (size_t)ALL * N_IN * sizeof *c.rows);
        for (int i = 0; i < (ALL + rows - 1) / rows; i++)
            assert_int_equal(c.calls[i], ALL - i * rows < rows ? ALL - i * rows : rows);
    }
    close_matrix(&m);
    kv_threads_free(t);
    free(c.rows);
    free(c.calls);
}

static void rotary_pairs_come_in_halves_and_updates_are_added_to_the_right_rows(void **state) {
    (void)state;
    enum { HEADS = 5, DIM = 8, ROWS = HEADS * DIM, RANK = 3 };
    float *w = kv_test_floats((size_t)ROWS * N_IN, 1), *a = kv_test_floats((size_t)RANK * N_IN, 2);
    float *b = kv_test_floats((size_t)ROWS * RANK, 3), got[ROWS * N_IN], want[ROWS * N_IN];
    const kv_lora lora = {a, b, RANK, N_IN, 0.5f};
    kv_weights weights = kv_weights_of_floats(w, ROWS, N_IN);
    kv_threads *t = pool(2);
    weights.parts[0].pair_dim = DIM;
    for (int h = 0; h < HEADS; h++)
        for (int half = 0; half < 2; half++)
            for (int pair = 0; pair < DIM / 2; pair++)
                memcpy(want + (h * DIM + half * DIM / 2 + pair) * N_IN, w + (h * DIM + 2 * pair + half) * N_IN,
                       N_IN * sizeof *w);
    for (int with_lora = 0; with_lora < 2; with_lora++) {
        if (with_lora) {
            weights.parts[0].lora = &lora;
            kv_lora_merge(&lora, want, 0, ROWS);
        }
        assert_int_equal(kv_weights_read(&weights, t, 0, ROWS, got, NULL), KV_OK);
        assert_memory_equal(got, want, sizeof got);
        assert_int_equal(kv_weights_read(&weights, t, 11, 6, got, NULL), KV_OK);
        assert_memory_equal(got, want + 11 * N_IN, 6 * N_IN * sizeof *got);
    }
    kv_threads_free(t);
    free(w);
    free(a);
    free(b);
}

static void do_nothing(void *ctx, int block, const float *rows, int n) {
    (void)ctx;
    (void)block;
    (void)rows;
    (void)n;
}

static void a_file_cut_while_it_is_read_is_named(void **state) {
    (void)state;
    static const kv_dtype types[] = {KV_BF16, KV_F32};
    char *got = malloc((size_t)ALL * N_IN * sizeof(float)), cut[64];
    assert_non_null(got);
    for (int k = 0; k < 2; k++) {
        kv_threads *t = pool(3);
        kv_error err = {0};
        matrix m;
        open_matrix(&m, (kv_dtype[]){types[k], types[k], types[k]});
        assert_int_equal(truncate(m.path, (off_t)m.n_bytes - 1), 0);
        snprintf(cut, sizeof cut, "ends at byte %zu instead of %zu", m.n_bytes - 1, m.n_bytes);
        assert_int_equal(kv_weights_read(&m.file, t, 0, ALL - 1, got, &err), KV_OK);
        assert_int_equal(kv_weights_read(&m.file, t, 0, ALL, got, &err), KV_EIO);
        if (!strstr(err.text, m.path) || !strstr(err.text, cut)) fail_msg("%s", err.text);
        assert_int_equal(truncate(m.path, 100), 0);
        err.text[0] = 0;
        assert_int_equal(kv_weights_blocks(&m.file, t, 8, do_nothing, NULL, &err), KV_EIO);
        if (!strstr(err.text, m.path)) fail_msg("%s", err.text);
        kv_threads_free(t);
        close_matrix(&m);
    }
    free(got);
}

/* As files or as floats, the CPU backend's products are the same. */
static void the_cpu_backend_packs_what_it_reads(void **state) {
    (void)state;
    enum { N_X = 3 };
    for (int numerics = KV_EXACT; numerics <= KV_FAST; numerics++) {
        kv_backend *b;
        kv_error err = {0};
        kv_matrix *made[2] = {NULL};
        matrix m;
        open_matrix(&m, (kv_dtype[]){KV_BF16, KV_BF16, KV_BF16});
        kv_weights plain = kv_weights_of_floats(m.floats, ALL, N_IN);
        float *x = kv_test_floats((size_t)N_X * N_IN, 9), *out[2];
        if (kv_cpu_backend_create((kv_numerics)numerics, 3, N_X, &b, &err)) fail_msg("%s", err.text);
        for (int i = 0; i < 2; i++) {
            if (b->ops->matrix_create(b, i ? &m.file : &plain, &made[i], &err)) fail_msg("%s", err.text);
            out[i] = malloc((size_t)N_X * ALL * sizeof(float));
            assert_non_null(out[i]);
            b->ops->matmul(b, &(kv_matmul_args){.out = out[i], .x = x, .w = made[i], .n_rows = N_X});
        }
        assert_memory_equal(out[0], out[1], (size_t)N_X * ALL * sizeof(float));
        b->ops->matrix_free(b, made[0]);
        assert_int_equal(truncate(m.path, OFFSET + 1000), 0);
        assert_int_equal(b->ops->matrix_create(b, &m.file, &made[0], &err), KV_EIO);
        assert_null(made[0]);
        b->ops->matrix_free(b, made[1]);
        b->ops->destroy(b);
        free(x);
        free(out[0]);
        free(out[1]);
        close_matrix(&m);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_range_has_the_rows_of_the_whole),
        cmocka_unit_test(parts_of_other_types_come_in_fp32),
        cmocka_unit_test(blocks_come_once_and_in_fp32),
        cmocka_unit_test(rotary_pairs_come_in_halves_and_updates_are_added_to_the_right_rows),
        cmocka_unit_test(a_file_cut_while_it_is_read_is_named),
        cmocka_unit_test(the_cpu_backend_packs_what_it_reads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
