/* generate.c - the `generate` command: one prompt under any policy, for trying a model and for checking this engine
 * against any other.  Plain output streams the text; --json prints everything that another implementation could be
 * compared with: ids, log-probabilities, and with --trace the positions kept by every reduction. */
#include <cjson/cJSON.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench/command.h"
#include "bench/plan.h"
#include "bench/prompt_text.h"
#include "bench/sampling.h"
#include "bench/setup.h"
#include "results/stringbuf.h"

enum { N_TOP = 5 };

typedef struct generation {
    const kv_opts *o;
    char *text; /* prompt and question; NULL with --token-ids */
    size_t question_at;
    const kv_io *io;
    kv_session session;
    const kv_chat *chat; /* NULL: the text alone, or --token-ids */
    kv_request request;
    int taken;         /* the one request was handed out */
    int first;         /* nothing was printed yet */
    kv_string pending; /* bytes of a character that is not complete yet */
    kv_string evictions;
    cJSON *json;  /* built in done() with --json */
    kv_error err; /* of the sequence */
} generation;

static int next_request(void *user, kv_request *r) {
    generation *g = user;
    if (g->taken) return 0;
    g->taken = 1;
    *r = g->request;
    return 1;
}

/* Length of the longest beginning that ends with a whole UTF-8 character (stray bytes count as characters). */
static size_t whole_characters(const char *s, size_t n) {
    for (size_t back = 1; back <= 3 && back <= n; back++) {
        unsigned char c = (unsigned char)s[n - back];
        if (c < 0x80) return n;
        if (c >= 0xC0) {
            size_t need = c >= 0xF0 ? 4 : c >= 0xE0 ? 3 : 2;
            return need > back ? n - back : n;
        }
    }
    return n;
}

/* Prints each token's text as it is chosen. */
static int stream_token(void *user, const kv_request *r, const int32_t *tokens, int n) {
    generation *g = user;
    size_t len;
    const char *text = kv_token_shown(kv_engine_tokenizer(g->session.engine), tokens[n - 1], 1, &g->first, &len);
    (void)r;
    kv_string_add_bytes(&g->pending, text, len);
    if (g->pending.failed || !g->pending.p) return 0;
    size_t whole = whole_characters(g->pending.p, g->pending.n);
    fwrite(g->pending.p, 1, whole, g->io->out);
    fflush(g->io->out);
    memmove(g->pending.p, g->pending.p + whole, g->pending.n - whole + 1);
    g->pending.n -= whole;
    return 0;
}

static void add_positions(kv_string *s, const char *name, const int32_t *pos, int n) {
    kv_string_addf(s, ",\"%s\":[", name);
    for (int i = 0; i < n; i++) kv_string_addf(s, "%s%d", i ? "," : "", pos[i]);
    kv_string_add(s, "]");
}

static void on_evict(void *user, void *request_user, int layer, int kv_head, int n_seen, const int32_t *before,
                     int n_before, const int32_t *kept, int n_kept) {
    kv_string *s = &((generation *)user)->evictions;
    (void)request_user;
    kv_string_addf(s, "%s{\"layer\":%d,\"head\":%d,\"seen\":%d", s->n > 1 ? "," : "", layer, kv_head, n_seen);
    add_positions(s, "before", before, n_before);
    add_positions(s, "kept", kept, n_kept);
    kv_string_add(s, "}");
}

static cJSON *json_ids(const int32_t *ids, int n) {
    cJSON *a = cJSON_CreateIntArray(ids, n);
    return a ? a : cJSON_CreateArray();
}

static void add_text(cJSON *j, const char *name, const char *text) {
    kv_string s = {0};
    kv_string_add_valid(&s, text);
    cJSON_AddStringToObject(j, name, s.failed ? "" : s.p);
    kv_string_free(&s);
}

