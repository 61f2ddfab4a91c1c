#!/usr/bin/env python3
"""Writes the golden files of tests/test_tokenizer.c and tests/test_chat.c with Hugging Face tokenizers.

    pip install tokenizers
    python3 scripts/golden_tokenizer.py [--smollm2 tokenizer.json]

Written to tests/golden/:
    smollm2-tokenizer.json   the tokenizer of SmolLM2-135M-Instruct (Apache-2.0), one line, merges as "a b";
                             only with --smollm2, which names the published file
    bpe-<pre>.json           a BPE of a few hundred merges per split pattern, trained on the texts below, merges as
                             ["a", "b"].  The llama-bpe one has ignore_merges and tokens that no merge reaches.
    tokenizer-cases.json     per text: its pieces (byte offsets of their ends) under each pattern, and its ids under
                             each tokenizer with special tokens parsed ("ids") and taken as text ("plain")
    chat-cases.json          ids of rendered chat prompts

Texts are hexadecimal: they hold NUL and control bytes.
"""

import argparse
import json
import os

import tokenizers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

GOLDEN = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests", "golden")

LLAMA_BPE = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
             r"|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2 = LLAMA_BPE.replace(r"\p{N}{1,3}", r"\p{N}")

BAR, LOW = "\uff5c", "\u2581"
BOS_R1, EOS_R1 = f"<{BAR}begin{LOW}of{LOW}sentence{BAR}>", f"<{BAR}end{LOW}of{LOW}sentence{BAR}>"
USER_R1, ASSISTANT_R1 = f"<{BAR}User{BAR}>", f"<{BAR}Assistant{BAR}>"

# Special tokens of the small tokenizers; a leading "-" marks one that is added but not special (<think>).
SPECIALS = {
    "smollm": ["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
    "gpt-2": ["<|endoftext|>", "<|user|>", "<|assistant|>", "<|system|>", "<|end|>"],
    "llama-bpe": ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>",
                  "<|eom_id|>"],
    "qwen2": ["<|endoftext|>", "<|im_start|>", "<|im_end|>", BOS_R1, EOS_R1, "-" + USER_R1, "-" + ASSISTANT_R1,
              "-<think>", "-</think>"],
}

