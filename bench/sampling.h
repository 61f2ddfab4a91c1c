/* sampling.h - which sampling a command uses: greedy, what the checkpoint recommends, or what the options say. */
#ifndef KV_BENCH_SAMPLING_H
#define KV_BENCH_SAMPLING_H

#include "bench/identity.h"
#include "bench/options.h"
#include "engine/engine.h"

/* --sampling with --temperature, --top-p, --top-k and --min-p, for one model; the seed stays 0.  Without --sampling it
 * is custom when one of the four is given, else greedy.  model: generation_config.json beside the model's file or in
 * its folder, where the four replace single values.  KV_EARG names what contradicts or is missing. */
int kv_sampling_choose(const kv_opts *o, const kv_identity *model, kv_sampling *out, kv_error *err);

/* As transformers generates with a generation_config.json: greedy unless do_sample is true; what the file leaves out is
 * temperature 1, top-k 50, top-p and min-p off. */
kv_sampling kv_sampling_recommended(const kv_generation *g);

/* The seed of sample k of an item: its random stream depends on nothing but these three. */
uint64_t kv_sampling_seed(int64_t seed, const char *item, int k);

#endif
