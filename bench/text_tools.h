/* text_tools.h - a model's tokenizer as the callbacks that tasks take (datasets/text_tools.h). */
#ifndef KV_BENCH_TEXT_TOOLS_H
#define KV_BENCH_TEXT_TOOLS_H

#include "bench/identity.h"
#include "datasets/text_tools.h"

/* id is borrowed and must outlive the tools. */
kv_text_tools kv_text_tools_of(const kv_identity *id);

#endif
