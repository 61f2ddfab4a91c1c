/* gate.h - evaluation of retention gates (policy.h: kv_gates) for policies that observe with them. */
#ifndef KV_GATE_H
#define KV_GATE_H

#include "policies/policy.h"

#ifdef __cplusplus
extern "C" {
#endif

/* "rg10" */
const char *kv_gate_name(kv_gate_type type);

/* 1 when the gate looks at K and V, 0 when at the hidden state. */
int kv_gate_sees_kv(kv_gate_type type);
/* Width of the gate's input for a model. */
int kv_gate_n_in(kv_gate_type type, const kv_shape *shape);

/* KV_EARG when the gates were made for another shape (both are named), KV_EUNSUPPORTED when they need more scratch than
 * KV_MIN_SCRATCH.  `policy` is named in the message. */
int kv_gate_check(const kv_gates *g, const kv_shape *shape, const char *policy, kv_error *err);

/* Log retention of the rows of `a` into column `col` of a->stats (n_rows, n_kv_heads, n_stats).  bf16: rounded where
 * the authors' bf16 code rounds, after every linear map, activation, product, bias and logsigmoid. */
void kv_gate_observe(const kv_gates *g, int head_dim, int bf16, const kv_services *sv, const kv_observe_args *a,
                     int n_stats, int col);

/* score (n_slots) = log retention lb (n_slots) decayed to the present, with T = a->n_seen:
 *   lookahead=1   (T + 1 - p) lb                                                  (the authors' default)
 *   lookahead=n   (T + 2 - p) lb + ln(1 - e^(n lb)) - ln(1 - e^lb)  = ln of the sum of beta^(T+2-p+m), m < n
 * Where lb > -1e-7 the latter uses its limit, ln n, instead of inf - inf. */
void kv_gate_score(const kv_score_args *a, const float *lb, int lookahead, float *score);

#ifdef __cplusplus
}
#endif

#endif
