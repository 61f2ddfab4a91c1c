/* file.c - paths, mapped files, sha256 of files (OpenSSL's EVP) and whole small files. */
#include "engine/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/evp.h>

int kv_file_join(const char *dir, const char *name, char out[KV_FILE_PATH], kv_error *err) {
    size_t n = strlen(dir);
    int slash = n > 0 && dir[n - 1] == '/';
    if (snprintf(out, KV_FILE_PATH, "%s%s%s", dir, slash ? "" : "/", name) < KV_FILE_PATH) return KV_OK;
    return kv_fail(err, KV_ELIMIT, "%.200s...: path is too long", dir);
}

static int open_file(const char *path, int *fd, struct stat *st, kv_error *err) {
    *fd = open(path, O_RDONLY | O_CLOEXEC);
    if (*fd < 0)
        return kv_fail(err, errno == ENOENT ? KV_ENOTFOUND : KV_EIO, "%s: cannot open: %s", path, strerror(errno));
    int rc = KV_OK;
    if (fstat(*fd, st) != 0) {
        rc = kv_fail(err, KV_EIO, "%s: cannot stat: %s", path, strerror(errno));
    } else if (S_ISDIR(st->st_mode)) {
        rc = kv_fail(err, KV_EIO, "%s: is a directory, give a file", path);
    }
    if (rc != KV_OK) close(*fd);
    return rc;
}

/* Up to cap bytes, fewer only at the end of the file. */
static int read_full(int fd, const char *path, void *buf, size_t cap, size_t *got, kv_error *err) {
    *got = 0;
    while (*got < cap) {
        ssize_t n = read(fd, (char *)buf + *got, cap - *got);
        if (n == 0) break;
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return kv_fail(err, KV_EIO, "%s: cannot read: %s", path, strerror(errno));
        *got += (size_t)n;
    }
    return KV_OK;
}

int kv_map_open(const char *path, kv_map *out, kv_error *err) {
    struct stat st;
    int fd, rc = open_file(path, &fd, &st, err);
    if (rc != KV_OK) return rc;
    if (!S_ISREG(st.st_mode)) {
        rc = kv_fail(err, KV_EIO, "%s: not a regular file, cannot be mapped", path);
    } else if (st.st_size == 0) {
        rc = kv_fail(err, KV_EFORMAT, "%s: empty file", path);
    } else {
        void *p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (p == MAP_FAILED) {
            rc = kv_fail(err, KV_EIO, "%s: cannot map %lld bytes: %s", path, (long long)st.st_size, strerror(errno));
        } else {
            out->data = p;
            out->size = (size_t)st.st_size;
            out->fd = fd;
        }
    }
    if (rc != KV_OK) close(fd);
    return rc;
}

void kv_map_close(kv_map *m) {
    if (m->data) {
        munmap((void *)m->data, m->size);
        close(m->fd);
    }
    *m = (kv_map){0};
}

int kv_map_read(const kv_map *m, const char *path, const void *src, size_t n, void *dst, kv_error *err) {
    size_t at = (size_t)((const char *)src - (const char *)m->data), done = 0;
    while (done < n) {
        ssize_t got = pread(m->fd, (char *)dst + done, n - done, (off_t)(at + done));
        if (got == 0)
            return kv_fail(err, KV_EIO, "%s: ends at byte %zu instead of %zu: it was cut while it was open", path,
                           at + done, m->size);
        if (got < 0 && errno != EINTR) return kv_fail(err, KV_EIO, "%s: cannot read: %s", path, strerror(errno));
        if (got > 0) done += (size_t)got;
    }
    return KV_OK;
}

void kv_map_prefetch(const void *p, size_t n) {
    size_t over = (uintptr_t)p % (size_t)sysconf(_SC_PAGESIZE);
    (void)madvise((char *)p - over, n + over, MADV_WILLNEED);
}

