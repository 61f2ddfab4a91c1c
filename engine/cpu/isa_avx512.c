/* isa_avx512.c - the kernels for AVX-512 F, BW, DQ, VL and VNNI.  See kernels.h. */
#if defined(__x86_64__)
/* Headers that declare functions come before the target is raised. */
#include "engine/cpu/kernels.h"
#include <immintrin.h>
#include <math.h>
#include <string.h>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma,f16c,avx2"))),   \
                             apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma,f16c,avx2")
#endif

#include "engine/cpu/simd_avx512.h"
#include "engine/cpu/kern_math.h"
#include "engine/cpu/kern_matmul.h"
#include "engine/cpu/kern_q8_avx512.h"
#include "engine/cpu/kern_attend.h"
#include "engine/cpu/kern_rows.h"

const kv_cpu_kernels kv_cpu_kernels_avx512 = {
    .name = "cpu/avx512vnni",
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
