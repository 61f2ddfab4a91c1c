/* test_tokenizer_families.c - the pipelines of Qwen3, DeepSeek-R1-Distill, Phi-3 and their kin against Hugging Face:
 * normalisation, byte fallback, what special tokens swallow, decoding; and what of such files is refused.
 *
 * Golden files: scripts/golden_families.py. */
#include "tests/support/scratch.h"
#include "tests/support/token_golden.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#define META "\xE2\x96\x81"

static const char *const families[] = {"qwen3", "r1-qwen", "r1-llama", "phi-3", "phi-3-first", "metaspace"};
enum { N_FAMILIES = sizeof families / sizeof *families };

static kv_tokenizer *open_family(const char *name) {
    char file[64];
    snprintf(file, sizeof file, "family-%s", name);
    return tg_tokenizer(file);
}

static void assert_text(const kv_tokenizer *t, const kv_ids *ids, int skip_special, const char *want, size_t len,
                        const char *what) {
    char *text = kv_detokenize(t, ids->ids, ids->n, skip_special);
    assert_non_null(text);
    if (memcmp(text, want, len) != 0 || text[len]) fail_msg("%s: decoded \"%s\" instead of \"%s\"", what, text, want);
    free(text);
}

static void check_family(const char *name, const cJSON *cases) {
    kv_tokenizer *t = open_family(name);
    const cJSON *c;
    int n = 0;
    cJSON_ArrayForEach(c, cases) {
        char what[64];
        size_t len, shown;
        char *text = tg_unhex(cJSON_GetObjectItem(c, "hex"), &len);
        const cJSON *trusted = cJSON_GetObjectItem(cJSON_GetObjectItem(c, "ids"), name);
        const cJSON *plain = cJSON_GetObjectItem(cJSON_GetObjectItem(c, "plain"), name);
        const cJSON *decoded = cJSON_GetObjectItem(cJSON_GetObjectItem(c, "decoded"), name);
        snprintf(what, sizeof what, "%s case %d", name, n++);
        kv_ids ids = tg_encode(t, text, len, 1);
        tg_assert_ids(&ids, trusted, what);
        char *want = tg_unhex(decoded ? decoded : cJSON_GetObjectItem(c, "hex"), &shown);
        assert_text(t, &ids, 1, want, shown, what);
        free(want);
        kv_ids_free(&ids);
        ids = tg_encode(t, text, len, 0);
        tg_assert_ids(&ids, plain ? plain : trusted, what);
        kv_ids_free(&ids);
        free(text);
    }
    assert_true(n > 50);
    kv_tokenizer_close(t);
}

static void encodes_and_decodes_like_hugging_face(void **state) {
    (void)state;
    cJSON *golden = tg_load("family-cases.json");
    for (size_t k = 0; k < N_FAMILIES; k++) check_family(families[k], cJSON_GetObjectItem(golden, "cases"));
    cJSON_Delete(golden);
}

static void joins_and_normalises_across_part_borders(void **state) {
    (void)state;
    static const char text[] = "It's  e\xCC\xA3\xCC\x82 \xE1\x84\x92\xE1\x85\xA1\xE1\x86\xAB, \xE2\x96\x81 12  \n\n x";
    size_t len = sizeof text - 1;
    for (size_t k = 0; k < N_FAMILIES; k++) {
        kv_tokenizer *t = open_family(families[k]);
        kv_ids whole = tg_encode(t, text, len, 0);
        size_t last = 0;
        for (size_t cut = 0; cut <= len; cut++) {
            const kv_text_part parts[] = {{text, cut, 1}, {text + cut, len - cut, 0}};
            kv_ids ids = {0};
            size_t before;
            assert_int_equal(kv_tokenize_at(t, parts, 2, cut, &before, &ids, NULL), KV_OK);
            assert_int_equal(ids.n, whole.n);
            assert_memory_equal(ids.ids, whole.ids, whole.n * sizeof *whole.ids);
            assert_true(before <= ids.n);
            assert_int_equal(before == 0, cut == 0);
            if (((unsigned char)text[cut] & 0xC0) != 0x80) { /* between characters */
                assert_true(before >= last);
                last = before;
            }
            kv_ids_free(&ids);
        }
        assert_int_equal(last, whole.n);
        kv_ids_free(&whole);
        kv_tokenizer_close(t);
    }
}

/* ids before a byte, where normalisation moves bytes: as many as the text before it makes alone, when the border is
 * one of pieces too. */
