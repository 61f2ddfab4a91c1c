/* engine.h - a loaded model and generation over it: the only engine headers that bench needs are this and chat.h.
 *
 * Model, tokenizer and chat template of a kv_engine do not change after open.  Sequences, caches and their allocator
 * belong to a kv_generate call or to a kv_prefix; the buffers of a forward and its counters belong to the engine, so
 * one thread drives it (the backend uses its own threads inside). */
#ifndef KV_ENGINE_H
#define KV_ENGINE_H

#include "engine/backend.h"
#include "engine/chat.h"
#include "engine/generation.h"
#include "engine/tokenizer.h"
#include "policies/policy.h"

typedef struct kv_engine kv_engine;

typedef enum kv_device_kind { KV_CPU, KV_CUDA } kv_device_kind;

typedef struct kv_engine_options {
    const char *model_path;  /* GGUF file, Hugging Face folder (checkpoint.h), or "synth:NAME" (synth.h) */
    const char *adapter_dir; /* PEFT LoRA folder, or NULL */
    kv_numerics numerics;    /* on CUDA: fast = bf16, exact = fp32 */
    int n_threads;           /* 0 = all cores; CUDA: for loading only, at most 16 then */
    kv_device_kind device;
    int device_index;    /* which GPU */
    uint64_t seed;       /* of synth: weights */
    int max_ctx;         /* longest sequence wanted, 0 = what the model has; chooses longrope's factors (rope.c) */
    size_t memory_limit; /* most bytes that the engine takes, as kv_engine_memory counts them; 0 = none */
} kv_engine_options;

typedef struct kv_model_info {
    kv_shape shape;
    int n_ff, n_vocab, n_ctx;
    char arch[32], name[96];
    char weights[64];       /* how the linear maps are held: "int8 g64 (from Q4_1 + LoRA)" */
    size_t weight_bytes;    /* as allocated */
    size_t bytes_per_slot;  /* K and V of one slot of one layer and KV head */
    const char *backend;    /* "cpu/avx512vnni", "cuda/sm_90" */
    const char *cache_type; /* "f32", "f16", "bf16" */
} kv_model_info;

int kv_engine_open(const kv_engine_options *o, kv_engine **out, kv_error *err);
void kv_engine_close(kv_engine *e);
const kv_model_info *kv_engine_info(const kv_engine *e);
const kv_tokenizer *kv_engine_tokenizer(const kv_engine *e);   /* NULL for synth: models */
const kv_chat *kv_engine_chat(const kv_engine *e);             /* NULL when the file's template is unknown */
const kv_generation *kv_engine_generation(const kv_engine *e); /* stop ids included; nothing for synth: models */

/* Bytes as allocated, at this moment and at most since open.  device_* only on CUDA (cudaMemGetInfo), else 0.  On the
 * CPU: the matrices, pages handed out, and the buffers of a forward and of a batch; not what is mapped or small. */
typedef struct kv_memory {
    size_t weights, kv, workspace, graphs; /* kv: page pool as reserved from the system */
    size_t peak;                           /* most of the sum at once */
    size_t room;                           /* left of the limit, and of the device; SIZE_MAX: not known */
    size_t device_free, device_total;
} kv_memory;
int kv_engine_memory(kv_engine *e, kv_memory *out, kv_error *err);
/* As kv_engine_options.memory_limit, from now on. */
void kv_engine_limit_memory(kv_engine *e, size_t bytes);

/* One eviction configuration; policy state is built by the caller with policy->open. */
typedef struct kv_setup {
    const kv_policy *policy;
    const void *state;
    const char
        *spec;  /* canonical policy text; setups of one spec share columns in a shared prefill, whatever M and B */
    int budget; /* M >= 1 */
    int buffer; /* B >= 1 */
    const kv_gates *gates; /* those the state was opened with, or NULL; a device computes them beside q, k and v */
} kv_setup;

