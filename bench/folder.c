/* folder.c - makes the folder that --out names. */
#include "bench/folder.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "bench/paths.h"

int kv_make_folder(const char *dir, kv_error *err) {
    char path[KV_PATH_MAX];
    struct stat st;
    snprintf(path, sizeof path, "%s", dir);
    for (char *p = path + 1;; p++) {
        char c = *p;
        if (c && c != '/') continue;
        *p = 0;
        if (mkdir(path, 0777) != 0 && errno != EEXIST)
            return kv_fail(err, KV_EIO, "--out: the folder %.400s cannot be made: %s", path, strerror(errno));
        if (!c) break;
        *p = c;
    }
    if (stat(dir, &st) != 0 || !S_ISDIR(st.st_mode)) return kv_fail(err, KV_EIO, "--out: %.400s is no folder", dir);
    return KV_OK;
}
