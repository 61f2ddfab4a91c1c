/* task.c - opens a task: its .task file, the source of its items, its grader and the parameters asked for.
 *
 * Everything that can be wrong with a task is found here, before the first item; kv_task_item can then only run out
 * of memory, and grading cannot fail at all. */
#include "datasets/task.h"

#include "datasets/graders.h"
#include "datasets/jsonl.h"
#include "datasets/source.h"
#include "datasets/text_tools.h"
#include "engine/file.h"

#include <cjson/cJSON.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

struct kv_task {
    kv_task_file file;
    const kv_task_variant *variant;
    const kv_source *source;
    const kv_grader *grader;
    kv_source_state items;
    int64_t params[KV_TASK_PARAMS];
    uint64_t seed;
    const kv_text_tools *tools;
    kv_count_fn *count_tokens;
    void *count_user;
    kv_task_info info;
};

static int bind_grader(const kv_task *t, const kv_task_variant *v, const kv_grader **out, kv_error *err) {
    const kv_grader *g = kv_grader_find(v->grader);
    if (!g) {
        char names[600];
        kv_grader_names(names, sizeof names);
        return kv_fail(err, KV_EFORMAT, "%s:%d: no grader '%s'; known are %s", t->file.path, v->grader_line, v->grader,
                       names);
    }
    if (g->data_kind && (!t->source->data_kind || strcmp(g->data_kind, t->source->data_kind)))
        return kv_fail(err, KV_EFORMAT, "%s:%d: grader %s needs a %s source, not %s", t->file.path, v->grader_line,
                       g->name, g->data_kind, t->source->name);
    *out = g;
    return KV_OK;
}

static int bind_variant(kv_task *t, const char *name, kv_error *err) {
    const kv_task_file *f = &t->file;
    t->variant = kv_task_file_variant(f, name);
    if (!t->variant) {
        char known[160] = "";
        for (int i = 0; i < f->n_variants; i++)
            snprintf(known + strlen(known), sizeof known - strlen(known), "%s%s", i ? ", " : "", f->variants[i].name);
        return kv_fail(err, KV_EARG, "task %s has no prompt variant '%.40s'; it has %s", t->info.name, name, known);
    }
    for (int i = 0; i < f->n_variants; i++) {
        const kv_grader *g = NULL;
        int rc = bind_grader(t, &f->variants[i], &g, err);
        if (rc) return rc;
        if (&f->variants[i] == t->variant) t->grader = g;
    }
    return KV_OK;
}

static int check_templates(const kv_task *t, kv_error *err) {
    const kv_task_file *f = &t->file;
    char where[400];
    snprintf(where, sizeof where, "%s:%d", f->path, f->gold_line);
    int rc = kv_template_check(f->gold, t->items.slots, 0, where, err);
    for (int i = 0; i < f->n_variants && !rc; i++) {
        snprintf(where, sizeof where, "%s:%d", f->path, f->variants[i].prompt_line);
        rc = kv_template_check(f->variants[i].prompt, t->items.slots, 1, where, err);
        snprintf(where, sizeof where, "%s:%d", f->path, f->variants[i].answer_line);
        if (!rc && f->variants[i].answer) rc = kv_template_check(f->variants[i].answer, t->items.slots, 0, where, err);
    }
    return rc;
}

/* What a spec may set, for error texts. */
static void list_params(const kv_task *t, char *out, size_t cap) {
    size_t n = 0;
    for (int i = 0; i < t->file.n_params && n < cap; i++) {
        const kv_task_param *p = &t->file.params[i];
        n += (size_t)snprintf(out + n, cap - n, "%s (%lld..%lld, default %lld), ", p->name, (long long)p->min,
                              (long long)p->max, (long long)p->value);
    }
    if (n < cap && t->source->seeded)
        snprintf(out + n, cap - n, "seed");
    else if (n)
        out[(n < cap ? n : cap) - 2] = 0; /* the last comma */
}

static int set_param(kv_task *t, const char *key, const char *value, kv_error *err) {
    char known[300], *end;
    list_params(t, known, sizeof known);
    int is_seed = t->source->seeded && !strcmp(key, "seed"), i = kv_task_file_param(&t->file, key);
    if (!t->source->seeded && !t->file.n_params)
        return kv_fail(err, KV_EARG, "task %s takes no parameters ('%.40s'); its items are fixed", t->info.name, key);
    if (!is_seed && i < 0)
        return kv_fail(err, KV_EARG, "task %s has no parameter '%.40s'; it takes %s", t->info.name, key, known);
    int64_t max = is_seed ? INT64_MAX : t->file.params[i].max, min = is_seed ? 0 : t->file.params[i].min;
    int64_t v = strtoll(value, &end, 10);
    size_t n = strlen(value);
    if (!n || n > 18 || strspn(value, "0123456789") != n || *end || v < min || v > max)
        return kv_fail(err, KV_EARG, "task %s: %s=%.40s is no whole number of %lld..%lld", t->info.name, key, value,
                       (long long)min, (long long)max);
    if (is_seed)
        t->seed = (uint64_t)v;
    else
        t->params[i] = v;
    return KV_OK;
}

