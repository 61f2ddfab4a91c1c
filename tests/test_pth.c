/* test_pth.c - torch.save files: whole ones against the same tensors as .safetensors, hostile and damaged ones.
 * The files in golden/pth are made by scripts/golden_pth.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/file.h"
#include "engine/gates.h"
#include "engine/pickle.h"
#include "engine/pth.h"
#include "tests/support/scratch.h"

#define GOLDEN KV_SOURCE_DIR "/tests/golden/pth/"
#define BIAS "model.layers.0.self_attn.retention_gate.bias"

static const kv_shape shape = {.n_layers = 2, .n_heads = 4, .n_kv_heads = 2, .head_dim = 3, .dim = 8};

/* Text literals hold the zero bytes of pickles: the size is the array's. */
#define PICKLE(s) s, sizeof(s) - 1

static void must_hold(const char *pth, const char *safetensors) {
    kv_pth *p;
    kv_safetensors *s;
    kv_error err;
    if (kv_pth_open(pth, &p, &err) != KV_OK) fail_msg("%s", err.text);
    assert_int_equal(kv_safetensors_open(safetensors, &s, &err), KV_OK);
    assert_int_equal(kv_pth_n(p), kv_safetensors_n(s));
    for (size_t i = 0; i < kv_pth_n(p); i++) {
        const kv_st_tensor *a = kv_pth_at(p, i), *b = kv_safetensors_at(s, i);
        assert_string_equal(a->name, b->name);
        assert_int_equal(a->type, b->type);
        assert_int_equal(a->n_dims, b->n_dims);
        assert_memory_equal(a->dims, b->dims, sizeof a->dims);
        assert_int_equal(a->bytes, b->bytes);
        assert_memory_equal(a->data, b->data, a->bytes);
    }
    assert_null(kv_pth_at(p, kv_pth_n(p)));
    kv_safetensors_close(s);
    kv_pth_close(p);
}

static void holds_the_tensors_of_the_safetensors_file(void **state) {
    (void)state;
    must_hold(GOLDEN "gates_f32.pth", GOLDEN "gates_f32.safetensors");
    must_hold(GOLDEN "gates_f16.pth", GOLDEN "gates_f16.safetensors");
    must_hold(GOLDEN "gates_bf16.pth", GOLDEN "gates_bf16.safetensors");
}

static void reads_state_dicts_parameters_protocol_4_and_shared_storages(void **state) {
    (void)state;
    must_hold(GOLDEN "state_dict.pth", GOLDEN "gates_f16.safetensors");
    must_hold(GOLDEN "protocol_4.pth", GOLDEN "gates_f16.safetensors");
    must_hold(GOLDEN "views.pth", GOLDEN "gates_f16.safetensors");
    must_hold(GOLDEN "parameters.pth", GOLDEN "gates_f16.safetensors");
}

static void gates_must_equal(const char *path, const char *other) {
    kv_gate_file *a, *b;
    kv_error err;
    if (kv_gates_open(path, &shape, &a, &err) != KV_OK) fail_msg("%s", err.text);
    assert_int_equal(kv_gates_open(other, &shape, &b, &err), KV_OK);
    assert_int_equal(kv_gates_view(a)->type, KV_GATE_RG);
    assert_int_equal(kv_gates_view(a)->n_hidden, 5);
    for (int l = 0; l < 2; l++) {
        const kv_gate_layer *x = &kv_gates_view(a)->layers[l], *y = &kv_gates_view(b)->layers[l];
        assert_memory_equal(x->w1, y->w1, 5 * 8 * sizeof(float));
        assert_memory_equal(x->b1, y->b1, 5 * sizeof(float));
        assert_memory_equal(x->w2, y->w2, 2 * 5 * sizeof(float));
        assert_memory_equal(x->bias, y->bias, 2 * sizeof(float));
    }
    kv_gates_close(a);
    kv_gates_close(b);
}

static void copy(scratch *s, const char *from, const char *name) {
    char *data;
    size_t n;
    kv_error err;
    assert_int_equal(kv_read_file(from, &data, &n, &err), KV_OK);
    assert_non_null(scratch_write(s, name, data, n));
    free(data);
}

