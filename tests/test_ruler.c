/* test_ruler.c - RULER's needle tasks, and what all its generators have in common: lengths, seeds, errors.
 *
 * Items are taken apart from their text alone; nothing of the generators is asked what it did. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "datasets/rng.h"
#include "engine/chat.h"
#include "tests/support/counted_task.h"
#include "tests/support/token_golden.h"

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

/* --- lengths and seeds ---------------------------------------------------------------------------------------- */

/* Nearest to the target are 2% or one unit of filler, whichever is more. */
static void items_have_the_length_asked_for(void **state) {
    static const struct {
        const char *task;
        int least, unit; /* tokens */
    } tasks[] = {
        {"niah_single_1", 512, 27},
        {"niah_single_2", 512, 3},
        {"niah_single_3", 512, 3},
        {"niah_multikey_1", 512, 3},
        {"niah_multikey_2", 512, 36},
        {"niah_multikey_3", 512, 110},
        {"niah_multivalue", 512, 3},
        {"niah_multiquery", 1024, 3},
        {"vt", 1024, 27},
        {"cwe", 1024, 30},
        {"fwe", 512, 14},
    };
    static const int lengths[] = {512, 777, 1024, 4096, 16384};
    char spec[100];
    (void)state;
    for (size_t i = 0; i < sizeof tasks / sizeof *tasks; i++)
        for (size_t k = 0; k < sizeof lengths / sizeof *lengths; k++) {
            if (lengths[k] < tasks[i].least) continue;
            snprintf(spec, sizeof spec, "%s:tokens=%d", tasks[i].task, lengths[k]);
            kv_task *t = ct_open(spec, 3, NULL);
            for (int j = 0; j < (lengths[k] < 5000 ? 3 : 1); j++) {
                kv_item it = ct_item(t, j);
                int n = (int)ct_tokens(&it) + kv_task_get_info(t)->max_new;
                int room = lengths[k] / 50 > tasks[i].unit ? lengths[k] / 50 : tasks[i].unit;
                if (n > lengths[k] || n < lengths[k] - room) fail_msg("%s: item %d has %d tokens", spec, j, n);
                kv_item_free(&it);
            }
            kv_task_close(t);
        }
}

static const char *const every_task[] = {"niah_single_1:tokens=1024",
                                         "niah_single_3:tokens=1024",
                                         "niah_multikey_2:tokens=1024",
                                         "niah_multiquery:tokens=1024",
                                         "vt:tokens=1024",
                                         "cwe:tokens=1024",
                                         "fwe:tokens=1024"};

static int same(const kv_item *a, const kv_item *b) {
    return !strcmp(a->id, b->id) && !strcmp(a->prompt, b->prompt) && !strcmp(a->answer, b->answer) &&
           !strcmp(a->gold, b->gold) && a->question_at == b->question_at;
}

static void the_same_seed_gives_the_same_bytes(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof every_task / sizeof *every_task; i++) {
        char fewer[100];
        snprintf(fewer, sizeof fewer, "%s:n=3", every_task[i]);
        kv_task *a = ct_open(every_task[i], 7, NULL), *b = ct_open(every_task[i], 7, NULL),
                *c = ct_open(every_task[i], 8, NULL), *d = ct_open(fewer, 7, NULL);
        kv_item items[] = {ct_item(a, 2), ct_item(b, 2), ct_item(d, 2), ct_item(a, 0), ct_item(c, 0)};
        assert_true(same(&items[0], &items[1]));
        assert_true(same(&items[0], &items[2])); /* whatever n is */
        assert_string_not_equal(items[0].prompt, items[3].prompt);
        assert_string_not_equal(items[3].prompt, items[4].prompt);
        const char *hash = kv_task_get_info(a)->data_sha256;
        assert_string_equal(hash, kv_task_get_info(b)->data_sha256);
        assert_string_not_equal(hash, kv_task_get_info(c)->data_sha256);
        assert_string_not_equal(hash, kv_task_get_info(d)->data_sha256);
        for (int k = 0; k < 5; k++) kv_item_free(&items[k]);
        kv_task_close(a);
        kv_task_close(b);
        kv_task_close(c);
        kv_task_close(d);
    }
}

