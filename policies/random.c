/* random.c - the baseline that knows nothing: a uniform random sample of the past.
 *
 * The score of a slot is a hash of (seed, layer, KV head, original position) in [0, 1).  A position draws once and
 * keeps its number, so the survivors of one trigger tend to survive the next, and what is held after any reduction is
 * exactly the M largest numbers of all positions seen so far: a uniform sample of the whole past without replacement,
 * whatever the buffer was.  (The other variant in use draws afresh at every trigger; there old tokens fade
 * geometrically.)  Nothing depends on the batch, on the order of calls or on the machine.
 *
 * The hash, for anyone who wants to recompute it (64-bit arithmetic, g = 0x9e3779b97f4a7c15):
 *   mix(z): z ^= z >> 30; z *= 0xbf58476d1ce4e5b9; z ^= z >> 27; z *= 0x94d049bb133111eb; z ^= z >> 31
 *   h = mix(seed + g);  h = mix(h + g * (layer + 1));  h = mix(h + g * (kv_head + 1));  h = mix(h + g * (pos + 1))
 *   score = (h >> 40) / 2^24
 * mix is the output function of SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
 */
#include "policies/policy.h"
#include "policies/policy_cuda.h"

#include <math.h>
#include <stdlib.h>

enum { OPT_SEED };

static const uint64_t golden = 0x9e3779b97f4a7c15u;

static uint64_t mix(uint64_t z) {
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static int random_open(void **state, const kv_shape *shape, const kv_policy_args *args, kv_error *err) {
    (void)shape;
    uint64_t *seed = malloc(sizeof *seed);
    if (!seed) return kv_fail(err, KV_ENOMEM, "random: out of memory for the policy's state");
    double given = args->values[OPT_SEED];
    *seed = isnan(given) ? args->seed : (uint64_t)given;
    *state = seed;
    return KV_OK;
}

static void random_close(void *state) {
    free(state);
}

static void random_score(const void *state, const kv_score_args *a, float *score) {
    uint64_t h = mix(*(const uint64_t *)state + golden);
    h = mix(h + golden * (uint64_t)(a->layer + 1));
    h = mix(h + golden * (uint64_t)(a->kv_head + 1));
    for (int i = 0; i < a->n_slots; i++)
        score[i] = (float)(mix(h + golden * ((uint64_t)a->pos[i] + 1)) >> 40) * 0x1p-24f;
}

#ifdef KV_HAVE_CUDA
static int random_score_cuda(const void *state, const kv_cuda_heads *h) {
    return kv_cuda_score_hash(h, *(const uint64_t *)state);
}
#endif

static const kv_option options[] = {
    {"seed", NAN, 0, 9007199254740991.0, 1, NULL, "of the hash; default: the seed of the run"},
    {.name = NULL},
};

const kv_policy kv_policy_random = {
    .name = "random",
    .title = "Random",
    .paper = "",
    .help = "uniform random sample of the past, one draw per position",
    .options = options,
    .open = random_open,
    .close = random_close,
    .score = random_score,
    .score_cuda = KV_CUDA_FN(random_score_cuda),
};
