# SPDX-License-Identifier: MIT
"""Writes the PyTorch reference files that storylm's tests are compared with.

    python make_reference.py [--output-dir DIR]

Needs torch and safetensors only; runs on the CPU in one thread in a few seconds. DIR defaults to the folder of this
script. Seeds are fixed; another PyTorch or CPU may change the last bits of float32 results. README.md beside this file
says what is in each file.
"""

import argparse
import json
import math
import pathlib

import torch
from safetensors.torch import save as safetensors_bytes
from torch import nn
from torch.nn import functional

from reference_models import attend, build, pack, pad, rotate, sinusoidal_table

IGNORED = -100  # a position without target, as in torch.nn.functional.cross_entropy


def save(path, tensors, **metadata):
    """One safetensors file; metadata values become JSON text.

    safetensors writes the metadata in an order that changes from run to run; sorting it makes the file reproducible.
    """
    text = {key: json.dumps(value) for key, value in metadata.items()}
    text["torch_version"] = torch.__version__
    content = safetensors_bytes({name: t.detach().clone().contiguous() for name, t in tensors.items()}, metadata=text)
    begin = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:begin])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    lines = json.dumps(header, separators=(",", ":")).encode()
    lines += b" " * (-len(lines) % 8)
    path.write_bytes(len(lines).to_bytes(8, "little") + lines + content[begin:])
    print(f"{path.name}: {len(tensors)} tensors, {path.stat().st_size} bytes")


# ---------------------------------------------------------------------------------------------------------------------
# Whole models


BASE = {
    "vocab_size": 41,
    "d_model": 24,
    "d_ff": 28,
    "n_layers": 2,
    "n_heads": 3,
    "n_kv_heads": 3,
    "head_dim": 8,
    "max_len": 32,
    "sliding_window": 0,
    "norm": "layer_norm",
    "pre_norm": False,
    "feed_forward": "relu",
    "positions": "sinusoidal",
    "tie_head": False,
    "scale_embedding": False,
    "attention_bias": True,
    "feed_forward_bias": True,
    "norm_bias": True,
    "head_bias": True,
    "norm_eps": 1e-5,
    "rope_theta": 10000.0,
}
GPT2 = BASE | {
    "vocab_size": 61,
    "d_model": 16,
    "d_ff": 48,
    "n_heads": 2,
    "n_kv_heads": 2,
    "pre_norm": True,
    "feed_forward": "gelu_tanh",
    "positions": "learned",
    "tie_head": True,
    "head_bias": False,
}
LLAMA = BASE | {
    "d_model": 32,
    "d_ff": 20,
    "n_heads": 4,
    "n_kv_heads": 2,
    "sliding_window": 8,
    "norm": "rms_norm",
    "pre_norm": True,
    "feed_forward": "swiglu",
    "positions": "rope_half",
    "attention_bias": False,
    "feed_forward_bias": False,
    "norm_bias": False,
    "head_bias": False,
    "norm_eps": 1e-6,
}
LLAMA_INTERLEAVED = LLAMA | {
    "vocab_size": 37,
    "d_model": 16,
    "d_ff": 24,
    "n_heads": 2,
    "n_kv_heads": 1,
    "head_dim": 16,
    "sliding_window": 0,
    "positions": "rope_interleaved",
    "tie_head": True,
    "rope_theta": 500.0,
}
SEED_PLAIN = BASE | {"vocab_size": 37, "d_model": 16, "d_ff": 20, "n_heads": 2, "n_kv_heads": 2}

