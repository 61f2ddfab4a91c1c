/* process.c - posix_spawn without a shell (nothing needs quoting), and /proc as the witness of who is alive. */
#include "results/process.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static void read_line(const char *path, char *out, size_t n) {
    out[0] = 0;
    FILE *f = fopen(path, "r");
    if (!f) return;
    if (!fgets(out, (int)n, f)) out[0] = 0;
    out[strcspn(out, "\n")] = 0;
    fclose(f);
}

/* Field 22 of /proc/<pid>/stat and, in *state, field 3; 0 when it cannot be read.  The name in field 2 may hold
 * blanks and brackets, so counting starts after it. */
static int64_t start_time(int64_t pid, char *state) {
    char path[64], line[1024];
    snprintf(path, sizeof path, "/proc/%lld/stat", (long long)pid);
    read_line(path, line, sizeof line);
    char *p = strrchr(line, ')');
    *state = p && p[1] ? p[2] : 0;
    for (int field = 2; p && field < 22; field++) p = strchr(p + 1, ' ');
    return p ? strtoll(p, NULL, 10) : 0;
}

void kv_process_self(kv_process *out) {
    memset(out, 0, sizeof *out);
    if (gethostname(out->hostname, sizeof out->hostname - 1)) out->hostname[0] = 0;
    read_line("/proc/sys/kernel/random/boot_id", out->boot_id, sizeof out->boot_id);
    if (readlink("/proc/self/ns/pid", out->pid_space, sizeof out->pid_space - 1) < 0) out->pid_space[0] = 0;
    char state;
    out->pid = getpid();
    out->start = start_time(out->pid, &state);
}

int kv_process_alive(int64_t pid, int64_t start) {
    if (pid <= 0 || pid > INT_MAX) return 0;
    if (kill((pid_t)pid, 0) && errno == ESRCH) return 0;
    char state;
    int64_t now = start_time(pid, &state);
    return state != 'Z' && (!start || !now || now == start);
}

static int spawn(const char *const *argv, const char *dir, int complaints, pid_t *pid) {
    posix_spawn_file_actions_t fa;
    int rc = posix_spawn_file_actions_init(&fa);
    if (rc) return rc;
    rc = posix_spawn_file_actions_addopen(&fa, 0, "/dev/null", O_RDONLY, 0);
    if (!rc) rc = posix_spawn_file_actions_addopen(&fa, 1, "/dev/null", O_WRONLY, 0);
    if (!rc) rc = posix_spawn_file_actions_adddup2(&fa, complaints, 2);
    if (!rc) rc = posix_spawn_file_actions_addchdir_np(&fa, dir);
    if (!rc) rc = posix_spawnp(pid, argv[0], &fa, NULL, (char *const *)argv, environ);
    posix_spawn_file_actions_destroy(&fa);
    return rc;
}

int kv_process_run(const char *const *argv, const char *dir, int *status, char *complaint, size_t n, kv_error *err) {
    int fd[2];
    pid_t pid;
    complaint[0] = 0;
    if (pipe2(fd, O_CLOEXEC)) return kv_fail(err, KV_EIO, "%s: no pipe: %s", argv[0], strerror(errno));
    int rc = spawn(argv, dir, fd[1], &pid);
    close(fd[1]);
    if (rc) {
        close(fd[0]);
        /* A folder of PATH that may not be entered turns "nowhere found" into EACCES. */
        if (rc == ENOENT || (rc == EACCES && !strchr(argv[0], '/')))
            return kv_fail(err, KV_ENOTFOUND, "%s: no such program (or no folder %s)", argv[0], dir);
        return kv_fail(err, KV_EIO, "%s: cannot be run: %s", argv[0], strerror(rc));
    }
    /* Read to the end even when the buffer is full: a writer without a reader would be killed. */
    char chunk[512];
    size_t used = 0;
    ssize_t got;
    while ((got = read(fd[0], chunk, sizeof chunk)) != 0) {
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) break;
        size_t take = (size_t)got < n - 1 - used ? (size_t)got : n - 1 - used;
        memcpy(complaint + used, chunk, take);
        used += take;
    }
    complaint[used] = 0;
    close(fd[0]);
    int st;
    while (waitpid(pid, &st, 0) < 0)
        if (errno != EINTR) return kv_fail(err, KV_EIO, "%s: lost: %s", argv[0], strerror(errno));
    *status = WIFEXITED(st) ? WEXITSTATUS(st) : 128 + WTERMSIG(st);
    return KV_OK;
}
