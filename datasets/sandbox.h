/* sandbox.h - runs a compiler on untrusted source, and the program that comes out, without trusting either.
 *
 * What a language model writes may loop for ever, fork, allocate everything, fill the disk, read files or open
 * connections.  Nothing is ever run unconfined: where the kernel refuses the confinement, there is an error instead.
 *
 * A program runs as one process behind a seccomp filter that lists the few system calls of a statically linked program
 * which reads stdin, writes stdout, computes and allocates.  It can open no file and no socket, start no process or
 * thread, signal nobody and execute nothing further, so it needs no namespaces and works in containers that forbid
 * them.  Limits on memory, processor time, file size and output, and a clock on the wall, do the rest.
 *
 * A compiler is trusted code at work on untrusted text.  It may start processes and use files, so it gets process,
 * network and IPC namespaces of its own where the kernel allows an ordinary user to make them (then the death of the
 * first process takes all others along), Landlock rules that leave it the system's compiler and its own folder where
 * the kernel has Landlock (5.13), and always a filter without sockets, tracing and mounts, and the limits.
 *
 * Both die with the thread that started them.  The functions hold no locks and know no other child, so any number of
 * threads may use them at once. */
#ifndef KV_SANDBOX_H
#define KV_SANDBOX_H

#include "engine/kv.h"

enum { KV_SANDBOX_COMPILER, KV_SANDBOX_PROGRAM };

typedef struct kv_sandbox_job {
    int kind;                /* KV_SANDBOX_* */
    const char *const *argv; /* NULL-terminated; argv[0] is the absolute path of a compiler, any name of a program */
    int program;             /* a program's open file, which a statically linked executable must be in */
    const char *folder;      /* the compiler's working folder, and all that it may write to */
    const char *input;       /* stdin */
    size_t n_input;
    size_t max_output;  /* bytes of stdout to keep; a program that writes more is stopped.  A compiler's is dropped */
    double seconds;     /* on the wall */
    int cpu_seconds;    /* of the processor, each process; whoever uses them up ends by a signal */
    uint64_t memory;    /* bytes of address space */
    uint64_t file_size; /* largest file, bytes; 0 for programs, which can open none */
} kv_sandbox_job;

enum { KV_SANDBOX_EXITED, KV_SANDBOX_SIGNALED, KV_SANDBOX_TIMEOUT, KV_SANDBOX_TOO_LONG };

typedef struct kv_sandbox_end {
    int how;    /* KV_SANDBOX_EXITED, ... */
    int status; /* exit status or signal */
    char *output;
    size_t n_output;
} kv_sandbox_end;

/* Runs the job to its end, whatever that is.  KV_EUNSUPPORTED when it could not be confined or started; then nothing
 * of it ran.  The caller frees out->output, also after an error. */
int kv_sandbox_run(const kv_sandbox_job *job, kv_sandbox_end *out, kv_error *err);

/* Parts of it, for sandbox.c alone. */
typedef struct kv_sandbox_filter {
    void *code; /* malloc'd struct sock_filter[n] */
    unsigned short n;
} kv_sandbox_filter;
int kv_sandbox_filter_make(const kv_sandbox_job *job, kv_sandbox_filter *out, kv_error *err);
/* A Landlock ruleset for the compiler, -1 where the kernel has none. */
int kv_sandbox_files_open(const kv_sandbox_job *job);
/* In the child: 0, or an errno. */
int kv_sandbox_files_enforce(int ruleset);

#endif
