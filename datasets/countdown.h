/* countdown.h - the countdown search of LongProc (arXiv 2501.05414): a deterministic depth-first search over four
 * numbers, written out as text.  The text is the reference output, the two worked examples of the official prompt
 * and the yardstick of the partial score, so it must match the released traces byte for byte. */
#ifndef KV_COUNTDOWN_H
#define KV_COUNTDOWN_H

#include "datasets/text.h"

#define KV_COUNTDOWN_MAX 2000 /* a result of this size or more ends its branch */

typedef struct kv_countdown {
    int nums[4]; /* each 0..KV_COUNTDOWN_MAX - 1 */
    int target;
} kv_countdown;

typedef struct kv_countdown_result {
    int solved;
    int lines;      /* lines that start with |- (picks and tries) */
    char eq[3][48]; /* the solution's equations in order, when solved */
} kv_countdown_result;

/* How the search is framed: KV_COUNTDOWN_OFFICIAL opens with "# Search Procedure"; KV_COUNTDOWN_TAGGED puts it
 * between <Search Procedure> and </Search Procedure>, as the released `demonstration` fields do. */
enum { KV_COUNTDOWN_OFFICIAL, KV_COUNTDOWN_TAGGED };

/* Runs the search to the first solution.  When out is not NULL appends its lines ("Initial number set: ..." and all
 * picks and tries, no newline at the end). */
void kv_countdown_search(const kv_countdown *p, kv_text *out, kv_countdown_result *r);
/* Appends the whole reference output: header, search, trace-back, <Solution> block.  Returns 0, and appends nothing
 * useful, when the numbers cannot reach the target. */
int kv_countdown_write(const kv_countdown *p, int frame, kv_text *out);
/* Appends the two worked examples of the official prompt, joined by a blank line. */
void kv_countdown_examples(kv_text *out);
/* "[40, 19, 23, 7]" for n <= 4 numbers. */
void kv_countdown_list(const int *nums, int n, kv_text *out);

#endif
