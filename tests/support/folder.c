/* folder.c - see folder.h. */
#include "tests/support/folder.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/file.h"

void tf_open(tf_folder *f, const char *dir) {
    struct dirent *e;
    memset(f, 0, sizeof *f);
    assert_int_equal(scratch_open(&f->s), 0);
    DIR *d = opendir(dir);
    if (!d) fail_msg("%s cannot be read", dir);
    while ((e = readdir(d))) {
        char path[512];
        if (e->d_name[0] == '.') continue;
        assert_true(f->n < TF_FILES);
        tf_file *x = &f->files[f->n++];
        kv_error err;
        snprintf(x->name, sizeof x->name, "%.95s", e->d_name);
        snprintf(path, sizeof path, "%.300s/%.200s", dir, e->d_name);
        if (kv_read_file(path, &x->data, &x->n, &err)) fail_msg("%s", err.text);
        tf_restore(f, x->name);
    }
    closedir(d);
}

void tf_close(tf_folder *f) {
    for (int i = 0; i < f->n; i++) free(f->files[i].data);
    scratch_close(&f->s);
}

tf_file *tf_find(tf_folder *f, const char *name) {
    for (int i = 0; i < f->n; i++)
        if (strcmp(f->files[i].name, name) == 0) return &f->files[i];
    fail_msg("no file %s", name);
    return NULL;
}

void tf_put(tf_folder *f, const char *name, const void *data, size_t n) {
    if (!data)
        unlink(scratch_path(&f->s, name));
    else
        assert_non_null(scratch_write(&f->s, name, data, n));
}

void tf_restore(tf_folder *f, const char *name) {
    const tf_file *x = tf_find(f, name);
    tf_put(f, name, x->data, x->n);
}