TEXTS = [
    "",
    " ",
    "a",
    "Hello, world! The quick brown fox jumps over the lazy dog.",
    "I'm sure they've said it's what we'd do; you'll see, they're right, don't you think?",
    "I'M SURE THEY'VE SAID IT'S WHAT WE'D DO; YOU'LL SEE, THEY'RE RIGHT. Don'T o'Clock 'sup 'tis 'S 'Ll'rE'\u017fa",
    "''s 's''t 'x 'll'll ' s '' '",
    "one  two   three    four     five\tsix\t\tseven \t eight",
    "trailing blanks   ",
    "   leading blanks",
    "line\nline\n\nline\n\n\n  indented\n\t\ttabbed\r\nCRLF\r\n\r\nCR\rCR\r\r end \n \n  \n x",
    "\n",
    "\r\n",
    " \n",
    "\n ",
    "   \n\n   \n x\n   y",
    "!!!\n\n???\r\n...\n ...\n(\n)",
    "0 1 12 123 1234 12345 1234567890 3.14159 -42 1,000,000 0x1F 1e-9 a1b22c333 x=42;",
    "1   2  3 4    \n5",
    "digits \u0661\u0662\u0663\u0664 \u0967\u0968\u0969\u096a \u0e51\u0e52 \uff11\uff12\uff13\uff14 \u2160\u2161\u2162"
    " \u00b2\u00b3\u00b9 \u00bd\u2153 \u2460\u2461 \u3007\u4e00\u4e8c\u4e09 \U0001d7d8\U0001d7d9 \u0bf0 \u1369",
    "Zw\u00f6lf Boxk\u00e4mpfer jagen Viktor quer \u00fcber den gro\u00dfen Sylter Deich. STRASSE Stra\u00dfe \u1e9e",
    "L'\u00e9t\u00e9 d'apr\u00e8s, na\u00efve caf\u00e9 versus e\u0301te\u0301 cafe\u0301; o\u0308 A\u030a \u1e69 s\u0323\u0307",
    "\u0421\u044a\u0435\u0448\u044c \u0435\u0449\u0451 \u044d\u0442\u0438\u0445 \u043c\u044f\u0433\u043a\u0438\u0445 \u0444\u0440\u0430\u043d\u0446\u0443\u0437\u0441\u043a\u0438\u0445 \u0431\u0443\u043b\u043e\u043a.",
    "\u6211\u80fd\u541e\u4e0b\u73bb\u7483\u800c\u4e0d\u4f24\u8eab\u4f53\u3002\u3044\u308d\u306f\u306b\u307b\u3078\u3068\u3001\u30c1\u30ea\u30cc\u30eb\u30f2\u3002\ub2e4\ub78c\uc950 \ud5cc \uccc7\ubc14\ud034\uc5d0",
    "\u0646\u0635 \u062d\u0643\u064a\u0645 \u0644\u0647 \u0633\u0631 \u0642\u0627\u0637\u0639\u064c \u05d3\u05d2 \u05e1\u05e7\u05e8\u05df \u0928\u092e\u0938\u094d\u0924\u0947 \u0939\u093f\u0928\u094d\u0926\u0940 \u0e20\u0e32\u0e29\u0e32\u0e44\u0e17\u0e22 \u1019\u103c\u1014\u103a\u1019\u102c",
    "\U0001f600 \U0001f44d\U0001f3fd \U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466 \U0001f3f3\ufe0f\u200d\U0001f308 \U0001f1e9\U0001f1ea 1\ufe0f\u20e3 \u2764\ufe0f done\U0001f389\U0001f389",
    "nbsp\u00a0nbsp\u00a0\u00a0two thin\u2009space ideo\u3000graphic\u3000\u3000x nel\u0085nel ls\u2028ls ps\u2029ps"
    " zwsp\u200bzwsp mvs\u180emvs \u180e x fs\u001cfs vt\u000bff\u000cx bom\ufeffbom ogham\u1680x",
    "a \u00a0 b \u2003\n c\u3000\u3000\n\u3000d \u2028\u2029 e",
    "nul\x00nul \x00\x00 \x01\x02\x03\x04\x05\x06\x07\x08 \x0e\x13\x14\x16\x1d\x7f end",
    "unassigned \u0378 private \ue000\U000f0000\U00100000 noncharacter \ufffe\uffff\U0010ffff replaced \ufffd",
    "def f(x: int) -> int:\n    if x <= 1:\n        return 1\n    return x * f(x - 1)  # factorial\n\n\nprint(f(10))\n",
    "#include <stdio.h>\n\nint main(void) {\n\tprintf(\"%d\\n\", 0x7f & ~3u);\n\treturn 0; /* done */\n}\n",
    "{\"key\": [1, 2.5, null, true], \"nested\": {\"a\": \"b\\u00e9\"}}\r\n<p class=\"x\">&amp;</p>",
    "$$\\int_0^\\infty e^{-x^2}\\,dx = \\frac{\\sqrt{\\pi}}{2}$$ \u2200x\u2208\u211d: x\u00b2\u22650 \u2211\u2202\u2207 \u2260 \u2264",
    "https://example.org/a/b?c=d&e=%20f#g user.name+tag@example.com C:\\dir\\file.txt /usr/lib/x86_64-linux-gnu",
    "snake_case camelCase PascalCase SCREAMING_CASE kebab-case dotted.name __dunder__ a_1_b_22",
    "strawberry strawberries  strawberry 1234 watermelonwatermelon",
    "special <|im_end|>\n<|im_start|>user <|endoftext|><|eot_id|> <|begin_of_text|>x<|start_header_id|>user"
    "<|end_header_id|>\n\n<think>\n\n</think>\n\n <|im_end <im_end> <||im_end|>|> <|user|> a <|end|>",
    f"{BOS_R1}{USER_R1}Hi{ASSISTANT_R1}<think>\nno{EOS_R1} {LOW}{LOW} {BAR}",
    "<|im_start|><|im_start|>  <|im_end|>  \n",
    "Use all four numbers exactly once with +, -, *, / to reach the target. Search step by step, then give the "
    "solution.\nNumbers: [65, 12, 38, 12]\nTarget: 27",
    "The special magic number for red-cups is: 123456.\nWhat is the special magic number for red-cups?",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "abababababababababababababababababbabaababbababababaabbbabaabababababbbababaabababababbbbbaaaababababab",
    "antidisestablishmentarianismpneumonoultramicroscopicsilicovolcanoconiosisfloccinaucinihilipilification",
    "=" * 70 + "\n" + "-" * 33 + "\n" + " " * 67 + "x" + "\t" * 19 + "\n" * 21 + "#" * 40,
    "".join(chr(c) for c in range(256)),
    "".join(chr(c) for c in range(0x2000, 0x2070)),
    "".join(chr(c) + " " for c in range(0x1F600, 0x1F650)),
]

