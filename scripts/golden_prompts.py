#!/usr/bin/env python3
"""Writes tests/golden/prompts.sha256 from the upstream files: the prompts that the .task files must render to.

One line a task and variant: sha256 over all its prompts in order, each followed by a zero byte; task; variant; number
of items.  LongProc's prompt comes from its own prompts.yaml; the countdown one is checked without its worked examples
(tests/test_countdown.c checks those).  Standard library only.

  python3 scripts/golden_prompts.py path/to/LongProc/data path/to/gsm8k/test.jsonl > tests/golden/prompts.sha256
"""
import hashlib
import json
import pathlib
import sys

MATHS = (
    "You are given a math problem.\n\nProblem: {}\n\n You need to solve the problem step by step. First, you need to"
    " provide the chain-of-thought, then provide the final answer.\n\n Provide the final answer in the format: Final"
    " answer:  \\boxed{{}}"
)
COUNTDOWN = (
    "Use all four numbers exactly once with +, -, *, / to reach the target. Search step by step, then give the"
    " solution.\nNumbers: {nums}\nTarget: {target}"
)


def block(path):
    """The text of `USER_PROMPT: |-`."""
    lines = path.read_text().rstrip("\n").split("\n")
    assert lines[0] == "USER_PROMPT: |-", path
    return "\n".join(line[2:] for line in lines[1:])


def emit(task, variant, prompts):
    digest = hashlib.sha256("".join(p + "\0" for p in prompts).encode()).hexdigest()
    print(digest, task, variant, len(prompts))


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    longproc = pathlib.Path(sys.argv[1])
    for level in ("0.5k", "2k"):
        name = f"countdown_{level}"
        items = json.loads((longproc / "countdown" / f"{name}.json").read_text())
        template = block(longproc / "countdown" / "prompts.yaml")
        slots = [{"nums": i["nums"], "target": i["target"]} for i in items]
        emit(name, "official", [template.format(demonstration="", **s) for s in slots])
        emit(name, "short", [COUNTDOWN.format(**s) for s in slots])
    items = json.loads((longproc / "path_traversal" / "path_traversal_0.5k.json").read_text())
    template = block(longproc / "path_traversal" / "prompts.yaml")
    full, short = [], []
    for i in items:
        src, dst = i["question_repr"]
        cities = i["context_nl"].split("\n", 1)[1]
        full.append(template.format(city_context=i["context_nl"], src_city=src, dst_city=dst))
        short.append(
            f"Each city has a one-way connection to one other city.\n{cities}\nFind the route from {src} to {dst}."
        )
    emit("path_traversal_0.5k", "official", full)
    emit("path_traversal_0.5k", "short", short)
    questions = [json.loads(line)["question"] for line in open(sys.argv[2])]
    emit("gsm8k", "official", [MATHS.format(q) for q in questions])
    emit("gsm8k", "short", questions)


if __name__ == "__main__":
    main()
