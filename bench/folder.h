/* folder.h - the folder that --out names. */
#ifndef KV_FOLDER_H
#define KV_FOLDER_H

#include "engine/kv.h"

/* Makes a folder and those above it; an existing one is fine.  KV_EIO says why not. */
int kv_make_folder(const char *dir, kv_error *err);

#endif
