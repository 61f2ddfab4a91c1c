/* html.c - the results page: one file that needs nothing else, neither network nor script. */
#include <stdlib.h>
#include <string.h>

#include "results/embedded.h"
#include "results/fields.h"
#include "results/report.h"
#include "results/stringbuf.h"
#include "results/svg.h"

enum { CELL_TEXT = 256 };

static const struct {
    const char *term, *meaning;
} notes[] = {
    {"M, the budget",
     "Slots of the KV cache that a policy keeps per layer and KV head. The full cache keeps every slot "
     "and has no M."},
    {"B, the buffer",
     "A layer that holds M + B slots is reduced to M. So no layer and head holds more than M + B slots "
     "while decoding."},
    {"model, adapter, gates",
     "Names of the files: the model, the LoRA merged into it at load, and the trained gates of "
     "a policy that needs them."},
    {"prefill", "full: the whole prompt is read with every slot kept, then reduced to M. stream:C: the prompt is read "
                "in chunks of C tokens and the cache is reduced on the way, so it never holds more than M + B slots."},
    {"query", "after: the context was compressed before the question was read. before: the question was part of what "
              "was compressed, which lets a policy look for the answer. The two are not comparable."},
    {"accuracy", "Mean score over n samples, plus or minus its standard error: the sample standard deviation (divisor "
                 "n - 1) over the square root of n. Samples that failed are counted as errors and are not in n."},
    {"compat", "The same outputs by the rules of the published grader, its faults included; accuracy is the strict "
               "grader's."},
    {"k, +-fixed, pass@k, maj@k",
     "With k samples per item accuracy is avg@k, the mean over all n. Its error takes the items for a random draw: "
     "standard deviation of the item means over the square root of their number. +-fixed takes the items as given, "
     "which "
     "is what counts when two rows have the same ones. pass@k: the chance that one of k samples is right (unbiased). "
     "maj@k: the share of items whose most frequent answer is right, the first seen among equals."},
    {"partial", "Mean partial credit, for tasks that have it."},
    {"peak slots, mean slots", "Slots held, averaged over layers and KV heads: the largest value over all forward "
                               "passes and samples, prefill included, and the mean over decode steps."},
    {"peak KV", "Bytes of the cache of one sequence as read from the allocator, the largest value over the samples."},
    {"prefill/s, decode/s", "Tokens per second of the whole batch, sum of tokens over sum of seconds."},
    {"no answer", "Samples that ended by themselves and held no answer."},
    {"tokens, cut off", "Generated tokens per sample, and how many of the n samples had to be stopped at the limit "
                        "(max new) or the end of the context before they ended by themselves. Their answers are graded "
                        "as far as they got."},
};

static void add_what(kv_string *t, const kv_table_plan *plan, const kv_cell *cells, size_t n) {
    kv_string_add(t, "<p class=\"what\">");
    for (size_t k = 0; k < plan->n_constant; k++) {
        char value[CELL_TEXT];
        kv_table_constant(plan->constant[k], cells, n, value, sizeof value);
        kv_string_add(t, "<span>");
        kv_string_add_html(t, plan->constant[k]->heading);
        kv_string_add(t, " <b>");
        kv_string_add_html(t, value);
        kv_string_add(t, "</b></span> ");
    }
    kv_string_add(t, "</p>\n");
}

static int add_figure(kv_string *t, const char *svg, const char *label, kv_error *err) {
    kv_string_add(t, "<figure>\n");
    int rc = kv_svg_add_inline(t, svg, label, err);
    kv_string_add(t, "</figure>\n");
    return rc;
}

static int add_figures(kv_string *t, const kv_plot_files *plots, kv_error *err) {
    int rc = KV_OK;
    if (!plots || (!plots->budget_svg[0] && !plots->bytes_svg[0] && !plots->heatmap_svg[0])) {
        kv_string_add(t, "<p>No figures were drawn for this page.</p>\n");
        return rc;
    }
    if (plots->budget_svg[0])
        rc = add_figure(t, plots->budget_svg, "Accuracy against the budget M, one line per policy", err);
    if (!rc && plots->bytes_svg[0])
        rc = add_figure(t, plots->bytes_svg, "Accuracy against measured peak KV bytes, one line per policy", err);
    if (!rc && plots->heatmap_svg[0])
        rc = add_figure(t, plots->heatmap_svg, "Score by depth and length, one map per cell", err);
    if (!rc && (plots->budget_svg[0] || plots->bytes_svg[0]))
        kv_string_add(t, "<p>Bars and the grey band show one standard error. The dashed line is the full cache.</p>\n");
    return rc;
}

static void add_value(kv_string *t, const kv_field *f, const kv_cell *c) {
    char value[CELL_TEXT];
    kv_field_text(f, c, value, sizeof value);
    char *bar = f->style == KV_STYLE_ACCURACY ? strstr(value, " +-") : NULL;
    if (bar) *bar = 0;
    kv_string_addf(t, "<td%s>", f->type == KV_FIELD_TEXT ? " class=\"text\"" : "");
    kv_string_add_html(t, value);
    if (bar) kv_string_addf(t, " <small>&plusmn;&nbsp;%s</small>", bar + 3);
    kv_string_add(t, "</td>");
}

