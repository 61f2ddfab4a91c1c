/* template.h - prompt and gold texts with {slots}.
 *
 * A template is text in which {name} stands for an item's value and {split} marks where the question starts (it
 * leaves no text).  Escapes: \n newline, \t tab, \s blank, \\ \{ \} the character itself.  There is nothing else: no
 * conditions, no loops. */
#ifndef KV_TEMPLATE_H
#define KV_TEMPLATE_H

#include "datasets/text.h"

#define KV_SLOTS 8 /* most slots of one source */

/* KV_EFORMAT when a brace is unmatched, an escape or a slot is unknown (names: NULL-terminated), or {split} occurs
 * where it may not (may_split = 0) or twice.  where is the "file:line" that error texts start with. */
int kv_template_check(const char *tpl, const char *const *names, int may_split, const char *where, kv_error *err);
/* Renders a checked template.  values[k] belongs to names[k].  *split (may be NULL) becomes the byte offset of
 * {split}, or the length of the text when there is none. */
void kv_template_render(const char *tpl, const char *const *names, const kv_text *values, kv_text *out, size_t *split);

#endif
