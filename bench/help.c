/* help.c - what --help prints: examples first, then the options straight from the option table. */
#include "bench/options.h"

#include <string.h>

enum { WIDTH = 110 };

typedef struct command_help {
    const char *name, *summary, *examples, *notes;
} command_help;

static const command_help commands[KV_N_CMDS] = {
    [KV_CMD_RUN] =
        {"run", "run policies over tasks and record every sample",
         "  trimbench run\n"
         "  trimbench run --task gsm8k --temperature 0.6 --top-p 0.95 --samples 8\n"
         "  trimbench run --policy full,window,h2o,snapkv,trimkv --budget 128..1024*2 --task countdown_0.5k\n"
         "  trimbench run --policy trimkv,window:sinks=0 --task needle:words=900 --query before \\\n"
         "                --prefill stream:32 --limit 200 --format json\n"
         "  trimbench run --model other.gguf --policy full,h2o --task gsm8k --dry-run\n",
         "A model whose chat template is not known here needs --chat; --thinking off is for Qwen3.\n"
         "Options that take lists form a cross product; every cell becomes a row, also when it fails.\n"
         "The same command again resumes: finished samples are never run twice.\n"
         "Exit: 0 all cells done, 1 a cell failed, 2 bad usage, 3 cannot start, 130 interrupted.\n"},
    [KV_CMD_GENERATE] =
        {"generate", "run one prompt under any policy",
         "  trimbench generate --prompt 'What is the capital of France?'\n"
         "  trimbench generate --prompt-file essay.txt --question 'Who wrote this?' --policy trimkv "
         "--budget 64\n"
         "  trimbench generate --raw --prompt 'Once upon a time' --max-new 64 --json\n"
         "  trimbench generate --token-ids 1,9690,198 --policy h2o --budget 16 --buffer 4 --json --trace\n",
         "Exit: 0 done, 1 the prompt could not be run, 2 bad usage, 3 cannot start, 130 interrupted.\n"},
    [KV_CMD_TOKENIZE] = {"tokenize", "print the token ids of a text",
                         "  trimbench tokenize --text 'Hello world'\n"
                         "  trimbench tokenize --file prompt.txt --chat model --pieces\n",
                         "Without --chat the text is taken alone; special tokens in it are recognised.\n"},
    [KV_CMD_SPEED] =
        {"speed", "measure prefill and decode speed",
         "  trimbench speed\n"
         "  trimbench speed --policy full,trimkv --budget 256 --ctx 512..4096*2 --batch 1,16 --format json\n"
         "  trimbench speed --model synth:qwen3-4b --policy full,snapkv,trimkv --budget 1024 --buffer 128 \\\n"
         "                --ctx 16378,32786 --batch 4,8 --max-new 1024\n"
         "  trimbench speed --model synth:qwen3-4b --ctx 32768 --batch max --profile\n"
         "  trimbench speed --model synth:qwen3-4b --ctx 32768 --batch max --device-memory 24 --max-new 257\n"
         "  trimbench speed --model synth:qwen3-14b --ctx 131072 --batch 8 --dry-run\n",
         "The prompt is ctx seeded random tokens, the end-of-text token is ignored and exactly max-new\n"
         "tokens are generated, so that every cell does the same work. It is prefilled once per policy for\n"
         "the time that takes, and once more for all cells of its context, whose sequences fork it; it\n"
         "stays in memory beside them. Cells of one context and batch run in turn, after a warm-up.\n"
         "Bytes per step are all weights and the live keys and values, counted by the engine; copy_share\n"
         "is their rate beside the best that a copy or read of 1 GiB reached in the same process.\n"
         "Every repetition is recorded in --db (results/queries/speed.sql lists them).\n"
         "Exit: 0 all cells done, 1 a cell failed, 2 bad usage, 3 cannot start, 130 interrupted.\n"},
    [KV_CMD_LIST] = {"list", "show policies, tasks and models", "  trimbench list\n", ""},
    [KV_CMD_DOCTOR] = {"doctor", "is this machine fit?", "  trimbench doctor\n",
                       "Exit: 1 when a CPU run would fail.\n"},
    [KV_CMD_PLOT] =
        {"plot", "draw accuracy against budget and memory, and an HTML page",
         "  trimbench plot --db results/trimbench.sqlite\n"
         "  trimbench plot --db sweep.sqlite --task countdown_0.5k --query before --out plots\n",
         "Exit: 0 drawn, 1 only the page (no gnuplot), 2 bad usage, 3 nothing to draw, cannot read or write.\n"},
    [KV_CMD_PAPER] =
        {"paper", "measure a published table and print both side by side",
         "  trimbench paper\n"
         "  trimbench paper trimkv-table5\n"
         "  trimbench paper trimkv-table5 --dry-run\n"
         "  trimbench paper trimkv-table5 --reps 5 --db h200.sqlite --format json\n",
         "Published values come from results/paper/paper-numbers.tsv. Speed tables need a GPU.\n"
         "Exit: 0 measured, 1 a cell failed, 2 no such table, 3 cannot start (no GPU), 130 interrupted.\n"},
    [KV_CMD_GRADE] =
        {"grade", "score outputs that were made elsewhere",
         "  trimbench grade outputs.jsonl --task gsm8k\n"
         "  trimbench grade outputs.jsonl --task countdown_2k --prompt-variant official --format json\n"
         "  trimbench grade - --task longbench_qasper:e=1 --data ~/longbench < outputs.jsonl\n",
         "A line is a JSON object with `output` and either `id`, an item of the task (its number or its id in the\n"
         "published data), or its own `answer` (LongBench: also a list, and all_classes), which then counts:\n"
         "  {\"id\": 12, \"output\": \"... so the answer is 18.\"}\n"
         "  {\"answer\": \"18\", \"output\": \"... so the answer is 18.\"}\n"
         "An output is cut at the first stop string of its prompt variant. An id may come several times.\n"
         "Lines of no use are named on stderr and left out of the totals. No model is needed, so that tasks whose\n"
         "items are measured in its tokens (RULER, needle_grid) cannot be graded here; run grades them.\n"
         "Exit: 0 all graded, 1 some lines were of no use, 2 bad usage, 3 cannot start, 130 interrupted.\n"},
    [KV_CMD_EXPORT] = {"export", "write recorded results in the files of lm-evaluation-harness",
                       "  trimbench export results/trimbench.sqlite\n"
                       "  trimbench export sweep.sqlite --out sweep-lm-eval\n",
                       "Every cell becomes OUT/MODEL__POLICY__.../results_TIME.json and samples_TASK_TIME.jsonl.\n"
                       "Exit: 0 written, 2 bad usage, 3 cannot read or write.\n"},
};

