/* test_gguf.c - the GGUF reader: what it must find in good files, and that no damaged file gets past it.
 * Files are made by tests/support/gguf_writer.c and handed over in buffers of their exact size, so that the
 * address sanitizer sees every byte read too far. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/gguf.h"
#include "tests/support/gguf_writer.h"
#include "tests/support/quantize.h"
#include "tests/support/scratch.h"

static const char *const words[] = {"", "a", "two words", "\xc3\xa9"};
static const int32_t numbers[] = {-1, 0, 7, INT32_MAX};

static void add_all_metadata(gw_writer *w) {
    gw_string(w, "s", "hello");
    gw_string(w, "empty", "");
    gw_u8(w, "u8", 200);
    gw_i8(w, "i8", -100);
    gw_u16(w, "u16", 60000);
    gw_i16(w, "i16", -30000);
    gw_u32(w, "u32", 4000000000u);
    gw_i32(w, "i32", -2000000000);
    gw_u64(w, "u64", INT64_MAX);
    gw_u64(w, "u64.big", UINT64_MAX);
    gw_i64(w, "i64", INT64_MIN);
    gw_f32(w, "f32", 0.1f);
    gw_f64(w, "f64", 0.1);
    gw_bool(w, "yes", 1);
    gw_bool(w, "no", 0);
    gw_string_array(w, "words", words, 4);
    gw_i32_array(w, "numbers", numbers, 4);
    gw_f32_array(w, "scores", (float[]){0.5f, -2}, 2);
    gw_u32_array(w, "nothing", NULL, 0);
    gw_string_array(w, "no words", NULL, 0);
}

/* One tensor of every type; the last one fills the alignment, so that every cut hits something. */
static void add_all_tensors(gw_writer *w) {
    unsigned char raw[1024];
    uint64_t seed = 3;
    for (int t = 0; t < KV_N_DTYPES; t++) {
        int64_t dims[2] = {kv_dtype_block((kv_dtype)t), 3};
        size_t n = (size_t)(dims[0] * dims[1]);
        tq_random((kv_dtype)t, raw, n, 1, &seed);
        gw_tensor(w, kv_dtype_name((kv_dtype)t), (kv_dtype)t, 2, dims, raw, kv_dtype_bytes((kv_dtype)t, n));
    }
    memset(raw, 0x3c, sizeof raw);
    gw_tensor(w, "last", KV_F32, 4, (int64_t[]){2, 2, 2, 2}, raw, 64);
}

/* Opens an exact copy; the copy outlives the handle only when the caller keeps both. */
typedef struct opened {
    kv_gguf *g;
    void *copy;
    kv_error err;
} opened;

static int open_bytes(opened *o, const void *buf, size_t n) {
    o->copy = malloc(n ? n : 1);
    assert_non_null(o->copy);
    memcpy(o->copy, buf, n);
    memset(&o->err, 0, sizeof o->err);
    int rc = kv_gguf_open_memory(o->copy, n, "test.gguf", &o->g, &o->err);
    if (rc != KV_OK) {
        assert_null(o->g);
        assert_int_equal(o->err.code, rc);
        assert_non_null(strstr(o->err.text, "test.gguf"));
    } else {
        assert_int_equal(o->err.code, KV_OK);
    }
    return rc;
}

static void done(opened *o) {
    kv_gguf_close(o->g);
    free(o->copy);
}

/* Takes the writer over. */
static int open_writer(opened *o, gw_writer *w) {
    void *buf;
    size_t size;
    assert_int_equal(gw_finish(w, &buf, &size), 0);
    gw_free(w);
    int rc = open_bytes(o, buf, size);
    free(buf);
    return rc;
}

static void must_refuse(gw_writer *w, int code, const char *part) {
    opened o;
    int rc = open_writer(&o, w);
    if (rc != code || !strstr(o.err.text, part)) fail_msg("code %d, text '%s', wanted '%s'", rc, o.err.text, part);
    done(&o);
}

