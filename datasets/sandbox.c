/* sandbox.c - starts, feeds, watches and reaps what sandbox.h describes.
 *
 * The child is made by clone without shared memory and calls nothing but system calls before it executes, because the
 * other threads of this process may hold any lock of libc.  It tells what went wrong before that through a pipe that
 * closes by itself when it succeeds. */
#include "datasets/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define STACK_BYTES (8u << 20) /* the usual limit, whatever this process has */

typedef struct {
    const kv_sandbox_job *job;
    struct sock_fprog filter;
    int files;            /* Landlock ruleset or -1 */
    int in, out[2], null; /* the child's stdin, a pipe for its stdout, /dev/null */
    int report[2];        /* errors before the start */
    int pidfd;
    pid_t pid;
} child;

typedef struct {
    int stage, error;
} failure;

static const char *const stages[] = {"a new session", "its files", "its limits",         "its folder",  "its signals",
                                     "no_new_privs",  "Landlock",  "the seccomp filter", "executing it"};

/* --- in the child: system calls only ---------------------------------------------------------------------------- */

static int limit(int what, rlim_t value) {
    struct rlimit now, want = {value, value};
    if (getrlimit(what, &now)) return -1;
    if (now.rlim_max < value) want.rlim_cur = want.rlim_max = now.rlim_max; /* an ordinary user cannot raise it */
    return setrlimit(what, &want);
}

static int set_limits(const kv_sandbox_job *job) {
    return limit(RLIMIT_AS, job->memory) || limit(RLIMIT_CPU, (rlim_t)job->cpu_seconds) ||
           limit(RLIMIT_FSIZE, job->file_size) || limit(RLIMIT_CORE, 0) || limit(RLIMIT_STACK, STACK_BYTES) ||
           limit(RLIMIT_NOFILE, 64) || limit(RLIMIT_MEMLOCK, 0) || limit(RLIMIT_MSGQUEUE, 0);
}

/* What this process ignores or blocks, the child shall not. */
static int reset_signals(void) {
    sigset_t none;
    struct sigaction plain = {.sa_handler = SIG_DFL};
    for (int s = 1; s < NSIG; s++)
        if (s != SIGKILL && s != SIGSTOP) sigaction(s, &plain, NULL); /* libc keeps two for itself and refuses them */
    sigemptyset(&none);
    return sigprocmask(SIG_SETMASK, &none, NULL);
}

static int set_files(const child *c) {
    int out = c->job->kind == KV_SANDBOX_PROGRAM ? c->out[1] : c->null;
    return dup2(c->in, 0) < 0 || dup2(out, 1) < 0 || dup2(c->null, 2) < 0 ||
           syscall(SYS_close_range, 3, ~0u, CLOSE_RANGE_CLOEXEC);
}

static void execute(const child *c) {
    const kv_sandbox_job *job = c->job;
    char path[] = "PATH=/usr/bin:/bin", locale[] = "LC_ALL=C", folder[] = "TMPDIR=.";
    char *env[] = {path, locale, folder, NULL};
    if (job->kind == KV_SANDBOX_PROGRAM)
        syscall(SYS_execveat, job->program, "", job->argv, env + 3, AT_EMPTY_PATH);
    else
        execve(job->argv[0], (char *const *)job->argv, env);
}

_Noreturn static void run_child(const child *c) {
    failure f = {0};
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    do {
        if (setsid() < 0) break;
        f.stage++;
        if (set_files(c)) break;
        f.stage++;
        if (set_limits(c->job)) break;
        f.stage++;
        if (chdir(c->job->folder ? c->job->folder : "/")) break;
        f.stage++;
        if (reset_signals()) break;
        f.stage++;
        if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)) break;
        f.stage++;
        if (c->files >= 0 && (errno = kv_sandbox_files_enforce(c->files))) break;
        f.stage++;
        if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &c->filter)) break;
        f.stage++;
        execute(c);
    } while (0);
    f.error = errno;
    if (write(c->report[1], &f, sizeof f) < 0) _exit(126);
    _exit(127);
}

/* --- in the parent ------------------------------------------------------------------------------------------------ */

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void close_one(int *fd) {
    if (*fd >= 0) close(*fd);
    *fd = -1;
}

static void close_child(child *c) {
    int *all[] = {&c->files, &c->in, &c->out[0], &c->out[1], &c->null, &c->report[0], &c->report[1], &c->pidfd};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) close_one(all[i]);
    free(c->filter.filter);
}

/* stdin as a file in memory, which nothing needs to pump. */
static int open_input(const kv_sandbox_job *job) {
    int fd = memfd_create("input", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    for (size_t at = 0; fd >= 0 && at < job->n_input;) {
        ssize_t n = write(fd, job->input + at, job->n_input - at);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return close(fd), -1;
        at += (size_t)n;
    }
    if (fd >= 0 && (lseek(fd, 0, SEEK_SET) || fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK)))
        return close(fd), -1;
    return fd;
}

