#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Measures generation beside llama2.c and llama.cpp: one story, the same weights in the same type, in alternation.

    compare_llama.py [--llama2c FOLDER] [--llama-cpp FOLDER] [--bin build/bin] [--shapes 15m,42m,110m]
                     [--dtypes float32,bfloat16] [--threads 1,2] [--rounds 5] [--tokens 200] [--work FOLDER]
                     [--output FILE] [--no-page]

compare_llama.sh builds our programs and calls this. First all programs continue the same prompt greedily in float32 and must
write the same tokens: then they do the same work. A round is one run of each program, ratios are taken within a round, and
the median of the rounds counts. bfloat16 is compared with llama.cpp's bfloat16 and float16; llama2.c has float32 only.
llama.cpp is timed by its own llama-bench, which draws no tokens; ours and llama2.c draw theirs, greedily.

Exit code: 0 measured; 1 a program fails, or writes other tokens; 2 bad flags.
"""

import argparse
import datetime
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

import llama_export
import report

PROMPT_TEXT, PROMPT = "abc", [1, 259, 260, 261, 262]  # as both programs read it; see llama_export.py
COMPARED = 64  # tokens
PAGE = report.PAGE.with_name("llama.md")
OURS = "storylm"


class Failed(Exception):
    """A program that does not do what it should."""


def run(command, threads):
    """What the program writes: standard output and standard error."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    environment = kept | {"OMP_NUM_THREADS": str(threads)}
    command = [str(part) for part in command]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, env=environment, timeout=600)
    output, errors = (text.decode(errors="replace") for text in (done.stdout, done.stderr))
    if done.returncode != 0:
        raise Failed(f"{pathlib.Path(command[0]).name} ended with {done.returncode}: {errors.strip()[-300:]}")
    return output, errors


def find(folder, name):
    """A program in a folder, or where builds put it below; None where there is none."""
    places = [folder / name, folder / "bin" / name, folder / "build" / "bin" / name]
    return next((place.resolve() for place in places if place.is_file() and os.access(place, os.X_OK)), None)


class Storylm:
    """Ours."""

    name = OURS

    def __init__(self, bin_folder):
        self.program = bin_folder / "llama_generation"

    def ask(self, threads, **flags):
        command = [self.program, "--threads", threads]
        for name, value in flags.items():
            command += ["--" + name, value]
        return json.loads(run(command, threads)[0])

    def reads(self, dtype):
        return [dtype]

    def rate(self, files, dtype, threads, tokens):
        self.last = self.ask(threads, model=files / "model.safetensors", dtype=dtype, tokens=tokens)
        return self.last["tokens_per_second"]

    def bandwidth(self, threads):
        return self.ask(threads, bandwidth="on")["bytes_per_second"]

    def continuation(self, files):
        prompt = ",".join(map(str, PROMPT))
        answer = self.ask(1, model=files / "model.safetensors", prompt=prompt, tokens=COMPARED)
        return "".join(map(llama_export.piece, PROMPT[1:] + [int(token) for token in answer["ids"].split(",")]))


class Llama2c:
    """llama2.c's run."""

    name = "llama2.c"

    def __init__(self, program):
        self.program = program

    def reads(self, dtype):
        return [dtype] if dtype == "float32" else []

    def generate(self, files, threads, steps, prompt=()):
        command = [self.program, files / "llama2c.bin", "-z", files / "llama2c_tokenizer.bin", "-t", 0, "-n", steps]
        return run([*command, *prompt], threads)

    def rate(self, files, dtype, threads, tokens):
        output, errors = self.generate(files, threads, tokens)
        written = len(re.findall(r"\[\d+\]|[a-z ]", output.rstrip("\n")))
        if written < tokens - 1:  # a space at the beginning is not printed
            raise Failed(f"llama2.c stopped after {written} of {tokens} tokens")
        return float(re.search(r"achieved tok/s: ([\d.]+)", errors).group(1))

    def continuation(self, files):
        return self.generate(files, 1, len(PROMPT) - 1 + COMPARED, ["-i", PROMPT_TEXT])[0]


class LlamaCpp:
    """llama.cpp: llama-bench for times, llama-completion for tokens."""

    name = "llama.cpp"

    def __init__(self, bench, completion):
        self.bench, self.completion = bench, completion
        self.version = " ".join(run([completion, "--version"], 1)).strip().splitlines()[0].removeprefix("version: ")

    def reads(self, dtype):
        return [dtype] if dtype == "float32" else ["bfloat16", "float16"]

    def rate(self, files, dtype, threads, tokens):
        command = [self.bench, "-m", files / f"{dtype}.gguf", "-p", 0, "-n", tokens, "-t", threads, "-r", 1, "-o", "json"]
        (result,) = json.loads(run(command, threads)[0])
        return result["avg_ts"]

    def continuation(self, files):
        exact = ["--temp", 0, "-ctk", "f32", "-ctv", "f32", "-fa", "off"]  # its default cache is float16
        plain = ["-no-cnv", "--simple-io", "--no-warmup", "-t", 1, "-p", PROMPT_TEXT, "-n", COMPARED]
        return run([self.completion, "-m", files / "float32.gguf", *exact, *plain], 1)[0]


