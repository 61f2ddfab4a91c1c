/* math_extract.c - see math_extract.h. */
#include "datasets/math_extract.h"

#include "datasets/math_words.h"

#include <ctype.h>
#include <string.h>

enum { MAX_BOX = 2048 }; /* the bound keeps an output of open braces from taking quadratic time */

/* The group behind \boxed at p; 0 when it does not close within MAX_BOX bytes. */
static int group(const char *p, kv_span *out) {
    int depth = 0;
    for (size_t n = 0; n < MAX_BOX && p[n]; n++) {
        if (p[n] == '\\' && p[n + 1]) {
            n++;
        } else if (p[n] == '{') {
            depth++;
        } else if (p[n] == '}' && !--depth) {
            *out = kv_span_trim((kv_span){p + 1, n - 1});
            return 1;
        }
    }
    return 0;
}

/* \boxed 5 and \boxed5: up to the end of the formula or of the word. */
static int unbraced(const char *p, kv_span *out) {
    size_t blanks = strspn(p, " "), n = strcspn(p + blanks, " \n$\\,;");
    *out = kv_span_trim((kv_span){p + blanks, n});
    return n > 0;
}

static int last_box(const char *text, kv_span *out) {
    static const char *const marks[] = {"\\boxed", "\\fbox"};
    const char *found = NULL;
    for (int k = 0; k < 2; k++)
        for (const char *p = text; (p = strstr(p, marks[k]));) {
            kv_span inside;
            p += strlen(marks[k]);
            const char *brace = p + strspn(p, " ");
            int ok = *brace == '{' ? group(brace, &inside) : !isalpha((unsigned char)*p) && unbraced(p, &inside);
            if (!ok || !inside.n || p < found) continue;
            *out = inside;
            found = p;
        }
    return found != NULL;
}

/* Length of the number at p: digits with commas between groups of three, a fraction. */
static size_t number(const char *p) {
    size_t n = strspn(p, "0123456789");
    while (n && p[n] == ',' && strspn(p + n + 1, "0123456789") == 3) n += 4;
    if (p[n] == '.' && isdigit((unsigned char)p[n + 1])) n += 1 + strspn(p + n + 1, "0123456789");
    return n;
}

/* "12 bolts of fiber": prose around a single number is dressing.  Formulas, and words that scale a number, are left. */
static void unwrap_prose(kv_span *a) {
    kv_span only = {NULL, 0};
    int words = 0, letters = 0;
    for (size_t i = 0; i < a->n;) {
        size_t n = isdigit((unsigned char)a->s[i]) ? number(a->s + i) : 0;
        if (n) {
            int minus = i && a->s[i - 1] == '-' && (i == 1 || !isalnum((unsigned char)a->s[i - 2]));
            if (only.s || letters || i + n > a->n || (i + n < a->n && isalpha((unsigned char)a->s[i + n]))) return;
            only = (kv_span){a->s + i - minus, n + (size_t)minus};
            i += n;
            continue;
        }
        if (!isalpha((unsigned char)a->s[i]) && !strchr(" $,.:'-%", a->s[i])) return;
        letters = isalpha((unsigned char)a->s[i]) ? letters + 1 : 0;
        if (letters == 1 && kv_math_scale((kv_span){a->s + i, a->n - i})) return;
        words += letters == 2;
        i++;
    }
    if (only.s && words) *a = only;
}

/* The rest of the line, or its first formula; the point that ends the sentence goes. */
static int statement(const char *p, kv_span *out) {
    p += strspn(p, " :*\t");
    size_t n = strcspn(p, "\n");
    const char *open = memchr(p, '$', n);
    if (open && open[1] != '$') {
        const char *close = memchr(open + 1, '$', n - (size_t)(open + 1 - p));
        /* \$5 is money */
        if (close && (open == p || open[-1] != '\\') && close[-1] != '\\') {
            *out = kv_span_trim((kv_span){open + 1, (size_t)(close - open - 1)});
            return out->n > 0;
        }
    }
    for (size_t i = 0; i + 1 < n; i++)
        if (p[i] == '.' && p[i + 1] == ' ') n = i;
    *out = kv_span_trim((kv_span){p, n});
    while (out->n && strchr(".*", out->s[out->n - 1])) out->n--;
    unwrap_prose(out);
    return out->n > 0;
}

static int after_answer(const char *text, kv_span *out) {
    static const char *const marks[] = {"nswer is", "nswer:", "nswer**:"};
    const char *last = NULL;
    for (int k = 0; k < 3; k++)
        for (const char *p = text; (p = strstr(p, marks[k]));) {
            p += strlen(marks[k]);
            if (p > last) last = p;
        }
    return last && statement(last, out);
}

/* In 16-3 the sign is an operator; in "is -3" it belongs to the number. */
static int last_number(const char *text, kv_span *out) {
    int found = 0;
    for (const char *p = text; *p;) {
        size_t n = number(p);
        if (n) {
            int minus = p > text && p[-1] == '-' && (p == text + 1 || !isalnum((unsigned char)p[-2]));
            *out = (kv_span){p - minus, n + (size_t)minus};
            found = 1;
        }
        p += n ? n : 1;
    }
    return found;
}

/* "#### 42" is an answer, "#### Step 2" and "#### 2. Add" are headings of Markdown. */
static int is_heading(const char *p) {
    size_t n;
    p += strspn(p, " :*\t");
    n = strspn(p, "0123456789");
    if (n && strchr(".:)", p[n]) && p[n] && p[n + 1] == ' ') p += n + 2;
    p += strspn(p, " *");
    return isalpha((unsigned char)p[0]) && isalpha((unsigned char)p[1]);
}

static const char *last_hash(const char *text) {
    const char *last = NULL;
    for (const char *p = text; (p = strstr(p, "#### "));) {
        p += strlen("#### ");
        if (!is_heading(p)) last = p;
    }
    return last;
}

const char *kv_math_extract(const char *output, kv_span *answer) {
    output = kv_after_thinking(output);
    if (last_box(output, answer)) return "boxed";
    const char *hash = last_hash(output);
    if (hash && statement(hash, answer)) return "####";
    if (after_answer(output, answer)) return "answer is";
    return last_number(output, answer) ? "last number" : NULL;
}
