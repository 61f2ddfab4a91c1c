#!/usr/bin/env python3
"""Makes the LongProc files under datasets/data/ from the upstream repository (standard library only).

LongProc (arXiv 2501.05414) is github.com/princeton-pli/LongProc, Apache-2.0.  Most of its data is committed here in
the form that this script writes: only what the rest follows from, and it is checked here that it does follow.  The
files that are not committed come over the network; without them their tasks say what to run:

  python3 scripts/get_longproc.py path_traversal_2k path_traversal_8k tom_tracking_8k travel_planning_2k ...
  python3 scripts/get_longproc.py --from path/to/LongProc/data all

Every upstream file must have the git object id that the pinned commit records, every committed file the sha256 below
(of a zip: that of its members, whose compressed bytes depend on the zlib at hand).  --accept prints those sums.
"""
import argparse
import hashlib
import io
import json
import pathlib
import re
import sys
import urllib.request
import zipfile

COMMIT = "78e873ae395e42625fba7942bbb92713de08b2a6"
UPSTREAM = f"https://raw.githubusercontent.com/princeton-pli/LongProc/{COMMIT}/data"
BLOBS = {  # git object ids at that commit
    "countdown/countdown_8k.json": "ff8fb702cd9b291776296ae9c7ea1170641ab7fd",
    "html_to_tsv/html_to_tsv_0.5k.json": "87f5820a9c0131b0a5c54996929453dffdc4707e",
    "html_to_tsv/html_to_tsv_2k.json": "4c69da1033b69f5a0d632ec9465c7f3a8bb447d9",
    "html_to_tsv/html_to_tsv_8k.json": "11d4c894a9170e4fe692710e35a38ce5c6a2dd1b",
    "path_traversal/path_traversal_0.5k.json": "ad247cc0909d5b23b92880724b8a605712ca58a6",
    "path_traversal/path_traversal_2k.json": "6b1961993af4131d0d8c2e35940e5a2e32eb3a8b",
    "path_traversal/path_traversal_8k.json": "4af3d0dcced07ea665ed0fb7c78ba24fa5da8599",
    "pseudo_to_code/pseudo_to_code_0.5k.json": "3e8ac0305bf308e83930fc0afa72747df29d91a0",
    "pseudo_to_code/pseudo_to_code_2k.json": "d56b9d94296970bcee8c78cfc5210467eff0095f",
    "tom_tracking/tom_tracking_0.5k.json": "8d7078dfd5f1ea2c73ed7838bd38c2788806fb7e",
    "tom_tracking/tom_tracking_2k.json": "3a3377aec881b32844e7d060dbfe0b58568db25a",
    "tom_tracking/tom_tracking_8k.json": "05e6e82c322d12ec7de381251e33637dd650e629",
    "travel_planning/travel_planning_all.json": "8e10a126a5a8b1bb727826d973c0e47fa1a2ce8b",
    "travel_planning/travel_planning_icl_examples.json": "972a9d22f1e40f3154e4dc71c4104de3328784a9",
}
OUTPUTS = {
    "countdown_8k.jsonl": "afcd0dba9d855f01b8f1df0aa82582021431ce682e3fb5715b29f24165c2dccb",
    "cities.txt": "dbe32f589dd21664d9173a50945c4dbc12e830d89e60285f6fac07d4ce820d92",
    "tom_words.jsonl": "dd2e08079bd56c2d1bd71d933ff1721e68ba12c3a28fac90734f5f14c9aff0de",
    "travel_planning_examples.jsonl": "e0e7f1b38e0ed3b676907fe3bbe752869e8cad990efeb6440cfa2062be393116",
    "tom_tracking_0.5k.jsonl": "0925b1cffc188fe6049b71b922ff6bf0d401abb65ccb7fd35630c4b52229a412",
    "tom_tracking_2k.jsonl": "36a649dd95c257a8ae1f5c5e900c5b1f5d9977c6f5e8b21888bcaf7f62b191e2",
    "pseudo_to_code_0.5k.jsonl": "89e4b0eedf7f90b90e3129f3c30d98065fdc1ef832d0bb8a8a2233602308da35",
    "pseudo_to_code_2k.jsonl": "c8d78cf91d9aaf8c9e17910799a4e37266383652f7127d3d6765f73455c80f43",
    "html_to_tsv_0.5k.zip": "9678db2df49e514c60f254207969fe87320d5a5506646750cee567d325bc093e",
    "html_to_tsv_2k.zip": "35623a275e603c53686c444d9c39627b624c69d5a0598f87ac74e350a6fcfb85",
    "html_to_tsv_8k.zip": "d59cbe4dfce36254462ee0d317a2a4159be82234023b0997790760234d55591c",
}


def upstream(args, name, blob=None):
    base = args.source if "://" in args.source else pathlib.Path(args.source).resolve().as_uri()
    try:
        with urllib.request.urlopen(f"{base}/{name}", timeout=60) as f:
            data = f.read()
    except OSError as e:
        sys.exit(f"{base}/{name}: {e}")
    got = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
    if blob is None:
        blob = BLOBS[name]
    if blob and got != blob:
        sys.exit(f"{base}/{name}: git object id is {got}, expected {blob}: not the file of commit {COMMIT}")
    return data


