/* cell_key.c - the canonical text of a cell's identity and its hash.
 *
 * The text is stable: fields are only ever added together with a new first line, because results are found again by
 * this hash. */
#include "bench/plan.h"

#include "engine/file.h"

void kv_cell_key(const kv_cell_identity *c, char hex[65]) {
    char text[4096], sampling[160] = "greedy", prefill[24];
    kv_prefill_text(c->chunk, prefill);
    if (c->temperature > 0)
        snprintf(sampling, sizeof sampling, "temperature=%.9g top_p=%.9g top_k=%d min_p=%.9g", c->temperature, c->top_p,
                 c->top_k, c->min_p);
    int n = snprintf(
        text, sizeof text,
        "trimbench cell 2\nmodel %s\nadapter %s\ngates %s\ntokenizer %s\nchat %s\ntask %s version %d data %s\n"
        "variant %s prompt %s\ngrader %s version %d\npolicy %s\nbudget %d\nbuffer %d\nprefill %s\nquery %s\n"
        "max_new %d\nsampling %s\nseed %lld\nbackend %s\nnumerics %s\n",
        c->model, c->adapter, c->gates, c->tokenizer, c->chat, c->task, c->task_version, c->data, c->variant, c->prompt,
        c->grader, c->grader_version, c->policy, c->budget, c->buffer, prefill, c->query_before ? "before" : "after",
        c->max_new, sampling, (long long)c->seed, c->backend, c->numerics);
    kv_sha256_bytes(text, n < (int)sizeof text ? (size_t)n : sizeof text - 1, hex);
}
