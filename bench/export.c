#include "bench/command.h"
int kv_cmd_export(const kv_opts *o, const kv_paths *p, const kv_io *io, kv_error *err) { (void)o;(void)p;(void)io;(void)err; return 0; }
