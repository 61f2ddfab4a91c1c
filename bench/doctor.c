/* doctor.c - the `doctor` command: everything a run needs, checked one by one, with what to do about it. */
#include <stdarg.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "bench/command.h"
#include "bench/hostinfo.h"
#include "bench/identity.h"
#include "datasets/task.h"
#ifdef KV_HAVE_CUDA
#include "engine/cuda/device.h"
#include "engine/cuda/telemetry.h"
#endif
#include "engine/file.h"
#include "engine/gates.h"
#include "results/process.h"
#include "results/store.h"

typedef enum verdict { OK, WARN, FAIL } verdict;

typedef struct doctor {
    FILE *f;
    int failed;
} doctor;

static void say(doctor *d, verdict v, const char *what, const char *fmt, ...) __attribute__((format(printf, 4, 5)));

static void say(doctor *d, verdict v, const char *what, const char *fmt, ...) {
    static const char *const words[] = {"ok  ", "warn", "FAIL"};
    va_list ap;
    fprintf(d->f, "%s  %-10s ", words[v], what);
    va_start(ap, fmt);
    vfprintf(d->f, fmt, ap);
    va_end(ap);
    fputc('\n', d->f);
    d->failed |= v == FAIL;
}

static void check_host(doctor *d) {
    kv_host_info h;
    kv_hostinfo_read(&h);
    int simd = strstr(h.features, "avx2") || strstr(h.features, "asimd");
    say(d, simd ? OK : WARN, "cpu", "%s: %s%s", h.cpu[0] ? h.cpu : "unknown",
        h.features[0] ? h.features : "no known vectors", simd ? "" : "; decode will be slow without AVX2");
    say(d, OK, "cores", "%d", h.n_cores);
    int low = h.ram_available < (int64_t)2 << 30;
    say(d, low ? WARN : OK, "memory", "%.1f GiB, %.1f GiB available%s", (double)h.ram_bytes / (1 << 30),
        (double)h.ram_available / (1 << 30), low ? "; 2 GiB are wanted: close other programs or lower --batch" : "");
}

#ifdef KV_HAVE_CUDA
/* What memory reaches: the ceiling of any speed figure. */
static void check_bandwidth(doctor *d, int device, const char *name) {
    kv_cuda_bandwidth b;
    kv_error err = {0};
    double promised = kv_cuda_datasheet_gb_s(name);
    char share[64] = "";
    if (kv_cuda_measure_bandwidth(device, KV_CUDA_MEASURED_BYTES, KV_CUDA_MEASURED_REPS, &b, &err)) {
        say(d, WARN, "bandwidth", "%s", err.text);
        return;
    }
    if (promised > 0)
        snprintf(share, sizeof share, ", %.1f%% of the datasheet's %.0f", 100 * b.best_gb_s / promised, promised);
    say(d, OK, "bandwidth", "device %d: copy %.0f GB/s, read %.0f GB/s%s", device, b.copy_gb_s, b.read_gb_s, share);
}

/* Read right after the measurement, so that clocks and throttling are those of a busy device. */
static void check_telemetry(doctor *d, int device) {
    kv_telemetry *t;
    kv_telemetry_reading r;
    kv_error err = {0};
    char reasons[128];
    if (kv_telemetry_open(device, &t, &err)) {
        say(d, WARN, "telemetry", "%s: rows will carry no clocks", err.text);
        return;
    }
    const kv_telemetry_info *info = kv_telemetry_info_of(t);
    kv_telemetry_read(t, &r);
    kv_telemetry_throttle_text(r.throttle, reasons, sizeof reasons);
    int slowed = r.throttle > 0 && (r.throttle & KV_TELEMETRY_SLOWED) != 0;
    say(d, slowed ? WARN : OK, "telemetry",
        "device %d (%s): driver %s, ECC %s, SM %d MHz, memory %d MHz, %d C, %.0f of %.0f W, clocks held by: %s%s",
        device, info->uuid_hash, info->driver,
        info->ecc < 0   ? "unknown"
        : info->ecc > 0 ? "on"
                        : "off",
        r.sm_mhz, r.mem_mhz, r.temperature_c, r.power_w, r.power_limit_w, reasons, slowed ? "; timings will vary" : "");
    kv_telemetry_close(t);
}

