/* test_math_threads.c - many threads grade at once and agree with one; prints how many outputs a second that is. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "datasets/task.h"

enum { ITEMS = 500, FORMS = 4, THREADS = 4, N = ITEMS * FORMS };

static const char *const outputs[FORMS] = {"So we get\n\\[\\boxed{%s}\\]", "The answer is $%s$.",
                                           "First \\boxed{7}, then \\boxed{2(%s)+1}", "It is about 12, no: %s"};

typedef struct {
    kv_task *task;
    kv_item *items; /* (ITEMS) */
    char *verdict;  /* (N): two bits, strict and compat */
    int from, step;
} job;

static void *grade(void *user) {
    const job *j = user;
    for (int i = j->from; i < N; i += j->step) {
        char output[1024];
        kv_grade g;
        const kv_item *it = &j->items[i / FORMS];
        snprintf(output, sizeof output, outputs[i % FORMS], it->gold);
        kv_task_grade(j->task, it, output, &g);
        j->verdict[i] = (char)((g.score == 1) + 2 * (g.compat == 1));
    }
    return NULL;
}

static double seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void threads_agree_with_one(void **state) {
    static char alone[N], together[N];
    kv_task_options o = {.root = KV_SOURCE_DIR "/datasets"};
    kv_item *items = calloc(ITEMS, sizeof *items);
    kv_task *task;
    kv_error err;
    pthread_t thread[THREADS];
    job jobs[THREADS];
    (void)state;
    assert_non_null(items);
    if (kv_task_open("math500", &o, &task, &err)) fail_msg("%s", err.text);
    for (int i = 0; i < ITEMS; i++) assert_int_equal(kv_task_item(task, i, &items[i], &err), KV_OK);
    double start = seconds();
    grade(&(job){task, items, alone, 0, 1});
    double one = seconds() - start;
    start = seconds();
    for (int k = 0; k < THREADS; k++) {
        jobs[k] = (job){task, items, together, k, THREADS};
        assert_int_equal(pthread_create(&thread[k], NULL, grade, &jobs[k]), 0);
    }
    for (int k = 0; k < THREADS; k++) pthread_join(thread[k], NULL);
    double many = seconds() - start;
    assert_memory_equal(alone, together, N);
    print_message("%.0f outputs a second on one thread, %.0f on %d\n", N / one, N / many, THREADS);
    for (int i = 0; i < ITEMS; i++) kv_item_free(&items[i]);
    free(items);
    kv_task_close(task);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(threads_agree_with_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
