#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Tests the benchmark scripts without PyTorch: a program stands in for it, our own programs are real and run tiny sizes.

    scripts_test.py --bin FOLDER --compiler CXX
"""

import argparse
import contextlib
import io
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
import xml.etree.ElementTree

import compare_pytorch
import compare_transformers
import compile_time
import report

BIN = pathlib.Path()
REFERENCE = pathlib.Path(__file__).resolve().parent.parent / "tests" / "reference" / "hugging_face"
COMPILER = "c++"
TINY = ["--preset", "story_tiny", "--batch", "2", "--length", "24", "--tokens", "12"]

# What stands in for a Python with PyTorch: says a version, or answers as pytorch_worker.py does, always 10 tokens/s.
STAND_IN = """#!{python}
import json, os, sys
if sys.argv[1] == "-c":
    print("0.0-stand-in")
    sys.exit()
if "--compile" in sys.argv:
    sys.exit("no compiler for that")
slow = "encoder" in sys.argv
slow = slow or ("foreach" not in sys.argv and os.environ.get("THP_MEM_ALLOC_ENABLE") != "1")
loss = float(os.environ["STAND_IN_LOSS"])
print(json.dumps({{"ready": 1, "first_loss": loss, "memory_at_start": 1, "peak_memory": 10**9,
                  "mean_nll": loss, "load_seconds": 1, "load_memory": 10**9, "batch": 4}}), flush=True)
for line in sys.stdin:
    rate = 5.0 if slow else 10.0
    print(json.dumps({{"tokens_per_second": rate, "peak_memory": 10**9, "first_loss": loss}}), flush=True)
