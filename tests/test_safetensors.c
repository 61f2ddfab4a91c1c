/* test_safetensors.c - the safetensors reader: the project's own gate file, and damaged files of every kind. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/file.h"
#include "engine/safetensors.h"
#include "tests/support/scratch.h"

#define GATES KV_SOURCE_DIR "/policies/trimkv-smollm2-135m/trimkv_weights.safetensors"

typedef struct opened {
    kv_safetensors *s;
    void *copy; /* of the exact size, for the address sanitizer */
    kv_error err;
} opened;

static int open_bytes(opened *o, const void *buf, size_t n) {
    o->copy = malloc(n ? n : 1);
    assert_non_null(o->copy);
    memcpy(o->copy, buf, n);
    memset(&o->err, 0, sizeof o->err);
    int rc = kv_safetensors_open_memory(o->copy, n, "test.safetensors", &o->s, &o->err);
    assert_int_equal(o->err.code, rc);
    if (rc != KV_OK) {
        assert_null(o->s);
        assert_non_null(strstr(o->err.text, "test.safetensors"));
    }
    return rc;
}

static void done(opened *o) {
    kv_safetensors_close(o->s);
    free(o->copy);
}

/* Header text and n_data bytes of 0, 1, 2, ... */
static size_t compose(unsigned char *out, const char *header, size_t n_data) {
    uint64_t n = strlen(header);
    memcpy(out, &n, 8);
    memcpy(out + 8, header, n);
    for (size_t i = 0; i < n_data; i++) out[8 + n + i] = (unsigned char)i;
    return 8 + n + n_data;
}

static int open_header(opened *o, const char *header, size_t n_data) {
    unsigned char buf[1024];
    assert_true(strlen(header) + n_data + 8 <= sizeof buf);
    return open_bytes(o, buf, compose(buf, header, n_data));
}

static const char good[] = "{\"__metadata__\":{\"format\":\"pt\",\"x\":\"[1,2\"},"
                           "\"b\":{\"dtype\":\"F16\",\"shape\":[3],\"data_offsets\":[24,30]},"
                           "\"a\":{\"data_offsets\":[0,24],\"shape\":[2,3],\"dtype\":\"F32\",\"later\":[{}]},"
                           "\"scalar\":{\"dtype\":\"BF16\",\"shape\":[],\"data_offsets\":[30,32]},"
                           "\"none\":{\"dtype\":\"F32\",\"shape\":[4,0,2],\"data_offsets\":[32,32]}}   \n";

static void finds_tensors_with_shape_type_and_bytes(void **state) {
    (void)state;
    opened o;
    assert_int_equal(open_header(&o, good, 32), KV_OK);
    assert_int_equal(kv_safetensors_n(o.s), 4);
    const kv_st_tensor *a = kv_safetensors_find(o.s, "a"), *b = kv_safetensors_find(o.s, "b");
    assert_ptr_equal(a, kv_safetensors_at(o.s, 0));
    assert_ptr_equal(b, kv_safetensors_at(o.s, 1));
    assert_null(kv_safetensors_at(o.s, 4));
    assert_null(kv_safetensors_find(o.s, "__metadata__"));
    assert_int_equal(a->type, KV_F32);
    assert_int_equal(a->n_dims, 2);
    assert_int_equal(a->dims[0], 2);
    assert_int_equal(a->dims[1], 3);
    assert_int_equal(a->dims[2], 1);
    assert_int_equal(a->bytes, 24);
    assert_int_equal(*(const unsigned char *)a->data, 0);
    assert_int_equal(b->type, KV_F16);
    assert_int_equal(b->bytes, 6);
    assert_int_equal(*(const unsigned char *)b->data, 24);
    assert_int_equal(kv_safetensors_find(o.s, "scalar")->n_dims, 0);
    assert_int_equal(kv_safetensors_find(o.s, "none")->bytes, 0);
    done(&o);
}

static void names_both_shapes_when_one_is_not_as_expected(void **state) {
    (void)state;
    opened o;
    const kv_st_tensor *t = NULL;
    assert_int_equal(open_header(&o, good, 32), KV_OK);
    assert_int_equal(kv_safetensors_expect(o.s, "a", 2, (int64_t[]){2, 3}, &t, &o.err), KV_OK);
    assert_ptr_equal(t, kv_safetensors_find(o.s, "a"));
    assert_int_equal(kv_safetensors_expect(o.s, "a", 2, (int64_t[]){3, 2}, &t, &o.err), KV_EFORMAT);
    assert_non_null(strstr(o.err.text, "tensor 'a' has shape (2, 3), (3, 2) expected"));
    assert_int_equal(kv_safetensors_expect(o.s, "b", 2, (int64_t[]){3, 1}, &t, &o.err), KV_EFORMAT);
    assert_non_null(strstr(o.err.text, "has shape (3), (3, 1) expected"));
    assert_int_equal(kv_safetensors_expect(o.s, "c", 1, (int64_t[]){3}, &t, &o.err), KV_ENOTFOUND);
    assert_non_null(strstr(o.err.text, "no tensor 'c'"));
    done(&o);
}

