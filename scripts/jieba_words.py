#!/usr/bin/env python3
"""Writes the dictionary of the Python package jieba as the text file that datasets/jieba.h describes.

    jieba_words.py PACKAGE_FOLDER OUT      PACKAGE_FOLDER holds dict.txt and finalseg/ (jieba 0.42.1)

Standard library only.  With `keep`, the golden scripts write a dictionary of only the words and characters they need.
"""
import pathlib
import runpy
import sys

STATES = "BMES"
NEVER = "-3.14e100"


def load(package):
    package = pathlib.Path(package)
    words = {}
    total = 0
    for line in (package / "dict.txt").read_text(encoding="utf-8").splitlines():
        word, n = line.split(" ")[:2]
        words[word] = int(n)
        total += int(n)
    model = {name: runpy.run_path(str(package / "finalseg" / f"prob_{name}.py"))["P"]
             for name in ("start", "trans", "emit")}
    return total, words, model


def dictionary(package, keep=lambda word: True):
    total, words, model = load(package)
    trans = model["trans"]
    lines = ["# Word frequencies and hidden Markov model of jieba 0.42.1, github.com/fxsjy/jieba, MIT licence",
             f"total {total}",
             "start " + " ".join(repr(model["start"][s]) for s in STATES),
             "trans " + " ".join(repr(trans[a][b]) for a, b in ("BE", "BM", "EB", "ES", "ME", "MM", "SB", "SS"))]
    for c in sorted(set().union(*model["emit"].values())):
        if keep(c):
            lines.append(f"emit {c} " + " ".join(repr(model["emit"][s][c]) if c in model["emit"][s] else NEVER
                                                 for s in STATES))
    for word in sorted(words, key=lambda w: w.encode()):
        if keep(word):
            lines.append(f"word {word} {words[word]}")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    pathlib.Path(sys.argv[2]).write_text(dictionary(sys.argv[1]), encoding="utf-8")
