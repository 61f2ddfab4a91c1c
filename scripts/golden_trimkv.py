#!/usr/bin/env python3
"""An independent PyTorch program for TRIM-KV's published gate types -> tests/golden/trimkv/

transformers runs the model in fp32; a cache of its own stands in for the library's and does what the method says
(arXiv 2512.03324, 2605.09649): gates rg, rg2, rg3 and rg10 as modules, one log retention per new token and KV head,
scores (T + 1 - p) lb or the sum over `lookahead` future steps, and after a forward every layer that holds S >= M + B
slots is reduced to M.  `dbtrimkv` ranks the slots of all layers and heads together as soon as they are M + B per head on
average, and keeps M per head on average, `floor=m` of them outside the ranking; with pool=layer every layer does so
alone.  Prefill `full` is one forward over the prompt; `stream:C` feeds chunks of C tokens and reduces to M before a
chunk that would exceed M + B.

Before anything is written the program must reproduce worked numbers of the method, and with a cache that never fills
what transformers says without one.  Every case takes the first prompt of the pool at which no decision is close: the
kept slots' scores lead the evicted ones' by a share of MARGIN, every greedy token leads by LEAD.

    python3 scripts/golden_trimkv.py --out tests/golden/trimkv llama=tests/golden/tiny-llama.gguf \\
        qwen3=tests/data/checkpoints/qwen3 phi3=tests/data/checkpoints/phi3

writes <name>.json, and for every gate type <name>-<type>/ with random weights and a config.json.
"""
import argparse
import json
import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn
from transformers import AutoModelForCausalLM

import golden_common as gc

TYPES = ["rg", "rg2", "rg3", "rg10"]
INTERMEDIATE, MAX_NEW, POOL, SEED = 12, 40, 400, 20260
MARGIN, LEAD = 1e-4, 2e-3
CHUNKS = {1: 1, 7: 5, 32: 20}
CASES = [(t, "trimkv", m, b, p) for t in TYPES for m in (1, 7, 32) for b in CHUNKS
         for p in ("full", f"stream:{CHUNKS[b]}")]
CASES += [("rg", "trimkv:lookahead=4", 7, 7, "full"), ("rg10", "trimkv:lookahead=64", 32, 7, "stream:5"),
          ("rg", "trimkv:window=3", 7, 7, "full"), ("rg3", "trimkv:window=2:lookahead=2", 7, 7, "stream:5")]
CASES += [("rg10", "dbtrimkv", m, b, p) for m in (7, 32) for b in CHUNKS for p in ("full", f"stream:{CHUNKS[b]}")]
CASES += [("rg", "dbtrimkv", 7, 7, "full"), ("rg10", "dbtrimkv:floor=3", 7, 7, "stream:5"),
          ("rg3", "dbtrimkv:lookahead=4:floor=2", 7, 7, "full"), ("rg10", "dbtrimkv:pool=layer", 7, 7, "full"),
          ("rg2", "dbtrimkv:pool=layer", 16, 7, "stream:5")]


# Gates ---------------------------------------------------------------------------------------------------------------
class Gate(nn.Module):
    """rg, rg2 (linear1, linear2), rg10 (linear1, linear2, linear3) or rg3 (gate_proj, up_proj, down_proj)."""

    def __init__(self, kind, n_in, n_hidden, n_kv_heads):
        super().__init__()
        self.kind = kind
        if kind == "rg3":
            self.gate_proj = nn.Linear(n_in, n_hidden, bias=False)
            self.up_proj = nn.Linear(n_in, n_hidden, bias=False)
            self.down_proj = nn.Linear(n_hidden, n_kv_heads, bias=False)
        else:
            self.linear1 = nn.Linear(n_in, n_hidden)
            if kind == "rg10":
                self.linear2 = nn.Linear(n_hidden, n_hidden)
                self.linear3 = nn.Linear(n_hidden, n_kv_heads, bias=False)
            else:
                self.linear2 = nn.Linear(n_hidden, n_kv_heads, bias=False)
        self.bias = nn.Parameter(torch.zeros(n_kv_heads))

    def forward(self, x):
        if self.kind == "rg3":
            z = self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))
        elif self.kind == "rg10":
            z = self.linear3(F.silu(self.linear2(F.silu(self.linear1(x)))))
        else:
            z = self.linear2(F.silu(self.linear1(x)))
        return F.logsigmoid(z + self.bias)


