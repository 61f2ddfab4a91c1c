/* math_value.c - the arena of an answer's tree; see math_value.h. */
#include "datasets/math_value.h"

#include <stdlib.h>
#include <string.h>

enum { BLOCK_NODES = 32 };

struct kv_math_block {
    struct kv_math_block *next;
    int used;
    kv_math_node nodes[BLOCK_NODES];
};

kv_math_node *kv_math_new(kv_math *m, kv_math_kind kind) {
    struct kv_math_block *b = m->blocks;
    if (m->n_nodes == KV_MATH_MAX_NODES) m->failed = 1;
    if (m->failed) return NULL;
    if (!b || b->used == BLOCK_NODES) {
        b = malloc(sizeof *b);
        if (!b) {
            m->failed = 1;
            return NULL;
        }
        b->used = 0;
        b->next = m->blocks;
        m->blocks = b;
    }
    kv_math_node *a = &b->nodes[b->used++];
    memset(a, 0, sizeof *a);
    a->kind = kind;
    a->decimals = -1;
    if (kind == KV_MATH_NUMBER) mpq_init(a->number);
    m->n_nodes++;
    return a;
}

void kv_math_add(kv_math_node *parent, kv_math_node *child) {
    kv_math_node **at = &parent->child;
    while (*at) at = &(*at)->next;
    *at = child;
    child->next = NULL;
    parent->n++;
}

void kv_math_free(kv_math *m) {
    for (struct kv_math_block *b = m->blocks, *next; b; b = next) {
        next = b->next;
        for (int i = 0; i < b->used; i++)
            if (b->nodes[i].kind == KV_MATH_NUMBER) mpq_clear(b->nodes[i].number);
        free(b);
    }
    memset(m, 0, sizeof *m);
}

int kv_math_is_scalar(const kv_math_node *a) {
    return a->kind <= KV_MATH_FUNCTION;
}

int kv_math_has(const kv_math_node *a, kv_math_kind kind) {
    if (a->kind == kind) return 1;
    for (const kv_math_node *c = a->child; c; c = c->next)
        if (kv_math_has(c, kind)) return 1;
    return 0;
}

int kv_math_is_constant(const kv_math_node *a, const char *name) {
    return a->kind == KV_MATH_CONSTANT && a->name.n == strlen(name) && !memcmp(a->name.s, name, a->name.n);
}
