# SPDX-License-Identifier: MIT
"""Writes perplexity.json: what transformers and PyTorch say of random stories, at several contexts and strides.

    python make_perplexity.py [--models DIR] [--output FILE]

Needs torch and transformers; runs on the CPU in some seconds. DIR has the folders gpt2, llama and mistral that
make_hugging_face.py writes (default: hugging_face beside this script). For each model: `stories`, lists of ids, and
`cases`, each with

  context, stride, bos    bos: the story's ids have bos_id before them
  guide                   the perplexity guide of transformers, its loop as it is there, one sequence a story, sums
                          carried on over the stories: nll_sum, n_tokens, perplexity
  plain                   every token predicted once, computed in float64 from the definition: tokens and nll of each
                          story, mean_nll, perplexity, perplexity_over_stories, standard_error

and `texts`, what the guide says of `texts` of the document with the folder's own tokenizer and its habits: bos, and of
each context and stride nll_sum, n_tokens, perplexity.
"""

import argparse
import json
import math
import pathlib
import random

import torch
import transformers

LENGTHS = [2, 17, 40, 0, 90, 1, 700, 61, 16, 24]
SHAPES = [(0, 0), (16, 8), (16, 16), (17, 1), (24, 23), (33, 11)]  # context and stride; 0: max_len and half of it


TEXTS = [
    "Once upon a time there was a small girl named Lily. She had a red ball, a blue hat and a very big dog who ran fast.",
    "Tom slept.\nThen he was happy.",
    "The caf\u00e9 had 25 cakes; \u9f8d ate \u00bd of them \U0001f409!",
    "A",
]
TEXT_SHAPES = [(0, 0), (24, 12), (24, 5)]


def guide(model, sequences, max_length, stride):
    """huggingface.co/docs/transformers/perplexity; its loop over each of many sequences."""
    nll_sum = 0.0
    n_tokens = 0
    for sequence in sequences:
        encodings = torch.tensor([sequence])
        seq_len = encodings.size(1)
        prev_end_loc = 0
        for begin_loc in range(0, seq_len, stride):
            end_loc = min(begin_loc + max_length, seq_len)
            trg_len = end_loc - prev_end_loc  # may be different from stride on last loop
            input_ids = encodings[:, begin_loc:end_loc]
            target_ids = input_ids.clone()
            target_ids[:, :-trg_len] = -100

            with torch.no_grad():
                outputs = model(input_ids, labels=target_ids)
                neg_log_likelihood = outputs.loss

            num_valid_tokens = (target_ids != -100).sum().item()
            batch_size = target_ids.size(0)
            num_loss_tokens = num_valid_tokens - batch_size
            if end_loc - begin_loc > 1:  # of a window of one token the guide's loss is 0 / 0
                nll_sum += neg_log_likelihood.double().item() * num_loss_tokens
                n_tokens += num_loss_tokens

            prev_end_loc = end_loc
            if end_loc == seq_len:
                break
    return {"nll_sum": nll_sum, "n_tokens": n_tokens, "perplexity": math.exp(nll_sum / n_tokens)}


def story_losses(model, sequence, context, stride):
    """-log p of every token behind the first; token t is predicted in the first window that reads token t - 1."""
    losses = []
    logits = {}
    for t in range(1, len(sequence)):
        begin = max(0, math.ceil((t - context) / stride)) * stride
        if begin not in logits:
            with torch.no_grad():
                logits[begin] = model(torch.tensor([sequence[begin : begin + context]])).logits[0]
        losses.append(-torch.log_softmax(logits[begin][t - 1 - begin], -1)[sequence[t]].item())
    return losses


def plain(model, sequences, context, stride):
    losses = [story_losses(model, sequence, context, stride) for sequence in sequences]
    scored = [story for story in losses if story]
    tokens = sum(map(len, scored))
    mean = sum(map(sum, scored)) / tokens
    n = len(scored)
    squares = sum((sum(story) - mean * len(story)) ** 2 for story in scored)
    return {
        "tokens": [len(story) for story in losses],
        "nll": [sum(story) for story in losses],
        "mean_nll": mean,
        "perplexity": math.exp(mean),
        "perplexity_over_stories": sum(math.exp(sum(story) / len(story)) for story in scored) / n,
        "standard_error": math.sqrt(n / (n - 1) * squares) / tokens,
    }


def main():
    here = pathlib.Path(__file__).resolve().parent
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=pathlib.Path, default=here / "hugging_face")
    parser.add_argument("--output", type=pathlib.Path, default=here / "perplexity.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    versions = {"torch_version": torch.__version__, "transformers_version": transformers.__version__}
    document = {**versions, "texts": TEXTS, "models": {}}
    for name in ("gpt2", "llama", "mistral"):
        model = transformers.AutoModelForCausalLM.from_pretrained(arguments.models / name, dtype=torch.float32).eval()
        exact = transformers.AutoModelForCausalLM.from_pretrained(arguments.models / name, dtype=torch.float64).eval()
        config = model.config
        dice = random.Random(name)
        stories = [[dice.randrange(config.vocab_size) for _ in range(length)] for length in LENGTHS]
        bos_id = config.bos_token_id if config.bos_token_id is not None else 1
        cases = []
        for context, stride in SHAPES:
            context = context or config.max_position_embeddings
            stride = stride or context // 2
            for bos in (False, True):
                # A story without tokens is not scored, with BOS neither.
                sequences = [[bos_id] * bos + story if story else [] for story in stories]
                guided = [sequence for sequence in sequences if len(sequence) > 1]
                cases.append(
                    {
                        "context": context,
                        "stride": stride,
                        "bos": bos,
                        "guide": guide(model, guided, context, stride),
                        "plain": plain(exact, sequences, context, stride),
                    }
                )
        tokenizer = transformers.AutoTokenizer.from_pretrained(arguments.models / name)
        encoded = [tokenizer(text).input_ids for text in TEXTS]
        texts = []
        for context, stride in TEXT_SHAPES:
            context = context or config.max_position_embeddings
            stride = stride or context // 2
            guided = guide(model, [sequence for sequence in encoded if len(sequence) > 1], context, stride)
            texts.append({"context": context, "stride": stride, **guided})
        document["models"][name] = {
            "bos_id": bos_id,
            "stories": stories,
            "cases": cases,
            "texts": {"bos": encoded[0][0] == tokenizer.bos_token_id, "cases": texts},
        }
    arguments.output.write_text(json.dumps(document, separators=(",", ":")).replace('{"context"', '\n{"context"') + "\n")
    print(f"{arguments.output}: {arguments.output.stat().st_size} bytes")


if __name__ == "__main__":
    main()
