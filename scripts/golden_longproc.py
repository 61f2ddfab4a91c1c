#!/usr/bin/env python3
"""Writes tests/golden/longproc*.jsonl and .sha256 with LongProc's own code.

  python3 scripts/golden_longproc.py path/to/LongProc          (needs pandas, PyYAML, tqdm, g++)

longproc.jsonl: what the published evaluators say about damaged answers.  A line is {"task", "item", "edits":
[[byte, length, text], ...], "verdict": [accuracy or F1, partial accuracy, extraction rate]}: the edits, one after the
other, turn the perfect answer into the one that was judged.  longproc.sha256: what every released item is; sha256
over all prompts and references of a task, each followed by a zero byte (countdown: prompts only), task, items.
longproc_travel.jsonl: the four released trips and random ones, longproc_travel.sha256 the same sums for each of them.

Only programs of the released data and damaged forms of them are run, but without a sandbox: the evaluator has none.
"""
import argparse
import contextlib
import hashlib
import io
import json
import os
import pathlib
import random
import sys
import tempfile

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE))
import get_longproc  # noqa: E402
import golden_prompts  # noqa: E402

PIECES = ["the ", " a ", "an", ".", ",", "'", "\u2019", '"', "\t", "\t\t", "\r", "\n", "\n\n", " ", "  ", "\u00a0",
          "\u2028", "\x1c", "- ", "-", "\n- extra", "  - x", "N/A", "\u00c9", "\u0130", "\u03a3", "\u00e9a", "None", "0", "7",
          "12-19", "Day 3: Fly from Rome to Oslo.", "```", "```tsv\n", "</Plan>", "<Plan>", "<Route>", "</Route>", "</Solution>",
          "<Solving Procedure>", "# Search Procedure", "Final Answer: x", "drop this branch", "=", "\U0001f600"]


class Damage:
    """A text and the edits that made it."""

    def __init__(self, text):
        self.text, self.edits = text, []

    def edit(self, at, length, new):
        head, gone = self.text[:at], self.text[at:at + length]
        self.edits.append([len(head.encode()), len(gone.encode()), new])
        self.text = head + new + self.text[at + length:]

    def line(self, rng):
        starts = [0] + [i + 1 for i, c in enumerate(self.text) if c == "\n"]
        k = rng.randrange(len(starts))
        end = starts[k + 1] if k + 1 < len(starts) else len(self.text)
        return starts[k], end - starts[k]

    def once(self, rng):
        kind = rng.randrange(9)
        at, n = self.line(rng)
        line = self.text[at:at + n]
        if kind == 0:
            self.edit(at, n, "")
        elif kind == 1:
            self.edit(at, 0, line)
        elif kind == 2:
            to, _ = self.line(rng)
            self.edit(at, n, "")
            self.edit(min(to, len(self.text)), 0, line)
        elif kind == 3:
            self.edit(rng.randrange(len(self.text) + 1), len(self.text), "")
        elif kind == 4:
            self.edit(at, n, line.swapcase())
        elif kind == 5:
            self.edit(0, 0, rng.choice(PIECES))
        elif kind == 6:
            self.edit(len(self.text), 0, rng.choice(PIECES))
        elif kind == 7:
            self.edit(rng.randrange(len(self.text) + 1), 0, rng.choice(PIECES))
        else:
            self.edit(rng.randrange(len(self.text) + 1), 1, rng.choice("0123456789abcXYZ -=*/."))


def answer_of(task, reference):
    """The perfect answer to an item."""
    if task.startswith("html_to_tsv"):
        return f"```tsv\n{reference}\n```"
    if task.startswith("pseudo_to_code"):
        return f"```cpp\n{reference}\n```"
    if task.startswith("path_traversal"):
        return f"<Route>\n{reference}\n</Route>"
    return reference


TAGS = {"path_traversal": "Route", "countdown": "Solution", "travel_planning": "Plan"}


def verdict(task, judge, text, example):
    """None where the published evaluator fails (countdown calls eval), or where a closing tag comes before an opening
    one, which it reads as an empty answer and the project as none."""
    tag = next((t for name, t in TAGS.items() if task.startswith(name)), None)
    if tag and -1 < text.find(f"</{tag}>") < text.find(f"<{tag}>"):
        return None
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            m = judge(text, example)[0]
        except UnboundLocalError:  # html_to_tsv prints data that it could not read
            m = {"f1": 0.0, "extraction_rate": 0.0}
        except (SyntaxError, NameError, TypeError, ArithmeticError, AttributeError):
            return None
    first = m["f1"] if "f1" in m else m["accuracy"]
    return [float(first), float(m.get("partial_accuracy", 0.0)), float(m["extraction_rate"])]


