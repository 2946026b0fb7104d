# SPDX-License-Identifier: MIT
"""Checks the reference files against a second, plain computation that shares no code with make_reference.py.

    python verify_reference.py [--input-dir DIR]

Models are recomputed from their stored weights in float64, one sequence at a time without padding or masks, with loops
over heads and keys; ten Adam steps are done by the formula; some gradients are checked by finite differences. Exits
with 1 and a list when anything disagrees.
"""

import argparse
import json
import math
import pathlib
import sys

import torch
from safetensors import safe_open

failures = []


def check(what, value, limit):
    if not value <= limit:  # NaN fails
        failures.append(f"{what}: {value:.3g} > {limit:.3g}")


def difference(a, b):
    """max |a - b| / max |b|, the measure of the tests."""
    return ((a.double() - b.double()).abs().max() / b.double().abs().max().clamp_min(1e-300)).item()


def read(path):
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata()


# ---------------------------------------------------------------------------------------------------------------------
# The models again, from the formulas


def layer_norm(x, weight, bias, eps):
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.pow(2).mean(-1, keepdim=True) + eps).sqrt() * weight + bias


def rms_norm(x, weight, eps):
    return x / (x.pow(2).mean(-1, keepdim=True) + eps).sqrt() * weight


def gelu_tanh(x):
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def rope(x, theta, interleaved, positions=None):
    """x (time, heads, head_dim), each pair turned as a complex number."""
    time, _, size = x.shape
    positions = range(time) if positions is None else positions
    frequency = torch.tensor([theta ** (-2 * i / size) for i in range(size // 2)], dtype=torch.float64)
    angle = torch.tensor(list(positions), dtype=torch.float64)[:, None] * frequency
    turn = torch.polar(torch.ones_like(angle), angle)[:, None, :]
    if interleaved:
        return torch.view_as_real(torch.complex(x[..., 0::2], x[..., 1::2]) * turn).flatten(-2)
    turned = torch.complex(x[..., : size // 2], x[..., size // 2 :]) * turn
    return torch.cat((turned.real, turned.imag), -1)


def attention(q, k, v, window):
    """One sequence: q (time, heads, size), k and v (time, kv_heads, size); each query sees its own list of keys."""
    time, heads, size = q.shape
    rows = []
    for i in range(time):
        first = max(0, i - window + 1) if window else 0
        outputs = []
        for head in range(heads):
            kv_head = head * k.shape[1] // heads
            keys, values = k[first : i + 1, kv_head], v[first : i + 1, kv_head]
            outputs.append(torch.softmax(keys @ q[i, head] / math.sqrt(size), 0) @ values)
        rows.append(torch.stack(outputs))
    return torch.stack(rows)


def encoder_logits(c, w, ids):
    width, heads, eps = c["d_model"], c["n_heads"], c["norm_eps"]
    x = w["embedding.weight"][ids] * (math.sqrt(width) if c["scale_embedding"] else 1)
    x = x + torch.tensor(
        [
            [(math.cos if i % 2 else math.sin)(p / 10000 ** ((i - i % 2) / width)) for i in range(width)]
            for p in range(len(ids))
        ],
        dtype=torch.float64,
    )
    for n in range(c["n_layers"]):
        p = f"encoder.layers.{n}."
        qkv = x @ w[p + "self_attn.in_proj_weight"].T + w[p + "self_attn.in_proj_bias"]
        y = attention(*(part.unflatten(-1, (heads, -1)) for part in qkv.chunk(3, -1)), 0).flatten(1)
        y = y @ w[p + "self_attn.out_proj.weight"].T + w[p + "self_attn.out_proj.bias"]
        x = layer_norm(x + y, w[p + "norm1.weight"], w[p + "norm1.bias"], eps)
        y = (x @ w[p + "linear1.weight"].T + w[p + "linear1.bias"]).clamp_min(0)
        y = y @ w[p + "linear2.weight"].T + w[p + "linear2.bias"]
        x = layer_norm(x + y, w[p + "norm2.weight"], w[p + "norm2.bias"], eps)
    return layer_norm(x, w["encoder.norm.weight"], w["encoder.norm.bias"], eps) @ w["head.weight"].T + w["head.bias"]


def gpt2_logits(c, w, ids):
    heads, eps = c["n_heads"], c["norm_eps"]
    x = w["transformer.wte.weight"][ids] + w["transformer.wpe.weight"][: len(ids)]
    for n in range(c["n_layers"]):
        p = f"transformer.h.{n}."
        y = layer_norm(x, w[p + "ln_1.weight"], w[p + "ln_1.bias"], eps)
        qkv = y @ w[p + "attn.c_attn.weight"] + w[p + "attn.c_attn.bias"]
        y = attention(*(part.unflatten(-1, (heads, -1)) for part in qkv.chunk(3, -1)), 0).flatten(1)
        x = x + y @ w[p + "attn.c_proj.weight"] + w[p + "attn.c_proj.bias"]
        y = layer_norm(x, w[p + "ln_2.weight"], w[p + "ln_2.bias"], eps)
        y = gelu_tanh(y @ w[p + "mlp.c_fc.weight"] + w[p + "mlp.c_fc.bias"])
        x = x + y @ w[p + "mlp.c_proj.weight"] + w[p + "mlp.c_proj.bias"]
    x = layer_norm(x, w["transformer.ln_f.weight"], w["transformer.ln_f.bias"], eps)
    return x @ w["transformer.wte.weight"].T


def llama_logits(c, w, ids):
    eps, size, interleaved = c["norm_eps"], c["head_dim"], c["positions"] == "rope_interleaved"
    x = w["model.embed_tokens.weight"][ids]
    for n in range(c["n_layers"]):
        p = f"model.layers.{n}."
        y = rms_norm(x, w[p + "input_layernorm.weight"], eps)
        q, k, v = ((y @ w[p + f"self_attn.{name}_proj.weight"].T).unflatten(-1, (-1, size)) for name in "qkv")
        q, k = (rope(part, c["rope_theta"], interleaved) for part in (q, k))
        y = attention(q, k, v, c["sliding_window"]).flatten(1)
        x = x + y @ w[p + "self_attn.o_proj.weight"].T
        y = rms_norm(x, w[p + "post_attention_layernorm.weight"], eps)
        gate = y @ w[p + "mlp.gate_proj.weight"].T
        y = gate / (1 + torch.exp(-gate)) * (y @ w[p + "mlp.up_proj.weight"].T)
        x = x + y @ w[p + "mlp.down_proj.weight"].T
    x = rms_norm(x, w["model.norm.weight"], eps)
    return x @ w["model.embed_tokens.weight" if c["tie_head"] else "lm_head.weight"].T


LOGITS = {"pytorch": encoder_logits, "gpt2": gpt2_logits, "llama": llama_logits}


def cross_entropy(logits, targets):
    """Mean over the rows that have a target, as log-sum-exp minus the target's logit."""
    rows = [torch.logsumexp(row, 0) - row[t] for row, t in zip(logits, targets.tolist()) if t != -100]
    return torch.stack(rows).mean()


def adam_step(values, grads, moments, t, lr, betas=(0.9, 0.999), eps=1e-8):
    for name, g in grads.items():
        m, v = moments.setdefault(name, [torch.zeros_like(g), torch.zeros_like(g)])
        m.mul_(betas[0]).add_((1 - betas[0]) * g)
        v.mul_(betas[1]).add_((1 - betas[1]) * g * g)
        m_hat, v_hat = m / (1 - betas[0] ** t), v / (1 - betas[1] ** t)
        values[name] = values[name] - lr * m_hat / (v_hat.sqrt() + eps)


def is_key_bias(name):
    """Its key third has a gradient of zero up to rounding, which Adam turns into steps of any size up to lr."""
    return name.endswith(("in_proj_bias", "c_attn.bias"))


def without_key_third(name, tensor):
    if not is_key_bias(name):
        return tensor
    query, _, value = tensor.chunk(3)
    return torch.cat((query, value))


def verify_model(path):
    tensors, metadata = read(path)
    config, training = json.loads(metadata["config"]), json.loads(metadata["training"])
    ids, targets, offsets = (tensors[name].long() for name in ("ids", "targets", "offsets"))
    names = [name.removeprefix("weights.") for name in tensors if name.startswith("weights.")]

    def run(values):
        parts = [LOGITS[config["architecture"]](config, values, ids[a:b]) for a, b in zip(offsets, offsets[1:])]
        logits = torch.cat(parts)
        return logits, cross_entropy(logits, targets)

    def gradients(values):
        leaves = {name: value.clone().requires_grad_() for name, value in values.items()}
        _, loss = run(leaves)
        return loss.item(), dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values()))))

    file = path.name
    initial = {name: tensors[f"weights.{name}"].double() for name in names}
    with torch.no_grad():
        logits, loss = run(initial)
    check(f"{file} logits64", difference(logits, tensors["logits64"]), 1e-13)
    check(f"{file} loss64", difference(loss, tensors["loss64"]), 1e-13)
    check(f"{file} logits", difference(tensors["logits"], logits), 1e-6)
    check(f"{file} loss", difference(tensors["loss"], loss), 1e-6)

    _, grads = gradients(initial)
    largest = 0.0
    for name in names:
        stored = tensors[f"grads64.{name}"]
        check(f"{file} grads64.{name}", difference(grads[name], stored), 1e-12)
        check(f"{file} grads.{name}", difference(tensors[f"grads.{name}"], stored), 3e-6)
        if is_key_bias(name):
            largest = max(largest, tensors[f"grads.{name}"].chunk(3)[1].abs().max().item())
    check(f"{file} gradient of the key bias", largest, 1e-6)

    generator = torch.Generator().manual_seed(5)
    for name in names:  # two entries of every parameter
        for index in torch.randint(0, initial[name].numel(), (2,), generator=generator).tolist():
            values, h = [], 1e-5
            for sign in (1, -1):
                moved = dict(initial)
                moved[name] = initial[name].clone()
                moved[name].view(-1)[index] += sign * h
                with torch.no_grad():
                    values.append(run(moved)[1].item())
            slope, stored = (values[0] - values[1]) / (2 * h), tensors[f"grads64.{name}"].view(-1)[index].item()
            check(f"{file} finite difference of {name}[{index}]", abs(slope - stored), 1e-8 + 1e-6 * abs(stored))

    values, moments, clipped = dict(initial), {}, 0
    for t in range(training["steps"]):
        loss, grads = gradients(values)
        check(f"{file} adam64.losses[{t}]", abs(loss / tensors["adam64.losses"][t].item() - 1), 1e-12)
        norm = math.sqrt(sum(g.pow(2).sum().item() for g in grads.values()))
        check(f"{file} adam64.grad_norms[{t}]", abs(norm / tensors["adam64.grad_norms"][t].item() - 1), 1e-10)
        factor = min(1.0, training["clip_norm"] / (norm + 1e-6))
        clipped += factor < 1
        adam_step(values, {name: g * factor for name, g in grads.items()}, moments, t + 1, training["lr"])
    worst = worst32 = (0.0, "")
    for name in names:
        stored = tensors[f"adam64.weights.{name}"]
        worst = max(worst, (difference(values[name], stored), name))
        single, double = (without_key_third(name, tensors[f"{run}.weights.{name}"]) for run in ("adam", "adam64"))
        worst32 = max(worst32, (difference(single, double), name))
    check(f"{file} adam64.weights.{worst[1]}", worst[0], 1e-10)
    check(f"{file} adam.weights.{worst32[1]}", worst32[0], 1e-4)
    check(f"{file} adam.losses", difference(tensors["adam.losses"], tensors["adam64.losses"]), 1e-6)
    check(f"{file} clipped steps of ten outside 1..9", abs(clipped - 5), 4)
    print(f"{file}: {len(names)} parameters, {clipped} of 10 steps clipped, float32 against float64 after ten steps:")
    print(f"  weights {worst32[0]:.1e} ({worst32[1]}), key bias gradient {largest:.1e}, adam64 {worst[0]:.1e}")


# ---------------------------------------------------------------------------------------------------------------------
# Operations, optimizers, schedules


def verify_ops(path):
    tensors, metadata = read(path)
    cases = json.loads(metadata["cases"])
    offsets, positions = tensors["attention_offsets"].tolist(), tensors["rope_positions"].tolist()

    def attend(q, k, v, window):
        return torch.cat([attention(q[a:b], k[a:b], v[a:b], window) for a, b in zip(offsets, offsets[1:])])

    functions = {
        "relu": lambda x: x * (x > 0),
        "silu": lambda x: x / (1 + torch.exp(-x)),
        "gelu_erf": lambda x: 0.5 * x * torch.erfc(-x / math.sqrt(2)),
        "gelu_tanh": gelu_tanh,
        "swiglu": lambda gate, up: gate / (1 + torch.exp(-gate)) * up,
        "embedding": lambda weight: weight[tensors["embedding.ids"].long()],
        "cross_entropy": lambda logits: cross_entropy(logits, tensors["cross_entropy.targets"]),
    }
    for case, about in cases.items():
        if case.startswith("layer_norm"):
            functions[case] = lambda x, weight, bias, eps=about["norm_eps"]: layer_norm(x, weight, bias, eps)
        elif case == "rms_norm":
            functions[case] = lambda x, weight, eps=about["norm_eps"]: rms_norm(x, weight, eps)
        elif case.startswith("rope"):
            turn = (about["rope_theta"], case == "rope_interleaved", positions)
            functions[case] = lambda x, turn=turn: rope(x, *turn)
        elif case.startswith("attention"):
            functions[case] = lambda q, k, v, window=about["sliding_window"]: attend(q, k, v, window)
    for case in cases:
        own = [name.removeprefix(f"{case}.") for name in tensors if name.startswith(f"{case}.")]
        inputs = [name for name in own if f"d{name}64" in own]
        leaves = {name: tensors[f"{case}.{name}"].double().requires_grad_() for name in inputs}
        y = functions[case](**leaves)
        dy = tensors[f"{case}.dy"].double() if y.dim() else None
        result = "loss" if case == "cross_entropy" else "y"
        check(f"ops {case}.{result}64", difference(y.detach(), tensors[f"{case}.{result}64"]), 1e-13)
        limit = 5e-6 if case == "layer_norm_shifted" else 1e-6  # its inputs lie about 20, its results about 0
        check(f"ops {case}.{result}", difference(tensors[f"{case}.{result}"], y.detach()), limit)
        grads = dict(zip(inputs, torch.autograd.grad(y, list(leaves.values()), dy)))
        for name in inputs:
            # relu is stored with slope 0 at 0, as x * (x > 0) has it
            check(f"ops {case}.d{name}64", difference(grads[name], tensors[f"{case}.d{name}64"]), 1e-11)
            check(f"ops {case}.d{name}", difference(tensors[f"{case}.d{name}"], grads[name]), 2e-5)
        for name in inputs:  # one directional derivative each
            if case == "relu":
                continue  # has a kink among its inputs
            direction, h, values = torch.randn(leaves[name].shape, dtype=torch.float64), 1e-6, []
            for sign in (1, -1):
                with torch.no_grad():
                    moved = functions[case](**(leaves | {name: leaves[name] + sign * h * direction}))
                    values.append((moved if dy is None else moved * dy).sum().item())
            slope, expected = (values[0] - values[1]) / (2 * h), (grads[name] * direction).sum().item()
            check(f"ops {case}.d{name} along a direction", abs(slope - expected), 1e-4 * (1 + abs(expected)))
    print(f"ops.safetensors: {len(cases)} cases")


def optimizer_steps(about, value, grads):
    """Adam (Kingma and Ba), AdamW (Loshchilov and Hutter) and SGD as PyTorch writes it, one element at a time."""
    beta1, beta2 = about.get("betas", [0.9, 0.999])
    eps, mu = about.get("eps", 1e-8), about.get("momentum", 0.0)
    m = v = 0.0
    rows = []
    for t, g in enumerate(grads, 1):
        lr = about["lr"] * (0.5 if t > about["lr_halved_after"] else 1)
        decay = about.get("weight_decay", 0.0)
        if about["optimizer"] == "AdamW":
            value -= lr * decay * value
        else:
            g += decay * value
        if about["optimizer"] == "SGD":
            m = mu * m + g if t > 1 else g
            value -= lr * ((g + mu * m if about.get("nesterov") else m) if mu else g)
        else:
            m, v = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g * g
            value -= lr * (m / (1 - beta1**t)) / (math.sqrt(v / (1 - beta2**t)) + eps)
        rows.append(value)
    return rows


def verify_optim(path):
    tensors, metadata = read(path)
    cases = json.loads(metadata["cases"])
    for case, about in cases.items():
        for i in range(2):
            if "optimizer" in about:
                initial = tensors[f"initial.{i}"].double().flatten().tolist()
                grads = tensors[f"grads.{i}"].double().flatten(1).T.tolist()
                rows = [optimizer_steps(about, value, grad) for value, grad in zip(initial, grads)]
                stored = tensors[f"{case}.steps64.{i}"]
                steps = torch.tensor(rows, dtype=torch.float64).T.reshape(stored.shape)
                check(f"optim {case}.{i}", difference(steps, stored), 1e-13)
                check(f"optim {case}.{i} in float32", difference(tensors[f"{case}.steps.{i}"], stored), 1e-6)
            elif case.startswith("clip."):
                grads = [tensors[f"{case}.grads.{j}"].double() for j in range(2)]
                norm = math.sqrt(sum(g.pow(2).sum().item() for g in grads))
                check(f"optim {case}.norm64", abs(norm - tensors[f"{case}.norm64"].item()), 1e-13)
                check(f"optim {case}.norm", abs(norm - tensors[f"{case}.norm"].item()), 1e-5)
                error = grads[i] * min(1.0, about["max_norm"] / (norm + 1e-6)) - tensors[f"{case}.clipped64.{i}"]
                check(f"optim {case}.clipped64.{i}", error.abs().max().item(), 1e-13)

    lr, best, bad, reductions = cases["plateau"]["lr"], math.inf, 0, 0
    for step, loss in enumerate(tensors["plateau.losses"].tolist()):
        if loss < best * (1 - 1e-4):
            best, bad = loss, 0
        else:
            bad += 1
        if bad > 10:
            bad = 0
            if lr - lr * 0.3 > 1e-8:
                lr, reductions = lr * 0.3, reductions + 1
        same = (lr, best, bad) == tuple(tensors[f"plateau.{name}"][step].item() for name in ("lr", "best", "bad"))
        check(f"optim plateau at {step}", 0.0 if same else 1.0, 0.0)
    check("optim plateau reductions held back by eps", abs(reductions - 9), 0)  # 3e-4 * 0.3^9 is 5.9e-9
    about = cases["cosine"]
    warmup, total, base, least = (about[name] for name in ("warmup_steps", "total_steps", "lr", "min_lr"))
    for step, stored in enumerate(tensors["cosine.lr"].tolist()):
        done = min(max(step - warmup, 0) / (total - warmup), 1)
        expected = base * step / warmup if step < warmup else least + (base - least) * math.cos(math.pi / 2 * done) ** 2
        check(f"optim cosine at {step}", abs(stored - expected), 1e-18)
    for row, (fan_out, fan_in) in enumerate(tensors["xavier.shapes"].tolist()):
        bound = math.sqrt(6 / (fan_in + fan_out))
        deviation, root = bound / math.sqrt(3), math.sqrt(fan_in * fan_out)
        check(f"optim xavier mean {row}", abs(tensors["xavier.mean"][row].item()), 5 * deviation / root)
        check(f"optim xavier variance {row}", abs(tensors["xavier.variance"][row].item() / deviation**2 - 1), 5 / root)
        check(f"optim xavier bound {row}", abs(tensors["xavier.bound"][row].item() - bound), 1e-15)
    steps = len(tensors["plateau.lr"])
    print(f"optim.safetensors: {len(cases)} cases, the plateau reduces {reductions} times in {steps} steps")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--input-dir", type=pathlib.Path, default=pathlib.Path(__file__).resolve().parent)
    folder = parser.parse_args().input_dir
    torch.set_num_threads(1)
    torch.manual_seed(6)
    for path in sorted(folder.glob("*_model*.safetensors")):
        verify_model(path)
    verify_ops(folder / "ops.safetensors")
    verify_optim(folder / "optim.safetensors")
    for failure in failures:
        print(failure, file=sys.stderr)
    print("all agree" if not failures else f"{len(failures)} disagreements")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