static void add_table(kv_string *t, const kv_table_plan *plan, const kv_cell *cells, size_t n) {
    kv_string_add(t, "<div class=\"scroll\"><table>\n<thead><tr>");
    for (size_t k = 0; k < plan->n_shown; k++) {
        kv_string_addf(t, "<th scope=\"col\"%s>", plan->shown[k]->type == KV_FIELD_TEXT ? " class=\"text\"" : "");
        kv_string_add_html(t, plan->shown[k]->heading);
        kv_string_add(t, "</th>");
    }
    kv_string_add(t, "</tr></thead>\n<tbody>\n");
    for (size_t i = 0; i < n; i++) {
        int group = i && (strcmp(cells[i].task, cells[i - 1].task) || strcmp(cells[i].policy, cells[i - 1].policy));
        int open = kv_cell_unfinished(&cells[i]);
        kv_string_addf(t, "<tr%s>",
                       group && open ? " class=\"group open\""
                       : group       ? " class=\"group\""
                       : open        ? " class=\"open\""
                                     : "");
        for (size_t k = 0; k < plan->n_shown; k++) add_value(t, plan->shown[k], &cells[i]);
        kv_string_add(t, "</tr>\n");
    }
    kv_string_add(t, "</tbody></table></div>\n");
}

static void add_unfinished(kv_string *t, const kv_cell *cells, size_t n) {
    int any = 0;
    for (size_t i = 0; i < n; i++) {
        const kv_cell *c = &cells[i];
        if (!kv_cell_unfinished(c)) continue;
        if (!any++) kv_string_add(t, "<h2>Not finished</h2>\n<ul class=\"bad\">\n");
        kv_string_add(t, "<li>");
        kv_string_add_html(t, c->task);
        kv_string_add(t, ", ");
        kv_string_add_html(t, c->policy);
        if (!kv_cell_is_full(c)) kv_string_addf(t, ", M = %d", c->budget);
        kv_string_add(t, ": ");
        kv_string_add_html(t, c->status);
        kv_string_add(t, c->error[0] ? ": " : "");
        kv_string_add_html(t, c->error);
        kv_string_add(t, "</li>\n");
    }
    if (any) kv_string_add(t, "</ul>\n");
}

static int add_footer(kv_string *t, const char *footer) {
    kv_string_add(t, "<h2>How it was made</h2>\n<pre>");
    while (*footer) {
        size_t n = strcspn(footer, "\n");
        char *line = strndup(footer, n);
        if (!line) return 0;
        kv_string_add_html(t, line);
        free(line);
        footer += n;
        if (*footer) {
            kv_string_add(t, "\n");
            footer++;
        }
    }
    kv_string_add(t, "</pre>\n");
    return 1;
}

static int make_page(kv_string *t, const kv_cell *cells, size_t n, const kv_plot_files *plots, const char *title,
                     const char *footer, kv_error *err) {
    kv_table_plan plan;
    kv_table_make_plan(cells, n, &plan);
    kv_string_add(t, "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
                     "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>");
    kv_string_add_html(t, title);
    kv_string_add(t, "</title>\n<style>\n");
    kv_string_add(t, kv_embedded_html_css);
    kv_string_add(t, "</style>\n</head>\n<body>\n<h1>");
    kv_string_add_html(t, title);
    kv_string_add(t, "</h1>\n");
    add_what(t, &plan, cells, n);
    kv_string_add(t, "<h2>Figures</h2>\n");
    int rc = add_figures(t, plots, err);
    if (rc) return rc;
    kv_string_add(t, "<h2>Table</h2>\n");
    if (n)
        add_table(t, &plan, cells, n);
    else
        kv_string_add(t, "<p>No cells.</p>\n");
    add_unfinished(t, cells, n);
    kv_string_add(t, "<h2>How to read it</h2>\n<dl>\n");
    for (size_t i = 0; i < sizeof notes / sizeof *notes; i++)
        kv_string_addf(t, "<dt>%s</dt><dd>%s</dd>\n", notes[i].term, notes[i].meaning);
    kv_string_add(t, "</dl>\n");
    int ok = add_footer(t, footer ? footer : "");
    kv_string_add(t, "</body>\n</html>\n");
    return ok && !t->failed ? KV_OK : kv_fail(err, KV_ENOMEM, "out of memory for the results page");
}

int kv_report_html(const kv_cell *cells, size_t n, const kv_plot_files *plots, const char *title, const char *footer,
                   const char *path, kv_error *err) {
    kv_string page = {0};
    int rc = make_page(&page, cells, n, plots, title, footer, err);
    if (!rc) rc = kv_string_write(&page, path, err);
    kv_string_free(&page);
    return rc;
}
