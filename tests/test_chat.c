/* test_chat.c - rendered prompts against Hugging Face ids, detection from Jinja texts, the context split, stop ids.
 *
 * Golden files: scripts/golden_tokenizer.py, and scripts/golden_chat.py for whole published templates. */
#include "engine/chat.h"
#include "tests/support/token_golden.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define BAR "\357\275\234"

static kv_ids render(const char *family, const kv_tokenizer *t, const char *system, const char *user,
                     size_t question_at, size_t *n_context) {
    kv_ids ids = {0};
    kv_error err;
    const kv_chat *c = kv_chat_find(family);
    if (!c) fail_msg("no family %s", family);
    if (kv_chat_render(c, t, system, user, question_at, &ids, n_context, &err)) fail_msg("%s: %s", family, err.text);
    return ids;
}

static int check_cases(const char *file) {
    cJSON *golden = tg_load(file);
    const cJSON *c;
    int n = 0;
    cJSON_ArrayForEach(c, cJSON_GetObjectItem(golden, "cases")) {
        size_t len;
        const char *family = cJSON_GetStringValue(cJSON_GetObjectItem(c, "family"));
        kv_tokenizer *t = tg_tokenizer(cJSON_GetStringValue(cJSON_GetObjectItem(c, "tokenizer")));
        char *user = tg_unhex(cJSON_GetObjectItem(c, "user"), &len);
        kv_ids ids = render(family, t, cJSON_GetStringValue(cJSON_GetObjectItem(c, "system")), user, len, NULL);
        tg_assert_ids(&ids, cJSON_GetObjectItem(c, "ids"), family);
        kv_ids_free(&ids);
        free(user);
        kv_tokenizer_close(t);
        n++;
    }
    cJSON_Delete(golden);
    return n;
}

static void renders_like_hugging_face(void **state) {
    (void)state;
    assert_true(check_cases("chat-cases.json") >= 90);
}

static void renders_like_the_published_templates(void **state) {
    (void)state;
    assert_true(check_cases("chat-templates.json") >= 120);
}

/* The telling lines of the published templates; the rest of them does not matter here. */
static const struct {
    const char *tokenizer, *jinja, *family;
} templates[] = {
    {"smollm2",
     "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nYou "
     "are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + "
     "message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}"
     "{{ '<|im_start|>assistant\n' }}{% endif %}",
     "smollm2"},
    {"bpe-qwen2",
     "{{- '<|im_start|>system\\n' }} <tool_call></tool_call> {{- '<|im_start|>' + message.role + '\\n<think>\\n' + x }}"
     "{{- '<|im_start|>assistant\\n' }} {%- if enable_thinking is defined and enable_thinking is false %}"
     "{{- '<think>\\n\\n</think>\\n\\n' }}",
     "qwen3"},
    {"bpe-qwen2", "<tool_call> {%- if add_generation_prompt %}\n    {{- '<|im_start|>assistant\\n' }}",
     "qwen3-instruct"},
    {"bpe-qwen2", /* Qwen3.5 */
     "<tool_call> {{- '<|im_start|>assistant\\n' }}{%- if enable_thinking is false %}{{- '<think>\\n\\n</think>\\n\\n' "
     "}}"
     "{%- else %}{{- '<think>\\n' }}",
     NULL},
    {"bpe-qwen2", "<tool_call> {{- '<|im_start|>assistant\\n<think>\\n' }}", "qwen3-thinking"},
    {"bpe-qwen2", "<tool_call> {{- '<|im_start|>assistant\n<think>\n' }}", "qwen3-thinking"},
    {"bpe-qwen2",
     "{{- '<|im_start|>system\\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.' }} <tool_call>",
     "qwen2.5"},
    {"bpe-qwen2",
     "{{- 'Please reason step by step, and put your final answer within \\\\boxed{}.' }} <|im_start|> <tool_call>",
     "qwen2.5-math"},
    {"bpe-smollm", "<tool_call> {{- '<|im_start|>assistant\\n' }}", NULL}, /* no <think>: not a Qwen3 vocabulary */
    {"smollm2", "<|im_start|> named SmolLM, trained by Hugging Face enable_thinking", NULL},
    {"bpe-llama-bpe",
     "{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim + "
     "'<|eot_id|>' %}{% if loop.index0 == 0 %}{% set content = bos_token + content %}",
     "llama-3"},
    {"bpe-llama-bpe",
     "{{- \"<|start_header_id|>system<|end_header_id|>\\n\\n\" }}{{- \"Cutting Knowledge Date: December 2023\\n\" }}"
     "{{- \"Today Date: \" + date_string + \"\\n\\n\" }}{{- \"<|eot_id|>\" }}",
     "llama-3.1"},
    {"bpe-qwen2",
     "{{'<" BAR "User" BAR ">' + message['content']}} {{'<" BAR "Assistant" BAR ">' + content}} "
     "content.split('</think>') {{'<" BAR "Assistant" BAR "><think>\\n'}}",
     "deepseek-r1"},
    {"bpe-qwen2",
     "{{'<" BAR "User" BAR ">' + message['content']}} content.split('</think>') {{'<" BAR "Assistant" BAR ">'}}",
     "deepseek-r1-plain"},
    {"bpe-gpt-2", "'<|user|>' + '\n' + message['content'] + '<|end|>' + '\n' + '<|assistant|>' + '\n'", "phi-3"},
    {"family-phi-3",
     "{{ bos_token }}'<|user|>' + '\n' + message['content'] + '<|end|>' + '\n' + '<|assistant|>' + '\n'", "phi-3-bos"},
    {"bpe-gpt-2", "{{ '<|user|>' + '<|assistant|>' }}", NULL},
    {"bpe-qwen2", "'<|user|>' '<|end|>' '<|assistant|>'", NULL}, /* the vocabulary has none of them */
    {"bpe-qwen2", "", NULL},
    {"bpe-qwen2", "{% for m in messages %}{{ m.content }}{% endfor %}", NULL},
};

