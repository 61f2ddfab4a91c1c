#!/usr/bin/env python3
"""Writes the tables of README.md from the committed results, or checks that they are up to date.

    scripts/update_readme.py            rewrite the blocks between <!-- table:NAME --> and <!-- end -->
    scripts/update_readme.py --check    exit 1 and show the difference when a block is stale

Standard library only.  Sources: results/accuracy/{cells.jsonl,expected.tsv}, results/cuda-accuracy/cells.jsonl,
results/cuda-speed/*.jsonl, results/quickstart/cells.jsonl, and the logs named in LOGS."""
import difflib
import json
import math
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOGS = {"speed": "results/cpu-speed/compare.log"}


def cells(path):
    with open(ROOT / path) as f:
        return [json.loads(line) for line in f if line.startswith("{")]


def share(value):
    return f"{value:.3f}"


def size(n):
    return f"{n / 1048576:.2f} MiB"


def base(name):
    """Task without its parameters."""
    return name.split(":")[0]


def expected():
    rows = {}
    for line in (ROOT / "results/accuracy/expected.tsv").read_text().splitlines():
        if line.startswith("#") or line.startswith("task\t"):
            continue
        task, policy, budget, accuracy = line.split("\t")
        rows[task, policy, int(budget)] = None if accuracy == "-" else float(accuracy)
    return rows


def agrees(a, b, n):
    """|p1 - p2| <= 3 sqrt(2 p (1 - p) / n) + 1 / n with p the pooled share."""
    p = (a + b) / 2
    return abs(a - b) <= 3 * math.sqrt(2 * p * (1 - p) / n) + 1 / n


def paper_table():
    out = ["| policy | context | batch | published tok/s (one H200) | tok/s here (one H100) | ratio | "
           "share of the copy bandwidth |", "|---|---|---|---|---|---|---|"]
    for c in cells("results/cuda-speed/table5.jsonl"):
        here = ["-"] * 3 if c["status"] != "done" else [
            f"{c['measured']:.0f}", f"{c['ratio']:.1f}", f"{100 * c['share']:.1f}%"]
        out.append(f"| {c['policy']} | {c['ctx']} | {c['batch']} | {c['published']} | {' | '.join(here)} |")
    return out


def gpu_speed_table():
    out = ["| model | policy | context | batch | live slots | ms a step | tok/s | GB/s | share of the copy bandwidth |",
           "|---|---|---|---|---|---|---|---|---|"]
    for name in ("short", "wide", "policy"):
        for c in cells(f"results/cuda-speed/{name}.jsonl"):
            out.append(f"| {c['model'].removeprefix('synth:')} | {c['policy']} | {c['ctx']} | {c['batch']} | "
                       f"{c['mean_slots']:.0f} | {c['ms_per_step']:.3f} | {c['decode_tok_s']:.0f} | {c['gb_s']:.0f} | "
                       f"{100 * c['copy_share']:.1f}% |")
    return out


def products_table():
    """A column for each number of rows: microseconds of the four products of a layer, ours and those of cuBLAS."""
    layers = [c for c in cells("results/cuda-speed/products.jsonl") if c["product"] == "layer"]
    columns = [["rows", "trimbench", "cuBLAS"]] + [
        [str(c["rows"]), f"{c['us']:.1f}", f"{c['cublas_us']:.1f}"] for c in layers]
    lines = ["| " + " | ".join(row) + " |" for row in zip(*columns)]
    return [lines[0], "|---" * len(columns) + "|", *lines[1:]]


def accuracy_table(source="accuracy"):
    want = expected()
    out = ["| task | query | policy | M | n | accuracy | partial | reference | agrees | peak slots | peak KV |",
           "|---|---|---|---|---|---|---|---|---|---|---|"]
    for c in cells(f"results/{source}/cells.jsonl"):
        ref = want.get((base(c["task"]), c["policy"], c["budget"]))
        verdict = "" if ref is None else "yes" if agrees(c["accuracy"], ref, c["n"]) else "**no**"
        out.append(f"| {base(c['task'])} | {c['query']} | {c['policy']} | {c['budget'] or '-'} | {c['n']} | "
                   f"{share(c['accuracy'])} ± {share(c['stderr'])} | {share(c['partial'])} | {'-' if ref is None else share(ref)} | {verdict} | "
                   f"{c['peak_slots']:.0f} | {size(c['kv_bytes_peak'])} |")
    return out


def quickstart_table():
    out = ["| task | query | policy | M | n | accuracy | mean slots | peak slots | peak KV |",
           "|---|---|---|---|---|---|---|---|---|"]
    for c in cells("results/quickstart/cells.jsonl"):
        out.append(f"| {base(c['task'])} | {c['query']} | {c['policy']} | {c['budget'] or '-'} | {c['n']} | "
                   f"{share(c['accuracy'])} ± {share(c['stderr'])} | {c['mean_slots']:.0f} | {c['peak_slots']:.0f} | {size(c['kv_bytes_peak'])} |")
    return out


def log_block(name):
    return ["```", *(ROOT / LOGS[name]).read_text().rstrip("\n").split("\n"), "```"]


BLOCKS = {"accuracy": accuracy_table, "gpu_accuracy": lambda: accuracy_table("cuda-accuracy"),
          "gpu_speed": gpu_speed_table, "paper": paper_table, "products": products_table,
          "quickstart": quickstart_table, "speed": lambda: log_block("speed")}


def render(text):
    def block(m):
        name = m.group(1)
        if name not in BLOCKS:
            sys.exit(f"update_readme: README.md has a block '{name}' that nothing writes")
        return f"<!-- table:{name} -->\n" + "\n".join(BLOCKS[name]()) + "\n<!-- end -->"

    out, n = re.subn(r"<!-- table:(\w+) -->\n.*?<!-- end -->", block, text, flags=re.S)
    if n != len(BLOCKS):
        sys.exit(f"update_readme: README.md has {n} of {len(BLOCKS)} blocks")
    return out


def main():
    path = ROOT / "README.md"
    old = path.read_text()
    new = render(old)
    if sys.argv[1:] == ["--check"]:
        if old != new:
            sys.stderr.writelines(difflib.unified_diff(old.splitlines(True), new.splitlines(True), "README.md",
                                                       "from the results"))
            sys.exit("update_readme: README.md is stale: run scripts/update_readme.py")
        print("README.md: every table is that of the committed results")
    elif sys.argv[1:]:
        sys.exit(__doc__)
    else:
        path.write_text(new)


main()
