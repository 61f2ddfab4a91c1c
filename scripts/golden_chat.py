#!/usr/bin/env python3
"""Writes tests/golden/chat-templates.json: prompts as transformers renders them from the published chat templates.

    pip install tokenizers transformers jinja2
    python3 scripts/golden_chat.py build/tokenizer_pipe FOLDER

FOLDER holds one file per template, the Jinja text of a model's tokenizer_config.json or chat_template.jinja, named
<family>@<organisation>__<model>.jinja; with the family "unknown" it is one that must not be recognised.  The texts are
not part of this tree: each is identified by its sha256.  That every text is recognised as its family is checked on the
way, by the built tests/tokenizer_pipe.c.
"""

import hashlib
import json
import os
import subprocess
import sys

import transformers
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from golden_tokenizer import CHAT_USERS, GOLDEN, ids, write

# family of templates: the tokenizers to use, BOS, options of apply_chat_template per family to be rendered
RENDER = {
    "smollm2": (["smollm2-tokenizer"], None, {"smollm2": {}}),
    "qwen3": (["family-qwen3"], None, {"qwen3": {}, "qwen3-nothink": {"enable_thinking": False}}),
    "qwen3-instruct": (["family-qwen3"], None, {"qwen3-instruct": {}}),
    "qwen3-thinking": (["family-qwen3"], None, {"qwen3-thinking": {}}),
    "qwen2.5": (["family-qwen3"], None, {"qwen2.5": {}}),
    "qwen2.5-math": (["family-qwen3"], None, {"qwen2.5-math": {}}),
    "llama-3": (["bpe-llama-bpe"], "<|begin_of_text|>", {"llama-3": {}}),
    "llama-3.1": (["bpe-llama-bpe"], "<|begin_of_text|>", {"llama-3.1": {"date_string": "26 Jul 2024"}}),
    "deepseek-r1": (["family-r1-qwen", "family-r1-llama"], "<\uff5cbegin\u2581of\u2581sentence\uff5c>", {"deepseek-r1": {}}),
    "deepseek-r1-plain": (["family-r1-qwen", "family-r1-llama"], "<\uff5cbegin\u2581of\u2581sentence\uff5c>",
                          {"deepseek-r1-plain": {}}),
    "phi-3": (["family-phi-3-first"], None, {"phi-3": {}}),
    "phi-3-bos": (["family-phi-3"], "<s>", {"phi-3-bos": {}}),
    "unknown": (["family-qwen3"], None, {}),
}
NO_SYSTEM = ("phi-3-bos",)


def recognised(pipe, tokenizer, jinja):
    line = f"c {jinja.encode().hex()}\n"
    return subprocess.run([pipe, os.path.join(GOLDEN, f"{tokenizer}.json")], input=line, capture_output=True, text=True,
                          check=True).stdout.strip()


def cases(tokenizer, bos, jinja, family, options):
    t = Tokenizer.from_file(os.path.join(GOLDEN, f"{tokenizer}.json"))
    renderer = PreTrainedTokenizerFast(tokenizer_object=t, chat_template=jinja, bos_token=bos)
    plain = Tokenizer.from_file(os.path.join(GOLDEN, f"{tokenizer}.json"))
    out = []
    for user in CHAT_USERS:
        for system in [None] if family in NO_SYSTEM else [None, "Be brief."]:
            turns = [{"role": "system", "content": system}] if system is not None else []
            text = renderer.apply_chat_template(turns + [{"role": "user", "content": user}], tokenize=False,
                                                add_generation_prompt=True, **options)
            out.append({"family": family, "tokenizer": tokenizer, "system": system, "user": user.encode().hex(),
                        "ids": ids(plain, text)})
    return out


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    pipe, folder = sys.argv[1:]
    templates, rendered = [], []
    for name in sorted(os.listdir(folder)):
        family, source = name.removesuffix(".jinja").split("@")
        with open(os.path.join(folder, name), encoding="utf-8", newline="") as f:
            jinja = f.read()
        tokenizers, bos, renderings = RENDER[family]
        got = recognised(pipe, tokenizers[0], jinja)
        print(f"{name}: {got}")
        assert got == family, name
        templates.append({"family": family, "source": source.replace("__", "/"),
                          "sha256": hashlib.sha256(jinja.encode()).hexdigest()})
        for tokenizer in tokenizers:
            for as_family, options in renderings.items():
                new = cases(tokenizer, bos, jinja, as_family, options)
                rendered += [c for c in new if c not in rendered]
    write("chat-templates.json", {"made_with": f"transformers {transformers.__version__}", "templates": templates,
                                  "cases": rendered})


if __name__ == "__main__":
    main()
