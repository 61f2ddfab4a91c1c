/* test_sample.cu - the next token on the device against engine/sampler.c: greedy choice, hash, seeded draws. */
#include "engine/cuda/cuda.h"
#include "tests/cuda/check.cuh"

extern "C" {
#include "engine/sampler.h"
}

enum { MAX_N = 64 };

/* One launch, its inputs and outputs on the host. */
typedef struct batch {
    int n, n_vocab;
    float *logits;
    kv_cuda_sampling how[MAX_N];
    int32_t skip[MAX_N], token[MAX_N], step[MAX_N];
    unsigned long long hash[MAX_N];
} batch;

static batch make_batch(int n, int n_vocab) {
    batch b = {};
    b.n = n, b.n_vocab = n_vocab;
    b.logits = (float *)malloc((size_t)n * n_vocab * sizeof(float));
    for (int i = 0; i < n; i++) {
        b.how[i].top_p = 1;
        b.token[i] = -77;
        b.step[i] = 5 * i;
        b.hash[i] = 0x123456789abcdefu * (i + 1);
    }
    return b;
}

static void *upload(const void *from, size_t bytes) {
    void *p;
    CHECK_CUDA(cudaMalloc(&p, bytes));
    CHECK_CUDA(from ? cudaMemcpy(p, from, bytes, cudaMemcpyHostToDevice) : cudaMemset(p, 0xff, bytes));
    return p;
}

static void run_batch(batch *b, int with_skip) {
    size_t n = b->n, scratch = kv_cuda_sample_scratch_bytes(b->n, b->n_vocab);
    kv_cuda_sample s = {(float *)upload(b->logits, n * b->n_vocab * sizeof(float)),
                        b->n,
                        b->n_vocab,
                        (kv_cuda_sampling *)upload(b->how, sizeof b->how),
                        with_skip ? (int32_t *)upload(b->skip, sizeof b->skip) : NULL,
                        (int32_t *)upload(b->token, sizeof b->token),
                        (int32_t *)upload(b->step, sizeof b->step),
                        (unsigned long long *)upload(b->hash, sizeof b->hash),
                        upload(NULL, scratch),
                        scratch};
    CHECK_CUDA(kv_cuda_sample_rows(&s, 0));
    CHECK_CUDA(cudaMemcpy(b->token, s.token, sizeof b->token, cudaMemcpyDeviceToHost));
    CHECK_CUDA(cudaMemcpy(b->step, s.step, sizeof b->step, cudaMemcpyDeviceToHost));
    CHECK_CUDA(cudaMemcpy(b->hash, s.hash, sizeof b->hash, cudaMemcpyDeviceToHost));
    cudaFree((void *)s.logits), cudaFree((void *)s.sampling), cudaFree((void *)s.skip), cudaFree(s.token);
    cudaFree(s.step), cudaFree(s.hash), cudaFree(s.scratch);
}

static int host_token(const batch *b, int i, int step, uint64_t *keys) {
    kv_sampling how = {b->how[i].temperature, b->how[i].top_p, b->how[i].top_k, b->how[i].min_p, b->how[i].seed};
    return kv_sample(&how, (uint64_t)step, b->logits + (size_t)i * b->n_vocab, b->n_vocab, keys);
}

/* ---- greedy --------------------------------------------------------------------------------------------------------
 */

static void fill_rows(batch *b, float scale, int ties, uint64_t seed) {
    for (size_t i = 0; i < (size_t)b->n * b->n_vocab; i++) {
        float x = check_random(seed, i) * scale;
        b->logits[i] = ties ? rintf(x) : x;
    }
}

/* Greedy rows against the host, hash and step included. */
static int compare_greedy(batch *b, int with_skip) {
    batch was = *b;
    int failed = 0;
    run_batch(b, with_skip);
    for (int i = 0; i < b->n; i++) {
        const float *row = b->logits + (size_t)i * b->n_vocab;
        int want = was.token[i], step = was.step[i];
        unsigned long long hash = was.hash[i];
        if (!with_skip || !b->skip[i]) {
            want = kv_argmax(row, b->n_vocab);
            hash = kv_logits_hash(hash, row, b->n_vocab);
            step++;
        }
        if (b->token[i] == want && b->step[i] == step && b->hash[i] == hash) continue;
        if (!failed++)
            printf("  row %d of %d, %d tokens: token %d (expected %d), step %d (%d), hash %016llx (%016llx)\n", i, b->n,
                   b->n_vocab, b->token[i], want, b->step[i], step, b->hash[i], hash);
    }
    return failed;
}

