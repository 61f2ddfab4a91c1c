/* export_line.c - builds a line of a samples file; hashes are over the same texts as lm_eval's, so that its readers
 * can check them.  Bytes of an output that are no UTF-8 become U+FFFD: JSON has no room for them. */
#include "results/export_line.h"

#include <stdlib.h>
#include <string.h>

#include "engine/file.h"

static cJSON *valid_text(const char *s) {
    kv_string t = {0};
    kv_string_add_valid(&t, s);
    cJSON *j = t.failed ? NULL : cJSON_CreateString(t.p);
    kv_string_free(&t);
    return j;
}

static void add_hash(cJSON *o, const char *key, const char *text) {
    char hash[65];
    kv_sha256_bytes(text, strlen(text), hash);
    cJSON_AddStringToObject(o, key, hash);
}

/* As json.dumps(doc, indent=2, ensure_ascii=False) writes it: that text is what doc_hash is over. */
static void hash_doc(cJSON *line, const cJSON *doc) {
    kv_string t = {0};
    kv_string_add(&t, "{");
    for (const cJSON *c = doc->child; c; c = c->next) {
        char *value = cJSON_PrintUnformatted(c);
        kv_string_addf(&t, "%s\n  \"%s\": ", c->prev && c != doc->child ? "," : "", c->string);
        kv_string_add(&t, value ? value : "");
        cJSON_free(value);
    }
    kv_string_add(&t, "\n}");
    add_hash(line, "doc_hash", t.failed ? "" : t.p);
    kv_string_free(&t);
}

void kv_export_add_real(cJSON *object, const char *key, double x) {
    kv_string t = {0};
    kv_string_add_number(&t, x);
    if (!t.failed && !strpbrk(t.p, ".en")) kv_string_add(&t, ".0");
    cJSON_AddRawToObject(object, key, t.failed ? "null" : t.p);
    kv_string_free(&t);
}

void kv_export_sanitize(const char *name, char *out, size_t cap) {
    size_t n = 0;
    for (size_t bad; *name && n + 3 < cap; name += bad ? bad : 1) {
        bad = strspn(name, "\"<>:/|\\?*[]");
        out[n++] = bad ? '_' : *name;
        if (bad) out[n++] = '_';
    }
    out[n] = 0;
}

int kv_export_line_begin(kv_export_line *l, const char *item, const char *prompt_sha256, const char *gold,
                         const char *prompt, const char *config, kv_error *err) {
    cJSON *j = l->json = cJSON_CreateObject(), *settings = cJSON_Parse(config);
    snprintf(l->item, sizeof l->item, "%s", item);
    cJSON_AddNumberToObject(j, "doc_id", strtod(item, NULL));
    cJSON *doc = cJSON_AddObjectToObject(j, "doc");
    cJSON_AddStringToObject(doc, "id", item);
    cJSON_AddItemToObject(doc, "gold", valid_text(gold));
    cJSON_AddItemToObject(j, "target", valid_text(gold));
    cJSON *request = cJSON_AddObjectToObject(cJSON_AddObjectToObject(j, "arguments"), "gen_args_0");
    cJSON_AddItemToObject(request, "arg_0", valid_text(prompt ? prompt : ""));
    cJSON_AddItemToObject(request, "arg_1", cJSON_DetachItemFromObject(settings, "generation_kwargs"));
    cJSON_Delete(settings);
    l->resps = cJSON_CreateArray();
    cJSON_AddItemToArray(cJSON_AddArrayToObject(j, "resps"), l->resps);
    l->extracted = cJSON_AddArrayToObject(j, "filtered_resps");
    cJSON_AddStringToObject(j, "filter", "none");
    static const char *const metrics[] = {"score", "compat", "partial"};
    cJSON_AddItemToObject(j, "metrics", cJSON_CreateStringArray(metrics, KV_EXPORT_METRICS));
    const char *target = cJSON_GetStringValue(cJSON_GetObjectItem(j, "target"));
    const char *asked = cJSON_GetStringValue(cJSON_GetObjectItem(request, "arg_0"));
    if (!target || !asked || !l->extracted)
        return kv_fail(err, KV_ENOMEM, "item %s: out of memory for the export", item);
    hash_doc(j, doc);
    if (prompt)
        add_hash(j, "prompt_hash", asked);
    else
        cJSON_AddStringToObject(j, "prompt_hash", prompt_sha256);
    add_hash(j, "target_hash", target);
    return KV_OK;
}

int kv_export_line_add(kv_export_line *l, const char *output, const char *extracted, double score, double compat,
                       double partial, kv_error *err) {
    cJSON *o = valid_text(output), *e = valid_text(extracted);
    cJSON_AddItemToArray(l->resps, o);
    cJSON_AddItemToArray(l->extracted, e);
    l->sum[0] += score;
    l->sum[1] += compat;
    l->sum[2] += partial;
    l->n++;
    return o && e ? KV_OK : kv_fail(err, KV_ENOMEM, "item %s: out of memory for the export", l->item);
}

int kv_export_line_write(kv_export_line *l, FILE *f, kv_export_sums *sums, kv_error *err) {
    static const char *const hashes[] = {"doc_hash", "prompt_hash", "target_hash"};
    const cJSON *name = cJSON_GetObjectItem(l->json, "metrics")->child;
    for (int i = 0; i < KV_EXPORT_METRICS && name; i++, name = name->next) {
        double mean = l->sum[i] / l->n;
        kv_export_add_real(l->json, name->valuestring, mean);
        sums->sum[i] += mean;
        sums->squares[i] += mean * mean;
    }
    for (size_t i = 0; i < sizeof hashes / sizeof *hashes; i++) {
        const char *h = cJSON_GetStringValue(cJSON_GetObjectItem(l->json, hashes[i]));
        kv_string_add(&sums->hashes, h ? h : "");
    }
    sums->n++;
    char *text = cJSON_PrintUnformatted(l->json);
    if (text) fprintf(f, "%s\n", text);
    int rc = text ? KV_OK : kv_fail(err, KV_ENOMEM, "item %s: out of memory for the export", l->item);
    cJSON_free(text);
    kv_export_line_free(l);
    return rc;
}

void kv_export_line_free(kv_export_line *l) {
    cJSON_Delete(l->json);
    *l = (kv_export_line){0};
}
