#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Compares exported models with ours: logits and generated tokens in transformers and in llama.cpp, ids of texts.

    check_export.py [--bin build/bin] [--llama-cpp FOLDER] [--text FILE] [--work FOLDER]

check_export.sh builds the programs and calls this. For each shape that export_model writes, with random weights
(tests/make_export_models.cpp makes them):

  hf    AutoModelForCausalLM loads the folder, in float32 its logits on 700 tokens are ours to 1e-4 of the largest, its
        greedy continuation of 240 tokens is ours; in bfloat16 and float16 the weights are those that PyTorch rounds to.
        AutoTokenizer gives every text our ids, with BOS before them, and gives back the text that we do. The reference
        architecture is loaded by the loader in docs/guide/export.md.
  gguf  llama-completion of a built llama.cpp (FOLDER has it, or bin/ below) continues a text greedily as we do. Without
        --llama-cpp this is left out.

--text has one story per line; without it, make_stories makes some.

Exit code: 0 all agree, 1 something does not, 2 a bad flag. Needs torch, transformers and safetensors.
"""

import argparse
import json
import pathlib
import re
import subprocess
import sys
import tempfile

import torch
import transformers
from safetensors import safe_open
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

ROOT = pathlib.Path(__file__).resolve().parent.parent
TOLERANCE = 1e-4  # of the largest logit
COMPARED = 240  # tokens of a continuation
SPECIAL = [0, 1, 2, 3]  # not among them: UNK, BOS, EOS, PAD
ODD = [  # what normalisers are for
    "  two  spaces   and a tab\there ", "Ünïcödé “quotes” – dashes… naïve café", "日本語のテキスト and emoji 🐶🐱👩‍👩‍👧",
    "ﬁ ligature ½ ① ＡＢＣ", "e\u0301 combining n\u0303 a\u030a", "a\u200bb\u00a0c\u3000d", "▁literal▁underscore▁",
    "aaaaaaaaaaaaaaaa bbbbbbbbb nananananana", "<0x41> <unknown>", "ŁÓDŹ ÅNGSTRÖM ΑΘΗΝΑ МОСКВА", "\u00a0end\u00a0", "▁", "      ",
    "x", "...!!!???''\"\"", "don't can't won't", "1234567890 12,345.67",
]  # fmt: skip


class Failed(Exception):
    """A program that does not do what it should."""


def run(*command):
    done = subprocess.run([str(part) for part in command], stdin=subprocess.DEVNULL, capture_output=True, timeout=600)
    if done.returncode != 0:
        name = pathlib.Path(command[0]).name
        raise Failed(f"{name} ended with {done.returncode}: {done.stderr.decode(errors='replace').strip()[-500:]}")
    return done.stdout


def stories(flags):
    """One story per line."""
    if flags.text:
        return [" ".join(line.split()) for line in flags.text.read_text(encoding="utf-8").splitlines() if line.strip()]
    run(flags.bin / "make_stories", "--output-dir", flags.work / "shards", "--count", 2000, "--seed", 1)
    shards = sorted((flags.work / "shards").glob("*.json"))
    return [" ".join(record["story"].split()) for shard in shards for record in json.loads(shard.read_text())]


def documented_loader():
    """load() of docs/guide/export.md."""
    page = (ROOT / "docs/guide/export.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(import json\n.*?)^```$", page, re.M | re.S)
    names = {}
    exec(compile(code, "docs/guide/export.md", "exec"), names)
    return names["load"]


class Report:
    def __init__(self):
        self.failures = 0

    def __call__(self, ok, text):
        self.failures += not ok
        print(("ok    " if ok else "FAILED  ") + text, flush=True)


def difference(a, b):
    """max |a - b| / max |b|."""
    return ((a.double() - b.double()).abs().max() / b.double().abs().max()).item()


def greedy(logits_of, prompt, count):
    """Greedy continuation without a cache."""
    ids = list(prompt)
    with torch.no_grad():
        while len(ids) < count:
            last = logits_of(torch.tensor([ids]))[0, -1]
            last[SPECIAL] = -torch.inf
            ids.append(int(last.argmax()))
    return ids


def check_folder(name, folder, computed, report):
    if name == "reference":
        loaded = documented_loader()(folder)
        logits_of = loaded
    else:
        loaded = AutoModelForCausalLM.from_pretrained(folder)

        def logits_of(ids):
            return loaded(ids, use_cache=False).logits

    loaded.eval()
    with torch.no_grad():
        logits = logits_of(computed["ids"].long()[None])[0].float()
    apart = difference(logits, computed["logits"])
    kind = type(loaded).__name__
    report(apart <= TOLERANCE, f"{name} hf: {kind}, logits of {len(logits)} tokens differ by {apart:.2g}")
    expected = computed["greedy"].tolist()
    before = len(expected) - COMPARED
    prompt = expected[:before]
    if name == "reference":
        continued = greedy(logits_of, prompt, len(expected))
    else:
        loaded.generation_config.eos_token_id = None  # goes on, as ours did
        settings = {"do_sample": False, "max_new_tokens": COMPARED, "suppress_tokens": SPECIAL, "attention_mask": torch.ones(1, before)}
        continued = loaded.generate(torch.tensor([prompt]), **settings)[0].tolist()
    same = next((i for i, (a, b) in enumerate(zip(continued, expected)) if a != b), min(len(continued), len(expected)))
    distinct = len(set(expected[before:]))
    report(continued == expected, f"{name} hf: {same - before} of {COMPARED} greedy tokens are ours ({distinct} different ones)")


def check_rounding(name, folder, dtype, report):
    """Weights in 16 bits beside those in float32."""
    exact, rounded = load_file(folder / "float32/model.safetensors"), load_file(folder / dtype / "model.safetensors")
    kind = getattr(torch, dtype)
    same = exact.keys() == rounded.keys() and all(torch.equal(exact[key].to(kind), rounded[key]) for key in exact)
    report(same, f"{name} hf {dtype}: {len(exact)} tensors are those that PyTorch rounds to")


def check_tokenizer(name, folder, texts, report):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    wrong = []
    for text in texts:
        ids = tokenizer(text["text"])["input_ids"]
        if ids != [tokenizer.bos_token_id, *text["ids"]]:
            wrong.append(f"{text['text']!r}: {ids[1:20]} for {text['ids'][:20]}")
        elif tokenizer.unk_token_id not in ids:  # which SentencePiece shows as a sign, transformers by name
            decoded = tokenizer.decode(ids, skip_special_tokens=True)
            if decoded != text["decoded"]:
                wrong.append(f"{text['text']!r}: {decoded!r} for {text['decoded']!r}")
    kind = type(tokenizer).__name__
    report(not wrong, f"{name} tokenizer: {kind}, {len(texts) - len(wrong)} of {len(texts)} texts have our ids and come back")
    for line in wrong[:10]:
        print("        " + line)


def check_llama_cpp(name, program, model, pieces, computed, report):
    """Greedy tokens after a text, by the bytes that are printed; llama.cpp's default cache is float16."""
    exact = ["--temp", 0, "-ctk", "f32", "-ctv", "f32", "-fa", "off", "--ignore-eos"]
    exact += [part for token in SPECIAL for part in ("-l", f"{token}-1000")]
    plain = ["-no-cnv", "--simple-io", "--no-warmup", "-t", 1, "-n", COMPARED, "--no-display-prompt"]
    printed = run(program, "-m", model, *exact, *plain, "-p", computed["prompt"]).rstrip(b"\n")
    tokens = computed["greedy"].tolist()[-COMPARED:]
    ours = [spelling(pieces[token]) for token in tokens]
    text = b"".join(ours).rstrip(b"\n")
    same = next((i for i in range(COMPARED + 1) if not printed.startswith(b"".join(ours[:i]).rstrip(b"\n"))), COMPARED + 1) - 1
    report(printed == text, f"{name} gguf: {same} of {COMPARED} greedy tokens are ours ({len(set(tokens))} different ones)")
    if printed != text:
        at = len(b"".join(ours[:same]))
        print(f"        {printed[max(0, at - 20) : at + 40]!r}\n        {text[max(0, at - 20) : at + 40]!r}")


