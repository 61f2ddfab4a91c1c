/* cli.c - see cli.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/support/cli.h"

enum { MAX_ARGS = 64 };

static pid_t start(const char *const *argv, int out, int err) {
    pid_t pid = fork();
    if (pid) return pid;
    const char *named = getenv("KV_TEST_BINARY"), *full[MAX_ARGS + 2] = {named ? named : KV_BINARY};
    for (int i = 0; i < MAX_ARGS && argv[i]; i++) full[i + 1] = argv[i];
    int in = open("/dev/null", O_RDONLY);
    if (in < 0 || dup2(in, 0) < 0 || dup2(out, 1) < 0 || dup2(err, 2) < 0) _exit(126);
    execv(full[0], (char *const *)full);
    _exit(127);
}

static char *contents(FILE *f) {
    long n = fseek(f, 0, SEEK_END) ? -1 : ftell(f);
    char *text = n >= 0 ? malloc((size_t)n + 1) : NULL;
    assert_non_null(text);
    rewind(f);
    assert_int_equal(fread(text, 1, (size_t)n, f), n);
    text[n] = 0;
    fclose(f);
    return text;
}

cli_result cli_run_argv(const char *const *argv) {
    cli_result r = {0};
    int status;
    FILE *out = tmpfile(), *err = tmpfile();
    assert_non_null(out);
    assert_non_null(err);
    pid_t pid = start(argv, fileno(out), fileno(err));
    assert_true(pid > 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    r.code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    r.out = contents(out);
    r.err = contents(err);
    return r;
}

/* Cuts a copy of line into words; *copy is to be freed. */
static void split(const char *line, char **copy, const char **argv) {
    int n = 0;
    *copy = strdup(line);
    assert_non_null(*copy);
    for (char *p = strtok(*copy, " "); p; p = strtok(NULL, " ")) {
        assert_true(n < MAX_ARGS);
        argv[n++] = p;
    }
    argv[n] = NULL;
}

cli_result cli_run(const char *line) {
    const char *argv[MAX_ARGS + 1];
    char *copy;
    split(line, &copy, argv);
    cli_result r = cli_run_argv(argv);
    free(copy);
    return r;
}

void cli_free(cli_result *r) {
    free(r->out);
    free(r->err);
}

pid_t cli_start(const char *line) {
    const char *argv[MAX_ARGS + 1];
    char *copy;
    int null = open("/dev/null", O_WRONLY);
    split(line, &copy, argv);
    pid_t pid = start(argv, null, null);
    assert_true(pid > 0);
    close(null);
    free(copy);
    return pid;
}

cJSON *cli_json(const char *line, int code) {
    cli_result r = cli_run(line);
    if (r.code != code) fail_msg("trimbench %s: exit %d, expected %d:\n%s%s", line, r.code, code, r.out, r.err);
    cJSON *all = cJSON_CreateArray();
    for (char *p = strtok(r.out, "\n"); p; p = strtok(NULL, "\n")) {
        cJSON *one = cJSON_Parse(p);
        if (!one) fail_msg("no JSON: %s", p);
        cJSON_AddItemToArray(all, one);
    }
    cli_free(&r);
    return all;
}

void cli_expect(const char *line, int code, const char *text) {
    cli_result r = cli_run(line);
    if (r.code != code || !strstr(r.err, text))
        fail_msg("trimbench %s: exit %d, expected %d with '%s' in:\n%s", line, r.code, code, text, r.err);
    cli_free(&r);
}
