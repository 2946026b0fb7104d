#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Writes a Llama-shaped checkpoint of ours as llama2.c's file and as llama.cpp's GGUF files.

    python llama_export.py --model model.safetensors --output-dir DIR [--gguf float32,bfloat16,float16] [--bin build/bin]

DIR gets llama2c.bin (the version without a magic number, which llama2.c's run reads), llama2c_tokenizer.bin and, by
export_model, float32.gguf and so on. The vocabulary is made up: token 300 is spelt "[300]", " " and "a" to "z" are tokens
from 259 on, so that both programs read the prompt "abc" as 1, 259, 260, 261, 262 and what they print tells the tokens.
"""

import argparse
import json
import pathlib
import struct
import subprocess
from typing import NamedTuple

BOS, EOS, SPACE = 1, 2, 259


def piece(token):
    """How a token is spelt."""
    if token == SPACE:
        return " "
    if SPACE < token <= SPACE + 26:
        return chr(ord("a") + token - SPACE - 1)
    return {0: "<unk>", BOS: "<s>", EOS: "</s>"}.get(token, f"[{token}]")


class Values(NamedTuple):
    """A tensor of float32."""

    shape: list
    content: memoryview  # little-endian


def read(path):
    """Config and float32 tensors of a checkpoint, by name."""
    content = memoryview(path.read_bytes())
    (size,) = struct.unpack_from("<Q", content)
    header = json.loads(bytes(content[8 : 8 + size]))
    metadata = header.pop("__metadata__")
    tensors = {}
    for name, tensor in header.items():
        if tensor["dtype"] != "F32":
            raise SystemExit(f"llama_export.py: {path}: tensor {name} is {tensor['dtype']}, expected F32")
        begin, end = (8 + size + offset for offset in tensor["data_offsets"])
        tensors[name] = Values(tensor["shape"], content[begin:end])
    return json.loads(metadata["config"]), tensors


def interleaved(matrix, heads):
    """Rows of queries or keys in the order in which llama2.c rotates them: pairs side by side, where ours has the
    first of all pairs and then the second."""
    rows, columns = matrix.shape
    half, size = rows // heads // 2, 4 * columns
    order = [head * 2 * half + part * half + i for head in range(heads) for i in range(half) for part in (0, 1)]
    return Values(matrix.shape, memoryview(b"".join(matrix.content[row * size :][:size] for row in order)))


class Model:
    """A checkpoint in the order of llama2.c's rotations."""

    def __init__(self, path):
        self.config, self.tensors = read(path)
        c = self.config
        if c["norm"] != "rms_norm" or c["feed_forward"] != "swiglu" or c["positions"] != "rope_half":
            raise SystemExit(f"llama_export.py: {path} is not a Llama-shaped model")
        self.heads, self.kv_heads = c["n_heads"], c["n_kv_heads"]
        self.tied = "lm_head.weight" not in self.tensors

    def __call__(self, name):
        return self.tensors[name + ".weight"]

    def layer(self, index, name):
        matrix = self(f"model.layers.{index}.{name}")
        heads = {"self_attn.q_proj": self.heads, "self_attn.k_proj": self.kv_heads}.get(name)
        return matrix if heads is None else interleaved(matrix, heads)


def write_llama2c(model, folder):
    c = model.config
    layers, length = c["n_layers"], c["max_len"]
    vocab = c["vocab_size"]
    with open(folder / "llama2c.bin", "wb") as file:
        sizes = (c["d_model"], c["d_ff"], layers, model.heads, model.kv_heads)
        file.write(struct.pack("<7i", *sizes, vocab if model.tied else -vocab, length))
        file.write(model("model.embed_tokens").content)
        before = ["input_layernorm", "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj"]
        for name in before + ["post_attention_layernorm", "mlp.gate_proj", "mlp.down_proj", "mlp.up_proj"]:
            for index in range(layers):
                file.write(model.layer(index, name).content)
        file.write(model("model.norm").content)
        head_size = c["d_model"] // model.heads
        file.write(bytes(4 * length * head_size))  # once angles; they are skipped
        if not model.tied:
            file.write(model("lm_head").content)
    with open(folder / "llama2c_tokenizer.bin", "wb") as file:
        pieces = [piece(token).encode() for token in range(vocab)]
        file.write(struct.pack("<i", max(map(len, pieces))))
        for text in pieces:
            file.write(struct.pack("<fi", 0.0, len(text)) + text)


def field(number, value):
    """A field of a protocol buffer: a number below 128, or bytes."""
    parts = [number << 3 | (0 if isinstance(value, int) else 2)]
    parts += [value] if isinstance(value, int) else [len(value)]
    coded = b""
    for part in parts:
        while part > 127:
            coded, part = coded + bytes([part & 127 | 128]), part >> 7
        coded += bytes([part])
    return coded if isinstance(value, int) else coded + value


def write_tokenizer(vocab, path):
    """The vocabulary as a SentencePiece model: BPE without merges, and no normaliser."""
    normal, unknown, control = 1, 2, 3
    kinds = {0: unknown, BOS: control, EOS: control}
    content = b""
    for token in range(vocab):
        text = piece(token).replace(" ", "\u2581").encode()
        content += field(1, field(1, text) + field(3, kinds.get(token, normal)))
    content += field(2, field(3, 2))  # the trainer's model_type: BPE
    content += field(3, field(1, b"identity"))  # the normaliser
    path.write_bytes(content)


def write_gguf(checkpoint, vocab, path, dtype, programs):
    """@throws subprocess.CalledProcessError where export_model fails"""
    tokenizer = path.with_name("made_up.model")
    write_tokenizer(vocab, tokenizer)
    path.unlink(missing_ok=True)
    command = [programs / "export_model", "--format", "gguf", "--checkpoint-path", checkpoint, "--output", path]
    command += ["--tokenizer-path", tokenizer, "--dtype", dtype]
    subprocess.run([str(part) for part in command], check=True, capture_output=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", type=pathlib.Path, required=True)
    parser.add_argument("--output-dir", type=pathlib.Path, required=True)
    parser.add_argument("--gguf", default="float32,bfloat16,float16", help="weight types, separated by commas")
    parser.add_argument("--bin", type=pathlib.Path, default=pathlib.Path("build/bin"), help="has export_model; default: build/bin")
    flags = parser.parse_args()
    flags.output_dir.mkdir(parents=True, exist_ok=True)
    model = Model(flags.model)
    write_llama2c(model, flags.output_dir)
    for dtype in filter(None, flags.gguf.split(",")):
        write_gguf(flags.model, model.config["vocab_size"], flags.output_dir / f"{dtype}.gguf", dtype, flags.bin)


if __name__ == "__main__":
    main()
