/* fuzz_jieba.c - any bytes up to the first zero as jieba's dictionary, the rest as a text: refused with a reason, or
 * words that are the text, piece by piece. */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "datasets/jieba.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void follow(void *user, const char *s, size_t n) {
    const char **at = user;
    if (s != *at || !n) abort();
    *at += n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    kv_jieba *j = NULL;
    kv_error err = {0};
    char path[64];
    const uint8_t *zero = size ? memchr(data, 0, size) : NULL;
    size_t n = zero ? (size_t)(zero - data) : size;
    int fd = memfd_create("jieba", 0);
    if (fd < 0 || write(fd, data, n) != (ssize_t)n) abort();
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    int rc = kv_jieba_open(path, &j, &err);
    close(fd);
    if (rc != KV_OK) {
        if (j || !err.text[0]) abort();
        return 0;
    }
    size_t length = zero ? size - n - 1 : 0;
    char *text = malloc(length + 1);
    if (!text) abort();
    if (length) memcpy(text, zero + 1, length);
    const char *at = text;
    if (kv_jieba_cut(j, text, length, follow, &at) != KV_OK || at != text + length) abort();
    free(text);
    kv_jieba_close(j);
    return 0;
}
