#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Runs train_stories and generate_stories as a user of a GPU does, on the emulator.

    emulated_programs_test.py BIN     BIN holds make_stories and prepare_stories, BIN/emulated the other two
"""

import json
import os
import pathlib
import signal
import struct
import subprocess
import sys
import tempfile
import time
import unittest

BIN = pathlib.Path(sys.argv.pop(1)) if len(sys.argv) > 1 else pathlib.Path("build/bin")
ENVIRONMENT = os.environ | {"OMP_WAIT_POLICY": "passive"}


def run(*command):
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, env=ENVIRONMENT, check=False)


class Programs(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.temporary = tempfile.TemporaryDirectory()
        cls.folder = pathlib.Path(cls.temporary.name)
        for program, *flags in (
            ("make_stories", "--count", "300", "--output-dir", cls.folder / "shards"),
            ("prepare_stories", "--input", cls.folder / "shards", "--vocab-size", "512", "--output-dir", cls.folder / "data"),
        ):
            result = run(BIN / program, *flags)
            assert result.returncode == 0, result.stderr
        cls.undisturbed = cls.folder / "undisturbed"
        result = cls.train(cls.undisturbed, 6)
        assert result.returncode == 0, result.stderr

    @classmethod
    def tearDownClass(cls):
        cls.temporary.cleanup()

    @classmethod
    def command(cls, run_dir, steps, device="cuda", dtype="bfloat16", micro_tokens=64):
        # 3 stories of at most 31 tokens: two micro-batches, or, in 128 tokens, one.
        return [BIN / "emulated" / "train_stories", "--data-dir", cls.folder / "data", "--run-dir", run_dir, "--model", "story_tiny",
                "--max-len", "32", "--batch-size", "3", "--micro-tokens", micro_tokens, "--validate-every", "4", "--lr", "1e-3",
                "--max-steps", steps, "--device", device, "--dtype", dtype]  # fmt: skip

    @classmethod
    def train(cls, *arguments, **more):
        return run(*cls.command(*arguments, **more))

    @staticmethod
    def metrics(run_dir):
        lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
        for line in lines:
            for name in ("seconds", "tokens_per_second", "generation_tokens_per_second"):
                line.pop(name, None)
        return lines

    @staticmethod
    def checkpoint_names(path):
        data = path.read_bytes()
        header = json.loads(data[8 : 8 + struct.unpack("<Q", data[:8])[0]])
        return header

    def test_a_run_writes_what_one_on_the_cpu_writes(self):
        lines = self.metrics(self.undisturbed)
        self.assertEqual([line["step"] for line in lines], [1, 2, 3, 4, 5, 6])
        self.assertEqual(["sample" in line for line in lines], [False, False, False, True, False, True])
        self.assertIn("on CUDA emulator", (self.undisturbed / "train.log").read_text())
        header = self.checkpoint_names(self.undisturbed / "checkpoint_last.safetensors")
        self.assertEqual(header["__metadata__"]["run.device"], "cuda")
        self.assertEqual(header["__metadata__"]["run.dtype"], "bfloat16")
        self.assertIn("run.algorithms.keys", header)
        for name, tensor in header.items():
            if not name.startswith(("run.", "__")):
                self.assertEqual(tensor["dtype"], "F32", name)

    def test_float32_takes_the_steps_of_the_cpu(self):
        for device in ("cpu", "cuda"):
            result = self.train(self.folder / device, 5, device=device, dtype="float32")
            self.assertEqual(result.returncode, 0, result.stderr)
        for ours, reference in zip(self.metrics(self.folder / "cuda"), self.metrics(self.folder / "cpu")):
            for name in ("loss", "grad_norm", "validation_loss"):
                if name in reference:
                    self.assertAlmostEqual(ours[name] / reference[name], 1.0, delta=1e-4, msg=name)
            for name in ("step", "epoch", "tokens", "lr"):
                self.assertEqual(ours[name], reference[name])

    def test_stopped_and_started_again_it_ends_with_the_same_bytes(self):
        stopped = self.folder / "stopped"
        log, file = stopped / "train.log", stopped / "metrics.jsonl"
        for lines, number in ((1, signal.SIGINT), (3, signal.SIGTERM), (4, signal.SIGKILL), (5, signal.SIGINT)):
            before = log.stat().st_size if log.exists() else 0
            command = [str(part) for part in self.command(stopped, 6)]
            with subprocess.Popen(command, stderr=subprocess.DEVNULL, env=ENVIRONMENT) as process:
                while process.poll() is None:
                    begun = log.exists() and log.stat().st_size > before
                    if begun and file.exists() and len(file.read_text().splitlines()) >= lines:
                        break
                    time.sleep(0.005)
                process.send_signal(number)
                code = process.wait()
            self.assertIn(code, (0, 130, 143, -9))
        result = self.train(stopped, 6)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(self.metrics(stopped), self.metrics(self.undisturbed))
        for name in ("checkpoint_last.safetensors", "checkpoint_best.safetensors"):
            self.assertTrue((stopped / name).read_bytes() == (self.undisturbed / name).read_bytes(), name)

    def test_a_step_of_one_micro_batch_is_one_graph(self):
        for dtype in ("bfloat16", "float16"):
            more = {"dtype": dtype, "micro_tokens": 128}
            whole, stopped, apart = (self.folder / f"{name}_{dtype}" for name in ("whole", "stopped", "apart"))
            for folder, steps in ((whole, 6), (stopped, 4), (stopped, 6)):
                result = self.train(folder, steps, **more)
                self.assertEqual(result.returncode, 0, result.stderr)
            self.assertIn("goes on after step 4", result.stderr)
            name = "checkpoint_last.safetensors"
            self.assertTrue((stopped / name).read_bytes() == (whole / name).read_bytes(), dtype)
            losses = [line["loss"] for line in self.metrics(whole)]
            self.assertEqual(self.metrics(stopped), self.metrics(whole))
            # Two micro-batches do the same, but for the order of sums.
            if dtype == "float16":
                self.assertEqual(self.train(apart, 6, dtype=dtype).returncode, 0)
            reference = self.metrics(apart if dtype == "float16" else self.undisturbed)
            for ours, line in zip(losses, reference, strict=True):
                self.assertAlmostEqual(ours / line["loss"], 1.0, delta=2e-2, msg=dtype)

    def test_half_has_its_loss_scale_in_the_checkpoint(self):
        half = self.folder / "half"
        result = self.train(half, 4, dtype="float16")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("run.grad_scaler.scale", self.checkpoint_names(half / "checkpoint_last.safetensors"))
        result = self.train(half, 5, dtype="float16")
        self.assertIn("goes on after step 4", result.stderr)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(len(self.metrics(half)), 5)

    def test_a_run_stays_on_its_device_and_in_its_dtype(self):
        for more, expected in (
            ({"device": "cpu", "dtype": "float32"}, "the run began with device cuda, now it is cpu"),
            ({"dtype": "float32"}, "the run began with dtype bfloat16, now it is float32"),
        ):
            result = self.train(self.undisturbed, 8, **more)
            self.assertEqual(result.returncode, 2, result.stderr)
            self.assertIn(expected, result.stderr)

    def test_what_a_gpu_trained_is_generated_from_on_both(self):
        def stories(*flags):
            result = run(BIN / "emulated" / "generate_stories", "--checkpoint-path", self.undisturbed / "checkpoint_best.safetensors",
                         "--gen-quantity", "3", "--max-tokens", "24", "--gen-temperature", "0", *flags)  # fmt: skip
            self.assertEqual(result.returncode, 0, result.stderr)
            return result.stdout

        cpu = stories()
        self.assertEqual(len(cpu.splitlines()), 3)
        self.assertEqual(stories("--device", "cuda"), cpu)
        together = stories("--device", "cuda", "--dtype", "bfloat16")
        self.assertEqual(stories("--device", "cuda", "--dtype", "bfloat16", "--batch-size", "1"), together)

    def test_a_hugging_face_folder_is_generated_from_on_both(self):
        folder = pathlib.Path(__file__).resolve().parent / "reference/hugging_face/mistral"

        def stories(*flags):  # longer than the window of 64
            result = run(BIN / "emulated" / "generate_stories", "--checkpoint-path", folder, "--prompt", "Once upon a time",
                         "--gen-quantity", "2", "--gen-topk", "1", "--max-tokens", "80", *flags)  # fmt: skip
            self.assertEqual(result.returncode, 0, result.stderr)
            return result.stdout

        cpu = stories()
        self.assertEqual(len(cpu.splitlines()), 2)
        self.assertEqual(stories("--device", "cuda"), cpu)


if __name__ == "__main__":
    unittest.main()
