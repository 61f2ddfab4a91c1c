/* threads.h - a small pool of worker threads that a backend owns. */
#ifndef KV_THREADS_H
#define KV_THREADS_H

#include "engine/kv.h"

typedef struct kv_threads kv_threads;

/* n >= 1 threads in all, the caller among them.  The caller frees. */
int kv_threads_create(int n, kv_threads **out, kv_error *err);
void kv_threads_free(kv_threads *t);
int kv_threads_n(const kv_threads *t);
/* Cores this process may run on. */
int kv_threads_cores(void);

/* Calls fn(ctx, i, thread) once for every i in [0, n), thread in [0, number of threads); returns when all are done.
 * Items are handed out in order to whoever is free, so fn(i) must not depend on the thread that runs it, except for
 * scratch it may keep per thread.  Must not be nested. */
void kv_threads_for(kv_threads *t, int n, void (*fn)(void *ctx, int i, int thread), void *ctx);

#endif