"""


def program(rates, **more):
    return {"tokens_per_second": report.median(rates), "all_tokens_per_second": rates, "peak_memory": 4e8} | more


RESULTS = {
    "machine": {"processor": "A <Processor>", "cores": 2, "memory_gib": 4.0, "system": "Linux"},
    "date": "2026-01-02",
    "torch_version": "1.2.3",
    "settings": {"float32, dropout 0.1": {"best": {}, "tokens_per_second": {"eager": 9.0, "compiled": None}}},
    "training": {
        "preset": "story_24m",
        "batch": 8,
        "length": 256,
        "measured": [
            {
                "threads": 2,
                "dropout": 0.1,
                "pytorch": {"float32": "eager", "bfloat16": "eager"},
                "programs": {
                    "storylm float32": program([150.0, 170.0, 190.0], share_of_peak=0.815),
                    "PyTorch float32": program([100.0, 100.0, 100.0]) | {"peak_memory": 1e9},
                    "storylm bfloat16": program([300.0, 270.0, 280.0], share_of_peak=0.76),
                    "PyTorch bfloat16": program([160.0, 150.0, 140.0]) | {"peak_memory": 0.9e9},
                },
            }
        ],
    },
    "stories": {
        "threads": 2,
        "padding": 0.25,
        "stories_per_step": 16,
        "length": 256,
        "programs": {
            "bfloat16": {
                "PyTorch, padded": program([100.0]),
                "storylm, packed": program([250.0]),
                "storylm, full rows": program([250.0]),
            }
        },
    },
    "generation": {
        "preset": "story_24m",
        "tokens": 256,
        "measured": [
            {
                "threads": 1,
                "batch": 32,
                "programs": {"storylm float32": program([2400.0]), "PyTorch padded float32": program([20.0])},
            },
            {
                "threads": 1,
                "batch": 1,
                "programs": {
                    "storylm bfloat16": program([500.0], share_of_bandwidth=0.8),
                    "PyTorch cache float32": program([101.0]),
                },
            },
        ],
    },
    "kernels": [
        {
            "threads": 2,
            "float32_gflops": 228.0,
            "bfloat16_gflops": 457.0,
            "read_gbytes": 29.9,
            "weighted/float32/4096": 0.879,
        }
    ],
}


class Reports(unittest.TestCase):
    def test_digits(self):
        self.assertEqual([report.digits(x) for x in (1234.5, 99.96, 12.34, 1.234, 0.0)], ["1,234", "100.0", "12.3", "1.23", "0"])

    def test_table(self):
        text = report.table(["a", "b", "c"], [["x", 1.0, True], ["y", 2000, False]])
        self.assertEqual(text, "| a | b | c |\n|---|--:|--:|\n| x | 1 | yes |\n| y | 2,000 | no |")

    def test_update_page(self):
        with tempfile.TemporaryDirectory() as folder:
            page = pathlib.Path(folder) / "page.md"
            page.write_text("before\n<!-- one: begin -->\nold\n<!-- one: end -->\nafter\n")
            report.update_page("one", "new\n", page)
            report.update_page("one", "newer", page)
            self.assertEqual(page.read_text(), "before\n<!-- one: begin -->\n\nnewer\n\n<!-- one: end -->\nafter\n")
            with self.assertRaises(ValueError):
                report.update_page("two", "new", page)

    def test_bars(self):
        svg = report.bars("A & B", "tokens/s", [("<one>", [("x", 50.0), ("y", 100.0)]), ("two", [("x", 25.0)])])
        root = xml.etree.ElementTree.fromstring(svg)
        boxes = [e for e in root if e.tag.endswith("rect") and len(e)]
        self.assertEqual([float(e.get("width")) for e in boxes], [230.0, 460.0, 115.0])
        self.assertEqual(boxes[0].get("fill"), boxes[2].get("fill"))
        self.assertNotEqual(boxes[0].get("fill"), boxes[1].get("fill"))
        texts = [e.text for e in root if e.tag.endswith("text")]
        for text in ("A & B (tokens/s)", "<one>", "100", "y"):
            self.assertIn(text, texts)


class Targets(unittest.TestCase):
    def test_rows(self):
        rows = {what: (reached, good) for what, _, reached, good in compare_pytorch.targets(RESULTS)}
        expected = {
            "training, float32, dropout 0.1, against PyTorch, 2 threads": ("1.70 x", True),
            "training, bfloat16, dropout 0.1, against PyTorch, 2 threads": ("1.88 x", False),  # within each round
            "training, bfloat16 against PyTorch's float32, dropout 0.1, 2 threads": ("2.80 x", True),
            "training step, float32, of the measured peak, 2 threads": ("81.5 %", False),
            "training step, bfloat16, of the measured peak, 2 threads": ("76.0 %", True),
            "training, float32, peak memory against PyTorch, 2 threads": ("0.40 x", True),
            "training, bfloat16, peak memory against PyTorch, 2 threads": ("0.44 x", False),
            "real stories, bfloat16, packed against PyTorch's padded, 2 threads": ("2.50 x", True),
            "real stories, bfloat16, time saved by packing, 2 threads": ("25.0 %", True),
            "matrix products of a step, float32, 4096 tokens, of the measured peak, 2 threads": ("87.9 %", False),
            "generation, float32, batch 32, 1 thread, against PyTorch's float32 that recomputes rows of 256": ("120.00 x", True),
            "generation, bfloat16, batch 1, 1 thread, of memory bandwidth": ("80.0 %", True),
            "generation, bfloat16, batch 1, 1 thread, against PyTorch's float32 with a KV cache": ("4.95 x", False),
        }
        self.assertEqual(rows, expected)

    def test_page(self):
        text, files = compare_pytorch.page(RESULTS, "stem")
        for name, content in files.items():
            xml.etree.ElementTree.fromstring(content)
            self.assertIn(f"({name})", text)
        self.assertEqual(set(files), {f"stem-{kind}.svg" for kind in ("training", "stories", "generation-1", "generation-32")})
        self.assertIn("| not possible |", text)
        self.assertIn("at least 1.6 x | 1.70 x | yes |", text)


class WithPrograms(unittest.TestCase):
    PROGRAMS = ()

    def setUp(self):
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.folder = pathlib.Path(temporary.name)
        for name in self.PROGRAMS:
            if not (BIN / name).exists():
                self.skipTest(f"{name} is not built")

    def stand_in(self):
        path = self.folder / "python"
        path.write_text(STAND_IN.format(python=sys.executable))
        path.chmod(0o755)
        return path


class Programs(WithPrograms):
    PROGRAMS = ("cpu_training", "cpu_generation")

    def training(self, **options):
        command = [BIN / "cpu_training"]
        common = {"preset": "story_tiny", "batch": 2, "length": 24, "dropout": 0, "threads": 2, "serve": "on"}
        for name, value in (common | options).items():
            command += ["--" + name, value]
        return compare_pytorch.Worker(command, 2, self.folder / "log")

    def test_worker(self):
        with self.training(warm_up=1) as worker:
            self.assertAlmostEqual(worker.ready["first_loss"], 6.3, delta=0.3)  # log(512), about
            self.assertEqual(worker.ask(1)["targets"], 48)
            self.assertEqual(worker.ask(3)["targets"], 144)
            summary = worker.summary()
        self.assertEqual(len(summary["all_tokens_per_second"]), 2)
        self.assertGreater(summary["peak_memory"], 1e6)
        self.assertGreater(summary["share_of_peak"], 0)
        self.assertEqual(worker.process.returncode, 0)

    def test_worker_that_does_not_start(self):
        with self.assertRaisesRegex(compare_pytorch.Failed, "there is no story_none"):
            self.training(preset="story_none")

    def test_exported_stories_are_padded(self):
        command = [BIN / "cpu_training", "--preset", "story_tiny", "--packed", "on", "--batch", "3", "--length", "128"]
        command += ["--batches", "2", "--steps", "0", "--warm_up", "0", "--export", self.folder]
        done = subprocess.run(command, check=True, capture_output=True)
        self.assertEqual(done.stdout, b"")
        raw = (self.folder / "batches.bin").read_bytes()
        values = [int.from_bytes(raw[i : i + 4], "little", signed=True) for i in range(0, len(raw), 4)]
        self.assertEqual(len(values), 2 * 2 * 3 * 128)
        ids, targets = values[: 3 * 128], values[3 * 128 : 6 * 128]
        lengths = set()
        for row in range(3):
            own, wanted = ids[row * 128 : (row + 1) * 128], targets[row * 128 : (row + 1) * 128]
            length = sum(target >= 0 for target in wanted)
            lengths.add(length)
            self.assertEqual(own[0], 1)
            self.assertEqual(own[1:length], wanted[: length - 1])  # what follows is the target
            self.assertEqual(wanted[length:], [-100] * (128 - length))
            self.assertEqual(own[length:], [0] * (128 - length))
        self.assertGreater(len(lengths), 1)

    def compare(self, *more):
        output = self.folder / "result.json"
        said = io.StringIO()
        command = ["compare_pytorch.py", "--bin", str(BIN), "--python", str(self.stand_in()), "--output", str(output)]
        arguments, sys.argv = sys.argv, [*command, "--no-page", "--threads", "2", *TINY, *more]
        try:
            with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
                code = compare_pytorch.main()
        finally:
            sys.argv = arguments
        return code, said.getvalue(), report.load(output)

    def test_comparison(self):
        with self.training(warm_up=1, dtype="float32") as worker:
            os.environ["STAND_IN_LOSS"] = str(worker.ready["first_loss"])
        code, said, results = self.compare("--only", "training,generation", "--rounds", "3", "--steps", "1")
        self.assertEqual(code, 0, said)
        self.assertEqual(results["torch_version"], "0.0-stand-in")
        tried = results["settings"]["float32, dropout 0.1"]
        self.assertEqual(tried["tokens_per_second"]["eager, nn.TransformerEncoder, fused Adam"], 5.0)
        self.assertIsNone(tried["tokens_per_second"]["compiled, SDPA, fused Adam"])
        self.assertEqual((tried["best"]["blocks"], tried["best"]["adam"], tried["best"]["keep"]), ("sdpa", "foreach", True))
        self.assertFalse(results["settings"]["bfloat16, dropout 0.1"]["best"]["whole"])  # as fast, but less work
        for one in results["training"]["measured"]:
            self.assertEqual(one["programs"]["PyTorch float32"]["all_tokens_per_second"], [10.0] * 3)
            self.assertEqual(len(one["programs"]["storylm float32"]["all_tokens_per_second"]), 3)
        self.assertEqual([one["batch"] for one in results["generation"]["measured"]], [1, 32])
        self.assertIn("against PyTorch's float32 with a KV cache", said)

    def test_other_work_is_noticed(self):
        os.environ["STAND_IN_LOSS"] = "5.0"
        code, said, _ = self.compare("--only", "training", "--quick", "--settings", "default")
        self.assertEqual(code, 2)
        self.assertIn("not the same model or batches", said)


class Transformers(WithPrograms):
    """compare_transformers.py: the folder is one of the tests', in the place of one that transformers would make."""

    PROGRAMS = ("cpu_hugging_face",)

    def measure(self, loss):
        os.environ["STAND_IN_LOSS"] = str(loss)
        if not (self.folder / "llama_160m_default").exists():
            shutil.copytree(REFERENCE / "llama", self.folder / "llama_160m_default")
        said, output = io.StringIO(), self.folder / "transformers.json"
        command = ["compare_transformers.py", "--bin", BIN, "--python", self.stand_in(), "--work", self.folder, "--output", output]
        command += ["--shapes", "llama_160m", "--dtypes", "float32", "--rounds", "3", "--length", "40", "--threads", "2", "--no-page"]
        arguments, sys.argv = sys.argv, [str(part) for part in command]
        try:
            with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
                code = compare_transformers.main()
        finally:
            sys.argv = arguments
        return code, said.getvalue(), report.load(output)

    def test_folders(self):
        ours = self.folder / "ours.json"
        subprocess.run([BIN / "cpu_hugging_face", "--folder", REFERENCE / "llama", "--stories", "32", "--length", "40",
                        "--repeats", "1", "--json", ours], check=True, capture_output=True)
        code, said, results = self.measure(json.loads(ours.read_text())["mean_nll"])
        self.assertEqual(code, 0, said)
        self.assertEqual([row["task"] for row in results["rows"]], ["scoring", "writing"])
        for row in results["rows"]:
            self.assertEqual(row["programs"]["transformers"]["all_tokens_per_second"], [5.0] * 3)
            self.assertAlmostEqual(row["ratio"], row["programs"]["storylm"]["tokens_per_second"] / 5.0, delta=0.01 * row["ratio"])
            self.assertGreater(row["share_of_best"], 0.0)
        text = compare_transformers.page_text(results)
        self.assertIn("| Llama, 160 million | float32 | scoring | 2 |", text)
        self.assertIn("transformers 0.0-stand-in", text)

    def test_another_model_is_noticed(self):
        code, said, results = self.measure(1.0)
        self.assertEqual((code, results), (1, {}))
        self.assertIn("the mean losses are", said)


