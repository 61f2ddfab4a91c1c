/* jieba.h - Chinese word segmentation as the Python package jieba 0.42.1 does it (github.com/fxsjy/jieba), because
 * LongBench's Chinese F1 and ROUGE-L count jieba's words.
 *
 * The dictionary is jieba's own (MIT), in a text file that scripts/jieba_words.py writes from the package:
 *
 *   total N                       sum of all frequencies
 *   start B M E S                 log probabilities of a word's first state
 *   trans BE BM EB ES ME MM SB SS log probabilities between states
 *   emit CHARACTER B M E S        ... of a character in a state; a line per character, by code point
 *   word WORD N                   a line per word with its frequency, ordered by bytes */
#ifndef KV_JIEBA_H
#define KV_JIEBA_H

#include "engine/kv.h"

typedef struct kv_jieba kv_jieba;

/* KV_EFORMAT texts start with "path:line:".  The caller closes; close takes NULL. */
int kv_jieba_open(const char *path, kv_jieba **out, kv_error *err);
void kv_jieba_close(kv_jieba *j);

/* jieba.cut(text, cut_all=False): calls word for each piece, in order; together they are the text (UTF-8).  Only
 * reads j, so several threads may call it.  KV_ENOMEM. */
int kv_jieba_cut(const kv_jieba *j, const char *s, size_t n, void (*word)(void *user, const char *s, size_t n),
                 void *user);

#endif
