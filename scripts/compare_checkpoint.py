#!/usr/bin/env python3
"""A checkpoint of a published shape, as transformers and as trimbench compute it: logits, greedy tokens, time to load.

Makes a model with seeded random weights of the exact shape of Qwen3-4B (--shape qwen3-4b) or of Llama-3.1-8B and
DeepSeek-R1-Distill-Llama-8B (llama-8b), saves it in bf16 as safetensors shards, and takes one random prompt and then
greedy tokens through both.  The judge is the same transformers model in fp32: its logits are the reference for
transformers in bf16 (SDPA; the hidden states go through the head in fp32, so that the rounding of logits to bf16, which
"own head" includes, is left out) and for trimbench, whose half is build/logits_pipe (tests/logits_pipe.c).

    python3 scripts/compare_checkpoint.py --shape qwen3-4b --pipe build/logits_pipe --scratch DIR

Compared: every logit of the prompt; the likeliest token of every position; at every greedy step the reference's gap
between its own token and the chosen one after the same tokens, and the log-probabilities of the 16 likeliest tokens.
What must hold, with F = --factor (default 1.5 with numerics fast, 0.01 with exact, which computes in fp32):
    mean |logit difference| <= F times that of transformers in bf16, maximum <= 2 F times;
    positions with another likeliest token <= F times those of transformers in bf16, plus 0.5% of the prompt;
    other likeliest tokens only at near-ties: the reference's gap <= 2 F times (prompt) or F times (greedy steps) the
    widest at which transformers in bf16 takes another token in the prompt (or 4 times its mean difference, if more);
    mean |log-probability difference| of greedy steps <= 2 F times that of transformers in bf16 (few numbers).
numerics fast on the CPU means 8-bit weights, which do not hold them.  Loading is reported, not judged: kv_engine_open
of files in the page cache, beside a plain read of the same files by one thread; what identifying the files takes, which
a run does once per model; and the most memory of the host until the model was open.

Needs torch and transformers 5; a GPU with 4 bytes per parameter and some GB free (--shape tiny or tiny-llama with
--backend cpu tries the script without one); disk for the bf16 weights and the logits, given back unless --keep.
Lines of JSON on stdout, progress on stderr.  Exit: 0 all limits hold, 1 one does not or a half failed, 2 bad usage, 77
torch, transformers, a GPU, memory or disk is missing.
"""
import argparse
import importlib.util
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
TOKENIZER = ROOT / "tests" / "data" / "checkpoints" / "qwen3" / "tokenizer.json"
MISSING, N_TOP, ROWS, GB = 77, 16, 128, 1e9
START = time.perf_counter()
LLAMA3 = {"rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 8192}
PLAIN = {"rope_type": "default", "rope_theta": 1e6}
TINY = {"hidden_size": 256, "num_hidden_layers": 4, "intermediate_size": 512, "vocab_size": 1000,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 64, "rms_norm_eps": 1e-6}
# The first two from the config.json of Qwen/Qwen3-4B and meta-llama/Llama-3.1-8B.
SHAPES = {
    "qwen3-4b": ("Qwen3", {"hidden_size": 2560, "num_hidden_layers": 36, "intermediate_size": 9728,
                           "vocab_size": 151936, "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128,
                           "tie_word_embeddings": True, "rope_parameters": PLAIN, "rms_norm_eps": 1e-6,
                           "max_position_embeddings": 40960}),
    "llama-8b": ("Llama", {"hidden_size": 4096, "num_hidden_layers": 32, "intermediate_size": 14336,
                           "vocab_size": 128256, "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128,
                           "tie_word_embeddings": False, "rope_parameters": LLAMA3, "rms_norm_eps": 1e-5,
                           "max_position_embeddings": 131072}),
    "tiny": ("Qwen3", {**TINY, "tie_word_embeddings": True, "rope_parameters": PLAIN,
                       "max_position_embeddings": 40960}),
    "tiny-llama": ("Llama", {**TINY, "tie_word_embeddings": False, "rope_parameters": LLAMA3,
                             "max_position_embeddings": 131072}),
}


def say(text):
    print(f"{time.perf_counter() - START:7.1f} s  {text}", file=sys.stderr, flush=True)


def stop(code, text):
    print(f"compare_checkpoint: {text}", file=sys.stderr)
    sys.exit(code)


def put(what, **values):
    print(json.dumps({"what": what, **values}), flush=True)


def fill(torch, model, seed, device):
    """Linear maps of the usual spread, attention and logits peaked: logits get a standard deviation of about 3."""
    gen = torch.Generator(device).manual_seed(seed)
    width = model.config.hidden_size
    tied = model.config.tie_word_embeddings
    with torch.no_grad():
        for name, p in sorted(model.named_parameters()):
            mean, std = 0.0, 0.02 * max(1.0, 2560 / width) ** 0.5
            if "embed_tokens" in name or "lm_head" in name:
                std = 3.0 / width ** 0.5 if tied or "lm_head" in name else 1.0
            elif name == "model.norm.weight" and tied:
                std = 1.0  # of either sign, else a token is the likeliest to follow itself
            elif p.dim() == 1:
                mean, std = 1.4 if "q_norm" in name or "k_norm" in name else 1.0, 0.1
            p.normal_(mean, std, generator=gen)


def make_model(torch, transformers, args, device):
    family, shape = SHAPES[args.shape]
    config = getattr(transformers, f"{family}Config")(**shape, attn_implementation="sdpa", bos_token_id=None,
                                                      eos_token_id=2, pad_token_id=None)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device(device):
            model = getattr(transformers, f"{family}ForCausalLM")(config).eval()
    finally:
        torch.set_default_dtype(before)
    fill(torch, model, args.seed, device)
    if {p.dtype for p in model.parameters()} != {torch.bfloat16} or model.config._attn_implementation != "sdpa":
        stop(1, "transformers made another model than it was asked for")
    return model


def save(model, folder):
    model.save_pretrained(folder, max_shard_size="5GB")
    shutil.copy(TOKENIZER, folder / "tokenizer.json")
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}\n')


