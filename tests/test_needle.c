/* test_needle.c - the needle generator (structure, determinism, distributions, parameters), its haystack folder, and
 * the random numbers below it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "datasets/haystack.h"
#include "datasets/rng.h"
#include "datasets/task.h"
#include "engine/file.h"
#include "tests/support/scratch.h"

#define ROOT KV_SOURCE_DIR "/datasets"
#define FIRST "A special magic number is hidden within the following text.\n"
#define ASK "What is the special magic number for "
#define SENTENCE "The special magic number for "

static kv_task *open_needle(const char *spec, const char *haystack, uint64_t seed) {
    kv_task_options o = {.root = ROOT, .haystack = haystack, .seed = seed};
    kv_error err = {0};
    kv_task *t = NULL;
    if (kv_task_open(spec, &o, &t, &err)) fail_msg("%s: %s", spec, err.text);
    return t;
}

static void expect_refused(const char *haystack, int code, const char *text) {
    kv_task_options o = {.root = ROOT, .haystack = haystack};
    kv_error err = {0};
    kv_task *t;
    int rc = kv_task_open("needle:words=4", &o, &t, &err);
    if (!rc) fail_msg("%s was accepted", haystack);
    if (!strstr(err.text, text)) fail_msg("'%s' does not say '%s'", err.text, text);
    assert_int_equal(rc, code);
}

static void item_of(kv_task *t, int i, kv_item *it) {
    kv_error err;
    if (kv_task_item(t, i, it, &err)) fail_msg("%s", err.text);
}

static void rng_gives_the_reference_numbers(void **state) {
    /* splitmix64 from state 1234567: the published test vector */
    static const uint64_t want[] = {6457827717110365317u, 3203168211198807973u, 9817491932198370423u,
                                    4593380528125082431u, 16408922859458223821u};
    kv_rng r = {1234567};
    (void)state;
    for (int i = 0; i < 5; i++) assert_true(kv_rng_next(&r) == want[i]);
}

static void rng_streams_differ_and_below_is_even(void **state) {
    int count[7] = {0};
    (void)state;
    for (uint64_t s = 0; s < 50; s++)
        for (uint64_t k = 0; k < 50; k++) {
            kv_rng a = kv_rng_open(s, k), b = kv_rng_open(k, s), c = kv_rng_open(s, k);
            assert_true(a.state == c.state);
            assert_true(s == k || a.state != b.state);
        }
    kv_rng r = kv_rng_open(5, 6);
    for (int i = 0; i < 70000; i++) count[kv_rng_below(&r, 7)]++;
    for (int i = 0; i < 7; i++) assert_in_range(count[i], 9600, 10400); /* 4 standard deviations are 370 */
    for (int i = 0; i < 100; i++) assert_int_equal(kv_rng_below(&r, 1), 0);
}

/* Takes an item apart; fails when anything is not as documented.  words: without the needles.  Returns k. */
typedef struct {
    int k, asked;        /* needles, and the place in the text (0 = first) of the one asked for */
    int position;        /* words before the first needle */
    unsigned long first; /* hash of the first plain word, to see where the text starts */
} parts;

static parts take_apart(const kv_item *it, int words) {
    parts p = {.asked = -1};
    char key[40], keys[130][40];
    unsigned number, numbers[130];
    int end = 0, plain = 0;
    assert_memory_equal(it->prompt, FIRST, strlen(FIRST));
    const char *question = it->prompt + it->question_at;
    assert_true(question[-1] == '\n');
    assert_int_equal(sscanf(question, ASK "%39[a-z-]?%n", key, &end), 1);
    assert_int_equal(question[end], 0);
    for (const char *s = it->prompt + strlen(FIRST); s < question;) {
        if (!strncmp(s, SENTENCE, strlen(SENTENCE))) {
            end = 0;
            assert_int_equal(sscanf(s, SENTENCE "%39[a-z-] is: %u.%n", keys[p.k], &number, &end), 2);
            assert_true(end > 0);
            assert_in_range(number, 100000, 999999);
            for (int j = 0; j < p.k; j++)
                if (!strcmp(keys[j], keys[p.k]) || numbers[j] == number) fail_msg("%s occurs twice", keys[j]);
            numbers[p.k] = number;
            if (!p.k) p.position = plain;
            if (!strcmp(keys[p.k], key)) {
                p.asked = p.k;
                assert_int_equal(strtoul(it->gold, NULL, 10), number);
            }
            p.k++;
            s += end;
        } else {
            size_t n = strcspn(s, " \n");
            assert_true(n > 0);
            for (size_t i = 0; !plain && i < n; i++) p.first = p.first * 31 + (unsigned char)s[i];
            plain++;
            s += n;
        }
        assert_true(*s == (s + 1 == question ? '\n' : ' '));
        s++;
    }
    assert_int_equal(plain, words);
    assert_true(p.asked >= 0);
    return p;
}

