/* export.c - the `export` command: recorded results as files of lm-evaluation-harness, with the prompts of the tasks
 * that are still what they were when the samples were made. */
#include <stdlib.h>
#include <string.h>

#include "bench/command.h"
#include "bench/folder.h"
#include "bench/hostinfo.h"
#include "datasets/task.h"
#include "results/export.h"

typedef struct {
    const kv_io *io;
    const kv_paths *paths;
    kv_task *task; /* NULL: its prompts are not known */
    kv_item item;
} prompts;

static int open_task(void *user, const char *name, const char *variant, int version, const char *data_sha256,
                     int64_t seed) {
    prompts *p = user;
    kv_task_options o = {.root = p->paths->datasets, .variant = variant, .seed = (uint64_t)seed};
    kv_task_close(p->task);
    p->task = NULL;
    if (kv_task_open(name, &o, &p->task, NULL)) return 0;
    const kv_task_info *i = kv_task_get_info(p->task);
    int n = i->n_items;
    if (i->version == version && !strcmp(i->data_sha256, data_sha256)) {
        if (!i->cuts) return n;
    } else {
        n = 0;
    }
    kv_task_close(p->task);
    p->task = NULL;
    return n;
}

static const char *prompt_of(void *user, const char *id) {
    prompts *p = user;
    kv_item_free(&p->item);
    if (!p->task || kv_task_item(p->task, atoi(id), &p->item, NULL) || strcmp(p->item.id, id)) return NULL;
    return p->item.prompt;
}

static void wrote(void *user, const char *path) {
    prompts *p = user;
    fprintf(p->io->out, "%s\n", path);
}

int kv_cmd_export(const kv_opts *o, const kv_paths *p, const kv_io *io, kv_error *err) {
    const char *db = kv_opts_text_or(o, KV_OPT_EXPORT_DB, p->db);
    const char *out = kv_opts_text(o, KV_OPT_EXPORT_OUT);
    prompts all = {.io = io, .paths = p};
    const kv_export_source src = {&all, open_task, prompt_of, wrote, kv_buildinfo_get()->commit};
    kv_store *store = NULL;
    int rc = kv_store_open_existing(db, &store, err);
    if (rc == KV_OK) rc = kv_make_folder(out, err);
    if (rc == KV_OK) rc = kv_export_lm_eval(store, out, &src, err);
    kv_store_close(store);
    kv_item_free(&all.item);
    kv_task_close(all.task);
    return kv_exit_of(rc);
}