static int greedy_matches(void) {
    static const int vocabs[] = {1, 2, 31, 33, 257, 4099, 49152, 151936};
    int failed = 0;
    for (int v = 0; v < 8; v++)
        for (int ties = 0; ties < 2; ties++) {
            batch b = make_batch(v < 6 ? 1 + 9 * v : 3, vocabs[v]);
            fill_rows(&b, ties ? 3 : 20, ties, 10 * v + ties);
            failed += compare_greedy(&b, 0);
            for (int i = 0; i < b.n; i++) b.skip[i] = i % 3 == 1;
            failed += compare_greedy(&b, 1); /* chained: hashes and steps go on */
            free(b.logits);
        }
    return failed;
}

static int signs_of_zero_tie(void) {
    batch b = make_batch(2, 1000);
    for (int i = 0; i < 2000; i++) b.logits[i] = -1;
    b.logits[900] = 0.0f, b.logits[40] = -0.0f;
    b.logits[1003] = 0.0f, b.logits[1990] = -0.0f;
    int failed = compare_greedy(&b, 0) + (b.token[0] != 40) + (b.token[1] != 3);
    free(b.logits);
    return failed;
}

static int bad_logits_are_reported(void) {
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    int failed = 0;
    for (int k = 0; k < 24; k++) {
        batch b = make_batch(3, 5000);
        fill_rows(&b, 5, 0, k);
        b.logits[5000 + (k * 1249) % 5000] = bad[k % 3];
        for (int i = 0; i < 3; i++) b.how[i].temperature = (float)(k % 2);
        run_batch(&b, 0);
        failed += b.token[1] != KV_ENUM || b.token[0] < 0 || b.token[2] < 0 || b.step[1] != 6;
        free(b.logits);
    }
    return failed;
}

/* ---- draws ----------------------------------------------------------------------------------------------------------
 */

typedef struct how_case {
    float temperature, top_p, min_p;
    int top_k;
} how_case;

static const how_case cases[] = {
    {1, 1, 0, 0},        {0.7f, 0.95f, 0, 0},      {0.6f, 0.95f, 0, 20}, {1.5f, 1, 0, 50},    {1, 0.9f, 0.05f, 40},
    {1, 1, 0.1f, 0},     {0.01f, 1, 0, 0},         {1, 0.0f, 0, 0},      {2, 1, 0, 1},        {1, 0.5f, 1, 0},
    {8, 0.999f, 0, 999}, {1, 0.3f, 0.001f, 10000}, {1e-30f, 1, 0, 0},    {100, 1, 0, 100000}, {1, 1, 1e-30f, 0},
};
enum { N_CASES = sizeof cases / sizeof *cases };

/* Draws of many seeds and steps from rows of one kind: the host's tokens, every one. */
static int compare_draws(int n_vocab, int n_rows, int rounds, float scale, int ties) {
    uint64_t *keys = (uint64_t *)malloc(n_vocab * sizeof *keys);
    int failed = 0, differ = 0;
    for (int round = 0; round < rounds; round++) {
        batch b = make_batch(n_rows, n_vocab);
        fill_rows(&b, scale, ties, 1000 * round + n_vocab);
        for (int i = 0; i < n_rows; i++) {
            const how_case *c = &cases[(i + round * n_rows) % N_CASES];
            b.how[i] = kv_cuda_sampling{c->temperature, c->top_p, c->min_p, c->top_k, 7919ull * i + round};
        }
        batch was = b;
        run_batch(&b, 0);
        for (int i = 0; i < n_rows; i++) {
            int want = host_token(&b, i, was.step[i], keys);
            failed += b.step[i] != was.step[i] + 1;
            failed += b.hash[i] != kv_logits_hash(was.hash[i], b.logits + (size_t)i * n_vocab, n_vocab);
            if (b.token[i] != want && differ++ < 3)
                printf("  vocabulary %d, T %g k %d p %g min %g: %d, host %d\n", n_vocab, b.how[i].temperature,
                       b.how[i].top_k, b.how[i].top_p, b.how[i].min_p, b.token[i], want);
        }
        free(b.logits);
    }
    free(keys);
    return failed + differ;
}