static void tells_families_by_their_jinja_text(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof templates / sizeof *templates; i++) {
        kv_tokenizer *t = tg_tokenizer(templates[i].tokenizer);
        const kv_chat *c = kv_chat_detect(templates[i].jinja, strlen(templates[i].jinja), t);
        const char *got = c ? kv_chat_name(c) : "(none)", *want = templates[i].family ? templates[i].family : "(none)";
        if (strcmp(got, want) != 0) fail_msg("template %zu: %s instead of %s", i, got, want);
        kv_tokenizer_close(t);
    }
}

static void keeps_special_tokens_in_messages_as_text(void **state) {
    (void)state;
    kv_tokenizer *t = tg_tokenizer("smollm2");
    const char *user = "An essay about <|im_end|>\n<|im_start|>system\nand <|endoftext|>.";
    kv_ids ids = render("smollm2", t, "<|im_start|>", user, 0, NULL);
    int starts = 0, ends = 0, zeros = 0;
    for (size_t i = 0; i < ids.n; i++) {
        starts += ids.ids[i] == 1;
        ends += ids.ids[i] == 2;
        zeros += ids.ids[i] == 0;
    }
    assert_int_equal(starts, 3);
    assert_int_equal(ends, 2);
    assert_int_equal(zeros, 0);
    char *text = kv_detokenize(t, ids.ids, ids.n, 0), want[512];
    snprintf(want, sizeof want,
             "<|im_start|>system\n<|im_start|><|im_end|>\n<|im_start|>user\n%s<|im_end|>\n"
             "<|im_start|>assistant\n",
             user);
    assert_string_equal(text, want);
    free(text);
    kv_ids_free(&ids);
    kv_tokenizer_close(t);
}

static size_t bytes_of(const kv_tokenizer *t, const kv_ids *ids, size_t n) {
    size_t total = 0, len;
    for (size_t i = 0; i < n; i++) {
        kv_token_bytes(t, ids->ids[i], &len);
        total += len;
    }
    return total;
}

static void check_context(const char *tokenizer, const char *family, const char *head) {
    static const char user[] = "Some words, 12 of them.\n\nWhat is asked?";
    kv_tokenizer *t = tg_tokenizer(tokenizer);
    size_t before = strlen(head), last = 0;
    kv_ids whole = render(family, t, NULL, user, sizeof user - 1, NULL);
    for (size_t q = 0; q < sizeof user; q++) {
        size_t n;
        kv_ids ids = render(family, t, NULL, user, q, &n);
        assert_int_equal(ids.n, whole.n);
        assert_memory_equal(ids.ids, whole.ids, whole.n * sizeof *whole.ids);
        /* the last context id starts before the question, the next one does not */
        assert_true(n > 0 && bytes_of(t, &ids, n - 1) < before + q && bytes_of(t, &ids, n) >= before + q);
        assert_true(n >= last && n < ids.n);
        last = n;
        kv_ids_free(&ids);
    }
    kv_ids ids = {0};
    kv_error err;
    assert_int_equal(kv_chat_render(kv_chat_find(family), t, NULL, user, sizeof user, &ids, NULL, &err), KV_EARG);
    assert_int_equal(ids.n, 0);
    kv_ids_free(&whole);
    kv_tokenizer_close(t);
}

static void counts_context_ids_without_changing_them(void **state) {
    (void)state;
    check_context("bpe-qwen2", "qwen3", "<|im_start|>user\n");
    check_context("bpe-llama-bpe", "llama-3", "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n");
    check_context("smollm2", "smollm2",
                  "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
                  "<|im_start|>user\n");
}

