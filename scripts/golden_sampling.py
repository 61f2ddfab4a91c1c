#!/usr/bin/env python3
"""What transformers leaves of a row of logits, and with which probabilities -> tests/golden/sampling.json

The logits warpers of transformers, in the order in which its generation puts them (checked in its source), in fp64 over
rows of fp32: random ones, ties, a flat one, far-apart ones.  A case lists the tokens left with a probability of at
least 1e-11, likeliest first, the lower id first among equals.

    python3 scripts/golden_sampling.py --out tests/golden/sampling.json
"""
import argparse
import inspect
import json
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from transformers.generation import GenerationMixin
from transformers.generation.logits_process import (MinPLogitsWarper, TemperatureLogitsWarper, TopKLogitsWarper,
                                                    TopPLogitsWarper)

LEAST = 1e-11
WARPERS = [TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper, MinPLogitsWarper]

# temperature, top_k, top_p, min_p; 0, 1 and 0 are off
CASES = [(1, 0, 1, 0), (0.6, 20, 0.95, 0), (0.7, 20, 0.8, 0), (0.6, 0, 0.95, 0), (1.5, 5, 1, 0), (1, 1, 1, 0),
         (1, 0, 0.5, 0), (1, 0, 0.01, 0), (1, 0, 1, 0.1), (2, 0, 0.9, 0.2), (1, 7, 0.7, 0.3), (1, 10000, 1, 1),
         (0.01, 0, 0.99, 0.01), (100, 12, 0.6, 0), (1, 3, 0.9, 0)]


def make_rows():
    r = np.random.default_rng(20240607)
    rows = [r.normal(0, 3, 48), r.normal(0, 1, 120), np.round(r.normal(0, 2, 60)), np.round(r.normal(0, 1, 37)),
            np.full(16, -2.5), np.where(np.arange(20) == 7, 30, r.normal(0, 1, 20)), r.normal(0, 1e4, 24),
            r.normal(0, 1e-6, 12), np.array([3e38, -3e38, 3e38, 1.0]), np.array([0.0, -0.0, 1.0]), np.array([-5.0])]
    return [x.astype(np.float32) for x in rows]


def left(row, temperature, top_k, top_p, min_p):
    chain = [TemperatureLogitsWarper(float(temperature))]
    if top_k:
        chain.append(TopKLogitsWarper(top_k))
    if top_p < 1:
        chain.append(TopPLogitsWarper(float(np.float32(top_p))))
    if min_p:
        chain.append(MinPLogitsWarper(float(np.float32(min_p))))
    scores = torch.from_numpy(row.astype(np.float64))[None]
    for warper in chain:
        scores = warper(None, scores)
    p = scores.softmax(-1)[0].numpy()
    order = sorted((i for i in range(len(p)) if p[i] >= LEAST), key=lambda i: (-p[i], i))
    return order, [float(p[i]) for i in order]


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("--out", required=True)
    args = a.parse_args()
    source = inspect.getsource(GenerationMixin._get_logits_processor)
    places = [source.index(w.__name__ + "(") for w in WARPERS]
    if places != sorted(places):
        raise SystemExit("this transformers applies its warpers in another order")
    rows = make_rows()
    out = {"made_by": "scripts/golden_sampling.py", "transformers": version("transformers"),
           "torch": version("torch"), "least": LEAST, "rows": [[float(f"{x:.9g}") for x in row] for row in rows],
           "cases": []}
    for i, row in enumerate(rows):
        for t, k, p, m in CASES:
            # the temperature as the C code has it: fp32
            ids, probs = left(row, np.float32(t), k, p, m)
            out["cases"].append({"row": i, "temperature": t, "top_k": k, "top_p": p, "min_p": m, "ids": ids,
                                 "probs": [float(f"{x:.12g}") for x in probs]})
    text = json.dumps(out, separators=(",", ":")).replace('{"row"', '\n{"row"').replace("[[", "[\n[").replace("],[", "],\n[")
    Path(args.out).write_text(text + "\n")


main()