/* --- needles -------------------------------------------------------------------------------------------------- */

#define NEEDLE "One of the special magic "
#define NOISE "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again."

/* The needles of a prompt in their order. */
typedef struct {
    struct {
        char type[8], key[80], value[80];
        const char *at;
    } v[2000];
    int n;
} needles;

static void find_needles(const kv_item *it, needles *out) {
    out->n = 0;
    for (const char *s = it->prompt; (s = strstr(s, NEEDLE)) && s < it->prompt + it->question_at; s++) {
        const char *k = strstr(s, " for "), *is = strstr(k, " is: ");
        size_t n = strcspn(is + 5, ".");
        assert_true(out->n < 2000 && is - k - 5 < 80 && n < 80 && k - s < 40);
        snprintf(out->v[out->n].type, 8, "%.*s", (int)(k - s - (long)strlen(NEEDLE)), s + strlen(NEEDLE));
        snprintf(out->v[out->n].key, 80, "%.*s", (int)(is - k - 5), k + 5);
        snprintf(out->v[out->n].value, 80, "%.*s", (int)n, is + 5);
        out->v[out->n++].at = s;
    }
}

static void expect_kind(const char *s, const char *kind) {
    size_t n = strlen(s);
    if (!strcmp(kind, "numbers")) {
        if (n != 7 || strspn(s, "0123456789") != n || s[0] == '0') fail_msg("'%s' is no number of seven digits", s);
    } else if (!strcmp(kind, "uuids")) {
        int ok = n == 36 && s[14] == '4' && strchr("89ab", s[19]);
        for (size_t i = 0; ok && i < n; i++)
            ok = i == 8 || i == 13 || i == 18 || i == 23 ? s[i] == '-' : !!strchr("0123456789abcdef", s[i]);
        if (!ok) fail_msg("'%s' is no version 4 UUID", s);
    } else {
        if (!strchr(s, '-') || strpbrk(s, ".\n")) fail_msg("'%s' is no adjective-noun", s);
    }
}

/* Values of the key, in the order of the text; returns their number. */
static int values_of(const needles *v, const char *key, const char **out) {
    int n = 0;
    for (int i = 0; i < v->n; i++)
        if (!strcmp(v->v[i].key, key) && n < 10) out[n++] = v->v[i].value;
    return n;
}

/* Between two sentences, or at an end of the text, where the last sentence may be cut short.  left: needles from this
 * one on. */
static void expect_between_sentences(const kv_item *it, const char *at, int left) {
    const char *before = at - 2;
    if (at[-1] == '\n' || it->prompt + it->question_at - at < 110 * left) return;
    assert_int_equal(at[-1], ' ');
    while (strchr("\"')]}_*", *before)) before--;
    if (!strchr(".!?", *before))
        fail_msg("a needle stands behind '%.30s'", at - 30 > it->prompt ? at - 30 : it->prompt);
}

static void expect_noise(const char *from, const char *to, int *lines) {
    *lines = 0;
    for (const char *s = from; s < to; s += strcspn(s, "\n") + 1) {
        size_t n = strcspn(s, "\n");
        if (!strncmp(s, NEEDLE, strlen(NEEDLE)) || !strncmp(s, "VAR ", 4)) continue;
        if (n != strlen(NOISE) || strncmp(s, NOISE, n)) fail_msg("'%.*s' is no noise", (int)n, s);
        ++*lines;
    }
}

