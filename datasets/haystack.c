/* haystack.c - reads a folder of texts as one list of words; see haystack.h.
 *
 * File-name order is byte order (strcmp), so that a folder gives the same words under every locale and file system. */
#include "datasets/haystack.h"

#include "datasets/text.h"
#include "engine/file.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char blanks[] = " \t\n\v\f\r";

static int is_text_file(const struct dirent *e) {
    size_t n = strlen(e->d_name);
    return n > 4 && !strcmp(e->d_name + n - 4, ".txt");
}

static int by_name(const struct dirent **a, const struct dirent **b) {
    return strcmp((*a)->d_name, (*b)->d_name);
}

static int add_file(const char *folder, const char *name, kv_text *words, kv_error *err) {
    kv_text path = {0};
    char *p = NULL, *text = NULL;
    size_t size;
    kv_text_puts(&path, folder);
    kv_text_puts(&path, "/");
    kv_text_puts(&path, name);
    int rc = kv_text_take(&path, "a path", &p, err);
    if (rc) return rc;
    rc = kv_read_file(p, &text, &size, err);
    if (!rc && strlen(text) != size) rc = kv_fail(err, KV_EFORMAT, "%s: the file has a zero byte; expected text", p);
    for (const char *s = text; !rc && *(s += strspn(s, blanks));) {
        size_t n = strcspn(s, blanks);
        if (words->n) kv_text_append(words, " ", 1);
        kv_text_append(words, s, n);
        s += n;
    }
    free(text);
    free(p);
    return rc;
}

static int index_words(kv_haystack *h, kv_error *err) {
    for (const char *s = h->text; s; s = strchr(s + 1, ' ')) h->n_words++;
    h->word = malloc((h->n_words + 1) * sizeof *h->word);
    if (!h->word) return kv_fail(err, KV_ENOMEM, "no memory for %zu words of haystack", h->n_words);
    size_t k = 0;
    h->word[k++] = 0;
    for (const char *s = strchr(h->text, ' '); s; s = strchr(s + 1, ' ')) h->word[k++] = (size_t)(s + 1 - h->text);
    h->word[k] = strlen(h->text) + 1;
    return KV_OK;
}

int kv_haystack_open(const char *folder, kv_haystack *out, kv_error *err) {
    struct dirent **files = NULL;
    kv_text words = {0};
    int rc = KV_OK;
    memset(out, 0, sizeof *out);
    int n = scandir(folder, &files, is_text_file, by_name);
    if (n < 0)
        return kv_fail(err, errno == ENOMEM ? KV_ENOMEM : KV_ENOTFOUND,
                       "haystack folder %s: %s; give a folder of .txt files", folder, strerror(errno));
    for (int i = 0; i < n; i++) {
        if (!rc) rc = add_file(folder, files[i]->d_name, &words, err);
        free(files[i]);
    }
    free(files);
    if (!rc && !n) rc = kv_fail(err, KV_ENOTFOUND, "haystack folder %s has no .txt file", folder);
    if (!rc && !words.n && !words.failed)
        rc = kv_fail(err, KV_EFORMAT, "haystack folder %s: its .txt files have no words", folder);
    if (!rc) rc = kv_text_take(&words, "the haystack", &out->text, err);
    kv_text_free(&words);
    return rc ? rc : index_words(out, err);
}

int kv_haystack_open_or_own(const char *folder, const char *root, kv_haystack *out, kv_error *err) {
    char own[1024];
    memset(out, 0, sizeof *out);
    if (!folder && snprintf(own, sizeof own, "%s/data/haystack", root) >= (int)sizeof own)
        return kv_fail(err, KV_EARG, "haystack path too long: %.200s...", own);
    return kv_haystack_open(folder ? folder : own, out, err);
}

void kv_haystack_close(kv_haystack *h) {
    free(h->text);
    free(h->word);
    memset(h, 0, sizeof *h);
}
