/* options.c - parses a command line against the option table; knows no option by name. */
#include "bench/options.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static int belongs(const kv_opt_def *d, kv_cmd_id cmd) {
    return (d->commands >> cmd) & 1;
}

/* Index of the option called name in this command, or -1. */
static int find(const char *name, kv_cmd_id cmd) {
    const kv_opt_def *t = kv_opt_table();
    for (int i = 0; i < KV_N_OPTS; i++)
        if (belongs(&t[i], cmd) && strcmp(t[i].name, name) == 0) return i;
    return -1;
}

static int unknown(const char *name, kv_cmd_id cmd, kv_error *err) {
    const kv_opt_def *t = kv_opt_table();
    const char *names[KV_N_OPTS];
    size_t n = 0;
    for (int i = 0; i < KV_N_OPTS; i++) {
        if (strcmp(t[i].name, name) == 0)
            for (int c = 0; c < KV_N_CMDS; c++)
                if (belongs(&t[i], c))
                    return kv_fail(err, KV_EARG,
                                   "--%s is no option of `%s` (it belongs to `%s`): see trimbench %s --help", name,
                                   kv_help_command(cmd), kv_help_command(c), kv_help_command(cmd));
        if (belongs(&t[i], cmd)) names[n++] = t[i].name;
    }
    const char *meant = kv_nearest(name, names, n);
    if (meant) return kv_fail(err, KV_EARG, "unknown option --%s: did you mean --%s?", name, meant);
    return kv_fail(err, KV_EARG, "unknown option --%s: see trimbench %s --help", name, kv_help_command(cmd));
}

static int is_choice(const char *choices, const char *word) {
    size_t len = strlen(word);
    for (const char *p = choices; p; p = strchr(p, '|') ? strchr(p, '|') + 1 : NULL)
        if (strncmp(p, word, len) == 0 && (p[len] == '|' || p[len] == 0)) return 1;
    return 0;
}

static int set_texts(const kv_opt_def *d, int list, const char *text, kv_opt_value *v, kv_error *err) {
    kv_error why = {0};
    if (!text[0] && strcmp(d->arg, "TEXT") != 0)
        return kv_fail(err, KV_EARG, "--%s '': an empty value (%s)", d->name, d->help);
    if (list) {
        int rc = kv_list_texts(text, &v->texts, &v->n, &why);
        if (rc) return kv_fail(err, rc, "--%s '%s': %s", d->name, text, why.text);
    } else {
        v->texts = calloc(1, sizeof *v->texts);
        if (v->texts) v->texts[0] = strdup(text);
        if (!v->texts || !v->texts[0]) return kv_fail(err, KV_ENOMEM, "--%s: out of memory", d->name);
        v->n = 1;
    }
    for (size_t i = 0; i < v->n && d->choices; i++)
        if (!is_choice(d->choices, v->texts[i]))
            return kv_fail(err, KV_EARG, "--%s '%s': must be one of %s", d->name, v->texts[i], d->choices);
    return KV_OK;
}

/* One entry of a list: a word that stands for 0, or whole numbers. */
static int set_word_or_ints(const kv_opt_def *d, const char *text, kv_opt_value *v, kv_error *err) {
    int64_t zero = 0, *some = &zero;
    size_t n = 1;
    int rc = is_choice(d->choices, text) ? KV_OK : kv_list_ints(text, (int64_t)d->min, (int64_t)d->max, &some, &n, err);
    int64_t *all = rc == KV_OK ? realloc(v->ints, (v->n + n) * sizeof *all) : NULL;
    if (rc == KV_OK && !all) rc = kv_fail(err, KV_ENOMEM, "out of memory");
    if (all) v->ints = all;
    for (size_t i = 0, k; rc == KV_OK && i < n; i++) {
        for (k = 0; k < v->n && all[k] != some[i]; k++) {
        }
        if (k == v->n) all[v->n++] = some[i];
    }
    if (some != &zero) free(some);
    return rc;
}

static int set_words_and_ints(const kv_opt_def *d, const char *text, kv_opt_value *v, kv_error *err) {
    char **texts = NULL;
    size_t n = 0;
    int rc = kv_list_texts(text, &texts, &n, err);
    for (size_t i = 0; i < n && rc == KV_OK; i++) rc = set_word_or_ints(d, texts[i], v, err);
    for (size_t i = 0; i < n; i++) free(texts[i]);
    free(texts);
    return rc;
}

static int set_ints(const kv_opt_def *d, int list, const char *text, kv_opt_value *v, kv_error *err) {
    kv_error why = {0};
    int rc = d->choices               ? set_words_and_ints(d, text, v, &why)
             : d->type == KV_TYPE_IDS ? kv_list_ids(text, (int64_t)d->max, &v->ints, &v->n, &why)
                                      : kv_list_ints(text, (int64_t)d->min, (int64_t)d->max, &v->ints, &v->n, &why);
    if (rc) return kv_fail(err, rc, "--%s '%s': %s (%s)", d->name, text, why.text, d->help);
    if (!list && v->n > 1) return kv_fail(err, KV_EARG, "--%s '%s': takes one value here, not a list", d->name, text);
    return KV_OK;
}

