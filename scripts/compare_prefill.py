#!/usr/bin/env python3
"""Prefill speed on a GPU: transformers (bf16, SDPA) against trimbench, same shape, same machine, one after the other.

Both build the shape of Qwen3-4B with random weights, so nothing is downloaded, and take one prompt of random tokens
through it up to the logits of its last token, with the keys and values kept.  transformers: one forward pass per
repetition into a new cache, timed by CUDA events, after two that are not counted; the median counts.  trimbench:
build/trimbench speed with policy full and as many repetitions.  Each runs in a process of its own that has the GPU to
itself.  Needs torch and transformers for the Python that runs this.

    python3 scripts/compare_prefill.py --trimbench build-gpu/trimbench

What was measured goes to stderr in words and to stdout as one line of JSON.  --tiny: a small shape and short prompt,
transformers' half only, on the CPU if need be: checks the script.
Exit: 0 measured, 1 a half failed, 2 bad usage, 77 torch, transformers or a GPU is missing.
"""
import argparse
import importlib.util
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
MODEL = "synth:qwen3-4b"
# as in engine/synth.c
QWEN3_4B = {"num_hidden_layers": 36, "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128,
            "hidden_size": 2560, "intermediate_size": 9728, "vocab_size": 151936}
TINY = {"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 64,
        "hidden_size": 256, "intermediate_size": 512, "vocab_size": 1000}
WARMUPS, MISSING = 2, 77


def say(text):
    print(text, file=sys.stderr, flush=True)


def stop(code, text):
    say(f"compare_prefill: {text}")
    sys.exit(code)


def clocks(torch):
    """SM and memory clock in MHz, temperature and power as nvidia-smi reads them now."""
    fields = "clocks.sm,clocks.mem,temperature.gpu,power.draw"
    gpu = getattr(torch.cuda.get_device_properties(0), "uuid", None)
    which = f"GPU-{gpu}" if gpu else "0"
    try:
        out = subprocess.run(["nvidia-smi", "-i", which, "--format=csv,noheader,nounits", f"--query-gpu={fields}"],
                             capture_output=True, text=True, timeout=30, check=True).stdout
        values = [float(v) for v in out.strip().split(",")]
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
    return dict(zip(("sm_clock_mhz", "mem_clock_mhz", "temp_c", "power_w"), values))


def build_model(torch, transformers, shape, context, device):
    config = transformers.Qwen3Config(**shape, max_position_embeddings=context, rope_theta=1e6, rms_norm_eps=1e-6,
                                      tie_word_embeddings=True, attn_implementation="sdpa")
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device(device):
            model = transformers.Qwen3ForCausalLM(config).eval()
    finally:
        torch.set_default_dtype(before)
    used = {p.dtype for p in model.parameters()}
    if used != {torch.bfloat16} or model.config._attn_implementation != "sdpa":
        stop(1, f"the model came out as {used}, {model.config._attn_implementation}")
    return model


def measure_torch(args):
    """transformers' half, in its own process; a line of JSON on stdout."""
    import torch
    import transformers

    on_gpu = torch.cuda.is_available()
    if not on_gpu and not args.tiny:
        stop(MISSING, "torch finds no GPU")
    device = "cuda" if on_gpu else "cpu"
    torch.manual_seed(args.seed)
    shape = TINY if args.tiny else QWEN3_4B
    model = build_model(torch, transformers, shape, args.ctx, device)
    ids = torch.randint(shape["vocab_size"], (1, args.ctx), device=device)

    def prefill():
        out = model(input_ids=ids, use_cache=True, logits_to_keep=1)
        if out.logits.shape != (1, 1, shape["vocab_size"]) or out.past_key_values.get_seq_length() != args.ctx:
            stop(1, "the forward pass did other work than it was asked for")
        return out

    def timed():
        if not on_gpu:
            start = time.perf_counter()
            prefill()
            return time.perf_counter() - start
        first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        first.record()
        prefill()
        last.record()
        last.synchronize()
        return first.elapsed_time(last) / 1e3

    with torch.inference_mode():
        for _ in range(WARMUPS):
            last = prefill().logits
        if not torch.isfinite(last).all():
            stop(1, "transformers' logits are not finite")
        seconds = [timed() for _ in range(args.reps)]
        now = None
        if on_gpu:  # read while one more pass runs, which is not counted
            prefill()
            now = clocks(torch)
            torch.cuda.synchronize()
    print(json.dumps({
        "tok_s": args.ctx / statistics.median(seconds), "seconds": seconds, "attention": "sdpa", "dtype": "bfloat16",
        "torch": torch.__version__, "transformers": transformers.__version__, "cuda": torch.version.cuda,
        "gpu": torch.cuda.get_device_name(0) if on_gpu else "", "clocks": now,
        "params": sum(p.numel() for p in model.parameters()),
        "peak_bytes": torch.cuda.max_memory_allocated() if on_gpu else None}))