class CompileTime(unittest.TestCase):
    def test_measures_and_says_what_failed(self):
        compiler = shutil.which(COMPILER)
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name)
            (folder / "good.cpp").write_text("int main() {}\n")
            (folder / "bad.cpp").write_text('#error "not here"\n')
            output = folder / "out.json"
            said = io.StringIO()
            with contextlib.redirect_stdout(said):
                command = ["--compilers", compiler, "--repeats", "1", "--no-page", "--output", str(output)]
                code = compile_time.main(command + ["--sources", str(folder / "good.cpp"), str(folder / "bad.cpp")])
            self.assertEqual(code, 0)
            variants = len(compile_time.VARIANTS)
            measured = json.loads(output.read_text())["measured"]
            self.assertEqual([one["source"] for one in measured], ["good.cpp"] * variants + ["bad.cpp"] * variants)
            for one in measured[:variants]:
                self.assertGreater(one["seconds"], 0)
                self.assertGreater(one["peak_memory"], 1e6)
            self.assertIn("not here", measured[variants]["failure"])
            xml.etree.ElementTree.parse(output.with_suffix(".svg"))

    def test_the_target_is_the_first_program_with_gcc(self):
        one = {"source": "examples/course/01_tell_a_story.cpp", "compiler": "g++ 12", "options": "-O2"}
        measured = [one | {"seconds": 7.9, "processor_seconds": 7.8, "peak_memory": 7.9e8}]
        results = {"machine": report.machine(), "date": "today", "measured": measured}
        self.assertIn("within 8 s and 800 MB: yes", compile_time.page(results, "stem")[0])
        results["measured"][0]["peak_memory"] = 8.1e8
        self.assertIn("within 8 s and 800 MB: no", compile_time.page(results, "stem")[0])
        self.assertTrue(compile_time.FIRST.exists())


class Page(unittest.TestCase):
    def test_has_room_for_what_the_scripts_write(self):
        text = report.PAGE.read_text(encoding="utf-8")
        for section in ("compare_pytorch", "compare_transformers", "compile_time"):
            self.assertEqual(len(re.findall(f"<!-- {section}: (?:begin|end) -->", text)), 2)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--bin", type=pathlib.Path, required=True)
    parser.add_argument("--compiler", required=True)
    flags, rest = parser.parse_known_args()
    BIN, COMPILER = flags.bin.resolve(), flags.compiler
    unittest.main(argv=[sys.argv[0], *rest])
