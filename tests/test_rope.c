/* test_rope.c - frequencies and attention factors of every rotary scaling against transformers
 * (scripts/golden_rope.py), read from configurations in both spellings. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "engine/hf_config.h"
#include "engine/json.h"

static void expect(const char *text, int max_ctx, const cJSON *inv, double scale, int i) {
    kv_model_config c;
    kv_error err = {0};
    float got[KV_ROPE_HALF_MOST];
    if (kv_hf_config_parse(text, strlen(text), "config", max_ctx, &c, &err)) fail_msg("case %d: %s", i, err.text);
    double s = kv_rope_frequencies(&c.rope, c.shape.head_dim, c.n_ctx, got);
    if (fabs(s - scale) > 1e-6) fail_msg("case %d: factor %.8f, transformers has %.8f", i, s, scale);
    int n = 0;
    for (const cJSON *v = inv->child; v; v = v->next, n++)
        if (!(fabs(got[n] - v->valuedouble) <= 1e-6 * v->valuedouble))
            fail_msg("case %d, %s: frequency %d is %.9g, transformers has %.9g", i, max_ctx ? "short" : "full", n,
                     got[n], v->valuedouble);
    assert_int_equal(n, c.shape.head_dim / 2);
}

static void frequencies_are_those_of_transformers(void **state) {
    (void)state;
    cJSON *root;
    kv_error err = {0};
    int n = 0;
    if (kv_json_load(KV_SOURCE_DIR "/tests/golden/rope.json", &root, &err)) fail_msg("%s", err.text);
    const cJSON *c;
    cJSON_ArrayForEach(c, cJSON_GetObjectItem(root, "cases")) {
        const cJSON *inv = cJSON_GetObjectItem(c, "inv")->child;
        double scale = cJSON_GetObjectItem(c, "scale")->valuedouble;
        char *text = cJSON_PrintUnformatted(cJSON_GetObjectItem(c, "config"));
        expect(text, 64, inv, scale, n);
        expect(text, 0, inv->next, scale, n++);
        cJSON_free(text);
    }
    assert_int_equal(n, 11);
    cJSON_Delete(root);
}

/* Qwen's model cards add yarn to config.json and leave max_position_embeddings as it was. */
static void yarn_extends_the_context(void **state) {
    (void)state;
    static const char text[] =
        "{\"model_type\":\"qwen3\",\"hidden_size\":64,\"intermediate_size\":64,\"num_hidden_layers\":1,"
        "\"num_attention_heads\":1,\"vocab_size\":8,\"max_position_embeddings\":40960,\"rope_theta\":1000000,"
        "\"rope_scaling\":{\"rope_type\":\"yarn\",\"factor\":4.0,\"original_max_position_embeddings\":32768}}";
    kv_model_config c;
    kv_error err = {0};
    if (kv_hf_config_parse(text, sizeof text - 1, "config", 0, &c, &err)) fail_msg("%s", err.text);
    assert_int_equal(c.n_ctx, 131072);
    assert_int_equal(c.shape.n_kv_heads, 1);
    assert_int_equal(c.rope.kind, KV_ROPE_YARN);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frequencies_are_those_of_transformers),
        cmocka_unit_test(yarn_extends_the_context),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