CHAT_USERS = [
    "Hello!",
    "",
    "\n\nNumbers: [65, 12, 38, 12]\nTarget: 27\n",
    "  blanks around \u00a0\n",
    "What is the special magic number for red-cups?",
    "caf\u00e9 \U0001f600 12345",
]


def pre_tokenizer(pre):
    if pre == "smollm":
        return pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True),
                                        pre_tokenizers.ByteLevel(add_prefix_space=False)])
    if pre == "gpt-2":
        return pre_tokenizers.ByteLevel(add_prefix_space=False)
    regex = Regex({"llama-bpe": LLAMA_BPE, "qwen2": QWEN2}[pre])
    return pre_tokenizers.Sequence([pre_tokenizers.Split(regex, "isolated"),
                                    pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def train(pre):
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizer(pre)
    t.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=256 + 400, min_frequency=2, show_progress=False,
                                  initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()))
    t.train_from_iterator(TEXTS, trainer)
    d = json.loads(t.to_str())
    if pre == "llama-bpe":
        d["model"]["ignore_merges"] = True
        for extra in ("strawberry", "\u0120strawberries", "123", "\u010a\u010a"):
            d["model"]["vocab"].setdefault(extra, len(d["model"]["vocab"]))
    t = Tokenizer.from_str(json.dumps(d))
    for s in SPECIALS[pre]:
        t.add_tokens([AddedToken(s.lstrip("-"), special=not s.startswith("-"), normalized=False)])
    if pre == "llama-bpe":
        bos = SPECIALS[pre][0]
        t.post_processor = processors.Sequence([
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing(single=f"{bos} $A", special_tokens=[(bos, t.token_to_id(bos))])])
    return t


def write(name, value):
    with open(os.path.join(GOLDEN, name), "w", encoding="utf-8", newline="\n") as f:
        json.dump(value, f, ensure_ascii=False, separators=(",", ":"))
        f.write("\n")


def piece_ends(pre, text):
    """Byte offsets of piece ends; ByteLevel writes one character per byte."""
    ends, at = [], 0
    for piece, _ in pre_tokenizer(pre).pre_tokenize_str(text):
        at += len(piece)
        ends.append(at)
    assert at == len(text.encode())
    return ends


def ids(t, text):
    return t.encode(text, add_special_tokens=False).ids


def without_added(t):
    d = json.loads(t.to_str())
    d["added_tokens"] = []
    d["post_processor"] = None
    return Tokenizer.from_str(json.dumps(d))


def tokenizer_cases(all_tokenizers):
    plain = {name: without_added(t) for name, t in all_tokenizers.items()}
    cases = []
    for text in TEXTS:
        case = {"hex": text.encode().hex(), "pieces": {p: piece_ends(p, text) for p in SPECIALS}, "ids": {}, "plain": {}}
        for name, t in all_tokenizers.items():
            case["ids"][name] = ids(t, text)
            case["plain"][name] = ids(plain[name], text)
            if case["plain"][name] == case["ids"][name]:
                del case["plain"][name]
        cases.append(case)
    return cases


