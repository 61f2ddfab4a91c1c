/* test_hf.c - tiny checkpoints of every architecture against transformers (made by scripts/golden_checkpoints.py):
 * logits and greedy tokens in fp32, whole and chunked prompts, GGUF twins; adapters, stop ids and identity. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/checkpoint.h"
#include "engine/safetensors.h"
#include "tests/support/checkpoints.h"
#include "tests/support/folder.h"
#include "tests/support/harness.h"
#include "tests/support/safetensors_writer.h"
#include "tests/support/token_golden.h"

static void logits_are_those_of_transformers(void **state) {
    (void)state;
    for (int i = 0; i < TC_CASES; i++) {
        const tc_case *c = &tc_cases[i];
        tc_golden *g = tc_load(c);
        kv_engine *e = tc_open(c, KV_EXACT, KV_CPU);
        size_t n_vocab = (size_t)kv_engine_info(e)->n_vocab;
        kv_error err = {0};
        float *logits = malloc((size_t)g->n_prompt * n_vocab * sizeof *logits);
        assert_non_null(logits);
        if (kv_engine_logits(e, g->prompt, g->n_prompt, logits, &err)) fail_msg("%s: %s", c->path, err.text);
        for (int t = 0; t < g->n_prompt; t++) {
            for (int k = 0; k < TC_TOP; k++) {
                double got = logits[(size_t)t * n_vocab + (size_t)g->ids[t][k]];
                if (!(fabs(got - g->logits[t][k]) < 1e-4))
                    fail_msg("%s (%s): logit %d at %d is %.6f, transformers has %.6f", c->path, c->golden, g->ids[t][k],
                             t, got, g->logits[t][k]);
            }
        }
        free(logits);
        free(g);
        kv_engine_close(e);
    }
}

static void expect_greedy(const tc_case *c, const tc_golden *g, kv_engine *e, int chunk) {
    int32_t *prompt = calloc(TH_MAX_PROMPT, sizeof *prompt);
    th_policy full;
    th_result r;
    kv_error err = {0};
    const th_config cfg = {
        .batch = 1, .chunk = chunk, .max_new = g->n_greedy, .sampling = {.top_p = 1}, .ignore_eos = 1};
    assert_non_null(prompt);
    memcpy(prompt, g->prompt, sizeof g->prompt);
    th_policy_open(&full, e, NULL, "full", 512, 512);
    if (th_generate(e, &full.setup, prompt, &g->n_prompt, 1, &cfg, &r, NULL, &err)) fail_msg("%s", err.text);
    th_policy_close(&full);
    free(prompt);
    int k = 0;
    while (k < r.n && k < g->n_greedy && r.tokens[k] == g->greedy[k]) k++;
    if (r.n != g->n_greedy || k < r.n)
        fail_msg("%s (%s), chunk %d: %d tokens, the first other one is %d", c->path, c->golden, chunk, r.n, k);
}

static void greedy_tokens_are_those_of_transformers(void **state) {
    (void)state;
    for (int i = 0; i < TC_CASES; i++) {
        tc_golden *g = tc_load(&tc_cases[i]);
        kv_engine *e = tc_open(&tc_cases[i], KV_EXACT, KV_CPU);
        expect_greedy(&tc_cases[i], g, e, 0);
        expect_greedy(&tc_cases[i], g, e, 16);
        kv_engine_close(e);
        free(g);
    }
}

/* 8-bit weights come from any source type; such small random models are only roughly the same in them. */
static void fast_numerics_load_from_every_type(void **state) {
    (void)state;
    for (int i = 0; i < TC_CASES; i++) {
        tc_golden *g = tc_load(&tc_cases[i]);
        kv_engine *e = tc_open(&tc_cases[i], KV_FAST, KV_CPU);
        size_t n_vocab = (size_t)kv_engine_info(e)->n_vocab;
        kv_error err = {0};
        int n_same = 0;
        float *logits = malloc((size_t)g->n_prompt * n_vocab * sizeof *logits);
        assert_non_null(logits);
        if (kv_engine_logits(e, g->prompt, g->n_prompt, logits, &err)) fail_msg("%s", err.text);
        for (int t = 0; t < g->n_prompt; t++) {
            const float *row = logits + (size_t)t * n_vocab;
            size_t best = 0;
            for (size_t v = 1; v < n_vocab; v++)
                if (row[v] > row[best]) best = v;
            n_same += best == (size_t)g->ids[t][0];
        }
        if (n_same * 10 < g->n_prompt * 8) fail_msg("%s: %d of %d", tc_cases[i].path, n_same, g->n_prompt);
        free(logits);
        free(g);
        kv_engine_close(e);
    }
}

