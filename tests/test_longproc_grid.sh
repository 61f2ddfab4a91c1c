#!/usr/bin/env bash
# scripts/longproc_grid.sh with a program in trimbench's place: what fits runs, the rest is said, the time is kept.
set -eu
script=$(cd "$(dirname "$0")/.." && pwd)/scripts/longproc_grid.sh
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cat >"$work/trimbench" <<'FAKE'
#!/usr/bin/env bash
line="$3 official full - - full before fast 1 4000 5000 100"
case "$*" in
--version) echo "trimbench, a stand-in" ;;
*--task\ typo*) echo "trimbench run: --task: no task" >&2 && exit 2 ;;
*--task\ long*--dry-run*) echo "$line  3 of 4 prompts are longer than the context of 8192" ;;
*--task\ answer*--dry-run*) echo "$line  1398 of 3072 new tokens fit behind the longest prompt" ;;
*--task\ absent*--dry-run*) echo "$line  cannot run: task absent: absent.jsonl is not there" ;;
*--dry-run*) echo "$line" ;;
*--task\ slow*) exec sleep 30 ;;
*) echo "{\"task\":\"$3\",\"status\":\"done\"}" ;;
esac
FAKE
chmod +x "$work/trimbench"

grid() { # $1 = expected exit code
    local want=$1 rc=0
    shift
    "$script" --trimbench "$work/trimbench" --out "$work/out" "$@" >"$work/said" 2>&1 || rc=$?
    [ $rc = "$want" ] || { echo "longproc_grid.sh $*: exit code $rc, expected $want" >&2 && cat "$work/said" >&2 && exit 1; }
}

said() {
    grep -qF -- "$1" "$work/said" || { echo "not said: $1" >&2 && cat "$work/said" >&2 && exit 1; }
}

grid 0 --levels short,long,answer,absent --limit 3 --budget 64,128 -- --batch 8
said "+ trimbench run --task short --prompt-variant official --query before --policy full,trimkv,snapkv,window,h2o --budget 64,128 --limit 3 --batch 8"
said "long: left out: 3 of 4 prompts are longer than the context of 8192"
said "answer: left out: 1398 of 3072 new tokens fit behind the longest prompt"
said "absent: left out: cannot run: task absent: absent.jsonl is not there"
said "1 levels fit"
[ "$(cat "$work/out/cells.jsonl")" = '{"task":"short","status":"done"}' ]

grid 1 --levels typo,short --policy full
said "typo: cannot be planned: trimbench run: --task: no task"
grid 1 --levels short --seconds 0
said "short: not started, the time was up"
grid 1 --levels slow,short --seconds 2
said "slow: exit code 124 (124, 130: the time was up)"
said "short: not started, the time was up"
grid 2 --limit
grid 2 --limit many
grid 2 --unknown 3
echo ok