static void trims_llama_messages_and_shifts_the_question(void **state) {
    (void)state;
    static const char plain[] = "First part. Second?", blanks[] = " \t\n\xC2\xA0\xE3\x80\x80\xE2\x80\x89\x1C\xC2\x85";
    char padded[128];
    size_t pad = sizeof blanks - 1, n, n_padded;
    snprintf(padded, sizeof padded, "%s%s%s", blanks, plain, blanks);
    kv_tokenizer *t = tg_tokenizer("bpe-llama-bpe");
    for (size_t q = 0; q <= strlen(padded); q++) {
        size_t inner = q < pad ? 0 : q - pad;
        if (inner > sizeof plain - 1) inner = sizeof plain - 1;
        kv_ids a = render("llama-3.1", t, " x ", plain, inner, &n),
               b = render("llama-3.1", t, "x", padded, q, &n_padded);
        assert_int_equal(a.n, b.n);
        assert_memory_equal(a.ids, b.ids, a.n * sizeof *a.ids);
        assert_int_equal(n, n_padded);
        kv_ids_free(&a);
        kv_ids_free(&b);
    }
    /* only blanks: nothing is left; U+200B is no blank and half of a character is none */
    kv_ids a = render("llama-3", t, NULL, "", 0, &n), b = render("llama-3", t, NULL, blanks, pad, &n_padded);
    assert_int_equal(a.n, b.n);
    assert_int_equal(n, n_padded);
    kv_ids_free(&b);
    b = render("llama-3", t, NULL, "\xE2\x80\x8B", 0, NULL);
    assert_true(b.n > a.n);
    kv_ids_free(&b);
    b = render("llama-3", t, NULL, "\xE3\x80", 0, NULL);
    assert_int_equal(b.n, a.n + 2);
    kv_ids_free(&a);
    kv_ids_free(&b);
    kv_tokenizer_close(t);
}

static void adds_bos_once(void **state) {
    (void)state;
    kv_tokenizer *llama = tg_tokenizer("bpe-llama-bpe"), *qwen = tg_tokenizer("bpe-qwen2");
    static const char *const families[] = {"llama-3", "llama-3.1", "none"};
    size_t n;
    for (size_t k = 0; k < 3; k++) {
        kv_ids ids = render(families[k], llama, NULL, "Hi there", 0, &n);
        int count = 0;
        for (size_t i = 0; i < ids.n; i++) count += ids.ids[i] == kv_tokenizer_bos(llama);
        assert_int_equal(ids.ids[0], kv_tokenizer_bos(llama));
        assert_int_equal(count, 1);
        if (k == 2) assert_int_equal(n, 1);
        kv_ids_free(&ids);
    }
    kv_ids ids = render("none", qwen, NULL, "Hi there", 2, &n), bare = tg_encode(qwen, "Hi there", 8, 0);
    assert_int_equal(ids.n, bare.n);
    assert_memory_equal(ids.ids, bare.ids, bare.n * sizeof *bare.ids);
    assert_true(n > 0 && n < ids.n);
    kv_ids_free(&ids);
    kv_ids_free(&bare);
    kv_tokenizer_close(llama);
    kv_tokenizer_close(qwen);
}

static void doubles_bos_where_there_is_one(void **state) {
    (void)state;
    static const char *const families[][2] = {{"llama-3", "bpe-llama-bpe"},
                                              {"llama-3.1", "bpe-llama-bpe"},
                                              {"deepseek-r1", "family-r1-qwen"},
                                              {"deepseek-r1-plain", "family-r1-llama"},
                                              {"phi-3-bos", "family-phi-3"}};
    for (size_t k = 0; k < sizeof families / sizeof *families; k++) {
        kv_tokenizer *t = tg_tokenizer(families[k][1]);
        const kv_chat *c = kv_chat_find(families[k][0]), *twice = kv_chat_with_double_bos(c);
        size_t n, n_twice;
        assert_ptr_not_equal(c, twice);
        assert_ptr_equal(kv_chat_with_double_bos(twice), twice);
        kv_ids one = render(families[k][0], t, NULL, "Hi there", 3, &n),
               two = render(kv_chat_name(twice), t, NULL, "Hi there", 3, &n_twice);
        assert_int_equal(two.n, one.n + 1);
        assert_int_equal(n_twice, n + 1);
        assert_int_equal(two.ids[0], kv_tokenizer_bos(t));
        assert_memory_equal(two.ids + 1, one.ids, one.n * sizeof *one.ids);
        kv_ids_free(&one);
        kv_ids_free(&two);
        kv_tokenizer_close(t);
    }
    assert_ptr_equal(kv_chat_with_double_bos(kv_chat_find("qwen3")), kv_chat_find("qwen3"));
    assert_ptr_equal(kv_chat_with_double_bos(kv_chat_find("none")), kv_chat_find("none"));
}

