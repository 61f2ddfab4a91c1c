/* test_hub.c - models by their id: the cache of the hub as the environment places it, and the commands that take one.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "bench/hub.h"
#include "tests/support/cli.h"
#include "tests/support/scratch.h"

#define CHECKPOINT KV_SOURCE_DIR "/tests/data/checkpoints/qwen3"
#define COMMIT "0123456789abcdef0123456789abcdef01234567"

/* HF_HOME with one model, org/tiny: refs/main names a snapshot, which is a link to the checkpoint. */
static const char *const folders[] = {"hub", "hub/models--org--tiny", "hub/models--org--tiny/refs",
                                      "hub/models--org--tiny/snapshots"};
static const char ref[] = "hub/models--org--tiny/refs/main", link_name[] = "hub/models--org--tiny/snapshots/" COMMIT;

static int make_home(void **state) {
    scratch *s = calloc(1, sizeof *s);
    if (!s || scratch_open(s)) return -1;
    for (size_t i = 0; i < 4; i++)
        if (mkdir(scratch_path(s, folders[i]), 0700)) return -1;
    *state = s;
    setenv("HF_HOME", s->dir, 1);
    unsetenv("HF_HUB_CACHE");
    unsetenv("HUGGINGFACE_HUB_CACHE");
    return scratch_write(s, ref, COMMIT, strlen(COMMIT)) ? symlink(CHECKPOINT, scratch_path(s, link_name)) : -1;
}

static int remove_home(void **state) {
    scratch *s = *state;
    unlink(scratch_path(s, ref));
    unlink(scratch_path(s, link_name));
    for (int i = 3; i >= 0; i--) rmdir(scratch_path(s, folders[i]));
    scratch_close(s);
    free(s);
    return 0;
}

static void an_id_is_two_plain_words(void **state) {
    (void)state;
    static const char *const ids[] = {"org/name", "Qwen/Qwen3-4B", "a/b@main", "a.b/c_d@refs/pr/1"};
    static const char *const others[] = {"name", "/a/b", "./a/b", "a/b/c", "a/.b", "~/b", "a/", "a/b@", "a/b@../c", ""};
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++) assert_true(kv_hub_is_id(ids[i]));
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (kv_hub_is_id(others[i])) fail_msg("'%s' passes", others[i]);
}

static void the_cache_is_where_the_environment_says(void **state) {
    const scratch *s = *state;
    char cache[KV_PATH_MAX], want[128];
    kv_error err;
    snprintf(want, sizeof want, "%s/hub", s->dir);
    assert_int_equal(kv_hub_cache(cache, &err), KV_OK);
    assert_string_equal(cache, want);
    setenv("HUGGINGFACE_HUB_CACHE", "/old", 1);
    assert_int_equal(kv_hub_cache(cache, &err), KV_OK);
    assert_string_equal(cache, "/old");
    setenv("HF_HUB_CACHE", "/new", 1);
    assert_int_equal(kv_hub_cache(cache, &err), KV_OK);
    assert_string_equal(cache, "/new");
    unsetenv("HF_HUB_CACHE");
    unsetenv("HUGGINGFACE_HUB_CACHE");
}

static void finds_a_snapshot_by_its_ref_or_commit(void **state) {
    scratch *s = *state;
    char cache[128], dir[KV_PATH_MAX], want[256];
    kv_error err;
    snprintf(cache, sizeof cache, "%s/hub", s->dir);
    snprintf(want, sizeof want, "%s", scratch_path(s, link_name));
    const char *const ids[] = {"org/tiny", "org/tiny@main", "org/tiny@" COMMIT};
    for (int i = 0; i < 3; i++) {
        if (kv_hub_find(cache, ids[i], dir, &err)) fail_msg("%s", err.text);
        assert_string_equal(dir, want);
    }
    static const char *const absent[] = {"org/other", "org/tiny@v2", "Org/tiny"};
    for (int i = 0; i < 3; i++) {
        assert_int_equal(kv_hub_find(cache, absent[i], dir, &err), KV_ENOTFOUND);
        assert_non_null(strstr(err.text, "scripts/get_model.sh"));
    }
    assert_non_null(scratch_write(s, ref, "../../../etc", 12)); /* no commit, so nothing is looked up */
    assert_int_equal(kv_hub_find(cache, "org/tiny", dir, &err), KV_ENOTFOUND);
    assert_non_null(scratch_write(s, ref, COMMIT "\n", strlen(COMMIT) + 1));
    assert_int_equal(kv_hub_find(cache, "org/tiny", dir, &err), KV_OK);
}

