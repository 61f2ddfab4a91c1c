/* tom.c - stories about who put what where, and who believes it; see tom.h.
 *
 * An agent in the object's room sees it; the belief is where it was last seen.  The texts, with their "the tweezers
 * is" and "the room he was in", are the released ones. */
#include "datasets/tom.h"

#include <string.h>

void kv_tom_begin(const kv_tom *t, kv_tom_state *s) {
    memcpy(s->agent_room, t->agent_room, sizeof s->agent_room);
    memcpy(s->object_place, t->object_place, sizeof s->object_place);
}

static int is_index(const kv_tom *t, int kind, int i) {
    return i >= 0 && i < t->n[kind];
}

int kv_tom_apply(const kv_tom *t, const kv_tom_step *p, kv_tom_state *s) {
    if (!is_index(t, KV_TOM_AGENTS, p->agent)) return 0;
    int at = s->agent_room[p->agent], to = at;
    if (p->move == '>' || p->move == '+') {
        if (!is_index(t, KV_TOM_ROOMS, p->room) || (at < 0) != (p->move == '+') || at == p->room) return 0;
        to = p->room;
    } else if (p->move == '-') {
        if (at < 0) return 0;
        to = -1;
    } else if (p->object < 0) {
        return 0;
    }
    if (p->object >= 0) {
        if (!is_index(t, KV_TOM_OBJECTS, p->object) || !is_index(t, KV_TOM_CONTAINERS, p->place.container)) return 0;
        kv_tom_place *o = &s->object_place[p->object];
        if (at < 0 || o->room != at || p->place.room != to) return 0;
        *o = p->place;
    }
    s->agent_room[p->agent] = to;
    return 1;
}

/* A number below KV_TOM_WORDS, one digit. */
static int take_digit(const char **s, int *out) {
    if (**s < '0' || **s >= '0' + KV_TOM_WORDS) return 0;
    *out = *(*s)++ - '0';
    return 1;
}

static int take_char(const char **s, char c) {
    return **s == c ? (++*s, 1) : 0;
}

int kv_tom_parse_step(const char **s, kv_tom_step *out) {
    *out = (kv_tom_step){.object = -1};
    if (!take_digit(s, &out->agent)) return 0;
    if (**s == '>' || **s == '+') {
        out->move = *(*s)++;
        if (!take_digit(s, &out->room)) return 0;
    } else if (take_char(s, '-')) {
        out->move = '-';
    }
    if (take_char(s, ',') && !(take_digit(s, &out->object) && take_char(s, '=') && take_digit(s, &out->place.room) &&
                               take_char(s, '.') && take_digit(s, &out->place.container)))
        return 0;
    return !**s || **s == ' ';
}

static void put_words(kv_text *out, const char *a, const char *word, const char *b) {
    kv_text_puts(out, a);
    kv_text_puts(out, word);
    kv_text_puts(out, b);
}

static void put_place(const kv_tom *t, kv_tom_place p, kv_text *out) {
    put_words(out, t->words[KV_TOM_ROOMS][p.room], "'s ", t->words[KV_TOM_CONTAINERS][p.container]);
}

static void write_step(const kv_tom *t, const kv_tom_step *p, kv_text *out) {
    kv_text_puts(out, t->words[KV_TOM_AGENTS][p->agent]);
    if (p->move == '-')
        kv_text_puts(out, " leaves the room he was in");
    else if (p->move)
        put_words(out, p->move == '+' ? " enters the " : " moves to the ", t->words[KV_TOM_ROOMS][p->room], "");
    if (p->object >= 0) {
        put_words(out, p->move ? ", and moves the " : " moves the ", t->words[KV_TOM_OBJECTS][p->object], " to the ");
        put_place(t, p->place, out);
    }
}

void kv_tom_write_story(const kv_tom *t, kv_text *out) {
    kv_text_puts(out, "Step 0: ");
    for (int i = 0; i < t->n[KV_TOM_AGENTS]; i++) {
        put_words(out, t->words[KV_TOM_AGENTS][i], " is in the ", t->words[KV_TOM_ROOMS][t->agent_room[i]]);
        kv_text_puts(out, "; ");
    }
    for (int i = 0; i < t->n[KV_TOM_OBJECTS]; i++) {
        put_words(out, i ? "; the " : "the ", t->words[KV_TOM_OBJECTS][i], " is on the ");
        put_place(t, t->object_place[i], out);
    }
    for (int i = 0; i < t->n_steps; i++) {
        kv_text_printf(out, ".\nStep %d: ", i + 1);
        write_step(t, &t->steps[i], out);
    }
    kv_text_puts(out, ".");
}

void kv_tom_write_question(const kv_tom *t, kv_text *out) {
    put_words(out, "Where does ", t->words[KV_TOM_AGENTS][t->agent], " believe the ");
    put_words(out, t->words[KV_TOM_OBJECTS][t->object], " is?", "");
}

/* One line's {...}; belief.room = -1 is None. */
static void write_state(const kv_tom *t, const kv_tom_state *s, kv_tom_place belief, kv_text *out) {
    const char *who = t->words[KV_TOM_AGENTS][t->agent], *what = t->words[KV_TOM_OBJECTS][t->object];
    int room = s->agent_room[t->agent];
    put_words(out, "{", who, " location: ");
    put_words(out, room < 0 ? "None" : t->words[KV_TOM_ROOMS][room], "; ", what);
    kv_text_puts(out, " location: ");
    put_place(t, s->object_place[t->object], out);
    put_words(out, "; ", who, " sees ");
    put_words(out, what, ": ", room == s->object_place[t->object].room ? "True; " : "False; ");
    put_words(out, who, "'s belief on ", what);
    kv_text_puts(out, ": ");
    if (belief.room < 0)
        kv_text_puts(out, "None");
    else
        put_place(t, belief, out);
    kv_text_puts(out, "}");
}

static void write_changes(const kv_tom *t, const kv_tom_state *before, const kv_tom_state *s, kv_text *out) {
    kv_tom_place a = before->object_place[t->object], b = s->object_place[t->object];
    int moved = before->agent_room[t->agent] != s->agent_room[t->agent];
    put_words(out, "(", t->words[KV_TOM_AGENTS][t->agent], moved ? " location changed; " : " location unchanged; ");
    moved = a.room != b.room || a.container != b.container;
    put_words(out, t->words[KV_TOM_OBJECTS][t->object], moved ? " location changed" : " location unchanged", ") ");
}

void kv_tom_write_answer(const kv_tom *t, kv_text *out) {
    kv_tom_place belief = {-1, 0};
    kv_tom_state s, before;
    put_words(out, t->words[KV_TOM_AGENTS][t->agent], "'s belief on the ", t->words[KV_TOM_OBJECTS][t->object]);
    kv_text_puts(out, ":\n");
    kv_tom_begin(t, &s);
    for (int i = 0; i <= t->n_steps; i++) {
        before = s;
        if (i) kv_tom_apply(t, &t->steps[i - 1], &s);
        if (s.agent_room[t->agent] == s.object_place[t->object].room) belief = s.object_place[t->object];
        kv_text_printf(out, "- Step %d: ", i);
        if (i)
            write_changes(t, &before, &s, out);
        else
            kv_text_puts(out, "(initial state) ");
        write_state(t, &s, belief, out);
        kv_text_puts(out, "\n");
    }
    kv_text_puts(out, "Final Answer: ");
    if (belief.room < 0) {
        kv_text_puts(out, "None");
    } else {
        kv_text_puts(out, "the ");
        put_place(t, belief, out);
    }
}
