/* tom.h - the stories of LongProc's theory-of-mind tracking (arXiv 2501.05414): agents move between rooms and carry
 * objects, and the answer says, step by step, where an agent and an object are and where the agent believes it to be.
 *
 * A story is kept as numbers; its text, question and reference answer follow, byte for byte as released.  In the
 * data files a step is written
 *   0>1          agent 0 moves to room 1            0>1,2=1.0   ... and puts object 2 on container 0 of room 1
 *   0,2=1.0      agent 0, who stays, puts it there
 *   0-           agent 0 leaves the room            0+1         agent 0, in no room, enters room 1 */
#ifndef KV_TOM_H
#define KV_TOM_H

#include "datasets/text.h"

#define KV_TOM_WORDS 8 /* most agents, objects, rooms, containers a room */

typedef struct kv_tom_place {
    int room, container;
} kv_tom_place;

typedef struct kv_tom_step {
    int agent;
    char move;  /* '>' moves, '+' enters, '-' leaves, 0 stays */
    int room;   /* of > and + */
    int object; /* -1 = none is put anywhere */
    kv_tom_place place;
} kv_tom_step;

enum { KV_TOM_AGENTS, KV_TOM_OBJECTS, KV_TOM_ROOMS, KV_TOM_CONTAINERS, KV_TOM_KINDS };

typedef struct kv_tom {
    const char *words[KV_TOM_KINDS][KV_TOM_WORDS]; /* borrowed */
    int n[KV_TOM_KINDS];                           /* containers: in each room, the same ones */
    int agent_room[KV_TOM_WORDS];                  /* at the start */
    kv_tom_place object_place[KV_TOM_WORDS];
    kv_tom_step *steps; /* (n_steps), owned by whoever made the story */
    int n_steps;
    int agent, object; /* of the question */
} kv_tom;

/* Where everyone and everything is while a story goes on. */
typedef struct kv_tom_state {
    int agent_room[KV_TOM_WORDS]; /* -1 = in none */
    kv_tom_place object_place[KV_TOM_WORDS];
} kv_tom_state;

void kv_tom_begin(const kv_tom *t, kv_tom_state *s);
/* Applies a step.  0, and changes nothing, when it cannot be: an index out of range, entering or putting from the wrong
 * place, putting an object of another room, moving where one is. */
int kv_tom_apply(const kv_tom *t, const kv_tom_step *step, kv_tom_state *s);
/* Reads "0>1,2=1.0" from *s up to a blank or the end and moves *s behind it.  0 when it is none. */
int kv_tom_parse_step(const char **s, kv_tom_step *out);

/* Append the three texts of a story whose steps all apply; no newline at the end. */
void kv_tom_write_story(const kv_tom *t, kv_text *out);
void kv_tom_write_question(const kv_tom *t, kv_text *out);
void kv_tom_write_answer(const kv_tom *t, kv_text *out);

#endif
