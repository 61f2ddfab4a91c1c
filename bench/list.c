/* list.c - the `list` command: policies with their parameters, tasks with their prompt variants, models at hand. */
#include <dirent.h>
#include <math.h>
#include <string.h>
#include <sys/stat.h>

#include "bench/command.h"
#include "bench/hub.h"
#include "datasets/task.h"
#include "engine/synth.h"
#include "policies/registry.h"

/* Copies word i of "a|b|c". */
static void choice(const char *choices, int i, char *out, size_t size) {
    for (; i > 0 && strchr(choices, '|'); i--) choices = strchr(choices, '|') + 1;
    snprintf(out, size, "%.*s", (int)strcspn(choices, "|"), choices);
}

static void print_option(FILE *f, const kv_option *o) {
    char def[32] = "", range[96];
    if (o->choices)
        snprintf(range, sizeof range, "%s", o->choices);
    else
        snprintf(range, sizeof range, "%.16g..%.16g", o->min, o->max);
    if (o->choices && !isnan(o->def))
        choice(o->choices, (int)o->def, def, sizeof def);
    else if (!isnan(o->def))
        snprintf(def, sizeof def, "%g", o->def);
    fprintf(f, "      %-10s %s [%s]%s%s\n", o->name, o->help, range, def[0] ? ", default " : "", def);
}

static void list_policies(FILE *f) {
    int n;
    const kv_policy *const *all = kv_policy_all(&n);
    fprintf(f, "policies (--policy name:key=value:key=value)\n");
    for (int i = 0; i < n; i++) {
        const kv_policy *p = all[i];
        fprintf(f, "  %-12s %s%s%s%s\n", p->name, p->help, p->paper && p->paper[0] ? " [" : "",
                p->paper ? p->paper : "", p->paper && p->paper[0] ? "]" : "");
        for (const kv_option *o = p->options; o && o->name; o++) print_option(f, o);
    }
}

static void list_task(void *user, const char *name, const char *title, const char *variants, int n_items, int max_new) {
    FILE *f = user;
    char items[16] = "seeded";
    if (n_items >= 0) snprintf(items, sizeof items, "%d", n_items);
    fprintf(f, "  %-30s %6s %7d  %s%s%s%s\n", name, items, max_new, title, strchr(variants, ',') ? " [" : "",
            strchr(variants, ',') ? variants : "", strchr(variants, ',') ? "]" : "");
}

static int ends_with(const char *s, const char *end) {
    size_t n = strlen(s), k = strlen(end);
    return n >= k && strcmp(s + n - k, end) == 0;
}

/* Bytes of the weights in a folder, 0 when it has none. */
static double folder_bytes(const char *dir) {
    char path[2 * KV_PATH_MAX];
    double sum = 0;
    struct dirent *e;
    struct stat st;
    DIR *d = opendir(dir);
    while (d && (e = readdir(d))) {
        snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
        int is_weights = strncmp(e->d_name, "model", 5) == 0 && ends_with(e->d_name, ".safetensors");
        if (is_weights && stat(path, &st) == 0) sum += (double)st.st_size;
    }
    if (d) closedir(d);
    return sum;
}

typedef struct hub_list {
    FILE *f;
    int n;
} hub_list;

static void list_snapshot(void *user, const char *id, const char *dir) {
    hub_list *l = user;
    double bytes = folder_bytes(dir);
    if (bytes > 0) l->n += fprintf(l->f, "  %s (%.1f MB)\n", id, bytes / 1e6) > 0;
}

/* Models of the hub's cache; adapters and gates, which lie there too, have no weights of a model. */
static void list_hub(FILE *f) {
    char cache[KV_PATH_MAX];
    kv_error err = {0};
    if (kv_hub_cache(cache, &err)) return;
    fprintf(f, "\nmodels of the hub (--model ORG/NAME), in %s\n", cache);
    hub_list l = {f, 0};
    kv_hub_list(cache, list_snapshot, &l);
    if (!l.n) fprintf(f, "  none: scripts/get_model.sh ORG/NAME fetches one\n");
}

static void list_models(FILE *f, const kv_paths *p) {
    char dir[KV_PATH_MAX], path[2 * KV_PATH_MAX];
    int found = 0;
    struct dirent *e;
    snprintf(dir, sizeof dir, "%.4000s/models", p->root);
    fprintf(f, "\nmodels (--model FILE or FOLDER)\n");
    DIR *d = opendir(dir);
    while (d && (e = readdir(d))) {
        struct stat st;
        snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
        if (stat(path, &st) != 0 || e->d_name[0] == '.') continue;
        double bytes = S_ISDIR(st.st_mode) ? folder_bytes(path) : (double)st.st_size;
        if (bytes == 0 || !(S_ISDIR(st.st_mode) || ends_with(e->d_name, ".gguf"))) continue;
        found = 1;
        fprintf(f, "  %s (%.1f MB)%s\n", path, bytes / 1e6,
                strcmp(path, p->model) == 0 ? ", the default, with adapter and gates" : "");
    }
    if (d) closedir(d);
    if (!found) fprintf(f, "  none in %s: run scripts/get_model.sh, or give --model FILE.gguf\n", dir);
}

static void list_synth(FILE *f) {
    int n;
    const kv_synth_shape *s = kv_synth_all(&n);
    fprintf(f, "\nsynthetic models for speed and memory (--model synth:NAME; random weights of a published shape)\n");
    for (int i = 0; i < n; i++, s++) {
        const kv_shape *m = &s->shape;
        fprintf(
            f,
            "  synth:%-13s %8.1f M parameters, %d layers, width %d, %d heads over %d KV heads of %d, context %d%s%s\n",
            s->name, (double)kv_synth_params(s) / 1e6, m->n_layers, m->dim, m->n_heads, m->n_kv_heads, m->head_dim,
            s->n_ctx, s->source ? ", shape of " : "", s->source ? s->source : "");
    }
}

int kv_cmd_list(const kv_opts *o, const kv_paths *p, const kv_io *io, kv_error *err) {
    (void)o;
    list_policies(io->out);
    fprintf(io->out,
            "\ntasks (--task name:key=value; the keys of seeded tasks, and which data are fetched, are in "
            "datasets/README.md)\n  %-30s %6s %7s  %s\n",
            "name", "items", "max new", "title [prompt variants, when there are several]");
    int rc = kv_task_list(p->datasets, list_task, io->out, err);
    list_models(io->out, p);
    list_hub(io->out);
    list_synth(io->out);
    return kv_exit_of(rc);
}
