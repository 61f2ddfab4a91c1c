#!/usr/bin/env python3
"""An independent PyTorch program for eviction during decoding -> tests/golden/tiny-evict.json

Own forward pass with a cache per layer and KV head, own policies (trimkv: arXiv 2512.03324, score (T + 1 - p) log beta;
window: 4 sinks + newest; h2o: arXiv 2306.14048, newest M/2 + most attention mass, summed over the group), own trigger:
after a forward a layer that holds S >= M + B slots is reduced to M.  Prefill `full` is one forward over the prompt;
`stream:C` feeds chunks of C tokens and reduces to M before a chunk that would exceed M + B.

Before anything is written the program must reproduce worked examples of the policies and, with the full cache, the
logits and greedy tokens of transformers in tiny-llama.json (when run on that model).

    python3 scripts/golden_evict.py --out tests/golden/tiny-evict.json
    python3 scripts/golden_evict.py --gguf SmolLM2-135M-Instruct.Q4_1.gguf --adapter DIR --gates DIR \\
        --tokenizer DIR/tokenizer.json --prompt countdown --case 48,32,full --case 48,32,stream:32 --max-new 128 \\
        --sums --out tests/golden/smollm2-evict.json      (DIR = models/smollm2-135m-longproc)
"""
import argparse
import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from tokenizers import Tokenizer

import golden_common as gc

GOLDEN = Path(__file__).resolve().parent.parent / "tests" / "golden"
CASES = ["16,1,full", "16,1,stream:1", "16,7,full", "16,7,stream:7", "16,7,stream:3", "24,8,full", "24,8,stream:8",
         "24,8,stream:5"]
POLICIES = ["trimkv", "window", "h2o"]
NEAR_TIE = 1e-4


# Policies ------------------------------------------------------------------------------------------------------------
def trimkv_scores(log_beta, pos, n_seen):
    return (n_seen + 1 - pos).float() * log_beta


def gate_rg(w, x):
    hidden = F.silu(x @ w["linear1.weight"].T + w["linear1.bias"])
    return F.logsigmoid(hidden @ w["linear2.weight"].T + w["bias"])


def select(score, pos, keep, n_sink=0, n_recent=0):
    """-> kept slot indices in temporal order, and the score gap between the last kept and the best dropped slot.
    Sinks first, then the newest n_recent, then by score; on equal scores the newer slot stays."""
    n = len(pos)

    def rank(i):
        if pos[i] < n_sink:
            return (2, 0.0, i)
        if i >= n - n_recent:
            return (1, 0.0, i)
        return (0, float(score[i]), i)

    order = sorted(range(n), key=rank, reverse=True)
    last, first_out = rank(order[keep - 1]), rank(order[keep])
    margin = last[1] - first_out[1] if last[0] == first_out[0] == 0 else None
    return sorted(order[:keep]), margin


