#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Trains or generates in PyTorch, on the CPU, as benchmarks/compare_pytorch.py asks.

    pytorch_worker.py train FOLDER [--dtype float32|bfloat16] [--dropout 0.1] [--blocks sdpa|encoder] [--compile]
                      [--adam fused|foreach] [--whole] [--threads N] [--warm-up 2]
    pytorch_worker.py generate FOLDER [--dtype ...] [--method cache|recompute|padded] [--batch 1] [--prompt 4] [--tokens 256]

FOLDER is what `cpu_training --export` left: initial weights and padded batches. The model is that of
scripts/gpu_check/torch_training.py: post-norm blocks written by hand over scaled_dot_product_attention; --blocks encoder takes
torch.nn.TransformerEncoder instead, with the same weights. bfloat16 is autocast, with --whole the model itself.

Writes a line of JSON when it is warm; then for each line "N" of standard input it does N steps (generation: N times over) and
writes another. Ends with the input. Needs torch.
"""

import argparse
import json
import math
import pathlib
import resource
import sys
import time

import torch
from torch import nn
from torch.nn import functional

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts" / "gpu_check"))
from torch_training import Model, read_settings, read_weights  # noqa: E402  (the path has to be known first)


class Layers(nn.Module):
    """torch.nn.TransformerEncoder with its causal mask, in the place of the blocks."""

    def __init__(self, c, dropout):
        super().__init__()
        layer = nn.TransformerEncoderLayer(c["d_model"], c["n_heads"], c["d_ff"], dropout, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, c["n_layers"], enable_nested_tensor=False)
        mask = nn.Transformer.generate_square_subsequent_mask(c["max_len"])
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, x):
        length = x.shape[1]
        return self.encoder(x, mask=self.mask[:length, :length], is_causal=True)


class Encoder(Model):
    """The same model over torch.nn.TransformerEncoder."""

    NAMES = {
        "qkv.weight": "self_attn.in_proj_weight",
        "qkv.bias": "self_attn.in_proj_bias",
        "out": "self_attn.out_proj",
        "up": "linear1",
        "down": "linear2",
    }

    def __init__(self, c, dropout):
        super().__init__(c | {"n_layers": 0}, dropout)
        self.blocks = nn.ModuleList([Layers(c, dropout)])

    def load_state_dict(self, weights, strict=True):
        named = {}
        for name, value in weights.items():
            if name.startswith("blocks."):
                _, layer, rest = name.split(".", 2)
                for ours, theirs in self.NAMES.items():
                    if rest == ours or rest.startswith(ours + "."):
                        rest = theirs + rest[len(ours) :]
                        break
                name = f"blocks.0.encoder.layers.{layer}.{rest}"
            named[name] = value
        return super().load_state_dict(named, strict)


def make(folder, c, dropout, blocks):
    model = (Encoder if blocks == "encoder" else Model)(c, dropout)
    missing, unexpected = model.load_state_dict(read_weights(folder), strict=False)
    if missing or unexpected:
        raise SystemExit(f"pytorch_worker: weights do not fit: missing {missing}, unexpected {unexpected}")
    return model


def read_batches(folder, c):
    """(ids, targets) of each batch; a target of -100 is none."""
    shape = (c["batches"], 2, c["sequences"], c["length"])
    file = folder / "batches.bin"
    raw = torch.from_file(str(file), size=math.prod(shape), dtype=torch.int32).view(shape)
    return [(pair[0].long(), pair[1].long()) for pair in raw]


def peak_memory():
    """The most memory that this process has had, in bytes."""
    try:
        status = pathlib.Path("/proc/self/status").read_text()
        return 1024 * int(status.split("VmHWM:")[1].split()[0])
    except (OSError, IndexError):
        return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def report(**values):
    print(json.dumps(values | {"peak_memory": peak_memory(), "torch_version": torch.__version__}), flush=True)


class Training:
    def __init__(self, flags):
        c = read_settings(flags.folder)
        self.batches = read_batches(flags.folder, c)
        model = make(flags.folder, c, flags.dropout, flags.blocks)
        self.autocast = flags.dtype == "bfloat16" and not flags.whole
        if flags.dtype == "bfloat16" and flags.whole:
            model = model.bfloat16()
        model.train()
        self.parameters = list(model.parameters())
        self.optimizer = torch.optim.Adam(self.parameters, lr=c["lr"], **{flags.adam: True})
        self.model = torch.compile(model) if flags.compile else model
        self.done = 0
        self.first_loss = None

    def step(self):
        batch = self.batches[self.done % len(self.batches)]
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.autocast):
            loss = self.model(*batch)
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.done += 1
        loss = loss.item()
        if self.first_loss is None:
            self.first_loss = loss
        return loss, int((batch[1] >= 0).sum())

    def measure(self, steps):
        targets, start = 0, time.monotonic()
        for _ in range(steps):
            loss, count = self.step()
            targets += count
        seconds = time.monotonic() - start
        return {
            "steps": steps,
            "targets": targets,
            "seconds": seconds,
            "tokens_per_second": targets / seconds,
            "first_loss": self.first_loss,
            "last_loss": loss,
        }


class Generation:
    """Top-2 sampling at temperature 0.5 from prompts of `prompt` tokens up to `tokens`."""

    SAMPLES = 4  # context lengths at which recomputing is measured

    def __init__(self, flags):
        self.c = read_settings(flags.folder)
        self.model = make(flags.folder, self.c, 0.0, "sdpa").eval()
        if flags.dtype == "bfloat16":
            self.model = self.model.bfloat16()
        self.batch, self.prompt, self.tokens, self.method = flags.batch, flags.prompt, flags.tokens, flags.method
        self.dtype = next(self.model.parameters()).dtype
        shape = (2, self.c["n_layers"], self.batch, self.c["n_heads"], self.tokens, self.c["d_model"] // self.c["n_heads"])
        self.cache = torch.zeros(shape, dtype=self.dtype) if self.method == "cache" else None

    def draw(self, logits):
        """The next ids (batch) from logits (batch, vocabulary)."""
        values, ids = logits.float().topk(2, dim=-1)
        choice = torch.multinomial(torch.softmax(values / 0.5, dim=-1), 1)
        return ids.gather(-1, choice).squeeze(-1)

    def forward(self, ids, first):
        """Logits of the last position, for ids (batch, time) at the positions from `first` on."""
        model, last = self.model, first + ids.shape[1]
        x = model.embedding(ids) * model.scale + model.positions[first:last]
        for layer, block in enumerate(model.blocks):
            batch, time_, width = x.shape
            q, k, v = block.qkv(x).view(batch, time_, 3, block.heads, width // block.heads).permute(2, 0, 3, 1, 4)
            if self.cache is not None:
                keys, values = self.cache[0, layer], self.cache[1, layer]
                keys[:, :, first:last], values[:, :, first:last] = k, v
                k, v = keys[:, :, :last], values[:, :, :last]
            y = functional.scaled_dot_product_attention(q, k, v, is_causal=time_ > 1)
            x = block.norm1(x + block.out(y.transpose(1, 2).reshape(batch, time_, width)))
            x = block.norm2(x + block.down(torch.relu(block.up(x))))
        if self.cache is None:  # a plain model gives all positions
            return model.head(model.norm(x))[:, -1]
        return model.head(model.norm(x[:, -1]))

    def with_cache(self):
        """Whole stories; returns tokens drawn and seconds."""
        ids = torch.randint(4, 50, (self.batch, self.prompt))
        start = time.monotonic()
        following = self.draw(self.forward(ids, 0))
        for position in range(self.prompt, self.tokens - 1):
            following = self.draw(self.forward(following[:, None], position))
        return self.batch * (self.tokens - self.prompt), time.monotonic() - start

    def without(self):
        """One token at several lengths of context, evenly spread over a story; or in rows as long as can be."""
        room = self.tokens - self.prompt
        lengths = [self.prompt + room * (2 * i + 1) // (2 * self.SAMPLES) for i in range(self.SAMPLES)]
        if self.method == "padded":
            lengths = [self.c["max_len"]]
        start = time.monotonic()
        for length in lengths:
            self.draw(self.forward(torch.randint(4, 50, (self.batch, length)), 0))
        return self.batch * len(lengths), time.monotonic() - start

    @torch.inference_mode()
    def measure(self, repeats):
        drawn, seconds = 0, 0.0
        for _ in range(repeats):
            count, took = self.with_cache() if self.cache is not None else self.without()
            drawn, seconds = drawn + count, seconds + took
        return {"drawn": drawn, "seconds": seconds, "tokens_per_second": drawn / seconds}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=("train", "generate"))
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--blocks", choices=("sdpa", "encoder"), default="sdpa")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--adam", choices=("fused", "foreach"), default="fused")
    parser.add_argument("--whole", action="store_true", help="bfloat16: the model itself instead of autocast")
    parser.add_argument("--method", choices=("cache", "recompute", "padded"), default="cache")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--prompt", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--warm-up", type=int, default=2)
    flags = parser.parse_args()
    torch.set_num_threads(flags.threads)
    torch.manual_seed(1)
    at_start = peak_memory()  # what Python and PyTorch take before they have a model
    work = Training(flags) if flags.kind == "train" else Generation(flags)
    if flags.warm_up > 0:
        work.measure(flags.warm_up)
    report(ready=1, first_loss=getattr(work, "first_loss", None), memory_at_start=at_start)
    for line in sys.stdin:
        report(**work.measure(int(line)))


if __name__ == "__main__":
    main()
