/* test_tokenizer.c - pieces and ids against Hugging Face tokenizers, special tokens, round trips, enormous words.
 *
 * Golden files: scripts/golden_tokenizer.py.  Loading is in test_tokenizer_load.c. */
#include "engine/pretokenize.h"
#include "tests/support/token_golden.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

static const char *const patterns[] = {"smollm", "gpt-2", "llama-bpe", "qwen2"};
static const char *const small_ones[] = {"bpe-smollm", "bpe-gpt-2", "bpe-llama-bpe", "bpe-qwen2"};

typedef struct piece_ends {
    kv_ids v;
    const char *text;
} piece_ends;

static int collect_end(void *ctx, const char *piece, size_t len, kv_error *err) {
    piece_ends *e = ctx;
    (void)err;
    assert_true(len > 0 && e->v.n < e->v.cap);
    assert_int_equal(piece - e->text, e->v.n ? e->v.ids[e->v.n - 1] : 0);
    e->v.ids[e->v.n++] = (int32_t)(piece - e->text + (ptrdiff_t)len);
    return KV_OK;
}

static kv_ids split(const kv_pretok *p, const char *text, size_t len) {
    piece_ends e = {.v = {.ids = malloc((len + 1) * sizeof(int32_t)), .cap = len + 1}, .text = text};
    kv_error err;
    assert_non_null(e.v.ids);
    assert_int_equal(kv_pretok_split(p, text, len, collect_end, &e, &err), KV_OK);
    return e.v;
}

static void splits_like_hugging_face(void **state) {
    (void)state;
    cJSON *golden = tg_load("tokenizer-cases.json");
    for (size_t k = 0; k < 4; k++) {
        kv_pretok *p;
        const cJSON *c;
        int n = 0;
        assert_int_equal(kv_pretok_open(patterns[k], &p, NULL), KV_OK);
        cJSON_ArrayForEach(c, cJSON_GetObjectItem(golden, "cases")) {
            char what[64];
            size_t len;
            char *text = tg_unhex(cJSON_GetObjectItem(c, "hex"), &len);
            snprintf(what, sizeof what, "%s pieces of case %d", patterns[k], n++);
            kv_ids ends = split(p, text, len);
            tg_assert_ids(&ends, cJSON_GetObjectItem(cJSON_GetObjectItem(c, "pieces"), patterns[k]), what);
            kv_ids_free(&ends);
            free(text);
        }
        assert_true(n > 40);
        kv_pretok_close(p);
    }
    cJSON_Delete(golden);
}

static void check_ids(const char *name) {
    kv_tokenizer *t = tg_tokenizer(name);
    cJSON *golden = tg_load("tokenizer-cases.json");
    const cJSON *c;
    int n = 0;
    cJSON_ArrayForEach(c, cJSON_GetObjectItem(golden, "cases")) {
        char what[64];
        size_t len;
        char *text = tg_unhex(cJSON_GetObjectItem(c, "hex"), &len);
        const cJSON *trusted = cJSON_GetObjectItem(cJSON_GetObjectItem(c, "ids"), name);
        const cJSON *plain = cJSON_GetObjectItem(cJSON_GetObjectItem(c, "plain"), name);
        snprintf(what, sizeof what, "%s case %d", name, n++);
        kv_ids ids = tg_encode(t, text, len, 1);
        tg_assert_ids(&ids, trusted, what);
        kv_ids_free(&ids);
        ids = tg_encode(t, text, len, 0);
        tg_assert_ids(&ids, plain ? plain : trusted, what);
        kv_ids_free(&ids);
        free(text);
    }
    cJSON_Delete(golden);
    kv_tokenizer_close(t);
}

static void encodes_like_hugging_face(void **state) {
    (void)state;
    check_ids("smollm2");
    for (size_t k = 0; k < 4; k++) check_ids(small_ones[k]);
}

