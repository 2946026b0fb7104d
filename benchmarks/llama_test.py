#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Tests compare_llama.py and llama_export.py without llama2.c: small programs stand in for it and for ours. Each computes the
model itself from its own file, with its own order of rotated columns, so they write the same tokens only where the export is
right. Only Python's own library."""

import array
import contextlib
import io
import json
import math
import pathlib
import random
import re
import struct
import sys
import tempfile
import unittest
import unittest.mock

import compare_llama
import report

HERE = pathlib.Path(__file__).resolve().parent
CONFIG = {"vocab_size": 290, "d_model": 16, "d_ff": 24, "n_layers": 2, "n_heads": 2, "n_kv_heads": 1, "head_dim": 8}
CONFIG |= {"max_len": 100, "norm": "rms_norm", "feed_forward": "swiglu", "positions": "rope_half"}
CONFIG |= {"norm_eps": 1e-5, "rope_theta": 10000.0, "tie_head": True}


def make_model(path, rng):
    """A checkpoint with random weights, as llama_model writes it."""
    c, shapes = CONFIG, {"model.embed_tokens": [CONFIG["vocab_size"], CONFIG["d_model"]], "model.norm": [CONFIG["d_model"]]}
    d, kv = c["d_model"], c["n_kv_heads"] * c["head_dim"]
    for layer in range(c["n_layers"]):
        prefix = f"model.layers.{layer}."
        for name, rows in (("q", d), ("k", kv), ("v", kv), ("o", d)):
            shapes[f"{prefix}self_attn.{name}_proj"] = [rows, d]
        shapes |= {f"{prefix}mlp.gate_proj": [c["d_ff"], d], f"{prefix}mlp.up_proj": [c["d_ff"], d]}
        shapes |= {f"{prefix}mlp.down_proj": [d, c["d_ff"]], f"{prefix}input_layernorm": [d]}
        shapes[f"{prefix}post_attention_layernorm"] = [d]
    header, content = {"__metadata__": {"config": json.dumps(c)}}, b""
    for name, shape in shapes.items():
        mean, deviation = (1.0, 0.2) if len(shape) == 1 else (0.0, 0.6)
        size = math.prod(shape)
        values = array.array("f", [rng.gauss(mean, deviation) for _ in range(size)])
        header[name + ".weight"] = {"dtype": "F32", "shape": shape, "data_offsets": [len(content), len(content) + 4 * size]}
        content += values.tobytes()
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + content)


