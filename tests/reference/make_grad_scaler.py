# SPDX-License-Identifier: MIT
"""Writes grad_scaler.safetensors: torch.amp.GradScaler over hundreds of steps with gradients that overflow.

    python make_grad_scaler.py [--output-dir DIR]

Needs torch and safetensors only; runs on the CPU in a second. README.md beside this file says what is in the file.
"""

import argparse
import math
import pathlib

import torch

from make_reference import save

STEPS = 240
WIDTH = 5
# Names are GradScaler's; max_norm 0: the gradients are unscaled and not clipped.
CASES = {
    "defaults": {"init_scale": 65536.0, "growth_factor": 2.0, "backoff_factor": 0.5, "growth_interval": 7, "max_norm": 1.0},
    "odd_factors": {"init_scale": 1000.1, "growth_factor": 1.7, "backoff_factor": 0.3, "growth_interval": 3, "max_norm": 0.0},
    # The scale reaches the largest power of two and cannot grow any more.
    "largest": {"init_scale": 2.0**124, "growth_factor": 2.0, "backoff_factor": 0.5, "growth_interval": 2, "max_norm": 0.0},
    # It falls to denormal floats, whose inverses overflow.
    "smallest": {"init_scale": 2.0**-70, "growth_factor": 1.5, "backoff_factor": 0.25, "growth_interval": 9, "max_norm": 0.0},
    "never_grows": {"init_scale": 65536.0, "growth_factor": 2.0, "backoff_factor": 0.5, "growth_interval": 2000, "max_norm": 0.5},
}


def make_case(name, options, coefficients, tensors):
    """One parameter w with the loss sum(w * coefficients[step]): its gradient is known and overflows where planted."""
    arguments = {key: value for key, value in options.items() if key != "max_norm"}
    scaler = torch.amp.GradScaler("cpu", enabled=True, **arguments)
    w = torch.nn.Parameter(torch.linspace(-1.0, 1.0, WIDTH))
    optimizer = torch.optim.SGD([w], lr=0.0625)
    scales, trackers, weights, skipped = [], [], [], []
    for row in coefficients:
        optimizer.zero_grad()
        scaler.scale((w * row).sum()).backward()
        scaler.unscale_(optimizer)
        if options["max_norm"] > 0.0:
            torch.nn.utils.clip_grad_norm_([w], options["max_norm"], foreach=False)
        skipped.append(int(sum(found.item() for found in scaler._found_inf_per_device(optimizer).values())))
        scaler.step(optimizer)
        scaler.update()
        scales.append(scaler.get_scale())
        trackers.append(scaler._get_growth_tracker())
        weights.append(w.detach().clone())
    tensors[f"{name}.scales"] = torch.tensor(scales, dtype=torch.float64)
    tensors[f"{name}.trackers"] = torch.tensor(trackers, dtype=torch.int32)
    tensors[f"{name}.skipped"] = torch.tensor(skipped, dtype=torch.int32)
    tensors[f"{name}.weights"] = torch.stack(weights)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output-dir", type=pathlib.Path, default=pathlib.Path(__file__).resolve().parent)
    folder = parser.parse_args().output_dir
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    torch.manual_seed(6)
    coefficients = torch.randn(STEPS, WIDTH)
    for step, value in [(0, math.inf), (20, math.nan), (21, -math.inf), (22, math.inf), (60, math.nan), (61, math.inf)]:
        coefficients[step, step % WIDTH] = value  # the first step, single ones and three in a row
    coefficients[150::9, 2] = math.inf  # often
    coefficients[170:190, 1] = math.nan  # for long
    tensors = {"coefficients": coefficients}
    for name, options in CASES.items():
        make_case(name, options, coefficients, tensors)
    save(folder / "grad_scaler.safetensors", tensors, cases=CASES)


if __name__ == "__main__":
    main()
