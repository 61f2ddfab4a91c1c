/* pickle_machine.h - the inside of the pickle reader: the stack machine (pickle_machine.c) and what it leaves behind
 * for pickle.c to list. */
#ifndef KV_PICKLE_MACHINE_H
#define KV_PICKLE_MACHINE_H

#include "engine/dequant.h"

enum { PK_MAX_MARKS = 64 };

typedef enum pk_kind {
    PK_UNSET, /* an empty place of the memo */
    PK_ATOM,  /* None, a float */
    PK_FLAG,
    PK_INT,
    PK_STRING,
    PK_TUPLE,
    PK_LIST,
    PK_DICT,
    PK_GLOBAL,
    PK_STORAGE,
    PK_TENSOR
} pk_kind;

typedef struct pk_value {
    pk_kind kind;
    uint32_t n; /* TUPLE: elements */
    union {
        int64_t i;     /* INT */
        const char *s; /* STRING, in pk_reader.text */
        size_t at;     /* TUPLE: first of its items; DICT, GLOBAL, STORAGE, TENSOR: place in their table */
    };
} pk_value;

typedef struct pk_entry {
    pk_value key, val;
    size_t next; /* 0: the last */
} pk_entry;

typedef struct pk_dict {
    int ordered;        /* an OrderedDict */
    size_t first, last; /* places in entries, which begin at 1; 0: none */
} pk_dict;

typedef struct pk_storage {
    const char *dtype; /* as kv_pickle_tensor's */
    kv_dtype type;
    const char *key;
    int64_t n;
} pk_storage;

typedef struct pk_tensor {
    size_t storage;
    int64_t offset;
    pk_value dims, strides; /* TUPLE of INT */
} pk_tensor;

typedef struct pk_reader {
    const uint8_t *p;
    size_t size, at, op_at;
    uint8_t op;
    const char *file;
    kv_error *err;
    int stopped;
    pk_value *stack, *memo, *items;
    size_t n_stack, n_memo, n_items, n_entries, n_dicts, n_storages, n_tensors, n_text;
    size_t marks[PK_MAX_MARKS];
    int n_marks;
    pk_entry *entries;
    pk_dict *dicts;
    pk_storage *storages;
    pk_tensor *tensors;
    char *text;
} pk_reader;

/* Runs p to its STOP, which leaves one value on the stack.  The caller gives the arrays, text too: each of size + 1
 * zeroed elements. */
int kv_pk_run(pk_reader *r);

#endif