/* rest: "key=value:key=value"; changed in place. */
static int set_params(kv_task *t, char *rest, kv_error *err) {
    char seen[KV_TASK_PARAMS + 1][24];
    int n_seen = 0;
    for (char *pair = rest, *next; pair; pair = next) {
        next = strchr(pair, ':');
        if (next) *next++ = 0;
        char *eq = strchr(pair, '=');
        if (!eq || eq == pair)
            return kv_fail(err, KV_EARG, "task %s: '%.60s' is no key=value (write %s:key=value:key=value)",
                           t->info.name, pair, t->info.name);
        *eq = 0;
        for (int k = 0; k < n_seen; k++)
            if (!strcmp(seen[k], pair)) return kv_fail(err, KV_EARG, "task %s: %s is given twice", t->info.name, pair);
        int rc = set_param(t, pair, eq + 1, err);
        if (rc) return rc;
        snprintf(seen[n_seen++], sizeof *seen, "%s", pair);
    }
    return KV_OK;
}

/* Name with the parameters that differ from the defaults; seed= only when it is not the run's own. */
static int name_task(kv_task *t, uint64_t run_seed, kv_error *err) {
    char *name = t->info.name;
    size_t cap = sizeof t->info.name, n = strlen(name);
    for (int i = 0; i < t->file.n_params && n < cap; i++)
        if (t->params[i] != t->file.params[i].value)
            n += (size_t)snprintf(name + n, cap - n, ":%s=%lld", t->file.params[i].name, (long long)t->params[i]);
    if (t->seed != run_seed && n < cap)
        n += (size_t)snprintf(name + n, cap - n, ":seed=%llu", (unsigned long long)t->seed);
    return n < cap ? KV_OK
                   : kv_fail(err, KV_EARG, "task name with parameters is longer than %zu: %.80s...", cap - 1, name);
}

static int settle_max_new(kv_task *t, kv_error *err) {
    const kv_task_variant *v = t->variant;
    int64_t max_new = v->max_new;
    if (v->max_new_param[0]) max_new += v->max_new_factor * t->params[kv_task_file_param(&t->file, v->max_new_param)];
    if (max_new > 100000000)
        return kv_fail(err, KV_EARG, "task %s: max_new would be %lld", t->info.name, (long long)max_new);
    t->info.max_new = (int)max_new;
    return KV_OK;
}

/* prompt_sha256: over all that turns an item into a prompt. */
static int hash_templates(kv_task *t, kv_error *err) {
    const kv_task_variant *v = t->variant;
    kv_text all = {0};
    kv_text_puts(&all, v->prompt);
    if (v->answer) {
        kv_text_append(&all, "", 1);
        kv_text_puts(&all, v->answer);
    }
    if (v->no_chat) kv_text_puts(&all, "\nchat = none");
    if (t->file.shot) {
        kv_text_puts(&all, "\nshot = ");
        kv_text_puts(&all, t->file.shot);
    }
    int rc = all.failed ? kv_fail(err, KV_ENOMEM, "no memory for the templates of %s", t->info.name) : KV_OK;
    if (rc == KV_OK) kv_sha256_bytes(all.s, all.n, t->info.prompt_sha256);
    kv_text_free(&all);
    return rc;
}

static int fill_info(kv_task *t, uint64_t run_seed, kv_error *err) {
    kv_task_info *o = &t->info;
    const kv_task_variant *v = t->variant;
    o->version = t->file.version;
    o->grader_version = t->grader->version;
    o->n_items = t->items.n_items;
    o->title = t->file.title;
    o->cuts = v->cut_param[0] != 0;
    memcpy(o->data_sha256, t->items.sha256, sizeof o->data_sha256);
    o->no_chat = v->no_chat;
    snprintf(o->variant, sizeof o->variant, "%s", v->name);
    snprintf(o->grader, sizeof o->grader, "%s", t->grader->name);
    for (int i = 0; i < v->n_stop; i++) o->stop[i] = v->stop[i];
    int rc = hash_templates(t, err);
    return rc ? rc : name_task(t, run_seed, err);
}

/* Says which tasks there are. */
static void add_name(void *user, const char *name, const char *title, const char *variants, int n_items, int max_new) {
    kv_error *err = user;
    size_t n = strlen(err->text);
    (void)title, (void)variants, (void)n_items, (void)max_new;
    snprintf(err->text + n, sizeof err->text - n, " %s", name);
}

