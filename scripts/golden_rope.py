#!/usr/bin/env python3
"""Inverse frequencies and attention factors of rotary embeddings as transformers computes them.

Every case is a config.json in one of the two spellings, with the numbers for short and for full length sequences.

    python3 scripts/golden_rope.py > tests/golden/rope.json
"""
import copy
import json

from transformers import LlamaConfig, Phi3Config
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

BASE = dict(vocab_size=64, hidden_size=128, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2,
            num_key_value_heads=1, rms_norm_eps=1e-6)
LONG = dict(short_factor=[1 + 0.05 * i for i in range(32)], long_factor=[1 + 2.0 * i for i in range(32)])
CASES = [
    ("llama", 4096, dict(rope_theta=1e6)),
    ("llama", 4096, dict(rope_theta=1e4, rope_scaling=dict(type="linear", factor=3.0))),
    ("llama", 131072, dict(rope_theta=5e5, rope_scaling=dict(
        rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
        original_max_position_embeddings=8192))),
    ("llama", 131072, dict(rope_theta=5e5, rope_scaling=dict(
        rope_type="llama3", factor=32.0, low_freq_factor=1.0, high_freq_factor=4.0,
        original_max_position_embeddings=8192))),
    ("llama", 131072, dict(rope_theta=1e6, rope_scaling=dict(
        rope_type="yarn", factor=4.0, original_max_position_embeddings=32768))),
    ("llama", 131072, dict(rope_parameters=dict(
        rope_theta=1e4, rope_type="yarn", factor=32.0, original_max_position_embeddings=4096, beta_fast=24.0,
        beta_slow=2.0, truncate=False))),
    ("llama", 131072, dict(rope_parameters=dict(
        rope_theta=1e4, rope_type="yarn", factor=40.0, original_max_position_embeddings=4096, mscale=0.7,
        mscale_all_dim=1.0))),
    ("llama", 65536, dict(rope_parameters=dict(
        rope_theta=1e4, rope_type="yarn", factor=16.0, original_max_position_embeddings=4096, attention_factor=1.5))),
    ("phi3", 131072, dict(original_max_position_embeddings=4096, rope_scaling=dict(type="longrope", **LONG))),
    ("phi3", 131072, dict(original_max_position_embeddings=4096, rope_scaling=dict(
        type="su", original_max_position_embeddings=4096, **LONG))),
    ("phi3", 131072, dict(original_max_position_embeddings=4096, rope_parameters=dict(
        rope_theta=1e5, rope_type="longrope", attention_factor=1.1, **LONG))),
]


def main():
    out = []
    for kind, length, more in CASES:
        text = BASE | dict(max_position_embeddings=length, model_type=kind) | copy.deepcopy(more)
        given = {k: v for k, v in copy.deepcopy(text).items() if k != "model_type"}
        config = (LlamaConfig if kind == "llama" else Phi3Config)(**given)
        rope = config.rope_parameters["rope_type"]
        case = {"config": text, "inv": []}
        for n in (64, length):
            if rope == "default":
                inv, scale = [1 / 1e6 ** (2 * i / 64) for i in range(32)], 1.0
            else:
                inv, scale = ROPE_INIT_FUNCTIONS[rope](config, "cpu", seq_len=n)
                inv = inv.tolist()
            case["inv"].append(inv)
            case["scale"] = float(scale)
        out.append(case)
    print(json.dumps({"cases": out}, separators=(",", ":")))


if __name__ == "__main__":
    main()
