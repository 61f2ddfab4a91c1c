/* cli.h - runs the real program, as a user would, and looks at what comes back. */
#ifndef KV_TEST_CLI_H
#define KV_TEST_CLI_H

#include <sys/types.h>

#include <cjson/cJSON.h>

typedef struct cli_result {
    int code;        /* exit status; 128 + signal when it was killed */
    char *out, *err; /* NUL-terminated; free with cli_free */
} cli_result;

/* Splits `line` at blanks (no quoting) and runs the program of the build with it (that of KV_TEST_BINARY where that is
 * set), input empty.  Fails the test when it cannot start. */
cli_result cli_run(const char *line);
/* The same with the arguments as they are; argv ends with NULL. */
cli_result cli_run_argv(const char *const *argv);
void cli_free(cli_result *r);

/* Starts it and does not wait; output is dropped. */
pid_t cli_start(const char *line);

/* Runs `line`, which prints one JSON object a line, and checks the exit code; an array of them, the caller's. */
cJSON *cli_json(const char *line, int code);

/* Runs `line` and checks the exit code and that stderr contains `text`. */
void cli_expect(const char *line, int code, const char *text);

#endif
