/* command.h - what main hands to a command, and what a command hands back. */
#ifndef KV_COMMAND_H
#define KV_COMMAND_H

#include <stdio.h>

#include "bench/options.h"
#include "bench/paths.h"

typedef struct kv_io {
    FILE *out, *err;
    const char *argv_text;      /* the command line as typed, for the record */
    const volatile int *cancel; /* becomes 1 at SIGINT or SIGTERM */
} kv_io;

enum {
    KV_EXIT_OK = 0,
    KV_EXIT_FAILED = 1, /* a cell or a check failed */
    KV_EXIT_USAGE = 2,
    KV_EXIT_START = 3, /* cannot start: no model, no database ... */
    KV_EXIT_INTERRUPTED = 130
};

/* KV_OK -> 0, KV_EARG -> usage, KV_ECANCEL -> interrupted, anything else -> cannot start. */
int kv_exit_of(int code);

/* Each returns an exit code; when err->code is set, main prints its text. */
typedef int (*kv_command)(const kv_opts *o, const kv_paths *p, const kv_io *io, kv_error *err);
int kv_cmd_run(const kv_opts *o, const kv_paths *p, const kv_io *io, kv_error *err);
int kv_cmd_generate(const kv_opts *o, const kv_paths *p, const kv_io *io, kv_error *err);
int kv_cmd_tokenize(const kv_opts *o, const kv_paths *p, const kv_io *io, kv_error *err);
int kv_cmd_speed(const kv_opts *o, const kv_paths *p, const kv_io *io, kv_error *err);
int kv_cmd_list(const kv_opts *o, const kv_paths *p, const kv_io *io, kv_error *err);
int kv_cmd_doctor(const kv_opts *o, const kv_paths *p, const kv_io *io, kv_error *err);
int kv_cmd_plot(const kv_opts *o, const kv_paths *p, const kv_io *io, kv_error *err);
int kv_cmd_paper(const kv_opts *o, const kv_paths *p, const kv_io *io, kv_error *err);
int kv_cmd_grade(const kv_opts *o, const kv_paths *p, const kv_io *io, kv_error *err);
int kv_cmd_export(const kv_opts *o, const kv_paths *p, const kv_io *io, kv_error *err);

#endif
