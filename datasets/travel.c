/* travel.c - the search for a trip plan, written out; see travel.h.
 *
 * Each day that a stay begins, a city whose fixed days begin then is the only choice, else the cities still to be
 * arranged are tried in order.  A choice needs a flight from the last city and must end by the next fixed start. */
#include "datasets/travel.h"

#include <string.h>

typedef struct {
    const kv_travel *t;
    kv_travel_stay fixed[KV_TRAVEL_CITIES]; /* sorted by first day */
    int n_fixed;
    kv_travel_stay placed[KV_TRAVEL_CITIES]; /* the plan so far */
    int n_placed;
    kv_text *out;
} search;

static void put_words(kv_text *out, const char *a, const char *word, const char *b) {
    kv_text_puts(out, a);
    kv_text_puts(out, word);
    kv_text_puts(out, b);
}

/* A new line of the log; indented lines get a mark. */
static void start_line(kv_text *out, int indent) {
    kv_text_puts(out, "\n");
    for (int i = 0; i < indent; i++) kv_text_puts(out, " ");
    if (indent) kv_text_puts(out, "|- ");
}

static void put_cities(kv_text *out, const kv_travel_stay *stays, int n) {
    kv_text_puts(out, "[");
    for (int i = 0; i < n; i++) put_words(out, i ? ", " : "", stays[i].city, "");
    kv_text_puts(out, "]");
}

static int is_placed(const search *s, const char *city) {
    for (int i = 0; i < s->n_placed; i++)
        if (!strcmp(s->placed[i].city, city)) return 1;
    return 0;
}

/* The cities still to be arranged, in order. */
static int list_free(const search *s, kv_travel_stay *out) {
    int n = 0;
    for (int i = 0; i < s->t->n_cities; i++)
        if (!s->t->stays[i].first && !is_placed(s, s->t->stays[i].city)) out[n++] = s->t->stays[i];
    return n;
}

static int has_flight(const search *s, const char *from, const char *to) {
    for (int i = 0; i < s->t->n_flights; i++)
        if (!strcmp(s->t->flights[i].from, from) && !strcmp(s->t->flights[i].to, to)) return 1;
    return 0;
}

/* The choices for a stay from this day on; writes why. */
static int list_choices(const search *s, int day, int indent, kv_travel_stay *choices) {
    start_line(s->out, indent);
    kv_text_printf(s->out, "Check whether the city with an arrival day of Day %d - is fixed.", day);
    start_line(s->out, indent);
    for (int i = 0; i < s->n_fixed; i++)
        if (s->fixed[i].first == day) {
            kv_text_printf(s->out, "Yes. The city with an arrival day of Day %d - is fixed: ", day);
            put_words(s->out, "", s->fixed[i].city, ".");
            choices[0] = s->fixed[i];
            choices[0].days = s->fixed[i].last - day + 1;
            return 1;
        }
    int n = list_free(s, choices);
    kv_text_puts(s->out, "No. Consider possible options from cities needing arrangement: ");
    put_cities(s->out, choices, n);
    kv_text_puts(s->out, " and explore these options in order.");
    return n;
}

/* Whether a stay that ends on `last` leaves the next fixed one possible; writes why. */
static int check_next_fixed(const search *s, const kv_travel_stay *next, const char *city, int day, int last,
                            int indent) {
    kv_text *out = s->out;
    start_line(out, indent);
    kv_text_printf(out,
                   "Check whether this arrangement is compatible with the next fixed schedule after Day %d: ", day);
    if (!next) {
        kv_text_puts(out, "None.");
        start_line(out, indent);
        kv_text_puts(out, "No following fixed schedules. This arrangement is compatible.");
        return 1;
    }
    kv_text_puts(out, next->city);
    kv_text_printf(out, " (Day %d - %d).", next->first, next->last);
    start_line(out, indent);
    put_words(out, "The departure day of ", city, "");
    kv_text_printf(out, " is Day %d. The arrival day of ", last);
    kv_text_puts(out, next->city);
    int late = last > next->first;
    kv_text_printf(out, " is Day %d. Day %d is %slater than (%s) Day %d. This arrangement is %scompatible.%s",
                   next->first, last, late ? "" : "not ", late ? ">" : "<=", next->first, late ? "in" : "",
                   late ? " Drop this branch." : "");
    return !late;
}

