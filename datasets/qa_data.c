/* qa_data.c - reads SQuAD and HotpotQA files; see qa_data.h.
 *
 * The files are the user's: neither may be passed on under this project's licence (both are CC BY-SA 4.0). */
#include "datasets/qa_data.h"

#include "datasets/text.h"
#include "engine/file.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *title, *names[2], *url;
} sets[] = {
    [KV_SQUAD] = {"SQuAD",
                  {"dev-v2.0.json", "squad.json"},
                  "https://rajpurkar.github.io/SQuAD-explorer/dataset/dev-v2.0.json"},
    [KV_HOTPOTQA] = {"HotpotQA",
                     {"hotpot_dev_distractor_v1.json", "hotpotqa.json"},
                     "http://curtis.ml.cmu.edu/datasets/hotpot/hotpot_dev_distractor_v1.json"},
};

typedef struct {
    kv_qa *q;
    const char *name;
    char **texts; /* (q->n_places) every paragraph; owned until they become docs */
    size_t cap_texts, cap_questions;
    kv_error *err;
} reader;

static int no_memory(const reader *r) {
    return kv_fail(r->err, KV_ENOMEM, "%.300s: no memory for the questions", r->name);
}

static int bad(const reader *r, const char *what, int i, const char *expected) {
    return kv_fail(r->err, KV_EFORMAT, "%.300s: %s %d: %s; is it the published file?", r->name, what, i, expected);
}

/* Room for one more element; 0 without memory. */
static int grow(void **p, size_t n, size_t *cap, size_t size) {
    if (n < *cap) return 1;
    size_t more = *cap ? 2 * *cap : 256;
    void *q = realloc(*p, more * size);
    if (!q) return 0;
    *p = q;
    *cap = more;
    return 1;
}

/* Takes the text over. */
static int add_text(reader *r, kv_text *t) {
    if (!grow((void **)&r->texts, r->q->n_places, &r->cap_texts, sizeof *r->texts)) {
        kv_text_free(t);
        return no_memory(r);
    }
    int rc = kv_text_take(t, "a paragraph", &r->texts[r->q->n_places], r->err);
    if (!rc) r->q->n_places++;
    return rc;
}

static kv_qa_question *add_question(reader *r, const char *text) {
    if (!grow((void **)&r->q->questions, r->q->n_questions, &r->cap_questions, sizeof *r->q->questions)) return NULL;
    kv_qa_question *q = &r->q->questions[r->q->n_questions];
    *q = (kv_qa_question){.text = strdup(text)};
    if (!q->text) return NULL;
    r->q->n_questions++;
    return q;
}

/* Adds one answer unless it is there already.  Answers stand a line each, so their own line ends become blanks. */
static void add_answer(kv_text *all, const char *answer) {
    size_t n = strlen(answer);
    for (const char *s = all->s; s && *s; s += strcspn(s, "\n"), s += *s == '\n')
        if (strcspn(s, "\n") == n && !memcmp(s, answer, n)) return;
    if (all->n) kv_text_append(all, "\n", 1);
    for (size_t i = 0; i < n; i++) kv_text_append(all, answer[i] == '\n' ? " " : answer + i, 1);
}

static const char *string_of(const cJSON *object, const char *key) {
    const char *s = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, key));
    return s && *s ? s : NULL;
}

static int add_squad_question(reader *r, const cJSON *qa, size_t first, int article) {
    const char *text = string_of(qa, "question");
    const cJSON *answer, *impossible = cJSON_GetObjectItemCaseSensitive(qa, "is_impossible");
    kv_text answers = {0};
    if (!text) return bad(r, "article", article, "a question without 'question'");
    if (cJSON_IsTrue(impossible)) return KV_OK;
    cJSON_ArrayForEach(answer, cJSON_GetObjectItemCaseSensitive(qa, "answers")) if (string_of(answer, "text"))
        add_answer(&answers, string_of(answer, "text"));
    if (!answers.n) {
        kv_text_free(&answers);
        return bad(r, "article", article, "an answerable question without 'answers'");
    }
    kv_qa_question *q = add_question(r, text);
    if (!q) {
        kv_text_free(&answers);
        return no_memory(r);
    }
    q->gold = r->q->n_places - 1;
    q->n_gold = 1;
    q->related = first;
    return kv_text_take(&answers, "answers", &q->answers, r->err);
}

static int read_squad(reader *r, const cJSON *root) {
    const cJSON *article, *paragraph, *qa, *data = cJSON_GetObjectItemCaseSensitive(root, "data");
    int i = 0, rc = KV_OK;
    if (!cJSON_IsArray(data)) return kv_fail(r->err, KV_EFORMAT, "%.300s: no array 'data'; is it SQuAD 2.0?", r->name);
    cJSON_ArrayForEach(article, data) {
        size_t first = r->q->n_places, first_question = r->q->n_questions;
        cJSON_ArrayForEach(paragraph, cJSON_GetObjectItemCaseSensitive(article, "paragraphs")) {
            kv_text t = {0};
            if (!string_of(paragraph, "context")) return bad(r, "article", i, "a paragraph without 'context'");
            kv_text_puts(&t, string_of(paragraph, "context"));
            if ((rc = add_text(r, &t))) return rc;
            cJSON_ArrayForEach(qa, cJSON_GetObjectItemCaseSensitive(
                                       paragraph, "qas")) if ((rc = add_squad_question(r, qa, first, i))) return rc;
        }
        for (size_t k = first_question; k < r->q->n_questions; k++)
            r->q->questions[k].n_related = r->q->n_places - first;
        i++;
    }
    return KV_OK;
}

