#!/usr/bin/env python3
"""scripts/get_model.sh against a hub of our own: a local server with one small repository and, per test, one trouble.

The server follows the hub's interface: /api/models/ID/revision/REV names the commit, /api/models/ID/tree/COMMIT lists
files page by page, /ID/resolve/COMMIT/FILE sends small files itself and redirects to /cdn for large ones.
Run: python3 tests/test_get_model.py (standard library, bash and curl only).
"""
import fcntl
import hashlib
import http.server
import json
import os
import pathlib
import random
import resource
import shutil
import subprocess
import tempfile
import threading
import unittest
import urllib.parse

SCRIPT = pathlib.Path(__file__).resolve().parent.parent / "scripts" / "get_model.sh"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
REPO = "some-org/Tiny-Model.1"
WEIGHTS = "model-00002-of-00002.safetensors"


def bytes_of(n, seed):
    return random.Random(seed).randbytes(n)


class Hub:
    """What the server holds and does; `log` is what it was asked for: (path, Range header, Authorization header)."""

    def __init__(self):
        self.files = {"config.json": b'{"model_type": "qwen3"}', "generation_config.json": b"",
                      "tokenizer.json": bytes_of(5000, 1), "tokenizer_config.json": b"{}",
                      "model.safetensors.index.json": b'{"weight_map": {}}',
                      "model-00001-of-00002.safetensors": bytes_of(150001, 2), WEIGHTS: bytes_of(300007, 3),
                      "gates/layer 1/trimkv_weights.pth": bytes_of(70001, 4)}
        self.others = {"README.md": b"text", "pytorch_model.bin": bytes_of(2000, 5), "tiny.gguf": bytes_of(2000, 6),
                       "onnx/model.onnx": bytes_of(2000, 7), "consolidated.safetensors": bytes_of(2000, 8)}
        self.page = 1000
        self.api, self.resolve = f"/api/models/{REPO}", f"/{REPO}/resolve/{COMMIT}/"
        self.log = []
        self.commit = COMMIT
        self.tree_extra = []    # more entries of the file list
        self.sent = {}          # path -> bytes sent in place of what the list announces
        self.cut = {}           # path -> how often the connection ends half way
        self.answer = {}        # what comes after the repository's or file's name -> (status, X-Error-Code)
        self.no_ranges = False

    def entry(self, path, data):
        e = {"type": "file", "oid": "0" * 40, "size": len(data), "path": path}
        if len(data) > 1000:
            e["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}
        return e

    def tree(self):
        entries = [self.entry(p, d) for p, d in {**self.files, **self.others}.items()]
        return entries + [{"type": "directory", "oid": "0" * 40, "size": 0, "path": "gates"}] + self.tree_extra

    def asked(self, name):
        return [entry for entry in self.log if entry[0].endswith(name)]


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one packet

    def log_message(self, *args):
        pass

    def send(self, status, body=b"", **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def send_file(self, name):
        hub = self.server.hub
        data = hub.sent.get(name, hub.files.get(name))
        if data is None:
            return self.send(404, X_Error_Code="EntryNotFound")
        first, ranged = 0, self.headers["Range"]
        if ranged and not hub.no_ranges:
            first = int(ranged.removeprefix("bytes=").removesuffix("-"))
            if first >= len(data):
                return self.send(416)
        body = data[first:]
        self.send_response(206 if first else 200)
        if first:
            self.send_header("Content-Range", f"bytes {first}-{len(data) - 1}/{len(data)}")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if hub.cut.get(name, 0) > 0:
            hub.cut[name] -= 1
            body = body[:len(body) // 2]
            self.close_connection = True
        self.wfile.write(body)
        self.wfile.flush()

    def do_GET(self):
        hub = self.server.hub
        url = urllib.parse.urlsplit(self.path)
        path, query = urllib.parse.unquote(url.path), dict(urllib.parse.parse_qsl(url.query))
        hub.log.append((path, self.headers["Range"], self.headers["Authorization"]))
        for end, (status, code) in hub.answer.items():
            if path.endswith(end):
                return self.send(status, b"an error page", **({"X_Error_Code": code} if code else {}))
        api, resolve = hub.api, hub.resolve
        if url.path in (f"{api}/revision/main", f"{api}/revision/refs%2Fpr%2F7", f"{api}/revision/{COMMIT}"):
            self.send(200, json.dumps({"id": REPO, "sha": hub.commit}).encode())
        elif path == f"{api}/tree/{COMMIT}" and query.get("recursive") == "true":
            tree, start = hub.tree(), int(query.get("cursor", 0))
            more = {}
            if start + hub.page < len(tree):
                link = f"http://elsewhere.invalid{path}?recursive=true&cursor={start + hub.page}"
                more = {"Link": f'<{link}>; rel="next"'}
            self.send(200, json.dumps(tree[start:start + hub.page]).encode(), **more)
        elif path.startswith(resolve):
            name = path.removeprefix(resolve)
            if len(hub.files.get(name, b"")) > 1000:  # localhost is another host than 127.0.0.1
                self.send(302, Location=f"http://localhost:{self.server.server_port}/cdn/" + urllib.parse.quote(name))
            else:
                self.send_file(name)
        elif path.startswith("/cdn/"):
            self.send_file(path.removeprefix("/cdn/"))
        else:
            self.send(404)


class Server(http.server.ThreadingHTTPServer):
    def handle_error(self, request, client_address):
        pass  # clients that leave early are part of the tests


class GetModel(unittest.TestCase):
    def setUp(self):
        self.hub = Hub()
        self.server = Server(("127.0.0.1", 0), Handler)
        self.server.hub = self.hub
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.addCleanup(self.server.server_close)
        self.addCleanup(self.server.shutdown)
        self.tools = pathlib.Path(scratch.name) / "tools"
        self.put_tool("sleep", "exit 0")
        self.home = pathlib.Path(scratch.name) / "hugging face"
        self.base = self.home / "hub" / "models--some-org--Tiny-Model.1"
        self.folder = self.base / "snapshots" / COMMIT

    def fetch(self, *args, repo=REPO, token=None, extra=None, **options):
        ours = ("HF_TOKEN", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "XDG_CACHE_HOME")
        env = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy") and k not in ours}
        env.update(HF_HOME=str(self.home), HF_ENDPOINT=f"http://127.0.0.1:{self.server.server_port}/", LC_ALL="C")
        env.update(extra or {})
        if token:
            env["HF_TOKEN"] = token
        env["PATH"] = f"{self.tools}:{env['PATH']}"
        return subprocess.run([SCRIPT, repo, *args], env=env, capture_output=True, text=True, timeout=60, **options)

    def put_tool(self, name, text):
        self.tools.mkdir(exist_ok=True)
        (self.tools / name).write_text(f"#!/bin/sh\n{text}\n")
        (self.tools / name).chmod(0o755)

    def put_part(self, name, data):
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / (name + ".part")).write_bytes(data)

    def check_complete(self, result):
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(result.stdout.splitlines()[-1], str(self.folder))
        found = {str(p.relative_to(self.folder)): p.read_bytes() for p in self.folder.rglob("*") if p.is_file()}
        self.assertEqual(found, self.hub.files)

    def check_failed(self, result, *texts):
        self.assertEqual(result.returncode, 1, result.stderr)
        self.assertEqual(result.stdout, "")
        for text in texts:
            self.assertIn(text, result.stderr)
        self.assertFalse((self.base / "refs" / "main").exists())

    def test_fetches_what_a_loader_needs_and_names_the_folder(self):
        self.check_complete(self.fetch())
        self.assertEqual((self.base / "refs" / "main").read_text(), COMMIT)
        self.assertEqual(len(self.hub.asked("/cdn/" + WEIGHTS)), 1)

    def test_reads_every_page_of_the_file_list(self):
        self.hub.page = 5
        self.check_complete(self.fetch())
        self.assertEqual(len(self.hub.asked("/tree/" + COMMIT)), 3)

    def test_fetches_nothing_twice_but_what_is_damaged(self):
        self.fetch()
        damaged = bytearray(self.hub.files[WEIGHTS])
        damaged[1234] ^= 1
        (self.folder / WEIGHTS).write_bytes(damaged)
        self.hub.log.clear()
        self.check_complete(self.fetch())
        self.assertEqual([e[0] for e in self.hub.log if "/resolve/" in e[0]], [f"/{REPO}/resolve/{COMMIT}/{WEIGHTS}"])

    def test_hashes_what_was_right_only_when_it_changed(self):
        self.fetch()
        self.put_tool("sha256sum", "echo hashed >&2; exec /usr/bin/sha256sum")
        self.assertNotIn("hashed", self.fetch().stderr)
        (self.folder / WEIGHTS).touch()
        self.assertEqual(self.fetch().stderr.count("hashed"), 1)
        self.assertNotIn("hashed", self.fetch().stderr)
        (self.base / "checked.txt").unlink()
        self.check_complete(self.fetch())

    def test_puts_models_where_the_program_looks(self):
        other = self.home.parent / "other cache"
        for env, base in (({"HF_HUB_CACHE": str(other)}, other), ({"HUGGINGFACE_HUB_CACHE": str(other)}, other),
                          ({"HF_HOME": "", "XDG_CACHE_HOME": str(other)}, other / "huggingface" / "hub"),
                          ({"HF_HOME": "", "HOME": str(other)}, other / ".cache" / "huggingface" / "hub")):
            result = self.fetch(extra=env)
            self.assertEqual(result.returncode, 0, result.stderr)
            folder = base / self.base.name / "snapshots" / COMMIT
            self.assertEqual(result.stdout, f"{folder}\n")
            self.assertTrue((folder / WEIGHTS).exists())
            shutil.rmtree(other)

    def test_continues_a_part(self):
        self.put_part(WEIGHTS, self.hub.files[WEIGHTS][:123456])
        self.check_complete(self.fetch())
        self.assertEqual([e[1] for e in self.hub.asked("/cdn/" + WEIGHTS)], ["bytes=123456-"])

    def test_takes_a_part_that_is_whole(self):
        self.put_part(WEIGHTS, self.hub.files[WEIGHTS])
        self.check_complete(self.fetch())
        self.assertEqual(self.hub.asked(WEIGHTS), [])

    def test_starts_again_where_a_part_is_of_no_use(self):
        self.hub.no_ranges = True
        self.put_part(WEIGHTS, self.hub.files[WEIGHTS][:1000])
        self.put_part("tokenizer.json", bytes(6000))
        self.check_complete(self.fetch())
        self.assertEqual([e[1] for e in self.hub.asked("/cdn/" + WEIGHTS)], ["bytes=1000-", None])

    def test_removes_a_file_with_a_wrong_checksum(self):
        self.hub.sent[WEIGHTS] = bytes_of(300007, 99)
        result = self.fetch()
        self.check_failed(result, WEIGHTS + " is wrong", hashlib.sha256(self.hub.files[WEIGHTS]).hexdigest(), "removed")
        self.assertEqual(list(self.folder.glob(WEIGHTS + "*")), [])
        del self.hub.sent[WEIGHTS]
        self.check_complete(self.fetch())

    def test_removes_a_small_file_with_a_wrong_size(self):
        self.hub.sent["config.json"] = b"<html>a page that some proxy put in between</html>"
        self.check_failed(self.fetch(), "config.json is wrong: 50 bytes", "expected 23 bytes")
        self.hub.sent["config.json"] = b"{}"
        self.check_failed(self.fetch(), "config.json: the server has fewer than the 23 bytes")
        self.assertEqual(list(self.folder.glob("config.json*")), [])

    def test_continues_after_a_lost_connection(self):
        self.hub.cut[WEIGHTS] = 1
        self.check_complete(self.fetch())
        self.assertEqual([e[1] for e in self.hub.asked("/cdn/" + WEIGHTS)], [None, "bytes=150003-"])

    def test_keeps_the_part_when_the_connection_stays_bad(self):
        self.hub.cut[WEIGHTS] = 4
        self.check_failed(self.fetch(), "the connection", "was lost", "run this again; it goes on after the 281256 ")
        self.assertEqual((self.folder / (WEIGHTS + ".part")).read_bytes(), self.hub.files[WEIGHTS][:281256])
        self.check_complete(self.fetch())

    def test_says_that_nobody_answers(self):
        self.server.shutdown()
        self.server.server_close()
        self.check_failed(self.fetch(), "Check the network and run this again")

    def test_tries_again_when_the_server_is_in_trouble(self):
        self.hub.answer["/revision/main"] = (503, None)
        self.check_failed(self.fetch(), "in trouble (503)")
        self.assertEqual(len(self.hub.log), 4)

    def test_says_what_to_do_when_a_repository_is_not_there(self):
        self.check_failed(self.fetch(repo="some-org/absent"), "There is no some-org/absent", "gated", "HF_TOKEN")
        self.assertEqual(len(self.hub.log), 1)

    def test_says_what_to_do_when_access_is_refused(self):
        for status, code, texts in ((401, "RepoNotFound", ["not found without a token (401)", "private"]),
                                    (401, None, ["not authorised without a token (401)", "set HF_TOKEN"]),
                                    (404, "RevisionNotFound", ["has no revision 'main'", "/branches"])):
            self.hub.answer = {"/revision/main": (status, code)}
            self.check_failed(self.fetch(), *texts)
        self.hub.answer = {"config.json": (401, "GatedRepo")}
        self.check_failed(self.fetch(), "gated", "accept its conditions at http://127.0.0.1")
        self.hub.answer = {"config.json": (403, None)}
        self.check_failed(self.fetch(token="abc"), "config.json: access refused with the token in HF_TOKEN (403)")

    def test_sends_the_token_to_the_hub_only(self):
        self.check_complete(self.fetch(token="hf_secret\n"))
        self.assertEqual({e[2] for e in self.hub.log if e[0].startswith("/cdn/")}, {None})
        self.assertEqual({e[2] for e in self.hub.log if not e[0].startswith("/cdn/")}, {"Bearer hf_secret"})

    def test_leaves_a_download_alone_that_is_going_on(self):
        self.base.mkdir(parents=True)
        with open(self.base / ".lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self.check_failed(self.fetch(), "another download of some-org/Tiny-Model.1 is going on")
        self.check_complete(self.fetch())

    def test_takes_a_revision(self):
        self.check_complete(self.fetch("refs/pr/7"))
        self.assertEqual((self.base / "refs" / "refs" / "pr" / "7").read_text(), COMMIT)
        self.check_complete(self.fetch(COMMIT))
        self.assertFalse((self.base / "refs" / COMMIT).exists())
        for bad in ("../main", "/main", "a/../b", "-x", "a b"):
            self.check_failed(self.fetch(bad), "is no revision")

    def test_refuses_names_that_lead_out_of_the_folder(self):
        for bad in ("../x.safetensors", "a/../../config.json", "/etc/config.json", "..\\config.json",
                    "a\nconfig.json", ""):
            with self.subTest(bad):
                self.hub.tree_extra = [self.hub.entry(bad, b"x")]
                self.check_failed(self.fetch(), "refused: a file of this repository is called")
        self.assertEqual([e for e in self.hub.log if "/resolve/" in e[0]], [])
        self.assertFalse(self.home.exists())

    def test_refuses_a_commit_that_is_none(self):
        self.hub.commit = "../../../" + COMMIT
        self.check_failed(self.fetch(), "names no commit")

    def test_says_that_a_repository_has_no_weights_of_use(self):
        self.hub.files = {"config.json": b"{}"}
        del self.hub.others["consolidated.safetensors"]
        self.check_failed(self.fetch(), "neither *.safetensors")

    def test_says_that_the_disk_is_full_before_it_starts(self):
        self.put_tool("df", "echo Filesystem; echo disk 1000 500 500 50% /")
        self.check_failed(self.fetch(), "the disk is too full: 512 KB are to come, 500 KB are free")
        self.assertEqual([e for e in self.hub.log if "/resolve/" in e[0]], [])

    def test_says_that_a_file_cannot_be_written(self):
        # Python ignores SIGXFSZ, the script inherits that: a write past the limit fails as on a full disk.
        result = self.fetch(restore_signals=False,
                            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (200000, 200000)))
        self.check_failed(result, WEIGHTS + ": cannot be written", "the disk is full", "goes on after the 200000 bytes")
        self.check_complete(self.fetch())


if __name__ == "__main__":
    unittest.main()
