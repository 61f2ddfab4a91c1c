/* kv.c - filling and naming errors. */
#include "engine/kv.h"

#include <stdarg.h>
#include <stdio.h>

int kv_fail(kv_error *err, int code, const char *fmt, ...) {
    if (err) {
        va_list ap;
        va_start(ap, fmt);
        err->code = code;
        vsnprintf(err->text, sizeof err->text, fmt, ap);
        va_end(ap);
    }
    return code;
}

const char *kv_status_name(int code) {
    static const char *const names[] = {"ok",    "io",     "format", "out of memory", "argument",  "unsupported",
                                        "limit", "cancel", "number", "database",      "not found", "timeout"};
    int i = -code;
    return i >= 0 && i < (int)(sizeof names / sizeof *names) ? names[i] : "unknown";
}
