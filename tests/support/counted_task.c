/* counted_task.c - see counted_task.h. */
#include "tests/support/counted_task.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "engine/chat.h"
#include "tests/support/token_golden.h"

static kv_tokenizer *tokenizer;

void ct_start(void) {
    if (!tokenizer) tokenizer = tg_tokenizer("smollm2");
}

void ct_close(void) {
    kv_tokenizer_close(tokenizer);
    tokenizer = NULL;
}

const kv_tokenizer *ct_tokenizer(void) {
    return tokenizer;
}

static int count(void *user, const char *prompt, const char *answer, int no_chat, size_t *n, kv_error *err) {
    kv_ids ids = {0};
    int rc =
        kv_chat_render_answer(no_chat ? NULL : user, tokenizer, NULL, prompt, strlen(prompt), answer, &ids, NULL, err);
    *n = ids.n;
    kv_ids_free(&ids);
    return rc;
}

static kv_task_options options(uint64_t seed, const char *qa_data) {
    return (kv_task_options){.root = CT_ROOT,
                             .seed = seed,
                             .qa_data = qa_data,
                             .count_tokens = count,
                             .count_user = (void *)kv_chat_find("smollm2")};
}

kv_task *ct_open(const char *spec, uint64_t seed, const char *qa_data) {
    kv_task_options o = options(seed, qa_data);
    kv_error err = {0};
    kv_task *t;
    if (kv_task_open(spec, &o, &t, &err)) fail_msg("%s: %s", spec, err.text);
    return t;
}

void ct_refused(const char *spec, const char *qa_data, int code, const char *text) {
    kv_task_options o = options(0, qa_data);
    kv_error err = {0};
    kv_task *t;
    int rc = kv_task_open(spec, &o, &t, &err);
    if (!rc) fail_msg("%s was accepted", spec);
    if (!strstr(err.text, text)) fail_msg("%s: '%s' does not say '%s'", spec, err.text, text);
    assert_int_equal(rc, code);
}

kv_item ct_item(kv_task *t, int i) {
    kv_item it;
    kv_error err = {0};
    if (kv_task_item(t, i, &it, &err)) fail_msg("%s", err.text);
    return it;
}

size_t ct_tokens(const kv_item *it) {
    size_t n;
    kv_error err = {0};
    if (count((void *)kv_chat_find("smollm2"), it->prompt, it->answer, 0, &n, &err)) fail_msg("%s", err.text);
    return n;
}

int ct_gold(const kv_item *it, int k, char *out, size_t cap) {
    const char *s = it->gold;
    for (; k; k--) {
        s = strchr(s, '\n');
        if (!s) return 0;
        s++;
    }
    size_t n = strcspn(s, "\n");
    assert_true(n > 0 && n < cap);
    memcpy(out, s, n);
    out[n] = 0;
    return 1;
}

int ct_occurs(const char *text, size_t end, const char *what) {
    int n = 0;
    for (const char *s = strstr(text, what); s && (size_t)(s - text) < end; s = strstr(s + 1, what)) n++;
    return n;
}
