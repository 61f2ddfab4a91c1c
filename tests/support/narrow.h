/* narrow.h - does every sampling parameter get to where tokens are drawn, on whatever device? */
#ifndef KV_TEST_NARROW_H
#define KV_TEST_NARROW_H

#include "tests/support/harness.h"

/* Fails the running test unless the engine is greedy when one parameter leaves a single token, and draws otherwise. */
void th_expect_parameters_to_arrive(kv_engine *e);

#endif