static void names_pieces_by_alias_and_by_regex(void **state) {
    (void)state;
    kv_pretok *p;
    kv_error err;
    assert_string_equal(kv_pretok_name("llama3"), "llama-bpe");
    assert_string_equal(kv_pretok_name("deepseek-r1-qwen"), "qwen2");
    assert_string_equal(kv_pretok_for_regex("'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+"
                                            "|\\s+(?!\\S)|\\s+"),
                        "gpt-2");
    assert_null(kv_pretok_name("default"));
    assert_null(kv_pretok_for_regex(".*"));
    assert_int_equal(kv_pretok_open("default", &p, &err), KV_EUNSUPPORTED);
    assert_null(p);
    assert_non_null(strstr(err.text, "\"default\""));
    for (size_t k = 0; k < 4; k++) assert_non_null(strstr(err.text, patterns[k]));
}

static void takes_invalid_utf8_byte_by_byte(void **state) {
    (void)state;
    /* stray continuation, overlong, surrogate, above U+10FFFF, cut off at the end, lone lead byte before a letter */
    static const char text[] = "ab\x80 c\xC0\xAF\xED\xA0\x80\xF4\x90\x80\x80 d\xE2\x82";
    static const int32_t want[] = {2, 3, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 16, 17, 18};
    for (size_t k = 0; k < 4; k++) {
        kv_pretok *p;
        assert_int_equal(kv_pretok_open(patterns[k], &p, NULL), KV_OK);
        kv_ids ends = split(p, text, sizeof text - 1);
        assert_int_equal(ends.n, sizeof want / sizeof *want);
        assert_memory_equal(ends.ids, want, sizeof want);
        kv_ids_free(&ends);
        ends = split(p, "\xC3(", 2);
        assert_int_equal(ends.n, 2);
        kv_ids_free(&ends);
        kv_pretok_close(p);
    }
}

/* xorshift64*: the same texts in every run. */
static uint64_t next_random(uint64_t *s) {
    *s ^= *s >> 12;
    *s ^= *s << 25;
    *s ^= *s >> 27;
    return *s * UINT64_C(0x2545F4914F6CDD1D);
}

static void assert_round_trip(const kv_tokenizer *t, const char *text, size_t len, int trusted) {
    kv_ids ids = tg_encode(t, text, len, trusted);
    char *back = kv_detokenize(t, ids.ids, ids.n, 0);
    size_t total = 0, one;
    for (size_t i = 0; i < ids.n; i++) {
        kv_token_bytes(t, ids.ids[i], &one);
        assert_true(one > 0);
        total += one;
    }
    assert_int_equal(total, len);
    assert_non_null(back);
    assert_memory_equal(back, text, len);
    assert_int_equal(back[len], 0);
    free(back);
    kv_ids_free(&ids);
}

static void gives_back_any_bytes(void **state) {
    (void)state;
    static const char *const snippets[] = {"the ",     "<|im_end|>", "<|eot_id|>",       "\r\n",
                                           "   ",      "'ll",        "\xF0\x9F\x98\x80", "\xE4\xB8\x80",
                                           "\xCC\x81", "123",        "\xE2\x80\x8D",     "<|"};
    uint64_t seed = 7;
    for (size_t k = 0; k < 4; k++) {
        kv_tokenizer *t = tg_tokenizer(small_ones[k]);
        for (int round = 0; round < 400; round++) {
            char text[512];
            size_t len = 0, want = next_random(&seed) % 400;
            while (len < want) {
                const char *s = snippets[next_random(&seed) % 12];
                if (next_random(&seed) % 3 == 0) {
                    memcpy(text + len, s, strlen(s));
                    len += strlen(s);
                } else {
                    text[len++] = (char)next_random(&seed);
                }
            }
            assert_round_trip(t, text, len, round & 1);
        }
        kv_tokenizer_close(t);
    }
}

static void drops_bytes_that_the_vocabulary_lacks(void **state) {
    (void)state;
    kv_tokenizer *t = tg_tokenizer("smollm2");
    kv_ids ids = tg_encode(t, "ab\x04\x06-\xFF d", 8, 0);
    char *text = kv_detokenize(t, ids.ids, ids.n, 0);
    assert_string_equal(text, "ab- d");
    free(text);
    kv_ids_free(&ids);
    kv_tokenizer_close(t);
}

static double seconds(void) {
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + 1e-9 * (double)ts.tv_nsec;
}

