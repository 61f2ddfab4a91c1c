#!/usr/bin/env bash
# compare_shared_prefill.sh - a sweep whose cells share each prompt's forward pass, beside the same sweep with --no-share,
# in turn, each into a database of its own; then checks that every sample has the same logits.
#
#   scripts/compare_shared_prefill.sh BINARY ROUNDS [options of `trimbench run`]
#
# A line per run: seconds of the whole command, of forward passes over prompts, of copying from shared ones and of
# decoding (rows of `timing`), and prompt tokens computed.
set -euo pipefail
topic=compare_shared_prefill
. "$(dirname "$0")/common.sh"

[ $# -ge 2 ] || fail "usage: scripts/compare_shared_prefill.sh BINARY ROUNDS [options of 'trimbench run']"
binary=$1 rounds=$2
shift 2
[ $# -gt 0 ] || set -- --task needle --policy trimkv,h2o,window --budget 192,256 --limit 8
[ -x "$binary" ] || fail "$binary is no program: build first"

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# row ROUND MODE WALL DATABASE
row() {
    python3 - "$@" <<'PY'
import sqlite3, sys
number, mode, wall, path = sys.argv[1:]
db = sqlite3.connect(path)
sums = {p: (n, s) for p, n, s in db.execute("SELECT phase, sum(n_tokens), sum(seconds) FROM timing GROUP BY phase")}
none = (0, 0.0)
saved = sums.get("prefill_saved", none)
prefill = sums["prefill"]
print(f"{number:>5}  {mode:<9} {float(wall):8.2f} {prefill[1] - saved[1]:10.2f} {sums.get('fork', none)[1]:8.2f} "
      f"{sums['decode'][1]:9.2f} {prefill[0] - saved[0]:10d}")
PY
}

printf '# trimbench run %s\n' "$*"
printf '%5s  %-9s %8s %10s %8s %9s %10s\n' round mode whole_s prefill_s copy_s decode_s tokens
for round in $(seq "$rounds"); do
    for mode in shared no-share; do
        database=$scratch/$mode.$round.sqlite
        extra=()
        [ $mode = shared ] || extra=(--no-share)
        start=$(date +%s.%N)
        "$binary" run "$@" "${extra[@]}" --quiet --db "$database" >/dev/null
        row "$round" $mode "$(echo "$(date +%s.%N) $start" | awk '{ print $1 - $2 }')" "$database"
    done
done

python3 - "$scratch"/*.sqlite <<'PY'
import sqlite3, sys
query = "SELECT cell_key, item, k, tokens, logits_hash FROM sample ORDER BY cell_key, item, k"
all_runs = [sqlite3.connect(path).execute(query).fetchall() for path in sys.argv[1:]]
if any(run != all_runs[0] for run in all_runs):
    sys.exit("compare_shared_prefill: samples differ between the runs")
print(f"# {len(all_runs[0])} samples, the same tokens and logits in all {len(all_runs)} runs")
PY
