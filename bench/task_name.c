/* task_name.c - looks a task up among those of the datasets folder before it is opened, for messages that say what
 * was meant. */
#include "bench/task_name.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/options.h"
#include "datasets/task.h"

typedef struct task_lookup {
    const char *wanted; /* name without parameters */
    int found;
    char *variants;
    const char **names; /* grown copies of every name, for suggestions */
    size_t n;
} task_lookup;

static void look_at_task(void *user, const char *name, const char *title, const char *variants, int n_items,
                         int max_new) {
    task_lookup *l = user;
    (void)title, (void)n_items, (void)max_new;
    const char **names = realloc(l->names, (l->n + 1) * sizeof *names);
    char *copy = strdup(name);
    if (names) l->names = names;
    if (!names || !copy) {
        free(copy);
        return;
    }
    l->names[l->n++] = copy;
    if (strcmp(name, l->wanted) != 0) return;
    l->found = 1;
    snprintf(l->variants, KV_VARIANTS_MAX, "%s", variants ? variants : "");
}

int kv_task_name_has(const char *words, const char *word) {
    size_t len = strlen(word);
    while (*words) {
        size_t n = strcspn(words, ",");
        if (n == len && strncmp(words, word, n) == 0) return 1;
        words += n + strspn(words + n, ",");
    }
    return 0;
}

int kv_task_name_check(const char *root, const char *spec, const char *variant, char variants[KV_VARIANTS_MAX],
                       kv_error *err) {
    char name[128];
    task_lookup l = {.wanted = name, .variants = variants};
    variants[0] = 0;
    snprintf(name, sizeof name, "%.*s", (int)strcspn(spec, ":"), spec);
    int rc = kv_task_list(root, look_at_task, &l, err);
    if (rc == KV_OK && !l.found) {
        const char *meant = kv_nearest(name, l.names, l.n);
        rc = kv_fail(err, KV_EARG, "--task: no task '%s'%s%s%s", name,
                     meant ? ": did you mean '" : ": see trimbench list", meant ? meant : "", meant ? "'?" : "");
    } else if (rc == KV_OK && variant && variants[0] && !kv_task_name_has(variants, variant)) {
        rc = kv_fail(err, KV_EARG, "--prompt-variant '%s': task %s has %s", variant, name, variants);
    }
    for (size_t i = 0; i < l.n; i++) free((char *)l.names[i]);
    free(l.names);
    return rc;
}
