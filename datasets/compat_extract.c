/* compat_extract.c - extract_answer of the reference. */
#include "datasets/compat.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

static const char *last_of(const char *text, const char *mark) {
    const char *last = NULL;
    for (const char *p = text; (p = strstr(p, mark));) last = p += strlen(mark);
    return last;
}

/* Behind the last "boxed": a group, to the end when it does not close, or up to the next dollar sign. */
static kv_span boxed(const char *p) {
    if (*p != '{') return kv_span_trim((kv_span){p, strcspn(p, "$")});
    size_t depth = 1, n = 1;
    for (; p[n]; n++) {
        depth += p[n] == '{';
        depth -= p[n] == '}';
        if (!depth) break;
    }
    return (kv_span){p + 1, n - 1};
}

/* The last match of -?\d*\.?\d+ once the commas are gone. */
static void last_number(const char *output, kv_text *out) {
    char *text = malloc(strlen(output) + 1), *q = text;
    kv_span found = {"", 0};
    if (!text) {
        out->failed = 1;
        return;
    }
    for (const char *p = output; *p; p++)
        if (*p != ',') *q++ = *p;
    *q = 0;
    for (const char *p = text; *p;) {
        size_t minus = *p == '-', whole = strspn(p + minus, "0123456789"), n = minus + whole;
        if (p[n] == '.' && isdigit((unsigned char)p[n + 1]))
            n += 1 + strspn(p + n + 1, "0123456789");
        else if (!whole)
            n = 0;
        if (n) found = (kv_span){p, n};
        p += n ? n : 1;
    }
    kv_text_append(out, found.s, found.n);
    free(text);
}

/* "\n" and the blanks behind it */
static void drop_line_ends(kv_text *t) {
    kv_span a = kv_str_span(t);
    kv_text out = {0};
    for (size_t i = 0; i < a.n;) {
        if (a.s[i] == '\n')
            while (i < a.n && isspace((unsigned char)a.s[i])) i++;
        else
            kv_text_append(&out, a.s + i++, 1);
    }
    kv_text_append(&out, "", 0);
    kv_text_free(t);
    *t = out;
}

static kv_span find(const char *output, kv_text *number) {
    static const char chinese[] = "\xe7\xad\x94\xe6\xa1\x88\xe6\x98\xaf";
    const char *p, *open = strstr(output, "final answer is $");
    if (open && strstr(output, "$. I hope")) {
        open += strlen("final answer is $");
        const char *close = strstr(open, "$. I hope");
        return kv_span_trim((kv_span){open, close ? (size_t)(close - open) : strlen(open)});
    }
    if ((p = last_of(output, "boxed"))) return boxed(p);
    if ((p = last_of(output, "he answer is")) || (p = last_of(output, "final answer is")))
        return kv_span_trim((kv_span){p, strlen(p)});
    if ((p = strstr(output, chinese))) {
        p += strlen(chinese);
        const char *next = strstr(p, chinese);
        kv_span a = kv_span_trim((kv_span){p, next ? (size_t)(next - p) : strlen(p)});
        const char *blank = memmem(a.s, a.n, "\n\n", 2);
        return kv_span_trim((kv_span){a.s, blank ? (size_t)(blank - a.s) : a.n});
    }
    last_number(output, number);
    return kv_str_span(number);
}

void kv_compat_extract(const char *output, kv_text *out) {
    kv_text number = {0};
    kv_span a = find(output, &number);
    if (a.n <= KV_COMPAT_MAX) kv_text_append(out, a.s, a.n);
    out->failed |= number.failed || a.n > KV_COMPAT_MAX;
    kv_text_free(&number);
    kv_str_replace(out, "\xd0\xba\xd0\xb8", ""); /* a habit of one model family */
    drop_line_ends(out);
    a = kv_str_span(out);
    if (a.n && *a.s == ':') a.s++, a.n--;
    if (a.n && a.s[a.n - 1] == '.') a.n--;
    if (a.n && a.s[a.n - 1] == '/') a.n--;
    kv_str_set(out, a);
    kv_compat_strip(out);
}