static void items_have_the_documented_structure(void **state) {
    static const struct {
        const char *spec;
        int words, needles;
    } cases[] = {{"needle", 900, 0},
                 {"needle:words=150:needles=4:n=60", 150, 4},
                 {"needle:words=1:n=60", 1, 0},
                 {"needle:words=300:needles=120:n=10", 300, 120},
                 {"needle:words=2:needles=1:n=60", 2, 1}};
    (void)state;
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        kv_task *t = open_needle(cases[c].spec, NULL, 0);
        for (int i = 0; i < kv_task_get_info(t)->n_items; i++) {
            kv_item it;
            item_of(t, i, &it);
            parts p = take_apart(&it, cases[c].words);
            assert_in_range(p.k, cases[c].needles ? cases[c].needles : 1, cases[c].needles ? cases[c].needles : 8);
            kv_item_free(&it);
        }
        kv_task_close(t);
    }
}

static void counts_places_and_questions_are_uniform(void **state) {
    int k_count[9] = {0}, asked_count[4] = {0}, third[3] = {0};
    double start = 0;
    (void)state;
    kv_task *t = open_needle("needle:words=30:n=4000", NULL, 1);
    for (int i = 0; i < 4000; i++) {
        kv_item it;
        item_of(t, i, &it);
        parts p = take_apart(&it, 30);
        k_count[p.k]++;
        if (p.k == 4) asked_count[p.asked]++;
        if (p.k == 1) third[p.position / 10]++;
        start += (double)(p.first % 1000) / 1000;
        kv_item_free(&it);
    }
    kv_task_close(t);
    for (int k = 1; k <= 8; k++) assert_in_range(k_count[k], 400, 600);
    for (int j = 0; j < 4; j++) assert_in_range(asked_count[j], 80, 175);
    for (int j = 0; j < 3; j++) assert_in_range(third[j], 110, 225);
    assert_true(start / 4000 > 0.3 && start / 4000 < 0.7);
}

static void items_depend_on_seed_index_and_parameters_only(void **state) {
    (void)state;
    kv_task *few = open_needle("needle:n=3:words=50", NULL, 5), *many = open_needle("needle:n=30:words=50", NULL, 5);
    kv_task *named = open_needle("needle:n=3:words=50:seed=5", NULL, 8),
            *other = open_needle("needle:n=3:words=50", NULL, 6);
    for (int i = 2; i >= 0; i--) {
        kv_item a, b, c, d;
        item_of(few, i, &a);
        item_of(many, i, &b);
        item_of(named, i, &c);
        item_of(other, i, &d);
        assert_string_equal(a.prompt, b.prompt);
        assert_string_equal(a.prompt, c.prompt);
        assert_string_not_equal(a.prompt, d.prompt);
        kv_item_free(&a);
        kv_item_free(&b);
        kv_item_free(&c);
        kv_item_free(&d);
    }
    assert_string_equal(kv_task_get_info(few)->name, "needle:n=3:words=50");
    assert_string_equal(kv_task_get_info(named)->name, "needle:n=3:words=50:seed=5");
    assert_string_equal(kv_task_get_info(few)->data_sha256, kv_task_get_info(named)->data_sha256);
    assert_string_not_equal(kv_task_get_info(few)->data_sha256, kv_task_get_info(other)->data_sha256);
    assert_string_not_equal(kv_task_get_info(few)->data_sha256, kv_task_get_info(many)->data_sha256);
    kv_task_close(few);
    kv_task_close(many);
    kv_task_close(named);
    kv_task_close(other);
}

/* Fixed so that a change of generator or text cannot pass unnoticed on any platform. */
static void first_item_of_seed_0_is_this_one(void **state) {
    char hex[65];
    kv_item it;
    (void)state;
    kv_task *t = open_needle("needle", NULL, 0);
    item_of(t, 0, &it);
    kv_sha256_bytes(it.prompt, strlen(it.prompt), hex);
    assert_string_equal(hex, "e55182e815ee1d7ee7423766bfa94d092d3ebf64b6cc9e6a805394591e7796fb");
    kv_item_free(&it);
    kv_task_close(t);
}

/* --- haystack folders ----------------------------------------------------------------------------------------- */