static void gates_come_from_a_pth_file_or_a_folder_with_one(void **state) {
    (void)state;
    scratch s;
    assert_int_equal(scratch_open(&s), 0);
    gates_must_equal(GOLDEN "gates_f32.pth", GOLDEN "gates_f32.safetensors");
    gates_must_equal(GOLDEN "gates_bf16.pth", GOLDEN "gates_bf16.safetensors");
    copy(&s, GOLDEN "gates_f16.pth", "trimkv_weights.pth");
    gates_must_equal(s.dir, GOLDEN "gates_f16.safetensors");
    copy(&s, GOLDEN "gates_f32.safetensors", "trimkv_weights.safetensors");
    gates_must_equal(s.dir, GOLDEN "gates_f32.safetensors");
    scratch_close(&s);
}

static void refuses_bad_files_by_what_is_wrong(void **state) {
    (void)state;
    static const struct {
        const char *file;
        int code;
        const char *part;
    } cases[] = {
        {"bad_shape.pth", KV_EFORMAT, "for 2 layers, inputs of 7, 2 KV heads; the model has 2, 8, 2"},
        {"bad_strides.pth", KV_EUNSUPPORTED,
         "linear1.weight' does not fit its storage of 40 elements or is not contig"},
        {"bad_dtype.pth", KV_EUNSUPPORTED, "linear1.weight' has dtype Long; Float, Half and BFloat16 are read"},
        {"bad_list.pth", KV_EFORMAT, "linear1.weight' of the dict is no tensor"},
        {"bad_compressed.pth", KV_EUNSUPPORTED, "data.pkl' is compressed or encrypted"},
        {"bad_missing.pth", KV_EFORMAT, BIAS "': its storage data/3 is missing"},
        {"bad_short.pth", KV_EFORMAT, "its storage has 78 bytes, 40 elements of 2 expected"},
        {"bad_byteorder.pth", KV_EUNSUPPORTED, "byte order is not little-endian"},
        {"bad_no_index.pth", KV_EFORMAT, "no data.pkl"},
        {"evil_global.pth", KV_EUNSUPPORTED, "opcode GLOBAL: posix.system is refused"},
        {"evil_stack_global.pth", KV_EUNSUPPORTED, "opcode STACK_GLOBAL: posix.system is refused"},
        {"evil_inst.pth", KV_EUNSUPPORTED, "opcode INST: refused"},
        {"no_such.pth", KV_ENOTFOUND, "no_such.pth"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char path[512];
        kv_gate_file *g;
        kv_error err;
        snprintf(path, sizeof path, "%s%s", GOLDEN, cases[i].file);
        int rc = kv_gates_open(path, &shape, &g, &err);
        if (rc != cases[i].code || g || !strstr(err.text, cases[i].part) || !strstr(err.text, cases[i].file))
            fail_msg("%s: code %d, '%s', wanted '%s'", cases[i].file, rc, err.text, cases[i].part);
    }
    kv_pth *p;
    kv_error err;
    assert_int_equal(kv_pth_open(GOLDEN "gates_f16.safetensors", &p, &err), KV_EFORMAT);
    assert_non_null(strstr(err.text, "no zip archive"));
    assert_int_not_equal(access("EVIL_PTH_RAN", F_OK), 0);
}

/* A copy of the exact size, for the address sanitizer. */
static void *exact(const void *data, size_t n) {
    void *p = malloc(n ? n : 1);
    assert_non_null(p);
    memcpy(p, data, n);
    return p;
}

static void rejects_every_truncation_of_the_archive(void **state) {
    (void)state;
    char *whole;
    size_t size;
    kv_error err;
    assert_int_equal(kv_read_file(GOLDEN "gates_bf16.pth", &whole, &size, &err), KV_OK);
    for (size_t n = 0; n < size; n += n + 64 < size ? 64 : 1) {
        kv_pth *p;
        void *part = exact(whole, n);
        int rc = kv_pth_open_memory(part, n, "cut.pth", &p, &err);
        if (rc != KV_EFORMAT || p || !strstr(err.text, "cut.pth")) fail_msg("%zu bytes: %d, '%s'", n, rc, err.text);
        free(part);
    }
    free(whole);
}

/* Whatever byte is damaged, the sums notice it or it did not matter. */
static void survives_a_changed_byte_anywhere(void **state) {
    (void)state;
    char *whole;
    size_t size, refused = 0;
    kv_error err;
    assert_int_equal(kv_read_file(GOLDEN "gates_bf16.pth", &whole, &size, &err), KV_OK);
    for (size_t at = 0; at < size; at++) {
        kv_pth *p;
        whole[at] ^= 0x11;
        int rc = kv_pth_open_memory(whole, size, "damaged.pth", &p, &err);
        whole[at] ^= 0x11;
        refused += rc != KV_OK;
        if (rc == KV_OK) assert_int_equal(kv_pth_n(p), 8);
        kv_pth_close(p);
    }
    assert_true(refused > size / 2);
    free(whole);
}

static void rejects_every_truncation_of_a_pickle(void **state) {
    (void)state;
    static const char *const files[] = {"state_dict", "protocol_4"};
    for (int f = 0; f < 2; f++) {
        char path[512], *whole;
        size_t size;
        kv_pickle *p;
        kv_error err;
        snprintf(path, sizeof path, "%s/tests/fuzz/corpus/pickle/%s", KV_SOURCE_DIR, files[f]);
        assert_int_equal(kv_read_file(path, &whole, &size, &err), KV_OK);
        assert_int_equal(kv_pickle_read(whole, size, "whole", &p, &err), KV_OK);
        assert_int_equal(kv_pickle_n(p), 8);
        kv_pickle_free(p);
        for (size_t n = 0; n < size; n++) {
            void *part = exact(whole, n);
            int rc = kv_pickle_read(part, n, "cut", &p, &err);
            if (rc != KV_EFORMAT || p || !strstr(err.text, "truncated?"))
                fail_msg("%zu bytes: %d, '%s'", n, rc, err.text);
            free(part);
        }
        free(whole);
    }
}

#define TEXT(n, s) "X" n "\0\0\0" s
#define TENSOR_CLASS "ctorch._utils\n_rebuild_tensor_v2\n"
#define STORAGE(class, n) "((" TEXT("\7", "storage") "c" class TEXT("\1", "0") TEXT("\3", "cpu") "K" n "tQ"
#define HOOKS "ccollections\nOrderedDict\n)R"
/* A dict with one tensor "a". */
#define ONE(storage, rest) "\x80\2}" TEXT("\1", "a") TENSOR_CLASS storage rest "tRs."

static void describes_a_tensor(void **state) {
    (void)state;
    kv_pickle *p;
    kv_error err;
    if (kv_pickle_read(PICKLE(ONE(STORAGE("torch\nHalfStorage\n", "\x1e"), "K\2K\3K\4\x86K\4\x8a\1\1\x86\x89" HOOKS)),
                       "one", &p, &err) != KV_OK)
        fail_msg("%s", err.text);
    assert_int_equal(kv_pickle_n(p), 1);
    const kv_pickle_tensor *t = kv_pickle_at(p, 0);
    assert_string_equal(t->name, "a");
    assert_string_equal(t->storage, "0");
    assert_string_equal(t->dtype, "Half");
    assert_int_equal(t->type, KV_F16);
    assert_int_equal(t->n_stored, 30);
    assert_int_equal(t->offset, 2);
    assert_int_equal(t->n_dims, 2);
    assert_int_equal(t->dims[0], 3);
    assert_int_equal(t->dims[1], 4);
    assert_int_equal(t->dims[2], 1);
    assert_int_equal(t->strides[0], 4);
    assert_int_equal(t->strides[1], 1);
    kv_pickle_free(p);
}

static void refuses_pickles_by_byte_and_opcode(void **state) {
    (void)state;
#define GOOD STORAGE("torch\nHalfStorage\n", "\x1e")
    static const struct {
        const char *data;
        size_t n;
        int code;
        const char *part;
    } cases[] = {
        {PICKLE(""), KV_EFORMAT, "without a STOP"},
        {PICKLE("\x80\1}."), KV_EUNSUPPORTED, "byte 0, opcode PROTO: protocol 1"},
        {PICKLE("\x80\2]."), KV_EFORMAT, "holds no dict"},
        {PICKLE("\x80\2}}."), KV_EFORMAT, "byte 4, opcode STOP: more or less than one value"},
        {PICKLE("\x80\2."), KV_EFORMAT, "more or less than one value"},
        {PICKLE("\x80\2}.}"), KV_EFORMAT, "1 bytes behind it"},
        {PICKLE("\x80\2\xff"), KV_EFORMAT, "byte 2, opcode unknown: 0xff is no opcode"},
        {PICKLE("\x80\2t"), KV_EFORMAT, "opcode TUPLE: no MARK"},
        {PICKLE("\x80\2(\x85"), KV_EFORMAT, "opcode TUPLE1: the stack holds too few values"},
        {PICKLE("\x80\2K\1(K\1s"), KV_EFORMAT, "opcode SETITEM: the stack holds too few values"},
        {PICKLE("\x80\2]K\1K\1s"), KV_EFORMAT, "opcode SETITEM: applied to something that is no dict"},
        {PICKLE("\x80\2}K\1a"), KV_EFORMAT, "opcode APPEND: applied to something that is no list"},
        {PICKLE("\x80\2}(K\1u"), KV_EFORMAT, "a key without a value"},
        {PICKLE("\x80\2}K\1Ns."), KV_EFORMAT, "entry 0 of the dict has no name"},
        {PICKLE("\x80\2h\0"), KV_EFORMAT, "nothing is at memo place 0"},
        {PICKLE("\x80\2}r\xff\xff\xff\xff"), KV_EFORMAT, "opcode LONG_BINPUT: memo place 4294967295"},
        {PICKLE("\x80\2q\0"), KV_EFORMAT, "nothing to remember"},
        {PICKLE("\x80\2" TEXT("\2", "a\0")), KV_EFORMAT, "zero byte"},
        {PICKLE("\x80\2X\xff\xff\xff\xff"), KV_EFORMAT, "truncated?"},
        {PICKLE("\x80\4\x8d\xff\xff\xff\xff\xff\xff\xff\xff"), KV_EFORMAT, "opcode BINUNICODE8"},
        {PICKLE("\x80\4\x95\xff\xff\xff\xff\xff\xff\xff\xff"), KV_EFORMAT, "opcode FRAME"},
        {PICKLE("\x80\2\x8a\x09"), KV_EFORMAT, "integer of 9 bytes"},
        {PICKLE("\x80\2K\1Q"), KV_EFORMAT, "opcode BINPERSID: its argument describes no storage"},
        {PICKLE("\x80\2\x8cK\1"), KV_EFORMAT, "opcode SHORT_BINUNICODE"},
        {PICKLE("\x80\4K\1K\1\x93"), KV_EFORMAT, "opcode STACK_GLOBAL: module and name are no texts"},
        {PICKLE("\x80\2cbuiltins\neval\n"), KV_EUNSUPPORTED, "byte 2, opcode GLOBAL: builtins.eval is refused"},
        {PICKLE("\x80\2ctorch\n_utils._rebuild_tensor_v2\n"), KV_EUNSUPPORTED,
         "torch._utils._rebuild_tensor_v2 is ref"},
        {PICKLE("\x80\2ca\x1b[2J\nb\n"), KV_EUNSUPPORTED, "a?[2J.b is refused"},
        {PICKLE("\x80\2ctorch\nHalfStorage\n)R"), KV_EUNSUPPORTED, "opcode REDUCE: applied to something other than"},
        {PICKLE("\x80\2ccollections\nOrderedDict\n]\x85R"), KV_EUNSUPPORTED, "opcode REDUCE"},
        {PICKLE("\x80\2ctorch._utils\n_rebuild_parameter\n}\x89" HOOKS "\x87R"), KV_EFORMAT,
         "arguments of _rebuild_parameter describe no"},
        {PICKLE("\x80\2ctorch._utils\n_rebuild_parameter\n)R"), KV_EFORMAT, "arguments of _rebuild_parameter"},
        {PICKLE("\x80\2})R"), KV_EUNSUPPORTED, "opcode REDUCE"},
        {PICKLE("\x80\2}}b"), KV_EUNSUPPORTED, "opcode BUILD: applied to something that is no OrderedDict"},
        {PICKLE("\x80\2" HOOKS ")b"), KV_EUNSUPPORTED, "opcode BUILD: a state that is no dict"},
        {PICKLE("\x80\2ccollections\nOrderedDict\n}b"), KV_EFORMAT, "opcode BUILD"},
        {PICKLE("\x80\2ccollections\nOrderedDict\n)\x81"), KV_EUNSUPPORTED, "opcode NEWOBJ: refused"},
        {PICKLE("\x80\2ccollections\nOrderedDict\n)}\x92"), KV_EUNSUPPORTED, "opcode NEWOBJ_EX: refused"},
        {PICKLE("\x80\2(o"), KV_EUNSUPPORTED, "opcode OBJ: refused"},
        {PICKLE("\x80\2\x82\1"), KV_EUNSUPPORTED, "opcode EXT1: refused"},
        {PICKLE("\x80\2Pid\n"), KV_EUNSUPPORTED, "opcode PERSID: refused"},
        {PICKLE("\x80\2"
                "2"),
         KV_EUNSUPPORTED, "opcode DUP: refused"},
        {PICKLE(ONE(STORAGE("collections\nOrderedDict\n", "\1"), "")), KV_EFORMAT, "opcode BINPERSID"},
        {PICKLE(ONE(GOOD, "K\0K\1\x85K\1\x85\x89")), KV_EFORMAT, "arguments of _rebuild_tensor_v2"},
        {PICKLE(ONE(GOOD, "K\0K\1\x85K\1\x85\x89" HOOKS "N")), KV_EFORMAT, "arguments of _rebuild_tensor_v2"},
        {PICKLE(ONE(GOOD, "K\0K\1\x85K\1K\1\x86\x89" HOOKS)), KV_EFORMAT, "arguments of _rebuild_tensor_v2"},
        {PICKLE(ONE(GOOD, "K\0N\x85K\1\x85\x89" HOOKS)), KV_EFORMAT, "arguments of _rebuild_tensor_v2"},
        {PICKLE(ONE(GOOD, "J\xff\xff\xff\xffK\1\x85K\1\x85\x89" HOOKS)), KV_EFORMAT, "arguments of _rebuild"},
        {PICKLE(ONE(GOOD, "K\0\x8a\1\xff\x85K\1\x85\x89" HOOKS)), KV_EFORMAT, "arguments of _rebuild_tensor_v2"},
        {PICKLE(ONE(GOOD, "K\0(K\1K\1K\1K\1K\1t(K\1K\1K\1K\1K\1t\x89" HOOKS)), KV_EUNSUPPORTED, "more than 4 dim"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        kv_pickle *p;
        kv_error err;
        void *data = exact(cases[i].data, cases[i].n);
        int rc = kv_pickle_read(data, cases[i].n, "x.pth", &p, &err);
        if (rc != cases[i].code || p || !strstr(err.text, cases[i].part) || !strstr(err.text, "x.pth"))
            fail_msg("case %zu: code %d, '%s', wanted '%s'", i, rc, err.text, cases[i].part);
        free(data);
    }
}

static void limits_depth_and_size(void **state) {
    (void)state;
    size_t n = (1 << 20) + 1;
    char *data = malloc(n);
    kv_pickle *p;
    kv_error err;
    assert_non_null(data);
    memset(data, '(', n);
    assert_int_equal(kv_pickle_read(data, n, "large", &p, &err), KV_ELIMIT);
    assert_non_null(strstr(err.text, "pickle of 1048577 bytes"));
    assert_int_equal(kv_pickle_read(data, n - 1, "deep", &p, &err), KV_ELIMIT);
    assert_non_null(strstr(err.text, "nested more than 64 deep"));
    memset(data, '}', n);
    data[n - 2] = '.';
    assert_int_equal(kv_pickle_read(data, n - 1, "wide", &p, &err), KV_EFORMAT);
    free(data);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(holds_the_tensors_of_the_safetensors_file),
        cmocka_unit_test(reads_state_dicts_parameters_protocol_4_and_shared_storages),
        cmocka_unit_test(gates_come_from_a_pth_file_or_a_folder_with_one),
        cmocka_unit_test(refuses_bad_files_by_what_is_wrong),
        cmocka_unit_test(rejects_every_truncation_of_the_archive),
        cmocka_unit_test(survives_a_changed_byte_anywhere),
        cmocka_unit_test(rejects_every_truncation_of_a_pickle),
        cmocka_unit_test(describes_a_tensor),
        cmocka_unit_test(refuses_pickles_by_byte_and_opcode),
        cmocka_unit_test(limits_depth_and_size),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
