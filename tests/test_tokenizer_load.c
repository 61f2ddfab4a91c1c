/* test_tokenizer_load.c - vocabularies from tokenizer.json and from GGUF metadata: what is read, what is refused. */
#include "engine/gguf.h"
#include "tests/support/gguf_writer.h"
#include "tests/support/token_golden.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static void assert_encodes(const kv_tokenizer *t, const char *text, int trusted, const int32_t *want, size_t n) {
    kv_ids ids = tg_encode(t, text, strlen(text), trusted);
    assert_int_equal(ids.n, n);
    assert_memory_equal(ids.ids, want, n * sizeof *want);
    kv_ids_free(&ids);
}

static void reads_bos_from_the_post_processor(void **state) {
    (void)state;
    kv_tokenizer *llama = tg_tokenizer("bpe-llama-bpe"), *qwen = tg_tokenizer("bpe-qwen2");
    assert_int_equal(kv_tokenizer_bos(llama), kv_tokenizer_special(llama, "<|begin_of_text|>"));
    assert_true(kv_tokenizer_bos(llama) > 0 && kv_tokenizer_add_bos(llama));
    assert_int_equal(kv_tokenizer_bos(qwen), -1);
    assert_int_equal(kv_tokenizer_eos(qwen), -1);
    assert_int_equal(kv_tokenizer_add_bos(qwen), 0);
    kv_tokenizer_close(llama);
    kv_tokenizer_close(qwen);
}

typedef struct damage {
    const char *json;
    int code;
    const char *says;
} damage;

#define PRE "\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false}"
#define MODEL "\"model\":{\"vocab\":{\"a\":0,\"b\":1,\"ab\":2},\"merges\":[\"a b\"]}"