def read_files(folder):
    """Bytes of the shards and seconds of two plain reads; the second one is from the page cache."""
    buffer = bytearray(8 << 20)
    files = sorted(folder.glob("*.safetensors"))
    seconds = []
    for _ in range(2):
        start = time.perf_counter()
        for path in files:
            with open(path, "rb", buffering=0) as f:
                while f.readinto(buffer):
                    pass
        seconds.append(time.perf_counter() - start)
    return sum(p.stat().st_size for p in files), seconds


def run_bf16(torch, model, ids, n_new):
    """Hidden states and own logits of the prompt; greedy tokens with a KV cache, and their hidden states."""
    out = model.model(input_ids=ids, use_cache=True)
    cache, prompt = out.past_key_values, out.last_hidden_state[0]
    logits = model.lm_head(prompt)
    hidden, tokens = [prompt[-1:]], [logits[-1].argmax()]
    for _ in range(n_new - 1):
        step = model.model(input_ids=tokens[-1].view(1, 1), past_key_values=cache, use_cache=True)
        hidden.append(step.last_hidden_state[0])
        tokens.append(model.lm_head(hidden[-1])[0].argmax())
    return prompt, logits, torch.cat(hidden), torch.stack(tokens).tolist()


def run_pipe(args, folder, ids, numerics, path):
    command = [args.pipe, str(folder), args.backend, numerics, str(args.new), str(path)]
    done = subprocess.run(command, input=" ".join(map(str, ids)), stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        stop(1, f"{' '.join(command)} ended with {done.returncode}")
    return json.loads(done.stdout)


def measure(torch, reference, rows_of):
    """Differences of all logits, rows_of(first, end) being the other side's; likeliest tokens of every position."""
    total, largest, other, widest = 0.0, 0.0, 0, 0.0
    for a in range(0, len(reference), ROWS):
        ref = reference[a:a + ROWS]
        got = rows_of(a, a + len(ref)).float()
        if not torch.isfinite(got).all():
            stop(1, f"logits of positions {a} to {a + len(ref)} are not finite")
        diff = (got - ref).abs()
        total += diff.sum(dtype=torch.float64).item()
        largest = max(largest, diff.max().item())
        top, chosen = ref.max(-1), got.argmax(-1)
        gap = top.values - ref.gather(1, chosen[:, None])[:, 0]
        other += int((chosen != top.indices).sum())
        widest = max(widest, gap.max().item())
    return {"mean": total / reference.numel(), "max": largest, "other_top": other, "other_top_gap": widest}


def judge_steps(torch, reference, tokens, top):
    """reference (n, n_vocab): logits before each of the tokens; top: their [id, log-probability] pairs."""
    chosen = torch.tensor(tokens, device=reference.device)
    best = reference.topk(2, dim=-1)
    gap = best.values[:, 0] - reference.gather(1, chosen[:, None])[:, 0]
    ids = torch.tensor([[int(i) for i, _ in step] for step in top], device=reference.device)
    got = torch.tensor([[p for _, p in step] for step in top], device=reference.device)
    diff = (reference.log_softmax(-1).gather(1, ids) - got).abs()
    differing = [i for i, same in enumerate((chosen == best.indices[:, 0]).tolist()) if not same]
    margin = (best.values[:, 0] - best.values[:, 1]).tolist()
    return {"steps": len(tokens), "differing": len(differing), "gap": gap.max().item(),
            "where": [{"step": i, "gap": round(gap[i].item(), 5), "top2_gap": round(margin[i], 5)} for i in differing],
            "logprob_mean": diff.mean().item(), "logprob_max": diff.max().item()}


def top_pairs(torch, logits):
    top = logits.log_softmax(-1).topk(N_TOP, dim=-1)
    return [list(zip(i, v)) for i, v in zip(top.indices.tolist(), top.values.tolist())]


def check(limits):
    """limits: name -> (value, limit)"""
    failed = [name for name, (value, limit) in limits.items() if not value <= limit]
    return {"limits": {n: {"value": v, "limit": l} for n, (v, l) in limits.items()}, "ok": not failed, "failed": failed}


def compare(torch, args, model, ids, ours, theirs, path, numerics):
    """One line for each; True when all limits hold.  model: in fp32."""
    prompt, own_logits, step_hidden, their_tokens = theirs
    n, device = ids.shape[1], ids.device

    def reference(tokens, keep):
        full = torch.cat([ids, torch.tensor([tokens[:-1]], dtype=ids.dtype, device=device)], dim=1)
        return model(input_ids=full, use_cache=False, logits_to_keep=keep).logits[0]

    all_rows = reference(ours["tokens"], 0)
    ref = all_rows[:n]
    mapped = torch.from_file(str(path), shared=False, size=ref.numel()).view(n, -1)
    bf16 = measure(torch, ref, lambda a, b: model.lm_head(prompt[a:b].float()))
    own = measure(torch, ref, lambda a, b: own_logits[a:b])
    mine = measure(torch, ref, lambda a, b: mapped[a:b].to(device))
    put("prompt", positions=n, reference_std=ref[::8].std().item(), transformers_bf16=bf16,
        transformers_bf16_own_head=own, trimbench=mine)
    steps = judge_steps(torch, all_rows[n - 1:], ours["tokens"], ours["top"])
    their_steps = judge_steps(torch, reference(their_tokens, args.new), their_tokens,
                              top_pairs(torch, model.lm_head(step_hidden.float())))
    same = next((i for i, (a, b) in enumerate(zip(ours["tokens"], their_tokens)) if a != b), args.new)
    put("greedy", same_as_transformers_bf16_until=same, distinct_tokens=len(set(ours["tokens"])),
        transformers_bf16=their_steps, trimbench=steps)
    factor = args.factor or {"fast": 1.5, "exact": 0.01}[numerics]
    near_tie = factor * max(bf16["other_top_gap"], 4 * bf16["mean"])
    verdict = check({
        "mean": (mine["mean"], factor * bf16["mean"]), "max": (mine["max"], 2 * factor * bf16["max"]),
        "other_top": (mine["other_top"], factor * bf16["other_top"] + 0.005 * n),
        "other_top_gap": (mine["other_top_gap"], 2 * near_tie), "greedy_gap": (steps["gap"], near_tie),
        "greedy_logprob_mean": (steps["logprob_mean"], 2 * factor * their_steps["logprob_mean"])})
    put("verdict", shape=args.shape, backend=ours["backend"], numerics=numerics, factor=factor, **verdict)
    return verdict["ok"]


def check_room(torch, args, device, n_params):
    shape = SHAPES[args.shape][1]
    disk = 2.1 * n_params + 4.0 * args.tokens * shape["vocab_size"]
    free = shutil.disk_usage(args.scratch).free
    if free < disk:
        stop(MISSING, f"{args.scratch} has {free / GB:.1f} GB free, {disk / GB:.1f} GB are needed: give --scratch")
    if device == "cuda":  # bf16 weights are there already; beside them trimbench, or in their place those in fp32
        need = (4 if args.numerics == "exact" else 2) * n_params + 20 * args.tokens * shape["vocab_size"]
        free = torch.cuda.mem_get_info()[0]
        if free < need:
            stop(MISSING, f"the GPU has {free / GB:.1f} GB free, {need / GB:.1f} GB are needed")


def run(torch, transformers, args, folder):
    device = "cuda" if args.backend == "cuda" else "cpu"
    torch.manual_seed(args.seed)
    torch.set_float32_matmul_precision("highest")  # no TF32 in the reference, whatever the environment says
    model = make_model(torch, transformers, args, device)
    n_params = sum(p.numel() for p in model.parameters())
    check_room(torch, args, device, n_params)
    say(f"{args.shape}: {n_params / 1e9:.2f} G parameters")
    save(model, folder)
    n_bytes, read_s = read_files(folder)
    say(f"saved and read, {n_bytes / GB:.1f} GB")
    ids = torch.randint(3, SHAPES[args.shape][1]["vocab_size"], (1, args.tokens)).to(device)
    theirs = run_bf16(torch, model, ids, args.new)
    say("transformers in bf16")
    if device == "cuda":
        torch.cuda.empty_cache()
    path = folder / "logits.f32"
    ours = run_pipe(args, folder, ids[0].tolist(), args.numerics, path)
    say("trimbench")
    put("model", shape=args.shape, params=n_params, bytes=n_bytes, seed=args.seed, backend=ours["backend"],
        weights=ours["weights"], torch=torch.__version__, transformers=transformers.__version__,
        gpu=torch.cuda.get_device_name(0) if device == "cuda" else "")
    put("load", open_s=ours["open_s"], bytes=n_bytes, gb_s=n_bytes / ours["open_s"] / GB, read_s=read_s,
        read_gb_s=n_bytes / read_s[1] / GB, share_of_read=read_s[1] / ours["open_s"], device_s=ours["device_s"],
        identity_s=ours["identity_s"], host_peak_bytes=ours["peak_bytes"], weight_bytes=ours["weight_bytes"],
        logits_s=ours["logits_s"])
    model.float()
    ok = compare(torch, args, model, ids, ours, theirs, path, args.numerics)
    say("compared")
    return ok


def arguments():
    parser = argparse.ArgumentParser(description="Logits, greedy tokens and loading of a checkpoint: transformers and "
                                                 "trimbench.")
    parser.add_argument("--shape", choices=SHAPES, required=True)
    parser.add_argument("--backend", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--numerics", choices=("fast", "exact"), help="default: fast on cuda, exact on cpu")
    parser.add_argument("--pipe", default=str(ROOT / "build" / "logits_pipe"), help="default: build/logits_pipe")
    parser.add_argument("--scratch", default=tempfile.gettempdir(), help="where it goes (default %(default)s)")
    parser.add_argument("--tokens", type=int, default=2000, help="of the prompt (default 2000)")
    parser.add_argument("--new", type=int, default=64, help="greedy tokens (default 64)")
    parser.add_argument("--factor", type=float, help="F above")
    parser.add_argument("--seed", type=int, default=0, help="of weights and prompt (default 0)")
    parser.add_argument("--keep", action="store_true", help="leave the checkpoint and the logits in the scratch folder")
    args = parser.parse_args()
    args.numerics = args.numerics or ("exact" if args.backend == "cpu" else "fast")
    limit = SHAPES[args.shape][1]["max_position_embeddings"]
    if args.tokens < 1 or args.new < 1 or args.tokens + args.new > limit:
        parser.error(f"--tokens and --new must be at least 1 and together at most {limit}")
    if args.factor is not None and not args.factor > 0:
        parser.error("--factor must be above 0")
    if not os.access(args.pipe, os.X_OK):
        parser.error(f"{args.pipe} is no program: build the target logits_pipe, or give --pipe")
    if not os.path.isdir(args.scratch):
        parser.error(f"--scratch {args.scratch} is no folder")
    return args


def main():
    args = arguments()
    missing = [name for name in ("torch", "transformers") if importlib.util.find_spec(name) is None]
    if missing:
        stop(MISSING, f"this Python ({sys.executable}) has no {' and no '.join(missing)}")
    import torch
    import transformers

    if args.backend == "cuda" and not torch.cuda.is_available():
        stop(MISSING, "torch finds no GPU")
    folder = pathlib.Path(tempfile.mkdtemp(prefix="checkpoint-", dir=args.scratch))
    try:
        with torch.inference_mode():
            ok = run(torch, transformers, args, folder)
    finally:
        if args.keep:
            say(f"kept: {folder}")
        else:
            shutil.rmtree(folder)
    sys.exit(0 if ok else 1)


if __name__ == "__main__":
    main()