/* Where the policy's scores (and columns) are computed on this engine: "device", or "host" when it has no device code
 * for it; "device" on the CPU. */
const char *kv_engine_score_path(const kv_engine *e, const kv_setup *s);

typedef struct kv_sampling {
    float temperature; /* 0 = greedy */
    float top_p;       /* 1 = off */
    int top_k;         /* 0 = off */
    float min_p;       /* 0 = off */
    uint64_t seed;     /* of this sample: the stream depends on nothing else */
} kv_sampling;

typedef enum kv_stop { KV_STOP_EOS, KV_STOP_LENGTH, KV_STOP_STRING, KV_STOP_CONTEXT, KV_STOP_ERROR } kv_stop;
const char *kv_stop_name(kv_stop s);

typedef struct kv_prefix kv_prefix;

typedef struct kv_request {
    const int32_t *prompt; /* (n_prompt), borrowed until done() */
    int n_prompt;          /* >= 1; > n_ctx is KV_ELIMIT in the completion */
    int n_context;         /* tokens before this are prefilled, and the cache reduced, before the rest is seen;
                              n_prompt (or 0) = one piece: --query before */
    int max_new;
    int ignore_eos;
    kv_sampling sampling;
    const kv_prefix *prefix; /* shared forward pass over prompt[0, n_context), or NULL */
    void *user;
} kv_request;

typedef struct kv_top {
    int32_t id;
    float logprob;
} kv_top;

typedef struct kv_completion {
    int status; /* KV_OK, or why this sequence failed (text in err) */
    kv_error err;
    kv_stop stop;
    const int32_t *tokens; /* (n_tokens) generated, the stop token not included; valid during done() */
    int n_tokens;
    const kv_top *top;          /* (n_tokens, n_top) with options.n_top, else NULL */
    double prefill_s, decode_s; /* decode_s: this sequence's share of the steps it took part in */
    double peak_slots;          /* slots held after append: max over forwards, mean over layers and KV heads */
    double mean_slots;          /* mean over decode steps; equals peak when none was taken */
    size_t kv_bytes_peak;       /* most cache bytes this sequence held, counted by the page allocator */
    int64_t n_evictions;        /* slots dropped, over layers and heads */
    int64_t n_moved;            /* slots moved by compaction */
    int n_triggers;             /* reductions (of the whole cache) */
    uint64_t logits_hash;       /* of the bits of every logits row used: "still the same bits" */
} kv_completion;

/* Observation of internals for tests and `generate --trace`; any callback may be NULL. */
typedef struct kv_trace {
    void *user;
    /* rows appended by one sequence in one layer: hidden (n, dim), q (n, n_heads, d), k, v (n, n_kv_heads, d) */
    void (*on_append)(void *user, void *request_user, int layer, int n, const int32_t *pos, const float *hidden,
                      const float *q, const float *k, const float *v);
    /* after a reduction: positions held before (n_before) and kept (n_kept), T = n_seen */
    void (*on_evict)(void *user, void *request_user, int layer, int kv_head, int n_seen, const int32_t *before,
                     int n_before, const int32_t *kept, int n_kept);
} kv_trace;

enum { KV_MAX_BATCH = 1024 };

/* Time per kernel or op of decode steps.  On CUDA a profiled step runs kernel by kernel, so its total is more than that
 * of a captured one. */
typedef struct kv_profile_row {
    char name[40];
    int64_t calls;
    double seconds, bytes; /* bytes: what the op must read and write */
} kv_profile_row;
enum { KV_PROFILE_ROWS = 32 };
typedef struct kv_profile {
    kv_profile_row rows[KV_PROFILE_ROWS];
    int n;
    int64_t n_steps;
} kv_profile;

