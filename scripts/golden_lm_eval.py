#!/usr/bin/env python3
"""Writes tests/golden/lm_eval_layout.json: the keys that lm-evaluation-harness gives its result and sample files, and
hashes and names of a few texts as it makes them.

    pip install lm-eval==0.4.13
    python3 scripts/golden_lm_eval.py
"""
import json
import pathlib

from lm_eval import result_schema as schema
from lm_eval.utils import handle_non_serializable, hash_string, sanitize_model_name

TEXTS = ["18", "", "a \"quoted\" \\ text", "line\nline\ttab\r\x0c\x08\x01\x7f", "Straße, 段落1, 𝐀, \u2028", "</script>/"]
NAMES = ["a/b", "m+a/trimkv:x=1/M256-B32/full-after-fast-cpu:avx2", "a<>:\"|?*[]b//c\\d"]


def doc(text):
    d = {"id": "0", "gold": text}
    return hash_string(json.dumps(d, indent=2, default=handle_non_serializable, ensure_ascii=False))


layout = {name: sorted(getattr(schema, name).__annotations__) for name in
          ("EvalResults", "_TaskMetrics", "_SampleCount", "_EvalConfig", "SampleResult")}
layout["docs"] = [{"gold": t, "doc_hash": doc(t), "target_hash": hash_string(t)} for t in TEXTS]
layout["names"] = [{"name": n, "sanitized": sanitize_model_name(n)} for n in NAMES]
out = pathlib.Path(__file__).resolve().parent.parent / "tests" / "golden" / "lm_eval_layout.json"
out.write_text(json.dumps(layout, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
