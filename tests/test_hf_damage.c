/* test_hf_damage.c - damaged and unsupported checkpoints: every truncation, every tensor missing, renamed or of another
 * shape, every setting that cannot be honoured ends in an error that names file and tensor or key. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/checkpoint.h"
#include "engine/hf_config.h"
#include "engine/json.h"
#include "tests/support/folder.h"

#define CHECKPOINTS KV_SOURCE_DIR "/tests/data/checkpoints/"

/* All that reads files without building the model. */
static int open_all(const tf_folder *f, int max_ctx, kv_error *err) {
    kv_checkpoint *s = NULL;
    kv_tokenizer *t = NULL;
    const kv_chat *chat;
    kv_generation g;
    err->text[0] = 0;
    int rc = kv_checkpoint_open(f->s.dir, max_ctx, &s, err);
    if (rc == KV_OK) rc = kv_checkpoint_tokenizer(s, &t, &chat, err);
    if (rc == KV_OK) rc = kv_checkpoint_generation(s, t, &g, err);
    kv_tokenizer_close(t);
    kv_checkpoint_close(s);
    return rc;
}

static void expect(const tf_folder *f, const char *what, const char *first, const char *second) {
    kv_error err;
    int rc = open_all(f, 0, &err);
    if (rc == KV_OK) fail_msg("%s: opened", what);
    if (!strstr(err.text, first) || !strstr(err.text, second))
        fail_msg("%s: '%s' names not both '%s' and '%s'", what, err.text, first, second);
}

/* Lengths to try: all of a small file or header, then fewer and fewer. */
static size_t next_length(size_t n, size_t dense) {
    return n < dense ? n + 1 : n + n / 16 + 1;
}

static void truncated_files_are_refused_by_name(void **state) {
    (void)state;
    static const char *const folders[] = {"qwen2", "qwen3-untied"};
    for (int k = 0; k < 2; k++) {
        char dir[512];
        tf_folder f;
        kv_error err;
        snprintf(dir, sizeof dir, CHECKPOINTS "%s", folders[k]);
        tf_open(&f, dir);
        if (open_all(&f, 0, &err)) fail_msg("%s", err.text);
        for (int i = 0; i < f.n; i++) {
            const tf_file *x = &f.files[i];
            size_t end = x->n; /* white space at the end may go */
            while (end && (x->data[end - 1] == '\n' || x->data[end - 1] == ' ')) end--;
            size_t dense = strstr(x->name, ".safetensors") ? 24 : 200; /* their header: test_safetensors.c */
            for (size_t n = 0; n < end; n = next_length(n, dense)) {
                tf_put(&f, x->name, x->data, n);
                expect(&f, x->name, f.s.dir, x->name);
            }
            tf_restore(&f, x->name);
        }
        tf_close(&f);
    }
}

static void absent_files_are_named(void **state) {
    (void)state;
    static const char *const needed[] = {"config.json", "model-00002-of-00006.safetensors", "tokenizer.json"};
    tf_folder f;
    kv_error err;
    tf_open(&f, CHECKPOINTS "qwen2");
    for (int i = 0; i < 3; i++) {
        tf_put(&f, needed[i], NULL, 0);
        expect(&f, needed[i], f.s.dir, needed[i]);
        tf_restore(&f, needed[i]);
    }
    tf_put(&f, needed[1], NULL, 0);
    expect(&f, "a shard", needed[1], "is named in model.safetensors.index.json, but not there");
    tf_restore(&f, needed[1]);
    tf_put(&f, "model.safetensors.index.json", NULL, 0);
    expect(&f, "no weights", "model.safetensors", "model.safetensors.index.json");
    tf_restore(&f, "model.safetensors.index.json");
    tf_put(&f, "generation_config.json", NULL, 0);
    tf_put(&f, "tokenizer_config.json", NULL, 0);
    if (open_all(&f, 0, &err)) fail_msg("%s", err.text);
    tf_close(&f);
}

/* Writes a .safetensors file with another header. */
static void put_header(tf_folder *f, const char *name, const cJSON *header) {
    const tf_file *x = tf_find(f, name);
    uint64_t old, n;
    char *text = cJSON_PrintUnformatted(header);
    assert_non_null(text);
    n = strlen(text);
    memcpy(&old, x->data, sizeof old);
    size_t rest = x->n - sizeof old - (size_t)old;
    char *whole = malloc(sizeof n + n + rest);
    assert_non_null(whole);
    memcpy(whole, &n, sizeof n);
    memcpy(whole + sizeof n, text, n);
    memcpy(whole + sizeof n + n, x->data + sizeof old + old, rest);
    tf_put(f, name, whole, sizeof n + n + rest);
    free(whole);
    cJSON_free(text);
}