static void counts_ids_before_a_byte_of_the_text_as_given(void **state) {
    (void)state;
    static const char head[] = "Cafe\xCC\x81 e\xCC\xA3\xCC\x82 \xE2\x84\xAB\n", tail[] = "What? e\xCC\x81";
    char text[64];
    snprintf(text, sizeof text, "%s%s", head, tail);
    for (size_t k = 0; k < N_FAMILIES; k++) {
        kv_tokenizer *t = open_family(families[k]);
        kv_ids ids = {0}, alone = tg_encode(t, head, sizeof head - 1, 0);
        size_t before;
        const kv_text_part part = {text, strlen(text), 0};
        assert_int_equal(kv_tokenize_at(t, &part, 1, sizeof head - 1, &before, &ids, NULL), KV_OK);
        assert_int_equal(before, alone.n);
        assert_true(ids.n > alone.n);
        kv_ids_free(&ids);
        kv_ids_free(&alone);
        kv_tokenizer_close(t);
    }
}

static void lets_role_tokens_take_the_blanks_of_a_message(void **state) {
    (void)state;
    kv_tokenizer *t = open_family("phi-3");
    const kv_text_part parts[] = {
        {"<|user|>\n", 9, 1}, {" \t\xE3\x80\x80", 5, 0}, {"\nHi <|end|>", 11, 0}, {"<|end|>\n<|assistant|>\n", 22, 1}};
    const kv_text_part same[] = {{"<|user|>", 8, 1}, {"Hi <|end|>", 10, 0}, {"<|end|><|assistant|>", 20, 1}};
    kv_ids a = {0}, b = {0};
    size_t before;
    assert_int_equal(kv_tokenize_at(t, parts, 4, 15, &before, &a, NULL), KV_OK);
    assert_int_equal(before, 1); /* the blanks in front of "Hi" are no ids */
    assert_int_equal(kv_tokenize(t, same, 3, &b, NULL), KV_OK);
    assert_int_equal(a.n, b.n);
    assert_memory_equal(a.ids, b.ids, a.n * sizeof *a.ids);
    assert_int_equal(a.ids[a.n - 1], kv_tokenizer_special(t, "<|assistant|>"));
    assert_int_equal(a.ids[a.n - 2], kv_tokenizer_special(t, "<|end|>"));
    kv_ids_free(&a);
    kv_ids_free(&b);
    kv_tokenizer_close(t);
}

static void keeps_bytes_that_are_no_utf8(void **state) {
    (void)state;
    static const char text[] = "ab\x80 e\xCC\x81\xFF\xC3(\xED\xA0\x80 x\xE2\x96",
                      nfc[] = "ab\x80 \xC3\xA9\xFF\xC3(\xED\xA0\x80 x\xE2\x96";
    static const char *const names[] = {"qwen3", "r1-llama", "phi-3"};
    for (size_t k = 0; k < 3; k++) {
        kv_tokenizer *t = open_family(names[k]);
        kv_ids ids = tg_encode(t, text, sizeof text - 1, 0);
        assert_text(t, &ids, 1, k ? text : nfc, k ? sizeof text - 1 : sizeof nfc - 1, names[k]);
        kv_ids_free(&ids);
        kv_tokenizer_close(t);
    }
}

static void encodes_enormous_texts_fast(void **state) {
    (void)state;
    enum { N = 1 << 17 };
    static const char *const fillings[] = {"a", " ", "\xF0\x9F\x98\x80", META " x", "e\xCC\x81"};
    char *text = malloc(N);
    assert_non_null(text);
    for (size_t k = 0; k < sizeof fillings / sizeof *fillings; k++) {
        size_t unit = strlen(fillings[k]);
        for (size_t i = 0; i < N; i++) text[i] = fillings[k][i % unit];
        for (int which = 0; which < 2; which++) {
            kv_tokenizer *t = open_family(which ? "phi-3" : "qwen3");
            time_t start = time(NULL);
            kv_ids ids = tg_encode(t, text, N - N % unit, 1);
            assert_true(ids.n > 0);
            /* quadratic time would be minutes; the rest is room for sanitizers and a busy machine */
            assert_true(time(NULL) - start < 20);
            kv_ids_free(&ids);
            kv_tokenizer_close(t);
        }
    }
    free(text);
}