static void an_adapter_goes_with_the_modules_that_a_model_has(void **state) {
    (void)state;
    static const char config[] = "{\"peft_type\":\"LORA\",\"r\":1,\"lora_alpha\":1}";
    static const struct {
        const char *model, *module;
        int64_t n_out, n_in;
        int code;
    } cases[] = {{"qwen3", "self_attn.q_proj", 128, 64, KV_OK},
                 {"phi3", "self_attn.qkv_proj", 256, 128, KV_OK},
                 {"phi3", "mlp.gate_up_proj", 192, 128, KV_OK},
                 {"phi3", "self_attn.q_proj", 128, 128, KV_EUNSUPPORTED},
                 {"qwen3", "self_attn.qkv_proj", 256, 64, KV_EUNSUPPORTED}};
    float ones[256];
    for (int i = 0; i < 256; i++) ones[i] = 0.01f;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char name[160], path[512];
        scratch s;
        kv_engine *e = NULL;
        kv_error err = {0};
        sw_writer *w = sw_new();
        assert_int_equal(scratch_open(&s), 0);
        for (int b = 0; b < 2; b++) {
            snprintf(name, sizeof name, "base_model.model.model.layers.1.%s.lora_%c.weight", cases[i].module, "AB"[b]);
            sw_tensor(w, name, KV_F32, 2, (int64_t[]){b ? cases[i].n_out : 1, b ? 1 : cases[i].n_in}, ones);
        }
        assert_int_equal(sw_write(w, scratch_path(&s, "adapter_model.safetensors")), 0);
        assert_non_null(scratch_write(&s, "adapter_config.json", config, sizeof config - 1));
        sw_free(w);
        snprintf(path, sizeof path, TC_DIR "%s", cases[i].model);
        const kv_engine_options o = {.model_path = path, .adapter_dir = s.dir, .n_threads = 1};
        int rc = kv_engine_open(&o, &e, &err);
        if (rc != cases[i].code || (rc && !strstr(err.text, cases[i].module)))
            fail_msg("%s on %s: %d %s", cases[i].module, cases[i].model, rc, err.text);
        if (rc == KV_OK) assert_non_null(strstr(kv_engine_info(e)->weights, "LoRA"));
        if (rc == KV_OK) kv_engine_close(e);
        scratch_close(&s);
    }
}

static void stop_ids_and_sampling_come_from_the_files(void **state) {
    (void)state;
    static const char settings[] = "{\"eos_token_id\":[7,9],\"do_sample\":true,\"temperature\":0.6,\"top_p\":0.95,"
                                   "\"top_k\":20,\"min_p\":0.1}";
    tf_folder f;
    kv_error err = {0};
    kv_engine *e;
    tf_open(&f, TC_DIR "qwen3");
    tf_put(&f, "generation_config.json", settings, sizeof settings - 1);
    const kv_engine_options o = {.model_path = f.s.dir, .n_threads = 1};
    if (kv_engine_open(&o, &e, &err)) fail_msg("%s", err.text);
    const kv_generation *g = kv_engine_generation(e);
    assert_int_equal(g->n_eos, 3); /* and <|im_end|> of tokenizer_config.json */
    int32_t ids[4] = {9};
    assert_int_equal(kv_generation_add_stops(g, ids, 1, 4), 3);
    assert_memory_equal(ids, ((int32_t[]){9, 7, 2}), 3 * sizeof *ids);
    assert_true(g->do_sample == 1 && g->temperature == 0.6f && g->top_p == 0.95f && g->min_p == 0.1f && g->top_k == 20);
    kv_engine_close(e);
    tf_put(&f, "generation_config.json", NULL, 0);
    if (kv_engine_open(&o, &e, &err)) fail_msg("%s", err.text);
    g = kv_engine_generation(e);
    assert_int_equal(g->n_eos, 1); /* of config.json, the same one */
    assert_true(g->eos[0] == 2 && g->do_sample < 0 && g->temperature < 0 && g->top_p < 0 && g->top_k < 0);
    kv_engine_close(e);
    tf_close(&f);
}

static const kv_chat *chat_of(const tf_folder *f) {
    kv_checkpoint *s;
    kv_tokenizer *t;
    const kv_chat *chat;
    kv_error err = {0};
    if (kv_checkpoint_open(f->s.dir, 0, &s, &err) || kv_checkpoint_tokenizer(s, &t, &chat, &err))
        fail_msg("%s", err.text);
    kv_tokenizer_close(t);
    kv_checkpoint_close(s);
    return chat;
}

