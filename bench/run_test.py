#!/usr/bin/env python3
"""Runs small benchmarks on a temporary directory and checks what they print. Usage: run_test.py PROGRAM_DIRECTORY"""

import contextlib
import io
import json
import os
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import run  # noqa: E402  (the path is set above)

PROGRAMS = sys.argv.pop() if len(sys.argv) > 1 else "build/release/bin"


class Table(unittest.TestCase):
    def test_ratio_to_the_baseline(self):
        rows = {"a": {"value": 30.0, "unit": "MB/s"}, "b": {"error": "no", "unit": "op/s"}}
        baseline = {"a": {"value": 20.0, "unit": "MB/s"}, "b": {"value": 1.0, "unit": "op/s"}}
        lines = run.table(rows, baseline)
        self.assertEqual(lines[1].split(), ["a", "MB/s", "30.0", "20.0", "1.50"])
        self.assertEqual(lines[2].split(), ["b", "op/s", "failed", "1.0", "-"])

    def test_median_of_runs(self):
        merged = run.merge([{"a": {"value": value, "unit": "op/s"}} for value in (9.0, 1.0, 2.0)])
        self.assertEqual(merged["a"], {"value": 2.0, "unit": "op/s", "runs": [9.0, 1.0, 2.0]})

    def test_an_error_of_one_run_is_kept(self):
        merged = run.merge([{"a": {"value": 1.0, "unit": "op/s"}}, {"a": {"error": "no", "unit": "op/s"}}])
        self.assertEqual(merged["a"]["error"], "no")


class SmallRun(unittest.TestCase):
    def test_epoch_and_metadata_on_a_directory(self):
        with tempfile.TemporaryDirectory() as directory:
            target, results = os.path.join(directory, "target"), os.path.join(directory, "results.json")
            os.mkdir(target)
            with contextlib.redirect_stdout(io.StringIO()) as output, contextlib.redirect_stderr(io.StringIO()):
                status = run.main([target, "--quick", "--keep-caches", "--only", "epoch,metadata", "--json", results,
                                   "--remount", "true", "--programs", PROGRAMS])
            self.assertEqual(status, 0, output.getvalue())
            self.assertIn("epoch_again", output.getvalue())
            with open(results, encoding="utf-8") as file:
                rows = json.load(file)["mount"]["rows"]
            self.assertNotIn("epoch_cold", rows)
            for name in ("small_ingest", "epoch_remount", "meta_1t_create", "meta_own8t_rename", "meta_one8t_ls_again"):
                self.assertGreater(rows[name]["value"], 0, name)
            self.assertEqual(os.listdir(target), [])

    def test_epoch_notices_damage(self):
        with tempfile.TemporaryDirectory() as directory:
            command = [os.path.join(PROGRAMS, "tarn-bench-epoch"), "--dir", directory, "--files", "3", "--bytes", "4096"]
            subprocess.run([*command, "--phase", "write"], check=True, capture_output=True)
            with open(os.path.join(directory, "class0", "image1.jpg"), "r+b") as file:
                file.write(b"damaged!")
            done = subprocess.run([*command, "--phase", "read"], check=False, capture_output=True, text=True)
            self.assertEqual(done.returncode, 1)
            self.assertIn("image1.jpg: wrong size or content", done.stderr)


if __name__ == "__main__":
    unittest.main()
