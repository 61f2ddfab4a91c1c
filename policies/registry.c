/* registry.c - the list of policies and the parser of `name:key=value:key=value`.
 *
 * Two texts that mean the same configuration get the same canonical form, because that form is part of the identity of
 * a result: parameters in option order, defaults left out, numbers in the shortest decimal form that reads back as the
 * same double.  Numbers are plain decimals; NaN, infinity, hexadecimal and trailing text are refused.
 *
 * To add a policy, add its line to the two lists below (policies/README.md). */
#include "policies/registry.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

extern const kv_policy kv_policy_full, kv_policy_window, kv_policy_random, kv_policy_h2o, kv_policy_snapkv,
    kv_policy_trimkv, kv_policy_dbtrimkv;

static const kv_policy *const policies[] = {
    &kv_policy_full,   &kv_policy_window, &kv_policy_random,   &kv_policy_h2o,
    &kv_policy_snapkv, &kv_policy_trimkv, &kv_policy_dbtrimkv,
};
enum { N_POLICIES = sizeof policies / sizeof *policies, MAX_WORD = 64 };

const kv_policy *const *kv_policy_all(int *n) {
    *n = N_POLICIES;
    return policies;
}

const kv_policy *kv_policy_find(const char *name) {
    for (int i = 0; i < N_POLICIES; i++)
        if (strcmp(policies[i]->name, name) == 0) return policies[i];
    return NULL;
}

/* Levenshtein distance; words are shorter than MAX_WORD. */
static int edit_distance(const char *a, const char *b) {
    int row[MAX_WORD + 1], n = (int)strlen(b);
    for (int j = 0; j <= n; j++) row[j] = j;
    for (int i = 0; a[i]; i++) {
        int diagonal = row[0];
        row[0] = i + 1;
        for (int j = 0; j < n; j++) {
            int best = diagonal + (a[i] != b[j]);
            if (row[j] + 1 < best) best = row[j] + 1;
            if (row[j + 1] + 1 < best) best = row[j + 1] + 1;
            diagonal = row[j + 1];
            row[j + 1] = best;
        }
    }
    return row[n];
}

/* A list of words for an error text; what does not fit is cut off. */
typedef struct word_list {
    char text[256];
    size_t len;
} word_list;

static void list_add(word_list *l, const char *word) {
    int n = snprintf(l->text + l->len, sizeof l->text - l->len, "%s%s", l->len ? ", " : "", word);
    l->len += (size_t)n < sizeof l->text - l->len ? (size_t)n : sizeof l->text - l->len - 1;
}

static int unknown_policy(const char *name, kv_error *err) {
    word_list all = {0};
    const kv_policy *nearest = policies[0];
    for (int i = 0; i < N_POLICIES; i++) {
        list_add(&all, policies[i]->name);
        if (edit_distance(name, policies[i]->name) < edit_distance(name, nearest->name)) nearest = policies[i];
    }
    return kv_fail(err, KV_ENOTFOUND, "no policy '%s'; did you mean '%s'? There are: %s", name, nearest->name,
                   all.text);
}

static int unknown_key(const kv_policy *p, const char *key, kv_error *err) {
    if (!p->options || !p->options[0].name)
        return kv_fail(err, KV_EARG, "policy %s takes no parameters, but got '%s'", p->name, key);
    word_list all = {0};
    const kv_option *nearest = p->options;
    for (const kv_option *o = p->options; o->name; o++) {
        list_add(&all, o->name);
        if (edit_distance(key, o->name) < edit_distance(key, nearest->name)) nearest = o;
    }
    return kv_fail(err, KV_EARG, "policy %s has no parameter '%s'; did you mean '%s'? It has: %s", p->name, key,
                   nearest->name, all.text);
}

/* Index of word in "a|b|c", or -1. */
static int choice_index(const char *choices, const char *word) {
    size_t n = strlen(word);
    for (int i = 0;; i++) {
        size_t len = strcspn(choices, "|");
        if (len == n && memcmp(choices, word, n) == 0) return i;
        if (!choices[len]) return -1;
        choices += len + 1;
    }
}

