/* vote.h - answers as maj@k counts them. */
#ifndef KV_VOTE_H
#define KV_VOTE_H

#include <stddef.h>

/* The normal form of an answer into out, cut to fit size: no blanks but between digits, no money signs, degree signs,
 * sizes or text wrappers; dfrac and tfrac are frac, a fraction of whole numbers is a/b, 2\frac12 is 2 1/2; 1,234.50 is
 * 1234.5, +07 is 7; "x = 5" is 5, "18 dollars" 18, "(A)" a.  Two forms that are the same mean the same; what means the
 * same may still have two.  Returns the length; 0: nothing is left, no vote. */
size_t kv_vote_text(const char *answer, char *out, size_t size);

#endif
