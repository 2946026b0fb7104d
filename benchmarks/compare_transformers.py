#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Measures Hugging Face folders beside transformers on the CPU: scoring as a judge, writing one story, memory of loading.

    compare_transformers.py --python PYTHON [--bin build/bin] [--work FOLDER] [--shapes gpt2,llama_160m,mistral_7b]
                            [--dtypes float32,bfloat16] [--threads N] [--rounds 5] [--output FILE] [--no-page]

PYTHON is one that can import torch and transformers; this script itself needs only Python. The folders have random weights of
GPT-2's true shape, a Llama of 160 million parameters, and Mistral's at 7 billion with two of its 32 layers (--layers 32: all); they
are made in --work once. The programs stay alive, on as many threads as there are cores unless --threads says otherwise, and are asked
in turn; ratios are taken within a round, and the median of the rounds counts. Both score the same tokens; the mean loss of both is
compared first (to 1e-4 in float32, 1e-2 in bfloat16).

Exit code: 0 measured; 1 a program fails or the losses differ.
"""
import argparse
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

import report
from compare_pytorch import Failed, Worker, alternate, ratio

HERE = pathlib.Path(__file__).resolve().parent
NAMES = {"gpt2": "GPT-2, 124 million", "llama_160m": "Llama, 160 million", "mistral_7b": "Mistral's 7 billion, two layers of 32"}
STORIES = {"gpt2": 32, "llama_160m": 32, "mistral_7b": 12}
TOLERANCE = {"float32": 1e-4, "bfloat16": 1e-2}


def say(text):
    print(text, flush=True)


def make_folder(flags, shape):
    layers = flags.layers if shape == "mistral_7b" else 0
    folder = pathlib.Path(flags.work) / f"{shape}_{layers or 'default'}"
    if not (folder / "config.json").exists():
        say(f"{shape}: making a folder of random weights")
        # Under another name until it is whole: config.json is written before the weights.
        unfinished = folder.with_name(folder.name + ".unfinished")
        for left in (unfinished, folder):
            shutil.rmtree(left, ignore_errors=True)
        command = [flags.python, HERE / "transformers_worker.py", "--make", unfinished, "--shape", shape, "--layers", layers]
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
        if done.returncode != 0:
            raise Failed((done.stderr.strip().splitlines() or ["transformers_worker.py failed"])[-1])
        unfinished.rename(folder)
    return folder


def measure(flags, shape, dtype, task):
    folder = make_folder(flags, shape)
    common = ["--folder", folder, "--task", task, "--dtype", dtype, "--threads", flags.threads, "--stories", STORIES[shape],
              "--length", flags.length]
    logs = pathlib.Path(flags.work)
    say(f"{shape}, {dtype}, {task}")
    with Worker([pathlib.Path(flags.bin) / "cpu_hugging_face", *common, "--serve", "on"], flags.threads, logs / "ours.log") as ours:
        with Worker([flags.python, HERE / "transformers_worker.py", *common], flags.threads, logs / "theirs.log") as theirs:
            if task == "scoring":
                a, b = ours.ready["mean_nll"], theirs.ready["mean_nll"]
                say(f"  mean loss {a:.6f} and {b:.6f}")
                if not abs(a - b) <= TOLERANCE[dtype] * abs(b):
                    raise Failed(f"{shape}, {dtype}: the mean losses are {a} and {b}")
            measured = alternate({"storylm": ours, "transformers": theirs}, flags.rounds, 1, say)
            shares = [answer["share_of_best"] for answer in ours.answers]
            return {
                "shape": shape, "dtype": dtype, "task": task, "threads": flags.threads, "programs": measured,
                "ratio": ratio(measured, "storylm", "transformers"), "share_of_best": report.median(shares),
                "best": ours.ready["best"], "batch": theirs.ready["batch"], "weights": ours.ready["weights"],
                "load": {"storylm": [ours.ready["load_seconds"], ours.ready["load_memory"]],
                         "transformers": [theirs.ready["load_seconds"], theirs.ready["load_memory"]]},
            }


def page_text(results):
    machine = results["machine"]
    rows, loads = [], []
    for row in results["rows"]:
        rate = {name: program["tokens_per_second"] for name, program in row["programs"].items()}
        unit = "GFLOP/s" if row["task"] == "scoring" else "GB/s"
        rows.append([NAMES[row["shape"]], row["dtype"], row["task"], row["threads"], rate["storylm"], rate["transformers"],
                     f"{row['ratio']:.2f} x", f"{100 * row['share_of_best']:.0f} % of {row['best'] / 1e9:.0f} {unit}"])
        if row["task"] == "scoring":
            load = row["load"]
            loads.append([NAMES[row["shape"]], row["dtype"], round(row["weights"] / 1e9, 2), load["storylm"][1] / 1e9,
                          load["storylm"][0], load["transformers"][1] / 1e9, load["transformers"][0]])
    head = (f"{machine['processor']}, {machine['cores']} cores; transformers {results['transformers']}, {results['date']}; median of "
            f"{results['rounds']} rounds. Scoring: stories of {results['length'] // 3} to {results['length']} tokens, ours packed, "
            "transformers' sorted and padded in batches of the size that was fastest. Writing: one story of "
            f"{results['length']} tokens, greedily, both with a cache. The machine's best is measured when our program starts; on a "
            "machine shared with others memory bandwidth is not the same an instant later, and shares above 100 % say no more than that.")
    return "\n\n".join([
        head,
        report.table(["model", "dtype", "task", "threads", "storylm tokens/s", "transformers tokens/s", "ours / theirs",
                      "of the machine's best"], rows),
        "Memory of loading (the folder is in bfloat16; GB that the peak of the process grows by, and seconds; transformers' imports have a "
        "peak of their own, below which growth does not show, and its weights stay mapped from the file):",
        report.table(["model", "dtype", "weights, GB", "storylm GB", "storylm s", "transformers GB", "transformers s"], loads)])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--bin", default="build/bin")
    parser.add_argument("--work", default=str(pathlib.Path(tempfile.gettempdir()) / "storylm_transformers"))
    parser.add_argument("--shapes", default="gpt2,llama_160m,mistral_7b")
    parser.add_argument("--dtypes", default="float32,bfloat16")
    parser.add_argument("--tasks", default="scoring,writing")
    parser.add_argument("--layers", type=int, default=2, help="of mistral_7b, default: 2")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--length", type=int, default=300)
    parser.add_argument("--output", type=pathlib.Path)
    parser.add_argument("--no-page", action="store_true")
    flags = parser.parse_args()
    pathlib.Path(flags.work).mkdir(parents=True, exist_ok=True)
    output = flags.output or report.default_path("transformers")
    try:
        version = subprocess.run([flags.python, "-c", "import transformers; print(transformers.__version__)"],
                                 capture_output=True, text=True)
        if version.returncode != 0:
            raise Failed(f"{flags.python} cannot import transformers")
        rows = [measure(flags, shape, dtype, task) for shape in flags.shapes.split(",")
                for dtype in flags.dtypes.split(",") for task in flags.tasks.split(",")]
    except Failed as failure:
        print(f"compare_transformers.py: {failure}", file=sys.stderr)
        return 1
    results = {"machine": report.machine(), "date": str(report.datetime.date.today()), "transformers": version.stdout.strip(),
               "rounds": flags.rounds, "length": flags.length, "layers": flags.layers, "rows": rows}
    report.save(output, results)
    if not flags.no_page:
        report.update_page("compare_transformers", page_text(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
