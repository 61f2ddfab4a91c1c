#!/usr/bin/env python3
"""scripts/get_longbench.sh against a hub of our own (test_get_model.py): small files in place of the data.

Run: python3 tests/test_get_longbench.py (standard library, bash and curl only).
"""
import io
import os
import pathlib
import subprocess
import tempfile
import threading
import unittest
import zipfile

from test_get_model import COMMIT, Handler, Hub, Server

ROOT = pathlib.Path(__file__).resolve().parent.parent
SETS = sorted(p.stem.removeprefix("longbench_") for p in (ROOT / "datasets" / "tasks").glob("longbench_*.task")
              if p.stem != "longbench_v2")
E_SETS = [s for s in SETS if "param.e = 0 in 0..1" in (ROOT / f"datasets/tasks/longbench_{s}.task").read_text()]
FILES = sorted([f"{s}.jsonl" for s in SETS] + [f"{s}_e.jsonl" for s in E_SETS])


def archive(names):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as z:
        for name in names:
            z.writestr(f"data/{name}", os.urandom(3000).hex() + "\n")
    return out.getvalue()


class DataHub(Hub):
    def __init__(self, repo, files):
        super().__init__()
        self.files, self.others = files, {"README.md": b"text"}
        self.api, self.resolve = f"/api/datasets/{repo}", f"/datasets/{repo}/resolve/{COMMIT}/"


class GetLongBench(unittest.TestCase):
    def setUp(self):
        self.server = Server(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.addCleanup(self.server.server_close)
        self.addCleanup(self.server.shutdown)
        self.dir = pathlib.Path(scratch.name) / "long bench"
        self.serve("THUDM/LongBench", {"data.zip": archive(FILES)})

    def serve(self, repo, files):
        self.hub = self.server.hub = DataHub(repo, files)

    def fetch(self, *args):
        env = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy") and k != "HF_TOKEN"}
        env.update(HF_ENDPOINT=f"http://127.0.0.1:{self.server.server_port}", LC_ALL="C",
                   PIP_INDEX_URL="http://127.0.0.1:1", PIP_RETRIES="0")
        return subprocess.run([ROOT / "scripts" / "get_longbench.sh", *args, self.dir], env=env, capture_output=True,
                              text=True, timeout=60)

    def check(self, result, *texts, code=0):
        self.assertEqual(result.returncode, code, result.stderr)
        for text in texts:
            self.assertIn(text, result.stderr)

    def names(self):
        return sorted(p.name for p in self.dir.iterdir())

    def test_knows_every_task(self):
        self.assertEqual((len(SETS), len(E_SETS)), (21, 13))

    def test_unpacks_v1_and_fetches_it_once(self):
        self.check(self.fetch("v1"))
        self.assertEqual(self.names(), sorted(FILES + ["v1.sha256"]))
        self.hub.log.clear()
        self.check(self.fetch("v1"), "v1 is there")
        self.assertEqual(self.hub.log, [])
        (self.dir / "trec.jsonl").write_text("damaged")
        self.check(self.fetch("v1"))
        self.assertEqual(len((self.dir / "trec.jsonl").read_text()), 6001)

    def test_continues_a_part(self):
        whole = self.hub.files["data.zip"]
        self.dir.mkdir()
        (self.dir / "data.zip.part").write_bytes(whole[:12345])
        self.check(self.fetch("v1"), "12345 of them are there")
        self.assertEqual([e[1] for e in self.hub.asked("/data.zip")][-1], "bytes=12345-")

    def test_refuses_what_is_not_the_published_file(self):
        self.hub.sent["data.zip"] = os.urandom(len(self.hub.files["data.zip"]))
        self.check(self.fetch("v1"), "data.zip is wrong", "expected", code=1)
        self.serve("THUDM/LongBench", {"data.zip": archive(FILES[1:])})
        self.check(self.fetch("v1"), "data.zip lacks 2wikimqa", code=1)
        self.serve("THUDM/LongBench", {"data.zip": b"no zip" * 1000})
        self.check(self.fetch("v1"), "cannot be unpacked", code=1)
        self.serve("THUDM/LongBench", {"other.zip": b"x" * 2000})
        self.check(self.fetch("v1"), "no file data.zip", code=1)
        self.assertFalse((self.dir / "v1.sha256").exists())

    def test_fetches_v2(self):
        self.serve("THUDM/LongBench-v2", {"data.json": b"[" + b" " * 5000 + b"]"})
        self.check(self.fetch("v2"))
        self.assertEqual(self.names(), ["longbench_v2.json", "v2.sha256"])

    def test_says_that_the_repository_is_not_there(self):
        self.check(self.fetch("v2"), "There is no THUDM/LongBench-v2", code=1)

    def test_writes_the_words_of_an_installed_package(self):
        package = self.dir.parent / "jieba"
        (package / "finalseg").mkdir(parents=True)
        (package / "dict.txt").write_text("中 5 n\n中文 3 n\n", encoding="utf-8")
        states = {"start": {s: -1.0 for s in "BMES"}, "emit": {s: {"中": -2.5} for s in "BE"} | {"M": {}, "S": {}},
                  "trans": {"B": {"E": -1, "M": -1}, "E": {"B": -1, "S": -1}, "M": {"E": -1, "M": -1},
                            "S": {"B": -1, "S": -1}}}
        for name, value in states.items():
            (package / "finalseg" / f"prob_{name}.py").write_text(f"P={value!r}", encoding="utf-8")
        self.check(self.fetch("words", "--jieba", package))
        lines = (self.dir / "jieba.txt").read_text(encoding="utf-8").splitlines()
        self.assertEqual(lines[1], "total 8")
        self.assertEqual(lines[-3:], ["emit 中 -2.5 -3.14e100 -2.5 -3.14e100", "word 中 5", "word 中文 3"])
        self.assertEqual(self.names(), ["jieba.txt", "words.sha256"])

    def test_says_that_the_words_cannot_be_had(self):
        self.check(self.fetch("words"), "could not be fetched", "--jieba FOLDER", code=1)
        self.check(self.fetch("words", "--jieba", "/nowhere"), "/nowhere holds no dict.txt", code=1)
        self.assertEqual(self.names(), [])

    def test_explains_its_use(self):
        self.check(self.fetch("--nope"), "get_longbench.sh [v1] [v2] [words]", code=2)


if __name__ == "__main__":
    unittest.main()
