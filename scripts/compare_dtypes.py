#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Trains one model on the same stories in float32 and in bfloat16, and compares the curves of the loss.

    compare_dtypes.py --data-dir DATA --output-dir OUT [--programs build/bin] [--model story_24m] [--steps 300]
                      [--batch-size 8] [--max-len 256] [--window 20] [--threads N]

DATA is a folder that prepare_stories made, with the model's vocabulary. train_stories runs twice, with the same seed, so on
the same batches with the same dropout masks. Training is chaotic, so that single steps of any two runs drift apart (with
float32 from weights changed in their last bit too: scripts/compare_training.py --control); the curve compared is the mean
over `window` steps. Written to OUT: the two runs and compare_dtypes.json.

Exit code: 0 the curves agree within 0.5 % everywhere, 1 they do not, 2 a bad file or flag.
"""
import argparse
import json
import pathlib
import statistics
import subprocess
import sys

LIMIT = 0.005


def train(arguments, dtype):
    """The losses of a run, step by step, and its median rate in target tokens a second."""
    folder = pathlib.Path(arguments.output_dir) / dtype
    command = [f"{arguments.programs}/train_stories", "--data-dir", arguments.data_dir, "--run-dir", str(folder), "--dtype", dtype]
    for name in ("model", "batch_size", "max_len", "threads"):
        command += [f"--{name.replace('_', '-')}", str(getattr(arguments, name))]
    command += ["--max-steps", str(arguments.steps), "--validate-every", str(arguments.steps)]
    subprocess.run(command, check=True)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()][: arguments.steps]
    return [line["loss"] for line in lines], statistics.median(line["tokens_per_second"] for line in lines)


def smoothed(losses, window):
    return [statistics.fmean(losses[i : i + window]) for i in range(0, len(losses) - window + 1, window)]


def differences(ours, reference):
    return [abs(a - b) / b for a, b in zip(ours, reference, strict=True)]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data-dir", required=True)
    parser.add_argument("--output-dir", required=True)
    parser.add_argument("--programs", default="build/bin")
    parser.add_argument("--model", default="story_24m")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--max-len", type=int, default=256)
    parser.add_argument("--window", type=int, default=20)
    parser.add_argument("--threads", type=int, default=0)
    arguments = parser.parse_args()
    if arguments.steps < arguments.window or arguments.window < 1:
        parser.error(f"--window must be in [1, {arguments.steps}]: {arguments.window}")
    try:
        losses, rate = train(arguments, "float32")
        narrow, narrow_rate = train(arguments, "bfloat16")
    except (OSError, subprocess.CalledProcessError, KeyError, ValueError) as error:
        print(f"compare_dtypes.py: {error}", file=sys.stderr)
        return 2
    single = differences(narrow, losses)
    curve = differences(smoothed(narrow, arguments.window), smoothed(losses, arguments.window))
    result = {
        "model": arguments.model,
        "steps": arguments.steps,
        "window": arguments.window,
        "largest_difference_of_the_curve": max(curve),
        "largest_difference_of_a_step": max(single),
        "mean_difference_of_a_step": statistics.fmean(single),
        "tokens_per_second": {"float32": rate, "bfloat16": narrow_rate},
        "float32": losses,
        "bfloat16": narrow,
    }
    pathlib.Path(arguments.output_dir, "compare_dtypes.json").write_text(json.dumps(result, indent=1) + "\n")
    print(
        f"{arguments.steps} steps of {arguments.model}: the curves (means of {arguments.window} steps) differ by at most "
        f"{100 * max(curve):.3f} %, single steps by {100 * statistics.fmean(single):.3f} % on average and at most "
        f"{100 * max(single):.3f} %; bfloat16 is {narrow_rate / rate:.2f} times as fast"
    )
    return 0 if max(curve) <= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