static void rejects_every_truncation_of_a_small_file(void **state) {
    (void)state;
    unsigned char buf[1024];
    size_t size = compose(buf, good, 32);
    opened o;
    for (size_t n = 0; n < size; n++) {
        if (open_bytes(&o, buf, n) != KV_EFORMAT) fail_msg("%zu of %zu bytes were accepted", n, size);
        done(&o);
    }
    /* One byte too many is damage as well. */
    assert_int_equal(open_bytes(&o, buf, size + 1), KV_EFORMAT);
    assert_non_null(strstr(o.err.text, "1 bytes behind the last tensor"));
    done(&o);
}

static void rejects_bad_headers(void **state) {
    (void)state;
    static const char *const headers[] = {
        "",
        " ",
        "{",
        "[]",
        "null",
        "{}{}",
        "{} x",
        "{\"a\":1,",
        "{\"a\":1}",
        "{\"a\":[]}",
        "{\"a\":{}}",
        "{\"\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,4]}}",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[1]}}",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":1,\"data_offsets\":[0,4]}}",
        "{\"a\":{\"dtype\":1,\"shape\":[1],\"data_offsets\":[0,4]}}",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0]}}",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4,8]}}",
        "{\"a\":{\"dtype\":\"F32\",\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[\"1\"],\"data_offsets\":[0,4]}}",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[-1],\"data_offsets\":[0,4]}}",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[1.5],\"data_offsets\":[0,4]}}",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[1e300],\"data_offsets\":[0,4]}}",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[9007199254740992,4],\"data_offsets\":[0,4]}}",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,0]}}",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,4]}}",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,0]}}",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[1,5]}}",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[1e18,1e18]}}",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[2,2]}}",
    };
    for (size_t i = 0; i < sizeof headers / sizeof *headers; i++) {
        opened o;
        if (open_header(&o, headers[i], 4) != KV_EFORMAT) fail_msg("accepted: %s", headers[i]);
        done(&o);
    }
}

static void names_tensors_that_overlap_leave_holes_or_repeat(void **state) {
    (void)state;
    static const struct {
        const char *header, *part;
    } cases[] = {
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},"
         "\"b\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[4,12]}}",
         "tensors 'a' and 'b' overlap"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
         "\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[8,12]}}",
         "unused bytes before tensor 'b'"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
         "\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[4,12]}}",
         "tensor 'a' occurs twice"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,16]}}", "lies outside the file's 12 data bytes"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,12]}}",
         "has 12 bytes, its shape and dtype need 8"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        opened o;
        assert_int_equal(open_header(&o, cases[i].header, 12), KV_EFORMAT);
        if (!strstr(o.err.text, cases[i].part)) fail_msg("'%s' lacks '%s'", o.err.text, cases[i].part);
        done(&o);
    }
}

static void names_the_tensor_of_an_unsupported_kind(void **state) {
    (void)state;
    opened o;
    assert_int_equal(open_header(&o, "{\"q\":{\"dtype\":\"I64\",\"shape\":[1],\"data_offsets\":[0,8]}}", 8),
                     KV_EUNSUPPORTED);
    assert_non_null(strstr(o.err.text, "tensor 'q' has dtype I64"));
    done(&o);
    assert_int_equal(open_header(&o, "{\"q\":{\"dtype\":\"F16\",\"shape\":[1,1,1,1,1],\"data_offsets\":[0,2]}}", 2),
                     KV_EUNSUPPORTED);
    assert_non_null(strstr(o.err.text, "tensor 'q' has more than 4 dimensions"));
    done(&o);
}