static void check_cuda(doctor *d, const char *version) {
    kv_cuda_device v;
    kv_error err = {0};
    int n = 0;
    if (kv_cuda_device_count(&n, &err)) {
        say(d, WARN, "cuda", "built with CUDA %s; %s: runs use the CPU", version, err.text);
        return;
    }
    for (int i = 0; i < n; i++) {
        if (kv_cuda_device_query(i, &v, &err)) {
            say(d, WARN, "cuda", "%s", err.text);
            continue;
        }
        say(d, OK, "cuda", "device %d: %s, %.1f GiB (%.1f free), %d multiprocessors, sm_%d%d", i, v.name,
            (double)v.bytes / (1 << 30), (double)v.bytes_free / (1 << 30), v.n_sm, v.major, v.minor);
        check_bandwidth(d, i, v.name);
        check_telemetry(d, i);
    }
}
#else
static void check_cuda(doctor *d, const char *version) {
    (void)version;
    say(d, WARN, "cuda", "not built in: runs use the CPU");
}
#endif

static void check_build(doctor *d) {
    const kv_build_info *b = kv_buildinfo_get();
    const char *warning = kv_buildinfo_warning();
    say(d, warning ? WARN : OK, "build", "%s, commit %.12s%s, %s%s%s", b->type, b->commit, b->dirty ? " + changes" : "",
        b->compiler, warning ? "; " : "", warning ? warning : "");
    say(d, OK, "sqlite", "%s", b->sqlite);
    check_cuda(d, b->cuda);
}

static void check_db(doctor *d, const char *db) {
    char dir[KV_PATH_MAX];
    struct statvfs v;
    kv_error err = {0};
    snprintf(dir, sizeof dir, "%s", db);
    char *slash = strrchr(dir, '/');
    if (slash)
        slash[slash == dir] = 0;
    else
        strcpy(dir, ".");
    if (access(dir, W_OK) != 0 || (kv_path_exists(db) && access(db, W_OK) != 0)) {
        say(d, FAIL, "results", "%s cannot be written: choose another file with --db", db);
    } else if (kv_store_check(db, &err)) {
        say(d, FAIL, "results", "%s", err.text);
    } else if (statvfs(dir, &v) == 0) {
        double gib = (double)v.f_bavail * (double)v.f_frsize / (1 << 30);
        say(d,
            gib < 0.1 ? FAIL
            : gib < 1 ? WARN
                      : OK,
            "results", "%s, %.1f GiB free%s", db, gib, gib < 1 ? ": make room, or choose another place with --db" : "");
    } else {
        say(d, WARN, "results", "%s, free space unknown", db);
    }
}

static void check_gnuplot(doctor *d, const char *program) {
    const char *const argv[] = {program, "-e",
                                "print sprintf('%.1f patchlevel %s', GPVAL_VERSION, ''.GPVAL_PATCHLEVEL)", NULL};
    char version[64] = "";
    int status = 0, rc = kv_process_run(argv, ".", &status, version, sizeof version, NULL);
    version[strcspn(version, "\n")] = 0;
    if (rc || status)
        say(d, WARN, "gnuplot", "%s does not run: install gnuplot-nox for plots (tables and JSON work without)",
            program);
    else
        say(d, OK, "gnuplot", "%s", version);
}

/* What the weights take: 4 bytes each in fp32, 2 in bf16, and 1 with a scale per 64 in the CPU's 8-bit format; and one
 * token of the full cache. */