# file, architecture, config, lengths of the sequences, factor on the initial matrices, learning rate
# The factor and the rate are chosen so that clipping at 1.0 bites in some of the ten steps and not in others.
MODELS = [
    ("seed_model_scaled", "pytorch", BASE | {"scale_embedding": True}, [7, 32, 1, 13, 5], 0.7, 1e-3),
    ("seed_model_plain", "pytorch", SEED_PLAIN, [11, 1, 32, 6], 1.0, 1e-3),
    ("gpt2_model", "gpt2", GPT2, [5, 32, 1, 14], 0.8, 2e-3),
    ("llama_model", "llama", LLAMA, [9, 1, 32, 8, 17], 0.7, 1e-2),
    ("llama_interleaved_model", "llama", LLAMA_INTERLEAVED, [32, 4, 1, 12], 0.7, 1e-3),
]
STEPS, CLIP_NORM = 10, 1.0
LEAST_RELU_INPUT = 5e-6


def initialise(model, factor, generator):
    """Xavier for every matrix (embeddings and the whole in_proj_weight too); no vector is left at exactly 0 or 1."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                nn.init.xavier_uniform_(parameter, generator=generator).mul_(factor)
            else:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))


def make_batch(config, lengths, generator):
    """Packed ids and targets. Targets are the next ids; the last sequence and every eleventh position have none."""
    stories = [torch.randint(0, config["vocab_size"], (length + 1,), generator=generator) for length in lengths]
    ids = torch.cat([story[:-1] for story in stories])
    targets = torch.cat([story[1:] for story in stories])
    offsets = torch.tensor([0] + lengths).cumsum(0)
    targets[10::11] = IGNORED
    targets[offsets[-2] :] = IGNORED
    return ids, targets, offsets


def mean_loss(model, ids, targets):
    """Mean cross entropy over the padded batch's positions that have a target."""
    logits = model(ids)
    return functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED), logits


def run_model(model, ids, targets, offsets, lr, suffix):
    """Forward, gradients and ten Adam steps on one batch, as tensors named with `suffix` ("" or "64")."""
    model.train()  # nn.TransformerEncoder's fused fast path is for eval() only
    out = {}
    ids, targets = pad(ids, offsets, 0), pad(targets, offsets, IGNORED)
    loss, logits = mean_loss(model, ids, targets)
    loss.backward()
    out[f"logits{suffix}"], out[f"loss{suffix}"] = pack(logits, offsets), loss
    for name, parameter in model.named_parameters():
        out[f"grads{suffix}.{name}"] = parameter.grad.clone()
    optimizer = torch.optim.Adam(model.parameters(), lr=lr, foreach=False)
    losses, norms = [], []
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss, _ = mean_loss(model, ids, targets)
        loss.backward()
        norms.append(nn.utils.clip_grad_norm_(model.parameters(), CLIP_NORM, foreach=False))
        optimizer.step()
        losses.append(loss.detach())
    out[f"adam{suffix}.losses"], out[f"adam{suffix}.grad_norms"] = torch.stack(losses), torch.stack(norms)
    for name, parameter in model.named_parameters():
        out[f"adam{suffix}.weights.{name}"] = parameter
    return out


class KinkMeter:
    """The least distance of any ReLU's input from zero, over all forwards of a model.

    Where that is of the size of rounding errors, ReLU's derivative is 0 for one program and 1 for another, and the
    files would compare luck.
    """

    def __init__(self, model):
        self.least = math.inf
        for name, layer in model.named_modules():
            if name.endswith("linear1"):
                layer.register_forward_hook(self.look)

    def look(self, _layer, _inputs, output):
        self.least = min(self.least, output.detach().abs().min().item())


