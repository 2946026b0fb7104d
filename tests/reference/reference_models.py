# SPDX-License-Identifier: MIT
"""The PyTorch models that storylm is compared with: the reference encoder, GPT-2's shape and Llama/Mistral's shape.

`build(config)` takes the JSON object that storylm keeps in the metadata of its safetensors files (field by field the
same) and returns a module whose `state_dict()` has the names of those files. All of them take padded ids (batch, time)
and return logits (batch, time, vocabulary); padding stands at the right, where a causal mask hides it.

Tables of positions are computed in float64 and then rounded to the dtype of the weights, so that a float64 model has
float64 positions.
"""

import math

import torch
from torch import nn
from torch.nn import functional


def sinusoidal_table(max_len, width):
    """Positions of "Attention is all you need": sin in even columns, cos in odd ones; (max_len, width), float64."""
    position = torch.arange(max_len, dtype=torch.float64)[:, None]
    frequency = torch.exp(torch.arange(0, width, 2, dtype=torch.float64) * (-math.log(10000.0) / width))
    table = torch.zeros(max_len, width, dtype=torch.float64)
    table[:, 0::2] = torch.sin(position * frequency)
    table[:, 1::2] = torch.cos(position * frequency)[:, : width // 2]
    return table


def rotate(x, positions, theta, interleaved):
    """RoPE on x (..., time, head_dim): pairs (i, i + head_dim/2), or (2i, 2i + 1) when interleaved."""
    half = x.shape[-1] // 2
    frequency = theta ** (-torch.arange(half, dtype=torch.float64) / half)
    angle = positions.to(torch.float64)[:, None] * frequency
    cos, sin = torch.cos(angle).to(x.dtype), torch.sin(angle).to(x.dtype)
    if interleaved:
        first, second = x[..., 0::2], x[..., 1::2]
        return torch.stack((first * cos - second * sin, first * sin + second * cos), dim=-1).flatten(-2)
    first, second = x[..., :half], x[..., half:]
    return torch.cat((first * cos - second * sin, first * sin + second * cos), dim=-1)


def attention_mask(length, window):
    """True where query i may see key j: j <= i and, with a window, i - window < j (as Mistral in transformers)."""
    i, j = torch.arange(length)[:, None], torch.arange(length)[None, :]
    mask = j <= i
    return mask & (j > i - window) if window else mask


def attend(q, k, v, window):
    """Causal attention of q (batch, heads, time, head_dim) to k and v (batch, kv_heads, time, head_dim)."""
    group = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(group, dim=1), v.repeat_interleave(group, dim=1)
    return functional.scaled_dot_product_attention(q, k, v, attn_mask=attention_mask(q.shape[-2], window))


class RMSNorm(nn.Module):
    """Zhang and Sennrich 2019, as in transformers' LlamaRMSNorm."""

    def __init__(self, width, eps):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x):
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps) * self.weight


class EncoderModel(nn.Module):
    """The reference system's model: nn.TransformerEncoder (post-norm, causal mask), sinusoidal positions, a head."""

    def __init__(self, config):
        super().__init__()
        width = config["d_model"]
        self.scale = math.sqrt(width) if config["scale_embedding"] else 1.0
        self.embedding = nn.Embedding(config["vocab_size"], width)
        layer = nn.TransformerEncoderLayer(
            width,
            config["n_heads"],
            config["d_ff"],
            dropout=0.0,
            activation="relu",
            layer_norm_eps=config["norm_eps"],
            batch_first=True,
            norm_first=False,
        )
        norm = nn.LayerNorm(width, eps=config["norm_eps"])
        self.encoder = nn.TransformerEncoder(layer, config["n_layers"], norm=norm, enable_nested_tensor=False)
        self.head = nn.Linear(width, config["vocab_size"])
        self.table = sinusoidal_table(config["max_len"], width)  # no buffer: it is not part of the state

    def forward(self, ids):
        length = ids.shape[1]
        x = self.embedding(ids) * self.scale
        x = x + self.table[:length].to(x)
        hidden = torch.full((length, length), -math.inf, dtype=x.dtype, device=x.device).triu(1)
        return self.head(self.encoder(x, mask=hidden, is_causal=False))


