/* csv.c - tab-separated tables; see csv.h.
 *
 * Python's csv.reader with its default (excel) dialect and a tab, fed with the text's lines without their newlines: a
 * quote at the start of a field opens a quoted one, "" in it is a quote, the end of a line in it adds nothing and the
 * field goes on in the next line; text behind the closing quote belongs to the field.  A carriage return ends a line,
 * and anything but another one behind it is an error, as are fields of more than 131,072 characters. */
#include "datasets/csv.h"

#include "datasets/fold.h"
#include "datasets/unicode.h"

#include <stdlib.h>
#include <string.h>

#define FIELD_LIMIT 131072

enum state { START_RECORD, START_FIELD, IN_FIELD, IN_QUOTED, QUOTE_IN_QUOTED, EAT_CR };

typedef struct {
    enum state state;
    kv_text cells;                     /* of the record, each ended by a zero byte */
    size_t n_cells, field, characters; /* field: where the last cell starts */
    const char *error;
} reader;

static void save_field(reader *r) {
    kv_text_append(&r->cells, "", 1);
    r->n_cells++;
    r->field = r->cells.n;
    r->characters = 0;
}

static void add_byte(reader *r, char c) {
    kv_text_append(&r->cells, &c, 1);
    r->characters += ((unsigned char)c & 0xc0) != 0x80;
    if (r->characters > FIELD_LIMIT) r->error = "a field of more than 131072 characters";
}

/* The states that csv.reader has outside quotes; c is not a quote that opens a field. */
static void end_or_add(reader *r, char c) {
    if (c == '\t' || c == '\r') {
        save_field(r);
        r->state = c == '\t' ? START_FIELD : EAT_CR;
    } else {
        add_byte(r, c);
        r->state = IN_FIELD;
    }
}

static void read_byte(reader *r, char c) {
    switch (r->state) {
    case START_RECORD:
        if (c == '\r') {
            r->state = EAT_CR;
            return;
        }
        /* fall through */
    case START_FIELD:
        if (c == '"')
            r->state = IN_QUOTED;
        else
            end_or_add(r, c);
        return;
    case IN_FIELD:
        end_or_add(r, c);
        return;
    case IN_QUOTED:
        if (c == '"')
            r->state = QUOTE_IN_QUOTED;
        else
            add_byte(r, c);
        return;
    case QUOTE_IN_QUOTED:
        if (c == '"') {
            add_byte(r, c);
            r->state = IN_QUOTED;
        } else {
            end_or_add(r, c);
        }
        return;
    case EAT_CR:
        if (c != '\r') r->error = "a carriage return within a line";
        return;
    }
}

/* At the end of a line; 1 when the record is complete. */
static int end_line(reader *r, int last) {
    if (r->state == IN_QUOTED && !last) return 0;
    if (r->state != START_RECORD && r->state != EAT_CR) save_field(r);
    r->state = START_RECORD;
    return 1;
}

static int has_name_twice(const reader *r) {
    const char *a = r->cells.s;
    for (size_t i = 0; i < r->n_cells; i++, a += strlen(a) + 1) {
        const char *b = a + strlen(a) + 1;
        for (size_t k = i + 1; k < r->n_cells; k++, b += strlen(b) + 1)
            if (!strcmp(a, b)) return 1;
    }
    return 0;
}

/* Appends a record's folded cells as a row; one of another width as N/A everywhere. */
static void add_row(kv_csv *t, const reader *r) {
    static const kv_fold how = {.words = kv_fold_articles};
    const char *s = r->cells.s;
    for (size_t i = 0; i < t->n_columns; i++) {
        if (i) kv_text_append(&t->text, "\t", 1);
        if (r->n_cells != t->n_columns) {
            kv_text_puts(&t->text, "na");
        } else {
            kv_fold_text((kv_span){s, strlen(s)}, &how, &t->text);
            s += strlen(s) + 1;
        }
    }
    kv_text_append(&t->text, "", 1);
    t->n_rows++;
}

/* Drops a last row of the wrong width; rows point into the text once it has stopped growing. */
static int finish(kv_csv *t, size_t last_width, size_t last_at) {
    if (!t->n_rows) return t->error = "the table has no row", 0;
    if (last_width != t->n_columns) {
        t->text.n = last_at;
        t->n_rows--;
    }
    t->rows = calloc(t->n_rows + 1, sizeof *t->rows);
    if (!t->rows) return t->error = "no memory", 0;
    char *s = t->text.s;
    for (size_t i = 0; i < t->n_rows; i++, s += strlen(s) + 1) t->rows[i] = s;
    return 1;
}

int kv_csv_read(kv_span text, kv_csv *out) {
    reader r = {0};
    kv_span line;
    size_t records = 0, width = 0, at = 0;
    memset(out, 0, sizeof *out);
    while (!r.error && kv_span_line(&text, &line)) {
        for (size_t i = 0; i < line.n && !r.error; i++) read_byte(&r, line.s[i]);
        if (r.error || !end_line(&r, !text.s)) continue;
        if (!records++) {
            out->n_columns = r.n_cells;
            if (!r.cells.failed && has_name_twice(&r)) r.error = "a column name twice";
        } else if (!r.cells.failed) {
            width = r.n_cells;
            at = out->text.n;
            add_row(out, &r);
        }
        r.cells.n = r.n_cells = r.field = r.characters = 0;
    }
    if (r.cells.failed || out->text.failed) r.error = "no memory";
    out->error = r.error;
    kv_text_free(&r.cells);
    return !out->error && finish(out, width, at);
}

void kv_csv_free(kv_csv *t) {
    free(t->rows);
    kv_text_free(&t->text);
    memset(t, 0, sizeof *t);
}
