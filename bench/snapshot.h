/* snapshot.h - what a TRIM-KV snapshot brings to a command beside its gates.
 *
 * A published snapshot is a folder of gates and a config.json that names the base model, budget and buffer, and in
 * newer files how scores are computed.  `--gates SNAPSHOT` alone runs all of that; what is typed comes first. */
#ifndef KV_SNAPSHOT_H
#define KV_SNAPSHOT_H

#include "bench/options.h"
#include "bench/paths.h"

enum { KV_SNAPSHOT_NOTE = 512 };

/* Fills in what the command line leaves open, when --gates is given: --budget and --buffer from memory_size and
 * buffer_size, lookahead and window of policies with gates from lookahead_steps and sliding_window_size, and --model
 * from base_model (the default model stays when the gates are made for it).  KV_ENOTFOUND says which base model to
 * fetch and how, KV_EUNSUPPORTED names a strategy that is none of a fixed budget unless --budget is given.  note: for
 * the user when --model is called otherwise than the base model, else "". */
int kv_snapshot_apply(kv_opts *o, const kv_paths *p, char note[KV_SNAPSHOT_NOTE], kv_error *err);

#endif
