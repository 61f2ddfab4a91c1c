/* test_ruler_text.c - RULER's variable tracking and word counts, and the needle grid, taken apart from their text
 * alone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "datasets/haystack.h"
#include "datasets/words.h"
#include "tests/support/counted_task.h"
#include "tests/support/scratch.h"

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

/* --- variable tracking ---------------------------------------------------------------------------------------- */

/* Follows the chain of `value` through the lines of [from, to); the k-th name must be line k of the answers. */
static void follow_chain(const char *from, const char *to, const char *value, const char *const *names, int n,
                         int letters) {
    char last[20], name[20], of[20];
    int found = 0;
    snprintf(last, sizeof last, "%s", value);
    for (const char *s = from; s < to; s += strcspn(s, "\n") + 1) {
        if (strncmp(s, "VAR ", 4)) continue;
        const char *form = found ? "VAR %19[A-Z] = VAR %19[A-Z] " : "VAR %19[A-Z] = %19[0-9]";
        assert_int_equal(sscanf(s, form, name, of), 2);
        assert_string_equal(of, last);
        assert_true(found < n);
        assert_string_equal(name, names[found]);
        assert_int_equal(strlen(name), letters);
        assert_int_equal(s[strcspn(s, "\n") - 1] == ' ', found > 0);
        snprintf(last, sizeof last, "%s", name);
        found++;
    }
    assert_int_equal(found, n);
}

static void chains_lead_to_every_name(void **state) {
    static const char begin[] =
        "Memorize and track the chain(s) of variable assignment hidden in the following text.\n\n";
    static const char said[] = "Question: Find all variables that are assigned the value %19[0-9] in the text above.%n";
    (void)state;
    for (int hops = 1; hops <= 10; hops += 3) {
        char spec[60];
        snprintf(spec, sizeof spec, "vt:tokens=1500:hops=%d", hops);
        kv_task *t = ct_open(spec, 4, NULL);
        for (int j = 0; j < 5; j++) {
            kv_item it = ct_item(t, j);
            char value[20], names[11][20], want[300], *list[11];
            int at = 0, n = hops + 1;
            const char *question = it.prompt + it.question_at, *example = it.prompt + strlen(begin);
            for (int k = 0; k < n; k++) {
                assert_true(ct_gold(&it, k, names[k], 20));
                list[k] = names[k];
            }
            assert_memory_equal(it.prompt, begin, strlen(begin));
            assert_int_equal(sscanf(question, said, value, &at), 1);
            assert_int_equal(question[at], 0);
            const char *main_text = strstr(example, begin);
            assert_non_null(main_text);
            follow_chain(main_text + strlen(begin), question, value, (const char *const *)list, n, 5);
            snprintf(want, sizeof want,
                     " Answer: According to the chain(s) of variable assignment in the text above, %d variables are "
                     "assigned the value %s, they are: ",
                     n, value);
            assert_string_equal(it.answer, want);
            /* the worked example, with its answer written out */
            const char *asked = strstr(example, "Question: ");
            assert_int_equal(sscanf(asked, said, value, &at), 1);
            snprintf(want, sizeof want,
                     " Answer: According to the chain(s) of variable assignment in the text above, %d variables are "
                     "assigned the value %s, they are:  ",
                     n, value);
            assert_memory_equal(asked + at, want, strlen(want));
            const char *s = asked + at + strlen(want);
            for (int k = 0; k < n; k++, s += 4) {
                snprintf(names[k], 20, "%.3s", s);
                assert_int_equal(s[3], k + 1 < n ? ' ' : '\n');
            }
            follow_chain(example, asked, value, (const char *const *)list, n, 3);
            kv_item_free(&it);
        }
        kv_task_close(t);
    }
}

/* --- words ---------------------------------------------------------------------------------------------------- */

typedef struct {
    char word[64];
    int n;
} tally;

static int by_count(const void *a, const void *b) {
    return ((const tally *)b)->n - ((const tally *)a)->n;
}

static void count_word(tally *t, int *n, const char *word, size_t len) {
    int k = 0;
    assert_true(len > 0 && len < sizeof t->word);
    while (k < *n && (strlen(t[k].word) != len || memcmp(t[k].word, word, len))) k++;
    if (k == *n) {
        assert_true(*n < 9000);
        snprintf(t[(*n)++].word, sizeof t->word, "%.*s", (int)len, word);
        t[k].n = 0;
    }
    t[k].n++;
}

