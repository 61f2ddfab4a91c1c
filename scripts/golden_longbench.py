#!/usr/bin/env python3
"""Writes tests/golden/longbench_metrics.jsonl and tests/golden/longbench_words.txt: LongBench's published metrics
(metrics.py of github.com/THUDM/LongBench at 2e00731, not part of this project) on texts made here.

    pip install rouge==1.0.1 fuzzywuzzy==0.18.0 python-Levenshtein==0.27.5 jieba==0.42.1
    python3 scripts/golden_longbench.py LONGBENCH_FOLDER      the folder that holds metrics.py

A line is one output with its answers: `score` without Python's limit on recursion and with difflib, `compat` as
published, `partial` with python-Levenshtein.  Lines of metric "cut" hold jieba's words of a text.  The dictionary
(longbench_words.txt) is jieba's, reduced to the words and characters of these texts.
"""
import difflib
import json
import pathlib
import random
import sys

from jieba_words import dictionary

ROOT = pathlib.Path(__file__).resolve().parent.parent
OUT = ROOT / "tests" / "golden"
R = random.Random(20230828)

ENGLISH = """The quick brown fox jumps over the lazy dog. A storm at sea is an old story, an hour long. In 1987 the
committee met twice; it adopted three of the seven proposals. No one had read them. Prices rose by 3.5% in May, and by
4.25% in June. U.S. exports fell. The theatre, an annex and a garden were sold to the city. Who wrote it? Nobody knows!
She said: "I can't, I won't, and I shan't." He didn't answer... The end-of-year report (2019) is here. unanswerable yes
no Yes. Émile Zola, Søren Kierkegaard and ΟΔΥΣΣΕΥΣ met İstanbul's mayor in the STRASSE; ÀÉÎ. naïve co-operate a.m.
the the a an A An THE theirs another tháe the_a Ο ΣΑΣ ΑΣ' ΑΣ. ΣΣ’Σ ᾼ ǅ Ω Å ﬁ x̀the ́a a\u00a0the\u2003an\u3000b\x1fc\x85d
don’t “the” ‘a’ —an— ½ ² ٣ Ⅳ ⅳ 𝐀 𐐀 𐐨 中 the中 中the ẞ ß ſ K Ω""".split()

CHINESE = """人工智能正在改变我们的生活。北京大学的研究人员于2023年发表了一篇论文，讨论长文本理解的难点。
全国人民代表大会常务委员会在人民大会堂举行会议；会议由委员长主持。他来到了网易杭研大厦。小明硕士毕业于中国科学院计算所。
南京市长江大桥于1968年12月29日全线通车！乒乓球拍卖完了。研究生命的起源，下雨天留客天留我不留。
苹果公司发布了iPhone 15 Pro，售价为8999.00元，比去年上涨3.5%。请问：《红楼梦》的作者是谁？答案是“曹雪芹”。
我在 https://example.com/a_b-c 上看到了C++和C#的教程…… Python3.11比3.10快25%。ＡＢＣ１２３，全角字符。
张三、李四和王五去了乌鲁木齐，阿依古丽没有去。臺灣的繁體字也要測試，「引號」和『雙引號』。
段落1 段落27：首先，我们认为这个问题很重要；其次，时间不够了。不知道 无法回答 是的 不是
龘靐齉爩鱻麤灪 丂丄 么么哒 萌萌哒 给力 打酱油 囧 犇骉 一二三四五六七八九十 百分之二十 第三十四届 2008年8月8日晚8时
工信处女干事每月经过下属科室都要亲口交代24口交换机等技术性器件的安装工作 1.5.2 .5 5. 50% %50 a.5 a1.5% --- #1 &""".split()

CODE = """int main(void) {
    return 0;
}
def f(x, y=None):
    return x + y  # sum
for (size_t i = 0; i < n; i++) sum += a[i] * b[i];
// a comment
        self.assertEqual(result.returncode, 0, result.stderr)
    public static void main(String[] args) throws IOException {
```python
import numpy as np
if err != nil { return nil, fmt.Errorf("open %s: %w", path, err) }
	private readonly Dictionary<string, List<int>> map = new Dictionary<string, List<int>>();
x = [i ** 2 for i in range(10) if i % 2]
变量 = "héllo"
            builder.append(prefix).append(separator).append(suffix);""".split("\n")

CLASSES = ["Food", "Date", "Order, rank", "Speed", "Disease and medicine", "Abbreviation", "Language", "Letter like a-z",
           "Other entity", "Entity", "City", "Title of a person", "Person", "Description of a person", "体育", "体育、赛事",
           "Number of something", "Other number", "Price", "date", "Order", "rank", "person"]


def mutate(text, units, join):
    words = list(text)
    for _ in range(R.randrange(1, 6)):
        i = R.randrange(len(words) + 1)
        words[i:i + R.randrange(4)] = R.choices(units, k=R.randrange(4))
    return join.join(words)


def english(lengths=(0, 1, 2, 5, 12, 30)):
    answer = R.choices(ENGLISH, k=R.choice(lengths))
    return mutate(answer, ENGLISH, R.choice([" ", " ", "  ", "\n"])), " ".join(answer)


def chinese(most):
    start = R.randrange(len(CHINESE))
    text = "".join(CHINESE[start:start + R.randrange(1, most)])
    cut = sorted(R.randrange(len(text) + 1) for _ in range(2))
    text = text[cut[0]:cut[0] + 120]
    return mutate(text, [c for s in CHINESE for c in s] + CHINESE[:3] + [" ", "\n", "\r\n", "."], ""), text


