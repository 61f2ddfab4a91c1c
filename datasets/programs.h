/* programs.h - what the grader of a program needs: its tests. */
#ifndef KV_PROGRAMS_H
#define KV_PROGRAMS_H

#define KV_PROGRAM_TESTS 10 /* LongProc runs the first ten */

typedef struct kv_program_test {
    const char *input, *expected; /* stdin and stdout, byte for byte */
} kv_program_test;

typedef struct kv_program {
    kv_program_test tests[KV_PROGRAM_TESTS];
    int n_tests;
} kv_program;

#endif