void kv_hex(const unsigned char *bytes, size_t n, char *hex) {
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < n; i++) {
        hex[2 * i] = digits[bytes[i] >> 4];
        hex[2 * i + 1] = digits[bytes[i] & 15];
    }
    hex[2 * n] = 0;
}

int kv_sha256_file(const char *path, char hex[65], kv_error *err) {
    enum { CHUNK = 1 << 20 };
    struct stat st;
    int fd, rc = open_file(path, &fd, &st, err);
    if (rc != KV_OK) return rc;
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    unsigned char *buf = malloc(CHUNK), digest[32];
    int ok = ctx && buf && EVP_DigestInit_ex(ctx, EVP_sha256(), NULL) == 1;
    size_t got = CHUNK;
    while (ok && rc == KV_OK && got == CHUNK) {
        rc = read_full(fd, path, buf, CHUNK, &got, err);
        if (rc == KV_OK) ok = EVP_DigestUpdate(ctx, buf, got) == 1;
    }
    if (ok && rc == KV_OK) ok = EVP_DigestFinal_ex(ctx, digest, NULL) == 1;
    if (!ok) rc = kv_fail(err, KV_ENOMEM, "%s: no memory for sha256", path);
    if (rc == KV_OK) kv_hex(digest, sizeof digest, hex);
    EVP_MD_CTX_free(ctx);
    free(buf);
    close(fd);
    return rc;
}

void kv_sha256_bytes(const void *data, size_t n, char hex[65]) {
    unsigned char digest[32];
    hex[0] = 0;
    if (EVP_Digest(data, n, digest, NULL, EVP_sha256(), NULL) == 1) kv_hex(digest, sizeof digest, hex);
}

int kv_read_file(const char *path, char **out, size_t *size, kv_error *err) {
    struct stat st;
    int fd, rc = open_file(path, &fd, &st, err);
    if (rc != KV_OK) return rc;
    /* One byte more than the size stat reports, so that the usual file ends in the first round; pipes grow. */
    size_t cap = (st.st_size > 0 ? (size_t)st.st_size : 4096) + 1, n = 0;
    char *buf = malloc(cap + 1);
    while (buf && rc == KV_OK) {
        size_t got;
        rc = read_full(fd, path, buf + n, cap - n, &got, err);
        if (rc != KV_OK) break;
        n += got;
        if (n < cap) break;
        cap *= 2;
        char *bigger = realloc(buf, cap + 1);
        if (!bigger) free(buf);
        buf = bigger;
    }
    close(fd);
    if (!buf) return kv_fail(err, KV_ENOMEM, "%s: no memory for %zu bytes", path, cap);
    if (rc != KV_OK) {
        free(buf);
        return rc;
    }
    buf[n] = 0;
    *out = buf;
    *size = n;
    return KV_OK;
}

/* Start of the last part of a path that ends before `end`. */
static const char *last_part(const char *path, const char *end) {
    while (end > path && end[-1] != '/') end--;
    return end;
}

static int part_is(const char *path, const char *end, const char *text) {
    size_t n = strlen(text);
    return (size_t)(end - path) >= n && memcmp(end - n, text, n) == 0;
}

void kv_file_title(const char *path, char *out, size_t size) {
    static const char snapshots[] = "/snapshots/", models[] = "models--";
    const char *end = path + strlen(path);
    while (end > path + 1 && end[-1] == '/') end--;
    const char *start = last_part(path, end);
    if (part_is(path, start, snapshots)) {
        const char *repo_end = start - (sizeof snapshots - 1), *repo = last_part(path, repo_end);
        const char *name = memmem(repo, (size_t)(repo_end - repo), "--", 2);
        if (name) name = memmem(name + 2, (size_t)(repo_end - name - 2), "--", 2);
        if (name && strncmp(repo, models, sizeof models - 1) == 0) {
            start = name + 2;
            end = repo_end;
        }
    }
    if (end - start > 5 && memcmp(end - 5, ".gguf", 5) == 0) end -= 5;
    snprintf(out, size, "%.*s", (int)(end - start), start);
}