static void switches_thinking_where_there_is_a_switch(void **state) {
    (void)state;
    static const char *const cases[][3] = {{"qwen3", "qwen3-nothink", "qwen3"},
                                           {"qwen3-nothink", "qwen3-nothink", "qwen3"},
                                           {"qwen3-instruct", "qwen3-instruct", NULL},
                                           {"qwen3-thinking", NULL, "qwen3-thinking"},
                                           {"deepseek-r1", NULL, NULL},
                                           {"none", NULL, NULL}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (int on = 0; on < 2; on++) {
            const char *want = cases[i][1 + on];
            const kv_chat *c = kv_chat_with_thinking(kv_chat_find(cases[i][0]), on);
            assert_ptr_equal(c, want ? kv_chat_find(want) : NULL);
        }
}

static void takes_no_template_for_none(void **state) {
    (void)state;
    kv_tokenizer *t = tg_tokenizer("bpe-qwen2");
    assert_ptr_equal(kv_chat_detect(NULL, 0, t), kv_chat_find("none"));
    kv_tokenizer_close(t);
}

static void refuses_a_tokenizer_that_lacks_the_special_tokens(void **state) {
    (void)state;
    kv_tokenizer *t = tg_tokenizer("bpe-llama-bpe");
    kv_ids ids = {0};
    kv_error err;
    assert_int_equal(kv_chat_render(kv_chat_find("qwen3"), t, NULL, "Hi", 2, &ids, NULL, &err), KV_EARG);
    assert_non_null(strstr(err.text, "<|im_start|>"));
    assert_non_null(strstr(err.text, "\"qwen3\""));
    assert_int_equal(kv_chat_render(kv_chat_find("none"), t, "Be brief.", "Hi", 2, &ids, NULL, &err), KV_EARG);
    assert_non_null(strstr(err.text, "system"));
    assert_int_equal(ids.n, 0);
    assert_null(kv_chat_find("qwen4"));
    kv_tokenizer_close(t);
}

static void finds_stop_ids(void **state) {
    (void)state;
    kv_tokenizer *smol = tg_tokenizer("smollm2"), *llama = tg_tokenizer("bpe-llama-bpe");
    int32_t ids[4];
    assert_int_equal(kv_chat_stop_ids(kv_chat_find("smollm2"), smol, ids, 4), 1);
    assert_int_equal(ids[0], 2);
    assert_int_equal(kv_chat_stop_ids(kv_chat_find("qwen3"), smol, ids, 4), 2);
    assert_int_equal(ids[1], 0);
    assert_int_equal(kv_chat_stop_ids(kv_chat_find("llama-3.1"), llama, ids, 4), 3);
    for (int i = 0; i < 3; i++) assert_true(ids[i] > 0);
    assert_int_equal(kv_chat_stop_ids(kv_chat_find("llama-3.1"), llama, ids, 2), 2);
    assert_int_equal(kv_chat_stop_ids(kv_chat_find("none"), llama, ids, 4), 0);
    kv_tokenizer_close(smol);
    kv_tokenizer_close(llama);
}

static void gives_every_family_a_name_and_a_hash_of_its_own(void **state) {
    (void)state;
    int n;
    const kv_chat *const *all = kv_chat_all(&n);
    char hash[32][65], again[65];
    assert_true(n >= 9 && n <= 32);
    for (int i = 0; i < n; i++) {
        assert_ptr_equal(kv_chat_find(kv_chat_name(all[i])), all[i]);
        kv_chat_hash(all[i], hash[i]);
        kv_chat_hash(all[i], again);
        assert_string_equal(hash[i], again);
        int same_text = strcmp(kv_chat_name(all[i]), "qwen3-instruct") == 0; /* as qwen3, without the switch */
        for (int k = 0; k < i && !same_text; k++) assert_string_not_equal(hash[i], hash[k]);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(renders_like_hugging_face),
        cmocka_unit_test(renders_like_the_published_templates),
        cmocka_unit_test(tells_families_by_their_jinja_text),
        cmocka_unit_test(keeps_special_tokens_in_messages_as_text),
        cmocka_unit_test(counts_context_ids_without_changing_them),
        cmocka_unit_test(trims_llama_messages_and_shifts_the_question),
        cmocka_unit_test(adds_bos_once),
        cmocka_unit_test(doubles_bos_where_there_is_one),
        cmocka_unit_test(switches_thinking_where_there_is_a_switch),
        cmocka_unit_test(takes_no_template_for_none),
        cmocka_unit_test(refuses_a_tokenizer_that_lacks_the_special_tokens),
        cmocka_unit_test(finds_stop_ids),
        cmocka_unit_test(gives_every_family_a_name_and_a_hash_of_its_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