class Conv1D(nn.Module):
    """GPT-2's linear layer, which stores its weight as (in, out)."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(inputs, outputs))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x):
        return x @ self.weight + self.bias


def split_heads(x, heads):
    """(batch, time, heads * head_dim) to (batch, heads, time, head_dim)."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def join_heads(x):
    """(batch, heads, time, head_dim) to (batch, time, heads * head_dim)."""
    return x.transpose(1, 2).flatten(-2)


class GPT2Block(nn.Module):
    def __init__(self, config):
        super().__init__()
        width, eps = config["d_model"], config["norm_eps"]
        self.heads, self.window = config["n_heads"], config["sliding_window"]
        self.ln_1 = nn.LayerNorm(width, eps=eps)
        self.attn = nn.ModuleDict({"c_attn": Conv1D(width, 3 * width), "c_proj": Conv1D(width, width)})
        self.ln_2 = nn.LayerNorm(width, eps=eps)
        self.mlp = nn.ModuleDict({"c_fc": Conv1D(width, config["d_ff"]), "c_proj": Conv1D(config["d_ff"], width)})

    def forward(self, x):
        q, k, v = (split_heads(part, self.heads) for part in self.attn["c_attn"](self.ln_1(x)).chunk(3, dim=-1))
        x = x + self.attn["c_proj"](join_heads(attend(q, k, v, self.window)))
        hidden = functional.gelu(self.mlp["c_fc"](self.ln_2(x)), approximate="tanh")
        return x + self.mlp["c_proj"](hidden)


class GPT2Model(nn.Module):
    """GPT-2 (pre-norm, learned positions, tanh-GELU, tied head) with the tensor names of its Hugging Face files."""

    def __init__(self, config):
        super().__init__()
        width = config["d_model"]
        self.transformer = nn.ModuleDict(
            {
                "wte": nn.Embedding(config["vocab_size"], width),
                "wpe": nn.Embedding(config["max_len"], width),
                "h": nn.ModuleList(GPT2Block(config) for _ in range(config["n_layers"])),
                "ln_f": nn.LayerNorm(width, eps=config["norm_eps"]),
            }
        )

    def forward(self, ids):
        parts = self.transformer
        x = parts["wte"](ids) + parts["wpe"](torch.arange(ids.shape[1]))
        for block in parts["h"]:
            x = block(x)
        return parts["ln_f"](x) @ parts["wte"].weight.T