def make_model(folder, file, architecture, config, lengths, factor, lr, attempt=0):
    torch.manual_seed(1)
    generator = torch.Generator().manual_seed(sum(file.encode()) + attempt)
    model = build(config, architecture)
    initialise(model, factor, generator)
    ids, targets, offsets = make_batch(config, lengths, generator)
    tensors = {"ids": ids.int(), "targets": targets.int(), "offsets": offsets.int()}
    weights = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    tensors |= {f"weights.{name}": weight for name, weight in weights.items()}
    tensors |= run_model(model, ids, targets, offsets, lr, "")
    model = build(config, architecture).double()
    model.load_state_dict(weights)
    kinks = KinkMeter(model)
    tensors |= run_model(model, ids, targets, offsets, lr, "64")
    losses, norms = tensors["adam64.losses"], tensors["adam64.grad_norms"]
    print("  losses", *(f"{x:.4f}" for x in losses.tolist()))
    print("  norms ", *(f"{x:.4f}" for x in norms.tolist()))
    clips_sometimes = norms.max() > CLIP_NORM * 1.05 and norms.min() < CLIP_NORM * 0.95
    if kinks.least < LEAST_RELU_INPUT or not clips_sometimes:
        print(f"  other data: least ReLU input {kinks.least:.1e}, clipping must bite in some steps and not in others")
        return make_model(folder, file, architecture, config, lengths, factor, lr, attempt + 1)
    training = {"optimizer": "adam", "steps": STEPS, "lr": lr, "betas": [0.9, 0.999], "eps": 1e-8}
    training |= {"clip_norm": CLIP_NORM, "ignore_index": IGNORED}
    path = folder / f"{file}.safetensors"
    save(path, tensors, config=config | {"architecture": architecture}, training=training)


# ---------------------------------------------------------------------------------------------------------------------
# Single operations


def record(case, function, inputs, fixed=None):
    """Outputs and gradients of function(**inputs, **fixed) in float32 and float64, from the same float32 inputs.

    Writes `case.<input>`, `case.dy` (the gradient that backward is given; none for a scalar), `case.y` and
    `case.d<input>`; the float64 results have 64 at the end of their names.
    """
    out = {f"{case}.{name}": value for name, value in inputs.items()}
    dy = None
    for dtype, suffix in ((torch.float32, ""), (torch.float64, "64")):
        leaves = {name: value.to(dtype, copy=True).requires_grad_() for name, value in inputs.items()}
        y = function(**leaves, **(fixed or {}))
        if y.dim() > 0 and dy is None:
            dy = out[f"{case}.dy"] = torch.randn(y.shape)
        y.backward(None if dy is None else dy.to(dtype))
        out[f"{case}.y{suffix}"] = y
        out |= {f"{case}.d{name}{suffix}": leaf.grad for name, leaf in leaves.items()}
    return out


def packed_attention(q, k, v, offsets, window):
    """Attention of packed rows (tokens, heads, head_dim), computed padded."""
    q, k, v = (pad(rows, offsets, 0.0).transpose(1, 2) for rows in (q, k, v))
    return pack(attend(q, k, v, window).transpose(1, 2), offsets)


def rotate_rows(x, **rest):
    """RoPE of packed rows (tokens, heads, head_dim)."""
    return rotate(x.transpose(0, 1), **rest).transpose(0, 1)


# case: query heads, key and value heads, head size, window (0 = none)
ATTENTION = {
    "attention": (2, 2, 8, 0),
    "attention_grouped": (4, 2, 8, 0),
    "attention_window": (2, 2, 8, 5),
    "attention_grouped_window": (3, 1, 8, 4),
}


