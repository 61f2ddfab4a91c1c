/* fuzz_math.c - maths answers of unknown origin: every maths grader gives every output a verdict, twice the same.
 * Input: gold, a line end, output. */
#include "datasets/graders.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char *const names[] = {
        "math",           "integer",          "lmeval_gsm8k", "lmeval_gsm8k_cot", "lmeval_gsm8k_llama",
        "lmeval_minerva", "lmeval_hendrycks", "lmeval_aime"};
    char *gold = malloc(size + 1);
    if (!gold) abort();
    memcpy(gold, data, size);
    gold[size] = 0;
    char *output = gold + strcspn(gold, "\n");
    if (*output) *output++ = 0;
    for (size_t k = 0; k < sizeof names / sizeof *names; k++) {
        const kv_grader *grader = kv_grader_find(names[k]);
        kv_grade g[2];
        memset(g, 0, sizeof g);
        for (int i = 0; i < 2; i++) grader->grade(NULL, gold, output, &g[i]);
        if (g[0].score != g[1].score || g[0].compat != g[1].compat || strcmp(g[0].extracted, g[1].extracted)) abort();
        if ((g[0].score != 0 && g[0].score != 1) || (g[0].compat != 0 && g[0].compat != 1)) abort();
        if (!g[0].rule || !g[0].reason || (g[0].score == 1 && !g[0].answered)) abort();
    }
    free(gold);
    return 0;
}
