/* travel.h - the trips of LongProc's travel planning (arXiv 2501.05414): cities to visit for given numbers of days,
 * some on fixed days, and one-way flights between them.  The reference answer is a depth-first search written out, as
 * text that must match the released procedure byte for byte. */
#ifndef KV_TRAVEL_H
#define KV_TRAVEL_H

#include "datasets/text.h"

#define KV_TRAVEL_CITIES 32
#define KV_TRAVEL_TEXT                                                                                                 \
    (1 << 22) /* a search longer than this many bytes is given up; the released ones have 8k tokens */

typedef struct kv_travel_stay {
    const char *city; /* borrowed, as every city here */
    int days;
    int first, last; /* fixed days; first = 0: to be arranged */
} kv_travel_stay;

typedef struct kv_travel_flight {
    const char *from, *to;
} kv_travel_flight;

typedef struct kv_travel {
    kv_travel_stay stays[KV_TRAVEL_CITIES]; /* in the order of the question */
    int n_cities;
    kv_travel_flight *flights; /* (n_flights), owned by whoever made the trip */
    int n_flights;
    kv_travel_stay plan[KV_TRAVEL_CITIES]; /* (n_cities) the expected answer; first and last unused */
    char *procedure;                       /* the reference answer, of kv_travel_write; owned likewise */
} kv_travel;

/* Appends the reference answer: <Solving Procedure>, the search, the <Plan>.  0, and nothing useful, when no plan
 * exists, or the one found is not the expected one. */
int kv_travel_write(const kv_travel *t, kv_text *out);

#endif