static void needles_hold_the_answers(void **state) {
    static const struct {
        const char *task, *keys, *values;
        int k, v, q, distractors;
    } tasks[] = {
        {"niah_single_1", "words", "numbers", 1, 1, 1, 0},   {"niah_single_2", "words", "numbers", 1, 1, 1, 0},
        {"niah_single_3", "words", "uuids", 1, 1, 1, 0},     {"niah_multikey_1", "words", "numbers", 4, 1, 1, 0},
        {"niah_multikey_2", "words", "numbers", 1, 1, 1, 1}, {"niah_multikey_3", "uuids", "uuids", 1, 1, 1, 1},
        {"niah_multivalue", "words", "numbers", 1, 4, 1, 0}, {"niah_multiquery", "words", "numbers", 4, 1, 4, 0},
    };
    static needles found;
    (void)state;
    for (size_t i = 0; i < sizeof tasks / sizeof *tasks; i++) {
        char spec[60];
        snprintf(spec, sizeof spec, "%s:tokens=2048", tasks[i].task);
        kv_task *t = ct_open(spec, 1, NULL);
        for (int j = 0; j < 6; j++) {
            kv_item it = ct_item(t, j);
            const char *question = it.prompt + it.question_at, *key = strstr(question, " for ") + 5, *of[10];
            char list[400], gold[80];
            int n_gold = 0, lines;
            find_needles(&it, &found);
            assert_true(tasks[i].distractors ? found.n > 10 : found.n == tasks[i].k * tasks[i].v);
            for (int f = 0; f < found.n; f++) {
                assert_string_equal(found.v[f].type, tasks[i].values);
                expect_kind(found.v[f].key, tasks[i].keys);
                expect_kind(found.v[f].value, tasks[i].values);
                if (strstr(spec, "single_1") || tasks[i].distractors)
                    assert_int_equal(found.v[f].at[-1], '\n');
                else
                    expect_between_sentences(&it, found.v[f].at, found.n - f);
            }
            if (strstr(spec, "single_1"))
                expect_noise(strchr(it.prompt, '\n') + 1, question, &lines), assert_true(lines > 50);
            snprintf(list, sizeof list, "%.*s", (int)(strstr(key, " mentioned in") - key), key);
            for (char *k = list, *next; k; k = next) {
                next = strstr(k, ", ");
                if (next) *next = 0, next += 2;
                if (!strncmp(k, "and ", 4)) k += 4;
                int n = values_of(&found, k, of), ok = 0;
                assert_int_equal(n, tasks[i].v);
                for (int g = 0; g < n; g++, n_gold++) {
                    assert_true(ct_gold(&it, n_gold, gold, sizeof gold));
                    for (int w = 0; w < n; w++) ok += !strcmp(of[w], gold);
                }
                assert_int_equal(ok, tasks[i].v);
            }
            assert_int_equal(n_gold, tasks[i].q * tasks[i].v);
            assert_false(ct_gold(&it, n_gold, gold, sizeof gold));
            kv_item_free(&it);
        }
        kv_task_close(t);
    }
}

