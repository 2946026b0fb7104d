#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Trains the same model on the same batches from the same weights with storylm and with PyTorch; compares the losses.

    python compare_training.py --data-dir DATA --output-dir OUT [--program build/bin/compare_training]
                               [--model story_24m] [--steps 200] [--batch-size 4] [--max-len 64] [--threads N]
                               [--dtype float32] [--control]

DATA is a folder that prepare_stories made, with the model's vocabulary. The program (cmake --build build --target
compare_training) trains first and leaves initial weights, batches and losses in OUT; then PyTorch trains the module of
tests/reference/reference_models.py on them: padded, padding ignored, no dropout, Adam, clipping at norm 1. Written to
OUT: compare_training.json with the lists of losses, compare_training.svg with the curves.

With small batches training is chaotic: what differs in the last bit at the first step differs in the second digit
after a hundred. --control trains PyTorch a second time, from weights changed in their last bit, which shows how far
PyTorch departs from itself. In float64 the last bit is so small that after 200 steps it still is: there the two programs
show whether they compute the same.

Exit code: 0 all losses agree within 0.5 %, or with --control no worse than PyTorch agrees with itself; 1 they do not,
2 a bad file or flag. Needs torch and safetensors.
"""

import argparse
import json
import math
import pathlib
import subprocess
import sys
import time

import torch
from torch import nn
from torch.nn import functional

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))
sys.path.insert(0, str(ROOT / "tests" / "reference"))
from load_in_pytorch import BadFile, load_checkpoint, read  # noqa: E402  (the path has to be known first)
from reference_models import pad  # noqa: E402

LIMIT = 0.005  # of |a - b| / b, at every step
IGNORED = -100


def perturb(model):
    """Moves every weight by -1, 0 or 1 unit of its last place, about."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            steps = torch.randint(-1, 2, parameter.shape, generator=generator)
            parameter.mul_(1 + torch.finfo(parameter.dtype).eps * steps)


def train(folder, settings, name="PyTorch", perturbed=False):
    """Losses and gradient norms of PyTorch, and the seconds they took."""
    model, _ = load_checkpoint(folder / "initial.safetensors", getattr(torch, settings["dtype"]))
    if perturbed:
        perturb(model)
    batches, _ = read(folder / "batches.safetensors")
    optimizer = torch.optim.Adam(model.parameters(), lr=settings["lr"])
    model.train()  # the module has no dropout
    losses, norms = [], []
    start = time.monotonic()
    offsets, bounds = batches["offsets"].long(), batches["steps"].tolist()
    for first, last in zip(bounds, bounds[1:]):
        own = offsets[first : last + 1]
        ids = pad(batches["ids"][own[0] : own[-1]].long(), own - own[0], 0)
        targets = pad(batches["targets"][own[0] : own[-1]].long(), own - own[0], IGNORED)
        optimizer.zero_grad()
        loss = functional.cross_entropy(model(ids).flatten(0, 1), targets.flatten(), ignore_index=IGNORED)
        loss.backward()
        norms.append(nn.utils.clip_grad_norm_(model.parameters(), settings["clip_norm"]).item())
        optimizer.step()
        losses.append(loss.item())
        if len(losses) % 20 == 0:
            print(f"{name}: step {len(losses)}  loss {losses[-1]:.4f}", file=sys.stderr, flush=True)
    return losses, norms, time.monotonic() - start


def ticks(low, high, count):
    """Round numbers between low and high, about `count` of them."""
    raw = (high - low) / count
    power = 10 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if raw <= factor * power)
    return [step * i for i in range(math.ceil(low / step), math.floor(high / step) + 1)]


def relative_differences(a, b):
    return [abs(x - y) / y for x, y in zip(a, b)]


