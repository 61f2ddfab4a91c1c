/* magic.h - what RULER's needle tasks, variable tracking and the needle grid share: magic keys and values, noise. */
#ifndef KV_MAGIC_H
#define KV_MAGIC_H

#include "datasets/rng.h"
#include "datasets/text.h"
#include "datasets/words.h"

typedef enum kv_magic { KV_NUMBERS, KV_MAGIC_WORDS, KV_UUIDS } kv_magic;

/* "numbers", "words", "uuids"; find returns 0 for another name. */
const char *kv_magic_name(kv_magic kind);
int kv_magic_find(const char *name, kv_magic *out);

/* Appends a number of seven digits, an "adjective-noun", or a version 4 UUID. */
void kv_magic_draw(kv_magic kind, const kv_words *words, kv_rng *rng, kv_text *out);

/* "The grass is green. The sky is blue. ..." */
extern const char kv_noise_line[];

#endif
