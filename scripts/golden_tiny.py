#!/usr/bin/env python3
"""A tiny Llama with everything that a test without downloads needs -> tests/golden/tiny-*

tiny-llama.gguf       seeded random weights in llama.cpp's conventions; F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q4_K, Q6_K
tiny-tokenizer.json   its byte-level BPE in Hugging Face form
tiny-adapter/         PEFT LoRA of rank 4 over all seven linear maps
tiny-gates/           TRIM-KV retention gates of type `rg`, I = 16, log beta spread out
tiny-llama.json       token ids, logits, greedy tokens with and without the adapter (transformers, fp32, eager) and
                      the gates' log beta

The weights are scaled so that attention is peaked, context matters and greedy decoding has clear winners.

    python3 scripts/golden_tiny.py --out tests/golden
"""
import argparse
import json
from collections import Counter
from pathlib import Path

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as Q
from safetensors.numpy import load_file, save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

import golden_common as gc

SEED = 7
DIM, N_FF, N_LAYERS, N_HEADS, N_KV, HEAD_DIM, N_CTX = 256, 512, 2, 4, 2, 64, 512
N_VOCAB, RANK, ALPHA, N_GATE = 512, 4, 8, 16
ROPE_BASE, EPS = 10000.0, 1e-5
SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TEMPLATE = ("{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system"
            "\n" + gc.SYSTEM + "<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n' + "
            "message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ "
            "'<|im_start|>assistant\n' }}{% endif %}")
TYPES = {  # per layer; every supported type occurs
    "attn_q": (Q.Q4_K, Q.Q4_1), "attn_k": (Q.BF16, Q.F16), "attn_v": (Q.Q6_K, Q.F32), "attn_output": (Q.Q4_0, Q.Q6_K),
    "ffn_gate": (Q.Q4_1, Q.Q4_0), "ffn_up": (Q.Q4_K, Q.Q8_0), "ffn_down": (Q.Q8_0, Q.Q6_K),
}
SHAPES = {"attn_q": (DIM, DIM), "attn_k": (N_KV * HEAD_DIM, DIM), "attn_v": (N_KV * HEAD_DIM, DIM),
          "attn_output": (DIM, DIM), "ffn_gate": (N_FF, DIM), "ffn_up": (N_FF, DIM), "ffn_down": (DIM, N_FF)}
# Standard deviations in units of 1 / sqrt(fan in).
GAIN = {"attn_q": 1.5, "attn_k": 1.5, "attn_v": 1.0, "attn_output": 2.0, "ffn_gate": 1.0, "ffn_up": 1.0,
        "ffn_down": 1.5, "output": 3.0}
CORPUS = (gc.chat("Use all four numbers exactly once to reach the target. What is the answer?")
          + " the quick brown fox jumps over the lazy dog and the dog sleeps in the warm sun while the river runs on "
            "to the sea. she said that they would have been there before the others if the road had not been closed. "
            "it's what we're waiting for, and you'll see that nothing is lost: every number has a place and a name. "
            "a small model can keep only what it needs and forget other things as time goes by. write down each step "
            "of your search before giving an answer; please check whether it solves this problem. some people like "
            "water, music, books or long letters from far away, but we know how good bread makes them happy again. ")
PROMPTS = [("chat", True, "The quick brown fox reached 27 and 65, then the river. What is the number of the target?"),
           ("plain", False, "every number has a place: 3.14159, 2,718\nthe dog sleeps in the warm sun while")]
TEXTS = ["", " ", "Hello world", "it's 1987, they've 2,718.28 left", "tab\tnewline\n\n  two spaces  end ",
         "\u00c4pfel f\u00fcr 3,50 \u20ac na\u00efve \u041c\u043e\u0441\u043a\u0432\u0430 \u6771\u4eac \U0001f600",
         "\u0666\u0667 \u00bd \u2167 x\u00b2\u00b3", "a<|im_end|>b <|endoftext|>", "def f(n):\n    return n*2 # it's",
         "\u00a0nbsp\u3000wide\u2003em", "WE'LL we'll I'M", "\x01\x02\x7f"]


def bytes_to_unicode():
    keep = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [b for b in range(256) if b not in keep]
    return {b: chr(b) for b in keep} | {b: chr(256 + i) for i, b in enumerate(rest)}


