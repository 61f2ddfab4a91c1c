/* qa_data.h - SQuAD 2.0 (arXiv 1806.03822) and HotpotQA's distractor setting (arXiv 1809.09600) from their published
 * development files, as documents and questions. */
#ifndef KV_QA_DATA_H
#define KV_QA_DATA_H

#include "engine/kv.h"

typedef enum kv_qa_kind { KV_SQUAD, KV_HOTPOTQA } kv_qa_kind;

typedef struct kv_qa_question {
    char *text;
    char *answers;                           /* one a line, each once */
    size_t gold, n_gold, related, n_related; /* ranges of kv_qa.place: documents with the answer, and others of the same
                                              * article (which for SQuAD include the gold one) */
} kv_qa_question;

typedef struct kv_qa {
    char **docs; /* (n_docs) each text once, sorted */
    size_t n_docs;
    size_t *place; /* (n_places) paragraphs in the order of the file, as numbers of docs */
    size_t n_places;
    kv_qa_question *questions; /* (n_questions) in the order of the file; SQuAD: the answerable ones */
    size_t n_questions;
    char sha256[65]; /* of the file */
} kv_qa;

/* Reads DIR/dev-v2.0.json or DIR/squad.json; DIR/hotpot_dev_distractor_v1.json or DIR/hotpotqa.json (the names that
 * RULER gives them).  folder NULL, or a folder without the file, is KV_ENOTFOUND with where to get it.  A file of
 * another form is KV_EFORMAT and names the place.  Free with kv_qa_close, also after a failure. */
int kv_qa_open(const char *folder, kv_qa_kind kind, kv_qa *out, kv_error *err);
/* The same from the text of the file; `name` is used in errors. */
int kv_qa_parse(const char *json, size_t n, const char *name, kv_qa_kind kind, kv_qa *out, kv_error *err);
void kv_qa_close(kv_qa *q);

#endif
