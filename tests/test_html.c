/* test_html.c - the results page: whole, self-contained, safe against what names may hold. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/file.h"
#include "results/process.h"
#include "results/report.h"

static char folder[64];

static int make_folder(void **state) {
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/trimbench-html-XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state) {
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command);
}

static const char *in_folder(const char *name) {
    static char path[128];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static char *read_text(const char *path) {
    char *text;
    size_t size;
    kv_error err = {0};
    if (kv_read_file(path, &text, &size, &err)) fail_msg("%s", err.text);
    return text;
}

static kv_cell cell(const char *policy, int budget, double accuracy) {
    kv_cell c = {.status = "done",
                 .model = "tiny & small",
                 .task = "needle",
                 .prefill = "full",
                 .query = "after",
                 .numerics = "fast",
                 .backend = "cpu",
                 .budget = budget,
                 .buffer = 32,
                 .n = 40,
                 .accuracy = accuracy,
                 .stderr_ = 0.036,
                 .partial = NAN,
                 .compat = NAN,
                 .peak_slots = 160,
                 .mean_slots = 150,
                 .kv_bytes_peak = 3 << 20,
                 .prefill_tok_s = NAN,
                 .decode_tok_s = 61,
                 .mean_tokens = 20};
    snprintf(c.policy, sizeof c.policy, "%s", policy);
    return c;
}

static char *page_of(const kv_cell *cells, size_t n, const kv_plot_files *plots, const char *title,
                     const char *footer) {
    kv_error err = {0};
    if (kv_report_html(cells, n, plots, title, footer, in_folder("page.html"), &err)) fail_msg("%s", err.text);
    return read_text(in_folder("page.html"));
}

/* Opening and closing tags match; meta and <!...> stand alone, and so does <x/>.  The style is skipped. */
static void assert_balanced(const char *html) {
    char open[64][24];
    int depth = 0;
    for (const char *s = html; (s = strchr(s, '<')); s++) {
        const char *end = strchr(s, '>');
        assert_non_null(end);
        if (s[1] == '!') continue;
        int closing = s[1] == '/', n = 0;
        char name[24];
        for (const char *t = s + 1 + closing; (isalnum((unsigned char)*t) || *t == '_') && n < 23; t++) name[n++] = *t;
        name[n] = 0;
        if (!n) fail_msg("a stray < before '%.20s'", s);
        if (closing) {
            assert_true(depth > 0);
            if (strcmp(open[--depth], name)) fail_msg("</%s> closes <%s>", name, open[depth]);
        } else if (end[-1] != '/' && strcmp(name, "meta")) {
            assert_true(depth < 64);
            strcpy(open[depth++], name);
        }
        if (!strcmp(name, "style") && !closing) s = strstr(s, "</style>") - 1;
    }
    assert_int_equal(depth, 0);
}

static void is_one_page_that_needs_nothing_else(void **state) {
    (void)state;
    kv_cell cells[] = {cell("full", 0, 1), cell("h2o", 128, 0.9449), cell("h2o", 256, 0.5)};
    kv_plot_files plots = {.budget_svg = ""};
    kv_error err = {0};
    int rc = kv_report_plot(cells, 3, folder, "page", NULL, &plots, &err);
    if (rc == KV_EUNSUPPORTED) skip();
    assert_int_equal(rc, KV_OK);
    char *t = page_of(cells, 3, &plots, "A title", "trimbench run --policy full,h2o\nbuild 0123abc");
    static const char *const outside[] = {"http:", "https:",  "//",   "url(", "@import",
                                          "<link", "<script", "<img", "src="};
    for (size_t i = 0; i < sizeof outside / sizeof *outside; i++)
        if (strstr(t, outside[i])) fail_msg("'%s' in the page: %.60s", outside[i], strstr(t, outside[i]));
    assert_balanced(t);
    const char *first = strstr(t, "<svg viewBox="), *second = first ? strstr(first + 1, "<svg viewBox=") : NULL;
    assert_non_null(second);
    assert_non_null(strstr(t, "<title>h2o</title>"));
    assert_non_null(strstr(t, ".945 <small>&plusmn;&nbsp;.036</small>"));
    assert_non_null(strstr(t, "<pre>trimbench run --policy full,h2o\nbuild 0123abc</pre>"));
    assert_non_null(strstr(t, "prefers-color-scheme: dark"));
    free(t);
}