static void shows_tokens_one_by_one_as_in_the_whole_text(void **state) {
    (void)state;
    kv_tokenizer *t = open_family("phi-3");
    static const char text[] = "<s>  Hi there<|end|> you";
    kv_ids ids = tg_encode(t, text, sizeof text - 1, 1);
    for (int skip = 0; skip < 2; skip++) {
        char *whole = kv_detokenize(t, ids.ids, ids.n, skip), pieces[64] = "";
        int first = 1;
        for (size_t i = 0, len; i < ids.n; i++) {
            const char *b = kv_token_shown(t, ids.ids[i], skip, &first, &len);
            strncat(pieces, b, len);
        }
        assert_string_equal(pieces, whole);
        assert_string_equal(whole, skip ? "  Hi there you" : "<s>   Hi there<|end|> you");
        free(whole);
    }
    kv_ids_free(&ids);
    kv_tokenizer_close(t);
}

#define CHARS(rest) "{\"model\":{\"vocab\":{\"a\":0,\"" META "\":1,\"<0x41>\":2}," rest
#define PREPEND                                                                                                        \
    "\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Prepend\",\"prepend\":\"" META                 \
    "\"},{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},\"content\":\"" META "\"}]}"
#define FIRST_STEPS                                                                                                    \
    "{\"type\":\"Replace\",\"pattern\":{\"String\":\"" META                                                            \
    "\"},\"content\":\" \"},{\"type\":\"ByteFallback\"},{\"type\":\"Fuse\"}"
#define DECODER "\"decoder\":{\"type\":\"Sequence\",\"decoders\":[" FIRST_STEPS "]}"

