/* fuzz_qa.c - question files of unknown origin: refused with a reason, or whole.  The first byte picks the form. */
#include "datasets/qa_data.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    kv_qa q;
    kv_error err = {0};
    if (!size) return 0;
    kv_qa_kind kind = data[0] == 'S' ? KV_SQUAD : KV_HOTPOTQA;
    if (kv_qa_parse((const char *)data + 1, size - 1, "fuzz", kind, &q, &err)) {
        if (!err.text[0]) abort();
    } else {
        if (!q.n_questions || !q.n_docs) abort();
        for (size_t i = 1; i < q.n_docs; i++)
            if (strcmp(q.docs[i - 1], q.docs[i]) >= 0) abort();
        for (size_t i = 0; i < q.n_places; i++)
            if (q.place[i] >= q.n_docs) abort();
        for (size_t i = 0; i < q.n_questions; i++) {
            const kv_qa_question *a = &q.questions[i];
            if (!a->text[0] || !a->answers[0] || a->gold + a->n_gold > q.n_places || !a->n_gold) abort();
            if (a->related + a->n_related > q.n_places) abort();
        }
    }
    kv_qa_close(&q);
    return 0;
}
