/* kern_q8_plain.h - the 8-bit tile in plain C: per group an exact integer dot product, then one multiply-add. */

static void tile_q8(const kv_tile_args *a) {
    for (int r = 0; r < a->n_rows; r++) {
        size_t at = (size_t)(a->row + r) * a->q->n_groups;
        float acc[KV_BLOCK] = {0}, *out = a->out + (size_t)r * a->out_stride;
        for (int g = 0; g < a->q->n_groups; g++) {
            const uint8_t *w = (const uint8_t *)a->block + (size_t)g * KV_Q8_GROUP_BYTES;
            const float *scale = (const float *)(w + KV_BLOCK * KV_GROUP);
            const int8_t *q = a->q->q + (at + g) * KV_GROUP;
            int32_t sum[KV_BLOCK];
            for (int j = 0; j < KV_BLOCK; j++) sum[j] = a->q->comp[at + g];
            for (int k = 0; k < KV_GROUP; k += 4, w += KV_BLOCK * 4)
                for (int j = 0; j < KV_BLOCK; j++)
                    sum[j] +=
                        w[4 * j] * q[k] + w[4 * j + 1] * q[k + 1] + w[4 * j + 2] * q[k + 2] + w[4 * j + 3] * q[k + 3];
            for (int j = 0; j < KV_BLOCK; j++) acc[j] += (float)sum[j] * scale[j] * a->q->scale[at + g];
        }
        for (int j = 0; j < a->n_cols; j++) out[j] = a->accumulate ? out[j] + acc[j] : acc[j];
    }
}