const char *kv_help_command(kv_cmd_id cmd) {
    return commands[cmd].name;
}

void kv_help_overview(FILE *f) {
    fprintf(f, "trimbench: what does a KV-cache eviction policy cost in accuracy, and what does it give back?\n\n"
               "usage: trimbench COMMAND [options]\n\n");
    for (int i = 0; i < KV_N_CMDS; i++) fprintf(f, "  %-10s %s\n", commands[i].name, commands[i].summary);
    fprintf(f, "\n`trimbench COMMAND --help` shows options and examples; `trimbench --version` the build.\n");
}

/* Breaks text between words; the cursor is at column at, to which the next lines are indented. */
static void print_wrapped(FILE *f, const char *text, int at) {
    int column = at;
    while (*text) {
        int n = (int)strcspn(text, " ");
        if (column > at && column + 1 + n > WIDTH) {
            fprintf(f, "\n%*s", at, "");
            column = at;
        }
        column += fprintf(f, "%s%.*s", column > at ? " " : "", n, text);
        text += n + (int)strspn(text + n, " ");
    }
    fputc('\n', f);
}

static void print_option(FILE *f, const kv_opt_def *d, int is_list) {
    char left[64], right[512];
    snprintf(left, sizeof left, "--%s %s%s", d->name, d->arg ? d->arg : "", is_list ? ",..." : "");
    snprintf(right, sizeof right, "%s%s%s%s%s%s%s", d->help, d->choices ? " [" : "", d->choices ? d->choices : "",
             d->choices ? "]" : "", d->def ? " (default " : "", d->def ? d->def : "", d->def ? ")" : "");
    fprintf(f, "  %-26s ", left);
    print_wrapped(f, right, 29);
}

void kv_help_usage(FILE *f, kv_cmd_id cmd) {
    const command_help *h = &commands[cmd];
    const kv_opt_def *t = kv_opt_table();
    int any = 0, lists = 0;
    fprintf(f, "trimbench %s: %s\n\nexamples:\n%s", h->name, h->summary, h->examples);
    for (int i = 0; i < KV_N_OPTS; i++) {
        if (!((t[i].commands >> cmd) & 1)) continue;
        if (!any++) fprintf(f, "\noptions:\n");
        lists |= t[i].type == KV_TYPE_INT && ((t[i].lists >> cmd) & 1);
        print_option(f, &t[i], (t[i].lists >> cmd) & 1);
    }
    if (lists)
        fprintf(f, "\nWhole-number lists take ranges: 128..1024*2 is 128,256,512,1024; 16..64+16 is 16,32,48,64.\n");
    if (h->notes[0]) fprintf(f, "\n%s", h->notes);
}