static void refuses_what_it_would_get_wrong(void **state) {
    (void)state;
    static const struct {
        const char *json, *says;
    } cases[] = {
        {CHARS("\"merges\":[]}," PREPEND "}"), "decoder"},
        {CHARS("\"merges\":[]}," PREPEND ",\"decoder\":{\"type\":\"Metaspace\"}}"), "\"Metaspace\""},
        {CHARS("\"merges\":[]}," PREPEND ",\"decoder\":{\"type\":\"Sequence\",\"decoders\":[" FIRST_STEPS
               ",{\"type\":\"Strip\",\"content\":\" \",\"start\":2,\"stop\":0}]}}"),
         "decoder"},
        {CHARS("\"merges\":[],\"byte_fallback\":true}," PREPEND "," DECODER "}"), "<0x00>"},
        {CHARS("\"merges\":[],\"unk_token\":\"<unk>\"}," PREPEND "," DECODER "}"), "\"<unk>\""},
        {CHARS("\"merges\":[]}," PREPEND ",\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"" META
               "\"}," DECODER "}"),
         "pre_tokenizer"},
        {CHARS("\"merges\":[]},\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"_\"}," DECODER "}"),
         "Metaspace"},
        {CHARS("\"merges\":[]},\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"" META
               "\",\"prepend_scheme\":\"last\"}," DECODER "}"),
         "Metaspace"},
        {CHARS("\"merges\":[]},\"normalizer\":{\"type\":\"Prepend\",\"prepend\":\"" META "\"}," DECODER "}"),
         "Replace"},
        {CHARS("\"merges\":[]},\"normalizer\":{\"type\":\"Prepend\",\"prepend\":\"x\"}," DECODER "}"), "Prepend"},
        {CHARS("\"merges\":[]}," PREPEND "," DECODER
               ",\"added_tokens\":[{\"id\":3,\"content\":\"<s>\",\"normalized\":true}]}"),
         "normalized"},
        {CHARS("\"merges\":[]}," PREPEND "," DECODER
               ",\"added_tokens\":[{\"id\":3,\"content\":\"m\",\"single_word\":true}]}"),
         "single_word"},
        {CHARS("\"merges\":[]}," PREPEND "," DECODER ",\"post_processor\":{\"type\":\"BertProcessing\"}}"),
         "BertProcessing"},
        {CHARS("\"merges\":[]}," PREPEND "," DECODER
               ",\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"Sequence\":{}},"
               "{\"SpecialToken\":{\"id\":\"</s>\"}}]}}"),
         "post_processor"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        kv_tokenizer *t;
        kv_error err = {0};
        int rc = kv_tokenizer_from_json_memory(cases[i].json, strlen(cases[i].json), "here", &t, &err);
        if (rc == KV_OK || t || !strstr(err.text, cases[i].says))
            fail_msg("case %zu, %s: code %d, \"%s\"", i, cases[i].json, rc, err.text);
    }
}

static void replaces_what_has_no_token(void **state) {
    (void)state;
    static const struct {
        const char *model;
        int32_t ids[5];
        size_t n;
    } cases[] = {{"\"merges\":[],\"unk_token\":\"u\",\"fuse_unk\":true}", {1, 0, 3}, 3},
                 {"\"merges\":[],\"unk_token\":\"u\"}", {1, 0, 3, 3, 3}, 5},
                 {"\"merges\":[]}", {1, 0}, 2}};
    for (size_t i = 0; i < 3; i++) {
        char json[1024];
        kv_tokenizer *t;
        kv_error err;
        snprintf(json, sizeof json,
                 "{\"model\":{\"vocab\":{\"a\":0,\"" META "\":1,\"u\":3},%s," PREPEND "," DECODER "}", cases[i].model);
        if (kv_tokenizer_from_json_memory(json, strlen(json), "here", &t, &err)) fail_msg("%s", err.text);
        kv_ids ids = tg_encode(t, "a\xC3\xA9\xC3\x9F!", 6, 0);
        assert_int_equal(ids.n, cases[i].n);
        assert_memory_equal(ids.ids, cases[i].ids, ids.n * sizeof *ids.ids);
        kv_ids_free(&ids);
        kv_tokenizer_close(t);
    }
}

static char *family_text(const char *name) {
    char file[64];
    snprintf(file, sizeof file, "family-%s.json", name);
    cJSON *root = tg_load(file);
    char *text = cJSON_PrintUnformatted(root);
    assert_non_null(text);
    cJSON_Delete(root);
    return text;
}

static void reads_bos_and_eos_of_a_folder(void **state) {
    (void)state;
    static const struct {
        const char *family, *config, *bos, *eos, *says; /* says: of an error */
        int add_bos;
    } cases[] = {
        {"phi-3", NULL, "<s>", NULL, NULL, 1},
        {"phi-3", "{\"add_bos_token\":false,\"bos_token\":\"<s>\",\"eos_token\":\"<|endoftext|>\"}", "<s>",
         "<|endoftext|>", NULL, 0},
        {"phi-3-first", "{\"add_bos_token\":true,\"bos_token\":{\"content\":\"<s>\"},\"eos_token\":null}", "<s>", NULL,
         NULL, 1},
        {"qwen3", "{\"add_bos_token\":false,\"bos_token\":null,\"eos_token\":{\"content\":\"<|im_end|>\"}}", NULL,
         "<|im_end|>", NULL, 0},
        {"qwen3", "{\"add_bos_token\":true}", NULL, NULL, "there is no bos_token", 0},
        {"qwen3", "{\"eos_token\":\"<|eot|>\"}", NULL, NULL, "eos_token \"<|eot|>\"", 0},
        {"qwen3", "[]", NULL, NULL, "tokenizer_config.json", 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        scratch s;
        kv_tokenizer *t;
        kv_error err = {0};
        char *json = family_text(cases[i].family);
        assert_int_equal(scratch_open(&s), 0);
        assert_int_equal(kv_tokenizer_from_dir(s.dir, &t, &err), KV_ENOTFOUND);
        assert_non_null(scratch_write(&s, "tokenizer.json", json, strlen(json)));
        if (cases[i].config)
            assert_non_null(scratch_write(&s, "tokenizer_config.json", cases[i].config, strlen(cases[i].config)));
        int rc = kv_tokenizer_from_dir(s.dir, &t, &err);
        if (cases[i].says) {
            if (rc == KV_OK || t || !strstr(err.text, cases[i].says)) fail_msg("case %zu: \"%s\"", i, err.text);
        } else {
            if (rc) fail_msg("case %zu: %s", i, err.text);
            assert_int_equal(kv_tokenizer_bos(t), cases[i].bos ? kv_tokenizer_special(t, cases[i].bos) : -1);
            assert_int_equal(kv_tokenizer_eos(t), cases[i].eos ? kv_tokenizer_special(t, cases[i].eos) : -1);
            assert_int_equal(kv_tokenizer_add_bos(t), cases[i].add_bos);
        }
        kv_tokenizer_close(t);
        scratch_close(&s);
        cJSON_free(json);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(encodes_and_decodes_like_hugging_face),
        cmocka_unit_test(joins_and_normalises_across_part_borders),
        cmocka_unit_test(counts_ids_before_a_byte_of_the_text_as_given),
        cmocka_unit_test(lets_role_tokens_take_the_blanks_of_a_message),
        cmocka_unit_test(keeps_bytes_that_are_no_utf8),
        cmocka_unit_test(encodes_enormous_texts_fast),
        cmocka_unit_test(shows_tokens_one_by_one_as_in_the_whole_text),
        cmocka_unit_test(refuses_what_it_would_get_wrong),
        cmocka_unit_test(replaces_what_has_no_token),
        cmocka_unit_test(reads_bos_and_eos_of_a_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
