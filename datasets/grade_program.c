/* grade_program.c - C++ programs: LongProc's evaluator of pseudo_to_code (spoc_evaluator.py).
 *
 * ```c++ is read as ```cpp; the program is what stands between the first ```cpp and the last ```.  Behind 18 includes
 * and `using namespace std;` it is compiled as C++11 with -O and run on the first ten tests, three seconds each.  It is
 * right when every run's stdout is the expected one byte for byte; how it exits does not matter.
 *
 * The reference counts the three seconds on the wall.  Here they are the processor's (and thirty on the wall), because
 * a verdict must not depend on what else the machine does.
 *
 * Both happen in the sandbox (sandbox.h), which the reference has not: so the program is linked statically, has 1 GiB
 * of memory, can use no file and no process but itself, and what it writes to stderr is dropped (there, bytes that are
 * no UTF-8 in it fail the test).  Where the kernel offers no sandbox, nothing is compiled or run: a task with this
 * grader then does not open.
 *
 * score differs from compat in one point: of an output with a </think> only what follows is read.  partial is score,
 * as in the reference. */
#include "datasets/graders.h"
#include "datasets/programs.h"
#include "datasets/sandbox.h"
#include "datasets/text.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char compiler[] = "/usr/bin/g++";

static const char header[] = "#include <cstdio>\n#include <iostream>\n#include <vector>\n#include <algorithm>\n"
                             "#include <numeric>\n#include <cmath>\n#include <cstring>\n#include <set>\n"
                             "#include <map>\n#include <queue>\n#include <stack>\n#include <list>\n"
                             "#include <fstream>\n#include <climits>\n#include <cassert>\n#include <iomanip>\n"
                             "#include <sstream>\n#include <bitset>\nusing namespace std;\n";

typedef struct {
    const char *reason; /* static text; NULL: right */
    kv_error err;       /* of a verdict that could not be given */
} verdict;

static const char not_graded[] = "not graded";

/* The program in the output; 0 when there is none. */
static int find_program(const char *output, kv_span *out) {
    const char *a = strstr(output, "```cpp"), *b = strstr(output, "```c++"), *end = NULL;
    const char *open = !a || (b && b < a) ? b : a;
    if (!open) return 0;
    open += strlen("```cpp");
    for (const char *p = open; (p = strstr(p, "```")); p++) end = p;
    if (!end) return 0;
    *out = (kv_span){open, (size_t)(end - open)};
    return 1;
}

static void remove_folder(const char *folder) {
    DIR *d = opendir(folder);
    if (!d) return;
    for (const struct dirent *e; (e = readdir(d));) unlinkat(dirfd(d), e->d_name, 0);
    closedir(d);
    rmdir(folder);
}

/* Compiles source to an open file.  *out = -1, and a reason, when the compiler does not like it. */
static const char *compile_in(const char *folder, const kv_text *source, int *out, kv_error *err) {
    static const char *const argv[] = {compiler,  "-std=c++11", "-O",  "-static", "-o",
                                       "program", "-x",         "c++", "-",       NULL};
    kv_sandbox_job job = {.kind = KV_SANDBOX_COMPILER,
                          .argv = argv,
                          .folder = folder,
                          .input = source->s,
                          .n_input = source->n,
                          .seconds = 300,
                          .cpu_seconds = 30,
                          .memory = (uint64_t)2 << 30,
                          .file_size = (uint64_t)256 << 20};
    kv_sandbox_end end;
    char path[64];
    int rc = kv_sandbox_run(&job, &end, err);
    free(end.output);
    if (rc) return not_graded;
    if (end.how == KV_SANDBOX_TIMEOUT) return "compiling takes too long";
    if (end.how != KV_SANDBOX_EXITED || end.status) return "does not compile";
    snprintf(path, sizeof path, "%s/program", folder);
    *out = open(path, O_RDONLY | O_CLOEXEC);
    if (*out >= 0) return NULL;
    kv_fail(err, KV_EIO, "%s: %s", path, strerror(errno));
    return not_graded;
}

