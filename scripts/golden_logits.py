#!/usr/bin/env python3
"""Golden logits and greedy tokens of SmolLM2-135M-Instruct, with and without an adapter
-> tests/golden/logits_smollm2.json

The reference is transformers' LlamaForCausalLM in fp32 with eager attention on the de-quantised weights of the GGUF.
Token ids come from a tokenizer.json with individual digits (transformers' own conversion of the GGUF loses the digit
split), by default the one in the adapter's folder.

    python3 scripts/golden_logits.py --gguf SmolLM2-135M-Instruct.Q4_1.gguf --adapter models/smollm2-135m-longproc \\
        --out tests/golden/logits_smollm2.json
"""
import argparse
from pathlib import Path

import torch
from tokenizers import Tokenizer

import golden_common as gc

N_GREEDY, N_TOP, N_STRIDE = 64, 64, 64

ESSAY = """The old mill stood where the river bends twice before it meets the road. Nobody in the village could say who
had built it, but everybody had an opinion on what ought to be done with it. The baker wanted flour, the teacher wanted
a library, and the children wanted it left exactly as it was, with its broken wheel and its owls. {0} For eleven winters
the council met in the back room of the inn, argued until the candles were short, and agreed only on the day of the next
meeting. Then one spring a woman arrived with a cart of tools and a letter that nobody had time to read. She mended the
roof first, because a dry floor makes every other job easier. {1} She mended the sluice next, and the wheel last, and on
the evening when it turned again the whole village walked up the hill with lanterns to hear the stones. What the letter
said was found out much later: it asked only whether anyone would mind. There is a lesson in this about asking, or about
not asking, and the people of the valley still disagree on which of the two it is. {2} The owls moved to the church."""
NEEDLES = ["The special magic number for blue-lamps is: 731904.", "The special magic number for red-cups is: 582613.",
           "The special magic number for gold-keys is: 240976."]

PROMPTS = [
    ("countdown", True, "Use all four numbers exactly once with +, -, *, / to reach the target. Search step by step, "
     "then give the solution.\nNumbers: [65, 12, 38, 12]\nTarget: 27"),
    ("needle", True, "A special magic number is hidden within the following text.\n"
     + ESSAY.replace("\n", " ").format(*NEEDLES) + "\nWhat is the special magic number for red-cups?"),
    ("arithmetic", True, "A baker fills 6 trays with 14 rolls each. He sells 57 rolls in the morning and puts 3 aside. "
     "How many rolls are left for the afternoon?"),
    ("multilingual", False, "In 1987, 3.14159 was written on the wall; by 2024 it read 2,718,281.\n\n"
     "Das M\u00e4dchen tr\u00e4gt 25 \u00c4pfel f\u00fcr 3,50 \u20ac. \u00c0 bient\u00f4t, dit-il.\t\u041c\u043e\u0441"
     "\u043a\u0432\u0430 \u0438 \u0666\u0667 \u6771\u4eac\u306f\u5927\u304d\u3044\u3002 \U0001f600 x\u00b2 + \u00bd = "
     "we'll see   def f(n):\n    return n * 2  # it's fine\nThe year after 1999 is"),
]


def describe(model, ids):
    logits = gc.logits_of(model, ids)
    n_vocab = logits.shape[1]
    n = len(ids)
    stride = torch.arange(N_STRIDE) * (n_vocab // N_STRIDE) + 5
    rows = []
    for pos in (0, n // 3, 2 * n // 3, n - 1):
        row = logits[pos]
        top = row.topk(N_TOP)
        rows.append({"pos": pos, "logsumexp": round(float(row.double().logsumexp(0)), 5),
                     "top_ids": top.indices.tolist(), "top": gc.rounded(top.values),
                     "stride_ids": stride.tolist(), "stride": gc.rounded(row[stride])})
    tokens, margin = gc.greedy(model, ids, N_GREEDY)
    return {"rows": rows, "greedy": tokens, "min_margin": round(margin, 5)}


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--gguf", required=True)
    ap.add_argument("--adapter", required=True, help="PEFT folder")
    ap.add_argument("--tokenizer", help="tokenizer.json (default: the one in the adapter's folder)")
    ap.add_argument("--out", required=True)
    a = ap.parse_args()
    tok = Tokenizer.from_file(a.tokenizer or str(Path(a.adapter) / "tokenizer.json"))
    hp, base = gc.read_gguf(a.gguf)
    models = {"base": gc.build_model(hp, base), "merged": gc.build_model(hp, gc.merge_adapter(base, a.adapter))}
    out = {"about": "fp32 logits of transformers' Llama with eager attention, made by scripts/golden_logits.py; greedy "
                    "ignores end of text and breaks ties to the lowest id; min_margin is its smallest lead",
           "versions": gc.versions(), "gguf_sha256": gc.sha256(a.gguf),
           "adapter_sha256": gc.sha256(Path(a.adapter) / "adapter_model.safetensors"), "prompts": []}
    for name, is_chat, user in PROMPTS:
        ids = tok.encode(gc.chat(user) if is_chat else user, add_special_tokens=False).ids
        entry = {"name": name, "template": "smollm2" if is_chat else "none", "user": user, "ids": ids}
        for which, model in models.items():
            entry[which] = describe(model, ids)
            entry[which]["greedy_text"] = tok.decode(entry[which]["greedy"], skip_special_tokens=False)
            print(f"{name:13s} {which:6s} {len(ids)} ids, smallest margin {entry[which]['min_margin']:.4f}: "
                  f"{entry[which]['greedy_text'][:100]!a}")
        out["prompts"].append(entry)
    gc.write_json(a.out, out)


if __name__ == "__main__":
    main()
