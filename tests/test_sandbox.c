/* test_sandbox.c - what untrusted programs try: each attempt must fail inside and leave nothing outside.
 *
 * The programs are C without libstdc++, which compiles in a fraction of a second; the sandbox does not know the
 * difference.  Every one prints what it achieved. */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include <cmocka.h>

#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "datasets/sandbox.h"
#include "tests/support/scratch.h"

#define HEAD                                                                                                           \
    "#include <arpa/inet.h>\n#include <dirent.h>\n#include <errno.h>\n#include <fcntl.h>\n#include <pthread.h>\n"      \
    "#include <signal.h>\n#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n#include <sys/mman.h>\n"       \
    "#include <sys/ptrace.h>\n#include <sys/resource.h>\n#include <sys/socket.h>\n#include <sys/stat.h>\n"             \
    "#include <unistd.h>\nextern char **environ;\n"

static kv_sandbox_end compile_with(scratch *s, const char *source, double seconds, kv_error *err, int *rc) {
    static const char *const argv[] = {"/usr/bin/gcc", "-O", "-static", "-o", "program", "-x", "c", "-", NULL};
    kv_sandbox_job job = {.kind = KV_SANDBOX_COMPILER,
                          .argv = argv,
                          .folder = s->dir,
                          .input = source,
                          .n_input = strlen(source),
                          .seconds = seconds,
                          .cpu_seconds = 20,
                          .memory = (uint64_t)2 << 30,
                          .file_size = (uint64_t)64 << 20};
    kv_sandbox_end end;
    *rc = kv_sandbox_run(&job, &end, err);
    free(end.output);
    return end;
}

