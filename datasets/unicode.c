/* unicode.c - characters as Python's str sees them; see unicode.h. */
#include "datasets/unicode.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

enum { REPLACEMENT = 0xfffd };

/* Length of the character that starts with byte b, and the range of its second byte (Unicode 15, table 3-7). */
static size_t shape(unsigned char b, unsigned char *low, unsigned char *high) {
    *low = b == 0xe0 ? 0xa0 : b == 0xf0 ? 0x90 : 0x80;
    *high = b == 0xed ? 0x9f : b == 0xf4 ? 0x8f : 0xbf;
    return b < 0x80 ? 1 : b < 0xc2 ? 0 : b < 0xe0 ? 2 : b < 0xf0 ? 3 : b < 0xf5 ? 4 : 0;
}

/* Bytes of the character at s, as far as they are right; *whole says whether it is complete. */
static size_t extent(const unsigned char *s, size_t n, int *whole) {
    unsigned char low, high;
    size_t want = shape(s[0], &low, &high), k = 1;
    for (; k < want && k < n && s[k] >= low && s[k] <= high; k++) low = 0x80, high = 0xbf;
    *whole = k == want;
    return k;
}

uint32_t kv_utf8_next(const char **s, const char *end) {
    const unsigned char *p = (const unsigned char *)*s;
    int whole;
    if (*p < 0x80) return (unsigned char)*(*s)++;
    size_t k = extent(p, (size_t)(end - *s), &whole);
    *s += k;
    if (!whole) return REPLACEMENT;
    uint32_t c = p[0] & (0x7fu >> k);
    for (size_t i = 1; i < k; i++) c = c << 6 | (p[i] & 0x3f);
    return c;
}

void kv_utf8_put(kv_text *out, uint32_t c) {
    utf8proc_uint8_t bytes[4];
    kv_text_append(out, (const char *)bytes, (size_t)utf8proc_encode_char((utf8proc_int32_t)c, bytes));
}

int kv_is_space(uint32_t c) {
    return (c >= 9 && c <= 13) || (c >= 0x1c && c <= 0x20) || c == 0x85 || c == 0x2028 || c == 0x2029 ||
           (c >= 0x80 && utf8proc_category((utf8proc_int32_t)c) == UTF8PROC_CATEGORY_ZS);
}

int kv_is_word(uint32_t c) {
    if (c < 0x80) return (c | 32) - 'a' < 26 || c - '0' < 10 || c == '_';
    utf8proc_category_t k = utf8proc_category((utf8proc_int32_t)c);
    return (k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_LO) ||
           (k >= UTF8PROC_CATEGORY_ND && k <= UTF8PROC_CATEGORY_NO);
}

int kv_is_digit(uint32_t c) {
    return c < 0x80 ? c - '0' < 10 : utf8proc_category((utf8proc_int32_t)c) == UTF8PROC_CATEGORY_ND;
}

int kv_is_punctuation(uint32_t c) {
    return c > ' ' && c < 0x7f && (c == '_' || !kv_is_word(c));
}

/* Unicode's Cased: letters with case, ordinal signs, Roman numerals and circled letters. */
static int is_cased(uint32_t c) {
    if (c < 0x80) return (c | 32) - 'a' < 26;
    utf8proc_category_t k = utf8proc_category((utf8proc_int32_t)c);
    return k == UTF8PROC_CATEGORY_LU || k == UTF8PROC_CATEGORY_LL || k == UTF8PROC_CATEGORY_LT || c == 0xaa ||
           c == 0xba || (c >= 0x2160 && c <= 0x217f) || (c >= 0x24b6 && c <= 0x24e9);
}

/* Unicode's Case_Ignorable: marks, format characters, modifiers, and punctuation that may stand inside a word. */
static int is_case_ignorable(uint32_t c) {
    static const uint16_t inside[] = {0xb7,   0x387,  0x55f,  0x5f4,  0x2018, 0x2019, 0x2024,
                                      0x2027, 0xfe13, 0xfe52, 0xfe55, 0xff07, 0xff0e, 0xff1a};
    if (c < 0x80) return c && strchr("'.:^`", (int)c);
    utf8proc_category_t k = utf8proc_category((utf8proc_int32_t)c);
    for (size_t i = 0; i < sizeof inside / sizeof *inside; i++)
        if (inside[i] == c) return 1;
    return k == UTF8PROC_CATEGORY_MN || k == UTF8PROC_CATEGORY_ME || k == UTF8PROC_CATEGORY_CF ||
           k == UTF8PROC_CATEGORY_LM || k == UTF8PROC_CATEGORY_SK;
}

/* Is a capital sigma at the end of its word?  cased: whether a cased character comes before it. */
static int is_final_sigma(int cased, const char *after, const char *end) {
    if (!cased) return 0;
    while (after < end) {
        uint32_t c = kv_utf8_next(&after, end);
        if (!is_case_ignorable(c)) return !is_cased(c);
    }
    return 1;
}

/* Appends the ASCII text s[0, n) in lower case; *cased as in kv_unicode_lower. */
static void lower_ascii(const char *s, size_t n, int *cased, kv_text *out) {
    size_t at = out->n;
    kv_text_append(out, s, n);
    if (!out->failed)
        for (char *p = out->s + at; *p; p++)
            if (*p >= 'A' && *p <= 'Z') *p = (char)(*p + 32);
    while (n && is_case_ignorable((unsigned char)s[n - 1])) n--;
    if (n) *cased = is_cased((unsigned char)s[n - 1]);
}

void kv_unicode_lower(const char *s, size_t n, kv_text *out) {
    int cased = 0; /* the last character that is not case-ignorable is cased */
    for (const char *end = s + n; s < end;) {
        const char *from = s;
        while (s < end && (unsigned char)*s < 0x80) s++;
        lower_ascii(from, (size_t)(s - from), &cased, out);
        if (s == end) break;
        uint32_t c = kv_utf8_next(&s, end);
        if (c == 0x130) {
            kv_text_puts(out, "i\xcc\x87");
        } else if (c == 0x3a3) {
            kv_utf8_put(out, is_final_sigma(cased, s, end) ? 0x3c2 : 0x3c3);
        } else {
            kv_utf8_put(out, (uint32_t)utf8proc_tolower((utf8proc_int32_t)c));
        }
        if (!is_case_ignorable(c)) cased = is_cased(c);
    }
}

uint32_t *kv_utf8_decode(const char *s, size_t n, size_t *count) {
    uint32_t *out = n ? malloc(n * sizeof *out) : NULL;
    *count = 0;
    for (const char *p = s, *end = s + n; out && p < end;) out[(*count)++] = kv_utf8_next(&p, end);
    return out;
}
