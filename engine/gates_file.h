/* gates_file.h - the inside of kv_gate_file, for the two that make one: gates.c reads it, gates_synth.c invents it. */
#ifndef KV_GATES_FILE_H
#define KV_GATES_FILE_H

#include "engine/gates.h"

struct kv_gate_file {
    kv_gates gates;
    kv_gate_layer *layers; /* (gates.n_layers) */
    float *values;         /* (n_values) all tensors of all layers */
    size_t n_values;
};

/* Room for layers and values of one type; gates is filled, the tensors of the layers are not yet.  KV_ENOMEM. */
int kv_gates_alloc(const kv_shape *shape, kv_gate_type type, int n_hidden, kv_gate_file *g, kv_error *err);
/* Names the gates by their values, once these are complete. */
void kv_gates_seal(kv_gate_file *g);

#endif