def train_bpe():
    """Plain byte-level BPE: the most frequent pair, ties to the smallest; deterministic."""
    table = bytes_to_unicode()
    vocab = SPECIALS + [table[b] for b in range(256)]
    split = pre_tokenizers.Sequence([pre_tokenizers.Digits(True), pre_tokenizers.ByteLevel(False)])
    text = CORPUS
    for s in SPECIALS:
        text = text.replace(s, "\n")
    words = Counter(tuple(w) for w, _ in split.pre_tokenize_str(text))
    merges = []
    while len(vocab) < N_VOCAB:
        pairs = Counter()
        for w, n in words.items():
            for p in zip(w, w[1:]):
                pairs[p] += n
        best = min(pairs, key=lambda p: (-pairs[p], p))
        merges.append(best)
        vocab.append("".join(best))
        words = Counter({join(w, best): n for w, n in words.items()})
    return vocab, merges


def join(word, pair):
    out, i = [], 0
    while i < len(word):
        if word[i:i + 2] == pair:
            out.append("".join(pair))
            i += 2
        else:
            out.append(word[i])
            i += 1
    return tuple(out)


def make_tokenizer(vocab, merges):
    t = Tokenizer(models.BPE(vocab={v: i for i, v in enumerate(vocab)}, merges=merges))
    t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(True), pre_tokenizers.ByteLevel(False)])
    t.decoder = decoders.ByteLevel()
    t.add_special_tokens([AddedToken(s, special=True, normalized=False) for s in SPECIALS])
    return t


def pack_q4_k(w):
    """Blocks of 256 = 8 groups of 32 with 6-bit scales and minima; a plain rounding quantiser."""
    g = w.reshape(-1, 8, 32)
    low = np.maximum(0, -g.min(-1))
    step = (g.max(-1) + low) / 15
    d = (step.max(-1, keepdims=True) / 63).astype(np.float16)
    dmin = (low.max(-1, keepdims=True) / 63).astype(np.float16)
    sc = np.rint(step / d.astype(np.float32)).clip(1, 63).astype(np.uint8)
    mn = np.rint(low / np.maximum(dmin.astype(np.float32), 1e-12)).clip(0, 63).astype(np.uint8)
    scale, offset = d.astype(np.float32) * sc, dmin.astype(np.float32) * mn
    q = np.rint((g + offset[..., None]) / scale[..., None]).clip(0, 15).astype(np.uint8)
    scales = np.concatenate([sc[:, :4] | (sc[:, 4:] >> 4 << 6), mn[:, :4] | (mn[:, 4:] >> 4 << 6),
                             (sc[:, 4:] & 15) | (mn[:, 4:] & 15) << 4], axis=1)
    qs = (q[:, 0::2] | q[:, 1::2] << 4).reshape(len(g), 128)
    return np.concatenate([d.view(np.uint8), dmin.view(np.uint8), scales, qs], axis=1)


def pack_q6_k(w):
    """Blocks of 256 = 16 groups of 16 with 8-bit scales; quants -32..31."""
    g = w.reshape(-1, 16, 16)
    step = np.abs(g).max(-1) / 31
    d = (step.max(-1, keepdims=True) / 127).astype(np.float16)
    sc = np.rint(step / d.astype(np.float32)).clip(1, 127).astype(np.int8)
    q = np.rint(g / (d.astype(np.float32) * sc)[..., None]).clip(-32, 31).astype(np.int8) + 32
    q = q.astype(np.uint8).reshape(-1, 2, 128)
    ql = (q[:, :, :64] & 15) | (q[:, :, 64:] & 15) << 4
    qh = sum((q[:, :, 32 * i:32 * i + 32] >> 4) << (2 * i) for i in range(4))
    return np.concatenate([ql.reshape(-1, 128), qh.reshape(-1, 64), sc.view(np.uint8), d.view(np.uint8)], axis=1)


def pack(w, qtype):
    """fp32 matrix -> raw array as GGUFWriter wants it."""
    if qtype in (Q.Q4_K, Q.Q6_K):
        raw = (pack_q4_k if qtype == Q.Q4_K else pack_q6_k)(w)
        raw = raw.reshape(w.shape[0], -1)
    elif qtype == Q.F32:
        return w
    elif qtype == Q.F16:
        return w.astype(np.float16)
    else:
        raw = gguf.quants.quantize(w, qtype)
    error = np.abs(gguf.quants.dequantize(raw, qtype) - w).mean() / np.abs(w).mean()
    assert error < 0.12, (qtype, error)
    return raw


