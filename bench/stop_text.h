/* stop_text.h - stop strings in generated text. */
#ifndef KV_STOP_TEXT_H
#define KV_STOP_TEXT_H

#include "engine/tokenizer.h"

/* 1 when one of the stop strings (NULL-terminated, each at most 256 bytes) ends inside the text of the last of n
 * tokens. */
int kv_stop_reached(const kv_tokenizer *t, const char *const *stop, const int32_t *tokens, int n);

/* Ends the text before the first stop string in it. */
void kv_stop_cut(char *text, const char *const *stop);

#endif