def code():
    answer = R.choice(CODE)
    kind = R.randrange(6)
    line = {0: answer, 1: R.choice(CODE), 5: ""}.get(kind) if kind in (0, 1, 5) else mutate(answer, list("ab (;_0"), "")
    if R.randrange(12) == 0:  # difflib treats frequent characters of longer texts as noise
        answer = (answer + " ") * R.randrange(4, 9)
        line = mutate(answer, list("ab (;_0"), "")
    return "\n" * R.randrange(3) + "".join(R.choice(["// x\n", "# y\n", "```\n", ""]) for _ in range(2)) + line + \
        R.choice(["", "\n" + R.choice(CODE)]), answer


def classes():
    answer = R.choice(CLASSES)
    output = R.choice(["", " ", "Type: "]) + R.choice([answer, ", ".join(R.sample(CLASSES, R.randrange(5))),
                                                       answer + " " + R.choice(CLASSES), answer.lower()])
    return R.choice(["", "\n"]) + output + R.choice(["", "\nQuestion: more " + R.choice(CLASSES)]), answer


def numbers(word):
    n = R.randrange(1, 31)
    parts = [f"{word}{n}", str(n), f"{word}{R.randrange(1, 31)}", f"0{n}", "１２", f"{n}.0", "no number", f"of 30{word}"]
    return " ".join(R.sample(parts, R.randrange(5))), n


def cases():
    both = lambda make, k: [(lambda o, a: (o, [a] if R.randrange(2) else [a, make()[1]]))(*make()) for _ in range(k)]
    for output, answers in both(english, 160):
        yield "f1", output, answers
    for output, answers in both(lambda: english((1, 2, 4)), 25):
        yield "f1_line", output, answers
    for output, answers in both(lambda: chinese(4), 60):
        yield "f1_zh", output, answers
    for output, answers in both(lambda: english((0, 1, 5, 20, 60)), 100):
        yield "rouge", output, answers
    for output in ("", " ", ".", "..", " . ", "a", "a.a", "a. a"):
        for answer in ("", " ", ".", "a", "a. b"):
            yield "rouge", output, [answer]
    for n in (990, 991, 992, 993):
        yield "rouge", " ".join(f"w{i}" for i in range(n)), ["one two"]
        yield "rouge", " ".join(f"w{i}" for i in range(n)), [" ".join(f"w{i}" for i in range(0, n, 3))]
    for output, answers in both(english, 20):
        yield "rouge_line", output, answers
    for output, answers in both(lambda: chinese(8), 50):
        yield "rouge_zh", output, answers
    for _ in range(80):
        output, answer = classes()
        yield "class_line", output, [answer]
    for metric, word in (("retrieval", "Paragraph "), ("retrieval_zh", "段落"), ("count", "")):
        for _ in range(30):
            output, n = numbers(word)
            yield metric, output, [f"{word}{n}"]
    for output, answers in both(code, 150):
        yield "code", output, answers


def scorer(metric, output, answers):  # called from the module itself, so as deep in the stack as eval.py's
    score = 0.
    for answer in answers:
        score = max(score, metric(output, answer, all_classes=CLASSES))
    return score


if len(sys.argv) != 2:
    sys.exit(__doc__)
sys.path.insert(0, sys.argv[1])
import jieba  # noqa: E402
import Levenshtein  # noqa: E402,F401
import metrics  # noqa: E402
from fuzzywuzzy import StringMatcher, fuzz  # noqa: E402

NAMES = {"f1": "qa_f1_score", "f1_zh": "qa_f1_zh_score", "rouge": "rouge_score", "rouge_zh": "rouge_zh_score",
         "class": "classification_score", "retrieval": "retrieval_score", "retrieval_zh": "retrieval_zh_score",
         "count": "count_score", "code": "code_sim_score"}
limit = sys.getrecursionlimit()
lines, texts = [], set()
for name, output, answers in cases():
    metric = getattr(metrics, NAMES[name.removesuffix("_line")])
    row = {"metric": name, "output": output, "answers": answers}
    if name.endswith("_line"):
        output = output.lstrip("\n").split("\n")[0]
    fuzz.SequenceMatcher = difflib.SequenceMatcher
    row["compat"] = scorer(metric, output, answers)
    sys.setrecursionlimit(20000)
    row["score"] = scorer(metric, output, answers)
    fuzz.SequenceMatcher = StringMatcher.StringMatcher
    row["partial"] = scorer(metric, output, answers)
    sys.setrecursionlimit(limit)
    lines.append(row)
    if name.endswith("_zh"):
        texts.update([output, *answers])
for _ in range(150):
    text = chinese(6)[0]
    texts.add(text)
    lines.append({"metric": "cut", "output": text, "words": list(jieba.cut(text, cut_all=False))})
(OUT / "longbench_metrics.jsonl").write_text(
    json.dumps({"metric": "classes", "classes": CLASSES}, ensure_ascii=False) + "\n" +
    "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in lines), encoding="utf-8")
everything = "\n".join(sorted(texts))
(OUT / "longbench_words.txt").write_text(
    dictionary(pathlib.Path(jieba.__file__).parent, lambda word: word in everything), encoding="utf-8")
