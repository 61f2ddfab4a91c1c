/* process.h - running a program without a shell, and knowing whether a recorded process still lives. */
#ifndef KV_PROCESS_H
#define KV_PROCESS_H

#include "engine/kv.h"

/* What identifies this process among all that ever ran on this machine. */
typedef struct kv_process {
    char hostname[128];
    char boot_id[64];   /* "" where the system does not tell */
    char pid_space[64]; /* pid namespace: containers number their processes apart */
    int64_t pid, start; /* start: clock ticks after boot, 0 = unknown */
} kv_process;

void kv_process_self(kv_process *out);

/* 1 when a process of that number and start time runs here; start 0 compares the number only.  One that ended and
 * waits to be reaped does not run. */
int kv_process_alive(int64_t pid, int64_t start);

/* Runs argv[0] (looked up in PATH when it has no slash) in folder dir, input empty, output dropped, and waits.
 * *status receives the exit status, 128 + signal when it was killed; complaint (n bytes) what it wrote to stderr,
 * cut to fit.  A program that is not there is KV_ENOTFOUND. */
int kv_process_run(const char *const *argv, const char *dir, int *status, char *complaint, size_t n, kv_error *err);

#endif
