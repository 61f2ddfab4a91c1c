/* kv.h - status codes, the error record and the few types every layer shares.
 *
 * One error convention everywhere: a function that can fail returns an int, 0 for success or a negative
 * KV_E* code, and takes a kv_error * as its last argument.  The text names the file, tensor or option at
 * fault and ends in what the user can do about it.  A NULL kv_error * is allowed and drops the text.
 * Library code never prints, exits or aborts; only bench/main.c does. */
#ifndef KV_H
#define KV_H

#include <stddef.h>
#include <stdint.h>

enum {
    KV_OK = 0,
    KV_EIO = -1,          /* open, read, write, map, no space */
    KV_EFORMAT = -2,      /* a file is damaged or not what it claims to be */
    KV_ENOMEM = -3,       /* allocation failed */
    KV_EARG = -4,         /* a bad option or parameter value */
    KV_EUNSUPPORTED = -5, /* valid, but not built in or not handled */
    KV_ELIMIT = -6,       /* longer than the model's context, larger than a fixed limit */
    KV_ECANCEL = -7,      /* interrupted by the user */
    KV_ENUM = -8,         /* NaN or infinity where a number is needed */
    KV_EDB = -9,          /* SQLite */
    KV_ENOTFOUND = -10,   /* no such file, policy, task, tensor */
    KV_ETIMEOUT = -11
};

typedef struct kv_error {
    int code;
    char text[512];
} kv_error;

#if defined(__GNUC__)
#define KV_PRINTF(f, a) __attribute__((format(printf, f, a)))
#else
#define KV_PRINTF(f, a)
#endif

/* Fills *err (when not NULL) and returns code, so that callers write `return kv_fail(err, KV_EIO, ...)`. */
int kv_fail(kv_error *err, int code, const char *fmt, ...) KV_PRINTF(3, 4);

/* "io", "format", ... for a KV_E* code; static storage. */
const char *kv_status_name(int code);

/* Sizes that policies and kernels need to know about a model. */
typedef struct kv_shape {
    int n_layers;
    int n_heads;    /* query heads, Hq */
    int n_kv_heads; /* Hkv; group size G = n_heads / n_kv_heads */
    int head_dim;   /* d */
    int dim;        /* D, the residual width */
} kv_shape;

#endif
