#!/usr/bin/env bash
# LongProc with its official prompts: every level that fits the model's context, with and without eviction.
#
#   scripts/longproc_grid.sh [--trimbench FILE] [--out DIR] [--limit N] [--budget M,...] [--seconds S]
#                            [--policy NAME,...] [--levels NAME,...] [-- OPTIONS OF trimbench run]
#
#   --trimbench FILE   the program (default build/trimbench)
#   --out DIR          for longproc.sqlite, cells.jsonl and run.log (default results/longproc-grid)
#   --limit N          first N items of each level (default 20)
#   --budget M,...     slots kept by the policies that evict (default 512)
#   --policy NAME,...  (default full,trimkv,snapkv,window,h2o)
#   --seconds S        no level starts after S seconds, and the one that runs then is interrupted (default 1800)
#   --levels NAME,...  some levels only (default: all 16)
#
# A level fits when the longest of its N prompts and the level's limit on new tokens do; one that does not, or whose data
# are not here (scripts/get_longproc.py brings them), is a line of the log and no row.  The same call again resumes.
# Exit: 0 every level that fits is done, 1 one failed or the time was up, 2 bad usage.
set -u
# shellcheck source=scripts/common.sh
. "$(dirname "$0")/common.sh"
topic=longproc_grid

usage() {
    sed -n '4,5p' "$0" | sed 's/^# *//' >&2
    exit 2
}

trimbench=$ROOT/build/trimbench out=$ROOT/results/longproc-grid limit=20 budget=512 seconds=1800
policies='full,trimkv,snapkv,window,h2o'
levels=pseudo_to_code_0.5k,path_traversal_0.5k,tom_tracking_0.5k,countdown_0.5k,pseudo_to_code_2k,tom_tracking_2k
levels=$levels,html_to_tsv_0.5k,countdown_2k,path_traversal_2k,travel_planning_2k,html_to_tsv_2k
levels=$levels,countdown_8k,path_traversal_8k,tom_tracking_8k,travel_planning_8k,html_to_tsv_8k
while [ $# -gt 0 ] && [ "$1" != -- ]; do
    { [ $# -ge 2 ] && [ -n "$2" ]; } || usage
    case $1 in
    --trimbench) trimbench=$2 ;;
    --out) out=$2 ;;
    --limit) limit=$2 ;;
    --budget) budget=$2 ;;
    --policy) policies=$2 ;;
    --seconds) seconds=$2 ;;
    --levels) levels=$2 ;;
    *) usage ;;
    esac
    shift 2
done
[ $# = 0 ] || shift
case "$limit$seconds" in *[!0-9]*) usage ;; esac
[ -x "$trimbench" ] || fail "$trimbench is not there: build it, or name it with --trimbench"
mkdir -p "$out" || exit 2

log() { printf '%s\n' "$*" | tee -a "$out/run.log"; }

# Common to the plan and the run; what stands behind -- comes last.
common=(--prompt-variant official --query before --policy "$policies" --budget "$budget" --limit "$limit" "$@")
end=$((SECONDS + seconds)) failed=0 fit=0
: >"$out/cells.jsonl"
log "# $(date -u '+%Y-%m-%d %H:%M UTC'), $("$trimbench" --version 2>/dev/null || echo "$trimbench")"
for level in ${levels//,/ }; do
    plan=$("$trimbench" run --task "$level" --dry-run "${common[@]}" 2>&1) || {
        log "$level: cannot be planned: $(tail -n 1 <<<"$plan")"
        failed=1
        continue
    }
    why=$(sed -n 's/.*  \(cannot run: .*\|[0-9]* of [0-9]* prompts are longer.*\|[0-9]* of [0-9]* new tokens fit.*\)$/\1/p' \
        <<<"$plan" | head -n 1)
    if [ -n "$why" ]; then
        log "$level: left out: $why"
        continue
    fi
    fit=$((fit + 1))
    left=$((end - SECONDS))
    if [ $left -le 0 ]; then
        log "$level: not started, the time was up"
        failed=1
        continue
    fi
    log "+ trimbench run --task $level ${common[*]}"
    # the interrupted sweep keeps what it finished; killed only when it does not end by itself
    timeout --signal=TERM --kill-after=20 "$left" "$trimbench" run --task "$level" "${common[@]}" \
        --db "$out/longproc.sqlite" --format json >"$out/cells.part" 2>>"$out/run.log"
    rc=$?
    cat "$out/cells.part" >>"$out/cells.jsonl"
    [ $rc = 0 ] || {
        log "$level: exit code $rc (124, 130: the time was up)"
        failed=1
    }
done
rm -f "$out/cells.part"
log "$fit levels fit; rows in $out/cells.jsonl, samples in $out/longproc.sqlite"
exit $failed
