/* main.c - trimbench: finds the command, parses its options, runs it, prints errors; the only exit. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/command.h"
#include "bench/hostinfo.h"
#include "bench/snapshot.h"

/* In the order of kv_cmd_id. */
static const kv_command commands[KV_N_CMDS] = {kv_cmd_run,   kv_cmd_generate, kv_cmd_tokenize, kv_cmd_speed,
                                               kv_cmd_list,  kv_cmd_doctor,   kv_cmd_plot,     kv_cmd_paper,
                                               kv_cmd_grade, kv_cmd_export};

static volatile int interrupted; /* the one global: a signal handler can reach nothing else */

static void on_signal(int signal_number) {
    static const char text[] = "\ninterrupted: stopping after this step; once more stops at once\n";
    int saved = errno;
    (void)signal_number;
    interrupted = 1;
    ssize_t written = write(STDERR_FILENO, text, sizeof text - 1);
    (void)written; /* nothing can be done about it here */
    errno = saved;
}

/* The first SIGINT or SIGTERM asks the command to finish its step; the second one kills. */
static void watch_signals(void) {
    struct sigaction a = {.sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND};
    sigemptyset(&a.sa_mask);
    sigaction(SIGINT, &a, NULL);
    sigaction(SIGTERM, &a, NULL);
    signal(SIGPIPE, SIG_IGN);
}

/* The command line with the quotes that a shell needs; malloc'd, NULL without memory. */
static char *join_argv(int argc, char **argv) {
    size_t size = 1;
    for (int i = 0; i < argc; i++) size += 4 * strlen(argv[i]) + 3;
    char *text = malloc(size), *p = text;
    for (int i = 0; text && i < argc; i++) {
        int plain = argv[i][0] && !argv[i][strspn(argv[i], "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                                           "0123456789-_=.,/:+@%")];
        if (i) *p++ = ' ';
        if (!plain) *p++ = '\'';
        for (const char *s = argv[i]; *s; s++) {
            if (*s == '\'')
                p = stpcpy(p, "'\\''");
            else
                *p++ = *s;
        }
        if (!plain) *p++ = '\'';
    }
    if (text) *p = 0;
    return text;
}

static int find_command(const char *name) {
    for (int i = 0; i < KV_N_CMDS; i++)
        if (strcmp(kv_help_command((kv_cmd_id)i), name) == 0) return i;
    return -1;
}

static int unknown_command(const char *name) {
    const char *names[KV_N_CMDS];
    for (int i = 0; i < KV_N_CMDS; i++) names[i] = kv_help_command((kv_cmd_id)i);
    const char *meant = kv_nearest(name, names, KV_N_CMDS);
    fprintf(stderr, "trimbench: unknown command '%s'%s%s%s\n", name,
            meant ? ": did you mean '" : "; see trimbench --help", meant ? meant : "", meant ? "'?" : "");
    return KV_EXIT_USAGE;
}

static void print_version(void) {
    const kv_build_info *b = kv_buildinfo_get();
    printf("trimbench, commit %s%s, %s build with %s (%s), SQLite %s, CUDA %s\n", b->commit,
           b->dirty ? " + changes" : "", b->type, b->compiler, b->flags, b->sqlite,
           b->cuda[0] ? b->cuda : "not built in");
}

static int run_command(kv_cmd_id cmd, int argc, char **argv) {
    kv_error err = {0};
    kv_opts opts;
    kv_paths paths;
    kv_io io = {stdout, stderr, "", &interrupted};
    char note[KV_SNAPSHOT_NOTE];
    int code = kv_exit_of(kv_opts_parse(cmd, argc - 2, argv + 2, &opts, &err));
    if (code == KV_EXIT_OK && opts.help) {
        kv_help_usage(stdout, cmd);
    } else if (code == KV_EXIT_OK) {
        char *text = join_argv(argc, argv);
        io.argv_text = text ? text : "";
        int rc = kv_paths_find(&paths, &err);
        if (rc == KV_OK) rc = kv_snapshot_apply(&opts, &paths, note, &err);
        if (rc == KV_OK && note[0]) fprintf(stderr, "trimbench %s: note: %s\n", kv_help_command(cmd), note);
        code = kv_exit_of(rc);
        watch_signals();
        if (code == KV_EXIT_OK) code = commands[cmd](&opts, &paths, &io, &err);
        free(text);
    }
    kv_opts_free(&opts);
    if (code && err.code) fprintf(stderr, "trimbench %s: %s\n", kv_help_command(cmd), err.text);
    return code;
}

int main(int argc, char **argv) {
    int code = KV_EXIT_OK, cmd;
    const char *name = argc > 1 ? argv[1] : "--help";
    int wants_help = strcmp(name, "help") == 0 || strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0;
    if (strcmp(name, "--version") == 0) {
        print_version();
    } else if (wants_help && argc > 2) {
        if ((cmd = find_command(argv[2])) >= 0)
            kv_help_usage(stdout, (kv_cmd_id)cmd);
        else
            code = unknown_command(argv[2]);
    } else if (wants_help) {
        kv_help_overview(argc > 1 ? stdout : stderr);
        code = argc > 1 ? KV_EXIT_OK : KV_EXIT_USAGE;
    } else if ((cmd = find_command(name)) < 0) {
        code = unknown_command(name);
    } else {
        code = run_command((kv_cmd_id)cmd, argc, argv);
    }
    if (fflush(stdout) != 0) fprintf(stderr, "trimbench: writing to stdout failed\n");
    if (ferror(stdout) && (code == KV_EXIT_OK || code == KV_EXIT_START)) code = KV_EXIT_FAILED; /* it did start */
    return code;
}
