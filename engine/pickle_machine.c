/* pickle_machine.c - a restricted reader of Python pickles (opcodes: the comments of CPython's Lib/pickletools.py).
 *
 * The machine has a stack, a memo and values that are plain data.  Names resolve to entries of a fixed table, never to
 * code; REDUCE and BUILD know three of them.  Lists, numbers and flags are read and forgotten: only what leads from the
 * dict to its tensors is kept.  No opcode makes more than one value of a kind, so arrays as long as the pickle, which
 * is at most 1 MiB, hold everything without growing. */
#include "engine/pickle_machine.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

typedef enum role { MAKES_DICT, MAKES_TENSOR, MAKES_PARAMETER, IS_STORAGE } role;

/* All the names there are. */
static const struct {
    const char *module, *name;
    role role;
    const char *dtype;
    kv_dtype type;
} globals[] = {
    {"collections", "OrderedDict", MAKES_DICT, NULL, KV_N_DTYPES},
    {"torch._utils", "_rebuild_tensor_v2", MAKES_TENSOR, NULL, KV_N_DTYPES},
    {"torch._utils", "_rebuild_parameter", MAKES_PARAMETER, NULL, KV_N_DTYPES},
    {"torch", "FloatStorage", IS_STORAGE, "Float", KV_F32},
    {"torch", "HalfStorage", IS_STORAGE, "Half", KV_F16},
    {"torch", "BFloat16Storage", IS_STORAGE, "BFloat16", KV_BF16},
    {"torch", "DoubleStorage", IS_STORAGE, "Double", KV_N_DTYPES},
    {"torch", "LongStorage", IS_STORAGE, "Long", KV_N_DTYPES},
    {"torch", "IntStorage", IS_STORAGE, "Int", KV_N_DTYPES},
    {"torch", "ShortStorage", IS_STORAGE, "Short", KV_N_DTYPES},
    {"torch", "CharStorage", IS_STORAGE, "Char", KV_N_DTYPES},
    {"torch", "ByteStorage", IS_STORAGE, "Byte", KV_N_DTYPES},
    {"torch", "BoolStorage", IS_STORAGE, "Bool", KV_N_DTYPES},
};

static const char *op_name(uint8_t op);

static int fail(const pk_reader *r, int code, const char *fmt, ...) KV_PRINTF(3, 4);

static int fail(const pk_reader *r, int code, const char *fmt, ...) {
    char what[320];
    va_list args;
    va_start(args, fmt);
    vsnprintf(what, sizeof what, fmt, args);
    va_end(args);
    for (char *c = what; *c; c++) {
        if ((unsigned char)*c < ' ' || *c == 127) *c = '?';
    }
    return kv_fail(r->err, code, "%.120s: pickle, byte %zu, opcode %s: %s", r->file, r->op_at, op_name(r->op), what);
}

static int cut_short(const pk_reader *r) {
    return fail(r, KV_EFORMAT, "the pickle ends within it: truncated?");
}

/* A little-endian number of n <= 8 bytes. */
static int take(pk_reader *r, size_t n, uint64_t *out) {
    *out = 0;
    if (r->size - r->at < n) return cut_short(r);
    for (size_t i = 0; i < n; i++) *out |= (uint64_t)r->p[r->at + i] << (8 * i);
    r->at += n;
    return KV_OK;
}

static int push(pk_reader *r, pk_value v) {
    r->stack[r->n_stack++] = v;
    return KV_OK;
}

static size_t floor_of(const pk_reader *r) {
    return r->n_marks ? r->marks[r->n_marks - 1] : 0;
}

/* The topmost n values, none from below the last mark; they leave the stack but stay readable until the next push. */
static int pop(pk_reader *r, size_t n, const pk_value **out) {
    *out = r->stack;
    if (r->n_stack - floor_of(r) < n) return fail(r, KV_EFORMAT, "the stack holds too few values");
    r->n_stack -= n;
    *out = r->stack + r->n_stack;
    return KV_OK;
}

/* Everything above the last mark. */
static int pop_mark(pk_reader *r, const pk_value **out, size_t *n) {
    *out = r->stack;
    *n = 0;
    if (r->n_marks == 0) return fail(r, KV_EFORMAT, "no MARK before it");
    *n = r->n_stack - floor_of(r);
    int rc = pop(r, *n, out);
    r->n_marks--;
    return rc;
}

static int top(const pk_reader *r, pk_kind kind, const char *what, pk_value **out) {
    *out = r->stack;
    if (r->n_stack == floor_of(r) || r->stack[r->n_stack - 1].kind != kind)
        return fail(r, KV_EFORMAT, "applied to something that is no %s", what);
    *out = &r->stack[r->n_stack - 1];
    return KV_OK;
}