/* Two pictures in one page must not share an id, or the second is drawn with the first one's markers. */
static void gives_no_id_twice(void **state) {
    (void)state;
    kv_cell cells[] = {cell("full", 0, 1), cell("h2o", 128, 0.9)};
    kv_plot_files plots;
    int rc = kv_report_plot(cells, 2, folder, "ids", NULL, &plots, NULL);
    if (rc == KV_EUNSUPPORTED) skip();
    char *t = page_of(cells, 2, &plots, "A title", NULL);
    int n = 0;
    for (const char *s = t; (s = strstr(s, " id=")); s++) {
        char id[64];
        size_t len = strcspn(s + 5, "'\"");
        assert_true(len < sizeof id - 8);
        snprintf(id, sizeof id, " id=%c%.*s%c", s[4], (int)len, s + 5, s[4]);
        if (strstr(s + 1, id)) fail_msg("%s twice", id);
        n++;
    }
    assert_true(n > 20);
    for (const char *s = t; (s = strstr(s, "href='#")); s++) {
        char id[80];
        snprintf(id, sizeof id, "id='%.*s'", (int)strcspn(s + 7, "'"), s + 7);
        if (!strstr(t, id)) fail_msg("%s is not there", id);
    }
    free(t);
}

static void escapes_what_names_and_errors_hold(void **state) {
    (void)state;
    kv_cell cells[] = {cell("h2o", 128, 0.5), cell("<script>alert('x')</script>", 128, NAN)};
    cells[1].n = 0;
    snprintf(cells[1].status, sizeof cells[1].status, "error");
    snprintf(cells[1].error, sizeof cells[1].error, "\"a\" < b & \xc3\x28 \x01 \xe2\x82\xac");
    char *t = page_of(cells, 2, NULL, "T <&> \"q\"", "a < b\n</pre><script>");
    assert_null(strstr(t, "<script"));
    assert_non_null(strstr(t, "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;"));
    assert_non_null(strstr(t, "error: &quot;a&quot; &lt; b &amp; ?(   \xe2\x82\xac</li>"));
    assert_non_null(strstr(t, "<title>T &lt;&amp;&gt; &quot;q&quot;</title>"));
    assert_non_null(strstr(t, "tiny &amp; small"));
    assert_non_null(strstr(t, "a &lt; b\n&lt;/pre&gt;"));
    assert_non_null(strstr(t, "No figures were drawn"));
    assert_balanced(t);
    free(t);
}

static void makes_a_page_of_no_cells(void **state) {
    (void)state;
    char *t = page_of(NULL, 0, NULL, "Empty", "");
    assert_non_null(strstr(t, "No cells."));
    assert_balanced(t);
    free(t);
}

static void reports_missing_figures_and_unwritable_pages(void **state) {
    (void)state;
    kv_cell c = cell("h2o", 128, 0.5);
    kv_plot_files gone = {.budget_svg = "/no/such/figure.svg"}, odd = {.budget_svg = ""};
    kv_error err = {0};
    assert_true(kv_report_html(&c, 1, &gone, "T", "", in_folder("x.html"), &err) < 0);
    assert_non_null(strstr(err.text, "/no/such/figure.svg"));
    snprintf(odd.bytes_svg, sizeof odd.bytes_svg, "%s", in_folder("odd.svg"));
    FILE *f = fopen(odd.bytes_svg, "w");
    fputs("<html>no picture</html>", f);
    fclose(f);
    assert_int_equal(kv_report_html(&c, 1, &odd, "T", "", in_folder("x.html"), &err), KV_EFORMAT);
    assert_non_null(strstr(err.text, "odd.svg"));
    assert_int_equal(kv_report_html(&c, 1, NULL, "T", "", "/no/such/page.html", &err), KV_EIO);
    assert_int_equal(kv_report_html(&c, 1, NULL, "T", "", "/dev/full", &err), KV_EIO);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(is_one_page_that_needs_nothing_else),          cmocka_unit_test(gives_no_id_twice),
        cmocka_unit_test(escapes_what_names_and_errors_hold),           cmocka_unit_test(makes_a_page_of_no_cells),
        cmocka_unit_test(reports_missing_figures_and_unwritable_pages),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