def write_gguf(path, vocab, merges, rng):
    w = gguf.GGUFWriter(path, "llama")
    w.add_name("tiny llama of random weights")
    w.add_block_count(N_LAYERS)
    w.add_context_length(N_CTX)
    w.add_embedding_length(DIM)
    w.add_feed_forward_length(N_FF)
    w.add_head_count(N_HEADS)
    w.add_head_count_kv(N_KV)
    w.add_rope_freq_base(ROPE_BASE)
    w.add_rope_dimension_count(HEAD_DIM)
    w.add_layer_norm_rms_eps(EPS)
    w.add_vocab_size(N_VOCAB)
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre("smollm")
    w.add_token_list(vocab)
    w.add_token_types([gguf.TokenType.CONTROL if v in SPECIALS else gguf.TokenType.NORMAL for v in vocab])
    w.add_token_merges([" ".join(m) for m in merges])
    w.add_bos_token_id(1)
    w.add_eos_token_id(2)
    w.add_unk_token_id(0)
    w.add_pad_token_id(2)
    w.add_add_bos_token(False)
    w.add_add_space_prefix(False)
    w.add_chat_template(TEMPLATE)

    def normal(shape, gain):
        return (rng.standard_normal(shape) * gain / np.sqrt(shape[-1])).astype(np.float32)

    def add(name, x, qtype):
        w.add_tensor(name + ".weight", pack(x, qtype), raw_dtype=qtype)

    def norm():
        return (1 + 0.1 * rng.standard_normal(DIM)).astype(np.float32)

    original = {}
    add("token_embd", normal((N_VOCAB, DIM), np.sqrt(DIM)), Q.Q8_0)
    for layer in range(N_LAYERS):
        add(f"blk.{layer}.attn_norm", norm(), Q.F32)
        add(f"blk.{layer}.ffn_norm", norm(), Q.F32)
        for name, shape in SHAPES.items():
            x = normal(shape, GAIN[name])
            original[f"model.layers.{layer}.{gc.MODULES[name]}.weight"] = x
            if name in ("attn_q", "attn_k"):
                x = gc.permute(x, shape[0] // HEAD_DIM)
            add(f"blk.{layer}.{name}", x, TYPES[name][layer])
    add("output_norm", norm(), Q.F32)
    add("output", normal((N_VOCAB, DIM), GAIN["output"]), Q.Q6_K)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    return original


def write_adapter(folder, rng):
    folder.mkdir(exist_ok=True)
    tensors = {}
    for layer in range(N_LAYERS):
        for name, (n_out, n_in) in SHAPES.items():
            key = f"base_model.model.model.layers.{layer}.{gc.MODULES[name]}"
            # scale 2 * B A has about a quarter of the weight's own spread
            a = rng.standard_normal((RANK, n_in)) / np.sqrt(n_in)
            b = rng.standard_normal((n_out, RANK)) * 0.06
            tensors[key + ".lora_A.weight"] = a.astype(np.float16)
            tensors[key + ".lora_B.weight"] = b.astype(np.float16)
    save_file(tensors, folder / "adapter_model.safetensors")
    cfg = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": "tiny-llama", "r": RANK,
           "lora_alpha": ALPHA, "lora_dropout": 0.0, "bias": "none", "fan_in_fan_out": False, "use_rslora": False,
           "use_dora": False, "modules_to_save": None, "inference_mode": True,
           "target_modules": [m.split(".")[1] for m in gc.MODULES.values() if "norm" not in m]}
    (folder / "adapter_config.json").write_text(json.dumps(cfg, indent=1) + "\n")


def write_gates(folder, rng):
    folder.mkdir(exist_ok=True)
    tensors = {}
    for layer in range(N_LAYERS):
        key = f"model.layers.{layer}.self_attn.retention_gate."
        tensors[key + "linear1.weight"] = rng.standard_normal((N_GATE, DIM)) / np.sqrt(DIM) * 1.5
        tensors[key + "linear1.bias"] = rng.standard_normal(N_GATE) * 0.3
        tensors[key + "linear2.weight"] = rng.standard_normal((N_KV, N_GATE)) / np.sqrt(N_GATE) * 1.2
        tensors[key + "bias"] = 3 + 0.3 * rng.standard_normal(N_KV)
    save_file({k: v.astype(np.float16) for k, v in tensors.items()}, folder / "trimkv_weights.safetensors")
    cfg = {"base_model": "tiny-llama", "model_type": "llama", "hidden_act": "silu", "hidden_size": DIM,
           "num_hidden_layers": N_LAYERS, "num_key_value_heads": N_KV, "retention_gate": "rg",
           "retention_gate_intermediate_size": N_GATE, "retention_gate_bias_init": 3.0, "memory_size": 16,
           "buffer_size": 7, "compress_strategy": "alpha", "trainable_params": "retention_gate"}
    (folder / "config.json").write_text(json.dumps(cfg, indent=1) + "\n")