/* "1. word 2. word ..." up to the end of the line; returns the number of different words, most frequent first. */
static int read_list(const char *s, tally *t) {
    int n = 0;
    for (int i = 1;; i++) {
        char mark[20];
        int m = snprintf(mark, sizeof mark, "%d. ", i);
        if (strncmp(s, mark, (size_t)m)) fail_msg("entry %d begins with '%.20s'", i, s);
        s += m;
        snprintf(mark, sizeof mark, " %d. ", i + 1);
        const char *next = strstr(s, mark), *line = strchr(s, '\n');
        if (!next || next > line) {
            count_word(t, &n, s, (size_t)(line - s));
            break;
        }
        count_word(t, &n, s, (size_t)(next - s));
        s = next + 1;
    }
    qsort(t, (size_t)n, sizeof *t, by_count);
    return n;
}

static void expect_common(const tally *t, int n, int common, int other) {
    assert_true(n > 10);
    for (int k = 0; k < n; k++) assert_int_equal(t[k].n, k < 10 ? common : other);
}

static int holds(const tally *t, int n, const char *word) {
    for (int k = 0; k < n; k++)
        if (!strcmp(t[k].word, word)) return 1;
    return 0;
}

static void common_words_are_the_ten_most_frequent(void **state) {
    static const struct {
        const char *spec;
        int common, other, example_words, example_common, example_other;
    } cases[] = {{"cwe:tokens=2048", 6, 1, 20, 3, 1}, {"cwe:tokens=6000", 30, 3, 40, 10, 3}};
    static const char begin[] =
        "Below is a numbered list of words. In these words, some appear more often than others. "
        "Memorize the ones that appear most often.\n";
    static const char ask[] = "Question: What are the 10 most common words in the above list?";
    static const char answer[] = " Answer: The top 10 words that appear most often in the list are:";
    static tally t[9000];
    (void)state;
    for (int c = 0; c < 2; c++) {
        kv_task *task = ct_open(cases[c].spec, 0, NULL);
        for (int j = 0; j < 3; j++) {
            kv_item it = ct_item(task, j);
            char word[64];
            const char *s = it.prompt;
            assert_memory_equal(s, begin, strlen(begin));
            s += strlen(begin);
            int n = read_list(s, t);
            assert_int_equal(n, cases[c].example_words);
            expect_common(t, n, cases[c].example_common, cases[c].example_other);
            s = strchr(s, '\n') + 1;
            assert_memory_equal(s, ask, strlen(ask));
            s += strlen(ask);
            assert_memory_equal(s, answer, strlen(answer));
            s += strlen(answer) + 1;
            static tally said[9000];
            assert_int_equal(read_list(s, said), 10);
            for (int k = 0; k < 10; k++) assert_true(holds(t, 10, said[k].word));
            s = strchr(s, '\n') + 1;
            assert_memory_equal(s, begin, strlen(begin));
            n = read_list(s + strlen(begin), t);
            expect_common(t, n, cases[c].common, cases[c].other);
            for (int k = 0; k < 10; k++) {
                assert_true(ct_gold(&it, k, word, sizeof word));
                assert_true(holds(t, 10, word));
            }
            assert_false(ct_gold(&it, 10, word, sizeof word));
            assert_string_equal(it.prompt + it.question_at, ask);
            assert_string_equal(it.answer, answer);
            kv_item_free(&it);
        }
        kv_task_close(task);
    }
}

/* The words of a coded text up to the end of the line. */
static int read_coded(const char *s, tally *t) {
    int n = 0;
    for (; *s != '\n'; s += *s == ' ') {
        size_t len = strcspn(s, " \n");
        count_word(t, &n, s, len);
        s += len;
    }
    qsort(t, (size_t)n, sizeof *t, by_count);
    return n;
}