def make_ops(folder):
    torch.manual_seed(2)
    tensors, cases = {}, {}

    def add(case, function, inputs, fixed=None, **about):
        tensors.update(record(case, function, inputs, fixed))
        cases[case] = about

    def layer_norm(x, weight, bias):
        return functional.layer_norm(x, x.shape[-1:], weight, bias, 1e-5)

    def rms_norm(x, weight):
        return functional.rms_norm(x, x.shape[-1:], weight, 1e-6)

    width = 24
    x, weight, bias = torch.randn(7, width), 1 + 0.3 * torch.randn(width), 0.3 * torch.randn(width)
    rows = torch.tensor([1.0, 1e-3, 30.0, 1.0, 1e-5, 1.0, 5.0])[:, None]  # some rows where eps decides
    add("layer_norm", layer_norm, {"x": x * rows, "weight": weight, "bias": bias}, norm_eps=1e-5)
    add("layer_norm_shifted", layer_norm, {"x": x + 20, "weight": weight, "bias": bias}, norm_eps=1e-5)
    add("rms_norm", rms_norm, {"x": x * rows, "weight": weight}, norm_eps=1e-6)

    offsets = torch.tensor([0, 7, 8, 22])
    tensors["attention_offsets"] = offsets.int()
    for case, (heads, kv_heads, size, window) in ATTENTION.items():
        shape = (int(offsets[-1]), kv_heads, size)
        inputs = {"q": torch.randn(shape[0], heads, size), "k": torch.randn(shape), "v": torch.randn(shape)}
        about = {"n_heads": heads, "n_kv_heads": kv_heads, "head_dim": size, "sliding_window": window}
        add(case, packed_attention, inputs, {"offsets": offsets, "window": window}, **about)

    logits = torch.randn(9, 37) * torch.tensor([1.0, 3, 30, 1, 1, 100, 1, 0, 1])[:, None]
    targets = torch.randint(0, 37, (9,))
    targets[[0, 4, 8]] = IGNORED
    fixed = {"target": targets, "ignore_index": IGNORED}
    add("cross_entropy", functional.cross_entropy, {"input": logits}, fixed, ignore_index=IGNORED)
    names = {"input": "logits", "dinput": "dlogits", "dinput64": "dlogits64", "y": "loss", "y64": "loss64"}
    for old, new in names.items():
        tensors[f"cross_entropy.{new}"] = tensors.pop(f"cross_entropy.{old}")
    tensors["cross_entropy.targets"] = targets.int()

    x = torch.cat((torch.randn(40) * 2, torch.tensor([0.0, 1e-4, -1e-4, 6.0, -6.0, 12.0, -12.0, 50.0, -50.0])))
    add("relu", lambda x: functional.relu(x), {"x": x})
    add("silu", lambda x: functional.silu(x), {"x": x})
    add("gelu_erf", lambda x: functional.gelu(x), {"x": x})
    add("gelu_tanh", lambda x: functional.gelu(x, approximate="tanh"), {"x": x})
    add("swiglu", lambda gate, up: functional.silu(gate) * up, {"gate": x.clone(), "up": torch.randn(x.shape)})

    ids = torch.tensor([3, 0, 3, 10, 7, 3, 0])  # repeated ids add up, ids that do not occur have a gradient of zero
    add("embedding", lambda weight: weight[ids], {"weight": torch.randn(11, 16)})
    tensors["embedding.ids"] = ids.int()

    positions = torch.tensor([0, 1, 2, 3, 0, 1, 17, 100, 1000])
    for case, interleaved in (("rope_half", False), ("rope_interleaved", True)):
        inputs = {"x": torch.randn(len(positions), 2, 8)}
        fixed = {"positions": positions, "theta": 10000.0, "interleaved": interleaved}
        add(case, rotate_rows, inputs, fixed, rope_theta=10000.0)
    tensors["rope_positions"] = positions.int()
    tensors["sinusoidal64"] = sinusoidal_table(40, 24)
    save(folder / "ops.safetensors", tensors, cases=cases)


# ---------------------------------------------------------------------------------------------------------------------
# Optimizers, clipping, schedules, Xavier


OPTIMIZERS = {
    "adam": (torch.optim.Adam, {"lr": 1e-2}),
    "adam_betas": (torch.optim.Adam, {"lr": 3e-3, "betas": [0.8, 0.95], "eps": 1e-6}),
    "adam_weight_decay": (torch.optim.Adam, {"lr": 1e-2, "weight_decay": 0.1}),
    "adamw": (torch.optim.AdamW, {"lr": 1e-2, "weight_decay": 0.1}),
    "adamw_betas": (torch.optim.AdamW, {"lr": 3e-3, "betas": [0.9, 0.95], "eps": 1e-6, "weight_decay": 0.01}),
    "sgd": (torch.optim.SGD, {"lr": 0.1}),
    "sgd_momentum": (torch.optim.SGD, {"lr": 0.05, "momentum": 0.9}),
    "sgd_nesterov": (torch.optim.SGD, {"lr": 0.05, "momentum": 0.9, "nesterov": True}),
    "sgd_weight_decay": (torch.optim.SGD, {"lr": 0.1, "weight_decay": 0.1}),
    "sgd_all": (torch.optim.SGD, {"lr": 0.05, "momentum": 0.8, "nesterov": True, "weight_decay": 0.01}),
}