static void refuses_what_it_would_get_wrong(void **state) {
    (void)state;
    static const damage cases[] = {
        {"", KV_EFORMAT, "here"},
        {"[]", KV_EFORMAT, "here"},
        {"{}", KV_EUNSUPPORTED, "pre_tokenizer"},
        {"{" MODEL "}", KV_EUNSUPPORTED, "pre_tokenizer"},
        {"{" PRE "}", KV_EFORMAT, "vocab"},
        {"{" PRE ",\"model\":{\"vocab\":{},\"merges\":[]}}", KV_EFORMAT, "vocab"},
        {"{" PRE ",\"model\":{\"vocab\":{\"a\":0}}}", KV_EFORMAT, "merges"},
        {"{" PRE ",\"model\":{\"vocab\":{\"a\":-1},\"merges\":[]}}", KV_EFORMAT, "\"a\""},
        {"{" PRE ",\"model\":{\"vocab\":{\"a\":0.5},\"merges\":[]}}", KV_EFORMAT, "\"a\""},
        {"{" PRE ",\"model\":{\"vocab\":{\"a\":1e300},\"merges\":[]}}", KV_EFORMAT, "\"a\""},
        {"{" PRE ",\"model\":{\"vocab\":{\"a\":99999999},\"merges\":[]}}", KV_EFORMAT, "\"a\""},
        {"{" PRE ",\"model\":{\"vocab\":{\"a\":\"0\"},\"merges\":[]}}", KV_EFORMAT, "\"a\""},
        {"{" PRE ",\"model\":{\"vocab\":{\"a\":0,\"b\":0},\"merges\":[]}}", KV_EFORMAT, "\"b\""},
        {"{" PRE ",\"model\":{\"vocab\":{\"a\":0,\"b\":1},\"merges\":[\"a b\"]}}", KV_EFORMAT, "\"a b\""},
        {"{" PRE ",\"model\":{\"vocab\":{\"a\":0,\"aa\":1},\"merges\":[\"a  a\"]}}", KV_EFORMAT, "merge 0"},
        {"{" PRE ",\"model\":{\"vocab\":{\"a\":0},\"merges\":[\"aa\"]}}", KV_EFORMAT, "merge 0"},
        {"{" PRE ",\"model\":{\"vocab\":{\"a\":0},\"merges\":[\"a \"]}}", KV_EFORMAT, "merge 0"},
        {"{" PRE ",\"model\":{\"vocab\":{\"a\":0},\"merges\":[\" a\"]}}", KV_EFORMAT, "merge 0"},
        {"{" PRE ",\"model\":{\"vocab\":{\"a\":0},\"merges\":[[\"a\"]]}}", KV_EFORMAT, "merge 0"},
        {"{" PRE ",\"model\":{\"vocab\":{\"a\":0},\"merges\":[[\"a\",\"a\",\"a\"]]}}", KV_EFORMAT, "merge 0"},
        {"{" PRE ",\"model\":{\"vocab\":{\"a\":0},\"merges\":[{\"x\":\"a\",\"y\":\"a\"}]}}", KV_EFORMAT, "merge 0"},
        {"{" PRE ",\"model\":{\"vocab\":{\"a\":0},\"merges\":[7]}}", KV_EFORMAT, "merge 0"},
        {"{" PRE ",\"model\":{\"type\":\"WordPiece\"}}", KV_EUNSUPPORTED, "WordPiece"},
        {"{" PRE ",\"model\":{\"type\":\"BPE\",\"byte_fallback\":true}}", KV_EUNSUPPORTED, "byte_fallback"},
        {"{" PRE ",\"model\":{\"unk_token\":\"<unk>\"}}", KV_EUNSUPPORTED, "unk_token"},
        {"{" PRE ",\"model\":{\"dropout\":0.1}}", KV_EUNSUPPORTED, "dropout"},
        {"{" PRE ",\"normalizer\":{\"type\":\"Lowercase\"},\"model\":{}}", KV_EUNSUPPORTED, "Lowercase"},
        {"{" MODEL ",\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":true}}", KV_EUNSUPPORTED,
         "ByteLevel"},
        {"{" MODEL ",\"pre_tokenizer\":{\"type\":\"Metaspace\"}}", KV_EUNSUPPORTED, "Metaspace"},
        {"{" PRE "," MODEL ",\"added_tokens\":[{\"id\":0,\"content\":\"x\"}]}", KV_EFORMAT, "\"x\""},
        {"{" PRE "," MODEL ",\"added_tokens\":[{\"id\":3,\"content\":\"\"}]}", KV_EFORMAT, "added token"},
        {"{" PRE "," MODEL ",\"added_tokens\":[{\"id\":3,\"content\":\"m\",\"single_word\":true}]}", KV_EUNSUPPORTED,
         "single_word"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        kv_tokenizer *t;
        kv_error err = {0};
        int rc = kv_tokenizer_from_json_memory(cases[i].json, strlen(cases[i].json), "here", &t, &err);
        if (rc != cases[i].code || t || !strstr(err.text, cases[i].says) ||
            (!strstr(err.text, "here") && !strstr(err.text, "merge")))
            fail_msg("case %zu, %s: code %d, \"%s\"", i, cases[i].json, rc, err.text);
    }
}

static void takes_both_spellings_of_merges(void **state) {
    (void)state;
    static const char *const files[] = {
        "{" PRE "," MODEL "}", "{" PRE ",\"normalizer\":{\"type\":\"NFC\"},\"model\":{\"type\":\"BPE\",\"vocab\":"
                               "{\"a\":0,\"b\":1,\"ab\":2},\"merges\":[[\"a\",\"b\"]]}}"};
    for (size_t i = 0; i < 2; i++) {
        kv_tokenizer *t;
        assert_int_equal(kv_tokenizer_from_json_memory(files[i], strlen(files[i]), "here", &t, NULL), KV_OK);
        assert_encodes(t, "aabab", 0, (int32_t[]){0, 2, 2}, 3);
        kv_tokenizer_close(t);
    }
}