static void add_top(cJSON *j, const kv_completion *c) {
    cJSON *steps = cJSON_AddArrayToObject(j, "top");
    for (int i = 0; i < c->n_tokens && steps; i++) {
        cJSON *step = cJSON_CreateArray();
        for (int k = 0; k < N_TOP; k++) {
            const kv_top *t = &c->top[(size_t)i * N_TOP + (size_t)k];
            const double pair[2] = {t->id, t->logprob};
            cJSON_AddItemToArray(step, cJSON_CreateDoubleArray(pair, 2));
        }
        cJSON_AddItemToArray(steps, step);
    }
}

static int on_done(void *user, const kv_request *r, const kv_completion *c) {
    generation *g = user;
    if (c->status) return kv_fail(&g->err, c->status, "%s", c->err.text);
    if (!kv_opts_flag(g->o, KV_OPT_JSON)) {
        if (g->pending.p && !g->pending.failed) fwrite(g->pending.p, 1, g->pending.n, g->io->out);
        fputc('\n', g->io->out);
        return KV_OK;
    }
    char *text = kv_detokenize(kv_engine_tokenizer(g->session.engine), c->tokens, (size_t)c->n_tokens, 1);
    cJSON *j = cJSON_CreateObject();
    if (!text || !j) {
        free(text);
        cJSON_Delete(j);
        return kv_fail(&g->err, KV_ENOMEM, "out of memory for the output");
    }
    char hash[24];
    snprintf(hash, sizeof hash, "%016llx", (unsigned long long)c->logits_hash);
    cJSON_AddItemToObject(j, "prompt_ids", json_ids(r->prompt, r->n_prompt));
    cJSON_AddItemToObject(j, "ids", json_ids(c->tokens, c->n_tokens));
    add_text(j, "text", text);
    cJSON_AddStringToObject(j, "stop", kv_stop_name(c->stop));
    add_top(j, c);
    cJSON_AddNumberToObject(j, "n_context", r->n_context);
    cJSON_AddNumberToObject(j, "peak_slots", c->peak_slots);
    cJSON_AddNumberToObject(j, "mean_slots", c->mean_slots);
    cJSON_AddNumberToObject(j, "kv_bytes_peak", (double)c->kv_bytes_peak);
    cJSON_AddNumberToObject(j, "reductions", c->n_triggers);
    cJSON_AddNumberToObject(j, "evicted", (double)c->n_evictions);
    cJSON_AddStringToObject(j, "logits_hash", hash);
    free(text);
    g->json = j;
    return KV_OK;
}

static void add_speed(cJSON *j, const char *name, int64_t tokens, double seconds) {
    if (seconds > 0 && tokens > 0)
        cJSON_AddNumberToObject(j, name, (double)tokens / seconds);
    else
        cJSON_AddNullToObject(j, name);
}

static int print_json(generation *g, const kv_generate_stats *st, kv_error *err) {
    add_speed(g->json, "prefill_tok_s", st->n_prefill_tokens, st->prefill_s);
    add_speed(g->json, "decode_tok_s", st->n_decode_tokens, st->decode_s);
    if (kv_opts_flag(g->o, KV_OPT_TRACE)) {
        kv_string_add(&g->evictions, "]");
        if (g->evictions.failed || !cJSON_AddRawToObject(g->json, "evictions", g->evictions.p))
            return kv_fail(err, KV_ENOMEM, "out of memory for the trace");
    }
    char *text = cJSON_PrintUnformatted(g->json);
    if (!text) return kv_fail(err, KV_ENOMEM, "out of memory for the output");
    fprintf(g->io->out, "%s\n", text);
    cJSON_free(text);
    return KV_OK;
}

/* Prompt and question as one text; *question_at is its length when there is no question. */
static int read_text(const kv_opts *o, char **out, size_t *question_at, kv_error *err) {
    const char *text = kv_opts_text(o, KV_OPT_PROMPT), *path = kv_opts_text(o, KV_OPT_PROMPT_FILE),
               *question = kv_opts_text(o, KV_OPT_QUESTION);
    char *content = NULL;
    kv_string s = {0};
    int rc = path ? kv_prompt_read(path, &content, err) : KV_OK;
    if (rc) return rc;
    kv_string_add(&s, content ? content : text);
    if (question) kv_string_add(&s, "\n");
    *question_at = s.n;
    if (question) kv_string_add(&s, question);
    free(content);
    if (s.failed) {
        kv_string_free(&s);
        return kv_fail(err, KV_ENOMEM, "out of memory for the prompt");
    }
    *out = s.p;
    return KV_OK;
}