static int op_proto(pk_reader *r, int arg) {
    uint64_t version;
    (void)arg;
    int rc = take(r, 1, &version);
    if (rc != KV_OK) return rc;
    if (version < 2 || version > 5) return fail(r, KV_EUNSUPPORTED, "protocol %d; 2 to 5 are read", (int)version);
    return KV_OK;
}

static int op_frame(pk_reader *r, int arg) {
    uint64_t n;
    (void)arg;
    int rc = take(r, 8, &n);
    if (rc != KV_OK) return rc;
    return n > r->size - r->at ? cut_short(r) : KV_OK;
}

static int op_stop(pk_reader *r, int arg) {
    (void)arg;
    r->stopped = 1;
    if (r->n_marks != 0 || r->n_stack != 1) return fail(r, KV_EFORMAT, "more or less than one value is left");
    if (r->at != r->size) return fail(r, KV_EFORMAT, "%zu bytes behind it", r->size - r->at);
    return KV_OK;
}

static int op_atom(pk_reader *r, int kind) {
    return push(r, (pk_value){.kind = (pk_kind)kind});
}

static int op_float(pk_reader *r, int arg) {
    uint64_t bits;
    int rc = take(r, 8, &bits);
    return rc == KV_OK ? op_atom(r, arg) : rc;
}

static int op_uint(pk_reader *r, int n_bytes) {
    uint64_t v;
    int rc = take(r, (size_t)n_bytes, &v);
    return rc == KV_OK ? push(r, (pk_value){.kind = PK_INT, .i = (int64_t)v}) : rc;
}

static int op_int32(pk_reader *r, int arg) {
    uint64_t v;
    (void)arg;
    int rc = take(r, 4, &v);
    return rc == KV_OK ? push(r, (pk_value){.kind = PK_INT, .i = (int32_t)(uint32_t)v}) : rc;
}

static int op_long1(pk_reader *r, int arg) {
    uint64_t n, v;
    (void)arg;
    int rc = take(r, 1, &n);
    if (rc == KV_OK && n > 8) rc = fail(r, KV_EFORMAT, "an integer of %d bytes, at most 8 are read", (int)n);
    if (rc == KV_OK) rc = take(r, (size_t)n, &v);
    if (rc != KV_OK) return rc;
    if (n > 0 && n < 8 && v >> (8 * n - 1)) v |= UINT64_MAX << (8 * n);
    return push(r, (pk_value){.kind = PK_INT, .i = (int64_t)v});
}

/* Copies n bytes and a NUL to the text; the opcode's own bytes leave room for the NUL. */
static int keep_text(pk_reader *r, size_t n, const char **out) {
    *out = r->text + r->n_text;
    if (memchr(r->p + r->at, 0, n)) return fail(r, KV_EFORMAT, "a text with a zero byte in it");
    memcpy(r->text + r->n_text, r->p + r->at, n);
    r->text[r->n_text + n] = 0;
    r->n_text += n + 1;
    r->at += n;
    return KV_OK;
}

static int op_text(pk_reader *r, int n_bytes) {
    uint64_t n;
    pk_value v = {.kind = PK_STRING};
    int rc = take(r, (size_t)n_bytes, &n);
    if (rc != KV_OK) return rc;
    if (n > r->size - r->at) return cut_short(r);
    rc = keep_text(r, (size_t)n, &v.s);
    return rc == KV_OK ? push(r, v) : rc;
}

static int new_dict(pk_reader *r, int ordered) {
    r->dicts[r->n_dicts] = (pk_dict){.ordered = ordered};
    return push(r, (pk_value){.kind = PK_DICT, .at = r->n_dicts++});
}

static int op_mark(pk_reader *r, int arg) {
    (void)arg;
    if (r->n_marks == PK_MAX_MARKS) return fail(r, KV_ELIMIT, "nested more than %d deep", PK_MAX_MARKS);
    r->marks[r->n_marks++] = r->n_stack;
    return KV_OK;
}

static int push_tuple(pk_reader *r, const pk_value *v, size_t n) {
    pk_value t = {.kind = PK_TUPLE, .n = (uint32_t)n, .at = r->n_items};
    if (n) memcpy(r->items + r->n_items, v, n * sizeof *v);
    r->n_items += n;
    return push(r, t);
}

static int op_tuple(pk_reader *r, int n) {
    const pk_value *v;
    int rc = pop(r, (size_t)n, &v);
    return rc == KV_OK ? push_tuple(r, v, (size_t)n) : rc;
}

