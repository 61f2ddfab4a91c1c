/* test_resume.c - a sweep that is killed at any instant loses nothing that was finished and does nothing twice.
 *
 * `trimbench run` over the tiny model is killed with SIGKILL at random instants and started again with the same
 * command, until 20 kills have hit a running sweep; whenever a sweep gets through, the samples in its database are
 * compared with those of an uninterrupted run, and a fresh sweep begins. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/support/cli.h"
#include "tests/support/db.h"
#include "tests/support/scratch.h"

enum { N_KILLS = 20, MOST_STARTS = 400 };

static const char *const sweep = "run --model golden/tiny-llama.gguf --gates golden/tiny-gates --prompt-variant short "
                                 "--policy full,window,h2o,trimkv --budget 24,40 --buffer 8 --limit 12 --max-new 48 "
                                 "--samples 2 --temperature 0.9 --top-p 0.95 "
                                 "--batch 4 --threads 1 --quiet --db ";

static char *expected; /* dump of the uninterrupted run */
static double whole_s; /* its duration */

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int64_t count(const char *db, const char *sql) {
    return db_int(scratch_path(&scratch_dir, db), sql);
}

static const char *command(const char *db) {
    static char text[1024];
    snprintf(text, sizeof text, "%s%s", sweep, scratch_path(&scratch_dir, db));
    return text;
}

static void remove_db(const char *db) {
    static const char *const endings[] = {"", "-wal", "-shm"};
    for (int i = 0; i < 3; i++) {
        char name[64];
        snprintf(name, sizeof name, "%s%s", db, endings[i]);
        unlink(scratch_path(&scratch_dir, name));
    }
}

static int run_reference(void **state) {
    if (scratch_setup(state)) return -1;
    double start = now();
    cli_expect(command("whole.sqlite"), 0, "");
    whole_s = now() - start;
    expected = db_dump(scratch_path(&scratch_dir, "whole.sqlite"));
    return 0;
}

static int clean_up(void **state) {
    free(expected);
    return scratch_teardown(state);
}

static void sleep_for(double seconds) {
    struct timespec t = {(time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9)};
    nanosleep(&t, NULL);
}

static uint64_t next_random(uint64_t *x) {
    *x = *x * 6364136223846793005u + 1442695040888963407u;
    return *x >> 33;
}

static void every_sample_is_there_once(const char *db) {
    char *got = db_dump(scratch_path(&scratch_dir, db));
    assert_string_equal(got, expected);
    free(got);
    assert_int_equal(count(db, "SELECT count(*) FROM sample"), 7 * 24);
    assert_int_equal(count(db, "SELECT count(*) FROM (SELECT DISTINCT cell_key, item, k FROM sample)"), 7 * 24);
    assert_int_equal(count(db, "SELECT count(*) FROM cell WHERE status <> 'done' OR n <> 24"), 0);
}

static void survives_being_killed_at_random_instants(void **state) {
    (void)state;
    uint64_t random = 12345;
    int kills = 0, starts = 0, finished = 0, status;
    while (kills < N_KILLS) {
        assert_true(++starts <= MOST_STARTS);
        pid_t pid = cli_start(command("killed.sqlite"));
        sleep_for(whole_s * (double)(next_random(&random) % 1000) / 1000);
        kill(pid, SIGKILL);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        if (WIFSIGNALED(status)) {
            kills++;
            continue;
        }
        assert_int_equal(WEXITSTATUS(status), 0);
        every_sample_is_there_once("killed.sqlite");
        remove_db("killed.sqlite");
        finished++;
    }
    cli_expect(command("killed.sqlite"), 0, "");
    every_sample_is_there_once("killed.sqlite");
    print_message("%d kills in %d starts, %d sweeps finished in between\n", kills, starts, finished);
}

static void a_finished_sweep_runs_nothing_again(void **state) {
    (void)state;
    int64_t runs = count("whole.sqlite", "SELECT count(*) FROM run");
    cli_expect(command("whole.sqlite"), 0, "");
    assert_int_equal(count("whole.sqlite", "SELECT count(*) FROM run"), runs);
    every_sample_is_there_once("whole.sqlite");
}

/* Interrupts a sweep once it has stored something; returns its exit code. */
static int interrupt_sweep(const char *db, int signal_number) {
    int status;
    remove_db(db);
    pid_t pid = cli_start(command(db));
    for (int i = 0; i < 2000; i++) {
        sleep_for(0.005);
        if (access(scratch_path(&scratch_dir, db), F_OK) != 0) continue;
        sqlite3 *handle;
        sqlite3_stmt *st = NULL;
        int n = 0;
        if (sqlite3_open_v2(scratch_path(&scratch_dir, db), &handle, SQLITE_OPEN_READWRITE, NULL) == SQLITE_OK &&
            sqlite3_prepare_v2(handle, "SELECT count(*) FROM sample", -1, &st, NULL) == SQLITE_OK &&
            sqlite3_step(st) == SQLITE_ROW)
            n = sqlite3_column_int(st, 0);
        sqlite3_finalize(st);
        sqlite3_close(handle);
        if (n) break;
    }
    kill(pid, signal_number);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void an_interrupt_is_recorded_and_resumed(void **state) {
    (void)state;
    static const int signals[] = {SIGINT, SIGTERM};
    for (int i = 0; i < 2; i++) {
        int code = 0;
        for (int tries = 0; tries < 20 && code == 0; tries++) code = interrupt_sweep("stopped.sqlite", signals[i]);
        assert_int_equal(code, 130);
        assert_int_equal(count("stopped.sqlite", "SELECT count(*) FROM run WHERE status = 'running'"), 0);
        cli_expect(command("stopped.sqlite"), 0, "");
        every_sample_is_there_once("stopped.sqlite");
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(survives_being_killed_at_random_instants),
        cmocka_unit_test(a_finished_sweep_runs_nothing_again),
        cmocka_unit_test(an_interrupt_is_recorded_and_resumed),
    };
    return cmocka_run_group_tests(tests, run_reference, clean_up);
}
