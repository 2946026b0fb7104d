#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Loads a storylm checkpoint of the reference architecture into PyTorch and prints or compares logits.

    python load_in_pytorch.py CHECKPOINT [--ids 1,5,8 [--ids 1,7]] [--compare FILE] [--dtype float32|float64]

CHECKPOINT is a safetensors file with its config as JSON under the metadata key "config". Tensors with the names of the
PyTorch module (embedding.*, encoder.*, head.*) are the model; those that begin with optimizer., state. or with one of
the prefixes listed (a JSON array or comma separated) under the metadata key "state_prefixes" belong to the run and are
left aside. Every other tensor must be one that `load_state_dict` expects, and none may be missing.

--ids prints the logits, one line per position; each --ids is a sequence of its own.
--compare takes a safetensors file with ids, logits and, for several packed sequences, offsets.

Exit code: 0 all well, 1 the logits differ by more than 1e-5 (max |a - b| / max |b|), 2 a bad file or flag.
Needs torch and safetensors.
"""

import argparse
import json
import pathlib
import sys

import torch
from safetensors import SafetensorError, safe_open

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tests" / "reference"))
from reference_models import build, pack, pad  # noqa: E402  (the path has to be known first)

TOLERANCE = 1e-5
REQUIRED = ("vocab_size", "d_model", "d_ff", "n_layers", "n_heads", "max_len", "scale_embedding")


class BadFile(Exception):
    """A file or flag that cannot be used; the message is the whole of what the user sees."""


def read(path):
    """All tensors and the metadata of a safetensors file."""
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise BadFile(f"{path}: {error}") from None


def state_prefixes(metadata):
    """Prefixes of tensors that are not the model's."""
    listed = metadata.get("state_prefixes", "[]").strip()
    listed = json.loads(listed) if listed.startswith("[") else listed.split(",")
    return ("optimizer.", "state.") + tuple(prefix.strip() for prefix in listed if prefix.strip())


def load_checkpoint(path, dtype=torch.float32):
    """(model, config) from a checkpoint; BadFile when config or tensors do not fit the PyTorch module."""
    tensors, metadata = read(path)
    if "config" not in metadata:
        raise BadFile(f'{path}: no "config" in the metadata, which has {sorted(metadata) or "nothing"}')
    try:
        config = json.loads(metadata["config"])
        missing = [field for field in REQUIRED if field not in config]
        if missing:
            raise ValueError(f"the config lacks {', '.join(missing)}")
        model = build({"norm_eps": 1e-5} | config, "pytorch").to(dtype)
        prefixes = state_prefixes(metadata)
        model.load_state_dict({name: t for name, t in tensors.items() if not name.startswith(prefixes)})
    except (ValueError, RuntimeError) as error:
        raise BadFile(f"{path}: {' '.join(str(error).split())}") from None  # PyTorch's message has several lines
    return model, config


def logits_of(model, config, ids, offsets):
    """Logits (tokens, vocabulary) of packed sequences."""
    longest = int((offsets[1:] - offsets[:-1]).max())
    if longest > config["max_len"]:
        raise BadFile(f"a sequence of {longest} ids is longer than max_len {config['max_len']}")
    if int(ids.min()) < 0 or int(ids.max()) >= config["vocab_size"]:
        raise BadFile(f"ids reach from {int(ids.min())} to {int(ids.max())}, vocab_size is {config['vocab_size']}")
    model.train()  # dropout is 0 here; eval() would take another, fused path
    with torch.no_grad():
        return pack(model(pad(ids, offsets, 0)), offsets)


def compare(model, config, path):
    """max |a - b| / max |b| of the model's logits against those in a file."""
    tensors, _ = read(path)
    absent = [name for name in ("ids", "logits") if name not in tensors]
    if absent:
        raise BadFile(f"{path}: no tensor {' and no tensor '.join(absent)} among its {len(tensors)} tensors")
    ids, expected = tensors["ids"].long().flatten(), tensors["logits"].double()
    offsets = tensors.get("offsets", torch.tensor([0, len(ids)])).long()
    bounds = offsets.tolist()
    if bounds[0] != 0 or bounds[-1] != len(ids) or any(a >= b for a, b in zip(bounds, bounds[1:])):
        raise BadFile(f"{path}: offsets {bounds} do not divide {len(ids)} ids")
    if tuple(expected.shape) != (len(ids), config["vocab_size"]):
        raise BadFile(f"{path}: logits are {tuple(expected.shape)}, not {(len(ids), config['vocab_size'])}")
    difference = (logits_of(model, config, ids, offsets).double() - expected).abs().max() / expected.abs().max()
    return difference.item()


def parse_ids(text):
    try:
        return [int(word) for word in text.replace(",", " ").split()]
    except ValueError:
        raise argparse.ArgumentTypeError(f"not a list of ids: {text!r}") from None


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=pathlib.Path)
    parser.add_argument("--ids", type=parse_ids, action="append", default=[], help="a sequence such as 1,5,8")
    parser.add_argument("--compare", type=pathlib.Path, metavar="FILE", help="safetensors file with ids and logits")
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32", help="default: float32")
    flags = parser.parse_args()
    torch.set_num_threads(1)
    try:
        model, config = load_checkpoint(flags.checkpoint, getattr(torch, flags.dtype))
        count = sum(parameter.numel() for parameter in model.parameters())
        print(f"loaded {count} parameters from {flags.checkpoint}")
        for ids in flags.ids:
            if not ids:
                raise BadFile("--ids is empty")
            for position, row in enumerate(logits_of(model, config, torch.tensor(ids), torch.tensor([0, len(ids)]))):
                print(f"{position}:", *(f"{value:.7g}" for value in row.tolist()))
        if flags.compare is not None:
            difference = compare(model, config, flags.compare)
            agree = difference <= TOLERANCE  # false for NaN
            print(f"max|a-b|/max|b| = {difference:.3g}, {'within' if agree else 'beyond'} {TOLERANCE:g}")
            return 0 if agree else 1
    except BadFile as error:
        print(f"load_in_pytorch: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
