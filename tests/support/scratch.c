/* scratch.c - see scratch.h. */
#include "tests/support/scratch.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int scratch_open(scratch *s) {
    snprintf(s->dir, sizeof s->dir, "%s/kv-test-XXXXXX", P_tmpdir);
    return mkdtemp(s->dir) ? 0 : -1;
}

void scratch_close(scratch *s) {
    DIR *d = opendir(s->dir);
    if (!d) return;
    for (struct dirent *e = readdir(d); e; e = readdir(d)) unlink(scratch_path(s, e->d_name));
    closedir(d);
    rmdir(s->dir);
}

scratch scratch_dir;

int scratch_setup(void **state) {
    (void)state;
    return scratch_open(&scratch_dir);
}

int scratch_teardown(void **state) {
    (void)state;
    scratch_close(&scratch_dir);
    return 0;
}

const char *scratch_path(scratch *s, const char *name) {
    snprintf(s->path, sizeof s->path, "%s/%.120s", s->dir, name);
    return s->path;
}

const char *scratch_write(scratch *s, const char *name, const void *data, size_t n) {
    FILE *f = fopen(scratch_path(s, name), "wb");
    if (!f) return NULL;
    int ok = fwrite(data, 1, n, f) == n;
    if (fclose(f) != 0) ok = 0;
    return ok ? s->path : NULL;
}
