/* math_latex.c - the tokeniser; see math_latex.h. */
#include "datasets/math_latex.h"

#include "datasets/math_words.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_DEPTH = 8 }; /* of \text inside \text */

typedef struct {
    kv_latex *out;
    unsigned flags;
    int depth;    /* of \text groups */
    int brackets; /* open ( [ \{ */
    int spaced;
} splitter;

int kv_latex_is(const kv_latex_token *t, kv_latex_kind kind, const char *text) {
    return t->kind == kind && t->text.n == strlen(text) && !memcmp(t->text.s, text, t->text.n);
}

static void add(splitter *x, kv_latex_kind kind, kv_span text) {
    kv_latex *o = x->out;
    if (o->n + 1 >= o->cap) {
        int cap = o->cap ? 2 * o->cap : 32;
        kv_latex_token *more = realloc(o->tokens, (size_t)cap * sizeof *more);
        if (!more) {
            o->failed = 1;
            return;
        }
        o->tokens = more;
        o->cap = cap;
    }
    o->tokens[o->n++] = (kv_latex_token){kind, text, x->spaced};
    o->tokens[o->n] = (kv_latex_token){.kind = KV_LATEX_END};
    x->spaced = 0;
}

static void add_text(splitter *x, kv_latex_kind kind, const char *text) {
    add(x, kind, (kv_span){text, strlen(text)});
}

static int starts(kv_span a, const char *with) {
    size_t n = strlen(with);
    return a.n >= n && !memcmp(a.s, with, n);
}

static void skip(kv_span *a, size_t n) {
    a->s += n;
    a->n -= n;
}

static void skip_blanks(kv_span *a) {
    while (a->n && isspace((unsigned char)*a->s)) skip(a, 1);
}

static int digit(kv_span a, size_t i) {
    return i < a.n && a.s[i] >= '0' && a.s[i] <= '9';
}

/* Length of a thousands separator at a when three digits, and no fourth, follow it. */
static size_t separator(const splitter *x, kv_span a) {
    static const char *const marks[] = {",\\!", "{,}", "\\,", "\\;", "\\ ", "~", "\\!", ",", " "};
    for (size_t k = 0; k < sizeof marks / sizeof *marks; k++) {
        if (!starts(a, marks[k])) continue;
        size_t n = strlen(marks[k]);
        if (!strcmp(marks[k], ",") && (!(x->flags & KV_LATEX_COMMAS) || x->brackets)) return 0;
        if (!strcmp(marks[k], ",\\!"))
            while (n < a.n && a.s[n] == ' ') n++;
        return digit(a, n) && digit(a, n + 1) && digit(a, n + 2) && !digit(a, n + 3) ? n : 0;
    }
    return 0;
}

/* SymPy's lexer sees digits, so that spaces between them do not count: the length of such a gap. */
static size_t plain_gap(kv_span a) {
    size_t n = 0;
    if (a.n && *a.s == ',') return digit(a, 1) && digit(a, 2) && digit(a, 3) ? 1 : 0;
    for (;;) {
        kv_span rest = {a.s + n, a.n - n};
        if (starts(rest, " "))
            n++;
        else if (starts(rest, "\\,") || starts(rest, "\\;") || starts(rest, "\\:") || starts(rest, "\\ "))
            n += 2;
        else
            return digit(rest, 0) ? n : 0;
    }
}

static int repeats(kv_span a) {
    return starts(a, "\\overline") || starts(a, "\\bar") || starts(a, "\\dot");
}

/* In \log_5 125 the blank ends the subscript. */
static int is_script(const kv_latex *l) {
    return l->n && (kv_latex_is(&l->tokens[l->n - 1], KV_LATEX_SYMBOL, "_") ||
                    kv_latex_is(&l->tokens[l->n - 1], KV_LATEX_SYMBOL, "^"));
}

