/* math_words.h - the vocabulary of answers: LaTeX commands, signs beyond ASCII, functions, units, bases. */
#ifndef KV_MATH_WORDS_H
#define KV_MATH_WORDS_H

#include "datasets/graders.h"

typedef enum kv_command_role {
    KV_COMMAND_UNKNOWN,
    KV_COMMAND_NOTHING, /* \left, \displaystyle: no meaning for the value */
    KV_COMMAND_SPACE,
    KV_COMMAND_STYLE, /* \text and its relatives, which take a group */
    KV_COMMAND_LETTER,
    KV_COMMAND_ROW,
    KV_COMMAND_BEGIN,
    KV_COMMAND_FINISH,
    KV_COMMAND_KNOWN /* *canonical: its one name */
} kv_command_role;

/* name: without the backslash. */
kv_command_role kv_math_command(kv_span name, const char **canonical);
/* Length of the sign at a that stands for a command or an ASCII character; 0 when there is none. */
size_t kv_math_unicode(kv_span a, const char **command);
/* The canonical name of a function written as a word ("arcsin"), or NULL. */
const char *kv_math_function(kv_span word);
/* 1 for cm, inches, dollars ...: words of two or more letters only. */
int kv_math_unit(kv_span word);
/* 1000 when the first word is "thousand", and so on; 0 when it is no such word. */
unsigned long kv_math_scale(kv_span text);
/* 1 when the first word is "and" or "or"; *alone (may be NULL): nothing else follows it. */
int kv_math_conjunction(kv_span text, int *alone);
/* "five" = 5, from zero to twenty; -1 when it is no such word. */
int kv_math_number_word(kv_span word);
/* "five" = 5, "12" = 12: what may stand as the base of a numeral; 0 when it is none. */
int kv_math_base(kv_span word);

#endif
