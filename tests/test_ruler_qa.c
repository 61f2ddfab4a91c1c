/* test_ruler_qa.c - RULER's questions over documents, from two tiny made-up files (scripts/golden_qa.py). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "datasets/qa_data.h"
#include "tests/support/counted_task.h"
#include "tests/support/scratch.h"

#define QA KV_SOURCE_DIR "/tests/golden/qa"

static int start(void **state) {
    (void)state;
    ct_start();
    return 0;
}

static int end(void **state) {
    (void)state;
    ct_close();
    return 0;
}

/* Checks numbering and returns the number of documents. */
static int count_documents(const kv_item *it) {
    int n = 0;
    const char *s = strstr(it->prompt, "given documents.\n\nDocument 1:\n");
    assert_non_null(s);
    for (s += 18; s; s = strstr(s, "\n\nDocument ") ? strstr(s, "\n\nDocument ") + 2 : NULL) {
        char mark[40];
        snprintf(mark, sizeof mark, "Document %d:\n", ++n);
        assert_memory_equal(s, mark, strlen(mark));
    }
    return n;
}

static void squad_items_hold_their_paragraph(void **state) {
    char gold[40], phrase[200], place[40], good[40];
    (void)state;
    kv_task *t = ct_open("qa_1:tokens=512:n=48", 0, QA), *all = ct_open("qa_1:tokens=2600:n=48", 0, QA),
            *more = ct_open("qa_1:tokens=9000:n=48", 0, QA);
    assert_string_equal(kv_task_get_info(t)->grader, "ruler_part");
    for (int i = 0; i < 48; i += 5) {
        kv_item it = ct_item(t, i), longer = ct_item(all, i), longest = ct_item(more, i);
        const char *question = strstr(it.prompt + it.question_at, "Question: ");
        assert_string_equal(it.answer, " Answer:");
        assert_int_equal(sscanf(question, "Question: When did the %39s market of %39[A-Za-z] open?", good, place), 2);
        assert_true(ct_gold(&it, 0, gold, sizeof gold));
        snprintf(phrase, sizeof phrase, "The %s market of %s opened in %s.", good, place, gold);
        assert_int_equal(ct_occurs(it.prompt, it.question_at, phrase), 1);
        assert_true(ct_gold(&it, 1, phrase, sizeof phrase)); /* repeated answers once */
        assert_false(ct_gold(&it, 2, phrase, sizeof phrase));
        /* first the paragraphs of the article */
        int n = count_documents(&it);
        assert_in_range(n, 2, 6);
        snprintf(phrase, sizeof phrase, "market of %s opened", place);
        assert_int_equal(ct_occurs(it.prompt, it.question_at, phrase), n);
        /* then others, each once, as long as there are any */
        n = count_documents(&longer);
        assert_in_range(n, 20, 48);
        assert_int_equal(ct_occurs(longer.prompt, longer.question_at, phrase), 6);
        assert_int_equal(ct_occurs(longer.prompt, longer.question_at, " opened in "), n);
        assert_true(count_documents(&longest) > 48);
        kv_item_free(&it);
        kv_item_free(&longer);
        kv_item_free(&longest);
    }
    kv_task_close(t);
    kv_task_close(all);
    kv_task_close(more);
    ct_refused("qa_1:n=49", QA, KV_EARG, "qa: n=49, but the file has 48 questions with an answer");
}

static void hotpotqa_items_hold_all_their_documents(void **state) {
    (void)state;
    kv_task *t = ct_open("qa_2:tokens=700:n=6", 0, QA);
    kv_item it = ct_item(t, 1);
    assert_true(count_documents(&it) >= 10);
    assert_string_equal(it.gold, "5 piers");
    assert_int_equal(ct_occurs(it.prompt, it.question_at,
                               "Brisk River\nThe Brisk River rises in the hills. It meets the "
                               "sea at Eston."),
                     1);
    assert_int_equal(ct_occurs(it.prompt, it.question_at, "Eston Harbour has 5 piers."), 1);
    assert_non_null(strstr(it.prompt + it.question_at, "How many piers has the harbour where the Brisk River ends?"));
    kv_item_free(&it);
    kv_task_close(t);
}

static void other_files_are_refused(void **state) {
    static const struct {
        kv_qa_kind kind;
        const char *json, *text;
    } cases[] = {
        {KV_SQUAD, "", "x.json: not JSON, or cut off"},
        {KV_SQUAD, "{\"data\":[", "not JSON, or cut off"},
        {KV_SQUAD, "[]", "no array 'data'; is it SQuAD 2.0?"},
        {KV_SQUAD, "{\"data\":[]}", "there is no question in it"},
        {KV_SQUAD, "{\"data\":[1,\"a\",null]}", "there is no question in it"},
        {KV_SQUAD, "{\"data\":[{\"paragraphs\":[{}]}]}", "article 0: a paragraph without 'context'"},
        {KV_SQUAD, "{\"data\":[{\"paragraphs\":[{\"context\":\"c\",\"qas\":[{}]}]}]}", "a question without 'question'"},
        {KV_SQUAD, "{\"data\":[{\"paragraphs\":[{\"context\":\"c\",\"qas\":[{\"question\":\"q\",\"answers\":[]}]}]}]}",
         "an answerable question without 'answers'"},
        {KV_HOTPOTQA, "{}", "no array; is it HotpotQA?"},
        {KV_HOTPOTQA, "[]", "there is no question in it"},
        {KV_HOTPOTQA, "[{\"question\":\"q\"}]", "question 0: without 'question' or 'answer'"},
        {KV_HOTPOTQA, "[{\"question\":\"q\",\"answer\":\"a\"}]", "question 0: without documents in 'context'"},
        {KV_HOTPOTQA, "[{\"question\":\"q\",\"answer\":\"a\",\"context\":[[\"t\"]]}]", "no [title, [sentence, ...]]"},
    };
    scratch s;
    kv_qa q;
    kv_error err;
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(kv_qa_parse(cases[i].json, strlen(cases[i].json), "x.json", cases[i].kind, &q, &err),
                         KV_EFORMAT);
        if (!strstr(err.text, cases[i].text)) fail_msg("%s: '%s'", cases[i].json, err.text);
        kv_qa_close(&q);
    }
    assert_int_equal(scratch_open(&s), 0);
    assert_non_null(scratch_write(&s, "squad.json", "{}", 2));
    ct_refused("qa_1", s.dir, KV_EFORMAT, "squad.json: no array 'data'");
    scratch_close(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(squad_items_hold_their_paragraph),
        cmocka_unit_test(hotpotqa_items_hold_all_their_documents),
        cmocka_unit_test(other_files_are_refused),
    };
    return cmocka_run_group_tests(tests, start, end);
}
