/* jieba_file.c - reads the dictionary file of jieba.h; see there for its lines. */
#include "datasets/jieba_file.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "datasets/unicode.h"
#include "engine/file.h"

typedef struct {
    kv_jieba *j;
    const char *path;
    int line, seen; /* bits: total, start, trans */
    kv_error *err;
} reader;

static int bad(const reader *r, const char *what) {
    return kv_fail(r->err, KV_EFORMAT, "%.300s:%d: %s; make the file anew with scripts/get_longbench.sh", r->path,
                   r->line, what);
}

/* The next word of a line; NULL at its end. */
static char *next_word(char **s) {
    char *from = *s + strspn(*s, " ");
    size_t n = strcspn(from, " ");
    if (!n) return NULL;
    *s = from + n;
    if (**s) *(*s)++ = 0;
    return from;
}

static int next_number(char **s, double *out) {
    char *w = next_word(s), *end;
    if (!w) return 0;
    *out = strtod(w, &end);
    return !*end && isfinite(*out);
}

static int read_numbers(const reader *r, char *s, double *out, int n) {
    for (int i = 0; i < n; i++)
        if (!next_number(&s, &out[i])) return bad(r, "a number is missing or damaged");
    return next_word(&s) ? bad(r, "more on the line than expected") : KV_OK;
}

static int read_trans(reader *r, char *s) {
    static const int from[] = {0, 0, 2, 2, 1, 1, 3, 3}, to[] = {2, 1, 0, 3, 2, 1, 0, 3};
    double p[8];
    int rc = read_numbers(r, s, p, 8);
    for (int i = 0; i < 16; i++) r->j->trans[i / 4][i % 4] = KV_JIEBA_NEVER;
    for (int i = 0; !rc && i < 8; i++) r->j->trans[from[i]][to[i]] = p[i];
    return rc;
}

static int read_emit(reader *r, char *s) {
    kv_jieba *j = r->j;
    kv_jieba_emit *e = &j->emit[j->n_emit];
    const char *c = next_word(&s), *end = c ? c + strlen(c) : NULL;
    if (!c) return bad(r, "no character");
    e->c = kv_utf8_next(&c, end);
    if (c != end || (j->n_emit && e->c <= e[-1].c)) return bad(r, "not one character, or not in order");
    j->n_emit++;
    return read_numbers(r, s, e->p, KV_JIEBA_STATES);
}

static int read_entry(reader *r, char *s) {
    kv_jieba *j = r->j;
    kv_jieba_word *w = &j->words[j->n_words];
    double n;
    w->s = next_word(&s);
    if (!w->s) return bad(r, "no word");
    if (j->n_words && strcmp(w[-1].s, w->s) >= 0) return bad(r, "words not in the order of their bytes");
    int rc = read_numbers(r, s, &n, 1);
    if (rc) return rc;
    if (n < 0) return bad(r, "a negative frequency");
    w->n = (uint32_t)strlen(w->s);
    w->is_word = n > 0;
    w->log_n = w->is_word ? log(n) : 0;
    j->n_words++;
    return KV_OK;
}

static int read_line(reader *r, char *s) {
    kv_jieba *j = r->j;
    const char *kind = next_word(&s);
    if (!kind || *kind == '#') return KV_OK;
    if (!strcmp(kind, "word")) return read_entry(r, s);
    if (!strcmp(kind, "emit")) return read_emit(r, s);
    int rc, bit = !strcmp(kind, "total") ? 1 : !strcmp(kind, "start") ? 2 : !strcmp(kind, "trans") ? 4 : 0;
    if (!bit || (r->seen & bit)) return bad(r, "expected one total, one start, one trans, then emit and word lines");
    r->seen |= bit;
    if (bit == 4) return read_trans(r, s);
    if (bit == 2) return read_numbers(r, s, j->start, KV_JIEBA_STATES);
    double total;
    rc = read_numbers(r, s, &total, 1);
    if (!rc && total < 1) return bad(r, "total below 1");
    j->log_total = rc ? 0 : log(total);
    return rc;
}

static int read_lines(reader *r, size_t size) {
    size_t n = 1;
    if (strlen(r->j->text) != size) return bad(r, "the file has a zero byte");
    for (const char *p = r->j->text; *p; p++) n += *p == '\n';
    r->j->words = malloc(n * sizeof *r->j->words);
    r->j->emit = malloc(n * sizeof *r->j->emit);
    if (!r->j->words || !r->j->emit) return kv_fail(r->err, KV_ENOMEM, "no memory to read %.300s", r->path);
    for (char *line = r->j->text, *next; line; line = next) {
        r->line++;
        if ((next = strchr(line, '\n'))) *next++ = 0;
        int rc = read_line(r, line);
        if (rc) return rc;
    }
    return r->seen == 7 && r->j->n_words ? KV_OK : bad(r, "the file ends before it is complete");
}

int kv_jieba_open(const char *path, kv_jieba **out, kv_error *err) {
    size_t size;
    kv_jieba *j = *out = calloc(1, sizeof *j);
    if (!j) return kv_fail(err, KV_ENOMEM, "no memory to read %.300s", path);
    reader r = {.j = j, .path = path, .err = err};
    int rc = kv_read_file(path, &j->text, &size, err);
    if (!rc) rc = read_lines(&r, size);
    if (!rc) return KV_OK;
    kv_jieba_close(j);
    *out = NULL;
    return rc;
}

void kv_jieba_close(kv_jieba *j) {
    if (!j) return;
    free(j->text);
    free(j->words);
    free(j->emit);
    free(j);
}