def make_optimizers(tensors, cases):
    """Two parameters, ten steps; `<case>.steps.<i>` (10, shape) holds parameter i after each step."""
    initial = [torch.randn(5, 4), torch.randn(7)]
    grads = [torch.randn(STEPS, *p.shape) for p in initial]
    grads[0][:, 0] *= 1e-4  # a row of small gradients, one near eps, one of zeros, one that starts late
    grads[0][:, 1] *= 1e-8
    grads[0][:, 2] = 0.0
    grads[1][:4, :3] = 0.0
    for i in range(2):
        tensors[f"initial.{i}"], tensors[f"grads.{i}"] = initial[i], grads[i]
    for case, (optimizer_class, options) in OPTIMIZERS.items():
        cases[case] = {"optimizer": optimizer_class.__name__, "lr_halved_after": 6} | options
        for dtype, suffix in ((torch.float32, ""), (torch.float64, "64")):
            parameters = [nn.Parameter(p.to(dtype).clone()) for p in initial]
            optimizer = optimizer_class(parameters, foreach=False, **options)
            steps = [[], []]
            for step in range(STEPS):
                if step == cases[case]["lr_halved_after"]:  # as a schedule does
                    optimizer.param_groups[0]["lr"] *= 0.5
                for i, parameter in enumerate(parameters):
                    parameter.grad = grads[i][step].to(dtype)
                optimizer.step()
                for i, parameter in enumerate(parameters):
                    steps[i].append(parameter.detach().clone())
            for i in range(2):
                tensors[f"{case}.steps{suffix}.{i}"] = torch.stack(steps[i])


def make_clipping(tensors, cases):
    kinds = (("above", 1.0, 1.0), ("below", 0.1, 1.0), ("other_limit", 1.0, 2.5), ("zero", 0.0, 1.0))
    for case, factor, max_norm in kinds:
        grads = [factor * torch.randn(5, 4), factor * torch.randn(7)]
        cases[f"clip.{case}"] = {"max_norm": max_norm}
        for i, grad in enumerate(grads):
            tensors[f"clip.{case}.grads.{i}"] = grad
        for dtype, suffix in ((torch.float32, ""), (torch.float64, "64")):
            parameters = [nn.Parameter(torch.zeros(grad.shape, dtype=dtype)) for grad in grads]
            for parameter, grad in zip(parameters, grads):
                parameter.grad = grad.to(dtype, copy=True)  # clipping writes into it
            norm = nn.utils.clip_grad_norm_(parameters, max_norm, foreach=False)
            tensors[f"clip.{case}.norm{suffix}"] = norm
            for i, parameter in enumerate(parameters):
                tensors[f"clip.{case}.clipped{suffix}.{i}"] = parameter.grad


