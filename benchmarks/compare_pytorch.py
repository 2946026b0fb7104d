#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Measures storylm beside PyTorch on the CPU: the same model, batches and threads, in alternation.

    compare_pytorch.py --python PYTHON [--bin build/bin] [--data FOLDER] [--output FILE] [--quick]
                       [--only training,stories,generation,kernels] [--threads 2,1] [--rounds 5] [--steps 2]

PYTHON is one that can import torch; this script itself needs only Python. FOLDER is what prepare_stories left, for whole
stories of a real text, packed by us and padded by PyTorch. Each pair of programs stays alive and is asked in turn for a few
steps; a round is one turn of each, ratios are taken within a round, and the median of the rounds counts. First PyTorch's
settings are tried (eager or compiled; blocks by hand over scaled_dot_product_attention or nn.TransformerEncoder; Adam fused or
foreach; in bf16 autocast), and the fastest is compared with; --settings known takes the fastest ones of FILE, --settings default
does not try. The whole model in bf16 is tried and shown, too, but is not what we compare with: its weights and moments have 8 bits
and no masters in float32, which autocast and storylm have.

FILE keeps what is not measured this time, so the parts may be run one by one. The table of docs/benchmarks/README.md and the
bars beside FILE are made from it anew (--no-page: not); --page-only does nothing else.
"""

import argparse
import datetime
import json
import math
import os
import pathlib
import subprocess
import sys
import tempfile

import report

HERE = pathlib.Path(__file__).resolve().parent
DEFAULT = {"blocks": "sdpa", "compile": False, "adam": "fused", "whole": False, "keep": False}
# Freed memory stays with the process, in huge pages: PyTorch allocates every tensor anew.
KEEP = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(2**34),
    "MALLOC_TOP_PAD_": str(2**28),
    "THP_MEM_ALLOC_ENABLE": "1",
}
FIRST_LOSS = {"float32": 1e-3, "bfloat16": 2e-2}  # how far the first losses may be apart, relatively
LENGTH = 256
METHODS = ("cache", "recompute", "padded")  # of generation in PyTorch


class Failed(Exception):
    """A program that does not do what it should; the message is its last line."""


class Worker:
    """A program that answers each number on its standard input with a line of JSON."""

    def __init__(self, command, threads, log, environment=None):
        environment = os.environ | {"OMP_NUM_THREADS": str(threads)} | (environment or {})
        self.log = log
        command, pipe = [str(part) for part in command], subprocess.PIPE
        with open(log, "w") as said:
            self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=said, text=True, env=environment)
        self.answers = []
        self.ready = self.read()

    def read(self):
        line = self.process.stdout.readline()
        if not line:
            self.close()
            said = pathlib.Path(self.log).read_text(errors="replace").strip().splitlines()
            raise Failed(said[-1] if said else f"{self.process.args[0]}: exit code {self.process.returncode}")
        return json.loads(line)

    def ask(self, count):
        try:
            self.process.stdin.write(f"{count}\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # read() says why
        answer = self.read()
        self.answers.append(answer)
        return answer

    def close(self):
        try:
            self.process.stdin.close()
        except BrokenPipeError:
            pass
        try:
            self.process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def summary(self):
        """Medians of what it answered."""
        keys = ("tokens_per_second", "share_of_peak", "peak_flops", "share_of_bandwidth", "read_bandwidth")
        last = self.answers[-1]
        result = {key: report.median([answer[key] for answer in self.answers]) for key in keys if key in last}
        result["all_tokens_per_second"] = [round(answer["tokens_per_second"], 2) for answer in self.answers]
        result["peak_memory"] = last["peak_memory"]
        for key in ("first_loss", "memory_at_start"):
            value = self.ready.get(key, last.get(key))
            if value is not None:
                result[key] = value
        return result


def alternate(workers, rounds, count, say):
    """Asks each in turn, every other round in reverse; returns {name: summary}."""
    for i in range(rounds):
        for name in list(workers) if i % 2 == 0 else reversed(workers):
            rate = workers[name].ask(count)["tokens_per_second"]
            say(f"  round {i + 1}, {name}: {report.digits(rate)} tokens/s")
    return {name: worker.summary() for name, worker in workers.items()}


def ratio(results, ours, theirs):
    """The median over rounds of ours / theirs; None where one is missing."""
    if ours not in results or theirs not in results:
        return None
    pairs = zip(results[ours]["all_tokens_per_second"], results[theirs]["all_tokens_per_second"])
    return report.median([a / b for a, b in pairs])


def settings_of(dtype, quick):
    """What PyTorch is tried with, in the order of hope."""
    tried = [DEFAULT, DEFAULT | {"blocks": "encoder"}, DEFAULT | {"adam": "foreach"}, DEFAULT | {"compile": True}]
    if dtype == "bfloat16":
        tried += [DEFAULT | {"whole": True}, DEFAULT | {"whole": True, "compile": True}]
    return tried[:2] if quick else tried


def describe(settings):
    parts = ["compiled" if settings["compile"] else "eager"]
    parts.append("nn.TransformerEncoder" if settings["blocks"] == "encoder" else "SDPA")
    parts.append(f"{settings['adam']} Adam")
    parts += ["whole model in bf16"] if settings["whole"] else []
    return ", ".join(parts + (["memory kept"] if settings["keep"] else []))


class Comparison:
    def __init__(self, flags, results, folder):
        self.flags, self.results, self.folder = flags, results, folder
        self.number = 0
        self.best = {}  # (dtype, dropout): settings
        self.rates = {}  # (dtype, dropout): what those reached, in tokens/s
        self.failures = []

    def say(self, text):
        print(text, file=sys.stderr, flush=True)

    def log(self):
        self.number += 1
        return self.folder / f"worker-{self.number}.log"

    def ours(self, program, threads, **options):
        command = [self.flags.bin / program]
        for name, value in ({"threads": threads, "preset": self.flags.preset, "serve": "on"} | options).items():
            command += ["--" + name, value]
        return Worker(command, threads, self.log())

    def pytorch(self, kind, folder, threads, settings=None, **options):
        command = [self.flags.python, HERE / "pytorch_worker.py", kind, folder, "--threads", threads]
        for name, value in options.items():
            command += ["--" + name, value]
        if settings is not None:
            command += ["--blocks", settings["blocks"], "--adam", settings["adam"]]
            command += ["--compile"] * settings["compile"] + ["--whole"] * settings["whole"]
        return Worker(command, threads, self.log(), KEEP if settings and settings["keep"] else None)

    def export(self, name, **options):
        """Initial weights and batches, written by our program."""
        folder = self.folder / name
        command = [self.flags.bin / "cpu_training", "--preset", self.flags.preset, "--export", folder]
        for key, value in ({"steps": 0, "warm_up": 0, "dropout": 0} | options).items():
            command += ["--" + key, value]
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise Failed(done.stderr.strip() or f"cpu_training: exit code {done.returncode}")
        return folder

    def find_settings(self, batches, dtype, dropout, threads):
        """PyTorch's fastest settings for these; what each reached goes to the results."""
        key = f"{dtype}, dropout {dropout:g}"
        known = self.results.get("settings", {}).get(key)
        if (dtype, dropout) in self.best:
            return self.best[dtype, dropout]
        if self.flags.settings == "default" or (self.flags.settings == "known" and not known):
            self.best[dtype, dropout] = DEFAULT
        elif self.flags.settings == "known":
            self.best[dtype, dropout] = known["best"]
        else:
            tried = {}
            for settings in settings_of(dtype, self.flags.quick):
                self.try_settings(tried, settings, batches, dtype, dropout, threads)
            if (dtype, dropout) not in self.best:
                raise Failed(f"PyTorch does not train in {dtype} with any settings")
            self.try_settings(tried, self.best[dtype, dropout] | {"keep": True}, batches, dtype, dropout, threads)
            found = {"threads": threads, "best": self.best[dtype, dropout], "tokens_per_second": tried}
            self.results.setdefault("settings", {})[key] = found
        return self.best[dtype, dropout]

    def try_settings(self, tried, settings, batches, dtype, dropout, threads):
        """Measures them; the fastest so far become self.best, unless they are less work (see above)."""
        name = describe(settings)
        try:
            with self.pytorch("train", batches, threads, settings, dtype=dtype, dropout=dropout) as worker:
                tried[name] = max(worker.ask(self.flags.steps)["tokens_per_second"] for _ in range(2))
        except Failed as failure:  # torch.compile needs a C++ compiler
            self.say(f"  {dtype}, dropout {dropout:g}, {name}: not possible, {failure}")
            tried[name] = None
            return
        self.say(f"  {dtype}, dropout {dropout:g}, {name}: {report.digits(tried[name])} tokens/s")
        if not settings["whole"] and tried[name] >= self.rates.get((dtype, dropout), 0.0):
            self.best[dtype, dropout], self.rates[dtype, dropout] = settings, tried[name]

    def start(self, workers, name, function, *arguments, **options):
        """One that does not start is told of, and the others go on without it."""
        try:
            workers[name] = function(*arguments, **options)
        except Failed as failure:
            self.failures.append(f"{name}: {failure}")
            self.say(f"  {name}: {failure}")

    def training(self):
        sizes = {"batch": self.flags.batch, "length": self.flags.length}
        batches = self.export("rows", **sizes)
        measured = []
        for threads in self.flags.threads:
            for dropout in (0.1, 0.0):
                self.say(f"training, {threads} threads, dropout {dropout:g}")
                used = {dtype: self.find_settings(batches, dtype, dropout, threads) for dtype in FIRST_LOSS}
                workers = {}
                try:
                    for dtype in FIRST_LOSS:
                        options = {"dtype": dtype, "dropout": dropout}
                        name = f"PyTorch {dtype}"
                        self.start(workers, name, self.pytorch, "train", batches, threads, used[dtype], **options)
                        name = f"storylm {dtype}"
                        self.start(workers, name, self.ours, "cpu_training", threads, **sizes, **options)
                    found = alternate(workers, self.flags.rounds, self.flags.steps, self.say)
                finally:
                    for worker in workers.values():
                        worker.close()
                if dropout == 0.0:
                    self.check_first_losses(found)
                described = {dtype: describe(settings) for dtype, settings in used.items()}
                measured.append({"threads": threads, "dropout": dropout, "pytorch": described, "programs": found})
        self.results["training"] = {"preset": self.flags.preset, **sizes, "measured": measured}

    def check_first_losses(self, found):
        """Without dropout both must begin with the same loss, else they would not do the same work."""
        for dtype, limit in FIRST_LOSS.items():
            both = [found[name]["first_loss"] for name in (f"storylm {dtype}", f"PyTorch {dtype}") if name in found]
            if len(both) == 2 and not abs(both[0] - both[1]) <= limit * both[1]:
                raise Failed(f"{dtype}: the first losses are {both[0]} and {both[1]}: not the same model or batches")

    def stories(self):
        if not self.flags.data:
            self.say("stories: left out, for want of --data")
            return
        threads = max(self.flags.threads)
        common = {"length": self.flags.length, "tokens": self.flags.data / "stories.tokens"}
        packed = common | {"batch": self.flags.stories, "packed": "on", "batches": 8}
        padded = self.export("stories", **packed)
        rows = self.export("story_rows", **common, batch=self.flags.batch)
        found = {}
        for dtype in ("float32", "bfloat16"):
            self.say(f"stories, {dtype}, {threads} threads")
            settings = self.find_settings(rows, dtype, 0.1, threads)
            workers = {}
            try:
                name = "PyTorch, padded"
                self.start(workers, name, self.pytorch, "train", padded, threads, settings, dtype=dtype)
                name = "storylm, packed"
                self.start(workers, name, self.ours, "cpu_training", threads, **packed, dtype=dtype)
                name, full = "storylm, full rows", common | {"batch": self.flags.stories, "dtype": dtype}
                self.start(workers, name, self.ours, "cpu_training", threads, **full)
                found[dtype] = alternate(workers, self.flags.rounds, self.flags.steps, self.say)
            finally:
                for worker in workers.values():
                    worker.close()
        sizes = (padded / "settings.txt").read_text().split()
        sequences, length, count = (int(sizes[sizes.index(key) + 1]) for key in ("sequences", "length", "batches"))
        raw = (padded / "batches.bin").read_bytes()
        half = 4 * sequences * length
        targets = [raw[(2 * i + 1) * half : (2 * i + 2) * half] for i in range(count)]
        tokens = sum(len(part) // 4 - sum(1 for at in range(3, len(part), 4) if part[at] & 0x80) for part in targets)
        padding = 1 - tokens / (sequences * length * count)
        self.results["stories"] = {
            "threads": threads,
            "padding": padding,
            "stories_per_step": sequences,
            "length": length,
            "programs": found,
        }

    def generation(self):
        weights = self.export("weights", batch=1, batches=1)
        measured = []
        for threads in self.flags.threads:
            for batch in (1, 32):
                self.say(f"generation, {threads} threads, batch {batch}")
                workers = {}
                common = {"batch": batch, "prompt": 4, "tokens": self.flags.tokens}
                try:
                    for dtype in ("float32", "bfloat16"):
                        name = f"storylm {dtype}"
                        self.start(workers, name, self.ours, "cpu_generation", threads, **common, dtype=dtype)
                        for method in METHODS:
                            name, options = f"PyTorch {method} {dtype}", common | {"method": method, "warm-up": 1}
                            self.start(workers, name, self.pytorch, "generate", weights, threads, **options, dtype=dtype)
                    found = alternate(workers, self.flags.rounds, 1, self.say)
                finally:
                    for worker in workers.values():
                        worker.close()
                measured.append({"threads": threads, "batch": batch, "programs": found})
        self.results["generation"] = {"preset": self.flags.preset, "tokens": self.flags.tokens, "measured": measured}

    def kernels(self):
        program = self.flags.bin / "cpu_kernels"
        if not program.exists():
            self.say("kernels: left out, cpu_kernels is not built")
            return
        measured = []
        for threads in self.flags.threads:
            self.say(f"kernels, {threads} threads")
            output = self.folder / f"kernels-{threads}.json"
            command = [program, "--threads", threads, "--json", output, "--benchmark_filter=^matmul/"]
            command += ["--size", "small" if self.flags.preset == "story_tiny" else "reference"]
            if not self.flags.quick:
                command += ["--benchmark_repetitions=3", "--benchmark_enable_random_interleaving=true"]
            done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
            if done.returncode != 0:
                raise Failed(done.stderr.strip() or f"cpu_kernels: exit code {done.returncode}")
            measured.append(json.loads(output.read_text()))
        self.results["kernels"] = measured


def find(measured, **wanted):
    """The element of a list of objects that has these values, or nothing."""
    return next((one for one in measured if all(one[key] == value for key, value in wanted.items())), None)


def targets(results):
    """(what, target as text, reached as text, reached or not) of every row that there is a measurement for."""
    rows = []

    def add(what, unit, target, value, most=False):
        if value is None or math.isnan(value):
            return
        written = f"{100 * value:.1f} %" if unit == "%" else f"{value:.2f} x"
        aim = f"{100 * target:.1f} %" if unit == "%" else f"{target:g} x"
        good = value <= target if most else value >= target
        rows.append((what, ("at most " if most else "at least ") + aim, written, good))

    training = results.get("training", {}).get("measured", [])
    for threads in sorted({one["threads"] for one in training}, reverse=True):
        name = f"{threads} thread{'s' if threads > 1 else ''}"
        dropped, plain = (find(training, threads=threads, dropout=p) for p in (0.1, 0.0))
        for dtype, wanted, wanted_plain in (("float32", 1.6, 1.4), ("bfloat16", 1.9, 1.3)):
            for one, what, aim in ((dropped, "dropout 0.1", wanted), (plain, "no dropout", wanted_plain)):
                if one:
                    value = ratio(one["programs"], f"storylm {dtype}", f"PyTorch {dtype}")
                    add(f"training, {dtype}, {what}, against PyTorch, {name}", "x", aim, value)
        if dropped:
            programs = dropped["programs"]
            value = ratio(programs, "storylm bfloat16", "PyTorch float32")
            add(f"training, bfloat16 against PyTorch's float32, dropout 0.1, {name}", "x", 2.8, value)
            for dtype, aim in (("float32", 0.82), ("bfloat16", 0.75)):
                value = programs.get(f"storylm {dtype}", {}).get("share_of_peak")
                add(f"training step, {dtype}, of the measured peak, {name}", "%", aim, value)
            for dtype in ("float32", "bfloat16"):
                pair = [programs[key]["peak_memory"] for key in (f"storylm {dtype}", f"PyTorch {dtype}") if key in programs]
                value = pair[0] / pair[1] if len(pair) == 2 else None
                add(f"training, {dtype}, peak memory against PyTorch, {name}", "x", 0.4, value, most=True)
    stories = results.get("stories")
    if stories:
        name = f"{stories['threads']} threads"
        for dtype, programs in stories["programs"].items():
            value = ratio(programs, "storylm, packed", "PyTorch, padded")
            if dtype == "bfloat16":
                add(f"real stories, bfloat16, packed against PyTorch's padded, {name}", "x", 2.4, value)
            value = ratio(programs, "storylm, packed", "storylm, full rows")
            if value:  # time per story: tokens of its own / packed rate, against all of a row / full rate
                saved = 1 - (1 - stories["padding"]) / value
                add(f"real stories, {dtype}, time saved by packing, {name}", "%", stories["padding"], saved)
    for one in results.get("kernels", []):
        for dtype, aim in (("float32", 0.88), ("bfloat16", 0.85)):
            for tokens in (2048, 4096):
                value = one.get(f"weighted/{dtype}/{tokens}")
                what = f"matrix products of a step, {dtype}, {tokens} tokens, of the measured peak"
                add(f"{what}, {one['threads']:g} thread{'s' if one['threads'] > 1 else ''}", "%", aim, value)
    for one in results.get("generation", {}).get("measured", []):
        programs = one["programs"]
        name = f"batch {one['batch']}, {one['threads']} thread{'s' if one['threads'] > 1 else ''}"
        for dtype in ("float32", "bfloat16"):
            ours = f"storylm {dtype}"
            against = {method: ratio(programs, ours, f"PyTorch {method} float32") for method in METHODS}
            if one["batch"] == 1:
                value = programs.get(ours, {}).get("share_of_bandwidth")
                add(f"generation, {dtype}, {name}, of memory bandwidth", "%", 0.8, value)
                aim = 2.5 if dtype == "float32" else 5.0
                add(f"generation, {dtype}, {name}, against PyTorch's float32 with a KV cache", "x", aim, against["cache"])
            else:
                what = f"generation, {dtype}, {name}, against PyTorch's float32"
                add(f"{what} that recomputes rows of {LENGTH}", "x", 120, against["padded"])
                add(f"{what} that recomputes what there is", "x", 120, against["recompute"])
                add(f"{what} with a KV cache", "x", 2.2, against["cache"])
    return rows


def rates(programs, key="tokens_per_second"):
    return [(name, program[key]) for name, program in programs.items() if key in program]


def page(results, stem):
    """The generated part of docs/benchmarks/README.md, and {file name: text} of the bars that it shows."""
    where = results["machine"]
    memory = f", {where['memory_gib']} GiB" if where["memory_gib"] else ""
    parts = [
        f"{where['processor']}, {where['cores']} cores{memory}; PyTorch {results.get('torch_version', '')}; "
        f"{results['date']}. All numbers are in [{stem}.json]({stem}.json).",
        report.table(["what", "to reach", "reached", ""], targets(results)),
    ]
    files = {}

    def chart(kind, title, groups):
        files[f"{stem}-{kind}.svg"] = report.bars(title, "tokens/s", groups)
        parts.append(f"![{title}]({stem}-{kind}.svg)")

    training = results.get("training")
    if training:
        groups = []
        rows = []
        for one in training["measured"]:
            plural = "s" if one["threads"] > 1 else ""
            name = f"{one['threads']} thread{plural}, dropout {one['dropout']:g}"
            groups.append((name, rates(one["programs"])))
            for program, values in one["programs"].items():
                who, dtype = program.rsplit(" ", 1)
                setting = one["pytorch"][dtype] if who == "PyTorch" else ""
                share = values.get("share_of_peak")
                rows.append(
                    [
                        one["threads"],
                        f"{one['dropout']:g}",
                        program,
                        setting,
                        values["tokens_per_second"],
                        f"{min(values['all_tokens_per_second']):,.0f} to {max(values['all_tokens_per_second']):,.0f}",
                        f"{100 * share:.0f} %" if share else "",
                        values["peak_memory"] / 1e9,
                        values["memory_at_start"] / 1e9 if "memory_at_start" in values else None,
                    ]
                )
        title = f"Training {training['preset']}, {training['batch']} x {training['length']} tokens"
        parts.append(f"### {title}")
        chart("training", title, groups)
        head = ["threads", "dropout", "program", "PyTorch's settings", "tokens/s", "of the rounds", "of peak", "peak GB"]
        head.append("before the model")
        parts.append(report.table(head, rows))
        tried = results.get("settings", {})
        if tried:
            rows = [
                [key, name, "not possible" if rate is None else rate]
                for key, found in tried.items()
                for name, rate in found["tokens_per_second"].items()
            ]
            parts += ["PyTorch's settings as they were tried:", report.table(["", "settings", "tokens/s"], rows)]
    stories = results.get("stories")
    if stories:
        title = f"Real stories, {stories['stories_per_step']} a step, {stories['threads']} threads"
        parts.append(f"### {title}")
        parts.append(f"Padded to {stories['length']} tokens, {100 * stories['padding']:.1f} % would be padding.")
        chart("stories", title, [(dtype, rates(programs)) for dtype, programs in stories["programs"].items()])
    generation = results.get("generation")
    if generation:
        title = f"Generation, {generation['preset']}, {generation['tokens']} tokens a story"
        parts.append(f"### {title}")
        rows = []
        for one in generation["measured"]:
            for program, values in one["programs"].items():
                share = values.get("share_of_bandwidth")
                written = f"{100 * share:.0f} %" if share and one["batch"] == 1 else ""
                rate, memory = values["tokens_per_second"], values["peak_memory"] / 1e9
                rows.append([one["threads"], one["batch"], program, rate, written, memory])
        for batch in (1, 32):
            groups = [
                (f"{one['threads']} thread{'s' if one['threads'] > 1 else ''}", rates(one["programs"]))
                for one in generation["measured"]
                if one["batch"] == batch
            ]
            if groups:
                chart(f"generation-{batch}", f"{title}, batch {batch}", groups)
        head = ["threads", "batch", "program", "tokens/s", "of memory bandwidth", "peak GB"]
        parts.append(report.table(head, rows))
    kernels = results.get("kernels")
    if kernels:
        parts.append("### The machine's peaks, as cpu_kernels measured them")
        rows = [[f"{k['threads']:g}", k["float32_gflops"], k["bfloat16_gflops"], k["read_gbytes"]] for k in kernels]
        parts.append(report.table(["threads", "float32 GFLOP/s", "bfloat16 GFLOP/s", "reading memory, GB/s"], rows))
    return "\n\n".join(parts), files


def write_page(results, output, readme=report.PAGE):
    text, files = page(results, output.stem)
    for name, content in files.items():
        report.write(output.parent / name, content)
    if output.parent == readme.parent:
        report.update_page("compare_pytorch", text, readme)
    else:
        print(f"{readme.name} stays as it is: its links lead to files beside it, and {output.name} is elsewhere")


def parse(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = ("training", "stories", "generation", "kernels")
    parser.add_argument("--python", type=pathlib.Path, help="a Python that can import torch")
    parser.add_argument("--bin", type=pathlib.Path, default=report.ROOT / "build" / "bin", help="default: build/bin")
    parser.add_argument("--data", type=pathlib.Path, help="folder of prepare_stories; without it no real stories")
    parser.add_argument("--output", type=pathlib.Path, help="default: docs/benchmarks/pytorch-<processor>-<date>.json")
    parser.add_argument("--only", default=",".join(parts), help=f"some of {','.join(parts)}; default: all")
    parser.add_argument("--threads", default="", help="such as 2,1; default: all cores of the machine, and one")
    parser.add_argument("--rounds", type=int, default=5, help="default: 5")
    parser.add_argument("--steps", type=int, default=2, help="of training in a round, default: 2")
    parser.add_argument("--settings", choices=("try", "known", "default"), default="try", help="of PyTorch; default: try")
    parser.add_argument("--preset", default="story_24m", help="default: story_24m")
    parser.add_argument("--batch", type=int, default=8, help="rows of a step, default: 8")
    parser.add_argument("--length", type=int, default=LENGTH, help=f"tokens of a row, default: {LENGTH}")
    parser.add_argument("--stories", type=int, default=16, help="real stories of a step, default: 16")
    parser.add_argument("--tokens", type=int, default=LENGTH, help=f"of a generated story, default: {LENGTH}")
    parser.add_argument("--quick", action="store_true", help="two rounds of one step, short stories, few settings")
    parser.add_argument("--no-page", action="store_true", help="leave docs/benchmarks/README.md as it is")
    parser.add_argument("--page-only", action="store_true", help="measure nothing, only make the page anew")
    flags = parser.parse_args(arguments)
    cores = report.machine()["cores"]
    flags.threads = [int(n) for n in flags.threads.split(",")] if flags.threads else sorted({cores, 1}, reverse=True)
    flags.only = flags.only.split(",")
    if unknown := set(flags.only) - set(parts):
        parser.error(f"--only: {', '.join(sorted(unknown))} is none of {', '.join(parts)}")
    if flags.quick:
        flags.rounds, flags.steps, flags.tokens, flags.threads = 2, 1, min(flags.tokens, 48), flags.threads[:1]
    flags.output = (flags.output or report.default_path("pytorch")).resolve()
    if not flags.page_only and not flags.python and set(flags.only) != {"kernels"}:
        parser.error("--python: which Python has torch?")
    return flags


def main():
    flags = parse()
    results = report.load(flags.output)
    if not flags.page_only:
        results |= {"machine": report.machine(), "date": datetime.date.today().isoformat()}
        with tempfile.TemporaryDirectory(prefix="compare_pytorch-") as folder:
            comparison = Comparison(flags, results, pathlib.Path(folder))
            try:
                if flags.python:
                    command = [str(flags.python), "-c", "import torch; print(torch.__version__)"]
                    asked = subprocess.run(command, capture_output=True, text=True, check=False)
                    if asked.returncode != 0:
                        reason = (asked.stderr.strip() or "it does not say why").splitlines()[-1]
                        raise Failed(f"{flags.python} cannot import torch: {reason}")
                    results["torch_version"] = asked.stdout.strip()
                for part in flags.only:
                    getattr(comparison, part)()
                    report.save(flags.output, results)
                for failure in comparison.failures:
                    print(f"left out: {failure}")
            except (Failed, OSError) as failure:
                print(f"compare_pytorch: {failure}", file=sys.stderr)
                return 2
    if not results:
        print(f"compare_pytorch: {flags.output} has nothing", file=sys.stderr)
        return 2
    for what, target, reached, good in targets(results):
        print(f"{'yes' if good else 'NO '}  {what}: {reached} ({target})")
    if not flags.no_page:
        write_page(results, flags.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