static const char *compile(const kv_text *source, int *out, kv_error *err) {
    char folder[] = "/tmp/trimbench-XXXXXX";
    *out = -1;
    if (!mkdtemp(folder)) {
        kv_fail(err, KV_EIO, "no folder to compile in: %s: %s", folder, strerror(errno));
        return not_graded;
    }
    const char *reason = compile_in(folder, source, out, err);
    remove_folder(folder);
    return reason;
}

static const char *run_test(int program, const kv_program_test *t, kv_error *err) {
    static const char *const argv[] = {"program", NULL};
    size_t n = strlen(t->expected);
    kv_sandbox_job job = {.kind = KV_SANDBOX_PROGRAM,
                          .argv = argv,
                          .program = program,
                          .input = t->input,
                          .n_input = strlen(t->input),
                          .max_output = n,
                          .seconds = 30,
                          .cpu_seconds = 3,
                          .memory = (uint64_t)1 << 30};
    kv_sandbox_end end;
    int rc = kv_sandbox_run(&job, &end, err);
    int same = !rc && end.n_output == n && !memcmp(end.output, t->expected, n);
    free(end.output);
    if (rc) return not_graded;
    int out_of_time = end.how == KV_SANDBOX_SIGNALED && (end.status == SIGKILL || end.status == SIGXCPU);
    if (end.how == KV_SANDBOX_TIMEOUT || out_of_time) return "a test takes too long";
    if (end.how == KV_SANDBOX_TOO_LONG || !same) return "a test's output is wrong";
    return NULL;
}

static verdict judge(kv_span code, const kv_program *p) {
    verdict v = {0};
    kv_text source = {0};
    int program = -1;
    kv_text_puts(&source, header);
    kv_text_append(&source, code.s, code.n);
    if (source.failed) {
        v.reason = not_graded;
        kv_fail(&v.err, KV_ENOMEM, "no memory for the program");
    } else {
        v.reason = compile(&source, &program, &v.err);
    }
    for (int i = 0; i < p->n_tests && !v.reason; i++) v.reason = run_test(program, &p->tests[i], &v.err);
    if (program >= 0) close(program);
    kv_text_free(&source);
    return v;
}

static void grade(const void *data, const char *gold, const char *output, kv_grade *g) {
    kv_span all, final;
    int any = find_program(output, &all), answered = find_program(kv_after_thinking(output), &final);
    (void)gold;
    g->rule = "cpp block";
    g->reason = "no ```cpp block";
    if (answered) {
        verdict v = judge(final, data);
        g->reason = v.reason;
        g->score = g->partial = !v.reason;
        if (v.reason == not_graded)
            snprintf(g->extracted, sizeof g->extracted, "not graded: %.400s", v.err.text);
        else
            kv_grade_extract(g, final);
    }
    g->compat = answered && any && kv_span_equal(all, final) ? g->score : any && !judge(all, data).reason;
}

/* Compiles and runs a trial program, so that a machine without a sandbox says so before anything is generated. */
static int ready(kv_error *err) {
    static const char trial[] = "extern \"C\" int puts(const char *); int main() { puts(\"ok\"); }";
    static const kv_program_test test = {"", "ok\n"};
    kv_text source = {0};
    kv_error why = {0};
    int program = -1;
    if (access(compiler, X_OK))
        return kv_fail(err, KV_EUNSUPPORTED, "programs cannot be graded: %s: %s; install g++", compiler,
                       strerror(errno));
    kv_text_puts(&source, trial);
    const char *reason = source.failed ? not_graded : compile(&source, &program, &why);
    if (!reason) reason = run_test(program, &test, &why);
    if (program >= 0) close(program);
    kv_text_free(&source);
    if (!reason) return KV_OK;
    return kv_fail(err, KV_EUNSUPPORTED, "programs cannot be graded: a trial program: %s %s", reason, why.text);
}

const kv_grader kv_grader_program = {
    .name = "pseudo_to_code", .version = 1, .data_kind = "programs", .sets_compat = 1, .ready = ready, .grade = grade};
