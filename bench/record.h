/* record.h - rows that every kind of run refers to, made from what the program knows of them. */
#ifndef KV_RECORD_H
#define KV_RECORD_H

#include "bench/identity.h"
#include "policies/registry.h"
#include "results/store.h"

/* gated: the policy uses the model's gates, which are then part of the row.  weights: how they are held, or NULL. */
int kv_record_model(kv_store *s, const kv_identity *m, int gated, const char *weights, int64_t *id, kv_error *err);
int kv_record_policy(kv_store *s, const kv_policy_spec *spec, int64_t *id, kv_error *err);
int kv_record_machine(kv_store *s, int64_t *host_id, int64_t *build_id, kv_error *err);

#endif