static void survives_every_truncation_of_a_file(void **state) {
    (void)state;
    cJSON *root = tg_load("bpe-smollm.json");
    /* a small file: three merges are enough to have every construct */
    cJSON *model = cJSON_GetObjectItem(root, "model"), *merges = cJSON_GetObjectItem(model, "merges");
    while (cJSON_GetArraySize(merges) > 3) cJSON_DeleteItemFromArray(merges, 3);
    char *text = cJSON_PrintUnformatted(root);
    kv_tokenizer *t;
    size_t len = strlen(text);
    assert_int_equal(kv_tokenizer_from_json_memory(text, len, "whole", &t, NULL), KV_OK);
    kv_tokenizer_close(t);
    for (size_t n = 0; n < len; n += n < 400 || n + 400 > len ? 1 : 37) {
        assert_int_equal(kv_tokenizer_from_json_memory(text, n, "cut", &t, NULL), KV_EFORMAT);
        assert_null(t);
    }
    cJSON_free(text);
    cJSON_Delete(root);
}

/* A GGUF with tokens a, b, ab, abb and the control tokens <x> and bba; whatever a test wants different is left out here
 * by flags. */
enum { NO_PRE = 1, NO_TYPES = 2, FEW_TYPES = 4, NO_MERGES = 8, NO_TOKENS = 16, SENTENCEPIECE = 32, BAD_EOS = 64 };

static int load_gguf(const char *pre, int without, kv_tokenizer **out, kv_error *err) {
    static const char *const tokens[] = {"a", "b", "ab", "<x>", "abb", "bba"}, *const merges[] = {"a b"};
    static const int32_t types[] = {1, 1, 1, 3, 1, 3};
    gw_writer *w = gw_new();
    void *buf;
    size_t size;
    kv_gguf *g;
    gw_string(w, "tokenizer.ggml.model", without & SENTENCEPIECE ? "llama" : "gpt2");
    if (!(without & NO_PRE)) gw_string(w, "tokenizer.ggml.pre", pre);
    if (!(without & NO_TOKENS)) gw_string_array(w, "tokenizer.ggml.tokens", tokens, 6);
    if (!(without & NO_TYPES)) gw_i32_array(w, "tokenizer.ggml.token_type", types, without & FEW_TYPES ? 3 : 6);
    if (!(without & NO_MERGES)) gw_string_array(w, "tokenizer.ggml.merges", merges, 1);
    gw_u32(w, "tokenizer.ggml.bos_token_id", 3);
    gw_u32(w, "tokenizer.ggml.eos_token_id", without & BAD_EOS ? 6 : 2);
    assert_int_equal(gw_finish(w, &buf, &size), 0);
    gw_free(w);
    if (kv_gguf_open_memory(buf, size, "memory", &g, err)) fail_msg("%s", err->text);
    int rc = kv_tokenizer_from_gguf(g, out, err);
    kv_gguf_close(g);
    free(buf);
    return rc;
}

static void reads_gguf_metadata(void **state) {
    (void)state;
    kv_tokenizer *t;
    kv_error err;
    if (load_gguf("qwen2", 0, &t, &err)) fail_msg("%s", err.text);
    assert_int_equal(kv_tokenizer_n_tokens(t), 6);
    assert_int_equal(kv_tokenizer_bos(t), 3);
    assert_int_equal(kv_tokenizer_eos(t), 2);
    assert_int_equal(kv_tokenizer_add_bos(t), 0);
    assert_int_equal(kv_tokenizer_special(t, "<x>"), 3);
    assert_encodes(t, "abb<x>a", 1, (int32_t[]){2, 1, 3, 0}, 4);
    kv_tokenizer_close(t);
}

static void takes_whole_tokens_and_bos_for_llama(void **state) {
    (void)state;
    kv_tokenizer *t;
    kv_error err;
    if (load_gguf("llama-bpe", 0, &t, &err)) fail_msg("%s", err.text);
    assert_int_equal(kv_tokenizer_add_bos(t), 1);
    assert_encodes(t, "abb", 0, (int32_t[]){4}, 1);
    assert_encodes(t, "abba", 0, (int32_t[]){2, 1, 0}, 3);
    assert_encodes(t, "bba", 0, (int32_t[]){1, 1, 0}, 3); /* a control token, however whole, is none in plain text */
    assert_encodes(t, "bba", 1, (int32_t[]){5}, 1);
    kv_tokenizer_close(t);
}

