/* normalize.c - NFC of the Qwen files, and the blanks of the SentencePiece ones (Llama 2, Phi-3).
 *
 * SentencePiece vocabularies write a blank as U+2581 and start a text with one.  Here tokens and text keep the plain
 * blank instead, so a U+2581 of the text becomes a blank: both mean the same token there.
 *
 * NFC is utf8proc's, cut to what Hugging Face tokenizers do: their tables end at Unicode 9, so a mark that came later
 * is a starter for them, which neither moves nor lets others past.  Text is normalised piecewise around these.
 *
 * Sources: Unicode Standard Annex 15; tokenizers, normalizers/{prepend,replace,unicode}.rs,
 * pre_tokenizers/metaspace.rs.
 */
#include "engine/normalize.h"
#include "engine/utf8.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

/* Marks of Unicode 10 to 16, letters that form pairs since 13 and 16 (with their blocks), and U+11A7, which is no
 * consonant but which utf8proc 2.8 lets Hangul syllables swallow. */
static const utf8proc_int32_t lone_marks[][2] = {
    {0x7FD, 0x7FD},     {0x897, 0x89F},     {0x8CA, 0x8D3},     {0x9FE, 0x9FE},     {0xC3C, 0xC3C},
    {0xD3B, 0xD3C},     {0xEBA, 0xEBA},     {0x11A7, 0x11A7},   {0x1715, 0x1715},   {0x1ABF, 0x1ACE},
    {0x1DF6, 0x1DFA},   {0xA82C, 0xA82C},   {0x105C0, 0x105FF}, {0x10D24, 0x10D27}, {0x10D69, 0x10D6D},
    {0x10EAB, 0x10EAC}, {0x10EFC, 0x10EFF}, {0x10F46, 0x10F50}, {0x10F82, 0x10F85}, {0x11070, 0x11070},
    {0x1133B, 0x1133B}, {0x11380, 0x113FF}, {0x1145E, 0x1145E}, {0x11839, 0x1183A}, {0x11930, 0x11930},
    {0x1193D, 0x1193E}, {0x11943, 0x11943}, {0x119E0, 0x119E0}, {0x11A34, 0x11A34}, {0x11A47, 0x11A47},
    {0x11A99, 0x11A99}, {0x11D42, 0x11D42}, {0x11D44, 0x11D45}, {0x11D97, 0x11D97}, {0x11F41, 0x11F42},
    {0x16100, 0x1613F}, {0x16D40, 0x16D7F}, {0x16FF0, 0x16FF1}, {0x1E08F, 0x1E08F}, {0x1E130, 0x1E136},
    {0x1E2AE, 0x1E2AE}, {0x1E2EC, 0x1E2EF}, {0x1E4EC, 0x1E4EF}, {0x1E5EE, 0x1E5EF}};

static int is_lone_mark(utf8proc_int32_t cp) {
    size_t lo = 0, hi = sizeof lone_marks / sizeof *lone_marks;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (cp > lone_marks[mid][1])
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < sizeof lone_marks / sizeof *lone_marks && cp >= lone_marks[lo][0];
}

static int append(kv_bytes *b, const char *s, size_t n, kv_error *err) {
    if (n > b->cap - b->n) {
        size_t cap = b->cap ? b->cap : 256;
        while (cap - b->n < n) cap *= 2;
        char *p = realloc(b->s, cap);
        if (!p) return kv_fail(err, KV_ENOMEM, "out of memory normalising %zu bytes of text", cap);
        b->s = p;
        b->cap = cap;
    }
    if (n) memcpy(b->s + b->n, s, n);
    b->n += n;
    return KV_OK;
}

/* No character below U+0300 (lead byte 0xCC) changes or composes with another one below it. */
static int is_plainly_nfc(const char *s, size_t n) {
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)s[i] >= 0xCC) return 0;
    return 1;
}

/* Well-formed UTF-8 without lone marks. */
static int compose(const char *s, size_t n, kv_bytes *out, kv_error *err) {
    if (is_plainly_nfc(s, n)) return append(out, s, n, err);
    utf8proc_uint8_t *nfc = NULL;
    utf8proc_ssize_t len =
        utf8proc_map((const utf8proc_uint8_t *)s, (utf8proc_ssize_t)n, &nfc, UTF8PROC_STABLE | UTF8PROC_COMPOSE);
    int rc = len < 0 ? kv_fail(err, KV_ENOMEM, "NFC of %zu bytes: %s", n, utf8proc_errmsg(len))
                     : append(out, (const char *)nfc, (size_t)len, err);
    free(nfc);
    return rc;
}

static int append_nfc(const char *s, size_t n, kv_bytes *out, kv_error *err) {
    size_t from = 0;
    int rc = KV_OK;
    for (size_t i = 0, len; rc == KV_OK && i < n; i += len) {
        utf8proc_int32_t cp = -1;
        len = kv_utf8_char(s + i, n - i);
        if (len) utf8proc_iterate((const utf8proc_uint8_t *)s + i, (utf8proc_ssize_t)len, &cp);
        if (len && !is_lone_mark(cp)) continue;
        if (!len) len = 1;
        rc = compose(s + from, i - from, out, err);
        if (rc == KV_OK) rc = append(out, s + i, len, err);
        from = i + len;
    }
    return rc ? rc : compose(s + from, n - from, out, err);
}

static const char meta[] = "\xE2\x96\x81"; /* U+2581 */

static int starts_blank(const char *s, size_t n) {
    return n && (s[0] == ' ' || (n >= 3 && memcmp(s, meta, 3) == 0));
}

static int wants_blank(const kv_normal *how, const char *s, size_t n, int first) {
    switch (how->lead) {
    case KV_LEAD_RUN:
        return n > 0;
    case KV_LEAD_BLANKLESS_RUN:
        return n > 0 && !starts_blank(s, n);
    case KV_LEAD_TEXT:
        return first && n > 0 && !starts_blank(s, n);
    default:
        return 0;
    }
}

int kv_normal_already(const kv_normal *how, const char *text, size_t n, int first) {
    if (how->nfc && !is_plainly_nfc(text, n)) return 0;
    return !wants_blank(how, text, n, first) && !(how->metaspace && memmem(text, n, meta, 3));
}

int kv_normalize(const kv_normal *how, const char *text, size_t n, int first, kv_bytes *out, kv_error *err) {
    out->n = 0;
    if (wants_blank(how, text, n, first)) {
        int rc = append(out, " ", 1, err);
        if (rc) return rc;
    }
    if (how->nfc) return append_nfc(text, n, out, err);
    for (size_t i = 0, len; i < n; i += len) {
        const char *at = how->metaspace ? memmem(text + i, n - i, meta, 3) : NULL;
        len = at ? (size_t)(at - text) - i : n - i;
        int rc = append(out, text + i, len, err);
        if (rc == KV_OK && at) rc = append(out, " ", 1, err);
        if (rc) return rc;
        if (at) len += 3;
    }
    return KV_OK;
}