/* The texts of RULER's constants.py, singular rule applied. */
static void prompts_are_the_published_ones(void **state) {
    static const struct {
        const char *task, *first, *question, *answer;
    } want[] = {
        {"niah_single_1:tokens=512",
         "A special magic number is hidden within the following text. Make sure to memorize it. I will quiz you about "
         "the number afterwards.\nThe grass is green.",
         "What is the special magic number for %s mentioned in the provided text?",
         " The special magic number for %s mentioned in the provided text is"},
        {"niah_single_3:tokens=512",
         "A special magic uuid is hidden within the following text. Make sure to memorize it. I will quiz you about "
         "the "
         "uuid afterwards.\nPart of the ensuing Discourse",
         "What is the special magic uuid for %s mentioned in the provided text?",
         " The special magic uuid for %s mentioned in the provided text is"},
        {"niah_multivalue:tokens=512",
         "Some special magic numbers are hidden within the following text. Make sure to memorize it. I will quiz you "
         "about the numbers afterwards.\nPart of",
         "What are all the special magic numbers for %s mentioned in the provided text?",
         " The special magic numbers for %s mentioned in the provided text are"},
        {"niah_multiquery:tokens=1024",
         "Some special magic numbers are hidden within the following text. Make sure to memorize it. I will quiz you "
         "about the numbers afterwards.\nPart of",
         "What are all the special magic numbers for %s mentioned in the provided text?",
         " The special magic numbers for %s mentioned in the provided text are"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        kv_task *t = ct_open(want[i].task, 2, NULL);
        char key[300], text[600];
        int j = 0;
        kv_item it = ct_item(t, j);
        while (strncmp(it.prompt, want[i].first, strlen(want[i].first))) { /* a needle may stand in front */
            kv_item_free(&it);
            assert_true(++j < 10);
            it = ct_item(t, j);
        }
        const char *question = it.prompt + it.question_at, *from = strstr(question, " for ") + 5;
        assert_int_equal(question[-1], '\n');
        snprintf(key, sizeof key, "%.*s", (int)(strstr(from, " mentioned") - from), from);
        const char *parts[][2] = {{want[i].question, question}, {want[i].answer, it.answer}};
        for (int k = 0; k < 2; k++) {
            const char *slot = strstr(parts[k][0], "%s");
            snprintf(text, sizeof text, "%.*s%s%s", (int)(slot - parts[k][0]), parts[k][0], key, slot + 2);
            assert_string_equal(parts[k][1], text);
        }
        assert_int_equal(strchr(key, ',') != NULL, strstr(want[i].task, "multiquery") != NULL);
        if (strchr(key, ',')) assert_int_equal(ct_occurs(key, sizeof key, ", and "), 1);
        kv_item_free(&it);
        kv_task_close(t);
    }
}

/* Where among all depths the needles of many items stand. */
static void needles_are_everywhere(void **state) {
    static const char *const specs[] = {"niah_single_1:tokens=1024", "niah_single_2:tokens=1024"};
    static needles found;
    (void)state;
    for (int s = 0; s < 2; s++) {
        int third[3] = {0};
        kv_task *t = ct_open(specs[s], 5, NULL);
        for (int j = 0; j < 150; j++) {
            kv_item it = ct_item(t, j);
            find_needles(&it, &found);
            third[3 * (size_t)(found.v[0].at - it.prompt) / it.question_at]++;
            kv_item_free(&it);
        }
        for (int k = 0; k < 3; k++) assert_in_range(third[k], 27, 75); /* 50 on average, 4 standard deviations are 23 */
        kv_task_close(t);
    }
}

static void more_keys_and_values_can_be_asked_for(void **state) {
    static needles found;
    char gold[80];
    (void)state;
    kv_task *t = ct_open("niah_single_2:tokens=4096:keys=9:values=3:queries=2", 0, NULL);
    assert_string_equal(kv_task_get_info(t)->name, "niah_single_2:keys=9:values=3:queries=2");
    kv_item it = ct_item(t, 1);
    find_needles(&it, &found);
    assert_int_equal(found.n, 27);
    assert_true(ct_gold(&it, 5, gold, sizeof gold));
    assert_false(ct_gold(&it, 6, gold, sizeof gold));
    kv_item_free(&it);
    kv_task_close(t);
    ct_refused("niah_single_2:keys=9:values=5", NULL, KV_EARG, "9 keys with 5 values each are more than 40 needles");
}

static void the_text_repeats_when_it_is_too_short(void **state) {
    (void)state;
    kv_task *t = ct_open("niah_single_2:tokens=300000", 0, NULL);
    kv_item it = ct_item(t, 0);
    assert_int_equal(ct_occurs(it.prompt, it.question_at, "Part of the ensuing Discourse about Light was"), 2);
    kv_item_free(&it);
    kv_task_close(t);
}

/* --- the start of the answer, errors -------------------------------------------------------------------------- */

static void the_answer_goes_on_behind_the_template(void **state) {
    static const char *const families[] = {"smollm2", "none"};
    kv_error err;
    (void)state;
    for (int f = 0; f < 2; f++) {
        kv_ids with = {0}, without = {0};
        size_t n[2];
        const kv_chat *c = kv_chat_find(families[f]);
        const char *user = "Some text.\nWhat is it?", *answer = " The <|im_end|> answer is";
        assert_int_equal(kv_chat_render(c, ct_tokenizer(), NULL, user, 11, &without, &n[0], &err), KV_OK);
        assert_int_equal(kv_chat_render_answer(c, ct_tokenizer(), NULL, user, 11, answer, &with, &n[1], &err), KV_OK);
        char *a = kv_detokenize(ct_tokenizer(), without.ids, without.n, 0),
             *b = kv_detokenize(ct_tokenizer(), with.ids, with.n, 0);
        assert_int_equal(n[0], n[1]);
        assert_memory_equal(a, b, strlen(a));
        assert_string_equal(b + strlen(a), answer);
        int32_t im_end = (int32_t)kv_tokenizer_special(ct_tokenizer(), "<|im_end|>");
        int ends[2] = {0};
        for (size_t i = 0; i < without.n; i++) ends[0] += without.ids[i] == im_end;
        for (size_t i = 0; i < with.n; i++) ends[1] += with.ids[i] == im_end;
        assert_int_equal(ends[0], ends[1]); /* no special token out of an answer's text */
        free(a);
        free(b);
        kv_ids_free(&with);
        kv_ids_free(&without);
    }
}

static void refuses_what_cannot_be_made(void **state) {
    kv_task_options o = {.root = CT_ROOT};
    kv_error err = {0};
    kv_task *t;
    (void)state;
    ct_refused("niah_single_1:tokens=256", NULL, KV_EARG, "task niah_single_1: tokens=256 is too short: the smallest");
    ct_refused("vt:tokens=512", NULL, KV_EARG, "task vt: tokens=512 is too short");
    ct_refused("cwe:tokens=512", NULL, KV_EARG, "task cwe: tokens=512 is too short");
    ct_refused("fwe:tokens=256", NULL, KV_EARG, "fwe: tokens=256 is too short");
    ct_refused("niah_single_1:tokens=8", NULL, KV_EARG, "tokens=8 is no whole number of 256..");
    ct_refused("qa_1", NULL, KV_ENOTFOUND, "get dev-v2.0.json into a folder and give it with --qa-data DIR");
    ct_refused("qa_2", CT_ROOT, KV_ENOTFOUND, "get hotpot_dev_distractor_v1.json into a folder");
    assert_int_equal(kv_task_open("vt", &o, &t, &err), KV_EARG);
    assert_string_equal(err.text, "task vt: its items are measured in tokens, so that a model is needed to make them: "
                                  "use trimbench run, or give each line of outputs its 'answer'");
}

static void drawing_without_repeats_gives_each_once(void **state) {
    size_t order[50], few[10];
    int seen[50] = {0}, first[50] = {0};
    (void)state;
    kv_rng r = kv_rng_open(1, 2);
    kv_rng_shuffle(&r, order, 50, 50);
    for (int i = 0; i < 50; i++) seen[order[i]]++;
    for (int i = 0; i < 50; i++) assert_int_equal(seen[i], 1);
    for (int turn = 0; turn < 5000; turn++) {
        kv_rng_distinct(&r, 10, few, 10);
        for (int i = 0; i < 10; i++)
            for (int j = 0; j < i; j++) assert_true(few[i] != few[j]);
        kv_rng_shuffle(&r, order, 50, 3);
        first[order[0]]++;
    }
    for (int i = 0; i < 50; i++) assert_in_range(first[i], 60, 140); /* 100 on average */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(items_have_the_length_asked_for),
        cmocka_unit_test(the_same_seed_gives_the_same_bytes),
        cmocka_unit_test(needles_hold_the_answers),
        cmocka_unit_test(prompts_are_the_published_ones),
        cmocka_unit_test(needles_are_everywhere),
        cmocka_unit_test(more_keys_and_values_can_be_asked_for),
        cmocka_unit_test(the_text_repeats_when_it_is_too_short),
        cmocka_unit_test(the_answer_goes_on_behind_the_template),
        cmocka_unit_test(refuses_what_cannot_be_made),
        cmocka_unit_test(drawing_without_repeats_gives_each_once),
    };
    return cmocka_run_group_tests(tests, start, end);
}