class LlamaAttention(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        width, size = config["d_model"], config["head_dim"]
        self.q_proj = nn.Linear(width, config["n_heads"] * size, bias=False)
        self.k_proj = nn.Linear(width, config["n_kv_heads"] * size, bias=False)
        self.v_proj = nn.Linear(width, config["n_kv_heads"] * size, bias=False)
        self.o_proj = nn.Linear(config["n_heads"] * size, width, bias=False)

    def forward(self, x):
        config = self.config
        interleaved = config["positions"] == "rope_interleaved"
        positions = torch.arange(x.shape[1])
        q = rotate(split_heads(self.q_proj(x), config["n_heads"]), positions, config["rope_theta"], interleaved)
        k = rotate(split_heads(self.k_proj(x), config["n_kv_heads"]), positions, config["rope_theta"], interleaved)
        v = split_heads(self.v_proj(x), config["n_kv_heads"])
        return self.o_proj(join_heads(attend(q, k, v, config["sliding_window"])))


class LlamaFeedForward(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.gate_proj = nn.Linear(config["d_model"], config["d_ff"], bias=False)
        self.up_proj = nn.Linear(config["d_model"], config["d_ff"], bias=False)
        self.down_proj = nn.Linear(config["d_ff"], config["d_model"], bias=False)

    def forward(self, x):
        return self.down_proj(functional.silu(self.gate_proj(x)) * self.up_proj(x))


class LlamaBlock(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.input_layernorm = RMSNorm(config["d_model"], config["norm_eps"])
        self.self_attn = LlamaAttention(config)
        self.post_attention_layernorm = RMSNorm(config["d_model"], config["norm_eps"])
        self.mlp = LlamaFeedForward(config)

    def forward(self, x):
        x = x + self.self_attn(self.input_layernorm(x))
        return x + self.mlp(self.post_attention_layernorm(x))


class LlamaModel(nn.Module):
    """Llama/Mistral (pre-RMSNorm, RoPE, SwiGLU, grouped-query attention) with the names of its Hugging Face files."""

    def __init__(self, config):
        super().__init__()
        width = config["d_model"]
        self.model = nn.ModuleDict(
            {
                "embed_tokens": nn.Embedding(config["vocab_size"], width),
                "layers": nn.ModuleList(LlamaBlock(config) for _ in range(config["n_layers"])),
                "norm": RMSNorm(width, config["norm_eps"]),
            }
        )
        self.lm_head = None if config["tie_head"] else nn.Linear(width, config["vocab_size"], bias=False)

    def forward(self, ids):
        x = self.model["embed_tokens"](ids)
        for block in self.model["layers"]:
            x = block(x)
        x = self.model["norm"](x)
        return x @ self.model["embed_tokens"].weight.T if self.lm_head is None else self.lm_head(x)


# What each module's shape is by definition; build() refuses a config that says otherwise.
FIXED = {
    "pytorch": (
        EncoderModel,
        {
            "norm": "layer_norm",
            "pre_norm": False,
            "feed_forward": "relu",
            "positions": "sinusoidal",
            "tie_head": False,
            "sliding_window": 0,
        },
    ),
    "gpt2": (
        GPT2Model,
        {
            "norm": "layer_norm",
            "pre_norm": True,
            "feed_forward": "gelu_tanh",
            "positions": "learned",
            "tie_head": True,
            "scale_embedding": False,
        },
    ),
    "llama": (
        LlamaModel,
        {"norm": "rms_norm", "pre_norm": True, "feed_forward": "swiglu", "scale_embedding": False},
    ),
}


def build(config, architecture):
    """The module of an architecture ("pytorch", "gpt2", "llama") for a config; ValueError when the two disagree."""
    model, fixed = FIXED[architecture]
    for field, expected in fixed.items():
        if config.get(field, expected) != expected:
            raise ValueError(f"{model.__name__} has {field} {expected!r}, but the config says {config[field]!r}")
    if architecture != "llama":  # nn.MultiheadAttention and GPT-2 know neither grouped queries nor a free head size
        heads = config["n_heads"]
        if config.get("n_kv_heads", heads) != heads:
            raise ValueError(f"{model.__name__} has no grouped-query attention: n_kv_heads {config['n_kv_heads']}")
        if config.get("head_dim", config["d_model"] // heads) * heads != config["d_model"]:
            raise ValueError(f"{model.__name__} has head_dim = d_model / n_heads, not {config['head_dim']}")
    return model(config)


def pad(rows, offsets, fill):
    """Packed rows (tokens, ...) to (sequences, longest, ...) with `fill` at the right."""
    bounds = offsets.tolist()
    parts = [rows[begin:end] for begin, end in zip(bounds, bounds[1:])]
    return nn.utils.rnn.pad_sequence(parts, batch_first=True, padding_value=fill)


def pack(padded, offsets):
    """The inverse of pad: (sequences, longest, ...) to packed rows (tokens, ...)."""
    lengths = (offsets[1:] - offsets[:-1]).tolist()
    return torch.cat([padded[i, :length] for i, length in enumerate(lengths)])
