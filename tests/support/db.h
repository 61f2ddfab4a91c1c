/* db.h - looks into a results file behind the back of the store. */
#ifndef KV_TEST_DB_H
#define KV_TEST_DB_H

#include <stdint.h>

/* All fail the test on an error. */

/* First column of the only row of a query. */
int64_t db_int(const char *path, const char *sql);
void db_exec(const char *path, const char *sql);

/* What kv_store_dump writes; the caller frees. */
char *db_dump(const char *path);

#endif
