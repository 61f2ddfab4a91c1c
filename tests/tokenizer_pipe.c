/* tokenizer_pipe.c - texts in, answers out, for scripts/golden_families.py and golden_chat.py: tokenizer_pipe FILE.json
 *
 * A line is "1 HEX" (special tokens are recognised) or "0 HEX" (they are text).  The answer is one line: the ids with
 * commas, the decoded bytes with and without control tokens in hexadecimal, divided by blanks.  "c HEX" is a chat
 * template in Jinja; the answer is its family, or "unknown". */
#include "engine/chat.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void print_text(const kv_tokenizer *t, const kv_ids *ids, int skip_special) {
    size_t len;
    int first = 1;
    putchar(' ');
    for (size_t i = 0; i < ids->n; i++) {
        const char *b = kv_token_shown(t, ids->ids[i], skip_special, &first, &len);
        for (size_t k = 0; k < len; k++) printf("%02x", (unsigned char)b[k]);
    }
}

/* Decodes in place, which never overtakes what is still to be read. */
static int answer(const kv_tokenizer *t, char *line, kv_error *err) {
    const char *hex = line + 2;
    size_t n = strcspn(hex, "\n") / 2;
    int trusted = line[0] == '1', is_template = line[0] == 'c';
    unsigned byte;
    kv_ids ids = {0};
    for (size_t i = 0; i < n; i++) {
        if (sscanf(hex + 2 * i, "%2x", &byte) != 1) return kv_fail(err, KV_EFORMAT, "not hexadecimal: %.60s", hex);
        line[i] = (char)byte;
    }
    if (is_template) {
        const kv_chat *c = kv_chat_detect(line, n, t);
        puts(c ? kv_chat_name(c) : "unknown");
        return fflush(stdout) ? KV_EIO : KV_OK;
    }
    int rc = kv_tokenize(t, &(kv_text_part){line, n, trusted}, 1, &ids, err);
    if (rc) return rc;
    for (size_t i = 0; i < ids.n; i++) printf("%s%d", i ? "," : "", ids.ids[i]);
    print_text(t, &ids, 0);
    print_text(t, &ids, 1);
    putchar('\n');
    fflush(stdout);
    kv_ids_free(&ids);
    return KV_OK;
}

int main(int argc, char **argv) {
    kv_tokenizer *t = NULL;
    kv_error err = {0};
    char *line = NULL;
    size_t cap = 0;
    int rc = argc == 2 ? kv_tokenizer_from_json(argv[1], &t, &err) : kv_fail(&err, KV_EARG, "usage: FILE.json");
    while (rc == KV_OK && getline(&line, &cap, stdin) > 2) rc = answer(t, line, &err);
    if (rc) fprintf(stderr, "%s\n", err.text);
    free(line);
    kv_tokenizer_close(t);
    return rc != KV_OK;
}
