/* test_threads.c - the worker pool: every item once, whatever the number of threads and items. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdatomic.h>

#include "engine/threads.h"

enum { MOST = 1000 };

typedef struct tally {
    atomic_int runs[MOST];
    atomic_int bad_thread;
    int n_threads;
} tally;

static void count(void *ctx, int i, int thread) {
    tally *t = ctx;
    atomic_fetch_add(&t->runs[i], 1);
    if (thread < 0 || thread >= t->n_threads) atomic_store(&t->bad_thread, 1);
}

static void every_item_runs_exactly_once(void **st) {
    (void)st;
    static const int sizes[] = {0, 1, 2, 3, 7, 64, MOST};
    for (int n = 1; n <= 5; n++) {
        kv_threads *pool;
        kv_error err;
        assert_int_equal(kv_threads_create(n, &pool, &err), KV_OK);
        for (int round = 0; round < 3000; round++) {
            int items = sizes[round % 7];
            tally t = {.n_threads = n};
            kv_threads_for(pool, items, count, &t);
            for (int i = 0; i < MOST; i++)
                if (atomic_load(&t.runs[i]) != (i < items))
                    fail_msg("%d threads, %d items: item %d ran %d times", n, items, i, atomic_load(&t.runs[i]));
            assert_int_equal(atomic_load(&t.bad_thread), 0);
        }
        kv_threads_free(pool);
    }
}

static void a_pool_that_never_ran_is_freed(void **st) {
    (void)st;
    kv_threads *pool;
    assert_int_equal(kv_threads_create(4, &pool, NULL), KV_OK);
    kv_threads_free(pool);
    kv_threads_free(NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_item_runs_exactly_once),
        cmocka_unit_test(a_pool_that_never_ran_is_freed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
