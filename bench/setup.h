/* setup.h - from a policy's text, M and B to what the engine takes; and an engine for commands that need just one. */
#ifndef KV_SETUP_H
#define KV_SETUP_H

#include "bench/identity.h"
#include "bench/place.h"
#include "engine/engine.h"
#include "engine/gates.h"
#include "policies/registry.h"

typedef struct kv_setup_args {
    const kv_policy_spec *spec; /* outlives the setup */
    int budget, buffer;         /* ignored by a policy that never evicts */
    int chunk;                  /* of stream:C, 0 = full prefill */
    int64_t seed;
    const kv_model_info *info;
    const kv_gate_file *gates; /* or NULL */
    const kv_error *gates_err; /* why not, or NULL */
} kv_setup_args;

/* Opens the policy's state.  KV_EARG when the policy needs gates and there are none.  Close with kv_setup_close, also
 * after an error. */
int kv_setup_open(const kv_setup_args *a, kv_setup *s, kv_error *err);
void kv_setup_close(kv_setup *s);

/* A model opened from the command line. */
typedef struct kv_session {
    kv_identity id; /* paths only */
    kv_device_kind device;
    kv_engine *engine;
    kv_gate_file *gates;
    kv_error gates_err;
} kv_session;

/* Model i of --model.  Gates that cannot be read are reported only by policies that need them. */
int kv_session_open(const kv_opts *o, size_t i, const kv_paths *p, kv_numerics numerics, int n_threads, kv_session *s,
                    kv_error *err);
void kv_session_close(kv_session *s);

/* Bytes of --device-memory; 0 = not limited. */
size_t kv_memory_limit(const kv_opts *o);

/* Just the engine, on a device already chosen.  *out is NULL after an error. */
int kv_session_open_on(const kv_identity *id, const kv_opts *o, kv_device_kind device, kv_numerics numerics,
                       int n_threads, kv_engine **out, kv_error *err);

#endif
