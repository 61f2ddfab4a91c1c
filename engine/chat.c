/* chat.c - chat templates as data.
 *
 * A template here is the text around one system and one user message.  Jinja is not interpreted: a family is told
 * from a model's Jinja text by substrings, and its rendering is written out below, so that the prompt does not change
 * with the renderer, its clock or its white-space switches.
 *
 * Template text is trusted, messages are not: "<|im_end|>" in a user's essay stays an essay.  Llama trims both.
 *
 * Sources: chat_template of the families' tokenizer_config.json; Llama 3.2's takes today's date from a clock, here it
 * is the fixed one of 3.1 and 3.3. */
#include "engine/chat.h"
#include "engine/file.h"
#include "engine/utf8.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_NEEDED = 4, MAX_STOPS = 4, MAX_TELLS = 5 };
typedef enum bos_rule { BOS_NONE, BOS_IN_TEMPLATE, BOS_BY_TOKENIZER } bos_rule;

struct kv_chat {
    const char *name;
    const char *head;                      /* before everything */
    const char *system_head, *system_tail; /* around the system message; NULL: there is no place for one */
    const char *default_system;            /* NULL: no system turn when none is given */
    const char *user_head, *user_tail;     /* around the user message; the tail opens the answer */
    bos_rule bos;
    int trim;
    const char *needed[MAX_NEEDED]; /* special tokens without which the template makes no sense */
    const char *stops[MAX_STOPS];
    const char *has[MAX_TELLS], *has_not[MAX_TELLS]; /* in the Jinja text; none: never detected */
    const char *has_token;                           /* in the vocabulary, for detection only */
    const char *thinking[2]; /* the families with thinking off and on, where there is a switch */
    const char *double_bos;  /* the family with a second BOS */
};

/* The full-width bar U+FF5C and the block U+2581 in DeepSeek's token names. */
#define BAR "\357\275\234"
#define LOW "\342\226\201"
#define R1_BOS "<" BAR "begin" LOW "of" LOW "sentence" BAR ">"
#define R1_EOS "<" BAR "end" LOW "of" LOW "sentence" BAR ">"
#define R1_USER "<" BAR "User" BAR ">"
#define R1_ASSISTANT "<" BAR "Assistant" BAR ">"

#define CHATML                                                                                                         \
    .system_head = "<|im_start|>system\n", .system_tail = "<|im_end|>\n", .user_head = "<|im_start|>user\n",           \
    .needed = {"<|im_start|>", "<|im_end|>"}
#define CHATML_TAIL "<|im_end|>\n<|im_start|>assistant\n"
#define QWEN_STOPS                                                                                                     \
    { "<|im_end|>", "<|endoftext|>" }
#define LLAMA_BOS "<|begin_of_text|>"
#define LLAMA                                                                                                          \
    .system_tail = "<|eot_id|>", .user_head = "<|start_header_id|>user<|end_header_id|>\n\n",                          \
    .user_tail = "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n", .bos = BOS_IN_TEMPLATE, .trim = 1,     \
    .needed = {LLAMA_BOS, "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"}
#define LLAMA_SYSTEM "<|start_header_id|>system<|end_header_id|>\n\n"
#define LLAMA_3 LLAMA, .system_head = LLAMA_SYSTEM, .stops = {"<|eot_id|>", "<|end_of_text|>"}
#define LLAMA_31                                                                                                       \
    LLAMA, .system_head = LLAMA_SYSTEM "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n",           \
           .default_system = "", .stops = {"<|eot_id|>", "<|eom_id|>", "<|end_of_text|>"}
#define R1                                                                                                             \
    .system_head = "", .system_tail = "", .user_head = R1_USER, .bos = BOS_IN_TEMPLATE,                                \
    .needed = {R1_BOS, R1_USER, R1_ASSISTANT}, .stops = {R1_EOS}

#define PHI3                                                                                                           \
    .user_head = "<|user|>\n", .user_tail = "<|end|>\n<|assistant|>\n",                                                \
    .stops = {"<|end|>", "<|endoftext|>", "<|assistant|>"}

static const kv_chat smollm2 = {.name = "smollm2",
                                CHATML,
                                .default_system =
                                    "You are a helpful AI assistant named SmolLM, trained by Hugging Face",
                                .user_tail = CHATML_TAIL,
                                .stops = {"<|im_end|>"},
                                .has = {"<|im_start|>", "named SmolLM, trained by Hugging Face"},
                                .has_not = {"enable_thinking"}};
