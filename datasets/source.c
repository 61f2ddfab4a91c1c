/* source.c - the table of sources, and what a .task file must declare for each; see source.h. */
#include "datasets/source.h"

#include <stdio.h>
#include <string.h>

#include "engine/file.h"

static const kv_source *const sources[] = {
    &kv_source_rows,    &kv_source_countdown,   &kv_source_countdown_gen, &kv_source_path,
    &kv_source_needle,  &kv_source_rows_5shot,  &kv_source_longbench,     &kv_source_longbench_v2,
    &kv_source_niah,    &kv_source_vt,          &kv_source_cwe,           &kv_source_fwe,
    &kv_source_qa,      &kv_source_needle_grid, &kv_source_path_gen,      &kv_source_tom,
    &kv_source_tom_gen, &kv_source_programs,    &kv_source_pages,         &kv_source_travel};

static const kv_source *find(const char *name) {
    for (size_t i = 0; i < sizeof sources / sizeof *sources; i++)
        if (!strcmp(sources[i]->name, name)) return sources[i];
    return NULL;
}

int64_t kv_source_param(const kv_source_args *a, const char *name) {
    return a->params[kv_task_file_param(a->file, name)];
}

int kv_source_identity(const kv_source_args *a, const char *what, const char *texts, char sha256[65], kv_error *err) {
    kv_text t = {0};
    kv_text_puts(&t, what);
    kv_text_puts(&t, "\n");
    kv_text_puts(&t, texts);
    kv_text_puts(&t, "\n");
    kv_text_puts(&t, a->file->form ? a->file->form : "");
    for (int i = 0; i < a->file->n_params; i++)
        kv_text_printf(&t, " %s=%lld", a->file->params[i].name, (long long)a->params[i]);
    kv_text_printf(&t, " max_new=%lld seed=%llu", (long long)a->max_new, (unsigned long long)a->seed);
    if (!t.failed) kv_sha256_bytes(t.s, t.n, sha256);
    int rc = t.failed ? kv_fail(err, KV_ENOMEM, "no memory for the %s task", a->file->source) : KV_OK;
    kv_text_free(&t);
    return rc;
}

static int unknown_source(const kv_task_file *f, kv_error *err) {
    char names[400] = "";
    for (size_t i = 0, n = 0; i < sizeof sources / sizeof *sources && n < sizeof names; i++)
        n += (size_t)snprintf(names + n, sizeof names - n, "%s%s", i ? ", " : "", sources[i]->name);
    return kv_fail(err, KV_EFORMAT, "%s:%d: no source '%s'; known are %s", f->path, f->source_line, f->source, names);
}

int kv_source_bind(const kv_task_file *f, const kv_source **out, kv_error *err) {
    const kv_source *s = find(f->source);
    if (!s) return unknown_source(f, err);
    if (s->reads_data != (f->data != NULL))
        return kv_fail(err, KV_EFORMAT, "%s:%d: source %s %s", f->path, f->source_line, s->name,
                       s->reads_data ? "needs 'data' and 'items'" : "takes no 'data' and 'items'");
    if (s->reads_shots != (f->shots != NULL))
        return kv_fail(err, KV_EFORMAT, "%s:%d: source %s %s", f->path, f->source_line, s->name,
                       s->reads_shots ? "needs 'shots'" : "takes no 'shots'");
    if (!s->forms != !f->form)
        return kv_fail(err, KV_EFORMAT, "%s:%d: source %s %s%s", f->path, f->source_line, s->name,
                       s->forms ? "needs form = " : "takes no 'form'", s->forms ? s->forms : "");
    int n = 0;
    for (; s->params[n]; n++)
        if (kv_task_file_param(f, s->params[n]) < 0)
            return kv_fail(err, KV_EFORMAT, "%s:%d: source %s needs param.%s", f->path, f->source_line, s->name,
                           s->params[n]);
    for (int i = 0; i < f->n_params; i++) {
        int k = 0;
        while (k < n && strcmp(s->params[k], f->params[i].name)) k++;
        if (k == n)
            return kv_fail(err, KV_EFORMAT, "%s:%d: source %s has no parameter '%s'", f->path, f->source_line, s->name,
                           f->params[i].name);
    }
    *out = s;
    return KV_OK;
}
