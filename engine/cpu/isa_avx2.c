/* isa_avx2.c - the kernels for AVX2, FMA and F16C.  See kernels.h. */
#if defined(__x86_64__)
/* Headers that declare functions come before the target is raised. */
#include "engine/cpu/kernels.h"
#include <immintrin.h>
#include <math.h>
#include <string.h>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c")
#endif

#include "engine/cpu/simd_avx2.h"
#include "engine/cpu/kern_math.h"
#include "engine/cpu/kern_matmul.h"
#include "engine/cpu/kern_q8_avx2.h"
#include "engine/cpu/kern_attend.h"
#include "engine/cpu/kern_rows.h"

const kv_cpu_kernels kv_cpu_kernels_avx2 = {
    .name = "cpu/avx2",
    .attend_rows = ATTEND_ROWS,
    .f32_rows = F32_ROWS,
    .q8_rows = Q8_ROWS,
    .norm_row = norm_row,
    .swiglu_row = swiglu_row,
    .quantize_row = quantize_row,
    .pack_f32 = pack_f32,
    .pack_q8 = pack_q8,
    .tile_f32 = tile_f32,
    .tile_q8 = tile_q8,
    .rope_row = rope_row,
    .linear = linear,
    .attend = attend,
    .store_cache = store_cache,
    .load_cache = load_cache,
    .move_slots = move_slots,
};

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif
