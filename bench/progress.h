/* progress.h - what a long command is doing: one line redrawn on a terminal, else a plain line every few seconds. */
#ifndef KV_PROGRESS_H
#define KV_PROGRESS_H

#include <stdint.h>
#include <stdio.h>

enum { KV_LABEL_MAX = 320 };

typedef struct kv_progress {
    FILE *f; /* NULL: silent */
    int is_tty;
    double started, last_shown;
    size_t cell, n_cells;     /* 1-based */
    char label[KV_LABEL_MAX]; /* of the cell */
    size_t cell_done, cell_total;
    double score_sum; /* over the scored samples of the cell, earlier runs not counted */
    size_t n_scored;
    double tok_s;               /* decode, of the running call */
    size_t all_done, all_total; /* samples, all cells: time left */
} kv_progress;

void kv_progress_init(kv_progress *p, FILE *f, size_t n_cells, size_t all_total);
void kv_progress_cell(kv_progress *p, size_t cell, const char *label, size_t done, size_t total);
/* Redraws when enough time has passed. */
void kv_progress_show(kv_progress *p);
/* A line of its own that stays: the end of a cell, a warning. */
void kv_progress_note(kv_progress *p, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Clears the redrawn line. */
void kv_progress_clear(kv_progress *p);

#endif
