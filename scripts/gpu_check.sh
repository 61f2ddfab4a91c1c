#!/usr/bin/env bash
# Is all well on this GPU?  Builds the CUDA backend, runs the tests that need a GPU, has compute-sanitizer watch some of
# them, measures speed and memory, and leaves logs and results in one folder.  For an H100 or H200, otherwise idle.
#
#   scripts/gpu_check.sh [--prebuilt DIR] [--out DIR] [--tests-only | --bench-only] [--quick]
#
#   --prebuilt DIR   folder with trimbench, cuda_test_*, cuda_bench_skinny, test_cuda_*, test_gates_golden and
#                    logits_pipe; nothing is built (else: built into build-gpu)
#   --out DIR        where logs and results go (default results/cuda-speed)
#   --tests-only     no benchmarks;  --bench-only: no tests, no sanitizer
#   --quick          fewer programs under the sanitizer; benchmarks with fewer shapes, contexts and repetitions
#
# One line per step: ok, FAILED or skipped, and the time it took; a step that outlasts its limit has failed.  Exit: 0
# nothing failed, 1 something did, 2 bad usage.  Benchmarks append to gpu.sqlite: a second run adds to the first.
set -u
# shellcheck source=scripts/common.sh
. "$(dirname "$0")/common.sh"

usage() {
    sed -n '5p' "$0" | sed 's/^# *//' >&2
    exit 2
}

prebuilt="" out=$ROOT/results/cuda-speed tests=1 bench=1 quick=0
while [ $# -gt 0 ]; do
    case $1 in
    --prebuilt | --out)
        { [ $# -ge 2 ] && [ -n "$2" ]; } || usage
        if [ "$1" = --prebuilt ]; then prebuilt=$2; else out=$2; fi
        shift
        ;;
    --tests-only) bench=0 ;;
    --bench-only) tests=0 ;;
    --quick) quick=1 ;;
    *) usage ;;
    esac
    shift
done
[ $((tests + bench)) != 0 ] || usage

n_ok=0 n_failed=0 n_skipped=0 running=""
trap '[ -z "$running" ] || kill "$running" 2>/dev/null; echo interrupted >&2; exit 130' INT TERM

report() { # $1 = step, $2 = ok, FAILED or skipped, $3 = seconds, $4 = remark
    printf '%-7s %7s s  %s%s\n' "$2" "$3" "$1" "${4:+: $4}"
    case $2 in
    ok) n_ok=$((n_ok + 1)) ;;
    FAILED) n_failed=$((n_failed + 1)) ;;
    *) n_skipped=$((n_skipped + 1)) ;;
    esac
}

# step NAME LOG SECONDS COMMAND...: runs it from the tests folder, as ctest does; all it prints goes to the end of LOG.
# With stdout_to set, its standard output goes there instead.
stdout_to=""
step() {
    local name=$1 log=$2 limit=$3 rc start=${EPOCHREALTIME/[.,]/} from us
    shift 3
    printf '\n== %s\n$ %s\n' "$name" "$*" >>"$log"
    from=$(($(wc -c <"$log") + 1))
    # in the background, so that Ctrl-C is heard at once and ends the whole group that timeout makes
    (cd "$ROOT/tests" && exec timeout -k 10 "$limit" "$@") >>"${stdout_to:-$log}" 2>>"$log" </dev/null &
    running=$!
    wait $running
    rc=$?
    running=""
    us=$((${EPOCHREALTIME/[.,]/} - start))
    us=$(printf '%d.%d' $((us / 1000000)) $((us / 100000 % 10)))
    printf -- '-- exit code %d after %s s\n' $rc "$us" >>"$log"
    if [ $rc = 77 ]; then
        report "$name" skipped "$us" "no CUDA device"
    elif [ $rc = 124 ] || [ $rc = 137 ]; then
        report "$name" FAILED "$us" "no end within $limit s, see $log"
    elif [ $rc != 0 ] && tail -c "+$from" "$log" | grep -q 'Device not supported'; then
        report "$name" skipped "$us" "compute-sanitizer does not support this device"
    elif [ $rc != 0 ]; then
        report "$name" FAILED "$us" "exit code $rc, see $log"
    elif tail -c "+$from" "$log" | grep -q '^\[  PASSED  \] 0 test'; then
        report "$name" skipped "$us" "no CUDA device"
    else
        report "$name" ok "$us"
    fi
    return $rc
}

mkdir -p "$out" || exit 2
out=$(cd "$out" && pwd)

# Build -----------------------------------------------------------------------------------------------------------
if [ -n "$prebuilt" ]; then
    dir=$(cd "$prebuilt" 2>/dev/null && pwd) || { echo "gpu_check: no folder $prebuilt" >&2; exit 2; }
