/* isa_plain.c - the kernels for any CPU.  See kernels.h. */
#include "engine/cpu/simd_plain.h"
#include "engine/cpu/kern_math.h"
#include "engine/cpu/kern_matmul.h"
#include "engine/cpu/kern_q8_plain.h"
#include "engine/cpu/kern_attend.h"
#include "engine/cpu/kern_rows.h"

const kv_cpu_kernels kv_cpu_kernels_plain = {
    .name = "cpu/plain",
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