def plateau_losses():
    """Validation losses with plateaus of ten and of eleven, improvements about the threshold, NaN and infinity."""
    generator = torch.Generator().manual_seed(3)

    def noise(count):
        return torch.rand(count, generator=generator, dtype=torch.float64)

    losses = [math.nan, math.inf, 5.0]  # neither of the first two is a best value
    losses += (5.0 - 0.3 * torch.arange(1, 9, dtype=torch.float64)).tolist()  # falling to 2.6
    losses += (2.6 + noise(10)).tolist() + [2.5]  # ten bad ones, then better: nothing happens
    losses += (2.5 + noise(11)).tolist()  # eleven bad ones: first reduction
    losses += [2.5 * (1 - 0.9e-4) ** k for k in range(1, 12)]  # each only just below the last, the second passes
    losses += [2.4, 2.4 * (1 - 1e-4), 2.4 * (1 - 1.01e-4)]  # not better at the threshold itself, better beyond it
    losses += [math.nan] * 5 + [2.4 + x for x in noise(6).tolist()]  # NaN counts as bad
    losses += [2.3] + (2.3 + noise(25)).tolist()  # two reductions in one plateau
    losses += [math.inf, 2.2, 2.1] + (2.1 + noise(130)).tolist()  # down to where eps stops it
    losses += [1.0] + [1.0] * 13
    return losses


def cosine(step, base, least, warmup, total):
    """Linear from 0 over `warmup` steps, then half a cosine that reaches `least` at `total` and stays there."""
    if step < warmup:
        return base * step / warmup
    progress = min(1.0, (step - warmup) / (total - warmup))
    return least + 0.5 * (base - least) * (1 + math.cos(math.pi * progress))


def make_schedules(tensors, cases):
    losses = plateau_losses()
    optimizer = torch.optim.Adam([nn.Parameter(torch.zeros(1))], lr=3e-4)
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.3, patience=10)
    rates, best, bad = [], [], []
    for loss in losses:
        plateau.step(loss)
        rates.append(optimizer.param_groups[0]["lr"])
        best.append(plateau.best)
        bad.append(plateau.num_bad_epochs)
    cases["plateau"] = {"lr": 3e-4, "factor": 0.3, "patience": 10, "threshold": 1e-4, "threshold_mode": "rel"}
    cases["plateau"] |= {"min_lr": 0.0, "cooldown": 0, "eps": 1e-8}
    tensors["plateau.losses"] = torch.tensor(losses, dtype=torch.float64)
    tensors["plateau.lr"] = torch.tensor(rates, dtype=torch.float64)
    tensors["plateau.best"] = torch.tensor(best, dtype=torch.float64)
    tensors["plateau.bad"] = torch.tensor(bad, dtype=torch.int32)
    options = {"base": 3e-4, "least": 3e-5, "warmup": 10, "total": 60}
    cases["cosine"] = {"lr": 3e-4, "min_lr": 3e-5, "warmup_steps": 10, "total_steps": 60}
    tensors["cosine.lr"] = torch.tensor([cosine(step, **options) for step in range(65)], dtype=torch.float64)


def make_xavier(tensors):
    """Statistics of xavier_uniform_ per shape (out, in): its bound, and mean, variance and extremes of one draw."""
    shapes = [(61, 24), (1536, 512), (2048, 512), (512, 2048), (5120, 512), (3, 1000)]
    rows = []
    for fan_out, fan_in in shapes:
        draw = nn.init.xavier_uniform_(torch.empty(fan_out, fan_in)).double()
        rows.append([math.sqrt(6.0 / (fan_in + fan_out)), draw.mean(), draw.var(), draw.min(), draw.max()])
    statistics = torch.tensor(rows, dtype=torch.float64)
    tensors["xavier.shapes"] = torch.tensor(shapes, dtype=torch.int32)
    for column, name in enumerate(("bound", "mean", "variance", "min", "max")):
        tensors[f"xavier.{name}"] = statistics[:, column]


def make_optim(folder):
    torch.manual_seed(4)
    tensors, cases = {}, {}
    make_optimizers(tensors, cases)
    make_clipping(tensors, cases)
    make_schedules(tensors, cases)
    make_xavier(tensors)
    save(folder / "optim.safetensors", tensors, cases=cases)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output-dir", type=pathlib.Path, default=pathlib.Path(__file__).resolve().parent)
    folder = parser.parse_args().output_dir
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    for model in MODELS:
        make_model(folder, *model)
    make_ops(folder)
    make_optim(folder)


if __name__ == "__main__":
    main()