static cJSON *read_header(tf_folder *f, const char *name) {
    const tf_file *x = tf_find(f, name);
    uint64_t n;
    cJSON *root;
    kv_error err;
    memcpy(&n, x->data, sizeof n);
    if (kv_json_parse(x->data + sizeof n, (size_t)n, name, &root, &err)) fail_msg("%s", err.text);
    return root;
}

static void rename_item(cJSON *item, const char *to) {
    cJSON_free(item->string);
    item->string = strdup(to);
    assert_non_null(item->string);
}

/* Damages one entry of the header in turn: taken away (its bytes pass as a table of frequencies, which is ignored), of
 * an unknown name, for a layer too many, of other shapes, of an unknown type. */
static void damage_tensor(tf_folder *f, const char *file, cJSON *header, cJSON *item) {
    char name[160], other[200];
    cJSON *shape = cJSON_GetObjectItem(item, "shape"), *dtype = cJSON_GetObjectItem(item, "dtype");
    snprintf(name, sizeof name, "%s", item->string);
    snprintf(other, sizeof other, "%s.rotary_emb.inv_freq", name);
    rename_item(item, other);
    put_header(f, file, header);
    expect(f, "missing", f->s.dir, name);
    snprintf(other, sizeof other, "%s.x", name);
    rename_item(item, other);
    put_header(f, file, header);
    expect(f, "unknown", file, other);
    rename_item(item, "model.layers.2.mlp.down_proj.weight");
    put_header(f, file, header);
    expect(f, "too many", file, "model.layers.2.mlp.down_proj.weight");
    rename_item(item, name);

    cJSON_AddItemToArray(shape, cJSON_CreateNumber(1));
    put_header(f, file, header);
    expect(f, "one dimension more", file, name);
    cJSON_DeleteItemFromArray(shape, cJSON_GetArraySize(shape) - 1);
    if (cJSON_GetArraySize(shape) == 2) {
        cJSON_SetNumberValue(shape->child, shape->child->valuedouble / 2);
        cJSON_SetNumberValue(shape->child->next, shape->child->next->valuedouble * 2);
        put_header(f, file, header);
        expect(f, "other shape", file, name);
        cJSON_SetNumberValue(shape->child, shape->child->valuedouble * 2);
        cJSON_SetNumberValue(shape->child->next, shape->child->next->valuedouble / 2);
    }
    char *old = strdup(dtype->valuestring);
    cJSON_SetValuestring(dtype, "I16");
    put_header(f, file, header);
    expect(f, "type", file, name);
    cJSON_SetValuestring(dtype, old);
    free(old);
}

static void missing_unknown_and_misshapen_tensors_are_named(void **state) {
    (void)state;
    static const char *const folders[] = {"qwen3-untied", "phi3"};
    for (int k = 0; k < 2; k++) {
        char dir[512];
        tf_folder f;
        snprintf(dir, sizeof dir, CHECKPOINTS "%s", folders[k]);
        tf_open(&f, dir);
        cJSON *header = read_header(&f, "model.safetensors");
        for (cJSON *c = header->child; c; c = c->next)
            if (strcmp(c->string, "__metadata__") != 0) damage_tensor(&f, "model.safetensors", header, c);
        cJSON_Delete(header);
        tf_close(&f);
    }
}

static void an_index_that_contradicts_its_shards_is_refused(void **state) {
    (void)state;
    static const char index[] = "model.safetensors.index.json", name[] = "model.layers.0.mlp.down_proj.weight";
    static const char *const to[] = {"model-00001-of-00006.safetensors", "../model.safetensors", "model.bin",
                                     "model-00009-of-00006.safetensors"};
    tf_folder f;
    cJSON *root;
    kv_error err;
    tf_open(&f, CHECKPOINTS "qwen2");
    const tf_file *x = tf_find(&f, index);
    for (int i = 0; i < 6; i++) {
        if (kv_json_parse(x->data, x->n, index, &root, &err)) fail_msg("%s", err.text);
        cJSON *map = cJSON_GetObjectItem(root, "weight_map"), *entry = cJSON_GetObjectItem(map, name);
        assert_non_null(entry);
        if (i < 4) cJSON_SetValuestring(entry, to[i]);
        if (i == 4) cJSON_DeleteItemFromObject(map, name);
        if (i == 5) cJSON_ReplaceItemInObject(root, "weight_map", cJSON_CreateObject());
        char *text = cJSON_PrintUnformatted(root);
        tf_put(&f, index, text, strlen(text));
        expect(&f, "index", i == 3 ? to[3] : index, i < 3 || i == 4 ? name : "");
        cJSON_free(text);
        cJSON_Delete(root);
    }
    tf_close(&f);
}