def draw(curves, title):
    """All curves above, their relative difference from PyTorch's below, as the text of an SVG file."""
    width, left, right = 800, 64, 24
    steps = len(curves["pytorch"])
    differences = [(k, relative_differences(v, curves["pytorch"])) for k, v in curves.items() if k != "pytorch"]

    def x(step):
        return left + (step - 1) / max(1, steps - 1) * (width - left - right)

    svg = [
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} 560' width='{width}' height='560'>",
        "<style>text{font:12px sans-serif;fill:#333}.grid{stroke:#ddd}.frame{fill:none;stroke:#888}"
        "polyline{fill:none;stroke-width:1.5}.storylm{stroke:#4477aa;stroke-width:4;opacity:.5}"
        ".pytorch{stroke:#cc5533}.control{stroke:#999}</style>",
        f"<rect width='{width}' height='560' fill='white'/>",
        f"<text x='{left}' y='24'>{title}</text>",
    ]

    def panel(top, bottom, label, low, high, curves):
        def y(value):
            return bottom - (value - low) / (high - low) * (bottom - top)

        for value in ticks(low, high, 5):
            svg.append(f"<line class='grid' x1='{left}' y1='{y(value):.1f}' x2='{width - right}' y2='{y(value):.1f}'/>")
            svg.append(f"<text x='{left - 8}' y='{y(value) + 4:.1f}' text-anchor='end'>{value:.4g}</text>")
        box = f"width='{width - left - right}' height='{bottom - top}'"
        svg.append(f"<rect class='frame' x='{left}' y='{top}' {box}/>")
        svg.append(f"<text x='{left + 8}' y='{top + 18}'>{label}</text>")
        for kind, values in curves:
            points = " ".join(f"{x(i + 1):.1f},{y(value):.1f}" for i, value in enumerate(values))
            svg.append(f"<polyline class='{kind}' points='{points}'/>")

    everything = [value for values in curves.values() for value in values]
    low, high = min(everything), max(everything)
    margin = 0.05 * (high - low) or 0.1
    panel(40, 360, "loss (nats per token)", low - margin, high + margin, reversed(curves.items()))
    top = max(max(max(values) for _, values in differences) * 1.1, 1e-9)
    panel(384, 500, "relative difference from PyTorch", 0.0, top, reversed(differences))
    for step in ticks(1, steps, 8) if steps > 1 else [1]:
        svg.append(f"<text x='{x(step):.1f}' y='518' text-anchor='middle'>{step:g}</text>")
    svg.append(f"<text x='{(left + width - right) / 2}' y='542' text-anchor='middle'>step</text>")
    names = {"storylm": "storylm", "pytorch": "PyTorch", "control": "PyTorch, perturbed"}
    for i, kind in enumerate(curves):
        at = 420 + 100 * i
        svg.append(f"<polyline class='{kind}' points='{at},20 {at + 24},20'/>")
        svg.append(f"<text x='{at + 28}' y='24'>{names[kind]}</text>")
    return "\n".join(svg + ["</svg>", ""])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=pathlib.Path, required=True)
    parser.add_argument("--output-dir", type=pathlib.Path, required=True)
    parser.add_argument("--program", type=pathlib.Path, default=ROOT / "build" / "bin" / "compare_training")
    parser.add_argument("--model", default="story_24m", help="default: story_24m")
    parser.add_argument("--steps", type=int, default=200, help="default: 200")
    parser.add_argument("--batch-size", type=int, default=4, help="stories a step, default: 4")
    parser.add_argument("--max-len", type=int, default=64, help="default: 64")
    parser.add_argument("--lr", type=float, default=3e-4, help="default: 3e-4")
    parser.add_argument("--threads", type=int, default=0, help="of both; 0: as many as the machine offers")
    parser.add_argument("--dtype", default="float64", choices=["float32", "float64"], help="default: float64")
    parser.add_argument("--control", action="store_true", help="PyTorch a second time, from weights a bit apart")
    flags = parser.parse_args()
    options = ("data_dir", "output_dir", "model", "steps", "batch_size", "max_len", "lr", "threads", "dtype")
    command = [str(flags.program.resolve())]
    for name in options:
        command += ["--" + name.replace("_", "-"), str(getattr(flags, name))]
    if flags.threads > 0:
        torch.set_num_threads(flags.threads)
    try:
        if subprocess.run(command, check=False).returncode != 0:
            return 2
        report = json.loads((flags.output_dir / "storylm.json").read_text())
        losses, norms, seconds = train(flags.output_dir, report)
        control = train(flags.output_dir, report, "control", perturbed=True)[0] if flags.control else None
    except (OSError, BadFile) as error:
        print(f"compare_training: {error}", file=sys.stderr)
        return 2
    return compare(flags.output_dir, report, losses, norms, seconds, control)


def compare(folder, report, losses, norms, seconds, control):
    """Writes both files, prints the result and returns the exit code. `control` may be None."""
    ours = report.pop("losses")
    differences = relative_differences(ours, losses)
    worst = max(range(len(differences)), key=lambda i: math.inf if math.isnan(differences[i]) else differences[i])
    norm_differences = relative_differences(report.pop("grad_norms"), norms)
    result = {key: value for key, value in report.items() if key != "seconds"}
    result |= {
        "torch_version": torch.__version__,
        "threads": torch.get_num_threads(),
        "largest_relative_difference": differences[worst],
        "at_step": worst + 1,
        "largest_relative_difference_of_gradient_norms": max(norm_differences),
        "seconds_storylm": round(report["seconds"], 1),
        "seconds_pytorch": round(seconds, 1),
        "losses_storylm": ours,
        "losses_pytorch": losses,
    }
    limit = LIMIT
    curves = {"storylm": ours, "pytorch": losses}
    if control is not None:
        own = max(relative_differences(control, losses))
        limit = max(limit, own)
        result |= {"largest_relative_difference_of_control": own, "losses_control": control}
        curves["control"] = control
    (folder / "compare_training.json").write_text(json.dumps(result, indent=1) + "\n")
    title = f"{report['model']}, {len(ours)} steps of {report['batch_size']} stories, {report['dtype']}"
    (folder / "compare_training.svg").write_text(draw(curves, title))
    agree = all(difference <= limit for difference in differences)  # false for NaN
    print(f"loss at step {len(ours)}: storylm {ours[-1]:.6f}, PyTorch {losses[-1]:.6f}")
    print(f"largest relative difference {differences[worst]:.3g}, at step {worst + 1}")
    if control is not None:
        print(f"PyTorch from weights changed in their last bit: {own:.3g}")
    print(f"{'within' if agree else 'beyond'} {limit:.3g}; {report['seconds']:.0f} s and {seconds:.0f} s")
    return 0 if agree else 1


if __name__ == "__main__":
    sys.exit(main())