static void say_memory(doctor *d, const kv_identity *id) {
    const double gib = 1 << 30;
    double slot = 4.0 * id->shape.head_dim * id->shape.n_kv_heads * id->shape.n_layers;
    say(d, OK, "weights",
        "%.1f M: CPU fast %.2f GiB, CPU exact %.2f GiB, GPU fast %.2f GiB, GPU exact %.2f GiB; cache %.1f KiB a token "
        "(exact: twice that)",
        (double)id->n_params / 1e6, kv_identity_weight_bytes(id, KV_FAST, KV_CPU) / gib,
        kv_identity_weight_bytes(id, KV_EXACT, KV_CPU) / gib, kv_identity_weight_bytes(id, KV_FAST, KV_CUDA) / gib,
        kv_identity_weight_bytes(id, KV_EXACT, KV_CUDA) / gib, slot / 1024);
}

/* The default model by its hash; another one by opening it. */
static void check_model(doctor *d, const kv_opts *o, const kv_paths *p, kv_identity *id) {
    kv_error err = {0};
    char hex[65];
    int rc = kv_identity_resolve_model(o, 0, p, id, &err);
    if (rc == KV_OK && id->is_default) rc = kv_sha256_file(id->model_path, hex, &err);
    if (rc == KV_OK && id->is_default && strcmp(hex, kv_default_model_sha256) != 0)
        rc = kv_fail(&err, KV_EFORMAT, "%.300s is damaged (sha256 %.12s...): run scripts/get_model.sh again",
                     id->model_path, hex);
    if (rc == KV_OK) rc = kv_identity_load(id, &err);
    if (rc)
        say(d, FAIL, "model", "%s", err.text);
    else
        say(d, OK, "model", "%s: %s, %d layers, context %d%s, chat template %s", id->model_path, id->arch,
            id->shape.n_layers, id->n_ctx, id->short_ctx ? " (long rotary factors)" : "",
            id->chat ? kv_chat_name(id->chat) : "unknown (choose one with --chat)");
    if (rc == KV_OK) say_memory(d, id);
}

/* Adapter and gates belong to the default model. */
static void check_companions(doctor *d, const kv_paths *p, const kv_identity *id) {
    char file[KV_PATH_MAX + 64];
    kv_gate_file *g = NULL;
    kv_error err = {0};
    snprintf(file, sizeof file, "%s/adapter_model.safetensors", p->adapter);
    say(d, kv_path_exists(file) ? OK : FAIL, "adapter", "%s%s", file,
        kv_path_exists(file) ? "" : " is missing: check the tree out again");
    if (!id->tokenizer) return;
    if (kv_gates_open(p->gates, &id->shape, &g, &err))
        say(d, FAIL, "gates", "%s", err.text);
    else
        say(d, OK, "gates", "%s", p->gates);
    kv_gates_close(g);
}

static void count_task(void *user, const char *name, const char *title, const char *variants, int n_items,
                       int max_new) {
    (void)name, (void)title, (void)variants, (void)n_items, (void)max_new;
    ++*(int *)user;
}

static void check_tasks(doctor *d, const kv_paths *p) {
    int n = 0;
    kv_error err = {0};
    if (kv_task_list(p->datasets, count_task, &n, &err))
        say(d, FAIL, "tasks", "%s", err.text);
    else
        say(d, n ? OK : FAIL, "tasks", "%d in %s/tasks", n, p->datasets);
}

int kv_cmd_doctor(const kv_opts *o, const kv_paths *p, const kv_io *io, kv_error *err) {
    doctor d = {io->out, 0};
    kv_identity id = {0};
    (void)err;
    check_host(&d);
    check_build(&d);
    check_tasks(&d, p);
    check_model(&d, o, p, &id);
    if (!kv_opts_given(o, KV_OPT_MODEL)) check_companions(&d, p, &id);
    check_db(&d, kv_opts_text_or(o, KV_OPT_DB, p->db));
    check_gnuplot(&d, kv_opts_text(o, KV_OPT_GNUPLOT));
    kv_identity_free(&id);
    fprintf(io->out, d.failed ? "\nsomething that a run needs is missing\n" : "\nready\n");
    return d.failed ? KV_EXIT_FAILED : KV_EXIT_OK;
}