def gate_input(kind, hidden, k, v):
    """hidden (n, D), k and v (Hkv, n, d) after rotation -> (n, n_in): k_0, v_0, k_1, v_1, ... for rg2 and rg3"""
    if kind in ("rg", "rg10"):
        return hidden
    return torch.cat([k, v], -1).transpose(0, 1).flatten(1)


def random_gates(kind, n_layers, n_in, n_kv_heads, rng):
    """Values are bf16, as published ones; log retention of about -0.001 to -1, far apart between tokens and heads."""
    gates = []
    for _ in range(n_layers):
        g = Gate(kind, n_in, INTERMEDIATE, n_kv_heads)
        for name, p in g.named_parameters():
            x = torch.from_numpy(rng.standard_normal(p.shape)).float()
            if name == "bias":
                x = 3 + 0.3 * x
            elif name.endswith("bias"):
                x = 0.3 * x
            else:
                gain = {"linear1": 1.5, "gate_proj": 1.5, "up_proj": 1, "down_proj": 2}.get(name.split(".")[0], 3)
                x = x * gain / math.sqrt(p.shape[1])
            p.data = x.bfloat16().float()
        gates.append(g.requires_grad_(False))
    return gates


# Scores and selection ------------------------------------------------------------------------------------------------
def log1m_exp(x):
    return torch.where(x < -math.log(2), torch.log1p(-torch.exp(x)), torch.log(-torch.expm1(x)))


def retention_scores(lb, pos, seen, lookahead=1):
    if lookahead == 1:
        return (seen + 1 - pos) * lb
    return (seen + 2 - pos) * lb + log1m_exp(lookahead * lb) - log1m_exp(lb)


def keep_best(score, keep, window=0):
    """-> kept indices ascending, and how far the worst kept score is above the best dropped one, as a share of it"""
    forced = score.clone()
    if window:
        forced[-window:] = float("inf")
    order = forced.argsort(descending=True)
    gap = float((forced[order[keep - 1]] - forced[order[keep]]) / forced[order[keep]].abs())
    return order[:keep].sort().values, gap


# A cache that evicts -------------------------------------------------------------------------------------------------
class RetentionCache:
    """What transformers' attention asks of a cache (update), with slots of one sequence that can leave."""

    def __init__(self, model, kind, gates, policy):
        self.kind, self.gates, self.hidden = kind, gates, {}
        options = dict(o.split("=") for o in policy.split(":")[1:])
        self.lookahead, self.window = int(options.get("lookahead", 1)), int(options.get("window", 0))
        self.k, self.v, self.lb, self.pos, self.seen = {}, {}, {}, {}, 0
        self.hooks = [layer.self_attn.register_forward_pre_hook(self.note_hidden, with_kwargs=True)
                      for layer in model.model.layers]

    def note_hidden(self, module, args, kwargs):
        self.hidden[module.layer_idx] = (args[0] if args else kwargs["hidden_states"])[0]

    def close(self):
        for h in self.hooks:
            h.remove()

    def get_seq_length(self, layer_idx=0):
        return self.seen

    def update(self, k, v, layer, *unused):
        n = k.shape[2]
        lb = self.gates[layer](gate_input(self.kind, self.hidden[layer], k[0], v[0])).T.double()
        pos = torch.arange(self.seen, self.seen + n).expand(k.shape[1], n)
        for store, new in ((self.k, k[0]), (self.v, v[0]), (self.lb, lb), (self.pos, pos)):
            store[layer] = torch.cat([store[layer], new], 1) if layer in store else new
        return self.k[layer][None], self.v[layer][None]

    def slots(self):
        return self.lb[0].shape[1] if self.lb else 0

    def mask(self, layer, n):
        """(heads or 1, n, slots + n): what each of n new tokens sees"""
        past = self.slots()
        return torch.ones(1, n, past + n, dtype=torch.bool).tril(past)

    def reduce(self, budget):
        """-> kept positions (layer, head, M), smallest gap"""
        kept, gaps = [], []
        for layer in range(len(self.lb)):
            index = []
            for lb, pos in zip(self.lb[layer], self.pos[layer]):
                i, gap = keep_best(retention_scores(lb, pos, self.seen, self.lookahead), budget, self.window)
                index.append(i)
                gaps.append(gap)
            at = torch.stack(index)
            for store in (self.lb, self.pos):
                store[layer] = store[layer].gather(1, at)
            for store in (self.k, self.v):
                store[layer] = store[layer].gather(1, at[..., None].expand(-1, -1, store[layer].shape[2]))
            kept.append(self.pos[layer].tolist())
        return kept, min(gaps)