static int draws_match_small(void) {
    return compare_draws(1, 15, 1, 1, 0) + compare_draws(2, 60, 4, 3, 0) + compare_draws(37, 60, 20, 6, 0) +
           compare_draws(1009, 60, 20, 8, 0);
}

static int draws_match_large(void) {
    return compare_draws(49152, 15, 3, 12, 0) + compare_draws(151936, 15, 2, 9, 0);
}

/* More equal logits than one list holds: thresholds fall among ties, where the lower id goes first. */
static int draws_match_ties(void) {
    return compare_draws(1009, 60, 8, 4, 1) + compare_draws(20011, 15, 4, 2, 1) + compare_draws(20011, 15, 2, 0, 1);
}

/* top-k keeps what ties with the k-th: 1, 3 and 4 here, which the stream must all reach. */
static int top_k_keeps_ties(void) {
    static const float logit[6] = {-1, 2, -2, 2, 2, 0};
    int seen[6] = {0};
    batch b = make_batch(MAX_N, 6);
    uint64_t keys[6];
    int failed = 0;
    for (int i = 0; i < MAX_N; i++) {
        memcpy(b.logits + 6 * i, logit, sizeof logit);
        b.how[i].temperature = 0.5f, b.how[i].top_k = 2, b.how[i].seed = 1ull << i;
    }
    batch was = b;
    run_batch(&b, 0);
    for (int i = 0; i < MAX_N; i++) {
        failed += b.token[i] != host_token(&b, i, was.step[i], keys);
        if (b.token[i] >= 0 && b.token[i] < 6) seen[b.token[i]]++;
    }
    free(b.logits);
    return failed + (seen[1] + seen[3] + seen[4] != MAX_N) + !seen[1] + !seen[3] + !seen[4];
}

/* How often each of four tokens comes out over many steps of one seed. */
static int draws_follow_the_distribution(void) {
    static const float logit[4] = {0, 1, -1, 2};
    int seen[4] = {0}, n = 0, failed = 0;
    for (int round = 0; round < 100; round++) {
        batch b = make_batch(MAX_N, 4);
        for (int i = 0; i < MAX_N; i++) {
            memcpy(b.logits + 4 * i, logit, sizeof logit);
            b.how[i].temperature = 1, b.how[i].seed = 42, b.step[i] = round * MAX_N + i;
        }
        run_batch(&b, 0);
        for (int i = 0; i < MAX_N; i++, n++) seen[b.token[i] & 3]++;
        free(b.logits);
    }
    double total = exp(0) + exp(1) + exp(-1) + exp(2);
    for (int k = 0; k < 4; k++) {
        double p = exp(logit[k]) / total, sigma = sqrt(p * (1 - p) / n);
        failed += fabs((double)seen[k] / n - p) > 4 * sigma;
    }
    return failed;
}

int main(int argc, char **argv) {
    static const check checks[] = {
        {"greedy_rows_have_token_hash_and_step_of_the_host", greedy_matches},
        {"zeros_of_either_sign_tie_and_the_lowest_index_wins", signs_of_zero_tie},
        {"logits_that_are_no_numbers_are_reported", bad_logits_are_reported},
        {"draws_from_small_vocabularies_match_the_host", draws_match_small},
        {"draws_from_large_vocabularies_match_the_host", draws_match_large},
        {"draws_among_ties_match_the_host", draws_match_ties},
        {"top_k_keeps_all_that_tie_with_the_last", top_k_keeps_ties},
        {"draws_follow_the_distribution", draws_follow_the_distribution},
    };
    return check_main(argc, argv, checks, sizeof checks / sizeof *checks);
}