/* A number at a, which starts with a digit or with a point before one. */
static void take_number(splitter *x, kv_span *a) {
    char *start = x->out->digits + x->out->n_digits, *p = start;
    size_t n = 0, sep = 0;
    while (digit(*a, n)) *p++ = a->s[n++];
    if (x->flags & KV_LATEX_PLAIN)
        while ((sep = plain_gap((kv_span){a->s + n, a->n - n})))
            for (n += sep; digit(*a, n);) *p++ = a->s[n++];
    else if (n >= 1 && n <= 3 && !is_script(x->out))
        while ((sep = separator(x, (kv_span){a->s + n, a->n - n}))) {
            memcpy(p, a->s + n + sep, 3);
            p += 3;
            n += sep + 3;
        }
    if (n < a->n && a->s[n] == '.' && digit(*a, n + 1)) {
        *p++ = a->s[n++];
        while (digit(*a, n)) *p++ = a->s[n++];
    } else if (n && n < a->n && a->s[n] == '.') {
        n++; /* "5." is 5, but 4.\overline{6} needs its point */
        if (repeats((kv_span){a->s + n, a->n - n})) *p++ = '.';
    }
    x->out->n_digits += (size_t)(p - start);
    add(x, KV_LATEX_NUMBER, (kv_span){start, (size_t)(p - start)});
    skip(a, n);
}

/* The balanced {...} at a, without its braces; moves a behind it.  0 when there is none or it does not close. */
static int take_group(kv_span *a, kv_span *inside) {
    kv_span b = *a;
    skip_blanks(&b);
    if (!b.n || *b.s != '{') return 0;
    int depth = 0;
    for (size_t i = 0; i < b.n; i++) {
        if (b.s[i] == '\\') {
            i++;
        } else if (b.s[i] == '{') {
            depth++;
        } else if (b.s[i] == '}' && !--depth) {
            *inside = (kv_span){b.s + 1, i - 1};
            *a = (kv_span){b.s + i + 1, b.n - i - 1};
            return 1;
        }
    }
    return 0;
}

static void split(splitter *x, kv_span a);

/* Text with a digit or a command in it, a single letter, or a letter in brackets is mathematics. */
static int is_mathematics(kv_span t) {
    size_t letters = 0, other = 0;
    for (size_t i = 0; i < t.n; i++) {
        if (t.s[i] == '\\' || digit(t, i)) return 1;
        letters += isalpha((unsigned char)t.s[i]) != 0;
        other += !isalpha((unsigned char)t.s[i]) && !strchr("()[].: ", t.s[i]);
    }
    return letters == 1 && !other;
}

static void take_style(splitter *x, kv_span *a) {
    kv_span t;
    if (!take_group(a, &t)) return;
    t = kv_span_trim(t);
    const char *function = kv_math_function(t);
    if (!t.n)
        x->spaced = 1;
    else if (function)
        add_text(x, KV_LATEX_COMMAND, function);
    else if (is_mathematics(t) && x->depth < MAX_DEPTH) {
        x->depth++;
        split(x, t);
        x->depth--;
    } else
        add(x, KV_LATEX_TEXT, t);
}

static void take_environment(splitter *x, kv_span *a, kv_latex_kind kind) {
    kv_span name, columns;
    if (!take_group(a, &name)) {
        x->out->failed = 1;
        return;
    }
    if (kind == KV_LATEX_BEGIN && kv_span_equal(name, (kv_span){"array", 5})) take_group(a, &columns);
    add(x, kind, name);
}

/* [4pt] behind a line end. */
static void skip_row_space(kv_span *a) {
    if (!a->n || *a->s != '[') return;
    const char *end = memchr(a->s, ']', a->n);
    if (end && end - a->s <= 8 && memchr("0123456789.", a->s[1], 11)) skip(a, (size_t)(end + 1 - a->s));
}

