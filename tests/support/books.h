/* books.h - does the engine take what it said it would take, and does it give everything back, on whatever device? */
#ifndef KV_TEST_BOOKS_H
#define KV_TEST_BOOKS_H

#include "tests/support/harness.h"

/* Batches of several sizes, policies, budgets and lengths: prediction = most that the books held; where heads share a
 * budget, a CPU's books may stay below it.  gates: or NULL for models without. */
void th_expect_exact_needs(kv_engine *e, const char *gates);

/* Memory runs out at many points of a prefill, of a reservation and of runs without one: every time an error that says
 * what did not fit, the books as before, and an engine that still gives the same tokens. */
void th_expect_balanced_books(kv_engine *e, const char *gates);

#endif