#define NO_OTHER_QWEN "You are Qwen", "Please reason step by step", "assistant\n<think>\n'", "named SmolLM"
static const kv_chat qwen3 = {.name = "qwen3",
                              CHATML,
                              .user_tail = CHATML_TAIL,
                              .stops = QWEN_STOPS,
                              .has = {"<|im_start|>", "<tool_call>", "enable_thinking"},
                              .has_not = {NO_OTHER_QWEN, "'<think>\n'"}, /* Qwen3.5 opens the block itself */
                              .has_token = "<think>",
                              .thinking = {"qwen3-nothink", "qwen3"}};
static const kv_chat qwen3_nothink = {.name = "qwen3-nothink",
                                      CHATML,
                                      .user_tail = CHATML_TAIL "<think>\n\n</think>\n\n",
                                      .stops = QWEN_STOPS,
                                      .thinking = {"qwen3-nothink", "qwen3"}};
static const kv_chat qwen3_instruct = {.name = "qwen3-instruct",
                                       CHATML,
                                       .user_tail = CHATML_TAIL,
                                       .stops = QWEN_STOPS,
                                       .has = {"<|im_start|>", "<tool_call>"},
                                       .has_not = {NO_OTHER_QWEN, "enable_thinking"},
                                       .has_token = "<think>",
                                       .thinking = {"qwen3-instruct"}};
static const kv_chat qwen3_thinking = {.name = "qwen3-thinking",
                                       CHATML,
                                       .user_tail = CHATML_TAIL "<think>\n",
                                       .stops = QWEN_STOPS,
                                       .has = {"<|im_start|>", "<tool_call>", "assistant\n<think>\n'"},
                                       .has_not = {"You are Qwen"},
                                       .thinking = {NULL, "qwen3-thinking"}};
static const kv_chat qwen25 = {.name = "qwen2.5",
                               CHATML,
                               .default_system = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant.",
                               .user_tail = CHATML_TAIL,
                               .stops = QWEN_STOPS,
                               .has = {"<|im_start|>", "You are Qwen, created by Alibaba Cloud."}};
static const kv_chat qwen25_math = {.name = "qwen2.5-math",
                                    CHATML,
                                    .default_system =
                                        "Please reason step by step, and put your final answer within \\boxed{}.",
                                    .user_tail = CHATML_TAIL,
                                    .stops = QWEN_STOPS,
                                    .has = {"<|im_start|>", "Please reason step by step, and put your final answer"}};
static const kv_chat llama3 = {.name = "llama-3",
                               .head = LLAMA_BOS,
                               LLAMA_3,
                               .has = {"<|start_header_id|>", "<|eot_id|>"},
                               .has_not = {"Cutting Knowledge Date"},
                               .double_bos = "llama-3-double-bos"};
static const kv_chat llama3_double = {.name = "llama-3-double-bos", .head = LLAMA_BOS LLAMA_BOS, LLAMA_3};
static const kv_chat llama31 = {.name = "llama-3.1",
                                .head = LLAMA_BOS,
                                LLAMA_31,
                                .has = {"<|start_header_id|>", "Cutting Knowledge Date"},
                                .double_bos = "llama-3.1-double-bos"};
static const kv_chat llama31_double = {.name = "llama-3.1-double-bos", .head = LLAMA_BOS LLAMA_BOS, LLAMA_31};
static const kv_chat r1 = {.name = "deepseek-r1",
                           .head = R1_BOS,
                           R1,
                           .user_tail = R1_ASSISTANT "<think>\n",
                           .has = {R1_USER, R1_ASSISTANT, R1_ASSISTANT "<think>"},
                           .double_bos = "deepseek-r1-double-bos"};
static const kv_chat r1_double = {
    .name = "deepseek-r1-double-bos", .head = R1_BOS R1_BOS, R1, .user_tail = R1_ASSISTANT "<think>\n"};
static const kv_chat r1_plain = {.name = "deepseek-r1-plain",
                                 .head = R1_BOS,
                                 R1,
                                 .user_tail = R1_ASSISTANT,
                                 .has = {R1_USER, R1_ASSISTANT, "</think>"},
                                 .has_not = {R1_ASSISTANT "<think>"},
                                 .double_bos = "deepseek-r1-plain-double-bos"};
static const kv_chat r1_plain_double = {
    .name = "deepseek-r1-plain-double-bos", .head = R1_BOS R1_BOS, R1, .user_tail = R1_ASSISTANT};
