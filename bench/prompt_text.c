/* prompt_text.c - reads and renders the prompt of `generate` and `tokenize`. */
#include "bench/prompt_text.h"

#include <stdlib.h>
#include <string.h>

#include "engine/file.h"

int kv_prompt_read(const char *path, char **out, kv_error *err) {
    size_t n;
    int rc = kv_read_file(strcmp(path, "-") == 0 ? "/dev/stdin" : path, out, &n, err);
    if (rc) return rc;
    if (strlen(*out) == n) return KV_OK;
    free(*out);
    *out = NULL;
    return kv_fail(err, KV_EFORMAT, "%.400s: has a zero byte; a prompt must be text", path);
}

static int unknown_chat(const char *what, kv_error *err) {
    char known[400] = "";
    int n;
    const kv_chat *const *all = kv_chat_all(&n);
    for (int i = 0; i < n; i++) {
        size_t used = strlen(known);
        snprintf(known + used, sizeof known - used, "%s%s", i ? ", " : "", kv_chat_name(all[i]));
    }
    return kv_fail(err, KV_EARG, "%s%s", what, known);
}

/* Applies --thinking and --double-bos. */
static int vary_chat(const kv_opts *o, const kv_chat **chat, kv_error *err) {
    const char *thinking = kv_opts_text(o, KV_OPT_THINKING);
    if (!*chat && (thinking || kv_opts_flag(o, KV_OPT_DOUBLE_BOS)))
        return kv_fail(err, KV_EARG, "--thinking and --double-bos change a chat template, and here is none");
    if (thinking) {
        const kv_chat *v = kv_chat_with_thinking(*chat, strcmp(thinking, "on") == 0);
        if (!v)
            return kv_fail(err, KV_EARG, "--thinking %s: the chat template %s has no such switch (qwen3 has)", thinking,
                           kv_chat_name(*chat));
        *chat = v;
    }
    if (kv_opts_flag(o, KV_OPT_DOUBLE_BOS)) *chat = kv_chat_with_double_bos(*chat);
    return KV_OK;
}

int kv_prompt_chat(const kv_opts *o, const kv_chat *own, int fallback_own, const kv_chat **out, kv_error *err) {
    const char *name = kv_opts_text(o, KV_OPT_CHAT);
    int raw = kv_opts_flag(o, KV_OPT_RAW), wants_own = name ? strcmp(name, "model") == 0 : fallback_own;
    *out = NULL;
    if (raw && name) return kv_fail(err, KV_EARG, "--raw and --chat %s contradict each other", name);
    if (!raw && (name || wants_own)) {
        *out = wants_own ? own : kv_chat_find(name);
        if (!*out && wants_own)
            return unknown_chat("the model's chat template is not one of those known here; choose one with --chat NAME "
                                "(none: the text alone): ",
                                err);
        if (!*out) {
            char what[128];
            snprintf(what, sizeof what, "--chat '%.60s': there are model, ", name);
            return unknown_chat(what, err);
        }
    }
    return vary_chat(o, out, err);
}

int kv_prompt_ids(const kv_chat *chat, const kv_tokenizer *t, const char *system, const char *text, size_t question_at,
                  kv_ids *out, size_t *n_context, kv_error *err) {
    if (chat) return kv_chat_render(chat, t, system, text, question_at, out, n_context, err);
    kv_text_part part = {text, strlen(text), 1};
    int rc = kv_tokenizer_push_bos(t, out, err);
    size_t n_bos = out->n;
    if (rc == KV_OK) rc = kv_tokenize_at(t, &part, 1, question_at, n_context, out, err);
    if (rc == KV_OK) *n_context += n_bos;
    return rc;
}
