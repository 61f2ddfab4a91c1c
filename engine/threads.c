/* threads.c - parallel loops whose waiting costs little on a busy machine.
 *
 * A decode step has about two hundred parallel loops of a few tens of microseconds, so workers must be ready at once;
 * but runtimes that spin for milliseconds at every barrier slow everything down by an order of magnitude when
 * another process wants the same cores (tests in parallel, a shared CI machine).  Here everybody spins for about as
 * long as a sleep and a wake-up cost, and then sleeps on a futex; and a loop ends when its items are done, not when
 * every worker has looked at it, so a worker that does not get a core delays nobody. */
#include "engine/threads.h"

#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { SPINS = 2000 };

typedef struct worker {
    kv_threads *pool;
    int index;
    pthread_t id;
} worker;

struct kv_threads {
    int n;
    worker *workers; /* (n - 1) */
    int n_started;
    void (*fn)(void *ctx, int i, int thread);
    void *ctx;
    atomic_int stop;
    _Alignas(64) atomic_uint generation; /* one more for every loop */
    atomic_uint sleepers;                /* workers asleep on generation */
    /* Items of the loop in the upper half, next item in the lower: a claim is valid if it is below the count that
     * came with it, so a worker that is late for one loop can only claim from the next. */
    _Alignas(64) atomic_uint_least64_t claim;
    _Alignas(64) atomic_uint left; /* items not done */
    atomic_uint caller_sleeps;
};

static void relax(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#endif
}

static void futex_wait(atomic_uint *word, unsigned value) {
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, NULL, NULL, 0);
}

static void futex_wake(atomic_uint *word) {
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

static void take_items(kv_threads *t, int thread) {
    for (;;) {
        uint64_t c = atomic_fetch_add(&t->claim, 1);
        if ((uint32_t)c >= (uint32_t)(c >> 32)) return;
        t->fn(t->ctx, (int)(uint32_t)c, thread);
        if (atomic_fetch_sub(&t->left, 1) == 1 && atomic_load(&t->caller_sleeps)) futex_wake(&t->left);
    }
}

static void *work(void *arg) {
    worker *w = arg;
    kv_threads *t = w->pool;
    unsigned seen = 0;
    for (;;) {
        for (int i = 0; i < SPINS && atomic_load(&t->generation) == seen; i++) relax();
        if (atomic_load(&t->generation) == seen) {
            atomic_fetch_add(&t->sleepers, 1);
            while (atomic_load(&t->generation) == seen) futex_wait(&t->generation, seen);
            atomic_fetch_sub(&t->sleepers, 1);
        }
        seen = atomic_load(&t->generation);
        if (atomic_load(&t->stop)) return NULL;
        take_items(t, w->index);
    }
}

static void start_loop(kv_threads *t) {
    atomic_fetch_add(&t->generation, 1);
    if (atomic_load(&t->sleepers)) futex_wake(&t->generation);
}

void kv_threads_for(kv_threads *t, int n, void (*fn)(void *ctx, int i, int thread), void *ctx) {
    if (t->n == 1 || n <= 1) {
        for (int i = 0; i < n; i++) fn(ctx, i, 0);
        return;
    }
    t->fn = fn;
    t->ctx = ctx;
    atomic_store(&t->left, (unsigned)n);
    atomic_store(&t->claim, (uint64_t)n << 32);
    start_loop(t);
    take_items(t, 0);
    for (int i = 0; i < SPINS && atomic_load(&t->left); i++) relax();
    if (!atomic_load(&t->left)) return;
    atomic_store(&t->caller_sleeps, 1);
    for (unsigned left; (left = atomic_load(&t->left));) futex_wait(&t->left, left);
    atomic_store(&t->caller_sleeps, 0);
}

int kv_threads_create(int n, kv_threads **out, kv_error *err) {
    kv_threads *t = aligned_alloc(64, (sizeof *t + 63) & ~(size_t)63);
    if (!t) return kv_fail(err, KV_ENOMEM, "out of memory for %d threads", n);
    *t = (kv_threads){.n = n, .workers = calloc((size_t)n, sizeof(worker))};
    if (!t->workers) {
        free(t);
        return kv_fail(err, KV_ENOMEM, "out of memory for %d threads", n);
    }
    for (; t->n_started < n - 1; t->n_started++) {
        worker *w = &t->workers[t->n_started];
        *w = (worker){.pool = t, .index = t->n_started + 1};
        if (pthread_create(&w->id, NULL, work, w)) {
            kv_threads_free(t);
            return kv_fail(err, KV_ENOMEM, "the system gives no more threads (%d wanted): use a smaller --threads", n);
        }
    }
    *out = t;
    return KV_OK;
}

void kv_threads_free(kv_threads *t) {
    if (!t) return;
    atomic_store(&t->stop, 1);
    start_loop(t);
    for (int i = 0; i < t->n_started; i++) pthread_join(t->workers[i].id, NULL);
    free(t->workers);
    free(t);
}

int kv_threads_n(const kv_threads *t) {
    return t->n;
}

int kv_threads_cores(void) {
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set)) return 1;
    int n = CPU_COUNT(&set);
    return n < 1 ? 1 : n;
}
