/* task_file.c - reads .task files; the format is described in task_file.h. */
#include "datasets/task_file.h"

#include "datasets/template.h"
#include "engine/file.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    kv_task_file *f;
    kv_task_variant *section; /* NULL before the first [variant] */
    int line;
    kv_error *err;
} reader;

static int bad(reader *r, const char *fmt, ...) KV_PRINTF(2, 3);

static int bad(reader *r, const char *fmt, ...) {
    char text[400];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    return kv_fail(r->err, KV_EFORMAT, "%s:%d: %s", r->f->path, r->line, text);
}

static int no_memory(reader *r) {
    return kv_fail(r->err, KV_ENOMEM, "no memory to read %s", r->f->path);
}

static int set_text(reader *r, char **dst, const char *key, const char *value) {
    if (*dst) return bad(r, "key '%s' was already given", key);
    if (!*value) return bad(r, "key '%s' has no value", key);
    *dst = strdup(value);
    return *dst ? KV_OK : no_memory(r);
}

/* A short word: letters, digits, '_', '.', '-'. */
static int set_word(reader *r, char *dst, size_t cap, const char *key, const char *value) {
    static const char ok[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-";
    if (*dst) return bad(r, "key '%s' was already given", key);
    if (!*value || strlen(value) >= cap || value[strspn(value, ok)])
        return bad(r, "%s '%.60s': expected at most %d of a-z A-Z 0-9 _ . -", key, value, (int)cap - 1);
    memcpy(dst, value, strlen(value) + 1);
    return KV_OK;
}

/* Decimal digits at *s, at most 999999999999; moves *s behind them.  Returns -1 when there are none or too many. */
static int64_t take_number(const char **s) {
    size_t n = strspn(*s, "0123456789");
    int64_t v = 0;
    if (n < 1 || n > 12) return -1;
    for (size_t i = 0; i < n; i++) v = v * 10 + ((*s)[i] - '0');
    *s += n;
    return v;
}

static int take(const char **s, const char *literal) {
    size_t n = strlen(literal);
    if (strncmp(*s, literal, n)) return 0;
    *s += n;
    return 1;
}

static int set_count(reader *r, int *dst, const char *key, const char *value) {
    if (*dst) return bad(r, "key '%s' was already given", key);
    int64_t v = take_number(&value);
    if (v < 1 || v > 1000000000 || *value) return bad(r, "key '%s': expected a whole number of 1 or more", key);
    *dst = (int)v;
    return KV_OK;
}

static int set_items(reader *r, const char *value) {
    if (strcmp(value, "any")) return set_count(r, &r->f->items, "items", value);
    if (r->f->items) return bad(r, "key 'items' was already given");
    r->f->items = KV_TASK_ANY_ITEMS;
    return KV_OK;
}

/* value: "900 in 10..100000". */
static int add_param(reader *r, const char *name, const char *value) {
    kv_task_file *f = r->f;
    if (kv_task_file_param(f, name) >= 0) return bad(r, "key 'param.%s' was already given", name);
    if (f->n_params == KV_TASK_PARAMS) return bad(r, "more than %d parameters", KV_TASK_PARAMS);
    kv_task_param *p = &f->params[f->n_params];
    *p = (kv_task_param){0};
    int rc = set_word(r, p->name, sizeof p->name, "parameter name", name);
    if (rc) return rc;
    p->value = take_number(&value);
    int ok = p->value >= 0 && take(&value, " in ");
    ok = ok && (p->min = take_number(&value)) >= 0 && take(&value, "..") && (p->max = take_number(&value)) >= 0;
    if (!ok || *value || p->value < p->min || p->value > p->max)
        return bad(r, "param.%s: expected 'DEFAULT in MIN..MAX' with whole numbers, MIN <= DEFAULT <= MAX", name);
    f->n_params++;
    return KV_OK;
}

/* value: "700" or "300 + 40*max_lines". */
static int set_max_new(reader *r, const char *value) {
    kv_task_variant *v = r->section;
    if (v->max_new) return bad(r, "key 'max_new' was already given");
    int64_t base = take_number(&value), factor = 0;
    int ok = base > 0 && base <= 10000000;
    if (ok && *value) {
        ok = take(&value, " + ") && (factor = take_number(&value)) > 0 && factor <= 100000 && take(&value, "*");
        if (ok) {
            int rc = set_word(r, v->max_new_param, sizeof v->max_new_param, "parameter in max_new", value);
            if (rc) return rc;
        }
    }
    if (!ok) return bad(r, "max_new: expected a number, or 'NUMBER + NUMBER*PARAMETER'");
    v->max_new = (int)base;
    v->max_new_factor = (int)factor;
    v->max_new_line = r->line;
    return KV_OK;
}

static int add_stop(reader *r, const char *value) {
    static const char *const no_slots[] = {NULL};
    kv_task_variant *v = r->section;
    char where[400];
    if (v->n_stop == KV_TASK_STOPS) return bad(r, "more than %d stop strings", KV_TASK_STOPS);
    if (!*value) return bad(r, "key 'stop' has no value");
    snprintf(where, sizeof where, "%s:%d", r->f->path, r->line);
    int rc = kv_template_check(value, no_slots, 0, where, r->err);
    if (rc) return rc;
    kv_text t = {0};
    kv_template_render(value, no_slots, NULL, &t, NULL);
    rc = kv_text_take(&t, "a stop string", &v->stop[v->n_stop], r->err);
    if (!rc) v->n_stop++;
    return rc;
}

static int append_prompt(reader *r, const char *value) {
    kv_task_variant *v = r->section;
    if (!v->prompt) return bad(r, "'prompt +=' before 'prompt ='");
    size_t n = strlen(v->prompt), k = strlen(value);
    char *p = realloc(v->prompt, n + k + 2);
    if (!p) return no_memory(r);
    p[n] = '\n';
    memcpy(p + n + 1, value, k + 1);
    v->prompt = p;
    return KV_OK;
}

static int set_variant_key(reader *r, const char *key, const char *value, int append) {
    kv_task_variant *v = r->section;
    if (append) return append_prompt(r, value);
    if (!strcmp(key, "prompt")) {
        v->prompt_line = r->line;
        return set_text(r, &v->prompt, key, value);
    }
    if (!strcmp(key, "answer")) {
        v->answer_line = r->line;
        return set_text(r, &v->answer, key, value);
    }
    if (!strcmp(key, "max_new")) return set_max_new(r, value);
    if (!strcmp(key, "chat")) {
        if (v->no_chat) return bad(r, "key 'chat' was already given");
        if (strcmp(value, "none")) return bad(r, "chat: expected none (leave the key out for the chat template)");
        v->no_chat = 1;
        return KV_OK;
    }
    if (!strcmp(key, "stop")) return add_stop(r, value);
    if (!strcmp(key, "grader")) {
        v->grader_line = r->line;
        return set_word(r, v->grader, sizeof v->grader, key, value);
    }
    if (!strcmp(key, "cut")) {
        v->cut_line = r->line;
        return set_word(r, v->cut_param, sizeof v->cut_param, key, value);
    }
    return bad(r, "unknown key '%.40s' in [%s]; known are prompt, answer, max_new, grader, stop, chat, cut", key,
               v->name);
}

static int set_task_key(reader *r, const char *key, const char *value) {
    kv_task_file *f = r->f;
    if (!strcmp(key, "title")) return set_text(r, &f->title, key, value);
    if (!strcmp(key, "licence")) return set_text(r, &f->licence, key, value);
    if (!strcmp(key, "origin")) return set_text(r, &f->origin, key, value);
    if (!strcmp(key, "version")) return set_count(r, &f->version, key, value);
    if (!strcmp(key, "form")) return set_text(r, &f->form, key, value);
    if (!strncmp(key, "param.", 6)) return add_param(r, key + 6, value);
    if (!strcmp(key, "data")) return f->data_line = r->line, set_text(r, &f->data, key, value);
    if (!strcmp(key, "items")) return f->items_line = r->line, set_items(r, value);
    if (!strcmp(key, "fetch")) return set_text(r, &f->fetch, key, value);
    if (!strcmp(key, "shots")) return set_text(r, &f->shots, key, value);
    if (!strcmp(key, "shot")) return f->shot_line = r->line, set_text(r, &f->shot, key, value);
    if (!strcmp(key, "shot_items")) return set_count(r, &f->shot_items, key, value);
    if (!strcmp(key, "gold")) return f->gold_line = r->line, set_text(r, &f->gold, key, value);
    if (!strcmp(key, "source")) return f->source_line = r->line, set_word(r, f->source, sizeof f->source, key, value);
    if (!strcmp(key, "default")) {
        f->default_line = r->line;
        return set_word(r, f->default_variant, sizeof f->default_variant, key, value);
    }
    return bad(
        r,
        "unknown key '%.40s'; known are title, version, licence, origin, source, form, data, items, fetch, shots, "
        "shot, shot_items, param.NAME, gold, default, and in a [variant] prompt, answer, max_new, grader, stop, chat, "
        "cut",
        key);
}

static int open_section(reader *r, char *line) {
    kv_task_file *f = r->f;
    size_t n = strlen(line);
    if (line[n - 1] != ']') return bad(r, "expected [variant]");
    line[n - 1] = 0;
    if (kv_task_file_variant(f, line + 1)) return bad(r, "variant [%s] was already given", line + 1);
    if (f->n_variants == KV_TASK_VARIANTS) return bad(r, "more than %d variants", KV_TASK_VARIANTS);
    kv_task_variant *v = &f->variants[f->n_variants];
    int rc = set_word(r, v->name, sizeof v->name, "variant", line + 1);
    if (rc) return rc;
    v->line = r->line;
    f->n_variants++;
    r->section = v;
    return KV_OK;
}

static int read_line(reader *r, char *line) {
    size_t n = strlen(line);
    if (n && (line[n - 1] == '\r')) return bad(r, "carriage return at the end; save the file with Unix line ends");
    if (n && (line[n - 1] == ' ' || line[n - 1] == '\t')) return bad(r, "blank at the end of the line; write \\s");
    if (!n || line[0] == '#') return KV_OK;
    if (line[0] == '[') return open_section(r, line);
    char *eq = strchr(line, '=');
    if (!eq || eq == line) return bad(r, "expected 'key = value', '[variant]' or '# comment'");
    int append = eq[-1] == '+';
    char *end = eq - append, *value = eq + 1;
    while (end > line && end[-1] == ' ') end--;
    if (*value == ' ') value++;
    *end = 0;
    if (append && (!r->section || strcmp(line, "prompt"))) return bad(r, "+= is for the prompt of a [variant]");
    return r->section ? set_variant_key(r, line, value, append) : set_task_key(r, line, value);
}

/* A parameter that a variant's key names; "" = none. */
static int check_param(reader *r, const char *key, const char *name, int line) {
    if (!name[0]) return KV_OK;
    if (kv_task_file_param(r->f, name) >= 0) return KV_OK;
    r->line = line;
    return bad(r, "%s: there is no param.%s", key, name);
}

static int check_variant(reader *r, const kv_task_variant *v) {
    const char *missing = !v->prompt ? "prompt" : !v->max_new ? "max_new" : !v->grader[0] ? "grader" : NULL;
    r->line = v->line;
    if (missing) return bad(r, "[%s] has no '%s'", v->name, missing);
    int rc = check_param(r, "max_new", v->max_new_param, v->max_new_line);
    return rc ? rc : check_param(r, "cut", v->cut_param, v->cut_line);
}

static int is_inside(const char *path) {
    return !path || (path[0] != '/' && !strstr(path, ".."));
}

static int check_file(reader *r) {
    const kv_task_file *f = r->f;
    const char *missing = !f->title                ? "title"
                          : !f->version            ? "version"
                          : !f->licence            ? "licence"
                          : !f->origin             ? "origin"
                          : !f->source[0]          ? "source"
                          : !f->gold               ? "gold"
                          : !f->default_variant[0] ? "default"
                                                   : NULL;
    if (missing) return bad(r, "the file ends and has no '%s'", missing);
    if (!f->n_variants) return bad(r, "the file ends and has no [variant]");
    if (!f->data != !f->items) return bad(r, "the file ends with only one of 'data' and 'items'");
    for (int i = 0; i < f->n_variants; i++) {
        int rc = check_variant(r, &f->variants[i]);
        if (rc) return rc;
    }
    r->line = f->default_line;
    if (!kv_task_file_variant(f, NULL)) return bad(r, "default '%s' is not a variant of the file", f->default_variant);
    r->line = f->data_line;
    if (!is_inside(f->data) || !is_inside(f->shots)) return bad(r, "data must be a path inside the datasets folder");
    if (!f->shots != !f->shot || !f->shots != !f->shot_items)
        return bad(r, "shots, shot and shot_items belong together");
    return KV_OK;
}

static int read_lines(reader *r, char *text, size_t size) {
    r->line = 1;
    if (strlen(text) != size) return bad(r, "the file has a zero byte; a .task file is text");
    for (char *line = text, *next; line; line = next) {
        next = strchr(line, '\n');
        if (next) *next++ = 0;
        int rc = read_line(r, line);
        if (rc) return rc;
        if (next && *next) r->line++;
    }
    return check_file(r);
}

int kv_task_file_open(const char *path, kv_task_file *out, kv_error *err) {
    reader r = {.f = out, .err = err};
    char *text = NULL;
    size_t size;
    memset(out, 0, sizeof *out);
    int rc = kv_read_file(path, &text, &size, err);
    if (rc) return rc;
    out->path = strdup(path);
    rc = out->path ? read_lines(&r, text, size) : kv_fail(err, KV_ENOMEM, "no memory to read %s", path);
    free(text);
    return rc;
}

void kv_task_file_close(kv_task_file *f) {
    free(f->path);
    free(f->title);
    free(f->licence);
    free(f->origin);
    free(f->data);
    free(f->gold);
    free(f->fetch);
    free(f->shots);
    free(f->shot);
    free(f->form);
    for (int i = 0; i < f->n_variants; i++) {
        free(f->variants[i].prompt);
        free(f->variants[i].answer);
        for (int k = 0; k < f->variants[i].n_stop; k++) free(f->variants[i].stop[k]);
    }
    memset(f, 0, sizeof *f);
}

const kv_task_variant *kv_task_file_variant(const kv_task_file *f, const char *name) {
    if (!name) name = f->default_variant;
    for (int i = 0; i < f->n_variants; i++)
        if (!strcmp(f->variants[i].name, name)) return &f->variants[i];
    return NULL;
}

int kv_task_file_param(const kv_task_file *f, const char *name) {
    for (int i = 0; i < f->n_params; i++)
        if (!strcmp(f->params[i].name, name)) return i;
    return -1;
}
