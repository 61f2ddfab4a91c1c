/* snapshot.c - see snapshot.h. */
#include "bench/snapshot.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/hub.h"
#include "engine/file.h"
#include "engine/gates.h"
#include "policies/registry.h"

static int belongs(const kv_opts *o, kv_opt_id id) {
    return (kv_opt_table()[id].commands >> o->cmd & 1u) != 0;
}

static int set_text(kv_opts *o, kv_opt_id id, size_t i, const char *text, kv_error *err) {
    char *copy = strdup(text);
    if (!copy) return kv_fail(err, KV_ENOMEM, "out of memory");
    free(o->v[id].texts[i]);
    o->v[id].texts[i] = copy;
    return KV_OK;
}

/* A number in place of the default. */
static void set_int(kv_opts *o, kv_opt_id id, int value) {
    if (belongs(o, id) && !kv_opts_given(o, id) && o->v[id].n) o->v[id].ints[0] = value;
}

/* A budget of 0 is none; a buffer of 0 reduces as soon as there is something to drop, which is B = 1 here. */
static int set_sizes(kv_opts *o, const kv_gates_config *c, const char *gates, kv_error *err) {
    int fixed = !c->strategy[0] || strcmp(c->strategy, "alpha") == 0 || strcmp(c->strategy, "knorm_alpha") == 0 ||
                strcmp(c->strategy, "fixed_budget") == 0;
    if (!fixed && belongs(o, KV_OPT_BUDGET) && !kv_opts_given(o, KV_OPT_BUDGET))
        return kv_fail(err, KV_EUNSUPPORTED,
                       "--gates %s: its config.json asks for strategy '%s', which is not implemented; give --budget "
                       "for a fixed one",
                       gates, c->strategy);
    if (c->budget) set_int(o, KV_OPT_BUDGET, c->budget);
    if (c->budget || c->buffer) set_int(o, KV_OPT_BUFFER, c->buffer ? c->buffer : 1);
    return KV_OK;
}

/* Adds name=value to a policy that has such a parameter and does not set it. */
static int set_parameter(kv_opts *o, kv_opt_id id, size_t i, const char *name, int value, kv_error *err) {
    const char *text = o->v[id].texts[i];
    char key[32], longer[256];
    kv_policy_spec spec;
    if (kv_policy_parse(text, &spec, NULL) || !(spec.policy->needs & KV_NEED_GATES)) return KV_OK;
    snprintf(key, sizeof key, ":%s=", name);
    if (strstr(text, key)) return KV_OK;
    for (const kv_option *p = spec.policy->options; p && p->name; p++)
        if (strcmp(p->name, name) == 0) {
            if (snprintf(longer, sizeof longer, "%s%s%d", text, key, value) >= (int)sizeof longer)
                return kv_fail(err, KV_ELIMIT, "--policy %.80s...: too long to add %s of the gates", text, name);
            return set_text(o, id, i, longer, err);
        }
    return KV_OK;
}

static int set_parameters(kv_opts *o, const kv_gates_config *c, kv_error *err) {
    static const kv_opt_id ids[] = {KV_OPT_POLICY, KV_OPT_POLICY_ONE};
    int rc = KV_OK, knorm = strcmp(c->strategy, "knorm_alpha") == 0;
    for (size_t k = 0; k < sizeof ids / sizeof *ids; k++)
        for (size_t i = 0; belongs(o, ids[k]) && i < kv_opts_n(o, ids[k]); i++) {
            if (rc == KV_OK && c->window) rc = set_parameter(o, ids[k], i, "window", c->window, err);
            if (rc == KV_OK && c->lookahead) rc = set_parameter(o, ids[k], i, "lookahead", c->lookahead, err);
            if (rc == KV_OK && knorm) rc = set_parameter(o, ids[k], i, "knorm", 1, err);
        }
    return rc;
}

