#!/usr/bin/env bash
# Decode and prefill speed on the CPU, trimbench against llama.cpp: same file, same machine, in turn.
#
#   scripts/compare_llamacpp.sh LLAMA_BIN MODEL TRIMBENCH [ROUNDS [THREADS]] [-- OPTIONS FOR trimbench speed]
#   scripts/compare_llamacpp.sh ~/llama.cpp/build/bin SmolLM2-135M-Instruct.Q4_1.gguf build/trimbench
#
# LLAMA_BIN is the folder with llama-bench and llama-batched-bench of your own build (Release, native; nothing is
# downloaded or built here).  Work, in this order inside every round (3 rounds, 2 threads by default):
#   batch 1 and 16, 128 prompt tokens and 128 generated per sequence; prefill of 512 tokens, batch 1.
# Each round starts with the other program, so that drift of the machine hits both.  Prints medians, ranges, ratios.
# Both are pinned to the same cores where taskset exists.  Run it on an idle machine.
set -euo pipefail

usage() {
    sed -n '4,5p' "$0" | sed 's/^# *//' >&2
    exit 2
}

extra=()
args=()
while [ $# -gt 0 ]; do
    if [ "$1" = "--" ]; then
        shift
        extra=("$@")
        break
    fi
    args+=("$1")
    shift
done
[ ${#args[@]} -ge 3 ] && [ ${#args[@]} -le 5 ] || usage
llama_bin=${args[0]}
model=${args[1]}
trimbench=${args[2]}
rounds=${args[3]:-3}
threads=${args[4]:-2}

for program in "$llama_bin/llama-bench" "$llama_bin/llama-batched-bench" "$trimbench"; do
    [ -x "$program" ] || { echo "compare_llamacpp: $program is not an executable file" >&2; exit 2; }
done
[ -r "$model" ] || { echo "compare_llamacpp: cannot read $model" >&2; exit 2; }
command -v python3 > /dev/null || { echo "compare_llamacpp: python3 is needed to read the results" >&2; exit 2; }

pin=()
if command -v taskset > /dev/null && taskset -c "0-$((threads - 1))" true 2> /dev/null; then
    pin=(taskset -c "0-$((threads - 1))")
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# run FILE COMMAND...: standard output to FILE, the program's own messages only when it fails
run() {
    local out=$1
    shift
    if ! "${pin[@]}" "$@" > "$out" 2> "$work/stderr"; then
        echo "compare_llamacpp: failed: $*" >&2
        tail -n 20 "$work/stderr" >&2
        exit 1
    fi
}

peer() {
    run "$work/peer.batch.$1" "$llama_bin/llama-batched-bench" -m "$model" -t "$threads" -tb "$threads" -c 8192 \
        -npp 128 -ntg 128 -npl 1,16 --output-format jsonl
    run "$work/peer.prefill.$1" "$llama_bin/llama-bench" -m "$model" -t "$threads" -p 512 -n 0 -r 2 -o json
}

ours() {
    run "$work/ours.batch.$1" "$trimbench" speed --model "$model" --batch 1,16 --ctx 128 --max-new 128 \
        --policy full --numerics fast --format json "${extra[@]}"
    run "$work/ours.prefill.$1" "$trimbench" speed --model "$model" --batch 1 --ctx 512 --max-new 16 \
        --policy full --numerics fast --format json "${extra[@]}"
}

for round in $(seq "$rounds"); do
    echo "round $round of $rounds" >&2
    if [ $((round % 2)) = 1 ]; then
        peer "$round"
        ours "$round"
    else
        ours "$round"
        peer "$round"
    fi
done

python3 - "$work" "$rounds" "$threads" << 'EOF'
import json
import statistics
import sys
from pathlib import Path

work, rounds, threads = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])


def rows(name):
    """Objects of a JSON array or of JSON lines."""
    text = (work / name).read_text()
    try:
        value = json.loads(text)
        return value if isinstance(value, list) else [value]
    except json.JSONDecodeError:
        return [json.loads(line) for line in text.splitlines() if line.lstrip().startswith("{")]


def pick(name, field, **where):
    found = [r[field] for r in rows(name) if all(r.get(k) == v for k, v in where.items())]
    if len(found) != 1 or found[0] is None:
        sys.exit(f"compare_llamacpp: {name}: {len(found)} results with {field} for {where}, expected one")
    return float(found[0])


WORK = [
    ("decode, batch 1", ("batch", "speed_tg", {"pl": 1}), ("batch", "decode_tok_s", {"batch": 1, "ctx": 128})),
    ("decode, batch 16", ("batch", "speed_tg", {"pl": 16}), ("batch", "decode_tok_s", {"batch": 16, "ctx": 128})),
    ("prefill 512", ("prefill", "avg_ts", {"n_prompt": 512}),
     ("prefill", "prefill_tok_s", {"batch": 1, "ctx": 512})),
]
build = rows("peer.prefill.1")[0]
print(f"llama.cpp {build.get('build_commit')}, {build.get('cpu_info')}, {threads} threads, {rounds} rounds; "
      "tok/s of all sequences together")
print(f"{'work':18s}{'llama.cpp':>10s} {'(range)':<16s}{'trimbench':>10s} {'(range)':<16s}{'ratio':>7s}")
for title, peer, ours in WORK:
    line, medians = f"{title:18s}", []
    for who, (part, field, where) in (("peer", peer), ("ours", ours)):
        v = [pick(f"{who}.{part}.{i}", field, **where) for i in range(1, rounds + 1)]
        medians.append(statistics.median(v))
        spread = f"({min(v):.1f}-{max(v):.1f})"
        line += f"{medians[-1]:10.1f} {spread:<16s}"
    print(f"{line}{medians[1] / medians[0]:6.2f}x")
EOF