static const kv_chat phi3 = {.name = "phi-3",
                             PHI3,
                             .system_head = "<|system|>\n",
                             .system_tail = "<|end|>\n",
                             .bos = BOS_BY_TOKENIZER,
                             .needed = {"<|user|>", "<|end|>", "<|assistant|>"},
                             .has = {"<|user|>", "<|end|>", "<|assistant|>"},
                             .has_not = {"bos_token"}};
static const kv_chat phi3_bos = {.name = "phi-3-bos",
                                 .head = "<s>",
                                 PHI3,
                                 .bos = BOS_IN_TEMPLATE,
                                 .needed = {"<|user|>", "<|end|>", "<|assistant|>", "<s>"},
                                 .has = {"<|user|>", "<|end|>", "<|assistant|>", "bos_token"},
                                 .double_bos = "phi-3-bos-double-bos"};
static const kv_chat phi3_double = {.name = "phi-3-bos-double-bos",
                                    .head = "<s><s>",
                                    PHI3,
                                    .bos = BOS_IN_TEMPLATE,
                                    .needed = {"<|user|>", "<|end|>", "<|assistant|>", "<s>"}};
static const kv_chat none = {.name = "none", .bos = BOS_BY_TOKENIZER};

static const kv_chat *const families[] = {
    &smollm2,     &qwen3,    &qwen3_nothink,   &qwen3_instruct, &qwen3_thinking, &qwen25,
    &qwen25_math, &llama3,   &llama3_double,   &llama31,        &llama31_double, &r1,
    &r1_double,   &r1_plain, &r1_plain_double, &phi3,           &phi3_bos,       &phi3_double,
    &none};
enum { N_FAMILIES = sizeof families / sizeof *families };

const kv_chat *kv_chat_find(const char *name) {
    for (size_t i = 0; i < N_FAMILIES; i++)
        if (strcmp(families[i]->name, name) == 0) return families[i];
    return NULL;
}

const kv_chat *const *kv_chat_all(int *n) {
    *n = N_FAMILIES;
    return families;
}

const char *kv_chat_name(const kv_chat *c) {
    return c->name;
}

const kv_chat *kv_chat_with_thinking(const kv_chat *c, int on) {
    const char *name = c->thinking[on != 0];
    return name ? kv_chat_find(name) : NULL;
}

const kv_chat *kv_chat_with_double_bos(const kv_chat *c) {
    return c->double_bos ? kv_chat_find(c->double_bos) : c;
}

/* Whether text starts with tell; a line end in tell may stand in the text as the two characters \n. */
static int starts_with(const char *text, const char *end, const char *tell) {
    for (; *tell; tell++, text++) {
        if (*tell == '\n' && end - text >= 2 && text[0] == '\\' && text[1] == 'n')
            text++;
        else if (text == end || *text != *tell)
            return 0;
    }
    return 1;
}

static int contains(const char *text, size_t len, const char *tell) {
    for (size_t i = 0; i < len; i++)
        if (starts_with(text + i, text + len, tell)) return 1;
    return 0;
}

static const char *missing_token(const kv_chat *c, const kv_tokenizer *t) {
    for (size_t i = 0; i < MAX_NEEDED && c->needed[i]; i++)
        if (kv_tokenizer_special(t, c->needed[i]) < 0) return c->needed[i];
    return NULL;
}

static int is_family(const kv_chat *c, const char *jinja, size_t len, const kv_tokenizer *t) {
    if (!c->has[0] || missing_token(c, t)) return 0;
    if (c->has_token && kv_tokenizer_special(t, c->has_token) < 0) return 0;
    for (size_t i = 0; i < MAX_TELLS && c->has[i]; i++)
        if (!contains(jinja, len, c->has[i])) return 0;
    for (size_t i = 0; i < MAX_TELLS && c->has_not[i]; i++)
        if (contains(jinja, len, c->has_not[i])) return 0;
    return 1;
}

const kv_chat *kv_chat_detect(const char *jinja, size_t len, const kv_tokenizer *t) {
    if (!jinja) return &none;
    for (size_t i = 0; i < N_FAMILIES; i++)
        if (is_family(families[i], jinja, len, t)) return families[i];
    return NULL;
}

/* The characters that Jinja's trim removes: Unicode White_Space and U+001C to U+001F. */
static size_t blank_at(const char *s, size_t n) {
    return n && *s >= 0x1C && *s <= 0x1F ? 1 : kv_utf8_blank(s, n);
}

static size_t blank_before(const char *s, size_t n) {
    return n && s[n - 1] >= 0x1C && s[n - 1] <= 0x1F ? 1 : kv_utf8_blank_before(s, n);
}

