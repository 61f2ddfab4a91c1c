/* file.h - paths, mapped files and sha256 of files. */
#ifndef KV_FILE_H
#define KV_FILE_H

#include "engine/kv.h"

typedef struct kv_map {
    const void *data;
    size_t size;
    int fd; /* valid while data is not NULL */
} kv_map;

enum { KV_FILE_PATH = 4096 };

/* dir + "/" + name into out; KV_ELIMIT when too long. */
int kv_file_join(const char *dir, const char *name, char out[KV_FILE_PATH], kv_error *err);

/* Maps a whole file read-only.  Errors name the path and the reason (KV_ENOTFOUND when there is no such file); a
 * directory or an empty file is an error.  Close is safe on a zeroed kv_map. */
int kv_map_open(const char *path, kv_map *out, kv_error *err);
void kv_map_close(kv_map *m);
/* n bytes that lie at src in the mapping, read from the file into dst; any number of threads may do so.  path is used
 * in errors: KV_EIO when the file cannot be read or has become too short. */
int kv_map_read(const kv_map *m, const char *path, const void *src, size_t n, void *dst, kv_error *err);
/* n bytes in a mapping will be touched soon: a hint to fetch them meanwhile. */
void kv_map_prefetch(const void *p, size_t n);

/* Lower-case hex sha256, 64 characters and NUL; _bytes leaves an empty string if OpenSSL is out of memory. */
int kv_sha256_file(const char *path, char hex[65], kv_error *err);
void kv_sha256_bytes(const void *data, size_t n, char hex[65]);
/* n bytes as 2 n lower-case digits and NUL. */
void kv_hex(const unsigned char *bytes, size_t n, char *hex);

/* Reads a whole file (or pipe) into a NUL-terminated malloc'd buffer, size without the NUL; the caller frees. */
int kv_read_file(const char *path, char **out, size_t *size, kv_error *err);

/* What a file or folder is called in tables: the last part of its path, without `.gguf`; of a snapshot in the hub's
 * cache (.../models--ORG--NAME/snapshots/COMMIT) NAME.  Cut to size. */
void kv_file_title(const char *path, char *out, size_t size);

#endif