class Net:
    """Llama in plain Python. weights: name -> rows (of lists), or for norms a list; pairs(half) -> columns rotated together."""

    def __init__(self, sizes, weights, pairs):
        self.dim, self.heads, self.kv_heads, self.layers = sizes
        self.weights, self.pairs = weights, pairs

    @staticmethod
    def product(matrix, x):
        return [sum(map(float.__mul__, row, x)) for row in matrix]

    @staticmethod
    def norm(x, weight):
        scale = 1.0 / math.sqrt(sum(v * v for v in x) / len(x) + 1e-5)
        return [v * scale * w for v, w in zip(x, weight)]

    def rotated(self, x, position, size):
        x = list(x)
        for head in range(0, len(x), size):
            for i, (a, b) in enumerate(self.pairs(size // 2)):
                angle = position * 10000.0 ** (-2.0 * i / size)
                p, q = x[head + a], x[head + b]
                x[head + a] = p * math.cos(angle) - q * math.sin(angle)
                x[head + b] = p * math.sin(angle) + q * math.cos(angle)
        return x

    def generate(self, prompt, count):
        """Greedy tokens after the prompt."""
        size = self.dim // self.heads
        cache = [([], []) for _ in range(self.layers)]
        ids = list(prompt)
        for position in range(len(prompt) + count - 1):
            x = list(self.weights["embedding"][ids[position]])
            for layer, (keys, values) in enumerate(cache):
                w = self.weights[layer]
                y = self.norm(x, w["norm1"])
                query = self.rotated(self.product(w["q"], y), position, size)
                keys.append(self.rotated(self.product(w["k"], y), position, size))
                values.append(self.product(w["v"], y))
                mixed = []
                for head in range(self.heads):
                    own = query[head * size : (head + 1) * size]
                    at = head * self.kv_heads // self.heads * size
                    scores = [sum(map(float.__mul__, own, key[at : at + size])) / math.sqrt(size) for key in keys]
                    weights = [math.exp(score - max(scores)) for score in scores]
                    mixed += [sum(p * value[at + c] for p, value in zip(weights, values)) / sum(weights) for c in range(size)]
                x = [a + b for a, b in zip(x, self.product(w["o"], mixed))]
                y = self.norm(x, w["norm2"])
                gate, up = self.product(w["gate"], y), self.product(w["up"], y)
                x = [a + b for a, b in zip(x, self.product(w["down"], [g / (1 + math.exp(-g)) * u for g, u in zip(gate, up)]))]
            if position + 1 == len(ids):
                logits = self.product(self.weights["embedding"], self.norm(x, self.weights["norm"]))
                ids.append(max(range(len(logits)), key=logits.__getitem__))
        return ids[len(prompt) :]


def rows(values, columns):
    return [list(values[i : i + columns]) for i in range(0, len(values), columns)]


def ours(path):
    """From a checkpoint: the first of all pairs, then the second."""
    content = path.read_bytes()
    (size,) = struct.unpack_from("<Q", content)
    header = json.loads(content[8 : 8 + size])
    c = json.loads(header.pop("__metadata__")["config"])
    tensors = {}
    for name, tensor in header.items():
        begin, end = (8 + size + offset for offset in tensor["data_offsets"])
        values = array.array("f", content[begin:end])
        tensors[name.removesuffix(".weight")] = rows(values, tensor["shape"][1]) if len(tensor["shape"]) == 2 else list(values)
    names = {"q": "self_attn.q_proj", "k": "self_attn.k_proj", "v": "self_attn.v_proj", "o": "self_attn.o_proj"}
    names |= {"gate": "mlp.gate_proj", "up": "mlp.up_proj", "down": "mlp.down_proj"}
    names |= {"norm1": "input_layernorm", "norm2": "post_attention_layernorm"}
    weights = {"embedding": tensors["model.embed_tokens"], "norm": tensors["model.norm"]}
    for layer in range(c["n_layers"]):
        weights[layer] = {short: tensors[f"model.layers.{layer}.{name}"] for short, name in names.items()}
    sizes = (c["d_model"], c["n_heads"], c["n_kv_heads"], c["n_layers"])
    return Net(sizes, weights, lambda half: [(i, half + i) for i in range(half)])


def theirs(path):
    """From llama2.c's file, in the order of the structures of its run.c: pairs side by side."""
    content = path.read_bytes()
    dim, hidden, layers, heads, kv_heads, vocab, length = struct.unpack_from("<7i", content)
    values, at = array.array("f", content[28:]), 0

    def take(count, columns=0):
        nonlocal at
        at += count * max(columns, 1)
        part = values[at - count * max(columns, 1) : at]
        return rows(part, columns) if columns else list(part)

    kv = dim // heads * kv_heads
    weights = {"embedding": take(vocab, dim)} | {layer: {} for layer in range(layers)}
    order = [("norm1", dim, 0), ("q", dim, dim), ("k", kv, dim), ("v", kv, dim), ("o", dim, dim), ("norm2", dim, 0)]
    for name, count, columns in order + [("gate", hidden, dim), ("down", dim, hidden), ("up", hidden, dim)]:
        for layer in range(layers):
            weights[layer][name] = take(count, columns)
    weights["norm"] = take(dim)
    if len(values) - at != length * (dim // heads):
        sys.exit("the file has another size")
    return Net((dim, heads, kv_heads, layers), weights, lambda half: [(2 * i, 2 * i + 1) for i in range(half)])


def run_llama2c(arguments):
    """As llama2.c's run."""
    path, flags = pathlib.Path(arguments[0]), dict(zip(arguments[1::2], arguments[2::2]))
    pieces, content, at = [], pathlib.Path(flags["-z"]).read_bytes(), 4
    while at < len(content):
        (length,) = struct.unpack_from("<i", content, at + 4)
        pieces.append(content[at + 8 : at + 8 + length].decode())
        at += 8 + length
    prompt = [1] + [pieces.index(letter) for letter in (" " + flags["-i"] if "-i" in flags else "")]
    new = theirs(path).generate(prompt, int(flags["-n"]) - len(prompt) + 1)
    print("".join(pieces[token] for token in prompt[1:] + new).lstrip(" "))
    print("achieved tok/s: 50.000000", file=sys.stderr)


def run_ours(arguments):
    """As llama_generation."""
    flags = {name.removeprefix("--"): value for name, value in zip(arguments[::2], arguments[1::2])}
    if "bandwidth" in flags:
        return print(json.dumps({"bytes_per_second": 2e9}))
    ids = ours(pathlib.Path(flags["model"])).generate(list(map(int, flags.get("prompt", "1").split(","))), int(flags["tokens"]))
    rate = 150.0 if flags.get("dtype") == "bfloat16" else 100.0
    answer = {"tokens_per_second": rate, "weight_bytes": 9e6, "cache_bytes": 1e6, "ids": ",".join(map(str, ids))}
    return print(json.dumps(answer))


class CompareLlama(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        for name in ("llama_model", "llama_generation", "run"):
            program = self.folder / name
            lines = [f"#!{sys.executable}", "import sys", f"sys.path.insert(0, {str(HERE)!r})", "sys.dont_write_bytecode = True"]
            lines += ["import llama_test", f"llama_test.stand_in({name!r}, sys.argv[1:])", ""]
            program.write_text("\n".join(lines))
            program.chmod(0o755)

    def compare(self, *arguments):
        """Exit code and standard error."""
        text = io.StringIO()
        command = ["compare_llama.py", "--bin", str(self.folder), "--output", str(self.folder / "result.json"), "--no-page"]
        with contextlib.redirect_stderr(text), unittest.mock.patch("sys.argv", [*command, *map(str, arguments)]):
            code = compare_llama.main()
        return code, text.getvalue()

    def test_all(self):
        sizes = ("--shapes", "tiny", "--rounds", 2, "--tokens", 9, "--threads", "1,2")
        code, text = self.compare("--llama2c", self.folder, *sizes)
        self.assertEqual(code, 0, text)
        self.assertRegex(text, "64 greedy tokens of llama2.c, [0-9]{2} different ones, are ours")
        self.assertIn("llama.cpp is left out: --llama-cpp is not given", text)
        results = report.load(self.folder / "result.json")
        self.assertEqual([(r["dtype"], r["threads"]) for r in results["results"]],
                         [("float32", 1), ("float32", 2), ("bfloat16", 1), ("bfloat16", 2)])
        first, last = results["results"][0], results["results"][-1]
        self.assertEqual(first["tokens_per_second"], {"storylm float32": [100.0, 100.0], "llama2.c float32": [50.0, 50.0]})
        self.assertEqual(first["ratio"], {"llama2.c float32": 2.0})
        self.assertEqual(first["bytes_per_second"]["storylm float32"], 1e9)
        self.assertEqual(last["tokens_per_second"], {"storylm bfloat16": [150.0, 150.0]})
        page = compare_llama.page_text(results, "picture.svg")
        self.assertIn("| tiny | 1 | storylm | float32 | 100 | 1 | 50 % |  |", page)
        self.assertIn("| tiny | 1 | llama2.c | float32 | 50.0 | 0.5 | 25 % | 2 |", page)
        self.assertNotIn(str(self.folder), page + json.dumps(results))
        self.assertIn("tiny, float32, 2 threads", compare_llama.picture_text(results))

    def test_other_tokens(self):
        with unittest.mock.patch("llama_export.interleaved", lambda matrix, heads: matrix):
            code, text = self.compare("--llama2c", self.folder, "--shapes", "tiny", "--tokens", 9)
        self.assertEqual(code, 1)
        self.assertIn("llama2.c writes other tokens", text)

    def test_left_out(self):
        empty = self.folder / "empty"
        empty.mkdir()
        code, text = self.compare("--llama2c", empty, "--llama-cpp", empty, "--shapes", "tiny", "--rounds", 1, "--tokens", 3)
        self.assertEqual(code, 0, text)
        self.assertIn("llama2.c is left out: its folder has no program run", text)
        self.assertIn("llama.cpp is left out: its folder has no llama-bench", text)

    def test_a_program_that_fails(self):
        (self.folder / "llama_generation").write_text("#!/bin/sh\necho no memory >&2\nexit 3\n")
        code, text = self.compare("--llama2c", self.folder, "--shapes", "tiny")
        self.assertEqual(code, 1)
        self.assertIn("llama_generation ended with 3: no memory", text)

    def test_the_page_has_a_place_for_it(self):
        self.assertTrue(re.search("<!-- compare_llama: begin -->.*<!-- compare_llama: end -->",
                                  compare_llama.PAGE.read_text(), re.S))


def stand_in(name, arguments):
    """What the programs that the test writes call."""
    if name == "llama_model":
        return make_model(pathlib.Path(arguments[arguments.index("--output") + 1]), random.Random(7))
    return {"llama_generation": run_ours, "run": run_llama2c}[name](arguments)


if __name__ == "__main__":
    unittest.main()