static void settings_that_cannot_be_honoured_are_named(void **state) {
    (void)state;
    static const struct {
        const char *folder, *key, *value, *says;
    } cases[] = {
        {"qwen3", "architectures", "[\"GemmaForCausalLM\"]", "GemmaForCausalLM"},
        {"qwen3", "architectures", "null", "model_type"}, /* with model_type below taken away */
        {"qwen3", "hidden_act", "\"gelu\"", "gelu"},
        {"qwen3", "attention_bias", "true", "attention_bias"},
        {"qwen3", "quantization_config", "{\"quant_method\":\"fp8\"}", "fp8"},
        {"qwen3", "layer_types", "[\"full_attention\",\"sliding_attention\"]", "sliding_attention"},
        {"qwen3", "use_sliding_window", "true", "sliding_window"},
        {"qwen3", "num_hidden_layers", "3", "model.layers.2"},
        {"qwen3", "num_hidden_layers", "1", "model.layers.1"},
        {"qwen3", "hidden_size", "96", "embed_tokens"},
        {"qwen3", "hidden_size", "null", "hidden_size"},
        {"qwen3", "intermediate_size", "262144", "gate_proj"},
        {"qwen3", "intermediate_size", "-1", "intermediate_size"},
        {"qwen3", "num_key_value_heads", "2", "k_proj"},
        {"qwen3", "num_key_value_heads", "1.5", "num_key_value_heads"},
        {"qwen3", "num_attention_heads", "100000", "far outside"},
        {"qwen3", "head_dim", "63", "head size"},
        {"qwen3", "head_dim", "512", "head size"},
        {"qwen3", "vocab_size", "511", "embed_tokens"},
        {"qwen3", "max_position_embeddings", "1e9", "far outside"},
        {"qwen3", "rms_norm_eps", "\"small\"", "rms_norm_eps"},
        {"qwen3", "tie_word_embeddings", "false", "lm_head.weight"},
        {"qwen3", "tie_word_embeddings", "1", "tie_word_embeddings"},
        {"qwen3", "rope_parameters", "{\"rope_type\":\"dynamic\",\"factor\":2}", "dynamic"},
        {"qwen3", "rope_parameters", "{\"rope_type\":\"yarn\",\"factor\":0.5}", "factor"},
        {"qwen3", "rope_parameters", "{\"rope_type\":\"linear\"}", "factor"},
        {"qwen3", "rope_parameters", "{\"full_attention\":{\"rope_type\":\"default\"}}", "full_attention"},
        {"qwen3", "rope_parameters", "{\"rope_theta\":0.5}", "rope_theta"},
        {"qwen3", "rope_parameters", "[1]", "rope_parameters"},
        {"qwen3", "partial_rotary_factor", "0.75", "partial_rotary_factor = 0.75"},
        {"llama3", "rope_parameters",
         "{\"rope_type\":\"llama3\",\"factor\":8,\"low_freq_factor\":4,"
         "\"high_freq_factor\":1}",
         "high_freq_factor"},
        {"llama3", "rope_scaling", "{\"type\":\"llama3\",\"factor\":8,\"low_freq_factor\":1}", "high_freq_factor"},
        {"llama3", "mlp_bias", "true", "mlp_bias"},
        {"phi3", "rope_parameters", "{\"rope_type\":\"longrope\",\"short_factor\":[1,2]}", "short_factor"},
        {"phi3", "sliding_window", "300", "sliding_window = 300"},
        {"qwen2", "eos_token_id", "\"x\"", ""}, /* generation_config.json has them already */
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char dir[512];
        tf_folder f;
        cJSON *root;
        kv_error err;
        snprintf(dir, sizeof dir, CHECKPOINTS "%s", cases[i].folder);
        tf_open(&f, dir);
        const tf_file *x = tf_find(&f, "config.json");
        if (kv_json_parse(x->data, x->n, "config.json", &root, &err)) fail_msg("%s", err.text);
        cJSON_DeleteItemFromObjectCaseSensitive(root, cases[i].key);
        cJSON_AddItemToObject(root, cases[i].key, cJSON_Parse(cases[i].value));
        if (strcmp(cases[i].says, "model_type") == 0) cJSON_DeleteItemFromObjectCaseSensitive(root, "model_type");
        if (strcmp(cases[i].key, "use_sliding_window") == 0)
            cJSON_ReplaceItemInObject(root, "sliding_window", cJSON_CreateNumber(64));
        if (strcmp(cases[i].key, "rope_scaling") == 0) cJSON_DeleteItemFromObjectCaseSensitive(root, "rope_parameters");
        char *text = cJSON_PrintUnformatted(root);
        tf_put(&f, "config.json", text, strlen(text));
        if (cases[i].says[0])
            expect(&f, cases[i].value, f.s.dir, cases[i].says);
        else if (open_all(&f, 0, &err))
            fail_msg("%s", err.text);
        cJSON_free(text);
        cJSON_Delete(root);
        tf_close(&f);
    }
}

