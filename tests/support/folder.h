/* folder.h - copies of committed folders that a test may damage. */
#ifndef KV_TEST_FOLDER_H
#define KV_TEST_FOLDER_H

#include "tests/support/scratch.h"

enum { TF_FILES = 16 };

typedef struct tf_file {
    char name[96];
    char *data;
    size_t n;
} tf_file;

/* Every file of a folder, in memory and in a scratch folder. */
typedef struct tf_folder {
    scratch s;
    tf_file files[TF_FILES];
    int n;
} tf_folder;

/* Fails the test when something cannot be read or written; close removes the copy. */
void tf_open(tf_folder *f, const char *dir);
void tf_close(tf_folder *f);
tf_file *tf_find(tf_folder *f, const char *name);
/* Writes the first n bytes of other content under a file's name, or (data NULL) takes the file away. */
void tf_put(tf_folder *f, const char *name, const void *data, size_t n);
/* The file as it was. */
void tf_restore(tf_folder *f, const char *name);

#endif