static void rejects_header_lengths_beyond_the_file_and_the_limit(void **state) {
    (void)state;
    static const uint64_t lengths[] = {3, 100, UINT64_C(1) << 32, UINT64_MAX};
    unsigned char buf[16] = {0};
    opened o;
    memcpy(buf + 8, "{}", 2);
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        memcpy(buf, &lengths[i], 8);
        assert_int_equal(open_bytes(&o, buf, 10), KV_EFORMAT);
        done(&o);
    }
    size_t n = (16u << 20) + 1;
    unsigned char *big = malloc(n + 8);
    assert_non_null(big);
    uint64_t header = n;
    memset(big, ' ', n + 8);
    memcpy(big, &header, 8);
    memcpy(big + 8, "{}", 2);
    assert_int_equal(open_bytes(&o, big, n + 8), KV_ELIMIT);
    done(&o);
    header--;
    memcpy(big, &header, 8);
    assert_int_equal(open_bytes(&o, big, n + 7), KV_OK);
    assert_int_equal(kv_safetensors_n(o.s), 0);
    done(&o);
    free(big);
}

static void rejects_deep_nesting_without_running_out_of_stack(void **state) {
    (void)state;
    enum { DEPTH = 200000 };
    unsigned char *buf = malloc(DEPTH + 64);
    assert_non_null(buf);
    uint64_t n = DEPTH + 5;
    memcpy(buf, &n, 8);
    memcpy(buf + 8, "{\"a\":", 5);
    memset(buf + 13, '[', DEPTH);
    opened o;
    assert_int_equal(open_bytes(&o, buf, 8 + n), KV_EFORMAT);
    done(&o);
    free(buf);
}

static void survives_any_changed_byte(void **state) {
    (void)state;
    unsigned char buf[1024];
    size_t size = compose(buf, good, 32);
    for (size_t i = 0; i < size - 32; i++) {
        for (int bit = 0; bit < 8; bit++) {
            opened o;
            buf[i] ^= (unsigned char)(1 << bit);
            open_bytes(&o, buf, size);
            done(&o);
            buf[i] ^= (unsigned char)(1 << bit);
        }
    }
}

static void reads_the_projects_gate_file(void **state) {
    (void)state;
    kv_safetensors *s;
    kv_error err;
    assert_int_equal(kv_safetensors_open(GATES, &s, &err), KV_OK);
    assert_int_equal(kv_safetensors_n(s), 120);
    const kv_st_tensor *t = kv_safetensors_find(s, "model.layers.29.self_attn.retention_gate.linear1.weight");
    assert_non_null(t);
    assert_int_equal(t->type, KV_F16);
    assert_int_equal(t->dims[0], 128);
    assert_int_equal(t->dims[1], 576);
    kv_safetensors_close(s);
}

static void rejects_the_gate_file_cut_anywhere(void **state) {
    (void)state;
    kv_map map;
    kv_error err;
    kv_safetensors *s;
    assert_int_equal(kv_map_open(GATES, &map, &err), KV_OK);
    for (size_t n = 0; n < map.size; n += 65536) {
        assert_int_equal(kv_safetensors_open_memory(map.data, n, "cut", &s, &err), KV_EFORMAT);
        assert_null(s);
    }
    kv_map_close(&map);
}

static void names_the_path_of_files_that_cannot_be_opened(void **state) {
    (void)state;
    scratch dir;
    kv_safetensors *s;
    kv_error err;
    assert_int_equal(scratch_open(&dir), 0);
    assert_int_equal(kv_safetensors_open(scratch_path(&dir, "absent.safetensors"), &s, &err), KV_ENOTFOUND);
    assert_non_null(strstr(err.text, "absent.safetensors"));
    assert_int_equal(kv_safetensors_open(scratch_write(&dir, "empty", "", 0), &s, &err), KV_EFORMAT);
    assert_int_equal(kv_safetensors_open(scratch_write(&dir, "short", "1234567", 7), &s, &err), KV_EFORMAT);
    scratch_close(&dir);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finds_tensors_with_shape_type_and_bytes),
        cmocka_unit_test(names_both_shapes_when_one_is_not_as_expected),
        cmocka_unit_test(rejects_every_truncation_of_a_small_file),
        cmocka_unit_test(rejects_bad_headers),
        cmocka_unit_test(names_tensors_that_overlap_leave_holes_or_repeat),
        cmocka_unit_test(names_the_tensor_of_an_unsupported_kind),
        cmocka_unit_test(rejects_header_lengths_beyond_the_file_and_the_limit),
        cmocka_unit_test(rejects_deep_nesting_without_running_out_of_stack),
        cmocka_unit_test(survives_any_changed_byte),
        cmocka_unit_test(reads_the_projects_gate_file),
        cmocka_unit_test(rejects_the_gate_file_cut_anywhere),
        cmocka_unit_test(names_the_path_of_files_that_cannot_be_opened),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
