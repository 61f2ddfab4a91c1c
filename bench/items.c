/* items.c - renders items into token ids once; every cell of a sweep then shares them. */
#include "bench/items.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/prompt_text.h"
#include "bench/text_tools.h"
#include "engine/file.h"

struct kv_items {
    kv_task *task;
    const kv_identity *id;
    kv_text_tools tools;
    kv_prompt *prompts; /* (n_items) */
    int n;
};

/* Without a chat template the start of the answer follows the prompt directly. */
static int render_ids(const kv_identity *id, int no_chat, const char *prompt, size_t question_at, const char *answer,
                      kv_ids *ids, size_t *n_context, kv_error *err) {
    const kv_chat *chat = no_chat ? NULL : id->chat;
    if (!answer[0]) return kv_prompt_ids(chat, id->tokenizer, NULL, prompt, question_at, ids, n_context, err);
    if (chat) return kv_chat_render_answer(chat, id->tokenizer, NULL, prompt, question_at, answer, ids, n_context, err);
    kv_text both = {0};
    char *text = NULL;
    kv_text_puts(&both, prompt);
    kv_text_puts(&both, answer);
    int rc = kv_text_take(&both, "a prompt", &text, err);
    if (rc == KV_OK) rc = kv_prompt_ids(NULL, id->tokenizer, NULL, text, question_at, ids, n_context, err);
    free(text);
    return rc;
}

static int count_tokens(void *user, const char *prompt, const char *answer, int no_chat, size_t *n, kv_error *err) {
    const kv_items *it = user;
    kv_ids ids = {0};
    size_t n_context;
    int rc = render_ids(it->id, no_chat, prompt, strlen(prompt), answer, &ids, &n_context, err);
    *n = ids.n;
    kv_ids_free(&ids);
    return rc;
}

int kv_items_open(const char *spec, const kv_task_options *o, const kv_identity *id, kv_items **out, kv_error *err) {
    kv_items *it = calloc(1, sizeof *it);
    if (!it) return kv_fail(err, KV_ENOMEM, "task %s: out of memory", spec);
    kv_task_options with_tools = *o;
    it->id = id;
    it->tools = kv_text_tools_of(id);
    with_tools.tools = &it->tools;
    with_tools.count_tokens = count_tokens;
    with_tools.count_user = it;
    int rc = kv_task_open(spec, &with_tools, &it->task, err);
    if (rc == KV_OK) {
        it->n = kv_task_get_info(it->task)->n_items;
        it->prompts = calloc(it->n ? (size_t)it->n : 1, sizeof *it->prompts);
        if (!it->prompts) rc = kv_fail(err, KV_ENOMEM, "task %s: out of memory for %d items", spec, it->n);
    }
    if (rc) {
        kv_items_close(it);
        return rc;
    }
    *out = it;
    return KV_OK;
}

void kv_items_close(kv_items *it) {
    if (!it) return;
    for (int i = 0; it->prompts && i < it->n; i++) {
        if (it->prompts[i].has_item) kv_item_free(&it->prompts[i].item);
        free(it->prompts[i].ids);
    }
    free(it->prompts);
    kv_task_close(it->task);
    free(it);
}

const kv_task *kv_items_task(const kv_items *it) {
    return it->task;
}

const kv_task_info *kv_items_info(const kv_items *it) {
    return kv_task_get_info(it->task);
}

static int make_item(kv_items *it, kv_prompt *p, int i, kv_error *err) {
    if (p->has_item) return KV_OK;
    int rc = kv_task_item(it->task, i, &p->item, err);
    p->has_item = rc == KV_OK;
    return rc;
}

static void describe_ids(kv_prompt *p) {
    size_t used = 0;
    kv_sha256_bytes(p->ids, (size_t)p->n * sizeof *p->ids, p->sha256);
    for (int i = 0; i < p->n && i < 16; i++)
        used += (size_t)snprintf(p->first_ids + used, sizeof p->first_ids - used, "%s%d", i ? "," : "[", p->ids[i]);
    snprintf(p->first_ids + used, sizeof p->first_ids - used, used ? "]" : "[]");
}

int kv_items_render(kv_items *it, int i, const kv_prompt **out, kv_error *err) {
    kv_prompt *p = &it->prompts[i];
    int rc = make_item(it, p, i, err);
    *out = p;
    if (rc || p->rendered) return rc;
    kv_ids ids = {0};
    size_t n_context = 0;
    rc = render_ids(it->id, kv_items_info(it)->no_chat, p->item.prompt, p->item.question_at, p->item.answer, &ids,
                    &n_context, err);
    if (rc) {
        kv_ids_free(&ids);
        return rc;
    }
    p->ids = ids.ids;
    p->n = (int)ids.n;
    int split = p->item.question_at < strlen(p->item.prompt) && n_context > 0;
    p->n_context = split ? (int)n_context : p->n;
    describe_ids(p);
    p->rendered = 1;
    return KV_OK;
}
