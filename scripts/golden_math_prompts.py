#!/usr/bin/env python3
"""Writes tests/golden/math_prompts.sha256 from the upstream files: the prompts of the maths tasks.

One line a task and variant, as golden_prompts.py writes them.  The examples come from a checkout of
EleutherAI/lm-evaluation-harness (4e7e0d4), the five random ones from Python's own random module.  Needs PyYAML.

  python3 scripts/golden_math_prompts.py LM_EVAL GSM8K_TEST GSM8K_TRAIN MATH500 AIME24 \\
      > tests/golden/math_prompts.sha256

The last four are the upstream JSON-lines files (scripts/make_data.py names them).
"""
import ast
import json
import pathlib
import random
import sys

import yaml

from golden_prompts import MATHS, emit


def minerva_shots(path):
    """The list that list_fewshot_samples returns, without importing its module."""
    tree = ast.parse(path.read_text())
    function = next(n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == "list_fewshot_samples")
    return ast.literal_eval(function.body[-1].value)


def yaml_shots(path, text, delimiter):
    config = yaml.safe_load(path.read_text())["fewshot_config"]["samples"]
    return "".join(text.format(s["question"]) + delimiter + s["target"] + "\n\n" for s in config)


def main():
    if len(sys.argv) != 6:
        sys.exit(__doc__)
    tasks = pathlib.Path(sys.argv[1]) / "lm_eval" / "tasks"
    test, train, math500, aime = ([json.loads(line) for line in open(p)] for p in sys.argv[2:])
    questions = [r["question"] for r in test]
    cot, llama = "Q: {}\nA:", (
        "Given the following problem, reason and give a final answer to the problem.\nProblem: {}\nYour response should"
        ' end with "The final answer is [answer]" where [answer] is the response to the problem.\n'
    )
    eight = yaml_shots(tasks / "gsm8k" / "gsm8k-cot.yaml", cot, " ")
    emit("gsm8k", "rkv", [MATHS.format(q) for q in questions])
    emit("gsm8k", "lmeval_cot", [eight + cot.format(q) for q in questions])
    emit("gsm8k", "lmeval_zeroshot", [cot.format(q) + " Let's think step by step." for q in questions])
    eight = yaml_shots(tasks / "gsm8k" / "gsm8k-cot-llama.yaml", llama, "")
    emit("gsm8k", "lmeval_llama", [eight + llama.format(q) for q in questions])
    draw, five = random.Random(1234), []
    for q in questions:
        shots = [train[i] for i in draw.sample(range(len(train)), 5)]
        text = "".join(f"Question: {s['question']}\nAnswer: {s['answer']}\n\n" for s in shots)
        five.append(text + f"Question: {q}\nAnswer:")
    emit("gsm8k_5shot", "lmeval", five)
    problems = [r["problem"] for r in math500]
    for variant in ("official", "rkv"):
        emit("math500", variant, [MATHS.format(p) for p in problems])
    minerva = "Problem:\n{}\n\nSolution:"
    four = minerva_shots(tasks / "minerva_math" / "utils.py")
    text = "".join(minerva.format(s["problem"]) + " " + s["solution"] + "\n\n" for s in four)
    emit("math500", "lmeval_minerva", [text + minerva.format(p) for p in problems])
    emit("math500", "lmeval_hendrycks", [f"Problem: {p}\nAnswer:" for p in problems])
    for variant in ("official", "rkv"):
        emit("aime24", variant, [MATHS.format(r["problem"]) for r in aime])
    emit("aime24", "lmeval", [f"Question: {r['problem']}\nAnswer:" for r in aime])


if __name__ == "__main__":
    main()
