/* utf8.c - characters of UTF-8 text.  Source: The Unicode Standard, table 3-7 and PropList (White_Space). */
#include "engine/utf8.h"

#include <stdint.h>

size_t kv_utf8_char(const char *text, size_t n) {
    const unsigned char *s = (const unsigned char *)text;
    unsigned char lo = 0x80, hi = 0xBF;
    if (n == 0) return 0;
    if (s[0] < 0x80) return 1;
    size_t len = s[0] >= 0xF0 ? 4 : s[0] >= 0xE0 ? 3 : 2;
    if (s[0] < 0xC2 || s[0] > 0xF4 || n < len) return 0;
    if (s[0] == 0xE0) lo = 0xA0;
    if (s[0] == 0xED) hi = 0x9F;
    if (s[0] == 0xF0) lo = 0x90;
    if (s[0] == 0xF4) hi = 0x8F;
    if (s[1] < lo || s[1] > hi) return 0;
    for (size_t i = 2; i < len; i++)
        if (s[i] < 0x80 || s[i] > 0xBF) return 0;
    return len;
}

size_t kv_utf8_valid(const char *s, size_t n) {
    size_t i = 0, len;
    while ((len = kv_utf8_char(s + i, n - i))) i += len;
    return i;
}

size_t kv_utf8_blank(const char *s, size_t n) {
    const unsigned char *u = (const unsigned char *)s;
    if (n && (u[0] == ' ' || (u[0] >= 0x09 && u[0] <= 0x0D))) return 1;
    if (n >= 2 && u[0] == 0xC2 && (u[1] == 0x85 || u[1] == 0xA0)) return 2;
    if (n < 3 || (u[0] & 0xF0) != 0xE0 || (u[1] & 0xC0) != 0x80 || (u[2] & 0xC0) != 0x80) return 0;
    uint32_t cp = (uint32_t)(u[0] & 0x0F) << 12 | (uint32_t)(u[1] & 0x3F) << 6 | (u[2] & 0x3F);
    return cp == 0x1680 || (cp >= 0x2000 && cp <= 0x200A) || cp == 0x2028 || cp == 0x2029 || cp == 0x202F ||
                   cp == 0x205F || cp == 0x3000
               ? 3
               : 0;
}

size_t kv_utf8_blank_before(const char *s, size_t n) {
    for (size_t k = n < 3 ? n : 3; k > 0; k--)
        if (kv_utf8_blank(s + n - k, k) == k) return k;
    return 0;
}