static void the_chat_template_comes_from_its_own_file_or_the_tokenizers(void **state) {
    (void)state;
    static const char smollm[] = "<|im_start|>system\nYou are named SmolLM, trained by Hugging Face<|im_end|>";
    static const char one[] = "{\"chat_template\":\"<|im_start|> You are Qwen, created by Alibaba Cloud.\"}";
    static const char list[] = "{\"chat_template\":[{\"name\":\"tool_use\",\"template\":\"x\"},{\"name\":\"default\","
                               "\"template\":\"<|im_start|> You are Qwen, created by Alibaba Cloud.\"}]}";
    static const char settings[] = "tokenizer_config.json", jinja[] = "chat_template.jinja";
    tf_folder f;
    tf_open(&f, TC_DIR "qwen3");
    assert_ptr_equal(chat_of(&f), kv_chat_find("none")); /* a folder without a template is a base model */
    tf_put(&f, settings, one, sizeof one - 1);
    assert_ptr_equal(chat_of(&f), kv_chat_find("qwen2.5"));
    tf_put(&f, settings, list, sizeof list - 1);
    assert_ptr_equal(chat_of(&f), kv_chat_find("qwen2.5"));
    tf_put(&f, jinja, smollm, sizeof smollm - 1);
    assert_ptr_equal(chat_of(&f), kv_chat_find("smollm2"));
    tf_close(&f);
}

static void hash_folder(const char *dir, char model[65], char tokenizer[65]) {
    const kv_chat *chat;
    kv_checkpoint *s;
    kv_tokenizer *t;
    kv_error err = {0};
    if (kv_checkpoint_open(dir, 0, &s, &err) || kv_checkpoint_tokenizer(s, &t, &chat, &err) ||
        kv_checkpoint_hash(s, t, model, tokenizer, &err))
        fail_msg("%s", err.text);
    assert_int_equal(strlen(tokenizer), 64);
    kv_tokenizer_close(t);
    kv_checkpoint_close(s);
}

static void the_identity_follows_weights_and_settings(void **state) {
    (void)state;
    static const char settings[] = "tokenizer_config.json", plain[] = "{\"bos_token\":\"<|im_start|>\"}",
                      template[] = "{\"bos_token\":\"<|im_start|>\",\"chat_template\":\"x\"}",
                      adds[] = "{\"bos_token\":\"<|im_start|>\",\"add_bos_token\":true}";
    char before[65], after[65], t[65], none[65], same[65];
    tf_folder f;
    tf_open(&f, TC_DIR "qwen3");
    tf_file *w = tf_find(&f, "model.safetensors"), *c = tf_find(&f, "config.json");
    hash_folder(f.s.dir, before, t);
    hash_folder(TC_DIR "qwen3", after, t);
    assert_string_equal(before, after);
    w->data[w->n - 1] ^= 1;
    tf_restore(&f, w->name);
    hash_folder(f.s.dir, after, t);
    assert_string_not_equal(before, after);
    w->data[w->n - 1] ^= 1;
    tf_restore(&f, w->name);
    c->data[strcspn(c->data, "\n")] = ' ';
    tf_restore(&f, c->name);
    hash_folder(f.s.dir, after, t);
    assert_string_not_equal(before, after);
    tf_put(&f, settings, NULL, 0);
    hash_folder(f.s.dir, before, none);
    assert_string_not_equal(none, t);
    tf_put(&f, settings, plain, sizeof plain - 1);
    hash_folder(f.s.dir, after, t);
    assert_string_not_equal(none, t);
    tf_put(&f, settings, template, sizeof template - 1);
    hash_folder(f.s.dir, after, same);
    assert_string_equal(same, t); /* a chat template changes no id of a text */
    tf_put(&f, settings, adds, sizeof adds - 1);
    hash_folder(f.s.dir, after, same);
    assert_string_not_equal(same, t);
    assert_string_equal(before, after);
    tf_close(&f);
}

