#!/usr/bin/env python3
"""The products of a decode step beside cuBLAS on the same GPU.

Runs cuda_bench_skinny (tests/cuda) and, in this process, torch.mm, which is cuBLAS, over the same shapes: one layer of
Qwen3-4B, bf16, weights of many layers so that the L2 cache does not hold them, launches captured in a CUDA graph.
Prints one JSON object per number of rows and product: microseconds and GB/s of weights of both.  "layer" is all four
products after one another; for cuBLAS without the additions, norms and SwiGLU that trimbench's do on their way.

    python3 scripts/compare_products.py --bench build/cuda_bench_skinny > products.jsonl
"""

import argparse
import json
import subprocess
import sys

SHAPES = {"qkv": (6144, 2560), "out": (2560, 4096), "gate_up": (19456, 2560), "down": (2560, 9728)}
LAYERS = 12
REPLAYS = 5


def time_products(torch, names, rows, weights):
    """Microseconds a layer of the products `names` at `rows` rows."""
    x = {k: torch.randn(rows, SHAPES[k][1], device="cuda", dtype=torch.bfloat16) for k in names}
    out = {k: torch.empty(rows, SHAPES[k][0], device="cuda", dtype=torch.bfloat16) for k in names}

    def run():
        for layer in range(LAYERS):
            for k in names:
                torch.mm(x[k], weights[k][layer].t(), out=out[k])

    run()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    best = None
    for i in range(REPLAYS + 1):
        start.record()
        graph.replay()
        stop.record()
        torch.cuda.synchronize()
        us = start.elapsed_time(stop) * 1e3 / LAYERS
        if i and (best is None or us < best):
            best = us
    return best


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bench", required=True, metavar="PROGRAM", help="cuda_bench_skinny of a build folder")
    args = parser.parse_args()
    import torch

    done = subprocess.run([args.bench], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{args.bench}: exit code {done.returncode}: {done.stdout[-300:]}{done.stderr[-300:]}")
    weights = {
        k: [0.03 * torch.randn(m, n, device="cuda", dtype=torch.bfloat16) for _ in range(LAYERS)]
        for k, (m, n) in SHAPES.items()
    }
    gpu = torch.cuda.get_device_name()
    for line in done.stdout.splitlines():
        rows, name, us, gb_s = line.split()
        names = list(SHAPES) if name == "layer" else [name]
        size = sum(2 * SHAPES[k][0] * SHAPES[k][1] for k in names)
        cublas = time_products(torch, names, int(rows), weights)
        row = {"gpu": gpu, "rows": int(rows), "product": name, "us": float(us), "gb_s": float(gb_s)}
        row |= {"cublas_us": round(cublas, 2), "cublas_gb_s": round(size / cublas / 1e3)}
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