static int parse_value(const kv_policy *p, const kv_option *o, const char *text, double *out, kv_error *err) {
    if (o->choices) {
        int i = choice_index(o->choices, text);
        if (i < 0) return kv_fail(err, KV_EARG, "policy %s: %s='%s' is none of %s", p->name, o->name, text, o->choices);
        *out = i;
        return KV_OK;
    }
    char *end = NULL;
    double x = strtod(text, &end);
    if (!text[0] || text[strspn(text, "0123456789+-.eE")] || *end || !isfinite(x))
        return kv_fail(err, KV_EARG, "policy %s: %s='%s' is not a number; give one from %.17g to %.17g", p->name,
                       o->name, text, o->min, o->max);
    if (o->integer && x != floor(x))
        return kv_fail(err, KV_EARG, "policy %s: %s=%s must be a whole number", p->name, o->name, text);
    if (x < o->min || x > o->max)
        return kv_fail(err, KV_EARG, "policy %s: %s=%s is out of range; give a value from %.17g to %.17g", p->name,
                       o->name, text, o->min, o->max);
    *out = x + 0.0; /* -0 and 0 are one value, so one identity */
    return KV_OK;
}

/* One "key=value"; given[i] is set for the option it sets. */
static int parse_pair(kv_policy_spec *spec, char *pair, int *given, kv_error *err) {
    const kv_policy *p = spec->policy;
    char *eq = strchr(pair, '=');
    if (!eq)
        return kv_fail(err, KV_EARG, "policy %s: '%s' is not of the form key=value (as in name:key=value:key=value)",
                       p->name, pair);
    *eq = '\0';
    for (int i = 0; p->options && p->options[i].name; i++) {
        if (strcmp(p->options[i].name, pair) != 0) continue;
        if (given[i]) return kv_fail(err, KV_EARG, "policy %s: %s is given twice; give it once", p->name, pair);
        given[i] = 1;
        return parse_value(p, &p->options[i], eq + 1, &spec->values[i], err);
    }
    return unknown_key(p, pair, err);
}

static void format_value(const kv_option *o, double x, char out[32]) {
    if (o->choices) {
        const char *word = o->choices;
        for (int i = 0; i < (int)x; i++) word += strcspn(word, "|") + 1;
        snprintf(out, 32, "%.*s", (int)strcspn(word, "|"), word);
        return;
    }
    int digits = 1;
    do snprintf(out, 32, "%.*g", digits, x);
    while (strtod(out, NULL) != x && digits++ < 17);
    if (o->integer) snprintf(out, 32, "%.0f", x);
}

static int write_canonical(kv_policy_spec *spec, kv_error *err) {
    const kv_policy *p = spec->policy;
    size_t room = sizeof spec->canonical;
    size_t len = (size_t)snprintf(spec->canonical, room, "%s", p->name);
    for (int i = 0; p->options && p->options[i].name; i++) {
        const kv_option *o = &p->options[i];
        double x = spec->values[i];
        if (x == o->def || (isnan(x) && isnan(o->def))) continue;
        char value[32];
        format_value(o, x, value);
        if (len < room) len += (size_t)snprintf(spec->canonical + len, room - len, ":%s=%s", o->name, value);
    }
    if (len >= room)
        return kv_fail(err, KV_ELIMIT, "policy %s: its parameters need more than %zu characters; set fewer", p->name,
                       room - 1);
    return KV_OK;
}

/* Cuts text at the first ':' into word; *rest receives what follows it, or NULL. */
static int next_word(const char *text, char word[MAX_WORD], const char **rest, kv_error *err) {
    size_t n = strcspn(text, ":");
    if (n >= MAX_WORD)
        return kv_fail(err, KV_EARG, "policy text '%.40s...' is too long: at most %d characters between two ':'", text,
                       MAX_WORD - 1);
    memcpy(word, text, n);
    word[n] = '\0';
    *rest = text[n] ? text + n + 1 : NULL;
    return KV_OK;
}

int kv_policy_parse(const char *text, kv_policy_spec *spec, kv_error *err) {
    char word[MAX_WORD];
    const char *rest = NULL;
    int given[KV_MAX_OPTIONS] = {0};
    int rc = next_word(text, word, &rest, err);
    if (rc) return rc;
    memset(spec, 0, sizeof *spec);
    spec->policy = kv_policy_find(word);
    if (!spec->policy) return unknown_policy(word, err);
    const kv_option *o = spec->policy->options;
    for (int i = 0; o && o[i].name; i++) spec->values[i] = o[i].def;
    while (rest && rc == KV_OK) {
        rc = next_word(rest, word, &rest, err);
        if (rc == KV_OK) rc = parse_pair(spec, word, given, err);
    }
    return rc ? rc : write_canonical(spec, err);
}