/* The weights of a folder with rows of zeros behind those of embedding and head, up to n_vocab. */
static void write_longer_vocabulary(tf_folder *f, int64_t n_vocab) {
    const tf_file *x = tf_find(f, "model.safetensors");
    kv_safetensors *st;
    kv_error err = {0};
    sw_writer *w = sw_new();
    assert_non_null(w);
    if (kv_safetensors_open_memory(x->data, x->n, x->name, &st, &err)) fail_msg("%s", err.text);
    for (size_t i = 0; i < kv_safetensors_n(st); i++) {
        const kv_st_tensor *t = kv_safetensors_at(st, i);
        int64_t dims[4], n = 1;
        memcpy(dims, t->dims, sizeof dims);
        for (int d = 0; d < t->n_dims; d++) n *= dims[d];
        if (strstr(t->name, "embed_tokens") || strstr(t->name, "lm_head")) dims[0] = n_vocab;
        float *values = calloc((size_t)(dims[0] * dims[1]), sizeof *values);
        assert_non_null(values);
        kv_dequantize(t->type, t->data, values, (size_t)n);
        sw_tensor(w, t->name, t->type, t->n_dims, dims, values);
        free(values);
    }
    assert_int_equal(sw_write(w, scratch_path(&f->s, x->name)), 0);
    kv_safetensors_close(st);
    sw_free(w);
}

static void a_phi3_folder_with_its_own_tokenizer_answers(void **state) {
    (void)state;
    static const char chat[] = "{\"bos_token\":\"<s>\",\"eos_token\":\"<|endoftext|>\",\"add_bos_token\":false,"
                               "\"chat_template\":\"<|user|> <|end|> <|assistant|>\"}";
    static const char user[] = "The sky over 3 cities";
    /* of transformers' apply_chat_template with the template of Phi-3-mini */
    static const int32_t want[] = {766, 723, 394, 335, 349, 430, 657, 499, 474, 333, 344, 333, 628, 765, 763};
    enum { N = sizeof want / sizeof *want };
    tf_folder f;
    kv_error err = {0};
    kv_engine *e;
    kv_ids ids = {0};
    tf_open(&f, TC_DIR "phi3");
    write_longer_vocabulary(&f, 768);
    const tf_file *x = tf_find(&f, "config.json");
    cJSON *config, *tokenizer = tg_load("family-phi-3.json");
    if (kv_json_parse(x->data, x->n, x->name, &config, &err)) fail_msg("%s", err.text);
    cJSON_SetNumberValue(cJSON_GetObjectItem(config, "vocab_size"), 768);
    char *settings = cJSON_PrintUnformatted(config), *vocab = cJSON_PrintUnformatted(tokenizer);
    tf_put(&f, "config.json", settings, strlen(settings));
    tf_put(&f, "tokenizer.json", vocab, strlen(vocab));
    tf_put(&f, "tokenizer_config.json", chat, sizeof chat - 1);
    const kv_engine_options o = {.model_path = f.s.dir, .n_threads = 1};
    if (kv_engine_open(&o, &e, &err)) fail_msg("%s", err.text);
    assert_ptr_equal(kv_engine_chat(e), kv_chat_find("phi-3"));
    if (kv_chat_render(kv_engine_chat(e), kv_engine_tokenizer(e), NULL, user, sizeof user - 1, &ids, NULL, &err))
        fail_msg("%s", err.text);
    assert_int_equal(ids.n, N);
    assert_memory_equal(ids.ids, want, sizeof want);
    const th_config cfg = {.batch = 1, .max_new = 8, .sampling = {.top_p = 1}, .ignore_eos = 1};
    th_policy full;
    th_result r;
    int32_t prompt[TH_MAX_PROMPT];
    int n = N;
    memcpy(prompt, want, sizeof want);
    th_policy_open(&full, e, NULL, "full", 512, 512);
    if (th_generate(e, &full.setup, prompt, &n, 1, &cfg, &r, NULL, &err)) fail_msg("%s", err.text);
    assert_int_equal(r.n, 8);
    th_policy_close(&full);
    kv_engine_close(e);
    kv_ids_free(&ids);
    free(settings);
    free(vocab);
    cJSON_Delete(config);
    cJSON_Delete(tokenizer);
    tf_close(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(logits_are_those_of_transformers),
        cmocka_unit_test(greedy_tokens_are_those_of_transformers),
        cmocka_unit_test(fast_numerics_load_from_every_type),
        cmocka_unit_test(an_adapter_goes_with_the_modules_that_a_model_has),
        cmocka_unit_test(stop_ids_and_sampling_come_from_the_files),
        cmocka_unit_test(the_chat_template_comes_from_its_own_file_or_the_tokenizers),
        cmocka_unit_test(the_identity_follows_weights_and_settings),
        cmocka_unit_test(a_phi3_folder_with_its_own_tokenizer_answers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