else
    dir=$ROOT/build-gpu
    : >"$out/build.log"
    # shellcheck disable=SC2016 # $1 and $2 are the inner shell's
    step build "$out/build.log" 3600 bash -c '. "$1" && install_packages && build "$2" -DKV_CUDA=ON' \
        gpu_check "$ROOT/scripts/common.sh" "$dir" || exit 1
fi
trimbench=$dir/trimbench
export KV_TEST_BINARY=$trimbench # for tests that start it
[ -x "$trimbench" ] || { echo "gpu_check: $trimbench is not there" >&2; exit 2; }

# What this machine is: the commit of the build and the bandwidth of a copy come from doctor.
GPU_FIELDS=name,driver_version,memory.total,ecc.mode.current,clocks.sm,clocks.mem,clocks.max.sm,clocks.max.memory
GPU_FIELDS=$GPU_FIELDS,power.limit,power.default_limit,temperature.gpu
doctor=$(timeout 120 "$trimbench" doctor 2>&1)
{
    date -u '+%Y-%m-%d %H:%M UTC'
    if command -v nvidia-smi >/dev/null; then
        timeout 60 nvidia-smi --format=csv --query-gpu="$GPU_FIELDS"
    else
        echo "nvidia-smi is not there"
    fi
    echo "trimbench doctor:"
    printf '%s\n' "$doctor"
} >"$out/machine.txt" 2>&1
have_gpu=0
grep -q '^ok *cuda *device' <<<"$doctor" && have_gpu=1
if [ $have_gpu = 1 ]; then
    report "GPU that can run it" ok 0.0
elif command -v nvidia-smi >/dev/null && timeout 60 nvidia-smi -L 2>/dev/null | grep -q '^GPU'; then
    report "GPU that can run it" FAILED 0.0 "nvidia-smi lists one, trimbench cannot use it: see $out/machine.txt"
else
    report "GPU that can run it" skipped 0.0 "there is none; steps that need one are skipped"
fi

# Tests -----------------------------------------------------------------------------------------------------------
run_tests() {
    local program n=0 log=$out/tests.log
    : >"$log"
    for program in "$dir"/cuda_test_* "$dir"/test_cuda_* "$dir"/test_gates_golden; do
        if [ ! -f "$program" ] || [ ! -x "$program" ]; then continue; fi
        n=$((n + 1))
        step "$(basename "$program")" "$log" 300 "$program"
    done
    [ $n != 0 ] || report "test programs" FAILED 0.0 "none in $dir"
}

# Program and checks (a part of their names; none: all).  Small work only: racecheck makes kernels far slower.
sanitized() {
    cat <<'LIST'
cuda_test_attend_decode:steps of up to 16
cuda_test_attend_prompt:peaked attention
cuda_test_attend_slots:chunks over short caches
cuda_test_reduce:compacts_in_place
cuda_test_skinny:every kernel once
cuda_test_skinny:every chain once
LIST
    [ $quick = 0 ] || return 0
    cat <<'LIST'
cuda_test_attend_f32:attend_matches_the_reference_for_every_group
cuda_test_gemm:fp32 products
cuda_test_reduce:selects_what_the_shared_selector_selects
cuda_test_reduce:copies_slots
cuda_test_rows:append_handles_every_option
cuda_test_rows:norm_matches
cuda_test_sample:greedy_rows
cuda_test_scores:scores_of
LIST
}

sanitize_tests() { # $1 = memcheck or racecheck
    local program checks name log=$out/sanitizer.log
    while IFS=: read -r program checks; do
        name="$1 $program${checks:+ ($checks)}"
        if [ ! -x "$dir/$program" ]; then
            report "$name" FAILED 0.0 "$program is not there"
        elif [ -n "$checks" ] && ! "$dir/$program" --list | grep -qF -- "$checks"; then
            report "$name" FAILED 0.0 "it has no check of this name"
        else
            step "$name" "$log" 600 \
                compute-sanitizer --tool "$1" --error-exitcode 1 "$dir/$program" ${checks:+"$checks"}
        fi
    done < <(sanitized)
}

# Every policy with evictions, prefill of both kinds, both numerics, as the command line runs them.
sanitize_engine() {
    local numerics work
    for numerics in fast exact; do
        work=$(mktemp -d) || return
        step "memcheck trimbench speed, $numerics" "$out/sanitizer.log" 600 \
            compute-sanitizer --tool memcheck --error-exitcode 1 \
            "$trimbench" speed --backend cuda --model synth:tiny \
            --policy full,window,random,h2o,snapkv,trimkv,dbtrimkv --budget 32 --buffer 16 --prefill full,stream:16 \
            --ctx 70 --batch 3 --max-new 50 --reps 1 --warmup 1 --numerics $numerics --quiet --db "$work/check.sqlite"
        rm -rf "$work"
    done
}