def rows_of(args, name):
    return json.loads(upstream(args, name).decode("utf-8"))


def check_sum(args, name, got):
    if args.accept:
        print(f'    "{name}": "{got}",')
    elif OUTPUTS.get(name, got) != got:
        sys.exit(f"{name}: sha256 would be {got}, expected {OUTPUTS[name]}")


def put(args, name, data):
    path = args.out / name
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_bytes(data)
    part.replace(path)
    print(f"wrote {path} ({len(data)} bytes)")


def write(args, name, text):
    data = text.encode("ascii")
    check_sum(args, name, hashlib.sha256(data).hexdigest())
    put(args, name, data)


def write_zip(args, name, members):
    """members: {name: bytes}, in the order of the archive."""
    digest, packed = hashlib.sha256(), io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as z:
        for member, data in members.items():
            digest.update(member.encode() + b"\0%d\0" % len(data) + data)
            z.writestr(zipfile.ZipInfo(member), data, zipfile.ZIP_DEFLATED, 9)
    check_sum(args, name, digest.hexdigest())
    put(args, name, packed.getvalue())


def lines(rows):
    return "".join(json.dumps(r, ensure_ascii=True, separators=(",", ":")) + "\n" for r in rows)


def must(condition, i, what):
    if not condition:
        sys.exit(f"item {i}: {what}")


def countdown(args, level):
    rows = rows_of(args, f"countdown/countdown_{level}.json")
    write(args, f"countdown_{level}.jsonl", lines({"nums": r["nums"], "target": r["target"]} for r in rows))


WORLD = ("In a hypothetical world, there are a number of cities. Each city has a one-way connection to only one other "
         "city via a specific transit method. The details of the cities are as follows:")


def path_traversal(args, level):
    """Keeps the connections in their order; context and route are texts that follow from them."""
    out = []
    for i, r in enumerate(rows_of(args, f"path_traversal/path_traversal_{level}.json")):
        edges = [[e["src"], e["dst"], e["transit"]] for e in r["context_repr"]]
        src, dst = r["question_repr"]
        text = [f"{a} is a lively city. You can travel from {a} to {b} by {t}." for a, b, t in edges]
        after, route, at = {a: (b, t) for a, b, t in edges}, [], src
        while at != dst and len(route) <= len(edges):
            to, by = after[at]
            route.append(f"From {at}, take a {by} to {to}.")
            at = to
        must(r["context_nl"].split("\n") == [WORLD, *text] and r["answer_nl"] == "\n".join(route)
             and len(after) == len(edges), i, "the text does not follow from the connections")
        out.append({"edges": edges, "src": src, "dst": dst})
    write(args, f"path_traversal_{level}.jsonl", lines(out))


def cities(args, _):
    """The generator's cities: every name of the released worlds."""
    worlds = rows_of(args, "path_traversal/path_traversal_0.5k.json")
    names = {e[k] for r in worlds for e in r["context_repr"] for k in ("src", "dst")}
    write(args, "cities.txt", "".join(f"{n}\n" for n in sorted(names)))