static int read_config(const char *gates, kv_gates_config *c, kv_error *err) {
    char weights[KV_GATES_PATH], config[KV_GATES_PATH];
    int rc = kv_gates_find(gates, weights, config, err);
    return rc ? rc : kv_gates_read_config(config, c, err);
}

/* The base model where no model was given; as its name, which --model looks up again. */
static int set_model(kv_opts *o, const kv_paths *p, const kv_gates_config *c, const char *gates, kv_error *err) {
    char dir[KV_PATH_MAX];
    kv_gates_config own;
    kv_error why = {0};
    if (!belongs(o, KV_OPT_MODEL) || kv_opts_given(o, KV_OPT_MODEL) || !c->base_model[0]) return KV_OK;
    if (read_config(p->gates, &own, NULL) == KV_OK && strcmp(own.base_model, c->base_model) == 0) return KV_OK;
    if (kv_hub_locate(c->base_model, dir, &why))
        return kv_fail(err, KV_ENOTFOUND,
                       "--gates %.100s are made for another model than the default one, and without --model it is "
                       "looked for: %.310s",
                       gates, why.text);
    kv_opt_value *v = &o->v[KV_OPT_MODEL];
    v->texts = calloc(1, sizeof *v->texts);
    if (!v->texts) return kv_fail(err, KV_ENOMEM, "out of memory");
    v->n = 1;
    return set_text(o, KV_OPT_MODEL, 0, c->base_model, err);
}

/* By the last part of the name, which a folder in the hub's cache and most copies of it have, too; a GGUF file's goes
 * on with the type of its weights. */
static int is_of_model(const char *model, const char *base) {
    char dir[KV_PATH_MAX], title[96];
    const char *slash = strrchr(base, '/'), *name = slash ? slash + 1 : base;
    if (strcmp(model, base) == 0 || strncmp(model, "synth:", 6) == 0) return 1;
    if (kv_hub_locate(model, dir, NULL)) return 1; /* the command will say that it is not there */
    kv_file_title(dir, title, sizeof title);
    size_t n = strlen(name);
    return strncmp(title, name, n) == 0 && (title[n] == 0 || title[n] == '.');
}

/* Shapes are checked when gates are opened; a fine-tuned sibling of the base model has the same. */
static void compare_models(const kv_opts *o, const kv_gates_config *c, const char *gates, char note[KV_SNAPSHOT_NOTE]) {
    size_t n = belongs(o, KV_OPT_MODEL) && c->base_model[0] ? kv_opts_n(o, KV_OPT_MODEL) : 0;
    for (size_t i = 0; i < n && !note[0]; i++) {
        const char *model = o->v[KV_OPT_MODEL].texts[i];
        if (!is_of_model(model, c->base_model))
            snprintf(note, KV_SNAPSHOT_NOTE, "--gates %s are made for %s: --model %.160s should be that model", gates,
                     c->base_model, model);
    }
}

int kv_snapshot_apply(kv_opts *o, const kv_paths *p, char note[KV_SNAPSHOT_NOTE], kv_error *err) {
    const char *gates = belongs(o, KV_OPT_GATES) ? kv_opts_text(o, KV_OPT_GATES) : NULL;
    char dir[KV_PATH_MAX], typed[160];
    kv_gates_config c;
    kv_error why = {0};
    note[0] = 0;
    if (!gates || strcmp(gates, "none") == 0) return KV_OK;
    int rc = kv_hub_locate(gates, dir, &why);
    if (rc) return kv_fail(err, rc, "--gates: %.480s", why.text);
    snprintf(typed, sizeof typed, "%s", gates);
    rc = set_text(o, KV_OPT_GATES, 0, dir, err);
    if (rc == KV_OK) rc = read_config(dir, &c, err);
    if (rc == KV_OK) rc = set_sizes(o, &c, typed, err);
    if (rc == KV_OK) rc = set_parameters(o, &c, err);
    if (rc == KV_OK) rc = set_model(o, p, &c, typed, err);
    if (rc == KV_OK) compare_models(o, &c, typed, note);
    return rc;
}