def damaged(task, items, judge, wanted, rng):
    """wanted verdicts of answers with 0 to 3 edits, the same number for every item."""
    for k in range(wanted):
        i = k % len(items)
        d = Damage(answer_of(task, items[i]["reference_output"]))
        for _ in range(k // len(items) if k // len(items) < 2 else rng.choice((1, 1, 2, 3))):
            if d.text:
                d.once(rng)
        v = verdict(task, judge, d.text, items[i])
        if v:
            yield {"task": task, "item": i, "edits": d.edits, "verdict": v}


CITIES = ["Oslo", "Rome", "Lyon", "Porto", "Split", "Riga", "Vilnius", "Krakow", "Dublin", "Zurich", "Athens", "Bergen"]


def draw_trip(rng):
    """A trip with a plan: a random plan, some of its stays fixed, more flights than it needs."""
    n = rng.randrange(3, 9)
    cities, day, plan = rng.sample(CITIES, n), 1, []
    for city in cities:
        days = rng.randrange(2, 7)
        plan.append((city, days, day, day + days - 1))
        day += days - 1
    constraints = []
    for city, days, first, last in rng.sample(plan, n):
        constraints.append({"type": "duration", "city": city, "num_days": days})
        if rng.random() < 0.3:
            constraints.append({"type": "fixed", "city": city, "start_day": first, "end_day": last})
    flights = {(a[0], b[0]) for a, b in zip(plan, plan[1:])}
    flights |= {tuple(rng.sample(cities, 2)) for _ in range(rng.randrange(3 * n))}
    flights = rng.sample(sorted(flights), len(flights))
    return {"constraints": constraints, "connected_cities": [list(f) for f in flights],
            "num_cities": n, "total_days": day, "disambig_question_text": "?", "estimated_output_tokens": 0}


def solve_trip(evaluator, trip):
    """The published procedure for a trip, which gets the plan that the search finds as its expected one."""
    keep = evaluator.format_result_plan

    def note(stays):
        text = keep(stays)
        trip["ground_truth_plan"] = "\n\n" + text
        trip["ground_truth_cities"] = "**".join(s["city"] for s in stays)
        trip["ground_truth_durations"] = "**".join(str(s["num_days"]) for s in stays)
        return text

    evaluator.format_result_plan = note
    try:
        return evaluator.build_travel_plan_demonstration(trip)
    finally:
        evaluator.format_result_plan = keep


def trips(evaluator, wanted, rng):
    out = []
    while len(out) < wanted:
        trip = draw_trip(rng)
        text = solve_trip(evaluator, trip)
        if len(text) < 60000:
            out.append((trip, text))
    return out


def travel_examples(root, evaluator):
    with open(root / "data" / "travel_planning" / "travel_planning_icl_examples.json") as f:
        rows = json.load(f)
    for r in rows:
        reference = evaluator.build_travel_plan_demonstration(r)
        yield {"reference_output": reference, "item": {**r, "reference_output": reference}}


def sum_of(texts):
    return hashlib.sha256("".join(t + "\0" for t in texts).encode()).hexdigest()


def sums(data, load):
    for task in ("countdown_8k", "html_to_tsv_0.5k", "html_to_tsv_2k", "html_to_tsv_8k", "pseudo_to_code_0.5k",
                 "pseudo_to_code_2k", "tom_tracking_0.5k", "tom_tracking_2k"):
        items = load(task, data)[0]
        keys = ("input_prompt",) if task.startswith("countdown") else ("input_prompt", "reference_output")
        yield f"{sum_of(i[k] for i in items for k in keys)} {task} {len(items)}\n"


def travel_prompts(root, examples, drawn):
    """The prompt and the reference of every trip, the examples first."""
    template = golden_prompts.block(root / "data" / "travel_planning" / "prompts.yaml")
    demonstration = "\n\n".join(f"# Example\n{e['item']['disambig_question_text']}\n\n{e['reference_output']}"
                                for e in examples)
    texts = [(e["item"], e["reference_output"]) for e in examples] + drawn
    for trip, text in texts:
        prompt = template.format(demonstration=demonstration, problem=trip["disambig_question_text"])
        yield sum_of((prompt, text)) + "\n"


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("longproc", type=pathlib.Path)
    p.add_argument("--out", type=pathlib.Path, default=HERE.parent / "tests" / "golden")
    p.add_argument("--scale", type=int, default=1, help="more verdicts than the committed ones")
    args = p.parse_args()
    args.longproc, args.out = args.longproc.resolve(), args.out.resolve()
    sys.path.insert(0, str(args.longproc))
    from longproc import longproc_data, travel_planning_evaluator
    rng, lines = random.Random(20250104), []
    with tempfile.TemporaryDirectory() as scratch:
        os.chdir(scratch)  # the program evaluator leaves its files in the current folder
        for task, wanted, n in (("html_to_tsv_0.5k", 400, 100), ("tom_tracking_0.5k", 400, 100),
                                ("path_traversal_0.5k", 300, 100), ("countdown_0.5k", 300, 100),
                                ("pseudo_to_code_0.5k", 10, 5)):
            items, judge = longproc_data.load_longproc_data(task, str(args.longproc / "data"))
            lines += list(damaged(task, items[:n], judge, wanted * args.scale, rng))
        examples = list(travel_examples(args.longproc, travel_planning_evaluator))
        judge = longproc_data.eval_travel_planning
        lines += list(damaged("travel_planning", examples, judge, 300 * args.scale, rng))
    (args.out / "longproc.jsonl").write_text(get_longproc.lines(lines))
    (args.out / "longproc.sha256").write_text(
        "".join(sums(str(args.longproc / "data"), longproc_data.load_longproc_data)))
    drawn = trips(travel_planning_evaluator, 40 * args.scale, rng)
    rows = get_longproc.trips([e["item"] for e in examples] + [t for t, _ in drawn])
    (args.out / "longproc_travel.jsonl").write_text(get_longproc.lines(rows))
    (args.out / "longproc_travel.sha256").write_text("".join(travel_prompts(args.longproc, examples, drawn)))


if __name__ == "__main__":
    main()
