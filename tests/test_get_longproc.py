#!/usr/bin/env python3
"""scripts/get_longproc.py against small upstream files in a folder: what it makes of them, and what it refuses.

Run: python3 tests/test_get_longproc.py (standard library only).
"""
import contextlib
import hashlib
import io
import json
import pathlib
import sys
import tempfile
import unittest
import unittest.mock
import zipfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "scripts"))
import get_longproc  # noqa: E402

CITY = "{0} is a lively city. You can travel from {0} to {1} by bus."
PATHS = [{"context_repr": [{"src": "B", "dst": "C", "transit": "bus"}, {"src": "A", "dst": "B", "transit": "bus"}],
          "question_repr": ["A", "C"],
          "context_nl": "\n".join([get_longproc.WORLD, CITY.format("B", "C"), CITY.format("A", "B")]),
          "answer_nl": "From A, take a bus to B.\nFrom B, take a bus to C."}]
STORIES = [{"story_components": "Agents: [Ann, Bob].\nObjects: [the fork, the toy car].\nRooms: [the den, the craft "
                                "room].\nContainers: [the den's tray, the den's tv stand, the craft room's tray, the "
                                "craft room's tv stand]",
            "story": "Step 0: Ann is in the den; Bob is in the craft room; the fork is on the den's tray; the toy car "
                     "is on the den's tv stand.\nStep 1: Ann moves to the craft room, and moves the toy car to the "
                     "craft room's tv stand.\nStep 2: Bob leaves the room he was in.\nStep 3: Bob enters the den.\n"
                     "Step 4: Bob moves the fork to the den's tv stand.\nStep 5: Bob moves to the craft room.",
            "question": "Where does Bob believe the toy car is?"}]
TRIPS = [{"constraints": [{"type": "duration", "city": "Oslo", "num_days": 2},
                          {"type": "duration", "city": "Rome", "num_days": 3},
                          {"type": "fixed", "city": "Rome", "start_day": 1, "end_day": 3}],
          "connected_cities": [["Rome", "Oslo"]], "ground_truth_cities": "Rome**Oslo", "ground_truth_durations": "3**2",
          "num_cities": 2, "disambig_question_text": "Where to?", "estimated_output_tokens": tokens}
         for tokens in (2047, 2048, 4095, 4096, 8191, 8192)]
PAGES = [{"html_path": "webpage/W1_0.5k_1.html", "task_topic": "t", "task_description": "d",
          "filtering_instruction": "", "tsv_header": "h", "gt": "h\n1"}]


class GetLongProc(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = pathlib.Path(folder.name)
        self.blobs, self.outputs = dict(get_longproc.BLOBS), {}

    def put(self, name, data):
        if not isinstance(data, bytes):
            data = json.dumps(data).encode()
        path = self.root / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        self.blobs[name] = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()

    def make(self, *parts):
        argv = ["get_longproc.py", "--from", str(self.root / "data"), "--out", str(self.root / "out"), *parts]
        with unittest.mock.patch.object(sys, "argv", argv), contextlib.redirect_stdout(io.StringIO()), \
                unittest.mock.patch.object(get_longproc, "BLOBS", self.blobs), \
                unittest.mock.patch.object(get_longproc, "OUTPUTS", self.outputs):
            get_longproc.main()

    def refused(self, text, *parts):
        with self.assertRaises(SystemExit) as e:
            self.make(*parts)
        self.assertIn(text, str(e.exception))
        self.assertFalse((self.root / "out").exists())

    def rows(self, name):
        return [json.loads(line) for line in (self.root / "out" / name).read_text().splitlines()]

    def test_keeps_the_connections_of_a_world(self):
        self.put("path_traversal/path_traversal_8k.json", PATHS)
        self.make("path_traversal_8k")
        self.assertEqual(self.rows("path_traversal_8k.jsonl"),
                         [{"edges": [["B", "C", "bus"], ["A", "B", "bus"]], "src": "A", "dst": "C"}])

    def test_keeps_the_steps_of_a_story(self):
        self.put("tom_tracking/tom_tracking_8k.json", STORIES)
        self.make("tom_tracking_8k")
        self.assertEqual(self.rows("tom_tracking_8k.jsonl"),
                         [{"agents": ["Ann", "Bob"], "objects": ["fork", "toy car"], "rooms": ["den", "craft room"],
                           "containers": ["tray", "tv stand"], "start": "0 1 0.0 0.1",
                           "steps": "0>1,1=1.1 1- 1+0 1,0=0.1 1>1", "ask": [1, 1]}])

    def test_keeps_the_trips_of_a_level(self):
        self.put("travel_planning/travel_planning_all.json", TRIPS)
        self.make("travel_planning_2k", "travel_planning_8k")
        trip = {"stays": [["Oslo", 2], ["Rome", 3, 1, 3]], "flights": [["Rome", "Oslo"]],
                "plan": [["Rome", 3], ["Oslo", 2]], "problem": "Where to?"}
        self.assertEqual(self.rows("travel_planning_2k.jsonl"), [trip])
        self.assertEqual(self.rows("travel_planning_8k.jsonl"), [trip] * 2)

    def test_packs_pages_with_unix_line_ends(self):
        self.put("html_to_tsv/html_to_tsv_0.5k.json", PAGES * 2)
        self.put("html_to_tsv/webpage/W1_0.5k_1.html", b"<p>\r\na\rb\n")
        self.make("html_to_tsv_0.5k")
        with zipfile.ZipFile(self.root / "out" / "html_to_tsv_0.5k.zip") as z:
            self.assertEqual(z.namelist(), ["items.jsonl", "W1_0.5k_1.html"])
            self.assertEqual(z.read("W1_0.5k_1.html"), b"<p>\na\nb\n")

    def test_refuses_a_file_of_another_commit(self):
        self.put("path_traversal/path_traversal_8k.json", PATHS)
        self.blobs["path_traversal/path_traversal_8k.json"] = "0" * 40
        self.refused("git object id is", "path_traversal_8k")

    def test_refuses_a_file_that_is_not_there(self):
        self.refused("path_traversal_2k.json", "path_traversal_2k")

    def test_refuses_an_output_with_another_sum(self):
        self.put("path_traversal/path_traversal_8k.json", PATHS)
        self.outputs["path_traversal_8k.jsonl"] = "0" * 64
        self.refused("sha256 would be", "path_traversal_8k")

    def test_refuses_a_route_that_does_not_follow(self):
        self.put("path_traversal/path_traversal_8k.json", [{**PATHS[0], "answer_nl": "From A, take a bus to C."}])
        self.refused("does not follow", "path_traversal_8k")

    def test_refuses_a_step_that_it_does_not_know(self):
        self.put("tom_tracking/tom_tracking_8k.json",
                 [{**STORIES[0], "story": STORIES[0]["story"].replace("leaves", "haunts")}])
        self.refused("step 2 is not understood", "tom_tracking_8k")


if __name__ == "__main__":
    unittest.main()