static void encodes_enormous_words_fast(void **state) {
    (void)state;
    enum { N = 1 << 18 };
    static const char *const fillings[] = {"a", "ab", "\xC3\xA9", " ", "=", "0", "\n", " \n", "\x80", "<"};
    char *text = malloc(N);
    assert_non_null(text);
    kv_tokenizer *smollm2 = tg_tokenizer("smollm2"), *qwen = tg_tokenizer("bpe-qwen2");
    for (size_t k = 0; k < sizeof fillings / sizeof *fillings; k++) {
        size_t unit = strlen(fillings[k]);
        for (size_t i = 0; i < N; i++) text[i] = fillings[k][i % unit];
        for (int which = 0; which < 2; which++) {
            const kv_tokenizer *t = which ? qwen : smollm2;
            double start = seconds();
            kv_ids ids = tg_encode(t, text, N, 1);
            /* quadratic time would be minutes; the rest is room for sanitizers and a busy machine */
            assert_true(seconds() - start < 20);
            kv_ids_free(&ids);
            if (which) assert_round_trip(t, text, N, 0);
        }
    }
    kv_tokenizer_close(smollm2);
    kv_tokenizer_close(qwen);
    free(text);
}

static void assert_encodes(const kv_tokenizer *t, const kv_text_part *parts, size_t n, const int32_t *want,
                           size_t n_want) {
    kv_ids ids = {0};
    assert_int_equal(kv_tokenize(t, parts, n, &ids, NULL), KV_OK);
    assert_int_equal(ids.n, n_want);
    assert_memory_equal(ids.ids, want, n_want * sizeof *want);
    kv_ids_free(&ids);
}

static void parses_special_tokens_in_trusted_text_only(void **state) {
    (void)state;
    kv_tokenizer *t = tg_tokenizer("smollm2");
    kv_ids plain = tg_encode(t, "<|im_end|>", 10, 0);
    assert_true(plain.n > 1);
    for (size_t i = 0; i < plain.n; i++) assert_true(plain.ids[i] > 16);
    assert_encodes(t, &(kv_text_part){"<|im_end|>", 10, 1}, 1, (int32_t[]){2}, 1);
    /* a border inside the name keeps it from being one */
    kv_text_part halves[] = {{"<|im_", 5, 1}, {"end|>", 5, 1}};
    assert_encodes(t, halves, 2, plain.ids, plain.n);
    kv_text_part sandwich[] = {{"<|im_end|>", 10, 1}, {"<|im_end|>", 10, 0}, {"<|im_start|>", 12, 1}};
    kv_ids ids = {0};
    assert_int_equal(kv_tokenize(t, sandwich, 3, &ids, NULL), KV_OK);
    assert_int_equal(ids.n, plain.n + 2);
    assert_int_equal(ids.ids[0], 2);
    assert_memory_equal(ids.ids + 1, plain.ids, plain.n * sizeof *plain.ids);
    assert_int_equal(ids.ids[plain.n + 1], 1);
    kv_ids_free(&ids);
    kv_ids_free(&plain);
    kv_tokenizer_close(t);
}

static void joins_plain_text_across_part_borders(void **state) {
    (void)state;
    const char *text = "It\'s  12 strawberries,\n\n \xF0\x9F\x98\x80!";
    size_t len = strlen(text);
    for (size_t k = 0; k < 4; k++) {
        kv_tokenizer *t = tg_tokenizer(small_ones[k]);
        kv_ids whole = tg_encode(t, text, len, 0);
        for (size_t cut = 0; cut <= len; cut++) {
            kv_text_part parts[] = {{text, cut, 1}, {"", 0, 1}, {text + cut, len - cut, 0}};
            assert_encodes(t, parts, 3, whole.ids, whole.n);
        }
        kv_ids_free(&whole);
        kv_tokenizer_close(t);
    }
}