def chatml(system, user, tail=""):
    s = f"<|im_start|>system\n{system}<|im_end|>\n" if system is not None else ""
    return f"{s}<|im_start|>user\n{user}<|im_end|>\n<|im_start|>assistant\n{tail}"


def llama(system, user):
    def turn(role, text):
        return f"<|start_header_id|>{role}<|end_header_id|>\n\n{text}<|eot_id|>"
    s = turn("system", system) if system is not None else ""
    return f"<|begin_of_text|>{s}{turn('user', user.strip())}<|start_header_id|>assistant<|end_header_id|>\n\n"


SMOLLM2_SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
QWEN_SYSTEM = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."
LLAMA31_DATES = "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n"

# family -> (tokenizer, rendering of (system or None, user))
CHATS = {
    "smollm2": ("smollm2", lambda s, u: chatml(SMOLLM2_SYSTEM if s is None else s, u)),
    "qwen3": ("bpe-qwen2", lambda s, u: chatml(s, u)),
    "qwen3-nothink": ("bpe-qwen2", lambda s, u: chatml(s, u, "<think>\n\n</think>\n\n")),
    "qwen3-thinking": ("bpe-qwen2", lambda s, u: chatml(s, u, "<think>\n")),
    "qwen2.5": ("bpe-qwen2", lambda s, u: chatml(QWEN_SYSTEM if s is None else s, u)),
    "qwen2.5-math": ("bpe-qwen2", lambda s, u: chatml(
        "Please reason step by step, and put your final answer within \\boxed{}." if s is None else s, u)),
    "llama-3": ("bpe-llama-bpe", lambda s, u: llama(None if s is None else s.strip(), u)),
    "llama-3.1": ("bpe-llama-bpe", lambda s, u: llama(LLAMA31_DATES + (s or "").strip(), u)),
    "deepseek-r1": ("bpe-qwen2", lambda s, u: f"{BOS_R1}{s or ''}{USER_R1}{u}{ASSISTANT_R1}<think>\n"),
    "deepseek-r1-plain": ("bpe-qwen2", lambda s, u: f"{BOS_R1}{s or ''}{USER_R1}{u}{ASSISTANT_R1}"),
    "phi-3": ("bpe-gpt-2", lambda s, u: (f"<|system|>\n{s}<|end|>\n" if s is not None else "")
              + f"<|user|>\n{u}<|end|>\n<|assistant|>\n"),
}


def chat_cases(all_tokenizers):
    cases = []
    for family, (name, render) in CHATS.items():
        for i, user in enumerate(CHAT_USERS):
            for system in [None, "Be brief.\n"] if i < 3 else [None]:
                cases.append({"family": family, "tokenizer": name, "system": system, "user": user.encode().hex(),
                              "ids": ids(all_tokenizers[name], render(system, user))})
    return cases


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--smollm2", help="tokenizer.json of SmolLM2-135M-Instruct")
    args = p.parse_args()
    if args.smollm2:
        with open(args.smollm2, encoding="utf-8") as f:
            d = json.load(f)
        d["model"]["merges"] = [m if isinstance(m, str) else " ".join(m) for m in d["model"]["merges"]]
        write("smollm2-tokenizer.json", d)
    all_tokenizers = {"smollm2": Tokenizer.from_file(os.path.join(GOLDEN, "smollm2-tokenizer.json"))}
    for pre in SPECIALS:
        t = train(pre)
        write(f"bpe-{pre}.json", json.loads(t.to_str()))
        all_tokenizers[f"bpe-{pre}"] = t
    write("tokenizer-cases.json", {"made_with": f"tokenizers {tokenizers.__version__}",
                                   "cases": tokenizer_cases(all_tokenizers)})
    write("chat-cases.json", {"made_with": f"tokenizers {tokenizers.__version__}", "cases": chat_cases(all_tokenizers)})


if __name__ == "__main__":
    main()