def spelling(piece):
    """The bytes of a piece as llama.cpp prints it: nothing for control tokens, and for the byte 0, at which its texts end."""
    if piece in ("<s>", "</s>", "<pad>", "<unk>"):
        return b""
    byte = re.fullmatch("<0x([0-9A-F]{2})>", piece)
    return bytes([int(byte.group(1), 16)]).replace(b"\0", b"") if byte else piece.replace("\u2581", " ").encode()


def load_computed(path):
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()} | file.metadata()


def check(flags, report):
    text = stories(flags)
    (flags.work / "text.txt").write_text("\n".join(text) + "\n", encoding="utf-8")
    (flags.work / "lines.txt").write_text("\n".join(text[:2000] + ODD) + "\n", encoding="utf-8")
    models = flags.work / "models"
    run(flags.bin / "make_export_models", "--text", flags.work / "text.txt", "--lines", flags.work / "lines.txt",
        "--output-dir", models, "--continued", COMPARED)  # fmt: skip
    for case in sorted(models.iterdir()):
        name = case.name
        computed = load_computed(case / "computed.safetensors")
        export = [flags.bin / "export_model", "--checkpoint-path", case / "checkpoint.safetensors"]
        for dtype in ("float32", "bfloat16", "float16"):
            run(*export, "--format", "hf", "--output", case / dtype, "--dtype", dtype)
        check_folder(name, case / "float32", computed, report)
        check_rounding(name, case, "bfloat16", report)
        check_rounding(name, case, "float16", report)
        texts = json.loads((case / "texts.json").read_text(encoding="utf-8"))
        check_tokenizer(name, case / "float32", texts, report)
        if flags.llama_cpp and name.startswith("llama"):
            run(*export, "--format", "gguf", "--output", case / "model.gguf")
            vocabulary = json.loads((case / "float32/tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
            pieces = {token: piece for piece, token in vocabulary.items()}
            check_llama_cpp(name, flags.llama_cpp, case / "model.gguf", pieces, computed, report)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", type=pathlib.Path, default=ROOT / "build/bin", help="default: build/bin")
    parser.add_argument("--llama-cpp", type=pathlib.Path, help="folder with llama-completion, or a build")
    parser.add_argument("--text", type=pathlib.Path, help="one story per line; default: made by make_stories")
    parser.add_argument("--work", type=pathlib.Path, help="folder for models; default: a temporary one")
    flags = parser.parse_args()
    if flags.llama_cpp:
        places = [flags.llama_cpp / "llama-completion", flags.llama_cpp / "bin/llama-completion"]
        flags.llama_cpp = next((place for place in places if place.is_file()), None)
        if flags.llama_cpp is None:
            parser.error(f"there is no {places[0]}")
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    report = Report()
    with tempfile.TemporaryDirectory() as temporary:
        flags.work = flags.work or pathlib.Path(temporary)
        flags.work.mkdir(parents=True, exist_ok=True)
        try:
            check(flags, report)
        except Failed as error:
            print(f"check_export.py: {error}", file=sys.stderr)
            return 1
    print("all agree" if report.failures == 0 else f"{report.failures} do not agree")
    return 1 if report.failures else 0


if __name__ == "__main__":
    sys.exit(main())
