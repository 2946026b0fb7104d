#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Writes a Llama-shaped checkpoint of ours as llama2.c's file and as llama.cpp's GGUF files.

    python llama_export.py --model model.safetensors --output-dir DIR [--gguf float32,bfloat16,float16]

DIR gets llama2c.bin (the version without a magic number, which llama2.c's run reads), llama2c_tokenizer.bin and
float32.gguf and so on. The vocabulary is made up: token 300 is spelt "[300]", " " and "a" to "z" are tokens from 259 on,
so that both programs read the prompt "abc" as 1, 259, 260, 261, 262 and what they print tells the tokens.

GGUF needs the packages numpy and gguf; without them these files are left out.
"""

import argparse
import json
import pathlib
import struct
import sys
from typing import NamedTuple

BOS, EOS, SPACE = 1, 2, 259
NAMES = {  # ours (Hugging Face's) within a layer: llama.cpp's
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


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
    """Rows of queries or keys in the order in which both programs rotate them: pairs side by side, where ours has the
    first of all pairs and then the second."""
    rows, columns = matrix.shape
    half, size = rows // heads // 2, 4 * columns
    order = [head * 2 * half + part * half + i for head in range(heads) for i in range(half) for part in (0, 1)]
    return Values(matrix.shape, memoryview(b"".join(matrix.content[row * size :][:size] for row in order)))


class Model:
    """A checkpoint in the order of both programs' rotations."""

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


def write_gguf(model, path, dtype):
    import gguf
    import numpy

    kinds = {
        "float32": (gguf.GGMLQuantizationType.F32, gguf.LlamaFileType.ALL_F32),
        "bfloat16": (gguf.GGMLQuantizationType.BF16, gguf.LlamaFileType.MOSTLY_BF16),
        "float16": (gguf.GGMLQuantizationType.F16, gguf.LlamaFileType.MOSTLY_F16),
    }
    kind, file_type = kinds[dtype]
    c = model.config
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(c["max_len"])
    writer.add_embedding_length(c["d_model"])
    writer.add_block_count(c["n_layers"])
    writer.add_feed_forward_length(c["d_ff"])
    writer.add_head_count(model.heads)
    writer.add_head_count_kv(model.kv_heads)
    writer.add_layer_norm_rms_eps(c["norm_eps"])
    writer.add_rope_dimension_count(c["d_model"] // model.heads)
    writer.add_rope_freq_base(c["rope_theta"])
    writer.add_vocab_size(c["vocab_size"])
    writer.add_file_type(file_type)

    tokens = range(c["vocab_size"])
    special = {0: gguf.TokenType.UNKNOWN, BOS: gguf.TokenType.CONTROL, EOS: gguf.TokenType.CONTROL}
    writer.add_tokenizer_model("llama")
    writer.add_token_list([piece(token).replace(" ", "\u2581") for token in tokens])
    writer.add_token_scores([0.0 for _ in tokens])
    writer.add_token_types([special.get(token, gguf.TokenType.NORMAL) for token in tokens])
    writer.add_bos_token_id(BOS)
    writer.add_eos_token_id(EOS)
    writer.add_unk_token_id(0)
    writer.add_add_bos_token(True)
    writer.add_add_space_prefix(True)

    def add(name, values):
        own = kind if len(values.shape) == 2 else gguf.GGMLQuantizationType.F32
        numbers = numpy.frombuffer(values.content, "<f4").reshape(values.shape)
        writer.add_tensor(name + ".weight", gguf.quants.quantize(numbers, own), raw_dtype=own)

    add("token_embd", model("model.embed_tokens"))
    for index in range(c["n_layers"]):
        for ours, theirs in NAMES.items():
            add(f"blk.{index}.{theirs}", model.layer(index, ours))
    add("output_norm", model("model.norm"))
    if not model.tied:
        add("output", model("lm_head"))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", type=pathlib.Path, required=True)
    parser.add_argument("--output-dir", type=pathlib.Path, required=True)
    parser.add_argument("--gguf", default="float32,bfloat16,float16", help="weight types, separated by commas")
    flags = parser.parse_args()
    flags.output_dir.mkdir(parents=True, exist_ok=True)
    model = Model(flags.model)
    write_llama2c(model, flags.output_dir)
    for dtype in filter(None, flags.gguf.split(",")):
        try:
            write_gguf(model, flags.output_dir / f"{dtype}.gguf", dtype)
        except ImportError:
            print("llama_export.py: no GGUF files without the Python packages numpy and gguf", file=sys.stderr)
            break


if __name__ == "__main__":
    main()