static int open_child(child *c, kv_error *err) {
    kv_sandbox_filter f;
    int rc = kv_sandbox_filter_make(c->job, &f, err);
    if (rc) return rc;
    c->filter = (struct sock_fprog){f.n, f.code};
    if (c->job->kind == KV_SANDBOX_COMPILER) c->files = kv_sandbox_files_open(c->job);
    c->in = open_input(c->job);
    c->null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (c->in < 0 || c->null < 0 || pipe2(c->out, O_CLOEXEC) || pipe2(c->report, O_CLOEXEC))
        return kv_fail(err, KV_EIO, "no sandbox: pipes and files: %s", strerror(errno));
    return KV_OK;
}

static pid_t clone_child(child *c, unsigned long namespaces) {
    long pid = syscall(SYS_clone, namespaces | CLONE_PIDFD | SIGCHLD, 0, &c->pidfd, 0, 0);
    if (!pid) run_child(c);
    return (pid_t)pid;
}

static int start_child(child *c, kv_error *err) {
    failure f = {0};
    c->pid = -1;
    if (c->job->kind == KV_SANDBOX_COMPILER)
        c->pid = clone_child(c, CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC);
    if (c->pid < 0) c->pid = clone_child(c, 0); /* no namespaces for the likes of us */
    if (c->pid < 0) return kv_fail(err, KV_EIO, "no sandbox: a process: %s", strerror(errno));
    close_one(&c->report[1]);
    close_one(&c->out[1]);
    ssize_t n;
    do n = read(c->report[0], &f, sizeof f);
    while (n < 0 && errno == EINTR);
    if (!n) return KV_OK;
    return kv_fail(err, KV_EUNSUPPORTED, "no sandbox: %s: %s", stages[n == sizeof f ? f.stage : 0], strerror(f.error));
}

static void reap(const child *c, int kill_first, kv_sandbox_end *out) {
    siginfo_t info = {0};
    if (kill_first) syscall(SYS_pidfd_send_signal, c->pidfd, SIGKILL, NULL, 0);
    while (waitid(P_PIDFD, (id_t)c->pidfd, &info, WEXITED | WNOWAIT) && errno == EINTR) {
    }
    kill(-c->pid, SIGKILL); /* the rest of a compiler without namespaces; the number is still the child's */
    while (waitid(P_PIDFD, (id_t)c->pidfd, &info, WEXITED) && errno == EINTR) {
    }
    out->how = info.si_code == CLD_EXITED ? KV_SANDBOX_EXITED : KV_SANDBOX_SIGNALED;
    out->status = info.si_status;
}

/* Reads what there is; 0 at the end, -1 when it is more than was to be kept. */
static int read_output(const child *c, kv_sandbox_end *out) {
    size_t max = c->job->max_output;
    ssize_t n = read(c->out[0], out->output + out->n_output, max + 1 - out->n_output);
    if (n < 0) return errno == EINTR || errno == EAGAIN;
    out->n_output += (size_t)n;
    if (out->n_output > max) return -1;
    return n > 0;
}

/* Until the child has ended and its output too, or the clock. */
static int watch(const child *c, kv_sandbox_end *out) {
    double end = now() + c->job->seconds;
    struct pollfd p[2] = {{.fd = c->out[0], .events = POLLIN}, {.fd = c->pidfd, .events = POLLIN}};
    while (p[0].fd >= 0 || p[1].fd >= 0) {
        double left = end - now();
        if (left <= 0) return KV_SANDBOX_TIMEOUT;
        if (poll(p, 2, (int)(left * 1e3) + 1) < 0) continue;
        if (p[1].revents) p[1].fd = -1;
        if (!p[0].revents) continue;
        int more = read_output(c, out);
        if (more < 0) return KV_SANDBOX_TOO_LONG;
        if (!more) p[0].fd = -1;
    }
    return KV_SANDBOX_EXITED;
}

int kv_sandbox_run(const kv_sandbox_job *job, kv_sandbox_end *out, kv_error *err) {
    child c = {.job = job, .files = -1, .in = -1, .out = {-1, -1}, .null = -1, .report = {-1, -1}, .pidfd = -1};
    memset(out, 0, sizeof *out);
    out->output = malloc(job->max_output + 2);
    int rc = out->output ? open_child(&c, err) : kv_fail(err, KV_ENOMEM, "no memory for a program's output");
    if (!rc) {
        rc = start_child(&c, err);
        int how = rc ? KV_SANDBOX_EXITED : watch(&c, out);
        if (c.pid > 0) reap(&c, how != KV_SANDBOX_EXITED, out);
        if (how != KV_SANDBOX_EXITED) out->how = how;
        out->output[out->n_output] = 0;
    }
    close_child(&c);
    return rc;
}
