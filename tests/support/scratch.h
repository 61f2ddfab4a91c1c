/* scratch.h - a temporary folder for tests that need files. */
#ifndef KV_TEST_SCRATCH_H
#define KV_TEST_SCRATCH_H

#include <stddef.h>

typedef struct scratch {
    char dir[64];
    char path[192]; /* the last name made by scratch_path */
} scratch;

/* 0, or -1 when no folder can be made.  scratch_close removes the folder with the files (no folders) in it. */
int scratch_open(scratch *s);
void scratch_close(scratch *s);

/* Setup and teardown of a group of tests that share one folder. */
extern scratch scratch_dir;
int scratch_setup(void **state);
int scratch_teardown(void **state);

/* "<dir>/<name>", valid until the next call. */
const char *scratch_path(scratch *s, const char *name);

/* Writes a file in it and returns its path, or NULL. */
const char *scratch_write(scratch *s, const char *name, const void *data, size_t n);

#endif
