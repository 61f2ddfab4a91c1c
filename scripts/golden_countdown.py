#!/usr/bin/env python3
"""Writes tests/golden/countdown_traces.sha256: the sha256 of every released countdown trace of LongProc.

The traces themselves (4.8 MB) are not committed; the search in datasets/countdown.c has to produce each of them byte
for byte.  One line an item: sha256 of its `demonstration` text, level, four numbers, target.

  python3 scripts/golden_countdown.py path/to/LongProc/data/countdown > tests/golden/countdown_traces.sha256
"""
import hashlib
import json
import pathlib
import sys

if len(sys.argv) != 2:
    sys.exit(__doc__)
for level in ("0.5k", "2k", "8k"):
    for item in json.loads((pathlib.Path(sys.argv[1]) / f"countdown_{level}.json").read_text()):
        digest = hashlib.sha256(item["demonstration"].encode()).hexdigest()
        print(digest, level, *item["nums"], item["target"])