static void put_file(scratch *s, const char *name, const char *text) {
    assert_non_null(scratch_write(s, name, text, strlen(text)));
}

static void haystack_is_all_txt_files_in_name_order(void **state) {
    scratch s;
    kv_haystack h;
    kv_error err;
    (void)state;
    assert_int_equal(scratch_open(&s), 0);
    put_file(&s, "b.txt", "three\tfour\r\n\n five");
    put_file(&s, "a.txt", " one two");
    put_file(&s, "B.txt", "zero\n");
    put_file(&s, "c.txt", "");
    put_file(&s, "d.md", "never");
    put_file(&s, ".txt", "never");
    if (kv_haystack_open(s.dir, &h, &err)) fail_msg("%s", err.text);
    assert_string_equal(h.text, "zero one two three four five");
    assert_int_equal(h.n_words, 6);
    assert_int_equal(h.word[0], 0);
    assert_int_equal(h.word[1], 5);
    assert_int_equal(h.word[6], strlen(h.text) + 1);
    kv_haystack_close(&h);
    kv_task *t = open_needle("needle:words=6:needles=1:n=1", s.dir, 0);
    kv_item it;
    item_of(t, 0, &it);
    assert_int_equal(take_apart(&it, 6).k, 1);
    kv_item_free(&it);
    kv_task_close(t);
    scratch_close(&s);
}

static void another_text_is_another_task(void **state) {
    scratch s;
    (void)state;
    assert_int_equal(scratch_open(&s), 0);
    put_file(&s, "a.txt", "one two three four five six");
    kv_task *a = open_needle("needle:words=5", s.dir, 0);
    put_file(&s, "a.txt", "one two three four five\nsix ");
    kv_task *same = open_needle("needle:words=5", s.dir, 0);
    put_file(&s, "a.txt", "one two three four five seven");
    kv_task *b = open_needle("needle:words=5", s.dir, 0);
    assert_string_equal(kv_task_get_info(a)->data_sha256, kv_task_get_info(same)->data_sha256);
    assert_string_not_equal(kv_task_get_info(a)->data_sha256, kv_task_get_info(b)->data_sha256);
    kv_task_close(a);
    kv_task_close(same);
    kv_task_close(b);
    scratch_close(&s);
}

static void bad_haystack_folders_are_refused(void **state) {
    scratch s;
    (void)state;
    assert_int_equal(scratch_open(&s), 0);
    expect_refused("/no/such/folder", KV_ENOTFOUND, "haystack folder /no/such/folder: No such file");
    expect_refused(s.dir, KV_ENOTFOUND, "has no .txt file");
    put_file(&s, "a.txt", " \n\n");
    expect_refused(s.dir, KV_EFORMAT, "have no words");
    put_file(&s, "a.txt", "one two three");
    expect_refused(s.dir, KV_EARG, "words=4, but haystack");
    assert_non_null(scratch_write(&s, "a.txt", "one\0two three four", 18));
    expect_refused(s.dir, KV_EFORMAT, "a.txt: the file has a zero byte");
    put_file(&s, "a.txt", "one two three four");
    expect_refused(scratch_path(&s, "a.txt"), KV_ENOTFOUND, "Not a directory");
    scratch_close(&s);
}

static void committed_text_is_ascii_and_long(void **state) {
    kv_haystack h;
    kv_error err;
    (void)state;
    assert_int_equal(kv_haystack_open(ROOT "/data/haystack", &h, &err), KV_OK);
    assert_true(h.n_words > 60000);
    int digits = 0;
    for (const unsigned char *p = (const unsigned char *)h.text; *p; p++) {
        assert_in_range(*p, 32, 126);
        digits = *p >= '0' && *p <= '9' ? digits + 1 : 0;
        assert_true(digits < 5); /* nothing that a needle's number could be mistaken for */
    }
    assert_null(strstr(h.text, "magic number"));
    kv_haystack_close(&h);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rng_gives_the_reference_numbers),
        cmocka_unit_test(rng_streams_differ_and_below_is_even),
        cmocka_unit_test(items_have_the_documented_structure),
        cmocka_unit_test(counts_places_and_questions_are_uniform),
        cmocka_unit_test(items_depend_on_seed_index_and_parameters_only),
        cmocka_unit_test(first_item_of_seed_0_is_this_one),
        cmocka_unit_test(haystack_is_all_txt_files_in_name_order),
        cmocka_unit_test(another_text_is_another_task),
        cmocka_unit_test(bad_haystack_folders_are_refused),
        cmocka_unit_test(committed_text_is_ascii_and_long),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