static void finds_every_tensor_with_shape_type_and_bytes(void **state) {
    (void)state;
    for (uint32_t version = 2; version <= 3; version++) {
        for (uint32_t alignment = 8; alignment <= 4096; alignment *= 8) {
            opened o;
            gw_writer *w = gw_new();
            gw_version(w, version);
            gw_alignment(w, alignment);
            add_all_metadata(w);
            add_all_tensors(w);
            assert_int_equal(open_writer(&o, w), KV_OK);
            assert_int_equal(kv_gguf_n_tensors(o.g), KV_N_DTYPES + 1);
            for (int t = 0; t < KV_N_DTYPES; t++) {
                const kv_gguf_tensor *x = kv_gguf_find(o.g, kv_dtype_name((kv_dtype)t));
                assert_non_null(x);
                assert_ptr_equal(x, kv_gguf_tensor_at(o.g, (size_t)t));
                assert_int_equal(x->type, t);
                assert_int_equal(x->n_dims, 2);
                assert_int_equal(x->dims[0], kv_dtype_block((kv_dtype)t));
                assert_int_equal(x->dims[1], 3);
                assert_int_equal(x->dims[2], 1);
                assert_int_equal(x->bytes, 3 * kv_dtype_block_bytes((kv_dtype)t));
                assert_int_equal(((const char *)x->data - (const char *)o.copy) % alignment, 0);
            }
            const kv_gguf_tensor *last = kv_gguf_find(o.g, "last");
            for (int i = 0; i < 64; i++) assert_int_equal(((const unsigned char *)last->data)[i], 0x3c);
            assert_null(kv_gguf_find(o.g, "las"));
            assert_null(kv_gguf_find(o.g, "lasts"));
            assert_null(kv_gguf_tensor_at(o.g, KV_N_DTYPES + 1));
            done(&o);
        }
    }
}

static void accepts_a_file_without_tensors_or_metadata(void **state) {
    (void)state;
    opened o;
    assert_int_equal(open_writer(&o, gw_new()), KV_OK);
    assert_int_equal(kv_gguf_n_tensors(o.g), 0);
    assert_null(kv_gguf_find(o.g, "x"));
    assert_null(kv_gguf_tensor_at(o.g, 0));
    int64_t v;
    assert_int_equal(kv_gguf_int(o.g, "x", &v, NULL), KV_ENOTFOUND);
    done(&o);
}

static void open_metadata(opened *o) {
    gw_writer *w = gw_new();
    add_all_metadata(w);
    assert_int_equal(open_writer(o, w), KV_OK);
}

static void reads_integers_of_every_width(void **state) {
    (void)state;
    static const struct {
        const char *key;
        int64_t want;
    } cases[] = {{"u8", 200},         {"i8", -100},         {"u16", 60000},     {"i16", -30000},
                 {"u32", 4000000000}, {"i32", -2000000000}, {"u64", INT64_MAX}, {"i64", INT64_MIN}};
    opened o;
    open_metadata(&o);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int64_t v = 1;
        double d;
        assert_int_equal(kv_gguf_int(o.g, cases[i].key, &v, &o.err), KV_OK);
        assert_true(v == cases[i].want);
        assert_int_equal(kv_gguf_float(o.g, cases[i].key, &d, &o.err), KV_OK);
        assert_true(d == (double)cases[i].want);
    }
    int64_t v;
    assert_int_equal(kv_gguf_int(o.g, "u64.big", &v, &o.err), KV_EFORMAT);
    assert_non_null(strstr(o.err.text, "u64.big"));
    done(&o);
}

static void reads_floats_bools_and_strings(void **state) {
    (void)state;
    opened o;
    double d;
    int b;
    const char *s;
    size_t n;
    open_metadata(&o);
    assert_int_equal(kv_gguf_float(o.g, "f32", &d, &o.err), KV_OK);
    assert_true(d == (double)0.1f);
    assert_int_equal(kv_gguf_float(o.g, "f64", &d, &o.err), KV_OK);
    assert_true(d == 0.1);
    assert_int_equal(kv_gguf_bool(o.g, "yes", &b, &o.err), KV_OK);
    assert_int_equal(b, 1);
    assert_int_equal(kv_gguf_bool(o.g, "no", &b, &o.err), KV_OK);
    assert_int_equal(b, 0);
    assert_int_equal(kv_gguf_string(o.g, "s", &s, &n, &o.err), KV_OK);
    assert_int_equal(n, 5);
    assert_memory_equal(s, "hello", 5);
    assert_int_equal(kv_gguf_string(o.g, "empty", &s, &n, &o.err), KV_OK);
    assert_int_equal(n, 0);
    done(&o);
}