static void coded_words_follow_the_zeta_distribution(void **state) {
    static const char begin[] =
        "Read the following coded text and track the frequency of each coded word. Find the three "
        "most frequently appeared coded words. ";
    static tally t[9000];
    (void)state;
    for (int tokens = 512; tokens <= 8192; tokens *= 4) {
        char spec[40], word[64];
        snprintf(spec, sizeof spec, "fwe:tokens=%d", tokens);
        kv_task *task = ct_open(spec, 9, NULL);
        kv_item it = ct_item(task, 1);
        assert_memory_equal(it.prompt, begin, strlen(begin));
        int n = read_coded(it.prompt + strlen(begin), t);
        assert_string_equal(t[0].word, "...");
        assert_true(n <= (tokens - 50) / 50);
        double all = t[0].n * 1.6449340668482264; /* zeta(2); within the rounding of the first count */
        for (int r = 1; r < n && r < 8; r++) {
            double want = all / ((r + 1) * (r + 1)) / 1.6449340668482264;
            assert_int_equal(strlen(t[r].word), 6);
            assert_true(t[r].n >= (int)want - 1 && t[r].n <= (int)want + 1);
        }
        for (int r = 1; r <= 3; r++) {
            assert_true(ct_gold(&it, r - 1, word, sizeof word));
            assert_string_equal(word, t[r].word);
            assert_true(t[r].n > t[r + 1].n);
        }
        assert_string_equal(
            it.prompt + it.question_at,
            "Question: Do not provide any explanation. Please ignore the dots '....'. What are the three "
            "most frequently appeared words in the above coded text?");
        assert_string_equal(it.answer, " Answer: According to the coded text above, the three most frequently appeared "
                                       "words are:");
        kv_item_free(&it);
        kv_task_close(task);
    }
}

/* Words of a coded text, and a hash of where its noise stands. */
typedef struct {
    int n;
    unsigned long hash;
} places;

static places noise_places(kv_task *t, int i) {
    kv_item it = ct_item(t, i);
    places p = {0, 5381};
    for (const char *s = strstr(it.prompt, "coded words. ") + 13; *s != '\n'; p.n++) {
        size_t n = strcspn(s, " \n");
        if (n == 3) p.hash = p.hash * 33 + (unsigned long)p.n;
        s += n + (s[n] == ' ');
    }
    kv_item_free(&it);
    return p;
}

static void lists_of_one_length_have_one_order_unless_reshuffled(void **state) {
    (void)state;
    for (int fresh = 0; fresh < 2; fresh++) {
        kv_task *t = ct_open(fresh ? "fwe:tokens=600:reshuffle=1" : "fwe:tokens=600", 2, NULL);
        places seen[40];
        int pairs = 0;
        for (int i = 0; i < 40; i++) {
            seen[i] = noise_places(t, i);
            for (int j = 0; j < i; j++) {
                if (seen[i].n != seen[j].n) continue;
                pairs++;
                assert_int_equal(seen[i].hash == seen[j].hash, !fresh);
            }
        }
        assert_true(pairs > 20);
        kv_task_close(t);
    }
}

static void long_lists_go_on_with_pairs(void **state) {
    kv_words w;
    kv_error err;
    kv_text pair = {0};
    (void)state;
    assert_int_equal(kv_words_open(CT_ROOT, &w, &err), KV_OK);
    assert_in_range(w.n_all, 8000, 9000);
    for (size_t i = 1; i < w.n_all; i++) assert_true(strcmp(w.all[i - 1], w.all[i]) < 0);
    kv_words_put_pair(&w, kv_words_n_pairs(&w) - 1, &pair);
    assert_non_null(strchr(pair.s, '-'));
    kv_text_free(&pair);
    kv_words_close(&w);
    kv_task *t = ct_open("cwe:tokens=262144:n=1", 0, NULL);
    kv_item it = ct_item(t, 0);
    assert_true(ct_tokens(&it) + 120 > 260000);
    assert_true(ct_occurs(it.prompt, it.question_at, "-") > 1000);
    kv_item_free(&it);
    kv_task_close(t);
    assert_int_equal(kv_words_open("/nonexistent", &w, &err), KV_ENOTFOUND);
    kv_words_close(&w);
}

/* --- the grid ------------------------------------------------------------------------------------------------- */

