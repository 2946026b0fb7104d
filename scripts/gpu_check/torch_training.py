#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Trains in PyTorch what benchmarks/gpu_training.cpp trained, and compares losses and speed.

    torch_training.py FOLDER [--device cuda] [--steps 30] [--no-compile] [--target 1.5] [--tokens-per-second N]

FOLDER is what gpu_training --export left: initial weights, batches, losses without dropout. Here the same model is a plain
torch.nn.Module: bf16 autocast, scaled_dot_product_attention, fused Adam, dropout 0.1 where speed is measured and none where
losses are. Prints rows as the C++ programs do (see gpu_support.hpp). Exit code 1 when the losses do not agree.
"""

import argparse
import math
import pathlib
import sys
import time

import torch
from torch import nn
from torch.nn import functional

LIMIT = 0.02  # of |a - b| / b: bf16 rounds differently in both


def row(name, value, unit="", reference="", verdict="info"):
    text = f"{value:.9g}" if isinstance(value, float) else str(value)
    print("ROW", name, text, unit, reference, verdict, sep="\t", flush=True)


class Block(nn.Module):
    """Post-norm, as torch.nn.TransformerEncoderLayer, but with one call of SDPA."""

    def __init__(self, width, hidden, heads, dropout):
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)

    def drop(self, x):
        return functional.dropout(x, self.dropout, self.training)

    def forward(self, x):
        batch, time_, width = x.shape
        q, k, v = self.qkv(x).view(batch, time_, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        p = self.dropout if self.training else 0.0
        y = functional.scaled_dot_product_attention(q, k, v, dropout_p=p, is_causal=True)
        x = self.norm1(x + self.drop(self.out(y.transpose(1, 2).reshape(batch, time_, width))))
        return self.norm2(x + self.drop(self.down(self.drop(torch.relu(self.up(x))))))


class Model(nn.Module):
    def __init__(self, c, dropout):
        super().__init__()
        width, length = c["d_model"], c["max_len"]
        self.scale = math.sqrt(width) if c["scale_embedding"] else 1.0
        self.dropout = dropout
        self.embedding = nn.Embedding(c["vocab_size"], width)
        self.blocks = nn.ModuleList(Block(width, c["d_ff"], c["n_heads"], dropout) for _ in range(c["n_layers"]))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, c["vocab_size"])
        position = torch.arange(length, dtype=torch.float64)[:, None]
        frequency = torch.exp(torch.arange(0, width, 2, dtype=torch.float64) * (-math.log(10000.0) / width))
        table = torch.zeros(length, width, dtype=torch.float64)
        table[:, 0::2] = torch.sin(position * frequency)
        table[:, 1::2] = torch.cos(position * frequency)
        self.register_buffer("positions", table.float(), persistent=False)

    def forward(self, ids, targets):
        x = self.embedding(ids) * self.scale + self.positions[: ids.shape[1]]
        x = functional.dropout(x, self.dropout, self.training)
        for block in self.blocks:
            x = block(x)
        logits = self.head(self.norm(x))
        return functional.cross_entropy(logits.flatten(0, 1), targets.flatten())


def read_settings(folder):
    lines = (folder / "settings.txt").read_text().split("\n")
    return {name: float(value) if name == "lr" else int(value) for name, value in (line.split() for line in lines if line)}


def read_weights(folder):
    """Our names as PyTorch's of Model: blocks.0.attention.qkv.weight is blocks.0.qkv.weight."""
    values = torch.from_file(str(folder / "weights.bin"), size=(folder / "weights.bin").stat().st_size // 4, dtype=torch.float32)
    weights, at = {}, 0
    for line in (folder / "weights.txt").read_text().split("\n"):
        if not line:
            continue
        name, *shape = line.split()
        shape = [int(extent) for extent in shape]
        size = math.prod(shape)
        weights[name.replace(".attention.", ".").replace(".feed_forward.", ".")] = values[at : at + size].view(shape).clone()
        at += size
    assert at == values.numel(), "weights.bin and weights.txt differ"
    return weights


def make(folder, c, device, dropout):
    model = Model(c, dropout).to(device)
    missing, unexpected = model.load_state_dict({k: v.to(device) for k, v in read_weights(folder).items()}, strict=False)
    if missing or unexpected:
        raise SystemExit(f"torch_training: weights do not fit: missing {missing}, unexpected {unexpected}")
    model.train()
    fused = {"fused": True} if device.type == "cuda" else {}
    return model, torch.optim.Adam(model.parameters(), lr=c["lr"], **fused)


def step(model, optimizer, batch, parameters):
    with torch.autocast(batch[0].device.type, dtype=torch.bfloat16):
        loss = model(*batch)
    loss.backward()
    nn.utils.clip_grad_norm_(parameters, 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return loss.detach()


def wait(device):
    if device.type == "cuda":
        torch.cuda.synchronize()


def speed(folder, c, device, batches, steps, compiled):
    """Tokens per second with dropout."""
    model, optimizer = make(folder, c, device, 0.1)
    parameters = list(model.parameters())
    call = torch.compile(model) if compiled else model
    for i in range(5):
        step(call, optimizer, batches[i % len(batches)], parameters)
    wait(device)
    start = time.monotonic()
    for i in range(steps):
        step(call, optimizer, batches[i % len(batches)], parameters)
    wait(device)
    return batches[0][0].numel() * steps / (time.monotonic() - start)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--no-compile", action="store_true")
    parser.add_argument("--target", type=float, default=1.5, help="how many times torch.compile's speed ours should be")
    parser.add_argument("--tokens-per-second", type=float, default=0.0, help="ours")
    flags = parser.parse_args()
    device = torch.device(flags.device)
    c = read_settings(flags.folder)
    torch.manual_seed(1)

    shape = (c["batches"], 2, c["sequences"], c["length"])
    raw = torch.from_file(str(flags.folder / "batches.bin"), size=math.prod(shape), dtype=torch.int32).view(shape)
    batches = [(pair[0].long().to(device), pair[1].long().to(device)) for pair in raw]

    # Losses first: they need no compiler and tell whether both programs compute the same.
    model, optimizer = make(flags.folder, c, device, 0.0)
    parameters = list(model.parameters())
    losses = [step(model, optimizer, batches[i % len(batches)], parameters) for i in range(c["steps"])]
    losses = [loss.item() for loss in losses]
    ours = [float(line) for line in (flags.folder / "losses.txt").read_text().split()]
    (flags.folder / "losses_pytorch.txt").write_text("\n".join(f"{loss:.9g}" for loss in losses) + "\n")
    differences = [abs(a - b) / b for a, b in zip(ours, losses)]
    good = len(ours) == len(losses) and all(d <= LIMIT for d in differences)
    row(f"first {len(losses)} losses", f"{ours[0]:.4f} to {ours[-1]:.4f}", "", f"PyTorch {losses[0]:.4f} to {losses[-1]:.4f}",
        "ok" if good else "wrong")
    row("their largest relative difference", max(differences), "", f"at most {LIMIT}", "ok" if good else "wrong")
    del model, optimizer, parameters

    row("PyTorch, eager", speed(flags.folder, c, device, batches, flags.steps, False), "tokens/s", f"torch {torch.__version__}")
    if not flags.no_compile:
        try:
            compiled = speed(flags.folder, c, device, batches, flags.steps, True)
            ratio = flags.tokens_per_second / compiled
            judged = device.type == "cuda" and "H200" in torch.cuda.get_device_name()  # targets are an H200's
            reference = f"ours {ratio:.2f} times that, target {flags.target}{'' if judged else ' on an H200'}" if ratio else ""
            row("PyTorch, torch.compile", compiled, "tokens/s", reference,
                "info" if not ratio or not judged else "ok" if ratio >= flags.target else "missed")
        except Exception as error:  # a compiler may be missing there: that is no fault of ours
            row("PyTorch, torch.compile", "not possible: " + str(error).strip().split("\n")[0][:120])
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