static int no_such_task(const char *name, const char *root, kv_error *err) {
    kv_error names = {0}, ignored;
    kv_task_list(root, add_name, &names, &ignored);
    return kv_fail(err, KV_ENOTFOUND, "no task '%.60s' in %.200s/tasks; there are:%.200s", name, root,
                   names.text[0] ? names.text : " none");
}

static int read_task(kv_task *t, const char *name, const char *root, kv_error *err) {
    static const char ok[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-";
    char path[1024];
    struct stat st;
    int n = snprintf(path, sizeof path, "%s/tasks/%s.task", root, name);
    if (n >= (int)sizeof path) return kv_fail(err, KV_EARG, "path too long: %.200s...", path);
    if (!*name || strlen(name) > 40 || name[strspn(name, ok)] || stat(path, &st)) return no_such_task(name, root, err);
    snprintf(t->info.name, sizeof t->info.name, "%s", name);
    return kv_task_file_open(path, &t->file, err);
}

/* Missing data that a script fetches. */
static int look_for_data(const kv_task *t, const char *data, const char *root, kv_error *err) {
    char path[1024];
    struct stat st;
    if (!data || !t->file.fetch) return KV_OK;
    int n = snprintf(path, sizeof path, "%s/%s", root, data);
    if (n < (int)sizeof path && stat(path, &st) == 0) return KV_OK;
    return kv_fail(err, KV_ENOTFOUND, "task %s: %.150s is not there; run %.80s", t->info.name, path, t->file.fetch);
}

/* Prompt and answer's start of these values; *split is the question's place in the prompt. */
static int render(const kv_task *t, const kv_text *values, char **prompt, size_t *split, char **answer, kv_error *err) {
    kv_text p = {0}, a = {0};
    kv_template_render(t->variant->prompt, t->items.slots, values, &p, split);
    if (t->variant->answer) kv_template_render(t->variant->answer, t->items.slots, values, &a, NULL);
    int rc = kv_text_take(&p, "a prompt", prompt, err);
    int rc2 = kv_text_take(&a, "the start of an answer", answer, err);
    return rc ? rc : rc2;
}

static int measure_item(const void *task, const kv_text *values, int64_t *tokens, kv_error *err) {
    const kv_task *t = task;
    char *prompt = NULL, *answer = NULL;
    size_t split, n = 0;
    if (!t->count_tokens)
        return kv_fail(
            err, KV_EARG,
            "its items are measured in tokens, so that a model is needed to make them: use trimbench run, or "
            "give each line of outputs its 'answer'");
    int rc = render(t, values, &prompt, &split, &answer, err);
    if (!rc) rc = t->count_tokens(t->count_user, prompt, answer, t->variant->no_chat, &n, err);
    *tokens = (int64_t)n + t->info.max_new;
    free(prompt);
    free(answer);
    return rc;
}

/* An error of prepare or make, with the task's name in front. */
static int named(const kv_task *t, int rc, kv_error *err) {
    if (!rc || !err) return rc;
    kv_error why = *err;
    return kv_fail(err, rc, "task %s: %.400s", t->info.name, why.text);
}

static int open_task(kv_task *t, char *spec, const kv_task_options *o, kv_error *err) {
    char *rest = strchr(spec, ':');
    if (rest) *rest++ = 0;
    int rc = read_task(t, spec, o->root, err);
    if (rc || (rc = kv_source_bind(&t->file, &t->source, err)) || (rc = bind_variant(t, o->variant, err))) return rc;
    t->seed = o->seed;
    for (int i = 0; i < t->file.n_params; i++) t->params[i] = t->file.params[i].value;
    if (rest && (rc = set_params(t, rest, err))) return rc;
    if (t->grader->ready && (rc = t->grader->ready(err))) return rc;
    if ((rc = settle_max_new(t, err))) return rc;
    t->tools = o->tools;
    t->count_tokens = o->count_tokens;
    t->count_user = o->count_user;
    kv_source_args a = {.file = &t->file,
                        .root = o->root,
                        .haystack = o->haystack,
                        .params = t->params,
                        .seed = t->seed,
                        .data_dir = o->data_dir,
                        .variant = t->variant,
                        .no_items = o->no_items && t->source->own,
                        .qa_data = o->qa_data,
                        .max_new = t->info.max_new,
                        .measure = measure_item,
                        .task = t};
    if ((rc = look_for_data(t, t->file.data, o->root, err)) || (rc = look_for_data(t, t->file.shots, o->root, err)))
        return rc;
    if (t->file.items == KV_TASK_ANY_ITEMS && (rc = kv_jsonl_count(&a, &t->file.items, err))) return rc;
    if ((rc = t->source->open(&a, &t->items, err)) || (rc = check_templates(t, err))) return rc;
    if (t->source->prepare && !o->no_items && (rc = t->source->prepare(&t->items, err))) return named(t, rc, err);
    return fill_info(t, o->seed, err);
}

int kv_task_open(const char *spec, const kv_task_options *o, kv_task **out, kv_error *err) {
    kv_task *t = calloc(1, sizeof *t);
    char *copy = strdup(spec);
    *out = NULL;
    int rc = t && copy ? open_task(t, copy, o, err) : kv_fail(err, KV_ENOMEM, "no memory to open task %.60s", spec);
    free(copy);
    if (rc)
        kv_task_close(t);
    else
        *out = t;
    return rc;
}

void kv_task_close(kv_task *t) {
    if (!t) return;
    if (t->source) t->source->close(&t->items);
    kv_task_file_close(&t->file);
    free(t);
}

const kv_task_info *kv_task_get_info(const kv_task *t) {
    return &t->info;
}

/* Tokens that a chat template may put around a prompt. */
enum { TEMPLATE_ROOM = 100 };

/* A prompt of more tokens than the task's limit, or than the model takes, loses its middle. */
static int shorten(const kv_task *t, kv_item *it, kv_error *err) {
    const kv_task_variant *v = t->variant;
    if (!v->cut_param[0] || !t->tools) return KV_OK;
    int64_t limit = t->params[kv_task_file_param(&t->file, v->cut_param)];
    int64_t fits = (int64_t)t->tools->n_ctx - t->info.max_new - TEMPLATE_ROOM;
    if (!limit || limit > fits) limit = fits;
    if (limit < 2)
        return kv_fail(err, KV_ELIMIT, "task %s: %d new tokens leave no room for a prompt in a context of %d",
                       t->info.name, t->info.max_new, t->tools->n_ctx);
    return kv_cut_middle(t->tools, (size_t)limit, &it->prompt, &it->question_at, err);
}

int kv_task_item(kv_task *t, int i, kv_item *out, kv_error *err) {
    kv_text values[KV_SLOTS] = {{0}}, gold = {0};
    int rc = KV_OK;
    memset(out, 0, sizeof *out);
    if (i < 0 || i >= t->items.n_items)
        return kv_fail(err, KV_EARG, "task %s: no item %d; it has 0..%d", t->info.name, i, t->items.n_items - 1);
    kv_task_item_id(t, i, out->id);
    if (t->source->make)
        rc = named(t, t->source->make(&t->items, i, values, err), err);
    else
        t->source->item(&t->items, i, values, &out->data);
    if (!rc) rc = render(t, values, &out->prompt, &out->question_at, &out->answer, err);
    if (!rc) {
        kv_template_render(t->file.gold, t->items.slots, values, &gold, NULL);
        rc = kv_text_take(&gold, "a gold answer", &out->gold, err);
    }
    for (int k = 0; k < KV_SLOTS; k++) kv_text_free(&values[k]);
    if (!rc) rc = shorten(t, out, err);
    if (rc) kv_item_free(out);
    return rc;
}

void kv_task_item_id(const kv_task *t, int i, char out[64]) {
    if (t->source->id)
        t->source->id(&t->items, i, out, 64);
    else
        snprintf(out, 64, "%d", i);
}

const char *kv_task_item_name(const kv_task *t, int i) {
    return t->source->name_of ? t->source->name_of(&t->items, i) : NULL;
}

int kv_task_own_item(const kv_task *t, const cJSON *row, const char *where, kv_item *out, kv_error *err) {
    memset(out, 0, sizeof *out);
    if (t->source->own) {
        int rc = t->source->own(&t->items, row, where, &out->gold, &out->own, err);
        out->data = out->own;
        out->own_free = t->source->own_free;
        return rc;
    }
    if (t->grader->data_kind)
        return kv_fail(err, KV_EFORMAT, "%s: grader %s of task %s needs the item itself: give its id, no answer", where,
                       t->grader->name, t->info.name);
    const cJSON *answer = cJSON_GetObjectItemCaseSensitive(row, "answer");
    if (!cJSON_IsString(answer) && !cJSON_IsNumber(answer))
        return kv_fail(err, KV_EFORMAT, "%s: the field 'answer' is neither a string nor a number", where);
    out->gold = cJSON_IsString(answer) ? strdup(answer->valuestring) : cJSON_PrintUnformatted(answer);
    return out->gold ? KV_OK : kv_fail(err, KV_ENOMEM, "%s: no memory for the answer", where);
}

void kv_item_free(kv_item *it) {
    free(it->prompt);
    free(it->answer);
    free(it->gold);
    if (it->own) it->own_free(it->own);
    memset(it, 0, sizeof *it);
}

void kv_task_grade(const kv_task *t, const kv_item *it, const char *output, kv_grade *g) {
    memset(g, 0, sizeof *g);
    t->grader->grade(it->data, it->gold, output, g);
    if (!t->grader->sets_compat) g->compat = g->score;
}