static void a_grid_goes_over_lengths_and_depths(void **state) {
    char id[64];
    (void)state;
    kv_task *t = ct_open("needle_grid:min_tokens=600:max_tokens=1601:lengths=3:depths=5:n=2", 1, NULL);
    assert_int_equal(kv_task_get_info(t)->n_items, 30);
    for (int i = 0; i < 30; i++) {
        static const int lengths[] = {600, 1101, 1601};
        kv_item it = ct_item(t, i);
        int length = lengths[i / 10], depth = i / 2 % 5 * 25;
        snprintf(id, sizeof id, "%d/%d/%d", length, depth, i % 2);
        assert_string_equal(it.id, id);
        int tokens = (int)ct_tokens(&it) + 32;
        assert_in_range(tokens, length - 12, length);
        const char *text = strchr(it.prompt, '\n') + 1, *needle = strstr(text, "One of the special magic numbers for "),
                   *question = it.prompt + it.question_at;
        const char *value = strstr(needle, " is: ") + 5;
        assert_memory_equal(value, it.gold, strlen(it.gold));
        size_t key = (size_t)(value - 5 - (needle + 37));
        assert_memory_equal(strstr(question, " for ") + 5, needle + 37, key);
        double at = 100.0 * (double)(needle - text) / (double)(question - text);
        if (depth == 0) assert_true(needle == text);
        if (depth == 100) assert_true(strchr(needle, '\n') == question - 1 && needle + 80 > question - 1 - 40);
        if (depth && depth < 100) {
            assert_true(at < depth + 4 && at > depth - 25); /* back to the end of a sentence, some of which are long */
            assert_non_null(strchr(".!?\"')]", needle[-2]));
        }
        kv_item_free(&it);
    }
    kv_task_close(t);
    ct_refused("needle_grid:max_tokens=512", NULL, KV_EARG, "max_tokens=512 is less than min_tokens=1024");
}

static void the_sandwich_is_where_it_should_be(void **state) {
    (void)state;
    kv_task *t = ct_open("needle_grid_sandwich:min_tokens=600:max_tokens=600:lengths=1:depths=3", 0, NULL);
    for (int i = 0; i < 3; i++) {
        kv_item it = ct_item(t, i);
        assert_int_equal(
            ct_occurs(it.prompt, it.question_at,
                      "The best thing to do in San Francisco is eat a sandwich and sit in Dolores Park on a "
                      "sunny day."),
            1);
        assert_string_equal(it.gold, "sandwich\nDolores Park");
        assert_string_equal(it.answer, "");
        assert_memory_equal(it.prompt + it.question_at, "What is the best thing to do in San Francisco?", 46);
        kv_item_free(&it);
    }
    kv_task_close(t);
}

static void sentences_end_where_they_should(void **state) {
    static const char text[] = "Mr. Day said (twice): \"Come in!\" He did. It cost 3.5 pence, i.e. little. J. Smith "
                               "asked why? 12 men laughed... and \"Left.\" Fig. 2 shows it";
    static const char *const ends[] = {"in!\"", "did.", "little.", "why?", "\"Left.\"", "it"};
    scratch s;
    kv_haystack h;
    kv_error err;
    unsigned char *marks;
    size_t k = 0;
    (void)state;
    assert_int_equal(scratch_open(&s), 0);
    assert_non_null(scratch_write(&s, "a.txt", text, strlen(text)));
    assert_int_equal(kv_haystack_open(s.dir, &h, &err), KV_OK);
    assert_int_equal(kv_haystack_sentences(&h, &marks, &err), KV_OK);
    for (size_t w = 0; w < h.n_words; w++) {
        if (!marks[w]) continue;
        assert_true(k < sizeof ends / sizeof *ends);
        assert_int_equal(h.word[w + 1] - 1 - h.word[w], strlen(ends[k]));
        assert_memory_equal(h.text + h.word[w], ends[k], strlen(ends[k]));
        k++;
    }
    assert_int_equal(k, sizeof ends / sizeof *ends);
    free(marks);
    kv_haystack_close(&h);
    scratch_close(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(chains_lead_to_every_name),
        cmocka_unit_test(common_words_are_the_ten_most_frequent),
        cmocka_unit_test(coded_words_follow_the_zeta_distribution),
        cmocka_unit_test(lists_of_one_length_have_one_order_unless_reshuffled),
        cmocka_unit_test(long_lists_go_on_with_pairs),
        cmocka_unit_test(a_grid_goes_over_lengths_and_depths),
        cmocka_unit_test(the_sandwich_is_where_it_should_be),
        cmocka_unit_test(sentences_end_where_they_should),
    };
    return cmocka_run_group_tests(tests, start, end);
}
