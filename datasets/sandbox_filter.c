/* sandbox_filter.c - the seccomp filters of the sandbox (sandbox.h), written by libseccomp.
 *
 * The program's is a list of what is allowed: memory, the three open files, time, and what libc does at start and
 * end.  Everything else fails with EPERM, which libc and libstdc++ survive.  execveat is allowed for the file that the
 * program comes from; that descriptor closes as the program starts, and nothing can open another.  The compiler's
 * filter is a list of what is forbidden. */
#include "datasets/sandbox.h"

#include <errno.h>
#include <linux/filter.h>
#include <seccomp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define CALL(name) SCMP_SYS(name)

static const int program_calls[] = {
    CALL(read),
    CALL(readv),
    CALL(write),
    CALL(writev),
    CALL(lseek),
    CALL(fstat),
    CALL(close),
    CALL(brk),
    CALL(mmap),
    CALL(munmap),
    CALL(mprotect),
    CALL(mremap),
    CALL(madvise),
    CALL(exit),
    CALL(exit_group),
    CALL(arch_prctl),
    CALL(rseq),
    CALL(set_tid_address),
    CALL(set_robust_list),
    CALL(getrandom),
    CALL(futex),
    CALL(rt_sigaction),
    CALL(rt_sigprocmask),
    CALL(rt_sigreturn),
    CALL(sigaltstack),
    CALL(clock_gettime),
    CALL(gettimeofday),
    CALL(time),
    CALL(times),
    CALL(getrusage),
    CALL(nanosleep),
    CALL(clock_nanosleep),
    CALL(sched_yield),
    CALL(sysinfo),
    CALL(getpid),
    CALL(gettid),
};

static const int compiler_denied[] = {
    CALL(socket),
    CALL(socketpair),
    CALL(connect),
    CALL(bind),
    CALL(listen),
    CALL(accept),
    CALL(accept4),
    CALL(ptrace),
    CALL(process_vm_readv),
    CALL(process_vm_writev),
    CALL(mount),
    CALL(umount2),
    CALL(pivot_root),
    CALL(chroot),
    CALL(unshare),
    CALL(setns),
    CALL(bpf),
    CALL(keyctl),
    CALL(add_key),
    CALL(request_key),
    CALL(io_uring_setup),
    CALL(userfaultfd),
    CALL(perf_event_open),
    CALL(open_by_handle_at),
    CALL(kexec_load),
    CALL(init_module),
    CALL(finit_module),
};

static int add_rules(scmp_filter_ctx ctx, const kv_sandbox_job *job) {
    int rc = 0;
    if (job->kind == KV_SANDBOX_COMPILER) {
        for (size_t i = 0; !rc && i < sizeof compiler_denied / sizeof *compiler_denied; i++)
            rc = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EPERM), compiler_denied[i], 0);
        return rc;
    }
    for (size_t i = 0; !rc && i < sizeof program_calls / sizeof *program_calls; i++)
        rc = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, program_calls[i], 0);
    if (!rc)
        rc = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, CALL(execveat), 1,
                              SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)job->program, 0));
    if (!rc)
        rc = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, CALL(prlimit64), 1, SCMP_A2(SCMP_CMP_EQ, 0, 0)); /* only asking */
    return rc;
}

/* libseccomp writes a filter to a descriptor; here, one in memory. */
static int export_filter(scmp_filter_ctx ctx, kv_sandbox_filter *out) {
    struct stat st;
    int fd = memfd_create("filter", MFD_CLOEXEC), ok = 0;
    if (fd < 0) return 0;
    if (!seccomp_export_bpf(ctx, fd) && !fstat(fd, &st) && st.st_size > 0) {
        out->code = malloc((size_t)st.st_size);
        out->n = (unsigned short)((size_t)st.st_size / sizeof(struct sock_filter));
        ok = out->code && pread(fd, out->code, (size_t)st.st_size, 0) == st.st_size;
    }
    close(fd);
    return ok;
}

int kv_sandbox_filter_make(const kv_sandbox_job *job, kv_sandbox_filter *out, kv_error *err) {
    scmp_filter_ctx ctx = seccomp_init(job->kind == KV_SANDBOX_PROGRAM ? SCMP_ACT_ERRNO(EPERM) : SCMP_ACT_ALLOW);
    memset(out, 0, sizeof *out);
    if (!ctx) return kv_fail(err, KV_EUNSUPPORTED, "no sandbox: libseccomp does not know this machine");
    int rc = add_rules(ctx, job), ok = !rc && export_filter(ctx, out);
    seccomp_release(ctx);
    if (ok) return KV_OK;
    free(out->code);
    out->code = NULL;
    return kv_fail(err, KV_EUNSUPPORTED, "no sandbox: the system call filter could not be made (%s)",
                   rc ? strerror(-rc) : strerror(errno));
}