static int make_ids(generation *g, kv_ids *ids, size_t *n_context, kv_error *err) {
    const kv_opts *o = g->o;
    if (kv_opts_given(o, KV_OPT_TOKEN_IDS)) {
        size_t n = kv_opts_n(o, KV_OPT_TOKEN_IDS);
        ids->ids = malloc((n ? n : 1) * sizeof *ids->ids);
        if (!ids->ids) return kv_fail(err, KV_ENOMEM, "out of memory for the prompt");
        for (size_t i = 0; i < n; i++) ids->ids[i] = (int32_t)o->v[KV_OPT_TOKEN_IDS].ints[i];
        ids->n = ids->cap = n;
        *n_context = kv_opts_given(o, KV_OPT_CONTEXT) ? (size_t)kv_opts_int(o, KV_OPT_CONTEXT) : n;
        if (*n_context > n) return kv_fail(err, KV_EARG, "--context %zu: there are only %zu token ids", *n_context, n);
        return KV_OK;
    }
    int rc = kv_prompt_chat(o, kv_engine_chat(g->session.engine), 1, &g->chat, err);
    if (rc == KV_OK)
        rc = kv_prompt_ids(g->chat, kv_engine_tokenizer(g->session.engine), kv_opts_text(o, KV_OPT_SYSTEM), g->text,
                           g->question_at, ids, n_context, err);
    if (rc == KV_OK && !kv_opts_given(o, KV_OPT_QUESTION)) *n_context = ids->n;
    return rc;
}

static int check_options(const kv_opts *o, kv_error *err) {
    int ids = kv_opts_given(o, KV_OPT_TOKEN_IDS);
    static const kv_opt_id text_only[] = {KV_OPT_QUESTION, KV_OPT_SYSTEM,   KV_OPT_CHAT,
                                          KV_OPT_RAW,      KV_OPT_THINKING, KV_OPT_DOUBLE_BOS};
    if (kv_opts_given(o, KV_OPT_PROMPT) + kv_opts_given(o, KV_OPT_PROMPT_FILE) + ids != 1)
        return kv_fail(err, KV_EARG, "give one of --prompt, --prompt-file and --token-ids");
    for (size_t i = 0; i < sizeof text_only / sizeof *text_only; i++)
        if (ids && kv_opts_given(o, text_only[i]))
            return kv_fail(err, KV_EARG, "--%s does not go with --token-ids", kv_opt_table()[text_only[i]].name);
    if (kv_opts_given(o, KV_OPT_CONTEXT) && !ids)
        return kv_fail(err, KV_EARG, "--context goes with --token-ids; with text, give the --question");
    if (kv_opts_given(o, KV_OPT_RAW) && kv_opts_given(o, KV_OPT_SYSTEM))
        return kv_fail(err, KV_EARG, "--system needs a chat template, --raw has none");
    if (kv_opts_flag(o, KV_OPT_TRACE) && !kv_opts_flag(o, KV_OPT_JSON))
        return kv_fail(err, KV_EARG, "--trace is part of the JSON output: add --json");
    return KV_OK;
}

