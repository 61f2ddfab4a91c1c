/* sandbox_files.c - which files the sandbox's compiler may use (sandbox.h), by Landlock: the system's programs,
 * libraries and headers to read and run, its own folder for everything.  glibc has no wrappers for the three calls. */
#include "datasets/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <sys/syscall.h>
#include <unistd.h>

#define READ (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR | LANDLOCK_ACCESS_FS_EXECUTE)
#define ALL ((LANDLOCK_ACCESS_FS_MAKE_SYM << 1) - 1) /* every right of the first version */

static int allow(int ruleset, const char *path, uint64_t rights) {
    struct landlock_path_beneath_attr rule = {.allowed_access = rights, .parent_fd = open(path, O_PATH | O_CLOEXEC)};
    if (rule.parent_fd < 0) return errno == ENOENT ? 0 : -1; /* not every system has a /lib64 */
    int rc = (int)syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0);
    close(rule.parent_fd);
    return rc;
}

int kv_sandbox_files_open(const kv_sandbox_job *job) {
    struct landlock_ruleset_attr attr = {.handled_access_fs = ALL};
    int ruleset = (int)syscall(SYS_landlock_create_ruleset, &attr, sizeof attr, 0);
    if (ruleset < 0) return -1;
    int rc = allow(ruleset, job->folder, ALL);
    rc |= allow(ruleset, "/usr", READ) | allow(ruleset, "/bin", READ) | allow(ruleset, "/lib", READ);
    rc |= allow(ruleset, "/lib64", READ) | allow(ruleset, "/etc/ld.so.cache", LANDLOCK_ACCESS_FS_READ_FILE);
    if (!rc) return ruleset;
    close(ruleset);
    return -1;
}

int kv_sandbox_files_enforce(int ruleset) {
    return syscall(SYS_landlock_restrict_self, ruleset, 0) ? errno : 0;
}