static int op_tuple_mark(pk_reader *r, int arg) {
    const pk_value *v;
    size_t n;
    (void)arg;
    int rc = pop_mark(r, &v, &n);
    return rc == KV_OK ? push_tuple(r, v, n) : rc;
}

/* arg: 1 takes one value, 0 all above the mark. */
static int op_append(pk_reader *r, int one) {
    const pk_value *v;
    pk_value *list;
    size_t n = 1;
    int rc = one ? pop(r, 1, &v) : pop_mark(r, &v, &n);
    return rc == KV_OK ? top(r, PK_LIST, "list", &list) : rc;
}

static int op_setitem(pk_reader *r, int one) {
    const pk_value *v;
    pk_value *into;
    size_t n = 2;
    int rc = one ? pop(r, 2, &v) : pop_mark(r, &v, &n);
    if (rc == KV_OK) rc = top(r, PK_DICT, "dict", &into);
    if (rc != KV_OK) return rc;
    if (n % 2 != 0) return fail(r, KV_EFORMAT, "a key without a value");
    pk_dict *d = &r->dicts[into->at];
    for (size_t i = 0; i < n; i += 2) {
        size_t at = ++r->n_entries;
        r->entries[at] = (pk_entry){.key = v[i], .val = v[i + 1]};
        if (d->last) r->entries[d->last].next = at;
        if (!d->first) d->first = at;
        d->last = at;
    }
    return KV_OK;
}

/* arg: bytes of the place; 0: the next one. */
static int op_put(pk_reader *r, int n_bytes) {
    uint64_t at = r->n_memo;
    int rc = n_bytes ? take(r, (size_t)n_bytes, &at) : KV_OK;
    if (rc != KV_OK) return rc;
    if (r->n_stack == floor_of(r)) return fail(r, KV_EFORMAT, "nothing to remember");
    /* Picklers number from 0 up, and each number costs a byte at least. */
    if (at >= r->size) return fail(r, KV_EFORMAT, "memo place %llu", (unsigned long long)at);
    if (r->memo[at].kind == PK_UNSET) r->n_memo++;
    r->memo[at] = r->stack[r->n_stack - 1];
    return KV_OK;
}

static int op_get(pk_reader *r, int n_bytes) {
    uint64_t at;
    int rc = take(r, (size_t)n_bytes, &at);
    if (rc != KV_OK) return rc;
    if (at >= r->size || r->memo[at].kind == PK_UNSET)
        return fail(r, KV_EFORMAT, "nothing is at memo place %llu", (unsigned long long)at);
    return push(r, r->memo[at]);
}

static int push_global(pk_reader *r, const char *module, const char *name) {
    for (size_t i = 0; i < sizeof globals / sizeof *globals; i++) {
        if (strcmp(module, globals[i].module) == 0 && strcmp(name, globals[i].name) == 0)
            return push(r, (pk_value){.kind = PK_GLOBAL, .at = i});
    }
    return fail(r, KV_EUNSUPPORTED, "%.80s.%.80s is refused: only tensors in plain containers are read", module, name);
}

static int op_global(pk_reader *r, int arg) {
    const char *part[2];
    (void)arg;
    for (int i = 0; i < 2; i++) {
        const uint8_t *from = r->p + r->at, *end = memchr(from, '\n', r->size - r->at);
        if (!end) return cut_short(r);
        int rc = keep_text(r, (size_t)(end - from), &part[i]);
        if (rc != KV_OK) return rc;
        r->at++;
    }
    return push_global(r, part[0], part[1]);
}

static int op_stack_global(pk_reader *r, int arg) {
    const pk_value *v;
    (void)arg;
    int rc = pop(r, 2, &v);
    if (rc != KV_OK) return rc;
    if (v[0].kind != PK_STRING || v[1].kind != PK_STRING) return fail(r, KV_EFORMAT, "module and name are no texts");
    return push_global(r, v[0].s, v[1].s);
}

static int is_global(const pk_value *v, role role) {
    return v->kind == PK_GLOBAL && globals[v->at].role == role;
}