static void has_no_special_tokens_without_token_types(void **state) {
    (void)state;
    kv_tokenizer *t;
    kv_error err;
    if (load_gguf("gpt-2", NO_TYPES, &t, &err)) fail_msg("%s", err.text);
    assert_int_equal(kv_tokenizer_special(t, "<x>"), -1);
    kv_tokenizer_close(t);
}

static void refuses_unfit_gguf_metadata(void **state) {
    (void)state;
    static const struct {
        const char *pre;
        int without, code;
        const char *says;
    } cases[] = {
        {"viking", 0, KV_EUNSUPPORTED, "\"viking\" is not known; known are smollm, gpt-2"},
        {"", NO_PRE, KV_EUNSUPPORTED, "\"\" is not known"},
        {"qwen2", SENTENCEPIECE, KV_EUNSUPPORTED, "tokenizer.ggml.model is \"llama\""},
        {"qwen2", FEW_TYPES, KV_EFORMAT, "token_type has 3 entries for 6 tokens"},
        {"qwen2", NO_MERGES, KV_ENOTFOUND, "merges"},
        {"qwen2", NO_TOKENS, KV_ENOTFOUND, "tokens"},
        {"qwen2", BAD_EOS, KV_EFORMAT, "eos id 6"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        kv_tokenizer *t;
        kv_error err = {0};
        int rc = load_gguf(cases[i].pre, cases[i].without, &t, &err);
        if (rc != cases[i].code || t || !strstr(err.text, cases[i].says))
            fail_msg("case %zu: code %d, \"%s\"", i, rc, err.text);
    }
}

static void agrees_with_the_default_models_gguf(void **state) {
    (void)state;
    static const char path[] = KV_SOURCE_DIR "/models/SmolLM2-135M-Instruct.Q4_1.gguf";
    if (access(path, R_OK) != 0) {
        print_message("skipped: %s is not there\n", path);
        skip();
    }
    kv_gguf *g;
    kv_tokenizer *t;
    kv_error err;
    if (kv_gguf_open(path, &g, &err) || kv_tokenizer_from_gguf(g, &t, &err)) fail_msg("%s", err.text);
    assert_int_equal(kv_tokenizer_n_tokens(t), 49152);
    assert_int_equal(kv_tokenizer_bos(t), 1);
    assert_int_equal(kv_tokenizer_eos(t), 2);
    assert_int_equal(kv_tokenizer_add_bos(t), 0);
    assert_int_equal(kv_tokenizer_special(t, "<|im_end|>"), 2);
    cJSON *golden = tg_load("tokenizer-cases.json");
    const cJSON *c;
    cJSON_ArrayForEach(c, cJSON_GetObjectItem(golden, "cases")) {
        size_t len;
        char *text = tg_unhex(cJSON_GetObjectItem(c, "hex"), &len);
        kv_ids ids = tg_encode(t, text, len, 1);
        tg_assert_ids(&ids, cJSON_GetObjectItem(cJSON_GetObjectItem(c, "ids"), "smollm2"), "GGUF");
        kv_ids_free(&ids);
        free(text);
    }
    cJSON_Delete(golden);
    kv_tokenizer_close(t);
    kv_gguf_close(g);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_bos_from_the_post_processor),
        cmocka_unit_test(refuses_what_it_would_get_wrong),
        cmocka_unit_test(takes_both_spellings_of_merges),
        cmocka_unit_test(survives_every_truncation_of_a_file),
        cmocka_unit_test(reads_gguf_metadata),
        cmocka_unit_test(takes_whole_tokens_and_bos_for_llama),
        cmocka_unit_test(has_no_special_tokens_without_token_types),
        cmocka_unit_test(refuses_unfit_gguf_metadata),
        cmocka_unit_test(agrees_with_the_default_models_gguf),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
