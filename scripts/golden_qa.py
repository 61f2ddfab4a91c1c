#!/usr/bin/env python3
"""Writes tests/golden/qa: two tiny made-up files in the form of SQuAD 2.0's and HotpotQA's development files.

Every text is invented here; the forms are those of rajpurkar.github.io/SQuAD-explorer and hotpotqa.github.io.
"""
import json
import pathlib

OUT = pathlib.Path(__file__).parent.parent / "tests" / "golden" / "qa"
PLACES = ["Arlen", "Brisk", "Corvo", "Delph", "Eston", "Farne", "Gribe", "Hollt"]
GOODS = ["salt", "wool", "tin", "honey", "paper", "glass"]


def squad():
    data = []
    for a, place in enumerate(PLACES):
        paragraphs = []
        for g, good in enumerate(GOODS):
            year = 1200 + 37 * a + 11 * g
            text = (f"The {good} market of {place} opened in {year}. For many years it was held behind the old mill, "
                    f"and traders paid {a + g + 2} pence for a stall. In a dry summer the {good} of {place} was known as "
                    f"far as the coast.")
            at = text.index(str(year))
            qas = [{"question": f"When did the {good} market of {place} open?", "id": f"{a}-{g}-0",
                    "answers": [{"text": str(year), "answer_start": at}, {"text": f"in {year}", "answer_start": at - 3},
                                {"text": str(year), "answer_start": at}], "is_impossible": False}]
            if g % 2:
                qas.append({"question": f"Who owned the {good} market of {place}?", "id": f"{a}-{g}-1", "answers": [],
                            "plausible_answers": [{"text": "traders", "answer_start": 0}], "is_impossible": True})
            paragraphs.append({"qas": qas, "context": text})
        data.append({"title": place, "paragraphs": paragraphs})
    return {"version": "v2.0", "data": data}


def hotpot():
    rows = []
    for a in range(6):
        river, town = f"{PLACES[a]} River", PLACES[(a + 3) % 8]
        context = [[river, [f"The {river} rises in the hills.", f" It meets the sea at {town}."]],
                   [f"{town} Harbour", [f"{town} Harbour has {a + 4} piers.", " The oldest is made of oak."]]]
        context += [[f"{good} of {PLACES[a]}", [f"The {good} of {PLACES[a]} is sold by weight.", " It keeps well."]]
                    for good in GOODS]
        context += [["Markets", ["Markets are held on Mondays."]], ["Mills", ["Mills grind corn.", " Some saw wood."]]]
        rows.append({"_id": f"{a:024x}", "answer": f"{a + 4} piers" if a % 2 else "oak",
                     "question": f"How many piers has the harbour where the {river} ends?" if a % 2 else
                     f"Of what is the oldest pier made where the {river} ends?",
                     "supporting_facts": [[river, 1], [f"{town} Harbour", a % 2]], "context": context, "type": "bridge",
                     "level": "easy"})
    return rows


OUT.mkdir(parents=True, exist_ok=True)
(OUT / "dev-v2.0.json").write_text(json.dumps(squad(), separators=(",", ":")) + "\n")
(OUT / "hotpotqa.json").write_text(json.dumps(hotpot(), separators=(",", ":")) + "\n")