static void a_repositorys_folder_stands_for_its_snapshot(void **state) {
    scratch *s = *state;
    char path[256], dir[KV_PATH_MAX], want[256];
    kv_error err;
    snprintf(want, sizeof want, "%s", scratch_path(s, link_name));
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s%s", scratch_path(s, folders[1]), i ? "//" : "");
        if (kv_hub_locate(path, dir, &err)) fail_msg("%s", err.text);
        assert_string_equal(dir, want);
    }
    const char *const same[] = {want, s->dir, scratch_path(s, folders[3])};
    for (int i = 0; i < 3; i++) {
        assert_int_equal(kv_hub_locate(same[i], dir, &err), KV_OK);
        assert_string_equal(dir, same[i]);
    }
    assert_int_equal(kv_hub_locate("org/tiny", dir, &err), KV_OK);
    assert_string_equal(dir, want);
    assert_int_equal(kv_hub_locate("./org/tiny", dir, &err), KV_ENOTFOUND);
    assert_non_null(strstr(err.text, "./org/tiny does not exist"));
}

static void expect_out(const char *line, const char *text) {
    cli_result r = cli_run(line);
    if (r.code || !strstr(r.out, text)) fail_msg("%s: exit %d, no '%s' in:\n%s%s", line, r.code, text, r.out, r.err);
    cli_free(&r);
}

#define PHI3 KV_SOURCE_DIR "/tests/data/checkpoints/phi3"

static void says_which_of_longropes_factors_are_used(void **state) {
    char line[512];
    expect_out("doctor --model " PHI3, "context 512 (long rotary factors), chat");
    expect_out("doctor --model " PHI3 " --max-context 256", "context 256, chat");
    snprintf(line, sizeof line,
             "run --model " PHI3 " --task needle:words=20 --policy window --limit 1 --max-new 2 --chat none "
             "--backend cpu --threads 1 --db %s",
             scratch_path(*state, "long.sqlite"));
    cli_expect(line, 0, "--max-context 256 gives the short ones");
}

static void commands_take_ids_and_folders(void **state) {
    (void)state;
    expect_out("doctor --model org/tiny", "qwen3, 2 layers, context 512");
    expect_out("list", "org/tiny (0.2 MB)");
    expect_out("tokenize --model org/tiny --text hello", "[260,293,114]");
    expect_out("run --dry-run --model " CHECKPOINT " --task needle:words=20 --policy window --budget 32 --backend cpu",
               "1 cells");
    expect_out("generate --model org/tiny --token-ids 3,4,5,6 --max-new 4 --backend cpu --threads 1 --json",
               "\"stop\":\"length\"");
    expect_out(
        "generate --model org/tiny@main --token-ids 3,4,5 --max-new 2 --backend cpu --threads 1 --max-context 64 "
        "--json",
        "\"stop\":\"length\"");
    cli_expect("generate --model org/tiny --token-ids 3,4 --max-context 4096", 2, "the model has 512");
    cli_expect("generate --model org/absent --token-ids 3,4", 3, "--model: no such file or folder, and org/absent (");
    cli_expect("generate --model org/absent --token-ids 3,4", 3, "scripts/get_model.sh org/absent");
    cli_expect("generate --model " KV_SOURCE_DIR "/tests --token-ids 3,4", 3, "no config.json");
    cli_expect("generate --model " KV_SOURCE_DIR "/tests/golden/trimkv/qwen3-rg --token-ids 3,4", 2,
               "retention gates: give them with --gates, and with --model the model that they are made for, "
               "tiny-random/qwen3");
    cli_expect("generate --model " CHECKPOINT "/model.safetensors --token-ids 3,4", 3, "give the folder");
    cli_expect("speed --model synth:tiny --max-context 64", 2, "--max-context does not go with");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_id_is_two_plain_words),
        cmocka_unit_test(the_cache_is_where_the_environment_says),
        cmocka_unit_test(finds_a_snapshot_by_its_ref_or_commit),
        cmocka_unit_test(a_repositorys_folder_stands_for_its_snapshot),
        cmocka_unit_test(says_which_of_longropes_factors_are_used),
        cmocka_unit_test(commands_take_ids_and_folders),
    };
    return cmocka_run_group_tests(tests, make_home, remove_home);
}