if [ $tests = 1 ]; then
    run_tests
    if ! command -v compute-sanitizer >/dev/null; then
        report "memcheck, racecheck" skipped 0.0 "compute-sanitizer is not on the PATH"
    elif [ $have_gpu = 0 ]; then
        report "memcheck, racecheck" skipped 0.0 "no CUDA device"
    else
        : >"$out/sanitizer.log"
        sanitize_tests memcheck
        sanitize_engine
        sanitize_tests racecheck
    fi
fi

# Benchmarks ------------------------------------------------------------------------------------------------------
# measure NAME FORMAT SECONDS ARGUMENTS OF trimbench: rows to NAME.jsonl or a table to NAME.txt, messages to bench.log
measure() {
    local name=$1 format=$2 limit=$3 to=$out/$1.txt
    shift 3
    [ "$format" = table ] || to=$out/$name.jsonl
    if [ $have_gpu = 0 ]; then
        report "$name" skipped 0.0 "no CUDA device"
        return
    fi
    : >"$to"
    stdout_to=$to
    step "$name" "$out/bench.log" "$limit" "$trimbench" "$@" --backend cuda --quiet --format "$format" \
        --db "$out/gpu.sqlite"
    stdout_to=""
}

# Beside transformers or cuBLAS, where this Python has torch and transformers; nothing is installed for it.
compare() { # $1 = script without compare_, $2 = beside what, the rest its arguments
    local name=$1-$2 script=$ROOT/scripts/compare_$1.py to=$out/$1-$2.jsonl
    shift 2
    if [ $have_gpu = 0 ]; then
        report "$name" skipped 0.0 "no CUDA device"
    elif ! python3 -c 'import importlib.util as u; assert u.find_spec("torch") and u.find_spec("transformers")' \
        2>/dev/null; then
        report "$name" skipped 0.0 "python3 has no torch or no transformers"
    else
        : >"$to"
        stdout_to=$to
        step "$name" "$out/bench.log" 900 python3 "$script" "$@"
        stdout_to=""
    fi
}

run_benchmarks() {
    local reps=3 cycles=10 shapes=synth:qwen3-4b,synth:qwen3-8b contexts='2048..131072*2' paper_reps=(--reps 3)
    local all=full,window,random,h2o,snapkv,trimkv bounded=window,h2o,snapkv,trimkv
    local m=(--budget 1024 --buffer 128)
    if [ $quick = 1 ]; then
        reps=1 cycles=2 shapes=synth:qwen3-4b contexts='2048..32768*4' paper_reps=(--reps 1 --warmup 1)
        bounded=trimkv
    fi
    : >"$out/bench.log"
    measure paper-trimkv-table5 table 1800 paper trimkv-table5 "${paper_reps[@]}"
    # from 1,024 slots one trigger cycle of 128 steps, the eviction in its last: at every step all policies hold what
    # the full cache holds, and the repetitions make up the cycles
    measure policy-cost json 1200 speed --model $shapes --policy $all "${m[@]}" --ctx 1024 --batch 1 --max-new 129 \
        --reps $cycles --prefill-reps 0
    measure flatness json 1800 speed --model synth:qwen3-4b --policy $bounded "${m[@]}" --ctx "$contexts" --batch 1 \
        --max-new 257 --reps $((cycles / 2)) --prefill-reps 0
    # how many sequences fit, and bytes as allocated beside what the device misses
    measure memory json 1200 speed --model synth:qwen3-4b --policy full,trimkv "${m[@]}" --ctx 16384 --batch 1,max \
        --max-new 129 --reps $reps --warmup 1 --prefill-reps 0
    measure memory-24gib json 600 speed --model synth:qwen3-4b --policy full,trimkv "${m[@]}" --ctx 16384 --batch max \
        --device-memory 24 --max-new 129 --reps 1 --warmup 1 --prefill-reps 0
    measure profile-short json 600 speed --model $shapes --policy $all "${m[@]}" --ctx 1024 --batch 1 --max-new 129 \
        --reps 1 --warmup 1 --prefill-reps 0 --profile
    measure profile-long json 600 speed --model synth:qwen3-4b --policy full,trimkv "${m[@]}" --ctx 32786 --batch 4 \
        --max-new 129 --reps 1 --warmup 1 --prefill-reps 1 --profile
    compare products cublas --bench "$dir/cuda_bench_skinny"
    compare prefill transformers --trimbench "$trimbench" --db "$out/gpu.sqlite"
    compare checkpoint transformers --shape qwen3-4b --pipe "$dir/logits_pipe"
}

[ $bench = 0 ] || run_benchmarks

echo "$n_ok ok, $n_failed failed, $n_skipped skipped; logs and results in $out"
[ $n_failed = 0 ]
