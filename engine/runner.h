/* runner.h - what a device does for the generation loop: sequences and their caches, passes of the model, evictions,
 * sampling.
 *
 * The loop (generate.c) decides what runs; the runner runs it.  A device may work behind the loop: results of a step
 * are fetched later (`lag` steps), so that the host never waits for a token before it enqueues the next step.
 * Everything that the loop needs to know at once (how many slots a sequence holds) follows from counts that the host
 * keeps.
 *
 * One forward is many ops (backend.h) on the CPU, and a captured graph of fused kernels on CUDA: the devices share this
 * seam and not the ops, because what is fused differs. */
#ifndef KV_RUNNER_H
#define KV_RUNNER_H

#include "engine/load.h"

/* Where a sequence stands after a step, counted by the runner when the step is enqueued. */
typedef struct kv_account {
    double held;         /* slots per head after the append, mean over layers and KV heads */
    double peak_slots;   /* most of that over all forwards */
    size_t bytes_peak;   /* most cache bytes held at once */
    int64_t n_evictions; /* slots dropped, over layers and heads */
    int n_triggers;
} kv_account;

/* One timeline: what the model has seen and what the cache still holds of it. */
typedef struct kv_seq {
    const kv_columns *columns;
    const kv_setup *setup; /* NULL: nothing is evicted (shared prefill, teacher forcing) */
    int n_seen;            /* T */
    kv_account account;
    void *request_user; /* for the trace */
    int row;            /* its place in the runner, 0..max_seqs-1 */
    void *device;       /* the runner's own */
} kv_seq;

/* Tokens of one sequence to run through the model in one forward. */
typedef struct kv_segment {
    kv_seq *seq;
    const int32_t *tokens;
    int n;
    int wants_token; /* 1: logits of the last row are needed: sample comes next */
    int status;      /* out: KV_OK, or why this segment was left out */
    kv_error *err;
} kv_segment;

typedef struct kv_result {
    int32_t token; /* the next token; KV_ENUM when a logit is no number */
    int status;    /* KV_OK or why the step of this sequence failed (text in err) */
    kv_error err;
    uint64_t logits_hash; /* chained over the sequence so far */
    int64_t n_moved;      /* slots moved by compactions so far */
} kv_result;

typedef struct kv_runner_counts {
    size_t kv_live_peak; /* most bytes of pages handed out at once */
    int64_t n_page_allocs, n_launches, n_decode_allocs;
    int64_t bytes_read; /* weights, and live K and V, read by decode steps */
    double decode_s;    /* device time of decode steps, when the device has a clock of its own, else 0 */
} kv_runner_counts;

typedef struct kv_runner {
    const struct kv_runner_ops *ops;
    struct kv_engine *engine;
    int lag; /* steps in flight before the oldest is fetched */
} kv_runner;

/* columns and setup outlive the runner; setup NULL: nothing is evicted. */
typedef int (*kv_runner_open_fn)(kv_engine *e, const kv_columns *c, const kv_setup *setup, int max_seqs,
                                 kv_runner **out, kv_error *err);

typedef struct kv_runner_ops {
    void (*close)(kv_runner *r);
    /* Bytes that the runner takes for such a load, all in all; it may be asked by a runner for fewer sequences. */
    void (*need)(kv_runner *r, const kv_load *load, kv_memory *out);
    /* Takes them now, so that nothing is allocated later.  load->n sequences are those of the runner. */
    int (*reserve)(kv_runner *r, const kv_load *load, kv_error *err);
    /* seq->columns, setup, row and request_user are set.  max_slots: it will never hold more. */
    int (*seq_open)(kv_runner *r, kv_seq *s, const kv_sampling *sampling, int max_slots, kv_error *err);
    void (*seq_close)(kv_runner *r, kv_seq *s);
    /* Copies the slots, columns and queries of `from` (another runner's, nothing evicted) into the empty `to`, with the
     * logits of its last token. */
    int (*fork)(kv_runner *r, const kv_runner *other, const kv_seq *from, kv_seq *to, kv_error *err);
    /* Most rows of one forward, and of one piece of a prompt that starts at n_done. */
    int (*most_rows)(const kv_runner *r);
    int (*piece_rows)(const kv_runner *r, int n_done);
    /* One pass over the segments, without eviction.  A segment whose cache cannot grow is left out with its status and
     * err set; the others run. */
    int (*forward)(kv_runner *r, kv_segment *segs, int n, const kv_trace *trace, kv_error *err);
    /* Reduces every layer of seqs[i] that holds at least at[i] slots to the setup's budget; at[i] = 0 leaves it alone.
     * Heads that share a budget (pooled.h) are reduced together, by what they hold on average.
     * A score that is no number is reported by status[i], now or with the sequence's next result. */
    void (*reduce)(kv_runner *r, kv_seq *const *seqs, const int *at, int n, int *status, kv_error *errs,
                   const kv_trace *trace);
    /* Next token of sequences whose last forward wanted one; results come from fetch. */
    int (*sample)(kv_runner *r, kv_seq *const *seqs, int n, kv_error *err);
    /* One decode step: forward of every sequence's last token, reduction at M+B, next token.  Results come from fetch.
     * profile: or NULL. */
    int (*step)(kv_runner *r, kv_seq *const *seqs, int n, const kv_trace *trace, kv_profile *profile, kv_error *err);
    /* Results of the oldest sample or step that was not fetched, in the order of its sequences. */
    int (*fetch)(kv_runner *r, kv_result *out, kv_error *err);
    /* Log-probabilities of the logits behind the sequence's last fetched result; only while nothing is in flight. */
    int (*top)(kv_runner *r, kv_seq *s, int n_top, kv_top *out, kv_error *err);
    /* Slots of the fullest layer; where heads share a budget, of the fullest pool on average (kv_pooled_slots). */
    int (*slots)(const kv_runner *r, const kv_seq *s);
    size_t (*seq_bytes)(const kv_runner *r, const kv_seq *s);
    void (*counts)(kv_runner *r, kv_runner_counts *out);
    /* Waits for everything enqueued. */
    int (*finish)(kv_runner *r, kv_error *err);
    /* Logits (n, n_vocab) of the n rows of the last forward, to the host. */
    int (*read_logits)(kv_runner *r, int n, float *out, kv_error *err);
} kv_runner_ops;

/* The runner of the engine's device. */
int kv_runner_open(kv_engine *e, const kv_columns *c, const kv_setup *setup, int max_seqs, kv_runner **out,
                   kv_error *err);

enum { KV_MAX_CHUNK = 256 }; /* stream:C */

/* prefix.c */
struct kv_prefix {
    kv_columns columns;
    kv_setup *setups; /* copies: columns point into them */
    kv_runner *runner;
    kv_seq seq;
    double seconds;
};

int kv_cpu_runner_open(kv_engine *e, const kv_columns *c, const kv_setup *setup, int max_seqs, kv_runner **out,
                       kv_error *err);

#endif