static void counts_ids_before_a_byte(void **state) {
    (void)state;
    kv_tokenizer *t = tg_tokenizer("smollm2");
    /* U+0004 is dropped, so lengths of ids alone would give wrong offsets */
    const kv_text_part parts[] = {
        {"<|im_start|>user\n", 17, 1}, {"\x04\x04Hello 12 worlds", 17, 0}, {"<|im_end|>", 10, 1}};
    static const size_t starts[] = {0, 12, 16, 19, 24, 25, 26, 27, 34};
    for (size_t at = 0; at <= 45; at++) {
        kv_ids ids = {0};
        size_t n, want = 0;
        assert_int_equal(kv_tokenize_at(t, parts, 3, at, &n, &ids, NULL), KV_OK);
        assert_int_equal(ids.n, sizeof starts / sizeof *starts);
        for (size_t i = 0; i < ids.n; i++) want += starts[i] < at;
        assert_int_equal(n, want);
        kv_ids_free(&ids);
    }
    kv_tokenizer_close(t);
}

static void prefers_the_longest_special_token(void **state) {
    (void)state;
    static const char json[] =
        "{\"model\":{\"vocab\":{\"a\":0,\"b\":1},\"merges\":[]},\"pre_tokenizer\":{\"type\":\"ByteLevel\","
        "\"add_prefix_space\":false},\"added_tokens\":[{\"id\":2,\"content\":\"<a>\",\"special\":true},"
        "{\"id\":3,\"content\":\"<a><b>\",\"special\":false},{\"id\":9,\"content\":\"<a><\",\"special\":true}]}";
    kv_tokenizer *t;
    kv_error err;
    if (kv_tokenizer_from_json_memory(json, sizeof json - 1, "here", &t, &err)) fail_msg("%s", err.text);
    assert_int_equal(kv_tokenizer_n_tokens(t), 10);
    static const int32_t want[] = {3, 0, 9, 0, 2, 1};
    assert_encodes(t, &(kv_text_part){"<a><b>a<a><a<a>b", 16, 1}, 1, want, 6);
    assert_int_equal(kv_tokenizer_special(t, "<a>"), 2);
    assert_int_equal(kv_tokenizer_special(t, "<a><b>a"), -1);
    assert_int_equal(kv_tokenizer_special(t, "a"), -1);
    assert_int_equal(kv_tokenizer_special(t, ""), -1);
    size_t len;
    kv_token_bytes(t, 5, &len); /* a hole in the ids */
    assert_int_equal(len, 0);
    kv_token_bytes(t, 10, &len);
    assert_int_equal(len, 0);
    /* <think> and its kin are part of an answer, control tokens are not */
    char *text = kv_detokenize(t, want, 6, 1);
    assert_string_equal(text, "<a><b>aab");
    free(text);
    kv_tokenizer_close(t);
}

static void leaves_earlier_ids_alone(void **state) {
    (void)state;
    kv_tokenizer *t = tg_tokenizer("smollm2");
    kv_ids ids = tg_encode(t, "Hello", 5, 0);
    size_t first = ids.n;
    int32_t hello = ids.ids[0];
    assert_int_equal(kv_tokenize(t, &(kv_text_part){" world", 6, 0}, 1, &ids, NULL), KV_OK);
    assert_true(ids.n > first);
    assert_int_equal(ids.ids[0], hello);
    size_t n = ids.n;
    static const char dummy = 0;
    kv_text_part huge[] = {{&dummy, INT32_MAX, 0}, {&dummy, 1, 0}};
    kv_error err;
    assert_int_equal(kv_tokenize(t, huge, 2, &ids, &err), KV_ELIMIT);
    assert_int_equal(ids.n, n);
    kv_ids_free(&ids);
    kv_tokenizer_close(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(splits_like_hugging_face),
        cmocka_unit_test(encodes_like_hugging_face),
        cmocka_unit_test(names_pieces_by_alias_and_by_regex),
        cmocka_unit_test(takes_invalid_utf8_byte_by_byte),
        cmocka_unit_test(gives_back_any_bytes),
        cmocka_unit_test(drops_bytes_that_the_vocabulary_lacks),
        cmocka_unit_test(encodes_enormous_words_fast),
        cmocka_unit_test(parses_special_tokens_in_trusted_text_only),
        cmocka_unit_test(joins_plain_text_across_part_borders),
        cmocka_unit_test(counts_ids_before_a_byte),
        cmocka_unit_test(prefers_the_longest_special_token),
        cmocka_unit_test(leaves_earlier_ids_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