def run_torch(args):
    command = [sys.executable, __file__, "--torch-half", "--ctx", str(args.ctx), "--reps", str(args.reps), "--seed",
               str(args.seed)] + ["--tiny"] * args.tiny
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        stop(MISSING if done.returncode == MISSING else 1, f"transformers' half ended with {done.returncode}")
    return json.loads(done.stdout.splitlines()[-1])


def run_trimbench(args):
    command = [args.trimbench, "speed", "--model", MODEL, "--backend", "cuda", "--policy", "full", "--ctx",
               str(args.ctx), "--batch", "1", "--max-new", "2", "--prefill-reps", str(args.reps), "--seed",
               str(args.seed), "--quiet", "--format", "json"] + (["--db", args.db] if args.db else [])
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    row = next((r for r in rows if r["policy"] == "full" and r["ctx"] == args.ctx), {})
    if done.returncode != 0 or row.get("status") != "done" or not row.get("prefill_tok_s"):
        stop(1, f"trimbench ended with {done.returncode}: {row.get('error') or 'no speed of prefill'}")
    kept = ("gpu", "driver", "numerics", "cache_type", "prefill_min", "prefill_max", "sm_clock_mhz", "mem_clock_mhz",
            "temp_c", "throttle", "commit")
    return {"tok_s": row["prefill_tok_s"], **{k: row.get(k) for k in kept}}


def positive(text):
    value = int(text)
    if value < 1:
        raise ValueError(text)
    return value


def arguments():
    parser = argparse.ArgumentParser(description="Prefill speed of transformers and trimbench on one GPU.")
    parser.add_argument("--ctx", type=positive, help="tokens of the prompt (default 32768; 64 with --tiny)")
    parser.add_argument("--reps", type=positive, default=3, help="timed repetitions of each (default 3)")
    parser.add_argument("--seed", type=int, default=0, help="of weights and prompt (default 0)")
    parser.add_argument("--trimbench", default=str(ROOT / "build" / "trimbench"), help="default: build/trimbench")
    parser.add_argument("--db", help="database for trimbench's rows (default: trimbench's own default)")
    parser.add_argument("--tiny", action="store_true", help="check of the script: small shape, transformers only")
    parser.add_argument("--torch-half", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.ctx = args.ctx or (64 if args.tiny else 32768)
    return args


def main():
    args = arguments()
    missing = [name for name in ("torch", "transformers") if importlib.util.find_spec(name) is None]
    if missing:
        stop(MISSING, f"this Python ({sys.executable}) has no {' and no '.join(missing)}")
    if args.torch_half:
        measure_torch(args)
        return
    if not args.tiny and not os.access(args.trimbench, os.X_OK):
        stop(2, f"{args.trimbench} is no program; give --trimbench")
    theirs = run_torch(args)
    say(f"transformers {theirs['transformers']}, torch {theirs['torch']}: {theirs['tok_s']:.0f} tok/s "
        f"({args.ctx} tokens, batch 1)")
    ours = None if args.tiny else run_trimbench(args)
    if ours:
        say(f"trimbench: {ours['tok_s']:.0f} tok/s, {ours['tok_s'] / theirs['tok_s']:.2f} times as fast")
    print(json.dumps({"model": "tiny" if args.tiny else MODEL, "ctx": args.ctx, "batch": 1, "reps": args.reps,
                      "gpu": theirs["gpu"], "ratio": ours and ours["tok_s"] / theirs["tok_s"],
                      "transformers": theirs, "trimbench": ours}))


if __name__ == "__main__":
    main()