/* ("storage", class, key, device, number of elements) */
static int op_persid(pk_reader *r, int arg) {
    const pk_value *id;
    (void)arg;
    int rc = pop(r, 1, &id);
    if (rc != KV_OK) return rc;
    if (id->kind != PK_TUPLE || id->n != 5) return fail(r, KV_EFORMAT, "its argument describes no storage");
    const pk_value *v = r->items + id->at;
    if (v[0].kind != PK_STRING || strcmp(v[0].s, "storage") != 0 || !is_global(&v[1], IS_STORAGE) ||
        v[2].kind != PK_STRING || v[3].kind != PK_STRING || v[4].kind != PK_INT || v[4].i < 0)
        return fail(r, KV_EFORMAT, "its argument describes no storage");
    r->storages[r->n_storages] =
        (pk_storage){.dtype = globals[v[1].at].dtype, .type = globals[v[1].at].type, .key = v[2].s, .n = v[4].i};
    return push(r, (pk_value){.kind = PK_STORAGE, .at = r->n_storages++});
}

static int is_extent(const pk_reader *r, const pk_value *v) {
    if (v->kind != PK_TUPLE) return 0;
    for (size_t i = 0; i < v->n; i++) {
        const pk_value *x = &r->items[v->at + i];
        if (x->kind != PK_INT || x->i < 0) return 0;
    }
    return 1;
}

/* _rebuild_tensor_v2(storage, offset, shape, strides, requires_grad, hooks) */
static int rebuild_tensor(pk_reader *r, const pk_value *args) {
    const pk_value *v = r->items + args->at;
    if (args->n != 6 || v[0].kind != PK_STORAGE || v[1].kind != PK_INT || v[1].i < 0 || !is_extent(r, &v[2]) ||
        !is_extent(r, &v[3]) || v[2].n != v[3].n || v[4].kind != PK_FLAG || v[5].kind != PK_DICT)
        return fail(r, KV_EFORMAT, "the arguments of _rebuild_tensor_v2 describe no tensor");
    if (v[2].n > 4) return fail(r, KV_EUNSUPPORTED, "a tensor with more than 4 dimensions");
    r->tensors[r->n_tensors] = (pk_tensor){.storage = v[0].at, .offset = v[1].i, .dims = v[2], .strides = v[3]};
    return push(r, (pk_value){.kind = PK_TENSOR, .at = r->n_tensors++});
}

/* _rebuild_parameter(tensor, requires_grad, hooks): what named_parameters() gives in place of state_dict(). */
static int rebuild_parameter(pk_reader *r, const pk_value *args) {
    const pk_value *v = r->items + args->at;
    if (args->n != 3 || v[0].kind != PK_TENSOR || v[1].kind != PK_FLAG || v[2].kind != PK_DICT)
        return fail(r, KV_EFORMAT, "the arguments of _rebuild_parameter describe no parameter");
    return push(r, v[0]);
}

static int op_reduce(pk_reader *r, int arg) {
    const pk_value *v;
    (void)arg;
    int rc = pop(r, 2, &v);
    if (rc != KV_OK) return rc;
    if (v[1].kind == PK_TUPLE && is_global(&v[0], MAKES_TENSOR)) return rebuild_tensor(r, &v[1]);
    if (v[1].kind == PK_TUPLE && is_global(&v[0], MAKES_PARAMETER)) return rebuild_parameter(r, &v[1]);
    if (v[1].kind == PK_TUPLE && is_global(&v[0], MAKES_DICT) && v[1].n == 0) return new_dict(r, 1);
    return fail(r, KV_EUNSUPPORTED,
                "applied to something other than OrderedDict(), _rebuild_tensor_v2(...) or "
                "_rebuild_parameter(...)");
}

/* What a state dict carries as attributes (_metadata) does not concern its tensors. */
static int op_build(pk_reader *r, int arg) {
    const pk_value *state;
    pk_value *on;
    (void)arg;
    int rc = pop(r, 1, &state);
    if (rc == KV_OK && state->kind != PK_DICT) rc = fail(r, KV_EUNSUPPORTED, "a state that is no dict");
    if (rc == KV_OK) rc = top(r, PK_DICT, "OrderedDict", &on);
    if (rc == KV_OK && !r->dicts[on->at].ordered)
        rc = fail(r, KV_EUNSUPPORTED, "applied to something that is no OrderedDict");
    return rc;
}

static int op_empty_dict(pk_reader *r, int arg) {
    (void)arg;
    return new_dict(r, 0);
}