typedef struct kv_generate_options {
    int batch;               /* most sequences per decode step, 1..KV_MAX_BATCH */
    int chunk;               /* 0: full prefill; C: stream:C, 1 <= C <= B */
    const int32_t *stop_ids; /* (n_stop_ids) */
    int n_stop_ids;
    int n_top;                  /* log-probabilities kept per step, 0..16 */
    const kv_trace *trace;      /* or NULL */
    const volatile int *cancel; /* becomes non-zero: kv_generate returns KV_ECANCEL after the step in flight */
    kv_profile *profile;        /* or NULL; decode steps only; KV_EUNSUPPORTED on the CPU */
    double timeout_s;           /* 0 = none: kv_generate returns KV_ETIMEOUT */
    /* NULL, or a request that none exceeds in tokens (all have a prefix when it has one): memory for `batch` of them is
     * taken before the first, or KV_ENOMEM says what did not fit. */
    const kv_request *like;
    /* Next request: 1 and *r filled, 0 when there are no more, negative to abort with that code. */
    int (*next)(void *user, kv_request *r);
    /* Called as each sequence finishes; non-zero aborts kv_generate with that code. */
    int (*done)(void *user, const kv_request *r, const kv_completion *c);
    /* Called after every token when not NULL: 1 = stop this sequence now (KV_STOP_STRING), the tokens stay. */
    int (*check_stop)(void *user, const kv_request *r, const int32_t *tokens, int n);
    /* Called about once a step; for progress. */
    void (*progress)(void *user, int n_live, int64_t n_decoded);
    void *user;
} kv_generate_options;

typedef struct kv_generate_stats {
    int64_t n_prefill_tokens, n_decode_tokens, n_steps;
    double prefill_s, decode_s; /* wall time of the forwards, apart */
    int64_t n_forked_tokens;    /* slots per head copied from shared prefills, */
    double fork_s;              /* ... and the time of it */
    size_t kv_bytes_peak;       /* allocator's peak over the whole call, all sequences together */
    int64_t bytes_read;         /* by decode steps: weights (on CUDA also retention gates), live K and V, each once */
    int64_t n_evictions, n_moved, n_page_allocs;
    int64_t n_triggers;             /* reductions of a sequence's whole cache, all sequences together */
    int64_t n_launches;             /* CUDA: kernels of decode steps and their evictions (in graphs or not) */
    int64_t n_decode_allocs;        /* device or host allocations made by decode steps after the first; 0 is the rule */
    double slots_first, slots_last; /* live slots per head at the first and last decode step, mean of the batch */
    size_t kv_live_peak;            /* pages handed out, at most, in bytes */
    kv_memory memory;               /* of the engine before buffers and pool go; peak: most in this call */
} kv_generate_stats;

/* Runs every request of next() to completion, `batch` at a time, a finished one replaced at once.  A sequence that
 * fails (too long, NaN) is reported through done() and the others go on.  *stats may be NULL. */
int kv_generate(kv_engine *e, const kv_setup *s, const kv_generate_options *o, kv_generate_stats *stats, kv_error *err);

/* What kv_generate with these options (like among them) takes at most besides what the engine holds now: kv and
 * workspace, the rest 0.  Exact when `like` has a prefix, except for captured graphs, which only the driver knows;
 * under a limit that leaves no room for a whole slab of pages a GPU's pool takes less. */
int kv_generate_need(kv_engine *e, const kv_setup *s, const kv_generate_options *o, kv_memory *out, kv_error *err);

/* Shared prefill (full only): one forward over tokens, with every column that any of the setups declares; kv_generate
 * forks it for the setup it runs (which must be among them).  The caller frees.  *seconds (may be NULL): wall time. */
int kv_prefix_create(kv_engine *e, const kv_setup *setups, int n_setups, const int32_t *tokens, int n, kv_prefix **out,
                     double *seconds, kv_error *err);
void kv_prefix_free(kv_prefix *p);
size_t kv_prefix_bytes(const kv_prefix *p);

/* Teacher-forced logits with the full cache: out (n, n_vocab). */
int kv_engine_logits(kv_engine *e, const int32_t *tokens, int n, float *out, kv_error *err);

#endif
