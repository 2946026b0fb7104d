#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Scores and writes with transformers what cpu_hugging_face scores and writes; makes the folders for both.

    transformers_worker.py --make FOLDER --shape gpt2|llama_160m|mistral_7b [--layers N]
    transformers_worker.py --folder FOLDER --task scoring|writing --dtype float32|bfloat16 [--stories 32] [--length 300]
                           [--batch 0]

The second form answers each number N on standard input with a line of JSON, as cpu_hugging_face --serve on does. Stories are
padded to the longest of a batch, sorted by their lengths; --batch 0 tries batches of 1, 2, 4, 8 and 16 and takes the fastest. The
loss is that of the guide to perplexity in transformers' documentation: logits of all tokens, cross entropy of the shifted ones.
"""
import argparse
import json
import sys
import time

import torch
import transformers

SHAPES = {
    "gpt2": lambda layers: transformers.GPT2Config(n_layer=layers or 12),
    "llama_160m": lambda layers: transformers.LlamaConfig(
        hidden_size=768, intermediate_size=2048, num_hidden_layers=layers or 12, num_attention_heads=12,
        num_key_value_heads=4, vocab_size=32000, max_position_embeddings=2048, tie_word_embeddings=False),
    "mistral_7b": lambda layers: transformers.MistralConfig(
        hidden_size=4096, intermediate_size=14336, num_hidden_layers=layers or 2, num_attention_heads=32,
        num_key_value_heads=8, vocab_size=32000, max_position_embeddings=32768, sliding_window=4096),
}


def make(folder, shape, layers):
    """Random weights, bfloat16 as such folders mostly are; layer by layer, so that seven billion need no more than their size."""
    torch.manual_seed(1)
    config = SHAPES[shape](layers)
    config.dtype = torch.bfloat16
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(config).to(torch.bfloat16)
    model = model.to_empty(device="cpu")
    with torch.no_grad():
        for name, value in model.named_parameters():
            if "norm" in name or ".ln_" in name:
                value.fill_(0.0 if name.endswith("bias") else 1.0)
            elif name.endswith("bias"):
                value.zero_()
            else:
                value.normal_(0.0, 0.02)
    model.tie_weights()
    model.save_pretrained(folder, max_shard_size="2GB")


def peak_memory():
    for line in open("/proc/self/status"):
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def story(number, length, vocab_size):
    return [(number * 7919 + t * t * 31 + t * 17) % vocab_size for t in range(length)]


class Worker:
    def __init__(self, flags):
        dtype = {"float32": torch.float32, "bfloat16": torch.bfloat16}[flags.dtype]
        self.flags = flags
        memory = peak_memory()
        start = time.perf_counter()
        self.model = transformers.AutoModelForCausalLM.from_pretrained(flags.folder, dtype=dtype).eval()
        self.load_seconds = time.perf_counter() - start
        self.load_memory = peak_memory() - memory
        vocab_size = self.model.config.vocab_size
        lengths = [flags.length - flags.length * 2 // 3 * i // max(1, flags.stories - 1) for i in range(flags.stories)]
        self.stories = [story(i, lengths[i], vocab_size) for i in range(flags.stories)]
        self.nll = None

    def score(self, batch):
        nll, count = 0.0, 0
        for first in range(0, len(self.stories), batch):
            some = self.stories[first : first + batch]
            longest = max(map(len, some))
            ids = torch.zeros(len(some), longest, dtype=torch.long)
            targets = torch.full((len(some), longest), -100)
            for row, tokens in enumerate(some):
                ids[row, : len(tokens)] = torch.tensor(tokens)
                targets[row, : len(tokens) - 1] = torch.tensor(tokens[1:])
            mask = None if all(len(tokens) == longest for tokens in some) else (torch.arange(longest)[None] < torch.tensor([[len(t)] for t in some])).long()
            logits = self.model(ids, attention_mask=mask, use_cache=False).logits
            nll += torch.nn.functional.cross_entropy(
                logits.flatten(0, 1).float(), targets.flatten(), ignore_index=-100, reduction="sum").item()
            count += sum(len(tokens) - 1 for tokens in some)
        self.nll = nll / count
        return count

    def write(self):
        prompt = torch.tensor([story(0, 4, self.model.config.vocab_size)])
        written = self.model.generate(
            prompt, attention_mask=torch.ones_like(prompt), max_length=self.flags.length, do_sample=False, eos_token_id=None,
            pad_token_id=0)
        return written.shape[1] - prompt.shape[1]

    def once(self):
        return self.score(self.batch) if self.flags.task == "scoring" else self.write()

    def set_up(self):
        self.batch = self.flags.batch or 1
        self.once()
        if self.flags.task == "scoring" and not self.flags.batch:
            seconds = {}
            for batch in (1, 2, 4, 8, 16):
                start = time.perf_counter()
                self.score(batch)
                seconds[batch] = time.perf_counter() - start
            self.batch = min(seconds, key=seconds.get)
        return {"ready": 1, "batch": self.batch, "mean_nll": self.nll, "load_seconds": self.load_seconds,
                "load_memory": self.load_memory, "peak_memory": peak_memory()}

    def measure(self, repeats):
        start = time.perf_counter()
        tokens = sum(self.once() for _ in range(repeats))
        seconds = time.perf_counter() - start
        return {"tokens": tokens // repeats, "seconds": seconds, "tokens_per_second": tokens / seconds,
                "peak_memory": peak_memory(), "mean_nll": self.nll}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--make")
    parser.add_argument("--shape", choices=SHAPES)
    parser.add_argument("--layers", type=int, default=0)
    parser.add_argument("--folder")
    parser.add_argument("--task", choices=("scoring", "writing"), default="scoring")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--stories", type=int, default=32)
    parser.add_argument("--length", type=int, default=300)
    parser.add_argument("--batch", type=int, default=0)
    parser.add_argument("--threads", type=int, default=0)
    flags = parser.parse_args()
    transformers.logging.set_verbosity_error()
    if flags.threads:
        torch.set_num_threads(flags.threads)
    if flags.make:
        return make(flags.make, flags.shape, flags.layers)
    with torch.inference_mode():
        worker = Worker(flags)
        print(json.dumps(worker.set_up()), flush=True)
        for line in sys.stdin:
            print(json.dumps(worker.measure(int(line))), flush=True)


if __name__ == "__main__":
    main()