class PooledCache(RetentionCache):
    """Heads of unlike lengths that share a budget.  Attention sees them padded in front to the longest of the layer,
    with a mask per head."""

    def __init__(self, model, kind, gates, policy):
        super().__init__(model, kind, gates, policy)
        options = dict(o.split("=") for o in policy.split(":")[1:])
        self.floor, self.by_layer = int(options.get("floor", 0)), options.get("pool") == "layer"
        self.n_layers, self.n_heads = model.config.num_hidden_layers, model.config.num_key_value_heads
        self.group = model.config.num_attention_heads // self.n_heads
        for store in (self.k, self.v, self.lb, self.pos):
            store.update({(i, h): None for i in range(self.n_layers) for h in range(self.n_heads)})

    def lengths(self, layer):
        return [0 if self.pos[layer, h] is None else len(self.pos[layer, h]) for h in range(self.n_heads)]

    def slots(self):
        """Of the fullest pool, per head, rounded down"""
        held = [self.lengths(i) for i in range(self.n_layers)]
        return max(sum(x) // len(x) for x in held) if self.by_layer else sum(map(sum, held)) // sum(map(len, held))

    def mask(self, layer, n):
        past = self.lengths(layer)
        rows = []
        for x in past:
            seen = torch.ones(n, x + n, dtype=torch.bool).tril(x)
            rows.append(F.pad(seen, (max(past) - x, 0)))
        return torch.stack(rows).repeat_interleave(self.group, 0)

    def note_hidden(self, module, args, kwargs):
        super().note_hidden(module, args, kwargs)
        seen = self.mask(module.layer_idx, self.hidden[module.layer_idx].shape[0])
        mask = torch.zeros(seen.shape).masked_fill(~seen, torch.finfo(torch.float32).min)[None]
        return args, {**kwargs, "attention_mask": mask}

    def update(self, k, v, layer, *unused):
        n = k.shape[2]
        lb = self.gates[layer](gate_input(self.kind, self.hidden[layer], k[0], v[0])).T.double()
        pos = torch.arange(self.seen, self.seen + n)
        for h in range(self.n_heads):
            for store, new in ((self.k, k[0, h]), (self.v, v[0, h]), (self.lb, lb[h]), (self.pos, pos)):
                store[layer, h] = new if store[layer, h] is None else torch.cat([store[layer, h], new])
        most = max(self.lengths(layer))
        padded = [torch.stack([F.pad(store[layer, h], (0, 0, most - len(store[layer, h]), 0))
                               for h in range(self.n_heads)])[None] for store in (self.k, self.v)]
        return padded[0], padded[1]

    def reduce_pool(self, heads, budget):
        scores = [retention_scores(self.lb[x], self.pos[x], self.seen, self.lookahead) for x in heads]
        flat = torch.cat(scores)
        won, gap = keep_best(flat, len(heads) * (budget - self.floor))
        owner = torch.repeat_interleave(torch.arange(len(heads)), torch.tensor([len(s) for s in scores]))
        gaps = [gap]
        for x, s, count in zip(heads, scores, torch.bincount(owner[won], minlength=len(heads)).tolist()):
            if count + self.floor >= len(s):
                continue
            at = torch.arange(0)
            if count + self.floor:
                at, gap = keep_best(s, count + self.floor)
                gaps.append(gap if self.floor else math.inf)
            for store in (self.k, self.v, self.lb, self.pos):
                store[x] = store[x][at]
        return min(gaps)

    def reduce(self, budget):
        pools = [[(i, h) for h in range(self.n_heads)] for i in range(self.n_layers)]
        if not self.by_layer:
            pools = [sum(pools, [])]
        gaps = [self.reduce_pool(heads, budget) for heads in pools
                if sum(len(self.pos[x]) for x in heads) > len(heads) * budget]
        return [[self.pos[i, h].tolist() for h in range(self.n_heads)] for i in range(self.n_layers)], min(gaps)


def open_cache(model, kind, gates, policy):
    return (PooledCache if policy.startswith("dbtrimkv") else RetentionCache)(model, kind, gates, policy)


@torch.no_grad()
def forward(model, cache, ids):
    n = len(ids)
    seen = cache.mask(0, n)
    mask = torch.zeros(seen.shape).masked_fill(~seen, torch.finfo(torch.float32).min)[None]
    pos = torch.arange(cache.seen, cache.seen + n)[None]
    out = model(torch.tensor([ids]), attention_mask=mask, position_ids=pos, past_key_values=cache, use_cache=True)
    cache.seen += n
    return out.logits[0]


def generate(model, cache, ids, max_new, budget, buffer, prefill):
    """Greedy, end of text ignored.  -> tokens, smallest lead of a token, [(T, kept)], smallest gap of a score"""
    triggers, gaps, leads, tokens = [], [], [], []

    def reduce():
        kept, gap = cache.reduce(budget)
        triggers.append((cache.seen, kept))
        gaps.append(gap)

    def step(piece):
        logits = forward(model, cache, piece)
        if cache.slots() >= budget + buffer:
            reduce()
        return logits[-1]

    chunk = len(ids) if prefill == "full" else int(prefill.split(":")[1])
    for i in range(0, len(ids), chunk):
        piece = ids[i:i + chunk]
        if prefill != "full" and cache.slots() + len(piece) > budget + buffer:
            reduce()
        logits = step(piece)
    while True:
        top = logits.topk(2).values
        leads.append(float(top[0] - top[1]))
        tokens.append(int(logits.argmax()))
        if len(tokens) == max_new or leads[-1] < LEAD or (gaps and min(gaps) < MARGIN):
            break
        logits = step(tokens[-1:])
    return tokens, min(leads), triggers, min(gaps, default=math.inf)


# Self-check ----------------------------------------------------------------------------------------------------------
def close(a, b, eps=1e-6):
    a, b = torch.as_tensor(a).double().flatten(), torch.as_tensor(b).double().flatten()
    assert a.shape == b.shape and bool((a - b).abs().max() < eps), (a, b)


def check_scores():
    lb, pos = torch.tensor([.999, .5, .9, .97, .99, .8], dtype=torch.float64).log(), torch.arange(6)
    s = retention_scores(lb, pos, 6)
    close(s, [-.007004, -4.158883, -.526803, -.121837, -.030151, -.446287])
    assert keep_best(s, 4)[0].tolist() == [0, 3, 4, 5] and keep_best(s, 2)[0].tolist() == [0, 4]
    assert keep_best(s, 2, window=1)[0].tolist() == [0, 5]
    for n, want in ((2, [.684643, -4.446565, .009691, .525738, .647933, -.081644]),
                    (4, [1.376790, -4.223422, .603018, 1.188889, 1.331081, .413052])):
        ahead = retention_scores(lb, pos, 6, n)
        close(ahead, want)
        close(ahead, [math.log(sum(math.exp(l * (8 - p + m)) for m in range(n))) for p, l in enumerate(lb.tolist())])
        assert keep_best(ahead, 4)[0].tolist() == [0, 2, 3, 4]
    s = s + torch.tensor([2, 1, 3, .5, 1, 1.5]).log()
    close(s, [.686144, -4.158883, .571810, -.814984, -.030151, -.040822])
    assert keep_best(s, 4)[0].tolist() == [0, 2, 4, 5]
    kept = [0, 3, 4, 5]
    lb, pos = torch.cat([lb[kept], torch.tensor([.6, .95]).double().log()]), torch.tensor(kept + [6, 7])
    s = retention_scores(lb, pos, 8)
    close(s, [-.009005, -.182755, -.050252, -.892574, -1.532477, -.102587])
    assert pos[keep_best(s, 4)[0]].tolist() == [0, 3, 4, 7]


def example_gate(kind):
    w1, b1 = torch.tensor([[.2, -.4, .1], [.3, .5, -.2]]), torch.tensor([.1, -.1])
    w2 = torch.tensor([[1, -2], [.5, 1.5]])
    state = {"rg": {"linear1.weight": w1, "linear1.bias": b1, "linear2.weight": w2},
             "rg10": {"linear1.weight": w1, "linear1.bias": b1, "linear2.weight": torch.tensor([[.7, -.3], [.4, .6]]),
                      "linear2.bias": torch.tensor([.05, -.2]), "linear3.weight": torch.tensor([[1, -1], [2, .5]])},
             "rg3": {"gate_proj.weight": w1, "up_proj.weight": torch.tensor([[.1, .2, .3], [-.3, .2, .1]]),
                     "down_proj.weight": w2}}[kind]
    gate = Gate(kind, 3, 2, 2)
    gate.load_state_dict({**state, "bias": torch.tensor([8., 4.])})
    return gate.requires_grad_(False)


def check_gates():
    x = torch.tensor([.5, -1, 2])
    hidden = example_gate("rg").linear1(x)
    close(hidden, [.8, -.85])
    close(F.silu(hidden), [.551980, -.254518])
    close(example_gate("rg").linear2(F.silu(hidden)) + torch.tensor([8, 4]), [9.061015, 3.894213])
    close(example_gate("rg")(x), [-.000116, -.020155])
    close(example_gate("rg10").linear2(F.silu(hidden)), [.512741, -.131919])
    close(example_gate("rg10")(x), [-.000229, -.009897])
    close(example_gate("rg3")(x), [-.000292, -.015497])
    k, v = torch.tensor([[[1., 2.]], [[3., 4.]]]), torch.tensor([[[5., 6.]], [[7., 8.]]])
    close(gate_input("rg2", None, k, v), [1, 2, 5, 6, 3, 4, 7, 8])


def check_pool():
    """One budget for all layers and heads (DBTrimKV): the same scores, ranked together."""
    beta = torch.tensor([[.9, .5, .7], [.99, .98, .6], [.3, .4, .95], [.8, .85, .2]], dtype=torch.float64)
    s = retention_scores(beta.log(), torch.arange(3), 3)
    close(s, [-.421442, -2.079442, -.713350, -.040201, -.060608, -1.021651, -4.815891, -2.748872, -.102587, -.892574,
              -.487557, -3.218876])
    mask = torch.zeros(12, dtype=torch.int64)
    mask[keep_best(s.flatten(), 8)[0]] = 1
    assert mask.tolist() == [1, 0, 1, 1, 1, 1, 0, 0, 1, 1, 1, 0] and mask.view(4, 3).sum(1).tolist() == [2, 3, 1, 2]
    picks = keep_best(s.flatten(), 4)[0]
    assert picks.tolist() == [0, 3, 4, 8] and torch.bincount(picks // 3, minlength=4).tolist() == [1, 2, 1, 0]
    assert (s >= math.log(.5)).int().tolist() == [[1, 0, 0], [1, 1, 0], [0, 0, 1], [0, 1, 0]]


def check_forward(model, gates, ids):
    """A cache that never fills, in one piece and in pieces, against transformers without a cache."""
    want = gc.logits_of(model, ids)
    for chunk, policy in ((len(ids), "trimkv"), (6, "trimkv"), (6, "dbtrimkv")):
        cache = open_cache(model, "rg", gates, policy)
        got = torch.cat([forward(model, cache, ids[i:i + chunk]) for i in range(0, len(ids), chunk)])
        cache.close()
        close(got, want, 2e-4)


# Files ---------------------------------------------------------------------------------------------------------------
def load_model(path):
    if str(path).endswith(".gguf"):
        return gc.build_model(*gc.read_gguf(path))
    return AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, attn_implementation="eager").eval()


def write_snapshot(folder, name, kind, config, gates):
    """rg2 as safetensors, the others as the published files: a .pth of bf16."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {f"model.layers.{i}.self_attn.retention_gate.{k}": v.bfloat16().contiguous()
             for i, g in enumerate(gates) for k, v in g.state_dict().items()}
    if kind == "rg2":
        save_file(state, folder / "trimkv_weights.safetensors")
    else:
        torch.save(state, folder / "trimkv_weights.pth")
    cfg = {"base_model": f"tiny-random/{name}", "model_type": config.model_type, "hidden_act": "silu",
           "hidden_size": config.hidden_size, "num_hidden_layers": config.num_hidden_layers,
           "num_key_value_heads": config.num_key_value_heads, "retention_gate": kind,
           "retention_gate_intermediate_size": INTERMEDIATE, "memory_size": 7, "buffer_size": 32,
           "trainable_params": "self_attn.retention_gate"}
    (folder / "config.json").write_text(json.dumps(cfg, indent=1) + "\n")


def digest(seen, positions):
    """FNV-1a over T and the kept positions of one head, folded to 16 bits, as 4 digits."""
    h = 2166136261
    for x in [seen, *positions]:
        h = (h ^ x) * 16777619 & 0xffffffff
    return f"{h >> 16 ^ h & 0xffff:04x}"


def run_case(model, gates, pool, first, case):
    kind, policy, budget, buffer, prefill = case
    for tried in range(len(pool)):
        at = (first + tried) % len(pool)
        cache = open_cache(model, kind, gates[kind], policy)
        tokens, lead, triggers, gap = generate(model, cache, pool[at], MAX_NEW, budget, buffer, prefill)
        cache.close()
        if lead >= LEAD and gap >= MARGIN and triggers:
            kept = "".join(digest(seen, head) for seen, layers in triggers for heads in layers for head in heads)
            return at, gap, lead, {"gates": kind, "policy": policy, "budget": budget, "buffer": buffer,
                                   "prefill": prefill, "margin": float(f"{gap:.2g}"), "lead": float(f"{lead:.2g}"),
                                   "triggers": len(triggers), "kept": kept, "tokens": tokens}
    raise SystemExit(f"{case}: a decision is close at every prompt of the pool; take another seed")


def write_model(name, path, out, rng):
    model = load_model(path)
    c = model.config
    d = getattr(c, "head_dim", None) or c.hidden_size // c.num_attention_heads
    gates = {}
    for kind in TYPES:
        n_in = c.hidden_size if kind in ("rg", "rg10") else 2 * c.num_key_value_heads * d
        gates[kind] = random_gates(kind, c.num_hidden_layers, n_in, c.num_key_value_heads, rng)
        write_snapshot(out / f"{name}-{kind}", name, kind, c, gates[kind])
    pool = [rng.integers(0, c.vocab_size, int(n)).tolist() for n in rng.integers(40, 76, POOL)]
    check_forward(model, gates["rg"], pool[0])
    used, cases, margins = {}, [], []
    for i, case in enumerate(CASES):
        at, gap, lead, result = run_case(model, gates, pool, i * 5, case)
        result["prompt"] = used.setdefault(at, len(used))
        cases.append(result)
        margins.append((gap, lead))
    gc.write_json(out / f"{name}.json", {
        "about": "Slots kept at every reduction, as 4 digits of a hash per layer and KV head, and greedy tokens; made "
                 "by scripts/golden_trimkv.py with the gates beside this file.  margin: smallest gap between scores of "
                 "kept and dropped slots, as a share of the latter; lead: of a token's logit over the next.",
        "versions": gc.versions(), "layers": c.num_hidden_layers, "heads": c.num_key_value_heads,
        "prompts": [pool[at] for at in used], "cases": cases})
    print(f"{name}: {len(cases)} cases, {sum(x['triggers'] for x in cases)} reductions, {len(used)} prompts; smallest "
          f"score margin {min(m[0] for m in margins):.2g}, smallest token lead {min(m[1] for m in margins):.2g}")


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--out", type=Path, required=True)
    ap.add_argument("--seed", type=int, default=SEED)
    ap.add_argument("models", nargs="+", metavar="NAME=PATH", help="folder of transformers, or a GGUF (llama)")
    a = ap.parse_args()
    for check in (check_scores, check_gates, check_pool):
        check()
    torch.set_num_threads(1)
    for i, word in enumerate(a.models):
        name, path = word.split("=", 1)
        write_model(name, path, a.out, np.random.default_rng([a.seed, i]))


if __name__ == "__main__":
    main()
