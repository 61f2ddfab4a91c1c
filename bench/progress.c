/* progress.c - draws progress lines; never more than a few a second on a terminal, one in five seconds elsewhere. */
#include "bench/progress.h"

#include <stdarg.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "bench/hostinfo.h"

void kv_progress_init(kv_progress *p, FILE *f, size_t n_cells, size_t all_total) {
    memset(p, 0, sizeof *p);
    p->f = f;
    p->is_tty = f && isatty(fileno(f));
    p->started = kv_host_clock();
    p->last_shown = p->started;
    p->n_cells = n_cells;
    p->all_total = all_total;
}

void kv_progress_cell(kv_progress *p, size_t cell, const char *label, size_t done, size_t total) {
    p->cell = cell;
    snprintf(p->label, sizeof p->label, "%s", label);
    p->cell_done = done;
    p->cell_total = total;
    p->tok_s = 0;
}

static void format_seconds(double s, char *out, size_t size) {
    long t = (long)(s + 0.5);
    if (t >= 3600)
        snprintf(out, size, "%ld:%02ld:%02ld", t / 3600, t / 60 % 60, t % 60);
    else
        snprintf(out, size, "%ld:%02ld", t / 60, t % 60);
}

static void format_line(const kv_progress *p, double now, char *out, size_t size) {
    char score[32] = "", speed[32] = "", left[48] = "", time[32];
    if (p->n_scored) snprintf(score, sizeof score, "  accuracy %.3f", p->score_sum / (double)p->n_scored);
    if (p->tok_s > 0) snprintf(speed, sizeof speed, "  %.0f tok/s", p->tok_s);
    if (p->all_done && p->all_done < p->all_total) {
        format_seconds((now - p->started) * (double)(p->all_total - p->all_done) / (double)p->all_done, time,
                       sizeof time);
        snprintf(left, sizeof left, "  left %s", time);
    }
    snprintf(out, size, "cell %zu/%zu  %s  %zu/%zu%s%s%s", p->cell, p->n_cells, p->label, p->cell_done, p->cell_total,
             speed, score, left);
}

void kv_progress_show(kv_progress *p) {
    char line[640];
    double now;
    if (!p->f || (now = kv_host_clock()) - p->last_shown < (p->is_tty ? 0.2 : 5.0)) return;
    p->last_shown = now;
    format_line(p, now, line, sizeof line);
    if (p->is_tty) {
        struct winsize w = {0};
        if (ioctl(fileno(p->f), TIOCGWINSZ, &w) == 0 && w.ws_col > 1 && w.ws_col < sizeof line) line[w.ws_col - 1] = 0;
        fprintf(p->f, "\r\033[K%s", line);
    } else {
        fprintf(p->f, "%s\n", line);
    }
    fflush(p->f);
}

void kv_progress_clear(kv_progress *p) {
    if (!p->f || !p->is_tty) return;
    fputs("\r\033[K", p->f);
    fflush(p->f);
}

void kv_progress_note(kv_progress *p, const char *fmt, ...) {
    va_list ap;
    if (!p->f) return;
    kv_progress_clear(p);
    va_start(ap, fmt);
    vfprintf(p->f, fmt, ap);
    va_end(ap);
    fputc('\n', p->f);
    fflush(p->f);
}