static int run_one(generation *g, const kv_setup *setup, int chunk, kv_error *err) {
    const kv_tokenizer *t = kv_engine_tokenizer(g->session.engine);
    const kv_chat *chat = g->chat ? g->chat : kv_engine_chat(g->session.engine);
    int json = kv_opts_flag(g->o, KV_OPT_JSON), n_stop = 0;
    int32_t stop_ids[16];
    kv_trace trace = {.user = g, .on_evict = on_evict};
    kv_generate_stats st = {0};
    if (chat) n_stop = kv_chat_stop_ids(chat, t, stop_ids, 15);
    n_stop = kv_generation_add_stops(kv_engine_generation(g->session.engine), stop_ids, n_stop, 16);
    kv_string_add(&g->evictions, "[");
    kv_generate_options o = {.batch = 1,
                             .chunk = chunk,
                             .stop_ids = stop_ids,
                             .n_stop_ids = n_stop,
                             .n_top = json ? N_TOP : 0,
                             .trace = kv_opts_flag(g->o, KV_OPT_TRACE) ? &trace : NULL,
                             .cancel = g->io->cancel,
                             .next = next_request,
                             .done = on_done,
                             .check_stop = json ? NULL : stream_token,
                             .user = g};
    int rc = kv_generate(g->session.engine, setup, &o, &st, err);
    if (rc && g->err.code) *err = g->err;
    if (rc == KV_OK && json) rc = print_json(g, &st, err);
    return rc;
}

static int generate(generation *g, const kv_axes *a, kv_error *err) {
    const kv_opts *o = g->o;
    kv_ids ids = {0};
    size_t n_context = 0;
    kv_setup setup = {0};
    kv_sampling sampling;
    int rc = kv_sampling_choose(o, &g->session.id, &sampling, err);
    sampling.seed = (uint64_t)kv_opts_int(o, KV_OPT_SEED);
    if (rc == KV_OK) rc = make_ids(g, &ids, &n_context, err);
    if (rc == KV_OK) {
        g->request = (kv_request){.prompt = ids.ids,
                                  .n_prompt = (int)ids.n,
                                  .n_context = (int)(a->query_before[0] ? ids.n : n_context),
                                  .max_new = (int)kv_opts_int(o, KV_OPT_MAX_NEW_TOKENS),
                                  .ignore_eos = kv_opts_flag(o, KV_OPT_IGNORE_EOS),
                                  .sampling = sampling};
        const kv_setup_args args = {.spec = &a->policies[0],
                                    .budget = a->budgets[0],
                                    .buffer = a->buffers[0],
                                    .chunk = a->chunks[0],
                                    .seed = kv_opts_int(o, KV_OPT_SEED),
                                    .info = kv_engine_info(g->session.engine),
                                    .gates = g->session.gates,
                                    .gates_err = &g->session.gates_err};
        rc = kv_setup_open(&args, &setup, err);
        if (rc == KV_OK) rc = run_one(g, &setup, a->chunks[0], err);
        kv_setup_close(&setup);
    }
    kv_ids_free(&ids);
    return rc;
}

int kv_cmd_generate(const kv_opts *o, const kv_paths *p, const kv_io *io, kv_error *err) {
    generation g = {.o = o, .io = io, .first = 1};
    kv_axes a = {0};
    kv_identity model;
    int rc = check_options(o, err);
    if (rc == KV_OK) rc = kv_axes_read(o, &a, err);
    if (rc == KV_OK && !kv_opts_given(o, KV_OPT_TOKEN_IDS)) rc = read_text(o, &g.text, &g.question_at, err);
    if (rc == KV_OK) rc = kv_identity_resolve_model(o, 0, p, &model, err);
    if (rc == KV_OK) rc = kv_identity_needs_text(&model, "generate", err);
    if (rc == KV_OK) rc = kv_session_open(o, 0, p, a.numerics[0], (int)kv_opts_int(o, KV_OPT_THREADS), &g.session, err);
    int code = kv_exit_of(rc);
    if (rc == KV_OK && (rc = generate(&g, &a, err))) {
        code = kv_exit_of(rc);
        if (code == KV_EXIT_START) code = KV_EXIT_FAILED;
    }
    kv_session_close(&g.session);
    kv_axes_free(&a);
    free(g.text);
    kv_string_free(&g.pending);
    kv_string_free(&g.evictions);
    cJSON_Delete(g.json);
    return code;
}