static void absent_settings_are_those_of_the_family(void **state) {
    (void)state;
#define SIZES                                                                                                          \
    "\"num_attention_heads\":4,\"intermediate_size\":8,\"num_hidden_layers\":1,\"vocab_size\":9,"                      \
    "\"max_position_embeddings\":64,\"hidden_size\":"
    static const struct {
        const char *text;
        int head_dim;
        float eps;
    } cases[] = {
        {"{\"model_type\":\"llama\"," SIZES "64}", 16, 1e-6f},
        {"{\"model_type\":\"qwen2\"," SIZES "64}", 16, 1e-6f},
        {"{\"model_type\":\"qwen3\"," SIZES "64}", 128, 1e-6f},
        {"{\"model_type\":\"qwen3\"," SIZES "64,\"head_dim\":null}", 16, 1e-6f},
        {"{\"model_type\":\"qwen3\"," SIZES "64,\"head_dim\":20,\"rms_norm_eps\":0.5}", 20, 0.5f},
        {"{\"model_type\":\"phi3\"," SIZES "64}", 16, 1e-5f},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        kv_model_config c;
        kv_error err;
        if (kv_hf_config_parse(cases[i].text, strlen(cases[i].text), "x", 0, &c, &err)) fail_msg("%s", err.text);
        assert_int_equal(c.shape.head_dim, cases[i].head_dim);
        assert_int_equal(c.shape.n_kv_heads, 4);
        assert_true(c.rms_eps == cases[i].eps && c.rope.base == 10000 && !c.tied);
    }
    static const char *const uneven[] = {"{\"model_type\":\"llama\"," SIZES "62}",
                                         "{\"model_type\":\"llama\"," SIZES "2}"};
    for (int i = 0; i < 2; i++) {
        kv_model_config c;
        kv_error err;
        assert_int_equal(kv_hf_config_parse(uneven[i], strlen(uneven[i]), "x", 0, &c, &err), KV_EFORMAT);
        assert_non_null(strstr(err.text, "is no multiple of num_attention_heads 4"));
    }
}

static void the_context_can_be_limited(void **state) {
    (void)state;
    kv_checkpoint *s;
    kv_error err;
    assert_int_equal(kv_checkpoint_open(CHECKPOINTS "phi3", 100, &s, &err), KV_OK);
    assert_int_equal(kv_checkpoint_config(s)->n_ctx, 100);
    kv_checkpoint_close(s);
    assert_int_equal(kv_checkpoint_open(CHECKPOINTS "phi3", 513, &s, &err), KV_EARG);
    assert_non_null(strstr(err.text, "513"));
    assert_int_equal(kv_checkpoint_open(CHECKPOINTS "qwen3.gguf", 513, &s, &err), KV_EARG);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(truncated_files_are_refused_by_name),
        cmocka_unit_test(absent_files_are_named),
        cmocka_unit_test(missing_unknown_and_misshapen_tensors_are_named),
        cmocka_unit_test(an_index_that_contradicts_its_shards_is_refused),
        cmocka_unit_test(settings_that_cannot_be_honoured_are_named),
        cmocka_unit_test(absent_settings_are_those_of_the_family),
        cmocka_unit_test(the_context_can_be_limited),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