static int set_real(const kv_opt_def *d, const char *text, kv_opt_value *v, kv_error *err) {
    char *end;
    v->real = strtod(text, &end);
    if (end == text || *end || !isfinite(v->real))
        return kv_fail(err, KV_EARG, "--%s '%s': not a number (%s)", d->name, text, d->help);
    if (v->real < d->min || v->real > d->max)
        return kv_fail(err, KV_EARG, "--%s %s: outside %g..%g (%s)", d->name, text, d->min, d->max, d->help);
    v->n = 1;
    return KV_OK;
}

static int set(const kv_opt_def *d, kv_cmd_id cmd, const char *text, kv_opt_value *v, kv_error *err) {
    int list = (d->lists >> cmd) & 1;
    switch (d->type) {
    case KV_TYPE_IDS:
    case KV_TYPE_INT:
        return set_ints(d, list, text, v, err);
    case KV_TYPE_REAL:
        return set_real(d, text, v, err);
    case KV_TYPE_TEXT:
        return set_texts(d, list, text, v, err);
    case KV_TYPE_FLAG:
        break;
    }
    v->n = 1;
    return KV_OK;
}

static int store(kv_cmd_id cmd, int id, const char *value, kv_opts *o, kv_error *err) {
    const kv_opt_def *d = &kv_opt_table()[id];
    if (o->v[id].given)
        return kv_fail(err, KV_EARG, "--%s is there twice%s", d->name,
                       (d->lists >> cmd) & 1 ? ": separate values by commas" : "");
    o->v[id].given = 1;
    return set(d, cmd, value, &o->v[id], err);
}

/* An argument without a name. */
static int parse_bare(kv_cmd_id cmd, const char *arg, kv_opts *o, kv_error *err) {
    const kv_opt_def *t = kv_opt_table();
    for (int i = 0; i < KV_N_OPTS; i++)
        if (t[i].positional && belongs(&t[i], cmd) && !o->v[i].given && (arg[0] != '-' || !arg[1]))
            return store(cmd, i, arg, o, err);
    return kv_fail(err, KV_EARG, "unexpected argument '%s': options start with --", arg);
}

/* One argument, and its value when that is the next one; *used = how many were consumed. */
static int parse_one(kv_cmd_id cmd, int argc, char *const *argv, kv_opts *o, int *used, kv_error *err) {
    char name[64];
    const char *arg = argv[0], *value = strchr(arg, '=');
    *used = 1;
    if (strncmp(arg, "--", 2) != 0 || !arg[2]) return parse_bare(cmd, arg, o, err);
    size_t len = value ? (size_t)(value - arg) - 2 : strlen(arg) - 2;
    if (len >= sizeof name) return kv_fail(err, KV_EARG, "unknown option %.60s...", arg);
    memcpy(name, arg + 2, len);
    name[len] = 0;

    int id = find(name, cmd);
    if (id < 0) return unknown(name, cmd, err);
    if (kv_opt_table()[id].type == KV_TYPE_FLAG) {
        if (value) return kv_fail(err, KV_EARG, "--%s takes no value", name);
    } else if (value) {
        value++;
    } else if (!o->v[id].given) {
        if (argc < 2) return kv_fail(err, KV_EARG, "--%s needs a value: %s", name, kv_opt_table()[id].arg);
        value = argv[1];
        *used = 2;
    }
    return store(cmd, id, value, o, err);
}

int kv_opts_parse(kv_cmd_id cmd, int argc, char *const *argv, kv_opts *o, kv_error *err) {
    const kv_opt_def *t = kv_opt_table();
    memset(o, 0, sizeof *o);
    o->cmd = cmd;
    for (int i = 0; i < argc; i++)
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) o->help = 1;
    if (o->help) return KV_OK;
    for (int i = 0, used = 0; i < argc; i += used) {
        int rc = parse_one(cmd, argc - i, argv + i, o, &used, err);
        if (rc) return rc;
    }
    for (int i = 0; i < KV_N_OPTS; i++) {
        if (!belongs(&t[i], cmd) || o->v[i].given || !t[i].def) continue;
        int rc = set(&t[i], cmd, t[i].def, &o->v[i], err);
        if (rc) return rc;
    }
    return KV_OK;
}

void kv_opts_free(kv_opts *o) {
    for (int i = 0; i < KV_N_OPTS; i++) {
        kv_opt_value *v = &o->v[i];
        for (size_t j = 0; v->texts && j < v->n; j++) free(v->texts[j]);
        free(v->texts);
        free(v->ints);
    }
    memset(o, 0, sizeof *o);
}

int kv_opts_given(const kv_opts *o, kv_opt_id id) {
    return o->v[id].given;
}

size_t kv_opts_n(const kv_opts *o, kv_opt_id id) {
    return o->v[id].n;
}

const char *kv_opts_text(const kv_opts *o, kv_opt_id id) {
    return o->v[id].n ? o->v[id].texts[0] : NULL;
}

const char *kv_opts_text_or(const kv_opts *o, kv_opt_id id, const char *otherwise) {
    return o->v[id].n ? o->v[id].texts[0] : otherwise;
}

int64_t kv_opts_int(const kv_opts *o, kv_opt_id id) {
    return o->v[id].n ? o->v[id].ints[0] : 0;
}

double kv_opts_real(const kv_opts *o, kv_opt_id id) {
    return o->v[id].real;
}

int kv_opts_flag(const kv_opts *o, kv_opt_id id) {
    return o->v[id].n > 0;
}
