#!/usr/bin/env python3
"""Makes every file under datasets/data/ from its upstream file (standard library only).

The committed files are what the program and the tests read; this script exists so that anyone can see where each
byte came from and repeat it.  Inputs and outputs are checked against the sha256 sums below: an input that upstream
has changed, or an output that would differ from the committed one, is an error.

  python3 scripts/make_data.py gsm8k     path/to/grade_school_math/data/test.jsonl
  python3 scripts/make_data.py countdown path/to/LongProc/data/countdown
  python3 scripts/make_data.py path      path/to/LongProc/data/path_traversal
  python3 scripts/make_data.py math500   path/to/R-KV/data/math.jsonl
  python3 scripts/make_data.py haystack  path/to/Isaac.Newton-Opticks.txt path/to/Mark.Twain-Tom.Sawyer.txt
  python3 scripts/make_data.py words     path/to/wonderwords/assets

Not committed, made by scripts/get_data.sh below datasets/data/fetched:

  python3 scripts/make_data.py gsm8k_train path/to/grade_school_math/data/train.jsonl
  python3 scripts/make_data.py aime24      path/to/R-KV/data/aime24.jsonl

--out DIR writes elsewhere than datasets/data; --accept prints the sums instead of checking outputs.
"""
import argparse
import hashlib
import json
import pathlib
import re
import sys

INPUTS = {
    "test.jsonl": "3730d312f6e3440559ace48831e51066acaca737f6eabec99bccb9e4b3c39d14",
    "train.jsonl": "17f347dc51477c50d4efb83959dbb7c56297aba886e5544ee2aaed3024813465",
    "math.jsonl": "35dc41080a3680858b27fa7e0533d2d547825316fc5dafe5d316f4ccc5a06132",
    "aime24.jsonl": "af2b8bd2aa911b6333ad0df32f3ca05c7ae8ed10f1731f4372c8ae26990bf7ac",
    "countdown_0.5k.json": "2f0d1095158bcd87e955970cdabbff217dd1493b3e3d4a6439ffe631008965b8",
    "countdown_2k.json": "5dbc0320e3fc55ba5627b26a90f8c64a6f0bc44e350b065c6c5da620f9675a43",
    "path_traversal_0.5k.json": "8abd1e2f437b8799d697f33cddbbfdbb1eb80ebe9acbb4736bd5de5d8a28fcb7",
    "Isaac.Newton-Opticks.txt": "d4a9ac22462b35e7821a4f2706c211093da678620a8f9997989ee7cf8d507bbd",
    "Mark.Twain-Tom.Sawyer.txt": "2a17996ae0fbb92571233a11f490f92a9bceb852468acb894d70c70a1e44b770",
    "adjectivelist.txt": "66814d46b7e292c83e839d12fe2fa083c8f66779b14b294e1be4e1342c5d4131",
    "nounlist.txt": "8d88b3ebc2e2969ed92ebe49cdb0c8a87c2ad3b27493d7afdff608f2e51c5bc9",
    "profanitylist.txt": "67c668a797704ecbffdf4725ea3ee1a905a983968d2a3877b60a3971433f514e",
    "verblist.txt": "9fbf5e4e69b8869aebd88e6d545312ff9f878a747327ede5f6dbbba5c27b08ad",
}
OUTPUTS = {
    "gsm8k_test.jsonl": "d5878d0541823eb6187887214417c73000e95360427dace200380ef6d18df827",
    "math500.jsonl": "c42f61e3be0671ee6c138ebb685a3d8c988dbc40ad803bc7580bb67af4068a9a",
    "fetched/aime24.jsonl": "f57fd332a1d3bd58d5e9f57f8d0c210ce166ebdc842252362940df22975c84e8",
    "fetched/gsm8k_train.jsonl": "f3ad2def2317329dd450359f2ed538bfae6cafb1b1520b47a111dd5fa1d2f62d",
    "countdown_0.5k.jsonl": "af1b370b8411a995c15b7f7815b80c0640b3bea26f0a1a68fa80ca1ed0ea2cc6",
    "countdown_2k.jsonl": "a77581974b479ff59072b65f20e138a532be0d5ba9f41257fb0344e7636f7445",
    "path_traversal_0.5k.jsonl": "368bee4bcf2681c058badb92d41b4fcaa2b5897b8afd875c80beba4048dcd4c5",
    "haystack/opticks.txt": "41acdeb5c08f200c6dfd8de18bbc969ee9e3f3a6b65f7f44b98143f04ca41f4a",
    "haystack/sawyer.txt": "5b929edaeb619a0180d8b302771d2110efd1fafbae1cd42cd6b7ce022d057d07",
    "words/adjectives.txt": "d7f13b6ecdcd3b786327808bf159a1b45456a05f1abcdf3c71ea0f05577a8367",
    "words/nouns.txt": "0e6e3c6145dcb0638d7386461426881ff3304b84b41672415b4fc754f57fa456",
    "words/verbs.txt": "d51939cebb309325871d8aefb80d93c7d6588204521e95d0a1ffb601b6adeba9",
}
PARTS = ("gsm8k", "gsm8k_train", "math500", "aime24", "countdown", "path", "haystack", "words")


def read(path):
    data = pathlib.Path(path).read_bytes()
    name = pathlib.Path(path).name
    if name not in INPUTS:
        sys.exit(f"{path}: expected one of {', '.join(INPUTS)}")
    got = hashlib.sha256(data).hexdigest()
    if got != INPUTS[name]:
        sys.exit(f"{path}: sha256 is {got}, expected {INPUTS[name]}: not the upstream file that was used")
    return data.decode("utf-8")


