#!/usr/bin/env bash
# The accuracy table of the README: n = 200 per cell, streamed prefill of 32 tokens, B = 32, question in the prompt.
# About half an hour on two cores; a repeated call resumes.
# Usage: scripts/reproduce_accuracy.sh [ESSAYS [OUT]]
#   ESSAYS  folder of .txt essays for needle (default: the public-domain text of the repository)
#   OUT     where cells.jsonl, run.log and the database go (default: results/accuracy)
set -eu
. "$(dirname "$0")/common.sh"
essays=${1:-}
out=${2:-$ROOT/results/accuracy}
mkdir -p "$out"
"$ROOT/scripts/get_model.sh"
[ -x "$ROOT/build/trimbench" ] || { install_packages && build "$ROOT/build"; }

run() {
    echo "+ trimbench run $*" | tee -a "$out/run.log" >&2
    "$ROOT/build/trimbench" run --limit 200 --query before --prefill stream:32 --buffer 32 --batch 16 \
        --db "$out/accuracy.sqlite" --format json "$@" 2>>"$out/run.log" | tee -a "$out/run.log"
}

: >"$out/cells.jsonl"
{
    run --task countdown_0.5k --budget 256 --policy full,trimkv,h2o,window,snapkv
    run --task needle --budget 256 --policy full,trimkv,window ${essays:+--haystack "$essays"}
    run --task path_traversal_0.5k --budget 512 --policy full,trimkv
} >>"$out/cells.jsonl"

python3 - "$out" <<'PY'
import sqlite3, sys
db = sqlite3.connect(sys.argv[1] + "/accuracy.sqlite")
with open(sys.argv[1] + "/samples.tsv", "w") as f:
    print("task", "policy", "budget", "item", "k", "n_tokens", "stop", "score", "logits_hash", sep="\t", file=f)
    for row in db.execute("select t.name, p.name, r.budget, s.item, s.k, s.n_tokens, s.stop, s.score, s.logits_hash "
                          "from sample s join run r on r.id = s.run_id join task t on t.id = r.task_id "
                          "join policy p on p.id = r.policy_id order by 1, 2, 3, s.id"):
        print(*row, sep="\t", file=f)
PY
