/* math_shape.c - gives answers that mean the same the same shape: an inequality in one variable is an interval, an
 * interval without a few points is a union, "x in S" is S, "a = b = c" is "a = c". */
#include "datasets/math_compare.h"
#include "datasets/math_eval.h"

#include <string.h>

enum { MAX_POINTS = 8 };

static kv_math_node *infinity(kv_math *m, int minus) {
    kv_math_node *a = kv_math_new(m, KV_MATH_CONSTANT), *n = minus ? kv_math_new(m, KV_MATH_NEGATION) : a;
    if (!a || !n) return NULL;
    a->name = (kv_span){"infty", 5};
    if (minus) kv_math_add(n, a);
    return n;
}

static kv_math_node *interval(kv_math *m, kv_math_node *low, int low_closed, kv_math_node *high, int high_closed) {
    kv_math_node *a = kv_math_new(m, low_closed || high_closed ? KV_MATH_INTERVAL : KV_MATH_TUPLE);
    if (!a || !low || !high) return NULL;
    kv_math_add(a, low);
    kv_math_add(a, high);
    a->closed_left = (unsigned char)low_closed;
    a->closed_right = (unsigned char)high_closed;
    return a;
}

static int is_less(kv_math_op op) {
    return op == KV_OP_LT || op == KV_OP_LE;
}

static int is_greater(kv_math_op op) {
    return op == KV_OP_GT || op == KV_OP_GE;
}

/* x < b, b < x, a < x < b and their mirror images; NULL when the relation is nothing of that kind. */
static kv_math_node *from_inequality(kv_math *m, const kv_math_node *r) {
    kv_math_node *s[3] = {r->child, r->child->next, r->child->next->next};
    kv_math_op first = s[1]->op, second = s[2] ? s[2]->op : KV_OP_NONE;
    int closed[2] = {first == KV_OP_LE || first == KV_OP_GE, second == KV_OP_LE || second == KV_OP_GE};
    int less = is_less(first);
    int open_ended = !s[2], left = s[0]->kind == KV_MATH_VARIABLE;
    if (r->n > 3 || (!less && !is_greater(first)) || (s[2] && (less ? !is_less(second) : !is_greater(second))))
        return NULL;
    kv_math_node *x = open_ended ? s[!left] : s[1], *bound = s[left];
    if (x->kind != KV_MATH_VARIABLE) return NULL;
    if (open_ended ? !kv_math_is_closed(bound) : !kv_math_is_closed(s[0]) || !kv_math_is_closed(s[2])) return NULL;
    kv_math_node *out;
    if (!open_ended)
        out = interval(m, less ? s[0] : s[2], closed[!less], less ? s[2] : s[0], closed[less]);
    else if (left == less)
        out = interval(m, infinity(m, 1), 0, bound, closed[0]);
    else
        out = interval(m, bound, closed[0], infinity(m, 0), 0);
    if (out) out->name = x->name;
    return out;
}

static int real_value(const kv_math_node *a, mpfr_t out) {
    mpc_t x;
    mpc_init2(x, KV_MATH_BITS);
    int ok = kv_math_is_closed(a) && kv_math_eval(a, (kv_math_at){0, 1}, x) && mpfr_zero_p(mpc_imagref(x));
    if (ok) mpfr_set(out, mpc_realref(x), MPFR_RNDN);
    mpc_clear(x);
    return ok;
}

/* 1 when a < b, both real. */
static int is_below(const kv_math_node *a, const kv_math_node *b) {
    mpfr_t x, y;
    mpfr_inits2(KV_MATH_BITS, x, y, (mpfr_ptr)0);
    int below = real_value(a, x) && real_value(b, y) && mpfr_less_p(x, y);
    mpfr_clears(x, y, (mpfr_ptr)0);
    return below;
}

/* Sorts at most MAX_POINTS distinct real numbers; 0 when they are no such. */
static int sort_points(const kv_math_node *set, kv_math_node **points) {
    int n = 0;
    for (kv_math_node *c = set->child; c; c = c->next) {
        int k = n++;
        if (n > MAX_POINTS) return 0;
        while (k && is_below(c, points[k - 1])) points[k] = points[k - 1], k--;
        points[k] = c;
    }
    for (int k = 1; k < n; k++)
        if (!is_below(points[k - 1], points[k])) return 0;
    return n;
}

/* A node has one next sibling, so a point that ends two intervals stands in two sums of its own. */
static kv_math_node *wrap(kv_math *m, kv_math_node *point) {
    kv_math_node *sum = kv_math_new(m, KV_MATH_SUM);
    if (sum) kv_math_add(sum, point);
    return sum;
}

/* (2,102) \ {12} is (2,12) u (12,102).  Points at or outside the ends leave the difference as it is. */
static kv_math_node *without_points(kv_math *m, kv_math_node *a) {
    kv_math_node *whole = a->child, *set = whole->next, *points[MAX_POINTS];
    if ((whole->kind != KV_MATH_TUPLE && whole->kind != KV_MATH_INTERVAL) || whole->n != 2 || set->kind != KV_MATH_SET)
        return a;
    kv_math_node *low = whole->child, *high = low->next;
    int n = sort_points(set, points), closed = whole->closed_left, high_closed = whole->closed_right;
    if (!n || !is_below(low, points[0]) || !is_below(points[n - 1], high)) return a;
    kv_math_node *all = kv_math_new(m, KV_MATH_UNION), *piece;
    for (int k = 0; k <= n; k++) {
        kv_math_node *from = k ? wrap(m, points[k - 1]) : low, *to = k < n ? wrap(m, points[k]) : high;
        piece = all && from && to ? interval(m, from, closed, to, k == n && high_closed) : NULL;
        if (!piece) return a;
        closed = 0;
        kv_math_add(all, piece);
    }
    return all;
}

static kv_math_node *shape(kv_math *m, kv_math_node *a);

static kv_math_node *shape_relation(kv_math *m, kv_math_node *r) {
    kv_math_node *first = r->child, *last = first, *in = NULL;
    int sides = 0;
    for (kv_math_node *c = first; c; c = c->next, sides++) {
        if (c->op == KV_OP_APPROX && last->kind != KV_MATH_VARIABLE) {
            last->next = NULL;
            r->n = sides; /* exact value \approx decimal: the exact one counts */
            break;
        }
        if (c->op == KV_OP_APPROX) c->op = KV_OP_EQ;
        if (c->op == KV_OP_IN) in = c;
        last = c;
    }
    if (in && in == last) return shape(m, in);
    if (last == first) return shape(m, first);
    kv_math_node *as_interval = from_inequality(m, r);
    if (as_interval) return as_interval;
    for (kv_math_node *c = first->next; c; c = c->next)
        if (c->op != KV_OP_EQ) return r;
    last = shape(m, last);
    last->op = KV_OP_EQ;
    first->next = last;
    last->next = NULL;
    r->n = 2;
    return r;
}

static kv_math_node *shape(kv_math *m, kv_math_node *a) {
    if (a->kind == KV_MATH_RELATION) return shape_relation(m, a);
    if (a->kind == KV_MATH_DIFFERENCE) return without_points(m, a);
    if (a->kind != KV_MATH_LIST && a->kind != KV_MATH_SET && a->kind != KV_MATH_UNION) return a;
    kv_math_node *all = kv_math_new(m, a->kind);
    if (!all) return a;
    for (kv_math_node *c = a->child, *next; c; c = next) {
        next = c->next;
        kv_math_add(all, shape(m, c));
    }
    return all;
}

void kv_math_shape(kv_math_answer *a) {
    if (a->root) a->root = shape(&a->tree, a->root);
}