def gate_outputs(model, gates, ids):
    """log beta (layer, KV head, position) of the hidden states after the input norm of each layer."""
    seen = []
    hooks = [layer.input_layernorm.register_forward_hook(lambda m, i, o: seen.append(o[0]))
             for layer in model.model.layers]
    gc.logits_of(model, ids)
    for h in hooks:
        h.remove()
    out = []
    for layer, x in enumerate(seen):
        w = {k: torch.from_numpy(gates[f"model.layers.{layer}.self_attn.retention_gate.{k}"].astype(np.float32))
             for k in ("linear1.weight", "linear1.bias", "linear2.weight", "bias")}
        hidden = torch.nn.functional.silu(x @ w["linear1.weight"].T + w["linear1.bias"])
        out.append(torch.nn.functional.logsigmoid(hidden @ w["linear2.weight"].T + w["bias"]).T)
    return torch.stack(out)


def describe(model, gates, ids):
    logits = gc.logits_of(model, ids)
    n = len(ids)
    tokens, margin = gc.greedy(model, ids, 64)
    lb = gate_outputs(model, gates, ids)
    return {"rows": [{"pos": p, "logits": gc.rounded(logits[p])} for p in (0, n // 2, n - 1)],
            "greedy": tokens, "min_margin": round(margin, 5),
            "log_beta": [[gc.rounded(head, 6) for head in layer] for layer in lb]}


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--out", type=Path, required=True, help="folder")
    ap.add_argument("--seed", type=int, default=SEED)
    a = ap.parse_args()
    rng = np.random.default_rng(a.seed)
    vocab, merges = train_bpe()
    tok = make_tokenizer(vocab, merges)
    tok.save(str(a.out / "tiny-tokenizer.json"))
    path = a.out / "tiny-llama.gguf"
    original = write_gguf(path, vocab, merges, rng)
    write_adapter(a.out / "tiny-adapter", rng)
    write_gates(a.out / "tiny-gates", rng)

    hp, base = gc.read_gguf(path)
    for name, x in original.items():
        assert np.abs(base[name] - x).mean() < 0.12 * np.abs(x).mean(), f"{name} came back in another order"
    gates = load_file(a.out / "tiny-gates" / "trimkv_weights.safetensors")
    variants = {"base": gc.build_model(hp, base),
                "merged": gc.build_model(hp, gc.merge_adapter(base, a.out / "tiny-adapter"))}
    texts = []
    for text in TEXTS:
        entry = {"text": text, "ids": tok.encode(text).ids}
        tok.encode_special_tokens = True
        entry["ids_untrusted"] = tok.encode(text).ids
        tok.encode_special_tokens = False
        texts.append(entry)
    out = {"about": "Logits of transformers' Llama (fp32, eager) on tiny-llama.gguf, made by scripts/golden_tiny.py; "
                    "greedy ignores end of text and breaks ties to the lowest id; log_beta is (layer, KV head, "
                    "position); ids_untrusted: special tokens taken as plain text",
           "versions": gc.versions(), "seed": a.seed, "gguf_sha256": gc.sha256(path), "tokenizer": texts, "prompts": []}
    for name, is_chat, user in PROMPTS:
        ids = tok.encode(gc.chat(user) if is_chat else user).ids
        entry = {"name": name, "template": "smollm2" if is_chat else "none", "user": user, "ids": ids}
        for which, model in variants.items():
            e = entry[which] = describe(model, gates, ids)
            lb = np.array(e["log_beta"])
            print(f"{name:6s} {which:7s} {len(ids)} ids, margin {e['min_margin']:.4f}, "
                  f"{len(set(e['greedy']))} distinct tokens, log beta {lb.min():.4f} .. {lb.max():.4f}, "
                  f"logits std {np.std(e['rows'][-1]['logits']):.2f}")
        out["prompts"].append(entry)
    gc.write_json(a.out / "tiny-llama.json", out)


if __name__ == "__main__":
    main()
