/* replay_main.c - runs a fuzz entry over the files of a folder, for compilers without libFuzzer and for every test
 * run: what a fuzzer once found stays fixed. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int replay(const char *dir, const char *name) {
    char path[4096], *text;
    size_t n;
    kv_error err;
    snprintf(path, sizeof path, "%s/%s", dir, name);
    if (kv_read_file(path, &text, &n, &err) != KV_OK) {
        fprintf(stderr, "%s\n", err.text);
        return 0;
    }
    /* A copy of the exact size, so that the address sanitizer sees the end. */
    uint8_t *data = malloc(n ? n : 1);
    if (data) {
        memcpy(data, text, n);
        LLVMFuzzerTestOneInput(data, n);
    }
    free(text);
    free(data);
    return data != NULL;
}

int main(int argc, char **argv) {
    DIR *d = argc == 2 ? opendir(argv[1]) : NULL;
    if (!d) {
        fprintf(stderr, "usage: %s FOLDER (of inputs, which must exist)\n", argv[0]);
        return 1;
    }
    int n = 0, ok = 1;
    for (struct dirent *e = readdir(d); e; e = readdir(d)) {
        if (e->d_name[0] == '.') continue;
        ok &= replay(argv[1], e->d_name);
        n++;
    }
    closedir(d);
    printf("%d inputs replayed\n", n);
    return ok && n > 0 ? 0 : 1;
}
