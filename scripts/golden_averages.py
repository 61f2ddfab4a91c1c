#!/usr/bin/env python3
"""Averages over items with several graded answers each, by numpy and exact fractions -> tests/golden/averages.json

pass@k as the ratio of binomial coefficients, maj@k with collections.Counter (first seen wins a tie), errors as
standard deviation of the item means and as sqrt(sum p (1 - p) / (k - 1)) / n.  Answers are numbers, 0 = none found; an
answer is right when it is 1.

    python3 scripts/golden_averages.py --out tests/golden/averages.json
"""
import argparse
import json
from collections import Counter
from fractions import Fraction
from math import comb
from pathlib import Path

import numpy as np

# items, fewest and most answers of one
SHAPES = [(1, 2, 2), (2, 2, 2), (3, 1, 4), (5, 8, 8), (30, 64, 64), (12, 1, 1), (40, 4, 9), (7, 16, 16), (200, 3, 3)]


def averages(items):
    k = min(map(len, items))
    means = [Fraction(sum(a == 1 for a in x), len(x)) for x in items]
    n = sum(map(len, items))
    out = {"n": n, "k": k, "avg": float(Fraction(sum(a == 1 for x in items for a in x), n))}
    out["se_random"] = float(np.std([float(m) for m in means], ddof=1) / np.sqrt(len(items))) if len(items) > 1 else None
    if k > 1:
        out["se_fixed"] = float(sum(m * (1 - m) / (len(x) - 1) for m, x in zip(means, items))) ** 0.5 / len(items)
    else:
        out["se_fixed"] = None
    none_right = [Fraction(comb(sum(a != 1 for a in x), k), comb(len(x), k)) for x in items]
    out["pass"] = float(sum(1 - p for p in none_right) / len(items))
    first = [Counter(a for a in x[:k] if a).most_common(1) for x in items]
    out["maj"] = sum(bool(f) and f[0][0] == 1 for f in first) / len(items)
    return out


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("--out", required=True)
    args = a.parse_args()
    r = np.random.default_rng(7)
    cases = []
    for n, low, high in SHAPES:
        items = []
        for _ in range(n):
            p = r.dirichlet([0.6, 1.5, 0.9, 0.9])
            items.append([int(x) for x in r.choice(4, int(r.integers(low, high + 1)), p=p)])
        cases.append({"items": items, **averages(items)})
    text = json.dumps({"made_by": "scripts/golden_averages.py", "numpy": np.__version__, "cases": cases},
                      separators=(",", ":"))
    Path(args.out).write_text(text.replace('{"items"', '\n{"items"') + "\n")


main()
