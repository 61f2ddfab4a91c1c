/* ref_ops.h - plain double-precision twins of the backend's ops, for tests.
 *
 * They follow the comments of engine/backend.h, take plain arrays, and are never tuned. */
#ifndef KV_TEST_REF_OPS_H
#define KV_TEST_REF_OPS_H

#include "engine/backend.h"

/* out (n_rows, dim) */
void kv_ref_rmsnorm(double *out, const float *x, const float *w, double eps, int n_rows, int dim);
/* out (n_rows, n_in) = silu(x[:, :n_in]) * x[:, n_in:] */
void kv_ref_swiglu(double *out, const float *x, int n_rows, int n_in);
/* out (n_rows, n_out) = x (n_rows, n_in) w^T + bias; bias may be NULL.  *scale (n_rows, n_out), when not NULL, receives
 * the sum of the absolute products: what rounding errors are measured against. */
void kv_ref_linear(double *out, double *scale, const double *x, const float *w, const float *bias, int n_rows, int n_in,
                   int n_out);
/* x (n_rows, n_heads, head_dim) in place */
void kv_ref_rope(double *x, int n_rows, int n_heads, int head_dim, const int32_t *pos, const kv_rope_table *t);
/* One KV head: q and out (n_q, group, head_dim), k and v (n_slots, head_dim), mass (n_slots) is added to or NULL. */
void kv_ref_attend(double *out, double *mass, const float *q, const float *k, const float *v, int n_q, int group,
                   int head_dim, int n_slots, double scale);
/* What the integers of the 8-bit format stand for: x (n) in groups of 64, padded with zeros, each rotated by the
 * orthonormal Walsh-Hadamard transform and rounded to 127 steps of its largest magnitude.  out (n rounded up to 64)
 * stays rotated: products of two rows are those of the unrotated ones. */
void kv_ref_quantize(double *out, const float *x, int n);
/* The value as the cache stores it. */
float kv_ref_cached(kv_cache_type type, float x);

#endif