def programs(flags):
    """Ours and those of the others that are there; and why the rest is not."""
    found, left_out = [Storylm(flags.bin)], {}
    if flags.llama2c is None:
        left_out["llama2.c"] = "--llama2c is not given"
    elif (program := find(flags.llama2c, "run")) is None:
        left_out["llama2.c"] = "its folder has no program run"
    else:
        found.append(Llama2c(program))
    if flags.llama_cpp is None:
        left_out["llama.cpp"] = "--llama-cpp is not given"
    elif None in (pair := [find(flags.llama_cpp, name) for name in ("llama-bench", "llama-completion")]):
        left_out["llama.cpp"] = "its folder has no llama-bench with llama-completion"
    else:
        found.append(LlamaCpp(*pair))
    return found, left_out


def make_files(flags, shape, ours, others):
    """The model of that shape in everyone's format; as they are where an earlier run left them."""
    files = flags.work / shape
    files.mkdir(parents=True, exist_ok=True)
    model = files / "model.safetensors"
    run([flags.bin / "llama_model", "--shape", shape, "--output", model], 1)
    exported = llama_export.Model(model)
    if any(isinstance(other, Llama2c) for other in others):
        llama_export.write_llama2c(exported, files)
    for other in others:
        if isinstance(other, LlamaCpp):
            for dtype in sorted({theirs for dtype in flags.dtypes for theirs in other.reads(dtype)} | {"float32"}):
                path = files / f"{dtype}.gguf"
                try:
                    llama_export.write_gguf(model, exported.config["vocab_size"], path, dtype, flags.bin)
                except subprocess.CalledProcessError as error:
                    raise Failed(f"export_model fails: {error.stderr.decode(errors='replace').strip()}") from None
    return files


def compare_tokens(shape, files, ours, others):
    """@throws Failed where a program continues the prompt otherwise than ours."""
    expected = ours.continuation(files).strip()
    distinct = len(set(re.findall(r"\[\d+\]", expected)))
    for other in others:
        text = other.continuation(files).strip()
        if text != expected:
            same = os.path.commonprefix([text, expected])
            raise Failed(f"{shape}: {other.name} writes other tokens: after {same[-60:]!r} {text[len(same):][:40]!r}, "
                         f"ours {expected[len(same):][:40]!r}")
        say(f"{shape}: {COMPARED} greedy tokens of {other.name}, {distinct} different ones, are ours")


def say(text):
    print(text, file=sys.stderr, flush=True)


def measure(flags, shape, files, ours, others, bandwidth):
    """Results of a shape, one for each of our dtypes and numbers of threads; updates bandwidth."""
    for dtype in flags.dtypes:
        for threads in flags.threads:
            contenders = [(ours, dtype)] + [(other, theirs) for other in others for theirs in other.reads(dtype)]
            rates = {f"{program.name} {theirs}": [] for program, theirs in contenders}
            for i in range(flags.rounds):  # every other one in reverse
                bandwidth[threads] = max(bandwidth.get(threads, 0.0), ours.bandwidth(threads))
                for (program, theirs), list_of_rates in list(zip(contenders, rates.values()))[:: -1 if i % 2 else 1]:
                    list_of_rates.append(program.rate(files, theirs, threads, flags.tokens))
            own = rates[f"{OURS} {dtype}"]
            bytes_read = ours.last["weight_bytes"] + ours.last["cache_bytes"]
            result = {
                "shape": shape,
                "dtype": dtype,
                "threads": threads,
                "tokens": flags.tokens,
                "weight_bytes_per_token": ours.last["weight_bytes"],
                "cache_bytes_per_token": ours.last["cache_bytes"],
                "tokens_per_second": rates,
                "bytes_per_second": {name: report.median(values) * bytes_read for name, values in rates.items()},
                "ratio": {
                    name: report.median([a / b for a, b in zip(own, values)])
                    for name, values in rates.items()
                    if values is not own
                },
            }
            medians = {name: report.digits(report.median(values)) for name, values in rates.items()}
            say(f"{shape} {dtype}, {threads} threads, tokens/s: {medians}")
            yield result