static void reads_arrays_by_index(void **state) {
    (void)state;
    opened o;
    size_t n;
    int64_t v;
    const char *s;
    open_metadata(&o);
    assert_int_equal(kv_gguf_array_len(o.g, "words", &n, &o.err), KV_OK);
    assert_int_equal(n, 4);
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(kv_gguf_array_string(o.g, "words", i, &s, &n, &o.err), KV_OK);
        assert_int_equal(n, strlen(words[i]));
        assert_memory_equal(s, words[i], n);
        assert_int_equal(kv_gguf_array_int(o.g, "numbers", i, &v, &o.err), KV_OK);
        assert_int_equal(v, numbers[i]);
    }
    assert_int_equal(kv_gguf_array_len(o.g, "nothing", &n, &o.err), KV_OK);
    assert_int_equal(n, 0);
    assert_int_equal(kv_gguf_array_string(o.g, "words", 4, &s, &n, &o.err), KV_EARG);
    assert_int_equal(kv_gguf_array_int(o.g, "nothing", 0, &v, &o.err), KV_EARG);
    assert_int_equal(kv_gguf_array_string(o.g, "no words", 0, &s, &n, &o.err), KV_EARG);
    done(&o);
}

static void names_key_and_types_when_metadata_is_of_another_type(void **state) {
    (void)state;
    opened o;
    int64_t v;
    double d;
    int b;
    const char *s;
    size_t n;
    open_metadata(&o);
    assert_int_equal(kv_gguf_int(o.g, "f32", &v, &o.err), KV_EFORMAT);
    assert_non_null(strstr(o.err.text, "'f32' is of type float32, an integer expected"));
    assert_int_equal(kv_gguf_int(o.g, "words", &v, &o.err), KV_EFORMAT);
    assert_int_equal(kv_gguf_int(o.g, "yes", &v, &o.err), KV_EFORMAT);
    assert_int_equal(kv_gguf_float(o.g, "s", &d, &o.err), KV_EFORMAT);
    assert_int_equal(kv_gguf_float(o.g, "no words", &d, &o.err), KV_EFORMAT);
    assert_int_equal(kv_gguf_bool(o.g, "u8", &b, &o.err), KV_EFORMAT);
    assert_int_equal(kv_gguf_string(o.g, "u64", &s, &n, &o.err), KV_EFORMAT);
    assert_int_equal(kv_gguf_string(o.g, "words", &s, &n, &o.err), KV_EFORMAT);
    assert_int_equal(kv_gguf_array_len(o.g, "s", &n, &o.err), KV_EFORMAT);
    assert_int_equal(kv_gguf_array_string(o.g, "numbers", 0, &s, &n, &o.err), KV_EFORMAT);
    assert_int_equal(kv_gguf_array_string(o.g, "s", 0, &s, &n, &o.err), KV_EFORMAT);
    assert_int_equal(kv_gguf_array_int(o.g, "words", 0, &v, &o.err), KV_EFORMAT);
    assert_int_equal(kv_gguf_array_int(o.g, "scores", 0, &v, &o.err), KV_EFORMAT);
    assert_int_equal(kv_gguf_array_int(o.g, "absent", 0, &v, &o.err), KV_ENOTFOUND);
    assert_non_null(strstr(o.err.text, "absent"));
    assert_int_equal(kv_gguf_string(o.g, "absent", &s, &n, &o.err), KV_ENOTFOUND);
    done(&o);
}

static void rejects_every_truncation_of_a_small_file(void **state) {
    (void)state;
    void *buf;
    size_t size;
    opened o;
    gw_writer *w = gw_new();
    add_all_metadata(w);
    add_all_tensors(w);
    assert_int_equal(gw_finish(w, &buf, &size), 0);
    gw_free(w);
    for (size_t n = 0; n < size; n++) {
        if (open_bytes(&o, buf, n) != KV_EFORMAT) fail_msg("%zu of %zu bytes were accepted", n, size);
        done(&o);
    }
    assert_int_equal(open_bytes(&o, buf, size), KV_OK);
    done(&o);
    free(buf);
}

static void rejects_truncations_of_a_larger_file(void **state) {
    (void)state;
    enum { WORDS = 3000, DIM = 256 };
    void *buf;
    size_t size;
    opened o;
    const char **many = malloc(WORDS * sizeof *many);
    float *x = calloc(DIM * DIM, sizeof *x);
    assert_non_null(many);
    assert_non_null(x);
    for (int i = 0; i < WORDS; i++) many[i] = words[i % 4];
    gw_writer *w = gw_new();
    gw_string_array(w, "tokenizer.ggml.tokens", many, WORDS);
    for (char name[] = "a"; name[0] <= 'd'; name[0]++)
        gw_tensor(w, name, KV_F32, 2, (int64_t[]){DIM, DIM}, x, DIM * DIM * sizeof *x);
    assert_int_equal(gw_finish(w, &buf, &size), 0);
    gw_free(w);
    for (size_t n = 0; n < size; n += 4096) {
        assert_int_equal(open_bytes(&o, buf, n), KV_EFORMAT);
        done(&o);
    }
    assert_int_equal(open_bytes(&o, buf, size), KV_OK);
    done(&o);
    free(buf);
    free(many);
    free(x);
}

