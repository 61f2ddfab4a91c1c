/* options.h - the command line: one table row per option gives name, argument, range, default, help and the commands
 * it belongs to; parsing, --help and messages all come from that table (option_table.c).
 *
 * Written as `--key value` or `--key=value`.  Where a command takes lists, values are separated by commas and whole
 * numbers may be ranges: `128..1024*2` (128,256,512,1024), `16..64+16` (16,32,48,64), also with llama-bench's `-` in
 * place of `..`. */
#ifndef KV_OPTIONS_H
#define KV_OPTIONS_H

#include <stdio.h>

#include "engine/kv.h"

typedef enum kv_cmd_id {
    KV_CMD_RUN,
    KV_CMD_GENERATE,
    KV_CMD_TOKENIZE,
    KV_CMD_SPEED,
    KV_CMD_LIST,
    KV_CMD_DOCTOR,
    KV_CMD_PLOT,
    KV_CMD_PAPER,
    KV_CMD_GRADE,
    KV_CMD_EXPORT,
    KV_N_CMDS
} kv_cmd_id;

typedef enum kv_opt_id {
    KV_OPT_MODEL,
    KV_OPT_ADAPTER,
    KV_OPT_GATES,
    KV_OPT_TASK,
    KV_OPT_VARIANT,
    KV_OPT_HAYSTACK,
    KV_OPT_DATA,
    KV_OPT_QA_DATA,
    KV_OPT_POLICY,
    KV_OPT_POLICY_ONE,
    KV_OPT_BUDGET,
    KV_OPT_BUFFER,
    KV_OPT_PREFILL,
    KV_OPT_QUERY,
    KV_OPT_NUMERICS,
    KV_OPT_MAX_NEW,
    KV_OPT_MAX_NEW_TOKENS,
    KV_OPT_SEED,
    KV_OPT_SAMPLING,
    KV_OPT_TEMPERATURE,
    KV_OPT_TOP_P,
    KV_OPT_TOP_K,
    KV_OPT_MIN_P,
    KV_OPT_SAMPLES,
    KV_OPT_LIMIT,
    KV_OPT_BATCH,
    KV_OPT_BATCHES,
    KV_OPT_CTX,
    KV_OPT_REPS,
    KV_OPT_THREADS,
    KV_OPT_BACKEND,
    KV_OPT_DEVICE,
    KV_OPT_WARMUP,
    KV_OPT_PREFILL_REPS,
    KV_OPT_PROFILE,
    KV_OPT_DB,
    KV_OPT_FORMAT,
    KV_OPT_TIMEOUT,
    KV_OPT_RESUME_ANY,
    KV_OPT_NO_SHARE,
    KV_OPT_DRY_RUN,
    KV_OPT_QUIET,
    KV_OPT_PROMPT,
    KV_OPT_PROMPT_FILE,
    KV_OPT_TOKEN_IDS,
    KV_OPT_QUESTION,
    KV_OPT_CONTEXT,
    KV_OPT_SYSTEM,
    KV_OPT_CHAT,
    KV_OPT_RAW,
    KV_OPT_IGNORE_EOS,
    KV_OPT_JSON,
    KV_OPT_TRACE,
    KV_OPT_TEXT,
    KV_OPT_FILE,
    KV_OPT_PIECES,
    KV_OPT_OUT,
    KV_OPT_GNUPLOT,
    KV_OPT_FILTER_TASK,
    KV_OPT_FILTER_VARIANT,
    KV_OPT_FILTER_PREFILL,
    KV_OPT_FILTER_QUERY,
    KV_OPT_PAPER_NAME,
    KV_OPT_PAPER_MODEL,
    KV_OPT_THINKING,
    KV_OPT_DOUBLE_BOS,
    KV_OPT_MAX_CONTEXT,
    KV_OPT_OUTPUTS,
    KV_OPT_TASK_ONE,
    KV_OPT_VARIANT_ONE,
    KV_OPT_GRADE_FORMAT,
    KV_OPT_EXPORT_DB,
    KV_OPT_EXPORT_OUT,
    KV_OPT_EXPORT_FORMAT,
    KV_OPT_DEVICE_MEMORY,
    KV_N_OPTS
} kv_opt_id;

typedef enum kv_opt_type { KV_TYPE_FLAG, KV_TYPE_INT, KV_TYPE_IDS, KV_TYPE_REAL, KV_TYPE_TEXT } kv_opt_type;

typedef struct kv_opt_def {
    const char *name; /* without the dashes */
    const char *arg;  /* "N", "DIR"; NULL for a flag */
    kv_opt_type type;
    unsigned commands;   /* 1 << kv_cmd_id each */
    unsigned lists;      /* the commands in which a list is allowed */
    double min, max;     /* of numbers */
    const char *choices; /* "a|b": the words allowed, or NULL; of a whole number: words allowed besides, read as 0 */
    const char *def;     /* the default as it would be typed, NULL = unset */
    const char *help;
    int positional; /* may be given without its name, once */
} kv_opt_def;

typedef struct kv_opt_value {
    int given;     /* typed by the user, not the default */
    size_t n;      /* values; 0 = unset */
    char **texts;  /* (n), for text options */
    int64_t *ints; /* (n), for whole numbers */
    double real;   /* for reals */
} kv_opt_value;

typedef struct kv_opts {
    kv_cmd_id cmd;
    int help; /* --help or -h was there: nothing else was checked */
    kv_opt_value v[KV_N_OPTS];
} kv_opts;

const kv_opt_def *kv_opt_table(void); /* (KV_N_OPTS) */

/* Parses argv[0, argc) (without program and command).  KV_EARG names the option and the value; the caller frees with
 * kv_opts_free, also after an error. */
int kv_opts_parse(kv_cmd_id cmd, int argc, char *const *argv, kv_opts *o, kv_error *err);
void kv_opts_free(kv_opts *o);

int kv_opts_given(const kv_opts *o, kv_opt_id id);
size_t kv_opts_n(const kv_opts *o, kv_opt_id id);
/* First value; text: NULL when unset; numbers: 0 when unset. */
const char *kv_opts_text(const kv_opts *o, kv_opt_id id);
const char *kv_opts_text_or(const kv_opts *o, kv_opt_id id, const char *otherwise);
int64_t kv_opts_int(const kv_opts *o, kv_opt_id id);
double kv_opts_real(const kv_opts *o, kv_opt_id id);
int kv_opts_flag(const kv_opts *o, kv_opt_id id);

/* Splits at commas; *out and its strings are malloc'd.  Empty entries are KV_EARG. */
int kv_list_texts(const char *text, char ***out, size_t *n, kv_error *err);
/* Whole numbers and ranges, each once, in order of first appearance. */
int kv_list_ints(const char *text, int64_t min, int64_t max, int64_t **out, size_t *n, kv_error *err);
/* A list that keeps repeats and knows no ranges: token ids. */
int kv_list_ids(const char *text, int64_t max, int64_t **out, size_t *n, kv_error *err);

/* help.c: what --help prints. */
const char *kv_help_command(kv_cmd_id cmd); /* its name */
void kv_help_overview(FILE *f);
void kv_help_usage(FILE *f, kv_cmd_id cmd);

/* nearest.c: the candidate closest to `word`, or NULL when none is close enough to be a typo of it. */
const char *kv_nearest(const char *word, const char *const *candidates, size_t n);

#endif
