/* words.c - reads the word lists; see words.h. */
#include "datasets/words.h"

#include "engine/file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int split(const char *path, size_t size, kv_word_list *out, kv_error *err) {
    size_t lines = 0;
    if (strlen(out->text) != size)
        return kv_fail(err, KV_EFORMAT, "%s: the file has a zero byte; expected words", path);
    for (const char *s = out->text; *s; s++) lines += *s == '\n';
    out->word = malloc((lines + 1) * sizeof *out->word);
    if (!out->word) return kv_fail(err, KV_ENOMEM, "%s: no memory for %zu words", path, lines);
    for (char *s = out->text; *s;) {
        size_t n = strcspn(s, "\n");
        int more = s[n] == '\n';
        if (!n) return kv_fail(err, KV_EFORMAT, "%s:%zu: an empty line; expected one word a line", path, out->n + 1);
        s[n] = 0;
        out->word[out->n++] = s;
        s += n + (size_t)more;
    }
    return out->n ? KV_OK : kv_fail(err, KV_EFORMAT, "%s: there are no words in the file", path);
}

static int read_list(const char *root, const char *name, kv_word_list *out, kv_text *sums, kv_error *err) {
    char path[1024], sum[65];
    size_t size;
    if (snprintf(path, sizeof path, "%s/data/words/%s.txt", root, name) >= (int)sizeof path)
        return kv_fail(err, KV_EARG, "path too long: %.200s...", path);
    int rc = kv_read_file(path, &out->text, &size, err);
    if (rc) return rc;
    kv_sha256_bytes(out->text, size, sum);
    kv_text_puts(sums, sum);
    return split(path, size, out, err);
}

static int by_text(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static int merge(kv_words *w, kv_error *err) {
    const kv_word_list *lists[] = {&w->nouns, &w->adjectives, &w->verbs};
    size_t n = 0, kept = 0;
    w->all = malloc((w->nouns.n + w->adjectives.n + w->verbs.n) * sizeof *w->all);
    if (!w->all) return kv_fail(err, KV_ENOMEM, "no memory for the word lists");
    for (int i = 0; i < 3; i++)
        for (size_t k = 0; k < lists[i]->n; k++) w->all[n++] = lists[i]->word[k];
    qsort(w->all, n, sizeof *w->all, by_text);
    for (size_t k = 0; k < n; k++)
        if (!k || strcmp(w->all[k], w->all[kept - 1])) w->all[kept++] = w->all[k];
    w->n_all = kept;
    return KV_OK;
}

int kv_words_open(const char *root, kv_words *out, kv_error *err) {
    kv_text sums = {0};
    memset(out, 0, sizeof *out);
    int rc = read_list(root, "nouns", &out->nouns, &sums, err);
    if (!rc) rc = read_list(root, "adjectives", &out->adjectives, &sums, err);
    if (!rc) rc = read_list(root, "verbs", &out->verbs, &sums, err);
    if (!rc && sums.failed) rc = kv_fail(err, KV_ENOMEM, "no memory for the word lists");
    if (!rc) kv_sha256_bytes(sums.s, sums.n, out->sha256);
    kv_text_free(&sums);
    return rc ? rc : merge(out, err);
}

void kv_words_close(kv_words *w) {
    kv_word_list *all[] = {&w->nouns, &w->adjectives, &w->verbs};
    for (int i = 0; i < 3; i++) {
        free(all[i]->text);
        free(all[i]->word);
    }
    free(w->all);
    memset(w, 0, sizeof *w);
}

size_t kv_words_n_pairs(const kv_words *w) {
    return w->adjectives.n * w->nouns.n;
}

void kv_words_put_pair(const kv_words *w, size_t i, kv_text *out) {
    kv_text_puts(out, w->adjectives.word[i / w->nouns.n]);
    kv_text_puts(out, "-");
    kv_text_puts(out, w->nouns.word[i % w->nouns.n]);
}