static void take_command(splitter *x, kv_span *a) {
    size_t n = 1;
    while (n < a->n && isalpha((unsigned char)a->s[n])) n++;
    if (n == 1 && n < a->n) n = 2;
    kv_span name = {a->s + 1, n - 1};
    kv_span before = *a;
    skip(a, n);
    const char *canonical = "";
    switch (kv_math_command(name, &canonical)) {
    case KV_COMMAND_NOTHING:
        break;
    case KV_COMMAND_SPACE:
        x->spaced = 1;
        break;
    case KV_COMMAND_STYLE:
        if (x->flags & KV_LATEX_PLAIN)
            x->out->failed = 1;
        else
            take_style(x, a);
        break;
    case KV_COMMAND_LETTER:
        add(x, KV_LATEX_LETTER, (kv_span){before.s, n});
        break;
    case KV_COMMAND_ROW:
        skip_row_space(a);
        add_text(x, KV_LATEX_ROW, canonical);
        break;
    case KV_COMMAND_BEGIN:
        take_environment(x, a, KV_LATEX_BEGIN);
        break;
    case KV_COMMAND_FINISH:
        take_environment(x, a, KV_LATEX_FINISH);
        break;
    case KV_COMMAND_KNOWN:
        if (*canonical == '{') x->brackets++;
        if (*canonical == '}') x->brackets--;
        add_text(x, KV_LATEX_COMMAND, canonical);
        break;
    case KV_COMMAND_UNKNOWN:
        add(x, KV_LATEX_OTHER, (kv_span){before.s, n});
    }
}

/* The two ways to write a degree sign with \circ; 0 when a is neither. */
static size_t degree(kv_span a) {
    static const char *const marks[] = {"^\\circ", "^{\\circ}", "^{o}", "^\\degree", "^{\\degree}"};
    for (size_t k = 0; k < sizeof marks / sizeof *marks; k++)
        if (starts(a, marks[k])) return strlen(marks[k]);
    return 0;
}

static void take_letters(splitter *x, kv_span *a) {
    size_t n = 1;
    while (n < a->n && isalpha((unsigned char)a->s[n])) n++;
    add(x, n == 1 ? KV_LATEX_LETTER : KV_LATEX_WORD, (kv_span){a->s, n});
    skip(a, n);
}

static void take_symbol(splitter *x, kv_span *a) {
    const char *command;
    size_t n = kv_math_unicode(*a, &command);
    if (n) {
        add_text(x, strlen(command) == 1 ? KV_LATEX_SYMBOL : KV_LATEX_COMMAND, command);
    } else {
        unsigned char c = (unsigned char)*a->s;
        n = 1;
        while (c >= 0x80 && n < a->n && ((unsigned char)a->s[n] & 0xc0) == 0x80) n++;
        if (strchr("([", c)) x->brackets++;
        if (strchr(")]", c)) x->brackets--;
        add(x, c < 0x80 ? KV_LATEX_SYMBOL : KV_LATEX_OTHER, (kv_span){a->s, n});
    }
    skip(a, n);
}

static void split(splitter *x, kv_span a) {
    size_t n;
    while (a.n && !x->out->failed) {
        unsigned char c = (unsigned char)*a.s;
        if (isspace(c) || c == '~') {
            x->spaced = 1;
            skip(&a, 1);
        } else if (c == '$') {
            skip(&a, 1);
        } else if ((n = degree(a))) {
            add_text(x, KV_LATEX_COMMAND, "degree");
            skip(&a, n);
        } else if (c == '\\') {
            take_command(x, &a);
        } else if (digit(a, 0) || (c == '.' && digit(a, 1))) {
            take_number(x, &a);
        } else if (isalpha(c)) {
            take_letters(x, &a);
        } else {
            take_symbol(x, &a);
        }
    }
}

void kv_latex_split(kv_span a, unsigned flags, kv_latex *out) {
    splitter x = {.out = out, .flags = flags};
    memset(out, 0, sizeof *out);
    if (a.n > KV_LATEX_MAX_BYTES || !(out->digits = malloc(a.n + 1))) {
        out->failed = 1;
        return;
    }
    split(&x, a);
    if (!out->n) { /* an END token even of nothing */
        add_text(&x, KV_LATEX_END, "");
        out->n = 0;
    }
}

void kv_latex_free(kv_latex *l) {
    free(l->tokens);
    free(l->digits);
    memset(l, 0, sizeof *l);
}

int kv_latex_same(const kv_latex *a, const kv_latex *b) {
    if (a->failed || b->failed || a->n != b->n || !a->n) return 0;
    for (int i = 0; i < a->n; i++)
        if (a->tokens[i].kind != b->tokens[i].kind || !kv_span_equal(a->tokens[i].text, b->tokens[i].text)) return 0;
    return 1;
}
