/* task_name.h - is there a task of this name, and has it this prompt variant? */
#ifndef KV_TASK_NAME_H
#define KV_TASK_NAME_H

#include "engine/kv.h"

enum { KV_VARIANTS_MAX = 256 };

/* spec is a name or name:key=value..., variant NULL where none was given.  KV_EARG with the nearest name or the
 * variants there are; otherwise variants is the task's list, "official,short". */
int kv_task_name_check(const char *root, const char *spec, const char *variant, char variants[KV_VARIANTS_MAX],
                       kv_error *err);
/* 1 when variant is in the list. */
int kv_task_name_has(const char *variants, const char *variant);

#endif