def components(row):
    out = []
    for line in row["story_components"].split("\n"):
        out.append(re.fullmatch(r"\w+: \[(.*)\]\.?", line)[1].split(", "))
    agents, objects, rooms, places = out
    bare = [[x.removeprefix("the ") for x in names] for names in (objects, rooms, places)]
    containers = [x.split("'s ", 1)[1] for x in bare[2]]
    return agents, bare[0], bare[1], containers[:len(containers) // len(rooms)]


def story_code(row, i):
    """The story as codes (datasets/tom.h), from which story and solution follow."""
    agents, objects, rooms, containers = components(row)

    def place(text):
        room, container = text.split("'s ", 1)
        return f"{rooms.index(room)}.{containers.index(container)}"

    first, *rest = row["story"].split("\n")
    start = []
    for part in first.removeprefix("Step 0: ").removesuffix(".").split("; "):
        if m := re.fullmatch(r"the (.*) is on the (.*)", part):
            must(m[1] == objects[len(start) - len(agents)], i, f"objects in another order: {part}")
            start.append(place(m[2]))
        else:
            m = re.fullmatch(r"(.*) is in the (.*)", part)
            must(m[1] == agents[len(start)], i, f"agents in another order: {part}")
            start.append(str(rooms.index(m[2])))
    steps = []
    for k, line in enumerate(rest):
        m = re.fullmatch(rf"Step {k + 1}: ({'|'.join(agents)}) (.*)\.", line)
        must(m, i, f"step {k + 1} is not understood: {line}")
        code, move = str(agents.index(m[1])), m[2]
        if move == "leaves the room he was in":
            code, move = code + "-", ""
        elif n := re.match(rf"(enters|moves to) the ({'|'.join(rooms)})(?:, and |$)", move):
            code, move = code + "+>"[n[1] != "enters"] + str(rooms.index(n[2])), move[n.end():]
        if move:
            n = re.fullmatch(r"moves the (.*?) to the (.*'s .*)", move)
            must(n, i, f"step {k + 1} is not understood: {line}")
            code += f",{objects.index(n[1])}={place(n[2])}"
        steps.append(code)
    m = re.fullmatch(r"Where does (.*) believe the (.*) is\?", row["question"])
    return {"agents": agents, "objects": objects, "rooms": rooms, "containers": containers,
            "start": " ".join(start), "steps": " ".join(steps),
            "ask": [agents.index(m[1]), objects.index(m[2])]}


def tom_tracking(args, level):
    rows = rows_of(args, f"tom_tracking/tom_tracking_{level}.json")
    write(args, f"tom_tracking_{level}.jsonl", lines(story_code(r, i) for i, r in enumerate(rows)))


def tom_words(args, _):
    """The generator's words: every one of the released stories, one kind a line."""
    kinds = [set(), set(), set(), set()]
    for level in ("0.5k", "2k"):
        for r in rows_of(args, f"tom_tracking/tom_tracking_{level}.json"):
            for kind, words in zip(kinds, components(r)):
                kind.update(words)
    names = ("agents", "objects", "rooms", "containers")
    write(args, "tom_words.jsonl", lines({"kind": n, "words": sorted(k)} for n, k in zip(names, kinds)))


def pseudo_to_code(args, level):
    """The evaluator runs the first ten tests of a program; the others are left out."""
    write(args, f"pseudo_to_code_{level}.jsonl", lines(
        {"pseudocode": "\n".join(r["pseudocode_lines"]), "code": "\n".join(r["code_lines"]),
         "tests": [["\n".join(a) + "\n", "\n".join(b) + "\n"] for a, b in r["testcases"][:10]]}
        for r in rows_of(args, f"pseudo_to_code/pseudo_to_code_{level}.json")))


def html_to_tsv(args, level):
    """One archive a level: items.jsonl and the pages, with the line ends that Python's text mode makes of them."""
    rows, pages = [], {}
    for r in rows_of(args, f"html_to_tsv/html_to_tsv_{level}.json"):
        page = r["html_path"].removeprefix("webpage/")
        if page not in pages:
            text = upstream(args, f"html_to_tsv/{r['html_path']}", "").decode("utf-8")
            pages[page] = text.replace("\r\n", "\n").replace("\r", "\n").encode("utf-8")
        rows.append({"page": page, "topic": r["task_topic"], "description": r["task_description"],
                     "filter": r["filtering_instruction"], "header": r["tsv_header"], "gold": r["gt"]})
    write_zip(args, f"html_to_tsv_{level}.zip", {"items.jsonl": lines(rows).encode(), **dict(sorted(pages.items()))})


def trips(rows):
    for i, r in enumerate(rows):
        stays = []
        for c in r["constraints"]:
            if c["type"] == "duration":
                stays.append([c["city"], c["num_days"]])
            else:
                must(stays and stays[-1][0] == c["city"] and len(stays[-1]) == 2, i,
                     f"the fixed days of {c['city']} do not follow its length")
                stays[-1] += [c["start_day"], c["end_day"]]
        cities = r["ground_truth_cities"].split("**")
        days = [int(d) for d in r["ground_truth_durations"].split("**")]
        must(r["num_cities"] == len(cities) == len(days), i, "lengths of the plan's lists differ")
        yield {"stays": stays, "flights": r["connected_cities"], "plan": [list(p) for p in zip(cities, days)],
               "problem": r["disambig_question_text"]}


def travel_planning(args, level):
    least, end = {"2k": (0, 2048), "8k": (4096, 8192)}[level]
    rows = [r for r in rows_of(args, "travel_planning/travel_planning_all.json")
            if least <= r["estimated_output_tokens"] < end]
    write(args, f"travel_planning_{level}.jsonl", lines(trips(rows)))


def travel_examples(args, _):
    rows = rows_of(args, "travel_planning/travel_planning_icl_examples.json")
    write(args, "travel_planning_examples.jsonl", lines(trips(rows)))


PARTS = {"countdown_8k": countdown, "cities": cities, "tom_words": tom_words, "travel_examples": travel_examples}
PARTS |= {f"path_traversal_{x}": path_traversal for x in ("2k", "8k")}
PARTS |= {f"tom_tracking_{x}": tom_tracking for x in ("0.5k", "2k", "8k")}
PARTS |= {f"pseudo_to_code_{x}": pseudo_to_code for x in ("0.5k", "2k")}
PARTS |= {f"html_to_tsv_{x}": html_to_tsv for x in ("0.5k", "2k", "8k")}
PARTS |= {f"travel_planning_{x}": travel_planning for x in ("2k", "8k")}


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("parts", nargs="+", choices=["all", *PARTS], metavar="PART", help="all, " + ", ".join(PARTS))
    p.add_argument("--from", dest="source", default=UPSTREAM, help="the data folder of a checkout, or its URL")
    p.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).parent.parent / "datasets" / "data")
    p.add_argument("--accept", action="store_true")
    args = p.parse_args()
    for part in PARTS if "all" in args.parts else args.parts:
        PARTS[part](args, part.rsplit("_", 1)[-1])


if __name__ == "__main__":
    main()