/* A good file of one metadata entry and one tensor with 4 bytes patched. */
static int open_patched(opened *o, size_t at, const void *bytes, size_t n) {
    void *buf;
    size_t size;
    gw_writer *w = gw_new();
    gw_u32(w, "key", 1);
    gw_tensor(w, "w", KV_F32, 1, (int64_t[]){8}, (float[8]){0}, 32);
    assert_int_equal(gw_finish(w, &buf, &size), 0);
    gw_free(w);
    memcpy((char *)buf + at, bytes, n);
    int rc = open_bytes(o, buf, size);
    free(buf);
    done(o);
    return rc;
}

static void rejects_a_wrong_magic_version_or_byte_order(void **state) {
    (void)state;
    opened o;
    assert_int_equal(open_patched(&o, 0, "GGUF", 4), KV_OK);
    assert_int_equal(open_patched(&o, 0, "GGML", 4), KV_EFORMAT);
    assert_int_equal(open_patched(&o, 0, "PK\3\4", 4), KV_EFORMAT);
    for (uint32_t v = 0; v < 6; v++) {
        assert_int_equal(open_patched(&o, 4, &v, 4), v == 2 || v == 3 ? KV_OK : KV_EUNSUPPORTED);
    }
    assert_int_equal(open_patched(&o, 4, "\0\0\0\3", 4), KV_EUNSUPPORTED);
    assert_non_null(strstr(o.err.text, "big-endian"));
}

static void rejects_counts_larger_than_the_file_without_allocating_for_them(void **state) {
    (void)state;
    opened o;
    static const uint64_t counts[] = {2, 100, UINT32_MAX, UINT64_C(1) << 40, UINT64_C(1) << 60, UINT64_MAX};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        assert_int_equal(open_patched(&o, 8, &counts[i], 8), KV_EFORMAT);
        assert_int_equal(open_patched(&o, 16, &counts[i], 8), KV_EFORMAT);
    }
}

static void rejects_damaged_metadata(void **state) {
    (void)state;
    static const struct {
        uint32_t type;
        uint32_t elem;
        uint64_t n;
        int code;
        const char *part;
    } cases[] = {
        {13, 0, 0, KV_EFORMAT, "'bad' has unknown type 13"},
        {UINT32_MAX, 0, 0, KV_EFORMAT, "'bad' has unknown type"},
        {GW_ARRAY, 13, 1, KV_EFORMAT, "'bad' is an array of unknown type 13"},
        {GW_ARRAY, GW_ARRAY, 1, KV_EUNSUPPORTED, "'bad' is a nested array"},
        {GW_ARRAY, GW_U8, 100, KV_EFORMAT, "'bad' claims 100 elements"},
        {GW_ARRAY, GW_F64, UINT64_C(1) << 61, KV_EFORMAT, "'bad' claims"},
        {GW_ARRAY, GW_STRING, UINT64_MAX, KV_EFORMAT, "'bad' claims"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        unsigned char raw[12];
        memcpy(raw, &cases[i].elem, 4);
        memcpy(raw + 4, &cases[i].n, 8);
        gw_writer *w = gw_new();
        gw_raw(w, "bad", cases[i].type, raw, sizeof raw);
        must_refuse(w, cases[i].code, cases[i].part);
    }
    gw_writer *w = gw_new();
    gw_raw(w, "bad", GW_STRING, "\xff\xff\xff\xff\xff\xff\xff\xff", 8);
    must_refuse(w, KV_EFORMAT, "truncated in metadata 'bad'");
    w = gw_new();
    gw_raw(w, "bad", GW_BOOL, "\2", 1);
    must_refuse(w, KV_EFORMAT, "'bad' is a bool of value 2");
    w = gw_new();
    gw_u32(w, "", 1);
    must_refuse(w, KV_EFORMAT, "bad key");
    w = gw_new();
    gw_u32(w, "a", 1);
    gw_u32(w, "twice", 1);
    gw_string_array(w, "twice", words, 4);
    must_refuse(w, KV_EFORMAT, "'twice' occurs twice");
    w = gw_new();
    gw_raw(w, "bad", GW_ARRAY, "\x8\0\0\0\2\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0x\x7f\0\0\0\0\0\0\0", 29);
    must_refuse(w, KV_EFORMAT, "truncated in element 1 of metadata 'bad'");
}

static void rejects_an_alignment_that_is_no_power_of_two(void **state) {
    (void)state;
    static const uint32_t bad[] = {0, 1, 4, 24, 33, UINT32_MAX};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        gw_writer *w = gw_new();
        gw_u32(w, "general.alignment", bad[i]);
        must_refuse(w, KV_EFORMAT, "general.alignment");
    }
    gw_writer *w = gw_new();
    gw_string(w, "general.alignment", "32");
    must_refuse(w, KV_EFORMAT, "general.alignment");
    w = gw_new();
    gw_u32(w, "general.alignment", UINT32_C(1) << 31);
    gw_tensor_raw(w, "w", 0, 1, (int64_t[]){8}, 0);
    must_refuse(w, KV_EFORMAT, "ends beyond the file");
}

