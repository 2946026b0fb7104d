# SPDX-License-Identifier: MIT
"""Small random folders of GPT-2, Llama and Mistral, and what transformers computes from them.

    python3 make_hugging_face.py [FOLDER]        FOLDER: where it writes, tests/reference/hugging_face unless given

Needs torch, transformers and safetensors; CPU, one thread, about ten seconds, the same bytes each time on one machine.
README.md says what the files hold. Tokenizer files in these folders come from another script and are left alone.
"""
import json
import sys
from pathlib import Path

import torch
import transformers
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig, MistralConfig

TOKENS = 300
STRIDE = 32  # of the logits that are kept for every token
PROMPT = 8
NEW_TOKENS = 200
MARGIN = 2e-3  # in logits, between the greedily chosen token and the next


def configs():
    """One of each family. Weights are large, so that attention and logits are far from uniform."""
    common = dict(vocab_size=512, initializer_range=0.2)
    return {
        "gpt2": GPT2Config(n_embd=32, n_inner=64, n_layer=2, n_head=4, n_positions=320, bos_token_id=0, eos_token_id=0,
                           **common),
        "llama": LlamaConfig(hidden_size=48, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
                             num_key_value_heads=2, head_dim=16, max_position_embeddings=512, rms_norm_eps=1e-5,
                             rope_parameters={"rope_type": "default", "rope_theta": 500.0}, tie_word_embeddings=True,
                             attention_bias=True, mlp_bias=True, bos_token_id=1, eos_token_id=2, **common),
        "mistral": MistralConfig(hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
                                 num_key_value_heads=2, head_dim=16, max_position_embeddings=512, rms_norm_eps=1e-6,
                                 sliding_window=64, bos_token_id=1, eos_token_id=2, **common),
    }


def write_json(path, value):
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n")


def in_dialect_4(config):
    """The same as transformers 4 wrote it: rope_theta, rope_scaling and torch_dtype."""
    config = dict(config)
    rope = config.pop("rope_parameters", None)
    if rope is not None:
        assert rope["rope_type"] == "default"
        config["rope_theta"] = rope["rope_theta"]
        config["rope_scaling"] = None
    config["torch_dtype"] = config.pop("dtype")
    config["transformers_version"] = "4.44.2"
    return config


def without_base_prefix(folder, prefix):
    """Names and buffers as in the files that OpenAI's GPT-2 is published in."""
    path = folder / "model.safetensors"
    tensors = {name.removeprefix(prefix): tensor for name, tensor in load_file(path).items()}
    for layer in range(2):
        tensors[f"h.{layer}.attn.bias"] = torch.tril(torch.ones(4, 4)).view(1, 1, 4, 4)
        tensors[f"h.{layer}.attn.masked_bias"] = torch.tensor(-1e4)
    save_file(tensors, path, metadata={"format": "pt"})


def randomise(model, seed):
    """All parameters, norms and biases too, which transformers initialises to 0 and 1."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if parameter.ndim == 1:
            parameter.data = (1.0 if name.endswith("weight") else 0.0) + 0.1 * noise
        else:
            parameter.data = 0.2 * noise


def reference(folder, seed):
    """Logits and a greedy continuation, computed in float32 with plain attention from what the folder holds."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(3, model.config.vocab_size, (TOKENS,), generator=generator)
    logits = model(ids[None]).logits[0]
    # Greedy decoding with the whole text each time: no cache, and therefore none of its rules.
    greedy = ids[:PROMPT].clone()
    margin = float("inf")
    for _ in range(NEW_TOKENS):
        last = model(greedy[None]).logits[0, -1].clone()
        last[:3] = -float("inf")  # BOS and EOS: the text goes on
        two = last.topk(2).values
        margin = min(margin, float(two[0] - two[1]))
        greedy = torch.cat([greedy, last.argmax()[None]])
    return {"ids": ids.int(), "logits": logits[:, ::STRIDE].contiguous(), "log_sum_exp": logits.logsumexp(-1),
            "last_logits": logits[-1].contiguous(), "greedy": greedy.int()}, margin


def main():
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    here = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent / "hugging_face"
    for seed, (name, config) in enumerate(configs().items()):
        folder = here / name
        folder.mkdir(parents=True, exist_ok=True)
        for old in [*folder.glob("model*"), *folder.glob("*config.json")]:
            if old.name != "tokenizer_config.json":
                old.unlink()
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config)
        randomise(model, seed)
        dtype = {"gpt2": torch.float32, "llama": torch.float16, "mistral": torch.bfloat16}[name]
        model.to(dtype).save_pretrained(folder, max_shard_size="40KB" if name == "mistral" else "10GB")
        with torch.no_grad():  # a text of which every next token is beyond doubt
            text = next(text for text in range(100, 200) if reference(folder, text)[1] > MARGIN)
            result, margin = reference(folder, text)
        save_file(result, here / f"{name}.safetensors",
                  metadata={"transformers_version": transformers.__version__, "torch_version": torch.__version__,
                            "prompt_tokens": str(PROMPT)})
        written = json.loads((folder / "config.json").read_text())
        if name == "gpt2":
            without_base_prefix(folder, "transformer.")
        if name == "llama":  # the other two stay as transformers 5 writes them
            write_json(folder / "config.json", in_dialect_4(written))
        with torch.no_grad():  # what was rewritten is the same model
            again, _ = reference(folder, text)
        assert all(torch.equal(result[key], again[key]) for key in result)
        files = [here / f"{name}.safetensors", *sorted(folder.iterdir())]
        print(name, f"{config.model_type}, closest decision {margin:.4f}")
        for file in files:
            print(f"  {file.relative_to(here)}  {file.stat().st_size:,}")
            if file.suffix == ".safetensors":
                with safe_open(file, "pt") as tensors:
                    assert len(list(tensors.keys())) > 0


if __name__ == "__main__":
    main()
