/* test_memory.c - the cache really shrinks: allocator counts, page rounding, and the process's resident memory. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/cpu/cache.h"
#include "tests/support/harness.h"

enum { PROMPT = 400, NEW = 100 };

typedef struct usage {
    size_t bytes_one, bytes_all;
    double peak_slots;
    int64_t page_allocs;
} usage;

static usage measure(kv_engine *e, const char *policy, int budget, int buffer, int batch) {
    int n_tokens[16];
    kv_error err;
    th_policy p;
    th_result *r = calloc((size_t)batch, sizeof *r);
    int32_t *prompts = malloc(sizeof(int32_t) * (size_t)batch * TH_MAX_PROMPT);
    kv_generate_stats stats;
    for (int i = 0; i < batch; i++) n_tokens[i] = PROMPT;
    th_random_prompts(prompts, n_tokens, batch, kv_engine_info(e)->n_vocab, 8);
    th_policy_open(&p, e, th_tiny_gates, policy, budget, buffer);
    th_config cfg = {.batch = batch, .chunk = 16, .max_new = NEW, .ignore_eos = 1};
    if (th_generate(e, &p.setup, prompts, n_tokens, batch, &cfg, r, &stats, &err)) fail_msg("%s", err.text);
    usage u = {r[0].kv_bytes_peak, stats.kv_bytes_peak, r[0].peak_slots, stats.n_page_allocs};
    for (int i = 0; i < batch; i++) assert_int_equal(r[i].status, KV_OK);
    th_policy_close(&p);
    free(prompts);
    free(r);
    return u;
}

static void kv_bytes_fall_with_the_budget_and_match_the_slots(void **st) {
    (void)st;
    static const int budgets[] = {400, 300, 200, 100, 50, 16};
    kv_engine *e = th_open_tiny(KV_FAST, 1);
    const kv_model_info *in = kv_engine_info(e);
    size_t before = SIZE_MAX;
    for (size_t i = 0; i < sizeof budgets / sizeof *budgets; i++) {
        usage u = measure(e, "window", budgets[i], 16, 1);
        assert_true(u.bytes_one < before);
        before = u.bytes_one;
        assert_true(u.peak_slots <= budgets[i] + 16);
        /* K and V plus the position, and at most one page of rounding per head */
        size_t heads = (size_t)in->shape.n_layers * in->shape.n_kv_heads;
        double least = u.peak_slots * (double)(heads * in->bytes_per_slot);
        assert_true((double)u.bytes_one >= least);
        double slots = (u.peak_slots + KV_PAGE) * 1.05;
        assert_true((double)u.bytes_one <= slots * (double)(heads * (in->bytes_per_slot + 8)));
    }
    kv_engine_close(e);
}

static void bytes_of_a_batch_are_the_sum_of_its_sequences(void **st) {
    (void)st;
    kv_engine *e = th_open_tiny(KV_FAST, 1);
    usage one = measure(e, "h2o", 64, 16, 1), four = measure(e, "h2o", 64, 16, 4);
    assert_int_equal(one.bytes_one, one.bytes_all);
    assert_int_equal(four.bytes_one, one.bytes_one);
    assert_true(four.bytes_all <= 4 * one.bytes_one && four.bytes_all > 3 * one.bytes_one);
    kv_engine_close(e);
}

static void a_pool_counts_reuses_and_returns_pages(void **st) {
    (void)st;
    kv_page_layout l;
    kv_page_pool *pool;
    kv_books books = {0};
    kv_cache c;
    kv_error err;
    kv_page_layout_init(&l, KV_CACHE_F16, 64, 1, 0);
    assert_int_equal(kv_page_pool_create(&l, &books, &pool, &err), KV_OK);
    assert_int_equal(kv_cache_init(&c, pool, 3, 2, &err), KV_OK);
    assert_int_equal(kv_cache_extend(&c, 33, &err), KV_OK);
    assert_int_equal(kv_page_pool_bytes(pool), 3 * 6 * l.bytes);
    assert_int_equal(books.used[KV_USE_CACHE], 3 * 6 * l.bytes);
    kv_cache_truncate(&c, 1, 1, 16);
    assert_int_equal(kv_page_pool_bytes(pool), (3 * 6 - 2) * l.bytes);
    assert_int_equal(kv_cache_layer_slots(&c, 1), 33);
    assert_true(kv_cache_mean_slots(&c) < 33);
    int64_t allocs = kv_page_pool_allocs(pool);
    for (int round = 0; round < 1000; round++) {
        assert_int_equal(kv_cache_extend(&c, 32, &err), KV_OK);
        for (int i = 0; i < 6; i++) kv_cache_truncate(&c, i / 2, i % 2, 16);
    }
    assert_true(kv_page_pool_allocs(pool) > allocs);
    assert_true(kv_page_pool_bytes_peak(pool) <= 6 * 5 * l.bytes);
    kv_cache_free(&c);
    assert_int_equal(kv_page_pool_bytes(pool), 0);
    assert_int_equal(books.total, 0);
    kv_page_pool_free(pool);
}

/* Peak resident size of a child that runs a long generation. */
static long child_rss(const char *policy, int budget) {
    int fd[2];
    long rss = 0;
    assert_int_equal(pipe(fd), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        kv_engine *e = th_open_tiny(KV_FAST, 1);
        struct rusage r;
        for (int round = 0; round < 3; round++) measure(e, policy, budget, 16, 16);
        getrusage(RUSAGE_SELF, &r);
        rss = r.ru_maxrss;
        _exit(write(fd[1], &rss, sizeof rss) != sizeof rss);
    }
    close(fd[1]);
    assert_int_equal(read(fd[0], &rss, sizeof rss), sizeof rss);
    close(fd[0]);
    int status;
    waitpid(pid, &status, 0);
    assert_int_equal(status, 0);
    return rss; /* KiB */
}

static void resident_memory_of_a_long_run_falls_with_the_budget(void **st) {
    (void)st;
    long full = child_rss("full", 1), large = child_rss("window", 300), small = child_rss("window", 16);
    print_message("peak resident memory: full %ld KiB, M = 300 %ld KiB, M = 16 %ld KiB\n", full, large, small);
#if defined(__SANITIZE_ADDRESS__)
    print_message("SKIPPED the comparison: the address sanitizer keeps freed memory\n");
#else
    /* 16 sequences x 4 heads x 500 slots x 264 bytes = 8.4 MB of cache at full */
    assert_true(full > large + 1024);
    assert_true(large > small + 2048);
#endif
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kv_bytes_fall_with_the_budget_and_match_the_slots),
        cmocka_unit_test(bytes_of_a_batch_are_the_sum_of_its_sequences),
        cmocka_unit_test(a_pool_counts_reuses_and_returns_pages),
        cmocka_unit_test(resident_memory_of_a_long_run_falls_with_the_budget),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