def write(args, name, text):
    data = text.encode("ascii")
    got = hashlib.sha256(data).hexdigest()
    if args.accept:
        print(f"{got}  {name}")
    elif got != OUTPUTS[name]:
        sys.exit(f"{name}: sha256 would be {got}, expected {OUTPUTS[name]}")
    path = args.out / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    print(f"wrote {path} ({len(data)} bytes)")


def lines(rows):
    return "".join(json.dumps(r, ensure_ascii=True, separators=(",", ":")) + "\n" for r in rows)


def gsm8k_train(args):
    rows = [json.loads(line) for line in read(args.source[0]).splitlines()]
    write(args, "fetched/gsm8k_train.jsonl", lines([{"question": r["question"], "answer": r["answer"]} for r in rows]))


def math500(args):
    rows = [json.loads(line) for line in read(args.source[0]).splitlines()]
    write(args, "math500.jsonl", lines([{"problem": r["problem"], "gold": r["answer"]} for r in rows]))


def aime24(args):
    rows = [json.loads(line) for line in read(args.source[0]).splitlines()]
    write(args, "fetched/aime24.jsonl", lines([{"problem": r["problem"], "gold": r["answer"]} for r in rows]))


def gsm8k(args):
    rows = []
    for line in read(args.source[0]).splitlines():
        row = json.loads(line)
        gold = row["answer"].rsplit("#### ", 1)[1].replace(",", "").strip()
        rows.append({"question": row["question"], "answer": row["answer"], "gold": gold})
    write(args, "gsm8k_test.jsonl", lines(rows))


def countdown(args):
    for level in ("0.5k", "2k"):
        rows = json.loads(read(pathlib.Path(args.source[0]) / f"countdown_{level}.json"))
        write(args, f"countdown_{level}.jsonl", lines({"nums": r["nums"], "target": r["target"]} for r in rows))


def path(args):
    """Keeps the connections in their order; context and route are texts that follow from them (checked here)."""
    rows = []
    for r in json.loads(read(pathlib.Path(args.source[0]) / "path_traversal_0.5k.json")):
        edges = [[e["src"], e["dst"], e["transit"]] for e in r["context_repr"]]
        src, dst = r["question_repr"]
        text = [f"{a} is a lively city. You can travel from {a} to {b} by {t}." for a, b, t in edges]
        after = {a: (b, t) for a, b, t in edges}
        route, at = [], src
        while at != dst:
            to, by = after[at]
            route.append(f"From {at}, take a {by} to {to}.")
            at = to
        if r["context_nl"].split("\n")[1:] != text or r["answer_nl"] != "\n".join(route) or len(after) != len(edges):
            sys.exit(f"item {len(rows)}: the text does not follow from the connections")
        rows.append({"edges": edges, "src": src, "dst": dst})
    write(args, "path_traversal_0.5k.jsonl", lines(rows))


ASCII = {"\u00b4": "'", "\u00e6": "ae", "\u00c6": "Ae", "\u00d7": "x", "\u00ea": "e", "\u00b7": ".", "\u00a7": "Sect.",
         "\u00fb": "u"}


def prose(text, least_words):
    """Running text, one paragraph a line: no headings, tables, figures, and no long numbers that a needle's value
    could be mistaken for.  Filler has no need to be complete, so a paragraph with an ethnic slur is left out too."""
    out = []
    for paragraph in re.split(r"\n\s*\n", text):
        words = re.sub(r"\[Greek: ([^\]]*)\]|\[[A-Z]\]|_", r"\1", paragraph).split()
        if len(words) < least_words or not re.search(r"[a-z]", paragraph):
            continue
        if re.search(r"\||---|\[Illustration|\d{5}|nigger|Project Gutenberg|Produced by", paragraph, re.I):
            continue
        out.append(" ".join(words) + "\n")
    return "".join(ASCII.get(c, c) for c in "".join(out))


def haystack(args):
    opticks, sawyer = args.source
    text = read(opticks)
    write(args, "haystack/opticks.txt", prose(text[text.index("SIR ISAAC NEWTON'S ADVERTISEMENTS"):], 12))
    write(args, "haystack/sawyer.txt", prose(read(sawyer), 3))


def words(args):
    """The lists RULER draws its words from, without what the package itself lists as profanity, in ASCII."""
    source = pathlib.Path(args.source[0])
    left_out = {w.strip().lower() for w in read(source / "profanitylist.txt").splitlines()}
    for kind in ("adjective", "noun", "verb"):
        kept = {w.strip() for w in read(source / f"{kind}list.txt").splitlines() if w.isascii()}
        write(args, f"words/{kind}s.txt", "".join(w + "\n" for w in sorted(kept) if w and w.lower() not in left_out))


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("part", choices=PARTS)
    p.add_argument("source", nargs="+")
    p.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).parent.parent / "datasets" / "data")
    p.add_argument("--accept", action="store_true")
    args = p.parse_args()
    if len(args.source) != (2 if args.part == "haystack" else 1):
        p.error(f"{args.part} takes {'two files' if args.part == 'haystack' else 'one path'}")
    makers = {"gsm8k": gsm8k, "gsm8k_train": gsm8k_train, "math500": math500, "aime24": aime24,
              "countdown": countdown, "path": path, "haystack": haystack, "words": words}
    makers[args.part](args)


if __name__ == "__main__":
    main()