def page_text(results, picture):
    """The part of the page that is made from results."""
    rows = []
    for r in results["results"]:
        ceiling = results["bandwidth"][str(r["threads"])]
        for name, rates in r["tokens_per_second"].items():
            program, dtype = name.rsplit(" ", 1)
            speed = r["bytes_per_second"][name]
            row = [r["shape"], r["threads"], program, dtype, report.median(rates), speed / 1e9]
            rows.append([*row, f"{100 * speed / ceiling:.0f} %", r["ratio"].get(name)])
    head = ["model", "threads", "program", "weights", "tokens/s", "GB/s", "of reading memory", "ours / theirs"]
    machine = results["machine"]
    bandwidth = ", ".join(f"{report.digits(value / 1e9)} GB/s with {threads} threads"
                          for threads, value in results["bandwidth"].items()).replace("1 threads", "1 thread")
    parts = [
        f"{machine['processor']}, {machine['cores']} cores, {results['date']}; median of {results['rounds']} rounds of "
        f"{results['tokens']} tokens each. Memory is read at {bandwidth}."
    ]
    parts += [f"{name} is {text}." for name, text in results["versions"].items() if text]
    parts += [f"{name} is left out: {text}." for name, text in results["left_out"].items()]
    if results["compared"]:
        parts.append(f"{' and '.join(results['compared'])}: the first {COMPARED} greedy tokens after the same prompt are "
                     f"ours, for every model, in float32.")
    parts += [report.table(head, rows), f"![tokens per second]({picture})"]
    return "\n\n".join(parts)


def picture_text(results):
    groups = [
        (f"{r['shape']}, {r['dtype']}, {r['threads']} thread{'s' if r['threads'] > 1 else ''}",
         [(name.replace(f" {r['dtype']}", ""), report.median(rates)) for name, rates in r["tokens_per_second"].items()])
        for r in results["results"]
    ]
    return report.bars("One story, greedy", "tokens/s", groups)


def numbers(text):
    return [int(part) for part in text.split(",")]


def words(known):
    def parse(text):
        parts = text.split(",")
        for part in parts:
            if part not in known:
                raise argparse.ArgumentTypeError(f"{part}: there are {', '.join(known)}")
        return parts

    return parse


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--llama2c", type=pathlib.Path, help="folder with llama2.c's run")
    parser.add_argument("--llama-cpp", type=pathlib.Path, help="folder with llama-bench and llama-completion, or a build")
    parser.add_argument("--bin", type=pathlib.Path, default=report.ROOT / "build" / "bin", help="default: build/bin")
    shapes = ("tiny", "15m", "42m", "110m")
    parser.add_argument("--shapes", type=words(shapes), default=["15m", "42m", "110m"], help="default: 15m,42m,110m")
    dtypes = ("float32", "bfloat16")
    parser.add_argument("--dtypes", type=words(dtypes), default=list(dtypes), help="default: float32,bfloat16")
    parser.add_argument("--threads", type=numbers, default=[1, 2], help="default: 1,2")
    parser.add_argument("--rounds", type=int, default=5, help="default: 5")
    parser.add_argument("--tokens", type=int, default=200, help="default: 200")
    parser.add_argument("--work", type=pathlib.Path, help="folder for models, 3 GB; default: a temporary one")
    parser.add_argument("--output", type=pathlib.Path, help="default: docs/benchmarks/llama-<processor>-<date>.json")
    parser.add_argument("--no-page", action="store_true", help="leave docs/benchmarks/llama.md and the picture as they are")
    flags = parser.parse_args()
    flags.output = (flags.output or report.default_path("llama")).resolve()
    flags.bin = flags.bin.resolve()
    try:
        (ours, *others), left_out = programs(flags)
    except (Failed, OSError) as error:
        print(f"compare_llama.py: {error}", file=sys.stderr)
        return 1
    for name, reason in left_out.items():
        say(f"{name} is left out: {reason}")
    with tempfile.TemporaryDirectory() as temporary:
        flags.work = (flags.work or pathlib.Path(temporary)).resolve()
        try:
            results = measure_all(flags, ours, others)
        except (Failed, OSError, ValueError, subprocess.TimeoutExpired) as error:
            print(f"compare_llama.py: {error}", file=sys.stderr)
            return 1
    results["left_out"] = left_out
    report.save(flags.output, results)
    if not flags.no_page:
        picture = flags.output.with_suffix(".svg")
        report.write(picture, picture_text(results))
        report.update_page("compare_llama", page_text(results, os.path.relpath(picture, PAGE.parent)), PAGE)
    return 0


def measure_all(flags, ours, others):
    bandwidth, all_results = {}, []  # bytes per second that threads read from memory, the most there was
    for shape in flags.shapes:
        files = make_files(flags, shape, ours, others)
        compare_tokens(shape, files, ours, others)
        for result in measure(flags, shape, files, ours, others, bandwidth):
            all_results.append(result)
    return {
        "machine": report.machine(),
        "date": datetime.date.today().isoformat(),
        "rounds": flags.rounds,
        "tokens": flags.tokens,
        "bandwidth": {str(threads): value for threads, value in bandwidth.items()},
        "compared": [other.name for other in others],
        "versions": {other.name: getattr(other, "version", "") for other in others},
        "results": all_results,
    }


if __name__ == "__main__":
    sys.exit(main())