/* Every opcode there is; those without a function are refused. */
static const struct {
    const char *name;
    int (*run)(pk_reader *r, int arg);
    int arg;
} ops[256] = {
    ['('] = {"MARK", op_mark, 0},
    [')'] = {"EMPTY_TUPLE", op_tuple, 0},
    ['.'] = {"STOP", op_stop, 0},
    ['G'] = {"BINFLOAT", op_float, PK_ATOM},
    ['J'] = {"BININT", op_int32, 0},
    ['K'] = {"BININT1", op_uint, 1},
    ['M'] = {"BININT2", op_uint, 2},
    ['N'] = {"NONE", op_atom, PK_ATOM},
    ['Q'] = {"BINPERSID", op_persid, 0},
    ['R'] = {"REDUCE", op_reduce, 0},
    ['X'] = {"BINUNICODE", op_text, 4},
    [']'] = {"EMPTY_LIST", op_atom, PK_LIST},
    ['a'] = {"APPEND", op_append, 1},
    ['b'] = {"BUILD", op_build, 0},
    ['c'] = {"GLOBAL", op_global, 0},
    ['e'] = {"APPENDS", op_append, 0},
    ['h'] = {"BINGET", op_get, 1},
    ['j'] = {"LONG_BINGET", op_get, 4},
    ['q'] = {"BINPUT", op_put, 1},
    ['r'] = {"LONG_BINPUT", op_put, 4},
    ['s'] = {"SETITEM", op_setitem, 1},
    ['t'] = {"TUPLE", op_tuple_mark, 0},
    ['u'] = {"SETITEMS", op_setitem, 0},
    ['}'] = {"EMPTY_DICT", op_empty_dict, 0},
    [0x80] = {"PROTO", op_proto, 0},
    [0x85] = {"TUPLE1", op_tuple, 1},
    [0x86] = {"TUPLE2", op_tuple, 2},
    [0x87] = {"TUPLE3", op_tuple, 3},
    [0x88] = {"NEWTRUE", op_atom, PK_FLAG},
    [0x89] = {"NEWFALSE", op_atom, PK_FLAG},
    [0x8a] = {"LONG1", op_long1, 0},
    [0x8c] = {"SHORT_BINUNICODE", op_text, 1},
    [0x8d] = {"BINUNICODE8", op_text, 8},
    [0x93] = {"STACK_GLOBAL", op_stack_global, 0},
    [0x94] = {"MEMOIZE", op_put, 0},
    [0x95] = {"FRAME", op_frame, 0},
    ['0'] = {.name = "POP"},
    ['1'] = {.name = "POP_MARK"},
    ['2'] = {.name = "DUP"},
    ['B'] = {.name = "BINBYTES"},
    ['C'] = {.name = "SHORT_BINBYTES"},
    ['F'] = {.name = "FLOAT"},
    ['I'] = {.name = "INT"},
    ['L'] = {.name = "LONG"},
    ['P'] = {.name = "PERSID"},
    ['S'] = {.name = "STRING"},
    ['T'] = {.name = "BINSTRING"},
    ['U'] = {.name = "SHORT_BINSTRING"},
    ['V'] = {.name = "UNICODE"},
    ['d'] = {.name = "DICT"},
    ['g'] = {.name = "GET"},
    ['i'] = {.name = "INST"},
    ['l'] = {.name = "LIST"},
    ['o'] = {.name = "OBJ"},
    ['p'] = {.name = "PUT"},
    [0x81] = {.name = "NEWOBJ"},
    [0x82] = {.name = "EXT1"},
    [0x83] = {.name = "EXT2"},
    [0x84] = {.name = "EXT4"},
    [0x8b] = {.name = "LONG4"},
    [0x8e] = {.name = "BINBYTES8"},
    [0x8f] = {.name = "EMPTY_SET"},
    [0x90] = {.name = "ADDITEMS"},
    [0x91] = {.name = "FROZENSET"},
    [0x92] = {.name = "NEWOBJ_EX"},
    [0x96] = {.name = "BYTEARRAY8"},
    [0x97] = {.name = "NEXT_BUFFER"},
    [0x98] = {.name = "READONLY_BUFFER"},
};

static const char *op_name(uint8_t op) {
    return ops[op].name ? ops[op].name : "unknown";
}

int kv_pk_run(pk_reader *r) {
    int rc = KV_OK;
    while (rc == KV_OK && !r->stopped) {
        r->op_at = r->at;
        if (r->at == r->size) return kv_fail(r->err, KV_EFORMAT, "%s: pickle without a STOP: truncated?", r->file);
        r->op = r->p[r->at++];
        if (!ops[r->op].name) {
            rc = fail(r, KV_EFORMAT, "0x%02x is no opcode: not a pickle?", r->op);
        } else if (!ops[r->op].run) {
            rc = fail(r, KV_EUNSUPPORTED, "refused: only tensors in plain containers are read");
        } else {
            rc = ops[r->op].run(r, ops[r->op].arg);
        }
    }
    return rc;
}
