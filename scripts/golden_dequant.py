#!/usr/bin/env python3
"""Writes tests/golden/dequant.txt: random weight blocks of every type and what the gguf package makes of them.

    pip install gguf numpy
    python3 scripts/golden_dequant.py > tests/golden/dequant.txt

One line per type: name, number of elements, the raw bytes in hex, the fp32 results as little-endian hex.  Scales
are random halves, finite, with zeros, subnormals and both signs among them; all other bytes are uniform.
"""
import numpy as np
from gguf import GGMLQuantizationType as T
from gguf import quants

BLOCKS = 6
# type -> (elements and bytes per block, offsets of its halves)
TYPES = {
    "F32": (1, 4, []),
    "F16": (1, 2, [0]),
    "BF16": (1, 2, []),
    "Q8_0": (32, 34, [0]),
    "Q4_0": (32, 18, [0]),
    "Q4_1": (32, 20, [0, 2]),
    "Q4_K": (256, 144, [0, 2]),
    "Q6_K": (256, 210, [208]),
}


def random_halves(rng, n):
    h = rng.integers(0, 0x7C00, n, dtype=np.uint16)  # finite
    h[::5] &= 0x83FF  # subnormal
    if n > 7:
        h[7] = 0
    return h | (rng.integers(0, 2, n, dtype=np.uint16) << 15)


def main():
    rng = np.random.default_rng(20260101)
    for name, (per_block, n_bytes, halves) in TYPES.items():
        n = BLOCKS if per_block > 1 else 64
        raw = rng.integers(0, 256, (n, n_bytes), dtype=np.uint8)
        for at in halves:
            raw[:, at : at + 2] = random_halves(rng, n).view(np.uint8).reshape(n, 2)
        if name == "F32":
            raw[:, 3] &= 0xBF  # no infinity, no NaN
        if name == "BF16":
            raw[:, 1] &= 0xBF
        data = raw.reshape(-1)
        if name == "F32":
            out = data.view(np.float32)
        else:
            out = quants.dequantize(data, T[name]).reshape(-1)
        assert out.dtype == np.float32 and np.isfinite(out).all() and out.size == n * per_block
        print(name, out.size, data.tobytes().hex(), out.astype("<f4").tobytes().hex())


if __name__ == "__main__":
    main()
