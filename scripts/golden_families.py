#!/usr/bin/env python3
"""Writes the golden files of tests/test_tokenizer_families.c with Hugging Face tokenizers, and compares at random.

    pip install tokenizers
    python3 scripts/golden_families.py [--compare build/tokenizer_pipe [--rounds 5000] [FILE.json ...]]

Written to tests/golden/, each a BPE of a few hundred merges trained on the texts of golden_tokenizer.py, in the pipeline
(normalizer, pre_tokenizer, post_processor, decoder, added tokens and their flags) of the family's published file; those
of DeepSeek were not at hand, so theirs is put together from the description of its parts:

    family-qwen3.json          NFC, the split of Qwen2, <think> and <tool_call> as tokens that are not special
    family-r1-qwen.json        the same split, an empty normalizer list, BOS by template, DeepSeek's role tokens
    family-r1-llama.json       the split of Llama 3 with ignore_merges, the rest as above
    family-phi-3.json          characters with byte fallback, Prepend and Replace, role tokens that take the blanks
                               behind them (rstrip); the pipeline of Llama 2, too
    family-phi-3-first.json    the same vocabulary with the pre_tokenizer Metaspace, first, not split: what
                               transformers 5 makes of the file
    family-metaspace.json      the same with Metaspace, always, split, and unk in place of byte fallback
    family-cases.json          per text and tokenizer: ids with special tokens parsed ("ids") and as text ("plain"),
                               and the decoded text without special tokens where it is not the text itself

With --compare nothing is written: random texts go through both sides, for the files above and those named.  They hold
characters of Unicode 14 (Python 3.11's), which PCRE2 10.42 knows; what came later is a symbol there.  Texts are
hexadecimal: they hold NUL and control bytes.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import unicodedata

import tokenizers
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from golden_tokenizer import (ASSISTANT_R1, BOS_R1, EOS_R1, GOLDEN, TEXTS, USER_R1, ids, pre_tokenizer, without_added,
                              write)

META = "\u2581"
TEXTS = TEXTS + [
    # NFC: marks to compose, to reorder and to leave, Hangul, singletons, exclusions, marks later than Unicode 9
    "e\u0301 e\u0323\u0302 e\u0302\u0323 q\u0307\u0323 a\u0315\u0300\u05ae\u0062 A\u030a\u0301 \u212b \u2126 \u00c5 o\u0328\u0304",
    "\u1112\u1161\u11ab\u1100\u1173\u11af \ud55c\u11a8 \uac00\u11a8 \u0958 \u0915\u093c \u2adc \ufb1d \u0344 \u1fef \ub2e4\u11a7\u11be",
    "a\u0315\u1dfa\u0300b x\u0898\u0301 k\u08d3\u0327 \U00011935\U00011930 \U00011131\U00011127 \U0001d15e e\u0315\U0001e2ae\u0301",
    "Vie\u0302\u0323t Nam \u05e9\u05c1\u05b8\u05dc\u05d5\u05b9\u05dd \u0627\u0644\u0644\u0651\u064e\u0647\u0650 \u0915\u094d\u0937\u093f\u0e01\u0e33\u0e19\u0e49\u0e33",
    # what role tokens take, and what Prepend does behind them
    "<|user|>\n  Hi  there<|end|>\n<|assistant|>\n",
    "<|user|> \t\u00a0\u3000\n<|end|>x<|end|> <|end|>\u200by<|assistant|>   ",
    "<s><|system|>\nBe brief.<|end|>\n<|user|>\n\n\n</s> <s> a</s>  \n b<unk>c",
    f"{META}low {META}{META} x{META} <0x0A> <0xFF> <0x41>{META}",
    f"{BOS_R1}Be brief.{USER_R1}What is 12345678 + 9?{ASSISTANT_R1}<think>\nHm.</think>\n{EOS_R1}",
    "<tool_call>\n{\"name\": \"f\"}\n</tool_call><|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\nYes. \n ",
    "\U0001f1fa\U0001f1f3\U0001f1ea\U0001f1fa \U0001f469\U0001f3fd\u200d\U0001f692 \U0001faf1\U0001f3fc\u200d\U0001faf2\U0001f3ff \u2695\ufe0e 000000000000000000123456789012345678901234567890",
]


def byte_level(pre, normalizer, added, ignore_merges=False, bos=None):
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizer(pre)
    t.decoder = decoders.ByteLevel()
    t.train_from_iterator(TEXTS, trainers.BpeTrainer(vocab_size=256 + 300, min_frequency=2, show_progress=False,
                                                     initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet())))
    d = json.loads(t.to_str())
    d["normalizer"] = normalizer
    d["model"]["ignore_merges"] = ignore_merges
    byte = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    d["post_processor"] = byte
    t = Tokenizer.from_str(json.dumps(d))
    t.add_tokens([AddedToken(s.lstrip("-"), special=not s.startswith("-"), normalized=False) for s in added])
    if bos:
        d = json.loads(t.to_str())
        d["post_processor"] = template(bos, t.token_to_id(bos))
        t = Tokenizer.from_str(json.dumps(d))
    return t


def template(bos, bos_id):
    single = [{"SpecialToken": {"id": bos, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    return {"type": "TemplateProcessing", "single": single,
            "pair": single + [{"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {bos: {"id": bos, "ids": [bos_id], "tokens": [bos]}}}


def characters():
    """Vocabulary and merges of a BPE over characters, ordered as SentencePiece does: unk, s, /s, bytes, the rest."""
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.Metaspace(replacement=META, prepend_scheme="always")
    texts = [text.replace("<", "").replace("\0", "") for text in TEXTS]  # neither "</s>" nor NUL as trained tokens
    t.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=500, min_frequency=2, show_progress=False,
                                                     limit_alphabet=120, initial_alphabet=[META, "<"]))
    d = json.loads(t.to_str())["model"]
    tokens = ["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)]
    tokens += [k for k, _ in sorted(d["vocab"].items(), key=lambda kv: kv[1])]
    runs = [META * 2, META * 4, META * 8]
    tokens += [r for r in runs if r not in tokens]
    merges = [tuple(m) for m in d["merges"]]
    merges += [m for m in [(r[:len(r) // 2],) * 2 for r in runs] if m not in merges]
    return {token: i for i, token in enumerate(tokens)}, merges


def phi_3(kind):
    vocab, merges = characters()
    fallback = kind != "metaspace"
    t = Tokenizer(models.BPE(vocab=vocab, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=fallback))
    if kind == "phi-3":
        t.normalizer = normalizers.Sequence([normalizers.Prepend(META), normalizers.Replace(" ", META)])
    else:
        scheme, split = ("first", False) if kind == "phi-3-first" else ("always", True)
        t.pre_tokenizer = pre_tokenizers.Metaspace(replacement=META, prepend_scheme=scheme, split=split)
    t.decoder = decoders.Sequence([decoders.Replace(META, " "), decoders.ByteFallback(), decoders.Fuse(),
                                   decoders.Strip(" ", 1, 0)])
    t.add_tokens([AddedToken("<unk>", special=True, normalized=False), AddedToken("<s>", special=True, normalized=False),
                  AddedToken("</s>", rstrip=True, normalized=False),
                  AddedToken("<|endoftext|>", special=True, normalized=False)])
    t.add_tokens([AddedToken(s, special=True, rstrip=True, lstrip=s == "<|left|>", normalized=False)
                  for s in ("<|assistant|>", "<|system|>", "<|end|>", "<|user|>", "<|left|>")])
    if kind == "phi-3":
        d = json.loads(t.to_str())
        d["post_processor"] = template("<s>", 1)
        t = Tokenizer.from_str(json.dumps(d))
    return t


CHATML = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "-<tool_call>", "-</tool_call>", "-<think>", "-</think>"]
R1 = [EOS_R1, "-" + USER_R1, "-" + ASSISTANT_R1, BOS_R1, "-<think>", "-</think>"]
EMPTY = {"type": "Sequence", "normalizers": []}

FAMILIES = {
    "qwen3": lambda: byte_level("qwen2", {"type": "NFC"}, CHATML),
    "r1-qwen": lambda: byte_level("qwen2", EMPTY, R1, bos=BOS_R1),
    "r1-llama": lambda: byte_level("llama-bpe", EMPTY, R1, ignore_merges=True, bos=BOS_R1),
    "phi-3": lambda: phi_3("phi-3"),
    "phi-3-first": lambda: phi_3("phi-3-first"),
    "metaspace": lambda: phi_3("metaspace"),
}


def cases(family):
    both = {name: (t, without_added(t)) for name, t in family.items()}
    out = []
    for text in TEXTS:
        case = {"hex": text.encode().hex(), "ids": {}, "plain": {}, "decoded": {}}
        for name, (t, plain) in both.items():
            case["ids"][name] = ids(t, text)
            if ids(plain, text) != case["ids"][name]:
                case["plain"][name] = ids(plain, text)
            decoded = t.decode(case["ids"][name])
            if decoded != text:
                case["decoded"][name] = decoded.encode().hex()
        out.append(case)
    return out


BLOCKS = [(0x20, 0x7E)] * 4 + [(0, 0x24F), (0x300, 0x36F), (0x370, 0x52F), (0x590, 0x6FF), (0x900, 0xDFF),
          (0xE00, 0xEFF), (0x1100, 0x11FF), (0x1AB0, 0x1AFF), (0x1DC0, 0x1FFF), (0x2000, 0x206F), (0x2100, 0x2BFF),
          (0x3000, 0x30FF), (0x4E00, 0x9FFF), (0xAC00, 0xD7A3), (0xF900, 0xFDFF), (0x1F1E6, 0x1F1FF), (0x1F300, 0x1FAFF),
          (0x11000, 0x11FFF), (0x1D100, 0x1E4FF), (0, 0xD7FF), (0xE000, 0x10FFFF)]


def random_text(r, special):
    out = []
    for _ in range(r.randrange(1, 24)):
        kind = r.random()
        if kind < 0.3:
            lo, hi = r.choice(BLOCKS)
            chars = [chr(r.randint(lo, hi)) for _ in range(r.randrange(1, 9))]
            out.append("".join(c for c in chars if unicodedata.category(c) not in ("Cn", "Cs")))
        elif kind < 0.65:
            text = r.choice(TEXTS)
            at = r.randrange(len(text) + 1)
            out.append(text[at:at + r.randrange(1, 30)])
        elif kind < 0.8 and special:
            out.append(r.choice(special))
        else:
            out.append(r.choice([" ", "  ", "\n", "\r\n", "\t", META, "0", "a\u0301", "\u0323\u0302", "\u00a0", "   "]))
    return "".join(out)


def compare(pipe, path, rounds):
    t = Tokenizer.from_file(path)
    plain = without_added(t)
    special = [a.content for a in t.get_added_tokens_decoder().values()]
    r = random.Random(os.path.basename(path))
    differences = 0
    with subprocess.Popen([pipe, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as p:
        for i in range(rounds):
            text = TEXTS[i] if i < len(TEXTS) else random_text(r, special)
            for trusted, side in ((1, t), (0, plain)):
                p.stdin.write(f"{trusted} {text.encode().hex()}\n")
                p.stdin.flush()
                answer = p.stdout.readline().rstrip("\n").split(" ")
                want = ids(side, text)
                got = [int(x) for x in answer[0].split(",") if x]
                decoded = [t.decode(want, skip_special_tokens=skip).encode().hex() for skip in (False, True)]
                if got != want or answer[1:] != decoded:
                    differences += 1
                    if differences < 4:
                        print(f"{path}, special tokens {'parsed' if trusted else 'as text'}: {ascii(text)}\n  ours   "
                              f"{got} {answer[1:]}\n  theirs {want} {decoded}")
        p.stdin.close()
    print(f"{os.path.basename(path)}: {2 * rounds} encodings, {differences} differences")
    return differences


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--compare", metavar="PROGRAM", help="the built tests/tokenizer_pipe.c")
    p.add_argument("--rounds", type=int, default=5000)
    p.add_argument("files", nargs="*", help="more tokenizer.json files to compare")
    args = p.parse_args()
    if args.compare:
        names = [f"family-{f}" for f in FAMILIES] + ["smollm2-tokenizer", "bpe-gpt-2", "bpe-llama-bpe"]
        paths = [os.path.join(GOLDEN, f"{n}.json") for n in names] + args.files
        sys.exit(any([compare(args.compare, path, args.rounds) for path in paths]))
    family = {name: make() for name, make in FAMILIES.items()}
    for name, t in family.items():
        write(f"family-{name}.json", json.loads(t.to_str()))
    write("family-cases.json", {"made_with": f"tokenizers {tokenizers.__version__}", "cases": cases(family)})


if __name__ == "__main__":
    main()