/* Tries one choice up to its feasibility; 1 when it can be followed. */
static int check_choice(const search *s, const kv_travel_stay *c, int day, int indent) {
    const kv_travel_stay *next = NULL;
    const char *from = s->n_placed ? s->placed[s->n_placed - 1].city : "the starting point";
    int last = day + c->days - 1;
    kv_text *out = s->out;
    start_line(out, indent);
    put_words(out, "Try arranging to visit ", c->city, "");
    kv_text_printf(out, " from Day %d. Duration: %d days. Schedule: Day %d - %d.", day, c->days, day, last);
    start_line(out, indent);
    put_words(out, "Check for direct flight from ", from, " to ");
    put_words(out, "", c->city, ".");
    start_line(out, indent);
    if (s->n_placed && !has_flight(s, from, c->city)) {
        kv_text_puts(out, "No. Drop this branch.");
        return 0;
    }
    kv_text_puts(out, "Yes.");
    for (int i = s->n_fixed - 1; i >= 0; i--)
        if (s->fixed[i].first > day) next = &s->fixed[i];
    if (!check_next_fixed(s, next, c->city, day, last, indent)) return 0;
    start_line(out, indent);
    kv_text_puts(out, "This arrangement is feasible for now. Continue to arrange the rest of the plan.");
    return 1;
}

static int find_plan(search *s, int day) {
    kv_travel_stay choices[KV_TRAVEL_CITIES];
    int indent = 2 * s->n_placed;
    start_line(s->out, indent);
    kv_text_printf(s->out, "Current day: %d. Current plan: ", day);
    put_cities(s->out, s->placed, s->n_placed);
    kv_text_puts(s->out, ".");
    if (s->n_placed == s->t->n_cities) {
        start_line(s->out, indent);
        kv_text_printf(s->out, "All %d cities are arranged. Complete plan is found!", s->n_placed);
        return 1;
    }
    int n = list_choices(s, day, indent++, choices);
    for (int i = 0; i < n && !s->out->failed && s->out->n < KV_TRAVEL_TEXT; i++) {
        if (!check_choice(s, &choices[i], day, indent)) continue;
        choices[i].first = day;
        choices[i].last = day + choices[i].days - 1;
        s->placed[s->n_placed++] = choices[i];
        if (find_plan(s, choices[i].last)) return 1;
        s->n_placed--;
    }
    start_line(s->out, indent);
    kv_text_printf(s->out, "Fail to arrange any option on day %d in the current arrangement. Drop this branch.", day);
    return 0;
}

static void write_stay(const kv_travel_stay *c, int with_days, kv_text *out) {
    put_words(out, "\n* City: ", c->city, ",");
    if (with_days) kv_text_printf(out, " Duration: %d days%s", c->days, c->first ? "," : "");
    if (c->first) kv_text_printf(out, " Fixed Schedule: Day %d - %d", c->first, c->last);
    kv_text_puts(out, ".");
}

static void write_lists(const search *s, kv_text *out) {
    kv_travel_stay to_arrange[KV_TRAVEL_CITIES];
    int n = list_free(s, to_arrange);
    kv_text_puts(out,
                 "<Solving Procedure>\nRead the requirements and identify the cities that have fixed schedules and "
                 "the cities that need to be arranged.");
    for (int i = 0; i < s->t->n_cities; i++) write_stay(&s->t->stays[i], 1, out);
    kv_text_puts(out, s->n_fixed ? "\n\nCities that have fixed schedules (sorted by their arrival days):"
                                 : "\n\nCities that have fixed schedules: None.");
    for (int i = 0; i < s->n_fixed; i++) write_stay(&s->fixed[i], 0, out);
    kv_text_puts(out, n ? "\n\nCities needing arrangement:" : "\n\nCities needing arrangement: None.");
    for (int i = 0; i < n; i++) write_stay(&to_arrange[i], 1, out);
    kv_text_puts(out, "\n");
}

static void write_plan(const search *s, kv_text *out) {
    kv_text_puts(out, "\n</Solving Procedure>\n\nOutput the plan in the required format:\n<Plan>");
    for (int i = 0; i < s->n_placed; i++) {
        const kv_travel_stay *c = &s->placed[i];
        if (i) {
            kv_text_printf(out, "\n**Day %d:** Fly from ", c->first);
            put_words(out, s->placed[i - 1].city, " to ", c->city);
            kv_text_puts(out, ".");
        }
        kv_text_printf(out, "\n**Day %d-%d:** ", c->first, c->last);
        if (!i) put_words(out, "Arriving in ", c->city, " and visit ");
        put_words(out, i ? "Visit " : "", c->city, "");
        kv_text_printf(out, " for %d days.", c->days);
    }
    kv_text_puts(out, "\n</Plan>");
}

int kv_travel_write(const kv_travel *t, kv_text *out) {
    search s = {.t = t, .out = out};
    for (int i = 0; i < t->n_cities; i++) {
        int k = s.n_fixed;
        if (!t->stays[i].first) continue;
        for (; k && s.fixed[k - 1].first > t->stays[i].first; k--) s.fixed[k] = s.fixed[k - 1];
        s.fixed[k] = t->stays[i];
        s.n_fixed++;
    }
    write_lists(&s, out);
    if (!find_plan(&s, 1)) return 0;
    write_plan(&s, out);
    for (int i = 0; i < t->n_cities; i++)
        if (strcmp(s.placed[i].city, t->plan[i].city) || s.placed[i].days != t->plan[i].days) return 0;
    return 1;
}
