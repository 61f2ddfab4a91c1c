/* checkpoint_text.c - tokenizer, chat template and recommended generation settings of a model's files.
 *
 * In a folder these are tokenizer.json, tokenizer_config.json, chat_template.jinja (which takes precedence over the
 * template in tokenizer_config.json, as in transformers) and generation_config.json; all but the first may be
 * absent. */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "engine/file.h"
#include "engine/json.h"
#include "engine/checkpoint_internal.h"

/* NULL in *text when there is no such file. */
static int read_if_there(const kv_checkpoint *s, const char *name, char path[KV_FILE_PATH], char **text, size_t *n,
                         kv_error *err) {
    struct stat st;
    *text = NULL;
    int rc = kv_file_join(s->path, name, path, err);
    return rc || stat(path, &st) != 0 ? rc : kv_read_file(path, text, n, err);
}

/* tokenizer_config.json; NULL when there is none. */
static int load_tokenizer_config(const kv_checkpoint *s, cJSON **out, kv_error *err) {
    char path[KV_FILE_PATH], *text;
    size_t n = 0;
    *out = NULL;
    int rc = read_if_there(s, "tokenizer_config.json", path, &text, &n, err);
    if (rc || !text) return rc;
    rc = kv_json_parse(text, n, path, out, err);
    free(text);
    return rc;
}

/* A string, or the "default" one of a list of {name, template}; "" for a list without one. */
static const char *template_of(const cJSON *config) {
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(config, "chat_template"), *e;
    if (cJSON_IsString(v)) return v->valuestring;
    cJSON_ArrayForEach(e, v) {
        const char *name = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(e, "name"));
        if (name && strcmp(name, "default") == 0)
            return cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(e, "template"));
    }
    return cJSON_IsArray(v) ? "" : NULL;
}

static int folder_chat(const kv_checkpoint *s, const kv_tokenizer *t, const kv_chat **chat, kv_error *err) {
    char path[KV_FILE_PATH], *jinja;
    size_t n = 0;
    cJSON *config = NULL;
    int rc = read_if_there(s, "chat_template.jinja", path, &jinja, &n, err);
    if (rc) return rc;
    if (jinja) {
        *chat = kv_chat_detect(jinja, n, t);
        free(jinja);
        return KV_OK;
    }
    rc = load_tokenizer_config(s, &config, err);
    const char *text = template_of(config);
    if (rc == KV_OK) *chat = kv_chat_detect(text, text ? strlen(text) : 0, t);
    cJSON_Delete(config);
    return rc;
}

static int open_tokenizer(const kv_checkpoint *s, kv_tokenizer **out, kv_error *err) {
    if (s->gguf) return kv_tokenizer_from_gguf(s->gguf, out, err);
    int rc = kv_tokenizer_from_dir(s->path, out, err);
    if (rc == KV_ENOTFOUND)
        return kv_fail(err, rc,
                       "%s: no tokenizer.json in this folder; other tokenizer files (SentencePiece's "
                       "tokenizer.model) are not read",
                       s->path);
    return rc;
}

int kv_checkpoint_tokenizer(const kv_checkpoint *s, kv_tokenizer **tokenizer, const kv_chat **chat, kv_error *err) {
    const char *jinja = NULL;
    size_t len = 0;
    *chat = NULL;
    int rc = open_tokenizer(s, tokenizer, err);
    if (rc) return rc;
    if (kv_tokenizer_n_tokens(*tokenizer) > (size_t)s->config.n_vocab)
        rc = kv_fail(err, KV_EFORMAT, "%s: the tokenizer has %zu tokens, the embedding only %d rows", s->path,
                     kv_tokenizer_n_tokens(*tokenizer), s->config.n_vocab);
    else if (!s->gguf)
        rc = folder_chat(s, *tokenizer, chat, err);
    else
        *chat = kv_gguf_string(s->gguf, "tokenizer.chat_template", &jinja, &len, NULL) == KV_OK
                    ? kv_chat_detect(jinja, len, *tokenizer)
                    : kv_chat_detect(NULL, 0, *tokenizer);
    if (rc) {
        kv_tokenizer_close(*tokenizer);
        *tokenizer = NULL;
    }
    return rc;
}

/* Where there is no such file g stays as it is. */
static int load_generation(const kv_checkpoint *s, const char *name, kv_generation *g, kv_error *err) {
    char path[KV_FILE_PATH], *text;
    size_t n = 0;
    int rc = read_if_there(s, name, path, &text, &n, err);
    if (rc == KV_OK && text) rc = kv_generation_parse(text, n, path, g, err);
    free(text);
    return rc;
}

int kv_checkpoint_generation(const kv_checkpoint *s, const kv_tokenizer *t, kv_generation *g, kv_error *err) {
    int rc = KV_OK;
    int64_t eos = kv_tokenizer_eos(t);
    *g = kv_generation_none();
    if (!s->gguf) rc = load_generation(s, "generation_config.json", g, err);
    /* older checkpoints have these fields in config.json */
    if (rc == KV_OK && !s->gguf && !g->n_eos) rc = load_generation(s, "config.json", g, err);
    if (rc == KV_OK && eos >= 0) rc = kv_generation_add_eos(g, (int32_t)eos, s->path, err);
    for (int i = 0; rc == KV_OK && i < g->n_eos; i++)
        if (g->eos[i] >= s->config.n_vocab)
            rc = kv_fail(err, KV_EFORMAT, "%s: end-of-text token %d is outside the vocabulary of %d", s->path,
                         g->eos[i], s->config.n_vocab);
    return rc;
}