def protection(policy, budget):
    return {"trimkv": (0, 0), "window": (4, budget - 4), "h2o": (0, budget // 2)}[policy]


def scores(policy, head, n_seen):
    if policy == "trimkv":
        return trimkv_scores(head["lb"], head["pos"], n_seen)
    return head["mass"] if policy == "h2o" else head["pos"].float()


# Model ---------------------------------------------------------------------------------------------------------------
def attend(q, k, v):
    """q (n, group, d), k and v (S, d): the n newest queries, causal.  -> out (n, group, d), mass (S)"""
    n, slots = q.shape[0], k.shape[0]
    logits = torch.einsum("ngd,sd->ngs", q, k) / q.shape[-1] ** 0.5
    hidden = torch.arange(slots)[None, :] > slots - n + torch.arange(n)[:, None]
    p = logits.masked_fill(hidden[:, None, :], float("-inf")).softmax(-1)
    return torch.einsum("ngs,sd->ngd", p, v), p.sum((0, 1))


class Decoder:
    """One sequence; cache[layer][kv head] = dict of k, v, pos, lb, mass with slots in the first dimension."""

    def __init__(self, hp, tensors, gates):
        self.hp, self.gates = hp, gates
        self.w = {k: torch.from_numpy(v) for k, v in tensors.items()}
        self.d = hp["dim"] // hp["n_heads"]
        self.reset()

    def reset(self):
        d = self.d
        self.cache = [[{"k": torch.zeros(0, d), "v": torch.zeros(0, d), "pos": torch.zeros(0, dtype=torch.int64),
                        "lb": torch.zeros(0), "mass": torch.zeros(0)} for _ in range(self.hp["n_kv_heads"])]
                      for _ in range(self.hp["n_layers"])]
        self.n_seen = 0

    def norm(self, x, name):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.hp["eps"]) * self.w[name + ".weight"]

    def rotate(self, x, pos):
        """Pairs (i, i + d/2) as complex numbers, turned by pos * base^(-2i/d)."""
        half = self.d // 2
        angle = pos.double()[:, None] * self.hp["rope_base"] ** (-torch.arange(half).double() * 2 / self.d)
        z = torch.complex(x[..., :half].double(), x[..., half:].double())
        z = z * torch.polar(torch.ones_like(angle), angle)[:, None, :]
        return torch.cat([z.real, z.imag], -1).float()

    @torch.no_grad()
    def forward(self, ids):
        """Appends ids, returns the logits of every new position."""
        hp, w, n = self.hp, self.w, len(ids)
        pos = torch.arange(self.n_seen, self.n_seen + n)
        x = w["model.embed_tokens.weight"][torch.tensor(ids)]
        for layer in range(hp["n_layers"]):
            pre = f"model.layers.{layer}."
            h = self.norm(x, pre + "input_layernorm")
            q, k, v = (F.linear(h, w[f"{pre}self_attn.{m}_proj.weight"]).view(n, -1, self.d) for m in "qkv")
            q, k = self.rotate(q, pos), self.rotate(k, pos)
            lb = gate_rg(self.gates[layer], h) if self.gates else torch.zeros(n, hp["n_kv_heads"])
            group, out = hp["n_heads"] // hp["n_kv_heads"], []
            for head, c in enumerate(self.cache[layer]):
                new = {"k": k[:, head], "v": v[:, head], "pos": pos, "lb": lb[:, head], "mass": torch.zeros(n)}
                for key in c:
                    c[key] = torch.cat([c[key], new[key]])
                o, mass = attend(q[:, head * group:(head + 1) * group], c["k"], c["v"])
                c["mass"] = c["mass"] + mass
                out.append(o)
            x = x + F.linear(torch.cat(out, 1).reshape(n, -1), w[pre + "self_attn.o_proj.weight"])
            h = self.norm(x, pre + "post_attention_layernorm")
            gate, up = (F.linear(h, w[f"{pre}mlp.{m}_proj.weight"]) for m in ("gate", "up"))
            x = x + F.linear(F.silu(gate) * up, w[pre + "mlp.down_proj.weight"])
        self.n_seen += n
        head = "model.embed_tokens.weight" if hp["tied"] else "lm_head.weight"
        return F.linear(self.norm(x, "model.norm"), w[head])

    def slots(self):
        return len(self.cache[0][0]["pos"])

    def reduce(self, policy, budget):
        """Every layer and head to `budget` slots; -> the record of this trigger."""
        n_sink, n_recent = protection(policy, budget)
        kept_pos, margins = [], []
        for layer in self.cache:
            kept_pos.append([])
            for c in layer:
                kept, margin = select(scores(policy, c, self.n_seen), c["pos"], budget, n_sink, n_recent)
                margins.append(margin)
                for key in c:
                    c[key] = c[key][kept]
                kept_pos[-1].append(c["pos"].tolist())
        real = [m for m in margins if m is not None]
        near = [[i // self.hp["n_kv_heads"], i % self.hp["n_kv_heads"]] for i, m in enumerate(margins)
                if m is not None and m < NEAR_TIE]
        return {"n_seen": self.n_seen, "margin": float(f"{min(real):.3g}") if real else None, "near_ties": near,
                "kept": kept_pos}


def generate(dec, ids, max_new, policy=None, budget=0, buffer=0, prefill="full"):
    """Greedy, ties to the lowest id, end of text ignored."""
    dec.reset()
    limit = budget + buffer if policy else float("inf")
    triggers, held, dropped = [], [], 0

    def step(tokens):
        nonlocal dropped
        logits = dec.forward(tokens)
        held.append(dec.slots())
        if dec.slots() >= limit:
            dropped += dec.slots() - budget
            triggers.append(dec.reduce(policy, budget))
        return logits[-1]

    chunk = len(ids) if prefill == "full" else int(prefill.split(":")[1])
    assert prefill == "full" or chunk <= buffer
    for i in range(0, len(ids), chunk):
        if prefill != "full" and dec.slots() + len(ids[i:i + chunk]) > limit:
            dropped += dec.slots() - budget
            triggers.append(dec.reduce(policy, budget))
        logits = step(ids[i:i + chunk])
    n_prefill, tokens, lead = len(held), [], []
    while True:
        top = logits.topk(2).values
        lead.append(float(top[0] - top[1]))
        tokens.append(int(np.argmax(logits.numpy())))
        if len(tokens) == max_new:
            break
        logits = step(tokens[-1:])
    decode = held[n_prefill:]
    return {"triggers": triggers, "tokens": tokens, "min_logit_margin": round(min(lead), 5), "peak_slots": max(held),
            "mean_slots": round(sum(decode) / len(decode), 5) if decode else max(held),
            "dropped_per_head": dropped, "last_logits": gc.rounded(logits[:32])}


# Self-check ----------------------------------------------------------------------------------------------------------
def close(a, b, eps=2e-6):
    a, b = torch.as_tensor(a).float().flatten(), torch.as_tensor(b).float().flatten()
    assert a.shape == b.shape and bool((a - b).abs().max() < eps), (a, b)


def check_trimkv():
    lb = torch.tensor([.999, .5, .9, .97, .99, .8], dtype=torch.float64).log().float()
    pos = torch.arange(6)
    s = trimkv_scores(lb, pos, 6)
    close(s, [-.007004, -4.158883, -.526803, -.121837, -.030151, -.446287])
    assert select(s, pos, 4)[0] == [0, 3, 4, 5] and select(s, pos, 2)[0] == [0, 4]
    assert select(s, pos, 2, n_recent=1)[0] == [0, 5]
    kept = [0, 3, 4, 5]
    lb = torch.cat([lb[kept], torch.tensor([.6, .95]).log()])
    pos = torch.tensor(kept + [6, 7])
    s = trimkv_scores(lb, pos, 8)
    close(s, [-.009005, -.182755, -.050252, -.892574, -1.532477, -.102587])
    assert pos[select(s, pos, 4)[0]].tolist() == [0, 3, 4, 7]
    w = {"linear1.weight": torch.tensor([[.2, -.4, .1], [.3, .5, -.2]]), "linear1.bias": torch.tensor([.1, -.1]),
         "linear2.weight": torch.tensor([[1, -2], [.5, 1.5]]), "bias": torch.tensor([8., 4.])}
    close(gate_rg(w, torch.tensor([.5, -1, 2])), [-.000116, -.020155])


def check_window():
    pos = torch.arange(0)
    seen = []
    for t in range(8):
        pos = torch.cat([pos, torch.tensor([t])])
        if len(pos) >= 6:
            pos = pos[select(pos.float(), pos, 5, 2, 3)[0]]
            seen.append(pos.tolist())
    assert seen == [[0, 1, 3, 4, 5], [0, 1, 4, 5, 6], [0, 1, 5, 6, 7]]


def check_h2o():
    keys = torch.tensor([[-1.6, .9], [-1, .3], [-.8, -1], [-.1, 2], [-1, -1.8], [-.3, .5], [1.2, .8], [.8, -1.9]])
    q = torch.tensor([[-1.5, 1.3], [.2, .1], [-.2, -.5], [-.5, -.3], [-1, .7], [-.4, 1.3], [-.4, .4], [-.7, 1.3]])
    mass = attend(q[:, None], keys, keys)[1]
    close(mass, [3.191323, 1.661897, 1.031992, 1.394191, .191698, .360356, .161961, .006582])
    assert select(mass, torch.arange(8), 4, 0, 2)[0] == [0, 1, 6, 7]
    pos, mass = torch.arange(6), attend(q[:6, None], keys[:6], keys[:6])[1]
    close(mass, [2.687019, 1.383210, .895736, .826234, .087171, .120630])
    want = [([0, 1, 4, 5], None), ([0, 1, 5, 6], [3.003074, 1.608301, .211450, .316037, .139167]),
            ([0, 1, 6, 7], [3.492500, 1.817798, .494088, .250818, .011375])]
    for t, (kept_pos, acc) in enumerate(want, start=5):
        if t > 5:
            pos = torch.cat([pos, torch.tensor([t])])
            mass = torch.cat([mass, torch.zeros(1)]) + attend(q[t:t + 1, None], keys[pos], keys[pos])[1]
            close(mass, acc)
        kept = select(mass, pos, 4, 0, 2)[0]
        pos, mass = pos[kept], mass[kept]
        assert pos.tolist() == kept_pos


def check_ties():
    assert select(torch.zeros(5), torch.arange(5), 2)[0] == [3, 4]


def check_forward(dec, golden):
    """The full cache against transformers; then chunks of any size must not change anything."""
    ids = golden["ids"]
    for row in golden["base"]["rows"]:
        dec.reset()
        close(dec.forward(ids)[row["pos"]], row["logits"], 2e-4)
    for layer in range(dec.hp["n_layers"]):
        close(torch.stack([c["lb"] for c in dec.cache[layer]]), golden["base"]["log_beta"][layer], 2e-5)
    full = generate(dec, ids, 64)
    assert full["tokens"] == golden["base"]["greedy"]
    dec.reset()
    rows = torch.cat([dec.forward(ids[i:i + 5]) for i in range(0, len(ids), 5)])
    close(rows[-1], golden["base"]["rows"][-1]["logits"], 2e-4)


def load_gates(folder, n_layers):
    t = load_file(Path(folder) / "trimkv_weights.safetensors")
    names = ("linear1.weight", "linear1.bias", "linear2.weight", "bias")
    return [{k: t[f"model.layers.{i}.self_attn.retention_gate.{k}"].float() for k in names} for i in range(n_layers)]


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--gguf", default=GOLDEN / "tiny-llama.gguf")
    ap.add_argument("--gates", default=GOLDEN / "tiny-gates")
    ap.add_argument("--adapter")
    ap.add_argument("--tokenizer", default=str(GOLDEN / "tiny-tokenizer.json"))
    ap.add_argument("--user", help="user turn (default: the first prompt of tiny-llama.json)")
    ap.add_argument("--prompt", help="take the user turn of this name from logits_smollm2.json")
    ap.add_argument("--case", action="append", help="M,B,full or M,B,stream:C (repeatable)")
    ap.add_argument("--policy", action="append", choices=POLICIES)
    ap.add_argument("--max-new", type=int, default=64)
    ap.add_argument("--sums", action="store_true", help="per head only the sum of the kept positions, for large models")
    ap.add_argument("--out", required=True)
    a = ap.parse_args()
    for check in (check_trimkv, check_window, check_h2o, check_ties):
        check()
    hp, tensors = gc.read_gguf(a.gguf)
    if a.adapter:
        tensors = gc.merge_adapter(tensors, a.adapter)
    dec = Decoder(hp, tensors, load_gates(a.gates, hp["n_layers"]))
    tiny = json.loads((GOLDEN / "tiny-llama.json").read_text())
    if not a.adapter and gc.sha256(a.gguf) == tiny["gguf_sha256"]:
        check_forward(dec, tiny["prompts"][0])
    user = a.user or tiny["prompts"][0]["user"]
    if a.prompt:
        known = json.loads((GOLDEN / "logits_smollm2.json").read_text())["prompts"]
        user = next(p["user"] for p in known if p["name"] == a.prompt)
    tok = Tokenizer.from_file(a.tokenizer)
    ids = tok.encode(gc.chat(user)).ids
    out = {"about": "Kept positions (layer, KV head, slot; kept_sum: their sums) at every reduction and greedy tokens, "
                    "made by scripts/golden_evict.py.  n_seen = T; margin = smallest score gap of kept to dropped slots "
                    "over layers and heads (null: no scores compared); near_ties = (layer, KV head) with a gap below "
                    "1e-4, where another order of fp32 sums may keep the other slot; last_logits = ids 0..31 of the "
                    "last forward.  A reduction after the last forward is included.",
           "versions": gc.versions(), "gguf_sha256": gc.sha256(a.gguf), "user": user, "ids": ids,
           "max_new": a.max_new, "cases": []}
    for case in a.case or CASES:
        budget, buffer, prefill = case.split(",")
        for policy in a.policy or POLICIES:
            r = generate(dec, ids, a.max_new, policy, int(budget), int(buffer), prefill)
            for t in r["triggers"]:
                if a.sums:
                    t["kept_sum"] = [[sum(head) for head in layer] for layer in t.pop("kept")]
            out["cases"].append({"policy": policy, "budget": int(budget), "buffer": int(buffer), "prefill": prefill,
                                 **r})
            margins = [t["margin"] for t in r["triggers"] if t["margin"] is not None]
            print(f"{policy:6s} M {budget:3s} B {buffer:3s} {prefill:9s} {len(r['triggers']):3d} triggers, smallest "
                  f"score margin {min(margins, default=float('nan')):.2g}, logit margin {r['min_logit_margin']:.4f}, "
                  f"slots {r['peak_slots']} / {r['mean_slots']:.2f}: {tok.decode(r['tokens'])[:60]!a}")
    gc.write_json(a.out, out)


if __name__ == "__main__":
    main()
