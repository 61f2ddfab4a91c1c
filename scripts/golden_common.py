"""What the golden_*.py scripts share: reading a llama-architecture GGUF into Hugging Face tensors, merging a PEFT
LoRA adapter, the reference model of transformers, and greedy decoding with its margins.

Everything is fp32.  A GGUF of the llama architecture stores the rows of attn_q and attn_k interleaved per head (rotary
pairs next to each other); transformers wants rotate-half order, so those two are un-permuted here.
"""
import hashlib
import json
import platform
from importlib.metadata import version
from pathlib import Path

import gguf
import numpy as np
import torch
import transformers
from safetensors.numpy import load_file
from transformers import LlamaConfig, LlamaForCausalLM

SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
MODULES = {
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj", "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
}


def permute(w, n_heads):
    """Hugging Face (rotate-half) rows -> interleaved rows, as llama.cpp's converter does."""
    return w.reshape(n_heads, 2, w.shape[0] // n_heads // 2, -1).swapaxes(1, 2).reshape(w.shape)


def unpermute(w, n_heads):
    return w.reshape(n_heads, w.shape[0] // n_heads // 2, 2, -1).swapaxes(1, 2).reshape(w.shape)


def chat(user):
    """The chat template of SmolLM2-Instruct: default system message, one user turn, ready to generate."""
    return (f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\n{user}<|im_end|>\n<|im_start|>assistant\n")


def read_gguf(path):
    """-> (hyperparameters, {Hugging Face name: fp32 array})."""
    r = gguf.GGUFReader(path)

    def get(key):
        return r.fields["llama." + key].contents()

    hp = {
        "n_layers": get("block_count"), "dim": get("embedding_length"), "n_ff": get("feed_forward_length"),
        "n_heads": get("attention.head_count"), "n_kv_heads": get("attention.head_count_kv"),
        "n_ctx": get("context_length"), "rope_base": get("rope.freq_base"),
        "eps": get("attention.layer_norm_rms_epsilon"),
    }
    out = {}
    for t in r.tensors:
        # np.array: a copy, since F32 tensors come back as views of the read-only mapping
        w = np.array(gguf.quants.dequantize(t.data, t.tensor_type), dtype=np.float32)
        parts = t.name.split(".")
        if parts[0] == "blk":
            if parts[2] in ("attn_q", "attn_k"):
                w = unpermute(w, hp["n_heads"] if parts[2] == "attn_q" else hp["n_kv_heads"])
            name = f"model.layers.{parts[1]}.{MODULES[parts[2]]}.weight"
        else:
            name = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}[parts[0]]
            name += ".weight"
        out[name] = w
    hp["n_vocab"] = out["model.embed_tokens.weight"].shape[0]
    hp["tied"] = "lm_head.weight" not in out
    return hp, out


def merge_adapter(tensors, folder):
    """W += alpha / r * B A in fp32; returns a new dictionary."""
    cfg = json.loads((Path(folder) / "adapter_config.json").read_text())
    lora = load_file(Path(folder) / "adapter_model.safetensors")
    scale = np.float32(cfg["lora_alpha"] / cfg["r"])
    out, used = dict(tensors), 0
    for name in tensors:
        key = "base_model.model." + name.removesuffix(".weight")
        if key + ".lora_A.weight" in lora:
            a, b = (lora[f"{key}.lora_{x}.weight"].astype(np.float32) for x in "AB")
            out[name] = tensors[name] + scale * (b @ a)
            used += 2
    assert used == len(lora), f"{len(lora) - used} adapter tensors match no weight"
    return out


def build_model(hp, tensors):
    cfg = LlamaConfig(
        vocab_size=hp["n_vocab"], hidden_size=hp["dim"], intermediate_size=hp["n_ff"],
        num_hidden_layers=hp["n_layers"], num_attention_heads=hp["n_heads"], num_key_value_heads=hp["n_kv_heads"],
        max_position_embeddings=hp["n_ctx"], rms_norm_eps=hp["eps"], hidden_act="silu",
        tie_word_embeddings=hp["tied"], rope_parameters={"rope_type": "default", "rope_theta": hp["rope_base"]},
        attn_implementation="eager", dtype=torch.float32)
    model = LlamaForCausalLM(cfg).eval()
    missing, unexpected = model.load_state_dict({k: torch.from_numpy(v) for k, v in tensors.items()}, strict=False)
    assert not unexpected and set(missing) <= ({"lm_head.weight"} if hp["tied"] else set()), (missing, unexpected)
    model.tie_weights()
    d = hp["dim"] // hp["n_heads"]
    want = hp["rope_base"] ** (-torch.arange(0, d, 2, dtype=torch.float64) / d)
    assert torch.allclose(model.model.rotary_emb.inv_freq.double(), want, rtol=1e-5)
    assert next(model.parameters()).dtype == torch.float32
    return model


@torch.no_grad()
def logits_of(model, ids):
    return model(torch.tensor([ids])).logits[0]


@torch.no_grad()
def greedy(model, ids, n):
    """n greedy tokens, end of text ignored, ties to the lowest id.  Decodes with the cache, then checks the result
    and takes the smallest gap between first and second place from one forward over the whole text."""
    past, step, out = None, ids, []
    for _ in range(n):
        r = model(torch.tensor([step]), past_key_values=past, use_cache=True)
        past = r.past_key_values
        out.append(int(np.argmax(r.logits[0, -1].numpy())))
        step = out[-1:]
    rows = logits_of(model, ids + out[:-1])[len(ids) - 1:]
    assert [int(np.argmax(x.numpy())) for x in rows] == out, "cached and uncached decoding differ: a near tie"
    top = rows.topk(2).values
    return out, float((top[:, 0] - top[:, 1]).min())


def rounded(x, digits=5):
    return [round(float(v), digits) for v in x]


def sha256(path):
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def versions():
    return {"python": platform.python_version(), "torch": torch.__version__, "transformers": transformers.__version__,
            "gguf": version("gguf"), "numpy": np.__version__}


def write_json(path, value):
    """Compact, but with a line break after every prompt-sized piece so that diffs stay readable."""
    def dump(v, depth):
        if isinstance(v, dict) and depth < 4:
            return "{" + ",\n".join(f"{json.dumps(k)}:{dump(x, depth + 1)}" for k, x in v.items()) + "}"
        if isinstance(v, list) and v and isinstance(v[0], (dict, list)) and depth < 6:
            return "[" + ",\n".join(dump(x, depth + 1) for x in v) + "]"
        return json.dumps(v, separators=(",", ":"))
    Path(path).write_text(dump(value, 0) + "\n")