/* An open executable of HEAD + source. */
static int compile(const char *source) {
    scratch s;
    kv_error err = {0};
    int rc;
    char *text = NULL;
    assert_int_equal(scratch_open(&s), 0);
    assert_true(asprintf(&text, "%s%s", HEAD, source) > 0);
    kv_sandbox_end end = compile_with(&s, text, 120, &err, &rc);
    free(text);
    if (rc) fail_msg("%s", err.text);
    if (end.how != KV_SANDBOX_EXITED || end.status)
        fail_msg("does not compile (%d, %d): %s", end.how, end.status, source);
    int fd = open(scratch_path(&s, "program"), O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    scratch_close(&s);
    return fd;
}

static kv_sandbox_end run_program(int program, const char *input, size_t max_output, double seconds, int cpu_seconds) {
    static const char *const argv[] = {"program", NULL};
    kv_sandbox_job job = {.kind = KV_SANDBOX_PROGRAM,
                          .argv = argv,
                          .program = program,
                          .input = input,
                          .n_input = strlen(input),
                          .max_output = max_output,
                          .seconds = seconds,
                          .cpu_seconds = cpu_seconds,
                          .memory = (uint64_t)1 << 30};
    kv_sandbox_end end;
    kv_error err = {0};
    if (kv_sandbox_run(&job, &end, &err)) fail_msg("%s", err.text);
    return end;
}

static void expect_output(const char *source, const char *input, const char *want) {
    int program = compile(source);
    kv_sandbox_end end = run_program(program, input, 1000, 30, 10);
    if (end.how != KV_SANDBOX_EXITED || strcmp(end.output, want))
        fail_msg("how %d, status %d, output '%s', wanted '%s'", end.how, end.status, end.output, want);
    free(end.output);
    close(program);
}

static void reads_stdin_and_writes_stdout(void **state) {
    (void)state;
    expect_output("int main(void){int a,b; scanf(\"%d%d\",&a,&b); printf(\"%d\\n\",a+b); fputs(\"err\",stderr);}",
                  "2 40\n", "42\n");
}

/* One program that tries everything which must fail with an error, so that it is compiled once. */
static void a_program_can_open_nothing_and_start_nothing(void **state) {
    static const char source[] =
        "#define TRY(what, bad) do { if (!(bad)) puts(what); } while (0)\n"
        "static void *thread(void *p) { return p; }\n"
        "int main(void) {\n"
        "    pthread_t t; struct rlimit r = {RLIM_INFINITY, RLIM_INFINITY}; char *no[] = {0}; char path[64];\n"
        "    TRY(\"read a file\", open(\"/etc/passwd\", O_RDONLY) < 0);\n"
        "    TRY(\"listed a folder\", opendir(\"/\") == 0);\n"
        "    TRY(\"wrote a file\", open(\"/tmp/trimbench-escape\", O_CREAT | O_WRONLY, 0600) < 0);\n"
        "    TRY(\"looked at a file\", access(\"/etc/passwd\", R_OK) < 0);\n"
        "    TRY(\"removed a file\", unlink(\"/tmp/trimbench-escape\") < 0 && errno == EPERM);\n"
        "    TRY(\"made a folder\", mkdir(\"/tmp/trimbench-escape\", 0700) < 0);\n"
        "    TRY(\"opened a socket\", socket(AF_INET, SOCK_STREAM, 0) < 0);\n"
        "    TRY(\"opened a local socket\", socket(AF_UNIX, SOCK_STREAM, 0) < 0);\n"
        "    TRY(\"forked\", fork() < 0);\n"
        "    TRY(\"made a thread\", pthread_create(&t, 0, thread, 0) != 0);\n"
        "    TRY(\"ran a shell\", system(\"true\") != 0);\n"
        "    for (int fd = 0; fd < 64; fd++) { TRY(\"executed\", fexecve(fd, no, no) < 0); }\n"
        "    TRY(\"executed by name\", execve(\"/bin/sh\", no, no) < 0);\n"
        "    TRY(\"signalled\", kill(getppid(), 0) < 0 && kill(1, 0) < 0 && kill(-1, SIGKILL) < 0);\n"
        "    TRY(\"traced\", ptrace(PTRACE_TRACEME, 0, 0, 0) < 0);\n"
        "    TRY(\"raised a limit\", setrlimit(RLIMIT_AS, &r) < 0);\n"
        "    TRY(\"shared memory\", memfd_create(\"x\", 0) < 0);\n"
        "    for (int fd = 3; fd < 64; fd++) { TRY(\"inherited a file\", lseek(fd, 0, SEEK_CUR) < 0 && errno == "
        "EBADF); }\n"
        "    TRY(\"inherited the environment\", !environ[0]);\n"
        "    signal(SIGXFSZ, SIG_IGN); TRY(\"changed stdin\", write(0, \"x\", 1) < 0);\n"
        "    puts(\"end\");\n"
        "    return 0;\n"
        "}\n";
    int outside = open("/dev/null", O_RDONLY); /* without O_CLOEXEC: what another thread may have open */
    (void)state;
    expect_output(source, "in", "end\n");
    assert_int_equal(access("/tmp/trimbench-escape", F_OK), -1);
    close(outside);
}

static void an_endless_loop_ends(void **state) {
    int program = compile("int main(void){volatile int x=0; for(;;) x++;}");
    (void)state;
    kv_sandbox_end end = run_program(program, "", 10, 60, 1);
    assert_int_equal(end.how, KV_SANDBOX_SIGNALED); /* by its processor time */
    free(end.output);
    end = run_program(program, "", 10, 0.2, 5);
    assert_int_equal(end.how, KV_SANDBOX_TIMEOUT);
    free(end.output);
    close(program);
}

static void a_sleeper_ends(void **state) {
    int program = compile("int main(void){for(;;) sleep(100);}");
    (void)state;
    kv_sandbox_end end = run_program(program, "", 10, 0.2, 5);
    assert_int_equal(end.how, KV_SANDBOX_TIMEOUT);
    assert_int_equal(end.status, SIGKILL);
    free(end.output);
    close(program);
}

static void a_fork_bomb_makes_no_process(void **state) {
    (void)state;
    expect_output("int main(void){int n=0; for(int i=0;i<1000;i++) n+=fork()>=0; printf(\"%d\\n\",n);}", "", "0\n");
}

static void four_gigabytes_are_refused(void **state) {
    (void)state;
    expect_output(
        "int main(void){size_t n=(size_t)4<<30; char *p=malloc(n); puts(p?\"got it\":\"refused\");"
        "p=mmap(0,n,PROT_READ|PROT_WRITE,MAP_PRIVATE|MAP_ANONYMOUS,-1,0);puts(p!=MAP_FAILED?\"got it\":\"refused\");"
        "size_t all=0; while(all<n && (p=malloc(1<<20))) memset(p,1,1<<20), all+=1<<20;"
        "puts(all<((size_t)1<<30)?\"little\":\"much\");}",
        "", "refused\nrefused\nlittle\n");
}

static void endless_output_is_cut_off(void **state) {
    int program = compile("int main(void){for(;;) puts(\"more and more\");}");
    (void)state;
    kv_sandbox_end end = run_program(program, "", 100, 60, 10);
    assert_int_equal(end.how, KV_SANDBOX_TOO_LONG);
    assert_int_equal(end.n_output, 101);
    free(end.output);
    close(program);
}

static void a_crash_is_reported(void **state) {
    int program = compile("int main(void){puts(\"before\"); fflush(stdout); abort();}");
    (void)state;
    kv_sandbox_end end = run_program(program, "", 100, 30, 10);
    assert_int_equal(end.how, KV_SANDBOX_SIGNALED);
    assert_string_equal(end.output, "before\n");
    free(end.output);
    close(program);
}

static int has_landlock(void) {
    return syscall(SYS_landlock_create_ruleset, NULL, 0, 1 /* the version */) >= 1;
}

static void the_compiler_reads_no_other_file(void **state) {
    scratch s, secret;
    kv_error err = {0};
    char source[300];
    int rc;
    (void)state;
    if (!has_landlock()) skip();
    assert_int_equal(scratch_open(&s), 0);
    assert_int_equal(scratch_open(&secret), 0);
    const char *path = scratch_write(&secret, "secret", "int secret;\n", 12);
    snprintf(source, sizeof source, "#include \"%s\"\nint main(void) { return secret; }\n", path);
    kv_sandbox_end end = compile_with(&s, source, 120, &err, &rc);
    assert_int_equal(rc, 0);
    assert_true(end.how == KV_SANDBOX_EXITED && end.status != 0);
    snprintf(source, sizeof source, "__asm__(\".incbin \\\"%s\\\"\"); int main(void) { return 0; }\n", path);
    end = compile_with(&s, source, 120, &err, &rc);
    assert_int_equal(rc, 0);
    assert_true(end.how == KV_SANDBOX_EXITED && end.status != 0);
    scratch_close(&s);
    scratch_close(&secret);
}

static void a_compiler_that_does_not_end_is_killed(void **state) {
    static const char *const endless[] = {
        "#include \"/dev/zero\"\nint main(void) { return 0; }\n",
        "#define A(x) x x x x x x x x x x\n#define B(x) A(A(A(x)))\nint main(void) { B(B(B(;))) return 0; }\n"};
    scratch s;
    kv_error err = {0};
    kv_sandbox_end end;
    int rc;
    (void)state;
    assert_int_equal(scratch_open(&s), 0);
    for (size_t i = 0; i < sizeof endless / sizeof *endless; i++) {
        end = compile_with(&s, endless[i], 1, &err, &rc);
        assert_int_equal(rc, 0);
        assert_true(end.how == KV_SANDBOX_TIMEOUT || end.status != 0); /* the clock or the memory */
    }
    end = compile_with(&s, "int main(void) { return 0; }\n", 0.001, &err, &rc);
    assert_int_equal(rc, 0);
    assert_int_equal(end.how, KV_SANDBOX_TIMEOUT);
    assert_int_equal(end.status, SIGKILL);
    scratch_close(&s);
}

static void what_cannot_start_is_an_error(void **state) {
    static const char *const argv[] = {"/nonexistent/compiler", NULL};
    kv_sandbox_job job = {.kind = KV_SANDBOX_COMPILER,
                          .argv = argv,
                          .folder = "/tmp",
                          .seconds = 5,
                          .cpu_seconds = 5,
                          .memory = (uint64_t)1 << 30,
                          .file_size = 1 << 20};
    kv_sandbox_end end;
    kv_error err = {0};
    (void)state;
    assert_int_equal(kv_sandbox_run(&job, &end, &err), KV_EUNSUPPORTED);
    assert_non_null(strstr(err.text, "no sandbox: executing it: No such file"));
    free(end.output);
    job.folder = "/nonexistent";
    assert_int_equal(kv_sandbox_run(&job, &end, &err), KV_EUNSUPPORTED);
    assert_non_null(strstr(err.text, "no sandbox: its folder"));
    free(end.output);
}

/* In a process of its own, because a filter cannot be taken off again: seccomp, or namespaces, answer EPERM. */
static int run_without(long call, unsigned arg, int compare) {
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)call, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 16), /* the low half of the first argument */
        BPF_JUMP((unsigned short)(BPF_JMP | compare | BPF_K), arg, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog filter = {sizeof code / sizeof *code, code};
    int status;
    pid_t pid = fork();
    if (!pid) {
        scratch s;
        kv_error err = {0};
        int rc, bad = prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter);
        if (bad || scratch_open(&s)) _exit(99);
        kv_sandbox_end end = compile_with(&s, "int main(void) { return 0; }\n", 120, &err, &rc);
        int made = !access(scratch_path(&s, "program"), F_OK);
        scratch_close(&s);
        if (rc == KV_EUNSUPPORTED) _exit(strstr(err.text, "no sandbox: the seccomp filter") && !made ? 1 : 98);
        _exit(!rc && end.how == KV_SANDBOX_EXITED && !end.status && made ? 0 : 97);
    }
    assert_true(pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void works_without_namespaces(void **state) {
    (void)state;
    assert_int_equal(run_without(SYS_clone, 0x10000000 /* CLONE_NEWUSER */, BPF_JSET), 0);
}

static void refuses_to_run_anything_without_seccomp(void **state) {
    (void)state;
    assert_int_equal(run_without(SYS_prctl, PR_SET_SECCOMP, BPF_JEQ), 1);
}

static int n_children(void) {
    char path[64];
    snprintf(path, sizeof path, "/proc/self/task/%d/children", (int)getpid());
    FILE *f = fopen(path, "r");
    int n = 0;
    for (long pid; f && fscanf(f, "%ld", &pid) == 1;) n++;
    if (f) fclose(f);
    return n;
}

/* A grader killed while its program runs takes the program along. */
static void a_program_dies_with_the_process_that_runs_it(void **state) {
    int program = compile("int main(void){printf(\"%d\\n\",(int)getpid()); fflush(stdout); for(;;) sleep(100);}");
    int status;
    (void)state;
    pid_t pid = fork();
    if (!pid) {
        run_program(program, "", 100, 60, 60);
        _exit(0);
    }
    char path[64];
    long child = 0;
    snprintf(path, sizeof path, "/proc/%d/task/%d/children", (int)pid, (int)pid);
    for (int i = 0; i < 500 && !child; i++) {
        FILE *f = fopen(path, "r");
        if (f && fscanf(f, "%ld", &child) != 1) child = 0;
        if (f) fclose(f);
        nanosleep(&(struct timespec){0, 10000000}, NULL);
    }
    assert_true(child > 0);
    nanosleep(&(struct timespec){0, 100000000}, NULL);
    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    int gone = 0;
    for (int i = 0; i < 500 && !gone; i++) {
        char state_of[64], letter = 0;
        snprintf(state_of, sizeof state_of, "/proc/%ld/stat", child);
        FILE *f = fopen(state_of, "r");
        gone = !f || fscanf(f, "%*d %*s %c", &letter) != 1 || letter == 'Z';
        if (f) fclose(f);
        nanosleep(&(struct timespec){0, 10000000}, NULL);
    }
    assert_true(gone);
    close(program);
}

typedef struct {
    int program, ok;
} racer;

static void *race(void *p) {
    racer *r = p;
    static const char *const argv[] = {"program", NULL};
    for (int i = 0; i < 20; i++) {
        char input[16], want[16];
        snprintf(input, sizeof input, "%d\n", i);
        snprintf(want, sizeof want, "%d\n", i * 3);
        kv_sandbox_job job = {.kind = KV_SANDBOX_PROGRAM,
                              .argv = argv,
                              .program = r->program,
                              .input = input,
                              .n_input = strlen(input),
                              .max_output = 100,
                              .seconds = 60,
                              .cpu_seconds = 10,
                              .memory = (uint64_t)1 << 30};
        kv_sandbox_end end;
        kv_error err;
        r->ok += !kv_sandbox_run(&job, &end, &err) && end.how == KV_SANDBOX_EXITED && !strcmp(end.output, want);
        free(end.output);
    }
    return NULL;
}

static void threads_do_not_get_in_each_others_way(void **state) {
    pthread_t threads[4];
    racer racers[4];
    int program = compile("int main(void){int a; scanf(\"%d\",&a); printf(\"%d\\n\",a*3);}");
    (void)state;
    for (int i = 0; i < 4; i++) {
        racers[i] = (racer){program, 0};
        assert_int_equal(pthread_create(&threads[i], NULL, race, &racers[i]), 0);
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(racers[i].ok, 20);
    }
    close(program);
    assert_int_equal(n_children(), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_stdin_and_writes_stdout),
        cmocka_unit_test(a_program_can_open_nothing_and_start_nothing),
        cmocka_unit_test(an_endless_loop_ends),
        cmocka_unit_test(a_sleeper_ends),
        cmocka_unit_test(a_fork_bomb_makes_no_process),
        cmocka_unit_test(four_gigabytes_are_refused),
        cmocka_unit_test(endless_output_is_cut_off),
        cmocka_unit_test(a_crash_is_reported),
        cmocka_unit_test(the_compiler_reads_no_other_file),
        cmocka_unit_test(a_compiler_that_does_not_end_is_killed),
        cmocka_unit_test(what_cannot_start_is_an_error),
        cmocka_unit_test(works_without_namespaces),
        cmocka_unit_test(refuses_to_run_anything_without_seccomp),
        cmocka_unit_test(a_program_dies_with_the_process_that_runs_it),
        cmocka_unit_test(threads_do_not_get_in_each_others_way),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
