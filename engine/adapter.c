/* adapter.c - PEFT LoRA adapters (Hu et al., arXiv 2106.09685; file names and fields of huggingface/peft).
 *
 * Only plain LoRA can be merged into a weight matrix by w += scale * B A.  Every field of the configuration that
 * changes this formula must be absent, null, false or empty; fields that matter to training alone are ignored.
 * Rows do not depend on each other, so any range of them is merged by itself. */
#include "engine/adapter.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/file.h"
#include "engine/json.h"
#include "engine/safetensors.h"

enum { MAX_RANK = 4096, TILE = 256 };

struct kv_adapter {
    kv_safetensors *file;
    char *path;
    int rank;
    float scale;
};

static const char prefix[] = "base_model.model.model.layers.";

/* pissa, olora, loftq and corda start from other base weights than the model's, so their B A is no change to these. */
static int starts_from_the_model(const cJSON *config) {
    static const char *const harmless[] = {"gaussian", "eva", "orthogonal"};
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(config, "init_lora_weights");
    int ok = !cJSON_IsString(v);
    for (size_t i = 0; !ok && i < sizeof harmless / sizeof *harmless; i++)
        ok = strcmp(v->valuestring, harmless[i]) == 0;
    return ok;
}

/* Absent, null, false and empty lists or objects mean "not used". */
static int is_used(const cJSON *config, const char *key) {
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(config, key);
    if (!v || cJSON_IsNull(v) || cJSON_IsFalse(v)) return 0;
    return !((cJSON_IsArray(v) || cJSON_IsObject(v)) && !v->child);
}

static int string_is(const cJSON *config, const char *key, const char *wanted) {
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(config, key);
    return cJSON_IsString(v) && strcmp(v->valuestring, wanted) == 0;
}

static int read_config(kv_adapter *a, const cJSON *config, const char *path, kv_error *err) {
    static const char *const refused[] = {"use_dora",          "fan_in_fan_out", "lora_bias",
                                          "modules_to_save",   "rank_pattern",   "alpha_pattern",
                                          "layer_replication", "use_qalora",     "alora_invocation_tokens"};
    if (!string_is(config, "peft_type", "LORA"))
        return kv_fail(err, KV_EUNSUPPORTED, "%s: peft_type must be LORA", path);
    if (cJSON_GetObjectItemCaseSensitive(config, "bias") && !string_is(config, "bias", "none"))
        return kv_fail(err, KV_EUNSUPPORTED, "%s: bias must be none", path);
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        if (is_used(config, refused[i]))
            return kv_fail(err, KV_EUNSUPPORTED, "%s: '%s' is set, only plain LoRA can be merged", path, refused[i]);
    }
    if (!starts_from_the_model(config))
        return kv_fail(
            err, KV_EUNSUPPORTED,
            "%s: init_lora_weights = %.40s changes the base weights: save the adapter converted to plain LoRA", path,
            cJSON_GetObjectItemCaseSensitive(config, "init_lora_weights")->valuestring);
    int64_t rank = 0;
    int rc = kv_json_int(config, "r", path, 1, MAX_RANK, &rank, err);
    if (rc != KV_OK) return rc;
    if (rank == 0) return kv_fail(err, KV_EFORMAT, "%s: no rank 'r'", path);
    const cJSON *alpha = cJSON_GetObjectItemCaseSensitive(config, "lora_alpha");
    if (!cJSON_IsNumber(alpha) || !isfinite(alpha->valuedouble))
        return kv_fail(err, KV_EFORMAT, "%s: no finite number 'lora_alpha'", path);
    const cJSON *rslora = cJSON_GetObjectItemCaseSensitive(config, "use_rslora");
    double divisor = cJSON_IsTrue(rslora) ? sqrt((double)rank) : (double)rank;
    a->rank = (int)rank;
    a->scale = (float)(alpha->valuedouble / divisor);
    return KV_OK;
}

int kv_adapter_open(const char *dir, kv_adapter **out, kv_error *err) {
    char config_path[KV_FILE_PATH], path[KV_FILE_PATH];
    *out = NULL;
    int rc = kv_file_join(dir, "adapter_config.json", config_path, err);
    if (rc == KV_OK) rc = kv_file_join(dir, "adapter_model.safetensors", path, err);
    if (rc != KV_OK) return rc;
    cJSON *config = NULL;
    kv_adapter *a = calloc(1, sizeof *a);
    if (!a || !(a->path = strdup(path))) rc = kv_fail(err, KV_ENOMEM, "%s: no memory", dir);
    if (rc == KV_OK) rc = kv_json_load(config_path, &config, err);
    if (rc == KV_OK) rc = read_config(a, config, config_path, err);
    if (rc == KV_OK) rc = kv_safetensors_open(path, &a->file, err);
    cJSON_Delete(config);
    if (rc != KV_OK) {
        kv_adapter_close(a);
        return rc;
    }
    *out = a;
    return KV_OK;
}

