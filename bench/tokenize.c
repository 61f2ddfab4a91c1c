/* tokenize.c - the `tokenize` command: the ids that a model sees for a text. */
#include <stdlib.h>
#include <string.h>

#include "bench/command.h"
#include "bench/identity.h"
#include "bench/prompt_text.h"

static void print_ids(FILE *f, const kv_ids *ids) {
    fputc('[', f);
    for (size_t i = 0; i < ids->n; i++) fprintf(f, "%s%d", i ? "," : "", ids->ids[i]);
    fprintf(f, "]\n");
}

/* One line per token: id, and its bytes with everything that would spoil the line escaped. */
static void print_pieces(FILE *f, const kv_tokenizer *t, const kv_ids *ids) {
    for (size_t i = 0; i < ids->n; i++) {
        size_t len;
        const char *bytes = kv_token_bytes(t, ids->ids[i], &len);
        fprintf(f, "%d\t'", ids->ids[i]);
        for (size_t k = 0; k < len; k++) {
            unsigned char c = (unsigned char)bytes[k];
            if (c == '\n')
                fputs("\\n", f);
            else if (c == '\\' || c == '\'')
                fprintf(f, "\\%c", c);
            else if (c >= 32 && c < 127)
                fputc(c, f);
            else
                fprintf(f, "\\x%02x", c);
        }
        fprintf(f, "'\n");
    }
}

static int tokenize(const kv_opts *o, const kv_identity *id, const char *text, const kv_io *io, kv_error *err) {
    const kv_chat *chat;
    kv_ids ids = {0};
    size_t n_context;
    int rc = kv_prompt_chat(o, id->chat, 0, &chat, err);
    if (rc == KV_OK) rc = kv_prompt_ids(chat, id->tokenizer, NULL, text, strlen(text), &ids, &n_context, err);
    if (rc == KV_OK && kv_opts_flag(o, KV_OPT_PIECES))
        print_pieces(io->out, id->tokenizer, &ids);
    else if (rc == KV_OK)
        print_ids(io->out, &ids);
    kv_ids_free(&ids);
    return rc;
}

int kv_cmd_tokenize(const kv_opts *o, const kv_paths *p, const kv_io *io, kv_error *err) {
    const char *text = kv_opts_text(o, KV_OPT_TEXT), *path = kv_opts_text(o, KV_OPT_FILE);
    kv_identity id;
    char *content = NULL;
    if (!text == !path) return kv_exit_of(kv_fail(err, KV_EARG, "give either --text or --file"));
    int rc = kv_identity_resolve_model(o, 0, p, &id, err);
    if (rc == KV_OK) rc = kv_identity_needs_text(&id, "tokenize", err);
    if (rc == KV_OK) rc = kv_identity_load_tokenizer(&id, err);
    if (rc == KV_OK && path) rc = kv_prompt_read(path, &content, err);
    if (rc == KV_OK) rc = tokenize(o, &id, content ? content : text, io, err);
    free(content);
    kv_identity_free(&id);
    return kv_exit_of(rc);
}