/* One message; *cut receives the bytes removed in front. */
static kv_text_part message(const kv_chat *c, const char *text, size_t *cut) {
    size_t n = strlen(text), k;
    *cut = 0;
    if (c->trim) {
        while ((k = blank_at(text + *cut, n - *cut))) *cut += k;
        while ((k = blank_before(text + *cut, n - *cut))) n -= k;
    }
    return (kv_text_part){text + *cut, n - *cut, 0};
}

static kv_text_part template_text(const char *s) {
    return (kv_text_part){s ? s : "", s ? strlen(s) : 0, 1};
}

enum { HEAD, SYSTEM_HEAD, SYSTEM, SYSTEM_TAIL, USER_HEAD, USER, USER_TAIL, ANSWER, N_PARTS };

/* Fills the parts; returns the bytes cut off in front of the user's text. */
static size_t lay_out(const kv_chat *c, const char *system, const char *user, kv_text_part parts[N_PARTS]) {
    size_t cut;
    for (int i = 0; i < N_PARTS; i++) parts[i] = template_text(NULL);
    parts[HEAD] = template_text(c->head);
    if (!system) system = c->default_system;
    if (system && c->system_head) {
        parts[SYSTEM_HEAD] = template_text(c->system_head);
        parts[SYSTEM] = message(c, system, &cut);
        parts[SYSTEM_TAIL] = template_text(c->system_tail);
    }
    parts[USER_HEAD] = template_text(c->user_head);
    parts[USER] = message(c, user, &cut);
    parts[USER_TAIL] = template_text(c->user_tail);
    return cut;
}

void kv_chat_hash(const kv_chat *c, char hex[65]) {
    const char *const systems[] = {NULL, c->system_head ? "{system}" : NULL};
    char text[2048];
    size_t n = (size_t)snprintf(text, sizeof text, "bos=%d trim=%d", (int)c->bos, c->trim);
    for (int k = 0; k < 2; k++) {
        kv_text_part parts[N_PARTS];
        lay_out(c, systems[k], "{user}", parts);
        text[n++] = '\n';
        for (int i = 0; i < N_PARTS; i++) {
            memcpy(text + n, parts[i].text, parts[i].len);
            n += parts[i].len;
        }
    }
    kv_sha256_bytes(text, n, hex);
}

int kv_chat_render_answer(const kv_chat *c, const kv_tokenizer *t, const char *system, const char *user,
                          size_t question_at, const char *answer, kv_ids *out, size_t *n_context, kv_error *err) {
    const char *missing = missing_token(c, t);
    if (missing)
        return kv_fail(err, KV_EARG,
                       "chat template \"%s\" needs the special token %s, which this tokenizer does not have: choose "
                       "another template, or \"none\"",
                       c->name, missing);
    if (system && *system && !c->system_head)
        return kv_fail(err, KV_EARG, "chat template \"%s\" has no place for a system message: leave it out", c->name);
    if (question_at > strlen(user))
        return kv_fail(err, KV_EARG, "the question starts at byte %zu of a prompt of %zu bytes", question_at,
                       strlen(user));
    kv_text_part parts[N_PARTS];
    size_t cut = lay_out(c, system, user, parts);
    parts[ANSWER] = (kv_text_part){answer, strlen(answer), 0};
    size_t at = question_at > cut ? question_at - cut : 0, before = 0;
    if (at > parts[USER].len) at = parts[USER].len;
    for (int i = 0; i < USER; i++) at += parts[i].len;
    size_t n_was = out->n;
    int rc = c->bos == BOS_BY_TOKENIZER ? kv_tokenizer_push_bos(t, out, err) : KV_OK;
    size_t n_bos = out->n - n_was;
    if (rc == KV_OK) rc = kv_tokenize_at(t, parts, N_PARTS, at, &before, out, err);
    if (rc) {
        out->n = n_was;
        return rc;
    }
    if (n_context) *n_context = n_bos + before;
    return KV_OK;
}

int kv_chat_render(const kv_chat *c, const kv_tokenizer *t, const char *system, const char *user, size_t question_at,
                   kv_ids *out, size_t *n_context, kv_error *err) {
    return kv_chat_render_answer(c, t, system, user, question_at, "", out, n_context, err);
}

int kv_chat_stop_ids(const kv_chat *c, const kv_tokenizer *t, int32_t *ids, int max) {
    int n = 0;
    for (size_t i = 0; i < MAX_STOPS && c->stops[i]; i++) {
        int64_t id = kv_tokenizer_special(t, c->stops[i]);
        if (id >= 0 && n < max) ids[n++] = (int32_t)id;
    }
    return n;
}
