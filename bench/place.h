/* place.h - where a model runs: --backend and --device against what this build and machine have. */
#ifndef KV_PLACE_H
#define KV_PLACE_H

#include "bench/options.h"
#include "engine/engine.h"

/* The device for a model of this shape (NULL = not known yet, taken as fit).  --backend auto takes a GPU when the build
 * has CUDA, the machine has the device, and its kernels know the shape.  KV_EUNSUPPORTED or KV_ENOTFOUND when --backend
 * cuda cannot be had, KV_EARG when there is no such --device. */
int kv_place_choose(const kv_opts *o, const kv_shape *shape, kv_device_kind *out, kv_error *err);

/* "cpu" or "cuda", as in a cell's identity. */
const char *kv_place_name(kv_device_kind kind);

/* 1 when a device that turned out not to run a model may be replaced by the CPU: --backend auto. */
int kv_place_is_free(const kv_opts *o);

#endif
