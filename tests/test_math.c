/* test_math.c - the maths graders on hand-made vectors: strict, the published rules of R-KV, and extraction. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "datasets/compat.h"
#include "datasets/graders.h"
#include "datasets/math_compare.h"
#include "datasets/math_extract.h"

static kv_span span(const char *s) {
    return (kv_span){s, strlen(s)};
}

static int strict(const char *gold, const char *answer) {
    const char *reason = NULL;
    int verdict = kv_math_strict(span(gold), span(answer), 0, &reason);
    assert_non_null(reason);
    return verdict;
}

static int compat(const char *gold, const char *answer) {
    char output[4096];
    snprintf(output, sizeof output, "Final answer: \\boxed{%s}", answer);
    return kv_compat_grade(gold, output);
}

enum { GOLD, ANSWER, RKV, HENDRYCKS, MINERVA, MATH_VERIFY, WANT, STRICT, COMPAT, NOTE, N_COLUMNS };

static int read_row(FILE *f, char *line, size_t size, char **column) {
    do
        if (!fgets(line, (int)size, f)) return 0;
    while (line[0] == '#');
    line[strcspn(line, "\n")] = 0;
    for (int k = 0; k < N_COLUMNS; k++) {
        char *tab = line + strcspn(line, "\t");
        column[k] = line;
        line = *tab ? tab + 1 : tab;
        *tab = 0;
    }
    return 1;
}

static void agrees_with_the_vectors(void **state) {
    (void)state;
    FILE *f = fopen("golden/math_vectors.tsv", "r");
    char line[2048], *c[N_COLUMNS];
    int rows = 0, differ = 0;
    assert_non_null(f);
    for (; read_row(f, line, sizeof line, c); rows++) {
        char s = strict(c[GOLD], c[ANSWER]) ? 'y' : 'n', p = compat(c[GOLD], c[ANSWER]) ? 'y' : 'n';
        if (s != *c[STRICT] || (*c[WANT] != '?' && s != *c[WANT]))
            fail_msg("strict: gold %s answer %s: %c", c[GOLD], c[ANSWER], s);
        if (p != *c[COMPAT] || (p != *c[RKV]) != (*c[NOTE] != 0))
            fail_msg("compat: gold %s answer %s: %c", c[GOLD], c[ANSWER], p);
        differ += p != *c[RKV];
    }
    fclose(f);
    assert_int_equal(rows, 201);
    assert_true(differ <= 5);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(agrees_with_the_vectors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