void kv_adapter_close(kv_adapter *a) {
    if (!a) return;
    kv_safetensors_close(a->file);
    free(a->path);
    free(a);
}

static int lora_name(char out[200], int layer, const char *module, char which) {
    return snprintf(out, 200, "%s%d.%s.lora_%c.weight", prefix, layer, module, which) < 200;
}

/* One row of w: every element is w + scale * (((b0 a0 + b1 a1) + b2 a2) + ...), whatever the tiling. */
static void merge_row(float *w, const float *b, const float *a, int rank, int n_in, float scale) {
    for (int start = 0; start < n_in; start += TILE) {
        int n = n_in - start < TILE ? n_in - start : TILE;
        float sum[TILE] = {0};
        for (int r = 0; r < rank; r++) {
            const float *row = a + (size_t)r * (size_t)n_in + start;
            for (int i = 0; i < n; i++) sum[i] += b[r] * row[i];
        }
        for (int i = 0; i < n; i++) w[start + i] += scale * sum[i];
    }
}

int kv_adapter_lora(const kv_adapter *a, int layer, const char *module, int n_out, int n_in, kv_lora *out,
                    kv_error *err) {
    char name_a[200], name_b[200];
    const kv_st_tensor *ta, *tb;
    *out = (kv_lora){0};
    if (!lora_name(name_a, layer, module, 'A') || !lora_name(name_b, layer, module, 'B'))
        return kv_fail(err, KV_EARG, "%s: module name '%.40s...' is too long", a->path, module);
    if (!kv_safetensors_find(a->file, name_a) && !kv_safetensors_find(a->file, name_b)) return KV_OK;
    int rc = kv_safetensors_expect(a->file, name_a, 2, (int64_t[]){a->rank, n_in}, &ta, err);
    if (rc == KV_OK) rc = kv_safetensors_expect(a->file, name_b, 2, (int64_t[]){n_out, a->rank}, &tb, err);
    if (rc != KV_OK) return rc == KV_ENOTFOUND ? KV_EFORMAT : rc;
    size_t rank = (size_t)a->rank, na = rank * (size_t)n_in, nb = rank * (size_t)n_out;
    float *fa = malloc((na + nb) * sizeof *fa);
    if (!fa) return kv_fail(err, KV_ENOMEM, "%s: no memory to merge layer %d %s", a->path, layer, module);
    *out = (kv_lora){fa, fa + na, a->rank, n_in, a->scale};
    kv_dequantize(ta->type, ta->data, out->a, na);
    kv_dequantize(tb->type, tb->data, out->b, nb);
    return KV_OK;
}

void kv_lora_free(kv_lora *l) {
    free(l->a);
    *l = (kv_lora){0};
}

void kv_lora_merge(const kv_lora *l, float *w, int first, int n) {
    for (int i = 0; i < n; i++)
        merge_row(w + (size_t)i * (size_t)l->n_in, l->b + (size_t)(first + i) * (size_t)l->rank, l->a, l->rank, l->n_in,
                  l->scale);
}

/* Splits "<prefix>{layer}.{module}.lora_{A|B}.weight"; 0 when the name is built differently. */
static int split_name(const char *name, long *layer, const char **module, size_t *module_len) {
    static const char a[] = ".lora_A.weight", b[] = ".lora_B.weight";
    size_t n = strlen(name), tail = sizeof a - 1;
    if (strncmp(name, prefix, sizeof prefix - 1) != 0 || n < sizeof prefix - 1 + tail) return 0;
    const char *end = name + n - tail;
    if (strcmp(end, a) != 0 && strcmp(end, b) != 0) return 0;
    const char *digits = name + sizeof prefix - 1;
    size_t n_digits = strspn(digits, "0123456789");
    if (n_digits < 1 || n_digits > 9 || (digits[0] == '0' && n_digits > 1) || digits[n_digits] != '.') return 0;
    *layer = strtol(digits, NULL, 10);
    *module = digits + n_digits + 1;
    *module_len = *module < end ? (size_t)(end - *module) : 0;
    return 1;
}

int kv_adapter_check(const kv_adapter *a, int n_layers, const char *const *modules, size_t n_modules, kv_error *err) {
    for (size_t i = 0; i < kv_safetensors_n(a->file); i++) {
        const char *name = kv_safetensors_at(a->file, i)->name, *module = NULL;
        size_t len = 0;
        long layer = 0;
        int known = 0;
        if (split_name(name, &layer, &module, &len)) {
            for (size_t m = 0; m < n_modules; m++)
                known |= strlen(modules[m]) == len && memcmp(modules[m], module, len) == 0;
        }
        if (!known)
            return kv_fail(err, KV_EUNSUPPORTED,
                           "%s: tensor '%.150s' is not a LoRA matrix of one of the model's %zu linear maps", a->path,
                           name, n_modules);
        if (layer >= n_layers)
            return kv_fail(err, KV_EFORMAT, "%s: tensor '%.150s' is for layer %ld, the model has %d", a->path, name,
                           layer, n_layers);
    }
    return KV_OK;
}
