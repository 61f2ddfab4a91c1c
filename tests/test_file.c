/* test_file.c - mapped files, sha256 (FIPS 180-4 test vectors) and whole-file reads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/file.h"
#include "tests/support/scratch.h"

static const char sha_abc[] = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
static const char sha_empty[] = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
static const char sha_million_a[] = "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0";

static void hashes_bytes_and_files_alike(void **state) {
    (void)state;
    scratch s;
    char hex[65], again[65];
    kv_error err;
    kv_sha256_bytes("abc", 3, hex);
    assert_string_equal(hex, sha_abc);
    kv_sha256_bytes("", 0, hex);
    assert_string_equal(hex, sha_empty);
    size_t n = (3u << 20) + 1; /* whole chunks and one byte */
    char *big = malloc(n);
    assert_non_null(big);
    memset(big, 'a', n);
    kv_sha256_bytes(big, 1000000, hex);
    assert_string_equal(hex, sha_million_a);
    assert_int_equal(scratch_open(&s), 0);
    assert_int_equal(kv_sha256_file(scratch_write(&s, "abc", "abc", 3), hex, &err), KV_OK);
    assert_string_equal(hex, sha_abc);
    assert_int_equal(kv_sha256_file(scratch_write(&s, "empty", "", 0), hex, &err), KV_OK);
    assert_string_equal(hex, sha_empty);
    for (; n > 3u << 20; n--) { /* and whole chunks alone */
        assert_int_equal(kv_sha256_file(scratch_write(&s, "big", big, n), hex, &err), KV_OK);
        kv_sha256_bytes(big, n, again);
        assert_string_equal(hex, again);
    }
    free(big);
    scratch_close(&s);
}

static void maps_what_was_written(void **state) {
    (void)state;
    scratch s;
    kv_map m = {0};
    kv_error err;
    assert_int_equal(scratch_open(&s), 0);
    assert_int_equal(kv_map_open(scratch_write(&s, "f", "hello", 5), &m, &err), KV_OK);
    assert_int_equal(m.size, 5);
    assert_memory_equal(m.data, "hello", 5);
    kv_map_close(&m);
    assert_null(m.data);
    kv_map_close(&m);
    scratch_close(&s);
}

static void names_path_and_reason_when_a_file_cannot_be_used(void **state) {
    (void)state;
    scratch s;
    kv_map m = {0};
    kv_error err;
    char hex[65], *text = NULL;
    size_t n;
    assert_int_equal(scratch_open(&s), 0);
    const char *absent = scratch_path(&s, "absent");
    assert_int_equal(kv_map_open(absent, &m, &err), KV_ENOTFOUND);
    assert_non_null(strstr(err.text, absent));
    assert_non_null(strstr(err.text, strerror(2)));
    assert_int_equal(kv_sha256_file(absent, hex, &err), KV_ENOTFOUND);
    assert_int_equal(kv_read_file(absent, &text, &n, &err), KV_ENOTFOUND);
    assert_int_equal(kv_map_open(s.dir, &m, &err), KV_EIO);
    assert_int_equal(kv_sha256_file(s.dir, hex, &err), KV_EIO);
    assert_int_equal(kv_read_file(s.dir, &text, &n, &err), KV_EIO);
    assert_non_null(strstr(err.text, "is a directory"));
    assert_int_equal(kv_map_open("/dev/null", &m, &err), KV_EIO);
    assert_non_null(strstr(err.text, "not a regular file"));
    assert_int_equal(kv_map_open(scratch_write(&s, "empty", "", 0), &m, &err), KV_EFORMAT);
    assert_null(m.data);
    assert_null(text);
    scratch_close(&s);
}

static void reads_whole_files_with_a_terminator(void **state) {
    (void)state;
    scratch s;
    kv_error err;
    char *text;
    size_t n;
    assert_int_equal(scratch_open(&s), 0);
    assert_int_equal(kv_read_file(scratch_write(&s, "f", "a\0b", 3), &text, &n, &err), KV_OK);
    assert_int_equal(n, 3);
    assert_memory_equal(text, "a\0b", 4);
    free(text);
    assert_int_equal(kv_read_file(scratch_write(&s, "empty", "", 0), &text, &n, &err), KV_OK);
    assert_int_equal(n, 0);
    assert_string_equal(text, "");
    free(text);
    scratch_close(&s);
}

static void reads_pipes_of_any_length(void **state) {
    (void)state;
    enum { LENGTH = 300000 };
    scratch s;
    kv_error err;
    char *text;
    size_t n;
    assert_int_equal(scratch_open(&s), 0);
    assert_int_equal(mkfifo(scratch_path(&s, "pipe"), 0600), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        char *block = calloc(1, LENGTH);
        _exit(block && scratch_write(&s, "pipe", block, LENGTH) ? 0 : 1);
    }
    assert_int_equal(kv_read_file(s.path, &text, &n, &err), KV_OK);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_int_equal(n, LENGTH);
    for (size_t i = 0; i <= n; i++) assert_int_equal(text[i], 0);
    free(text);
    scratch_close(&s);
}

static void titles_a_path_by_its_last_part(void **state) {
    (void)state;
    static const char *const cases[][2] = {{"/models/Tiny-1B.Q4_1.gguf", "Tiny-1B.Q4_1"},
                                           {"tiny.gguf", "tiny"},
                                           {"policies/gates-a/", "gates-a"},
                                           {"gates-b", "gates-b"},
                                           {"/hub/models--Qwen--Qwen3-4B/snapshots/0a1b", "Qwen3-4B"},
                                           {"/hub/models--a--b--c/snapshots/0a1b/", "b--c"},
                                           {"/a/snapshots/b", "b"},
                                           {"models--a/snapshots/b", "b"},
                                           {".gguf", ".gguf"},
                                           {"/", ""},
                                           {"", ""}};
    char title[32];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        kv_file_title(cases[i][0], title, sizeof title);
        assert_string_equal(title, cases[i][1]);
    }
    kv_file_title("/a/long-name", title, 5);
    assert_string_equal(title, "long");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(titles_a_path_by_its_last_part),
        cmocka_unit_test(hashes_bytes_and_files_alike),
        cmocka_unit_test(maps_what_was_written),
        cmocka_unit_test(names_path_and_reason_when_a_file_cannot_be_used),
        cmocka_unit_test(reads_whole_files_with_a_terminator),
        cmocka_unit_test(reads_pipes_of_any_length),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
