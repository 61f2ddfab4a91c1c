#!/usr/bin/env python3
"""Reads tests/golden/math_vectors.tsv and writes it to stdout with the verdicts of the reference graders made anew.

R-KV: extraction, stripping (twice for the answer) and math_equal with SymPy and latex2sympy, 3 s an answer, without the
driver's filter for multiple choice.  hendrycks, minerva: lm-evaluation-harness, strings and exact_match.  The column of
math-verify and all others are copied.  Errors and time-outs are "n".

  python3 scripts/golden_math.py path/to/R-KV path/to/lm-evaluation-harness > vectors.tsv

Needs sympy 1.12, antlr4-python3-runtime 4.11.1, word2number 1.1 and regex.
"""
import ast
import importlib.util
import pathlib
import re
import signal
import sys
import types
import warnings

VECTORS = pathlib.Path(__file__).parent.parent / "tests" / "golden" / "math_vectors.tsv"


def load(name, path):
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def stub(name, **attributes):
    module = types.ModuleType(name)
    module.__dict__.update(attributes)
    sys.modules[name] = module


def within(seconds, call):
    """call(), or False when it fails or takes too long."""
    signal.alarm(seconds)
    try:
        return bool(call())
    except BaseException as e:
        if isinstance(e, KeyboardInterrupt):
            raise
        return False
    finally:
        signal.alarm(0)


def load_rkv(root):
    stub("utils")
    stub("trajectory", extract_program_output=None, extract_program=None)
    sys.path.insert(0, str(root / "evaluation" / "latex2sympy"))
    parser = load("rkv_parser", root / "evaluation" / "parser.py")
    grader = load("rkv_grader", root / "evaluation" / "grader.py")

    def grade(gold, answer):
        pred = parser.run_execute(None, "\\boxed{" + answer + "}", "cot", "math")[0]
        return grader.math_equal(pred, parser.strip_string(gold))

    return grade


def load_minerva(root):
    import sympy
    from sympy.parsing.latex import parse_latex

    tree = ast.parse((root / "lm_eval/tasks/minerva_math/utils.py").read_text())
    names = {"normalize_final_answer", "SUBSTITUTIONS", "REMOVED_EXPRESSIONS"}
    kept = [n for n in tree.body if getattr(n, "name", None) in names
            or (isinstance(n, ast.Assign) and n.targets[0].id in names)]
    space = {"re": re}
    exec(compile(ast.Module(kept, []), "minerva", "exec"), space)
    normalise = space["normalize_final_answer"]

    def grade(gold, answer):
        return sympy.simplify(parse_latex(normalise(answer)) - parse_latex(normalise(gold))) == 0

    return grade


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    warnings.filterwarnings("ignore")
    signal.signal(signal.SIGALRM, lambda *_: (_ for _ in ()).throw(TimeoutError()))
    rkv = load_rkv(pathlib.Path(sys.argv[1]))
    stub("datasets", Dataset=object)
    harness = pathlib.Path(sys.argv[2])
    hendrycks = load("hendrycks", harness / "lm_eval/tasks/hendrycks_math/utils.py").is_equiv
    minerva = load_minerva(harness)
    for line in VECTORS.read_text().splitlines():
        if not line.startswith("#"):
            cells = line.split("\t")
            gold, answer = cells[:2]
            verdicts = (within(3, lambda: rkv(gold, answer)), within(3, lambda: hendrycks(answer, gold)),
                        within(5, lambda: minerva(gold, answer)))
            cells[2:5] = ["ny"[v] for v in verdicts]
            line = "\t".join(cells)
        print(line)


if __name__ == "__main__":
    main()
