/* math_extract.h - where in an output the answer is (strict rules).
 *
 * Only text after the last </think> counts.  First rule that finds something: the last \boxed{} or \fbox{} that closes
 * and is not empty; what follows the last "#### "; what follows the last "answer is" or "answer:"; the last number. */
#ifndef KV_MATH_EXTRACT_H
#define KV_MATH_EXTRACT_H

#include "datasets/graders.h"

/* *answer points into output.  Returns the name of the rule, or NULL when there is no answer. */
const char *kv_math_extract(const char *output, kv_span *answer);

#endif