static void rejects_unknown_tensor_types_by_name(void **state) {
    (void)state;
    static const struct {
        uint32_t id;
        const char *part;
    } cases[] = {{6, "tensor 'w' has type 6 (Q5_0)"},
                 {13, "type 13 (Q5_K)"},
                 {26, "type 26 (I32)"},
                 {39, "type 39 (MXFP4)"},
                 {5, "type 5 (unknown)"},
                 {9999, "type 9999 (unknown)"},
                 {UINT32_MAX, "type 4294967295 (unknown)"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        gw_writer *w = gw_new();
        gw_tensor_raw(w, "w", cases[i].id, 1, (int64_t[]){32}, 0);
        must_refuse(w, KV_EUNSUPPORTED, cases[i].part);
    }
}

static void rejects_impossible_tensor_shapes(void **state) {
    (void)state;
    static const struct {
        uint32_t type;
        int n_dims;
        int64_t dims[5];
        const char *part;
    } cases[] = {
        {0, 0, {0}, "has 0 dimensions"},
        {0, 5, {1, 1, 1, 1, 1}, "has 5 dimensions"},
        {0, 1, {0}, "impossible dimension 0"},
        {0, 2, {8, 0}, "impossible dimension 0"},
        {0, 1, {-1}, "impossible dimension"},
        {0, 2, {INT64_MAX, 2}, "impossible dimension 2"},
        {0, 4, {65536, 65536, 65536, 65536}, "impossible dimension 65536"},
        {0, 2, {INT64_C(1) << 31, INT64_C(1) << 31}, "larger than the file"},
        {8, 1, {33}, "multiple of Q8_0's block of 32"},
        {2, 2, {16, 2}, "multiple of Q4_0's block of 32"},
        {14, 1, {128}, "multiple of Q6_K's block of 256"},
        {12, 2, {INT64_C(1) << 40, 1 << 20}, "larger than the file"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        gw_writer *w = gw_new();
        gw_tensor_raw(w, "w", cases[i].type, cases[i].n_dims, cases[i].dims, 0);
        must_refuse(w, KV_EFORMAT, cases[i].part);
    }
}

static void rejects_tensors_out_of_place(void **state) {
    (void)state;
    static const struct {
        uint64_t offset;
        const char *part;
    } cases[] = {{4, "not a multiple of the alignment 32"},
                 {UINT64_MAX, "not a multiple of the alignment"},
                 {64, "ends beyond the file"},
                 {UINT64_MAX - 31, "ends beyond the file"},
                 {UINT64_C(1) << 40, "ends beyond the file"},
                 {0, "overlap"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        gw_writer *w = gw_new();
        gw_tensor(w, "first", KV_F32, 1, (int64_t[]){16}, (float[16]){0}, 64);
        gw_tensor_raw(w, "second", 0, 1, (int64_t[]){8}, cases[i].offset);
        opened o;
        assert_int_equal(open_writer(&o, w), KV_EFORMAT);
        /* Which of two tensors at the same place comes first is the sort's choice. */
        if (cases[i].offset != 0) assert_non_null(strstr(o.err.text, "'second'"));
        assert_non_null(strstr(o.err.text, cases[i].part));
        done(&o);
    }
}

static void rejects_bad_and_repeated_tensor_names(void **state) {
    (void)state;
    char name[66];
    memset(name, 'n', 65);
    name[65] = 0;
    float x[8] = {0};
    gw_writer *w = gw_new();
    gw_tensor(w, name, KV_F32, 1, (int64_t[]){8}, x, sizeof x);
    must_refuse(w, KV_EFORMAT, "bad name");
    name[64] = 0;
    opened o;
    w = gw_new();
    gw_tensor(w, name, KV_F32, 1, (int64_t[]){8}, x, sizeof x);
    assert_int_equal(open_writer(&o, w), KV_OK);
    assert_non_null(kv_gguf_find(o.g, name));
    done(&o);
    w = gw_new();
    gw_tensor(w, "", KV_F32, 1, (int64_t[]){8}, x, sizeof x);
    must_refuse(w, KV_EFORMAT, "bad name");
    w = gw_new();
    gw_tensor(w, "same", KV_F32, 1, (int64_t[]){8}, x, sizeof x);
    gw_tensor(w, "other", KV_F32, 1, (int64_t[]){8}, x, sizeof x);
    gw_tensor(w, "same", KV_F32, 1, (int64_t[]){8}, x, sizeof x);
    must_refuse(w, KV_EFORMAT, "tensor 'same' occurs twice");
}

static void survives_any_changed_byte(void **state) {
    (void)state;
    void *buf;
    size_t size;
    gw_writer *w = gw_new();
    add_all_metadata(w);
    gw_tensor(w, "w", KV_F32, 1, (int64_t[]){8}, (float[8]){0}, 32);
    assert_int_equal(gw_finish(w, &buf, &size), 0);
    gw_free(w);
    unsigned char *p = buf;
    for (size_t i = 0; i < size - 32; i++) {
        for (int bit = 0; bit < 8; bit++) {
            opened o;
            p[i] ^= (unsigned char)(1 << bit);
            open_bytes(&o, buf, size);
            done(&o);
            p[i] ^= (unsigned char)(1 << bit);
        }
    }
    free(buf);
}

static void names_the_path_of_files_that_cannot_be_opened(void **state) {
    (void)state;
    scratch s;
    kv_error err;
    kv_gguf *g;
    assert_int_equal(scratch_open(&s), 0);
    assert_int_equal(kv_gguf_open(scratch_path(&s, "absent.gguf"), &g, &err), KV_ENOTFOUND);
    assert_non_null(strstr(err.text, "absent.gguf"));
    assert_int_equal(kv_gguf_open(s.dir, &g, &err), KV_EIO);
    assert_non_null(strstr(err.text, "directory"));
    assert_int_equal(kv_gguf_open(scratch_write(&s, "empty.gguf", "", 0), &g, &err), KV_EFORMAT);
    assert_non_null(strstr(err.text, "empty file"));
    gw_writer *w = gw_new();
    add_all_tensors(w);
    assert_int_equal(gw_write(w, scratch_path(&s, "good.gguf")), 0);
    assert_int_equal(gw_write(w, "no/such/folder/x.gguf"), -1);
    gw_free(w);
    assert_int_equal(kv_gguf_open(s.path, &g, &err), KV_OK);
    assert_int_equal(kv_gguf_n_tensors(g), KV_N_DTYPES + 1);
    kv_gguf_close(g);
    scratch_close(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finds_every_tensor_with_shape_type_and_bytes),
        cmocka_unit_test(accepts_a_file_without_tensors_or_metadata),
        cmocka_unit_test(reads_integers_of_every_width),
        cmocka_unit_test(reads_floats_bools_and_strings),
        cmocka_unit_test(reads_arrays_by_index),
        cmocka_unit_test(names_key_and_types_when_metadata_is_of_another_type),
        cmocka_unit_test(rejects_every_truncation_of_a_small_file),
        cmocka_unit_test(rejects_truncations_of_a_larger_file),
        cmocka_unit_test(rejects_a_wrong_magic_version_or_byte_order),
        cmocka_unit_test(rejects_counts_larger_than_the_file_without_allocating_for_them),
        cmocka_unit_test(rejects_damaged_metadata),
        cmocka_unit_test(rejects_an_alignment_that_is_no_power_of_two),
        cmocka_unit_test(rejects_unknown_tensor_types_by_name),
        cmocka_unit_test(rejects_impossible_tensor_shapes),
        cmocka_unit_test(rejects_tensors_out_of_place),
        cmocka_unit_test(rejects_bad_and_repeated_tensor_names),
        cmocka_unit_test(survives_any_changed_byte),
        cmocka_unit_test(names_the_path_of_files_that_cannot_be_opened),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