/* One entry of `context`: [title, [sentence, ...]]. */
static int add_hotpot_document(reader *r, const cJSON *entry, int i) {
    const cJSON *sentence;
    const char *title = cJSON_GetStringValue(cJSON_GetArrayItem(entry, 0));
    kv_text t = {0};
    if (!title || !cJSON_IsArray(cJSON_GetArrayItem(entry, 1)))
        return bad(r, "question", i, "an entry of 'context' that is no [title, [sentence, ...]]");
    kv_text_puts(&t, title);
    kv_text_puts(&t, "\n");
    cJSON_ArrayForEach(sentence, cJSON_GetArrayItem(entry, 1))
        kv_text_puts(&t, cJSON_IsString(sentence) ? sentence->valuestring : "");
    return add_text(r, &t);
}

static int read_hotpotqa(reader *r, const cJSON *root) {
    const cJSON *row, *entry;
    int i = 0, rc;
    if (!cJSON_IsArray(root)) return kv_fail(r->err, KV_EFORMAT, "%.300s: no array; is it HotpotQA?", r->name);
    cJSON_ArrayForEach(row, root) {
        const char *question = string_of(row, "question"), *answer = string_of(row, "answer");
        kv_text answers = {0};
        size_t first = r->q->n_places;
        if (!question || !answer) return bad(r, "question", i, "without 'question' or 'answer'");
        cJSON_ArrayForEach(entry, cJSON_GetObjectItemCaseSensitive(
                                      row, "context")) if ((rc = add_hotpot_document(r, entry, i))) return rc;
        if (r->q->n_places == first) return bad(r, "question", i, "without documents in 'context'");
        kv_qa_question *q = add_question(r, question);
        if (!q) return no_memory(r);
        q->gold = first;
        q->n_gold = r->q->n_places - first;
        add_answer(&answers, answer);
        if ((rc = kv_text_take(&answers, "answers", &q->answers, r->err))) return rc;
        i++;
    }
    return KV_OK;
}

typedef struct {
    char *text;
    size_t place;
} paragraph;

static int by_text(const void *a, const void *b) {
    return strcmp(((const paragraph *)a)->text, ((const paragraph *)b)->text);
}

/* Every text once: paragraphs become docs and place. */
static int index_documents(reader *r) {
    kv_qa *q = r->q;
    paragraph *p = malloc((q->n_places + 1) * sizeof *p);
    q->docs = calloc(q->n_places + 1, sizeof *q->docs);
    q->place = malloc((q->n_places + 1) * sizeof *q->place);
    if (!p || !q->docs || !q->place) {
        free(p);
        return no_memory(r);
    }
    for (size_t i = 0; i < q->n_places; i++) p[i] = (paragraph){r->texts[i], i};
    if (q->n_places) qsort(p, q->n_places, sizeof *p, by_text);
    for (size_t i = 0; i < q->n_places; i++) {
        r->texts[p[i].place] = NULL;
        if (q->n_docs && !strcmp(p[i].text, q->docs[q->n_docs - 1]))
            free(p[i].text);
        else
            q->docs[q->n_docs++] = p[i].text;
        q->place[p[i].place] = q->n_docs - 1;
    }
    free(p);
    return KV_OK;
}

int kv_qa_parse(const char *json, size_t n, const char *name, kv_qa_kind kind, kv_qa *out, kv_error *err) {
    reader r = {.q = out, .name = name, .err = err};
    memset(out, 0, sizeof *out);
    cJSON *root = cJSON_ParseWithLength(json, n);
    if (!root) return kv_fail(err, KV_EFORMAT, "%.300s: not JSON, or cut off", name);
    kv_sha256_bytes(json, n, out->sha256);
    int rc = kind == KV_SQUAD ? read_squad(&r, root) : read_hotpotqa(&r, root);
    cJSON_Delete(root);
    if (!rc && !out->n_questions) rc = kv_fail(err, KV_EFORMAT, "%.300s: there is no question in it", name);
    if (!rc) rc = index_documents(&r);
    for (size_t i = 0; i < out->n_places && r.texts; i++) free(r.texts[i]);
    free(r.texts);
    return rc;
}

int kv_qa_open(const char *folder, kv_qa_kind kind, kv_qa *out, kv_error *err) {
    char path[1024];
    memset(out, 0, sizeof *out);
    for (int i = 0; i < 2 && folder; i++) {
        kv_error why = {0};
        char *text = NULL;
        size_t n;
        if (snprintf(path, sizeof path, "%s/%s", folder, sets[kind].names[i]) >= (int)sizeof path)
            return kv_fail(err, KV_EARG, "path too long: %.200s...", path);
        int rc = kv_read_file(path, &text, &n, &why);
        if (rc == KV_ENOTFOUND) continue;
        rc = rc ? kv_fail(err, rc, "%s", why.text) : kv_qa_parse(text, n, path, kind, out, err);
        free(text);
        return rc;
    }
    return kv_fail(
        err, KV_ENOTFOUND,
        "the questions are those of %s, which is not included%s%.200s: get %s into a folder and give it with "
        "--qa-data DIR (%s)",
        sets[kind].title, folder ? " and not in " : "", folder ? folder : "", sets[kind].names[0], sets[kind].url);
}

void kv_qa_close(kv_qa *q) {
    for (size_t i = 0; i < q->n_docs; i++) free(q->docs[i]);
    for (size_t i = 0; i < q->n_questions; i++) {
        free(q->questions[i].text);
        free(q->questions[i].answers);
    }
    free(q->docs);
    free(q->place);
    free(q->questions);
    memset(q, 0, sizeof *q);
}
