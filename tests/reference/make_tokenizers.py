# SPDX-License-Identifier: MIT
"""Writes small tokenizers of Hugging Face's kinds, and what `tokenizers` and `transformers` do with them.

    python make_tokenizers.py [--output-dir DIR] [--models-dir DIR]

Needs tokenizers, transformers and sentencepiece; about a minute on one thread. Everything is trained on text that this
script makes. --output-dir defaults to tokenizers/ beside this script, --models-dir, whose folders get a tokenizer each,
to hugging_face/. README.md says what is in each file.
"""

import argparse
import io
import itertools
import json
import pathlib
import shutil
import tempfile

import sentencepiece
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, GPT2Tokenizer, LlamaTokenizer

LINES = 2400  # of random text
SHOWN = 40  # of which the ids are written too
BLOCK = 1024  # code points that share a hash
END_OF_TEXT = "<|endoftext|>"


# ---------------------------------------------------------------------------------------------------------------------
# Text to train on


def stories():
    who = ["Lily", "Tom", "The little dog", "A big bear", "Grandma", "Zoe", "The quick brown fox", "Max and Ben", "His mom", "Björn"]
    did = ["played with", "looked for", "found", "was happy to see", "ran after", "gave a kiss to", "couldn't stop hugging", "jumped over"]
    what = ["the red ball.", "a shiny stone.", "her best friend!", "some yummy jam.", "the lazy cat.", "a café in Zürich.", "42 birds."]
    then = [
        " One day, they said, \"We're going to the park.\"",
        " It wasn't far, and they'd walked there before.",
        "\n\nOnce upon a time there was a girl named Amélie.",
        "  She didn't know what it was? \"I've seen it,\" he said.",
        " Привет, мир! 你好，世界。 \U0001f600",
        "",
    ]
    for i, (a, b, c) in enumerate(itertools.product(who, did, what)):
        yield f"{a} {b} {c}{then[i % len(then)]}"


# ---------------------------------------------------------------------------------------------------------------------
# Text to try: tests/tokenizer_support.hpp makes the same


class Random:
    """splitmix64."""

    MASK = 2**64 - 1

    def __init__(self, seed):
        self.state = seed

    def next(self):
        self.state = (self.state + 0x9E3779B97F4A7C15) & self.MASK
        z = self.state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & self.MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & self.MASK
        return z ^ (z >> 31)

    def below(self, n):
        return self.next() % n

    def of(self, items):
        return items[self.below(len(items))]


WORDS = ["Once", "upon", "a", "time", "Lily", "dog", "played", "happy", "forest", "unbelievable", "naïve", "Zürich", "don", "x", "I"]
CONTRACTIONS = ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d", "'S", "'LL", "n't", "\u2019s", "'x", "''"]
SPACES = " \t\n\r\x0b\x0c\x1c\x85\xa0\u1680\u180e\u2003\u200b\u2028\u2029\u202f\u205f\u3000\ufeff"
MARKS = "!?.,;:-_()[]{}\"'`~@#$%^&*+=/\\|<>"
NUMBERS = ["½", "²", "Ⅷ", "٣", "१", "①", "〇", "፩", "\U0001d7d8", "\U00010107"]
EMOJI = ["😀", "👩\u200d👩\u200d👧", "🏳️\u200d🌈", "👍🏽", "🇩🇪", "❤️", "e\u0301", "ก็", "한국어", "ㅎㅏㄴ", "नमस्ते", "שָׁלוֹם", "مُحَمَّد"]
SPECIALS = [END_OF_TEXT, "<|user|>", "<|end_of_turn|>", "</s>", "<s>", "<|end", "<|us", "|>", "<unk>", "▁", "<0x41>"]
# First and last code point of some blocks.
BLOCKS = [
    (0x41, 0x5A), (0x61, 0x7A), (0xC0, 0x24F), (0x370, 0x3FF), (0x400, 0x52F), (0x531, 0x58F), (0x590, 0x5FF), (0x600, 0x6FF),
    (0x900, 0x97F), (0xE00, 0xE7F), (0x10A0, 0x10FF), (0x1100, 0x11FF), (0x1E00, 0x1EFF), (0x2000, 0x206F), (0x2070, 0x209F),
    (0x2150, 0x218F), (0x2200, 0x22FF), (0x2460, 0x24FF), (0x3040, 0x30FF), (0x4E00, 0x9FFF), (0xAC00, 0xD7A3), (0xE000, 0xF8FF),
    (0xFB00, 0xFB4F), (0xFF00, 0xFFEF), (0x10000, 0x1007F), (0x105C0, 0x105FF), (0x16EA0, 0x16EDF), (0x1D400, 0x1D7FF),
    (0x1E4D0, 0x1E4FF), (0x1F300, 0x1F6FF), (0x20000, 0x2A6DF), (0x31350, 0x323AF), (0xE0000, 0xE007F), (0x10FF00, 0x10FFFF),
]  # fmt: skip


def character(c):
    return chr(c if c < 0xD800 else c + 0x800)  # over the surrogates


def segment(random):
    kind = random.below(16)
    if kind < 4:
        return random.of(WORDS)
    if kind == 4:
        return random.of(CONTRACTIONS)
    if kind == 5:
        return str(random.below(100000))
    if kind == 6:
        return "".join(random.of(SPACES) for _ in range(1 + random.below(4)))
    if kind == 7:
        return "".join(random.of(MARKS) for _ in range(1 + random.below(3)))
    if kind in (8, 9):
        first, last = random.of(BLOCKS)
        return "".join(chr(first + random.below(last - first + 1)) for _ in range(1 + random.below(6)))
    if kind == 10:
        return "".join(character(random.below(0xF800)) for _ in range(1 + random.below(3)))
    if kind == 11:
        return "".join(character(random.below(0x10F800)) for _ in range(1 + random.below(3)))
    if kind == 12:
        return chr(0x300 + random.below(112))
    if kind == 13:
        return random.of(EMOJI)
    return random.of(SPECIALS) if kind == 14 else random.of(NUMBERS)


def random_line(number):
    random = Random(number)
    line = ""
    for _ in range(1 + random.below(12)):
        if random.below(2) == 0:
            line += " "
        line += segment(random)
    return line


def code_point_text(c):
    """One character among all kinds of neighbours."""
    return f"a{chr(c)}1 {chr(c)}{chr(c)}? {chr(c)} '{chr(c)}'s\n {chr(c)}"


# ---------------------------------------------------------------------------------------------------------------------
# References


class Fnv:
    """FNV-1a of 32 bits over numbers of 32 bits."""

    def __init__(self):
        self.value = 0x811C9DC5

    def add(self, numbers):
        for byte in b"".join(n.to_bytes(4, "little") for n in numbers):
            self.value = ((self.value ^ byte) * 0x01000193) & 0xFFFFFFFF

    def __str__(self):
        return f"{self.value:08x}"


def fnv(numbers):
    total = Fnv()
    total.add(numbers)
    return str(total)


def write_lines(path, plain, parsed):
    """A row per line: hash of the ids with special tokens as text, and of those with special tokens parsed where they
    differ; of the first lines the ids too. A row of "-" is not compared."""
    with open(path, "w", encoding="ascii", newline="\n") as file:
        for number, (a, b) in enumerate(zip(plain, parsed, strict=True)):
            if a is None:
                print("-", file=file)
                continue
            hashes = fnv(a) if a == b else f"{fnv(a)} {fnv(b)}"
            print(hashes, ":", *a, file=file) if number < SHOWN else print(hashes, file=file)
    print(f"{path.name}: {path.stat().st_size} bytes")


def ids_both_ways(tokenizer, lines):
    """Special tokens as text, and parsed."""
    result = []
    for plain in (True, False):
        tokenizer.encode_special_tokens = plain
        result.append([e.ids for e in tokenizer.encode_batch(lines, add_special_tokens=False)])
    return result


def make_gpt2(folder, models_dir):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=512, special_tokens=[END_OF_TEXT], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(stories(), trainer)
    assert tokenizer.get_vocab_size() == 512
    # transformers 4 and the first GPT-2: two files, and what is special elsewhere.
    old = folder / "gpt2_files"
    old.mkdir(parents=True, exist_ok=True)
    tokenizer.model.save(str(old))
    special = {"bos_token": END_OF_TEXT, "eos_token": END_OF_TEXT, "unk_token": END_OF_TEXT}
    (old / "special_tokens_map.json").write_text(json.dumps(special, indent=2) + "\n")
    (old / "tokenizer_config.json").write_text(
        json.dumps({"add_prefix_space": False, "model_max_length": 1024, "tokenizer_class": "GPT2Tokenizer"}, indent=2) + "\n"
    )
    # transformers 5: tokenizer.json.
    saved = GPT2Tokenizer.from_pretrained(old)
    with tempfile.TemporaryDirectory() as temporary:
        saved.save_pretrained(temporary)
        for name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(pathlib.Path(temporary) / name, models_dir / "gpt2" / name)
    tokenizer = Tokenizer.from_file(str(models_dir / "gpt2/tokenizer.json"))

    lines = [random_line(i) for i in range(LINES)]
    write_lines(folder / "gpt2.txt", *ids_both_ways(tokenizer, lines))
    tokenizer.encode_special_tokens = False
    for line in lines:  # what a decoder must give back, special tokens shown
        assert tokenizer.decode(tokenizer.encode(line).ids, skip_special_tokens=False) == line
    with open(folder / "code_points.txt", "w", encoding="ascii", newline="\n") as file:
        for first in range(0, 0x110000, BLOCK):
            total = Fnv()
            texts = [code_point_text(c) for c in range(first, first + BLOCK) if not 0xD800 <= c < 0xE000]
            for encoding in tokenizer.encode_batch(texts):
                total.add(encoding.ids)
            print(total, file=file)

    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    write_lines(folder / "gpt2_prefix.txt", *ids_both_ways(tokenizer, lines[:400]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    write_lines(folder / "gpt2_whole.txt", *ids_both_ways(tokenizer, lines[:400]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.add_tokens(
        [
            AddedToken("<|user|>", normalized=False),
            AddedToken("<|end_of_turn|>", special=True, lstrip=True, rstrip=True, normalized=False),
            AddedToken("Lily", normalized=True, rstrip=True),
            AddedToken("<|us", normalized=True, lstrip=True),
            AddedToken("</s>", special=True, normalized=False),
            AddedToken("|>", normalized=False),
        ]
    )
    write_lines(folder / "gpt2_added.txt", *ids_both_ways(tokenizer, lines))


def make_llama(folder, models_dir):
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(line.replace("\n", " ") for line in stories()), model_writer=model, model_type="bpe", vocab_size=500,
        byte_fallback=True, normalization_rule_name="identity", remove_extra_whitespaces=False, split_digits=True,
        allow_whitespace_only_pieces=True, character_coverage=0.999, num_threads=1, minloglevel=2,
    )  # fmt: skip
    names = ["<|end_of_turn|>", "<|user|>", *(f"<|spare_{i}|>" for i in range(10))]
    added = {name: 500 + i for i, name in enumerate(names)}
    decoder = {str(i): {"content": name, "special": True} for i, name in enumerate(["<unk>", "<s>", "</s>"])}
    decoder |= {str(i): {"content": name, "special": name != "<|user|>"} for name, i in added.items()}
    flags = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
    decoder = {key: token | flags for key, token in decoder.items()}
    special = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}

    # transformers 5 puts no space before text that begins with one, where SentencePiece does.
    lines = [random_line(i).lstrip(" ") for i in range(LINES)]
    for kind, legacy in (("llama", True), ("mistral", False)):
        target = models_dir / kind
        for name in ("tokenizer.json", "added_tokens.json", "special_tokens_map.json"):
            (target / name).unlink(missing_ok=True)
        (target / "tokenizer.model").write_bytes(model.getvalue())
        config = special | {"add_bos_token": True, "add_eos_token": False, "legacy": legacy, "tokenizer_class": "LlamaTokenizer"}
        config |= {"added_tokens_decoder": decoder, "clean_up_tokenization_spaces": False, "pad_token": None}
        (target / "tokenizer_config.json").write_text(json.dumps(config, indent=1) + "\n")
        tokenizer = LlamaTokenizer.from_pretrained(target)
        if legacy:  # as transformers 4 writes it
            (target / "added_tokens.json").write_text(json.dumps(added, indent=1) + "\n")
            (target / "special_tokens_map.json").write_text(json.dumps(special, indent=1) + "\n")
        else:  # as transformers 5 writes it; it leaves tokenizer.model out, which is put beside it
            tokenizer.add_bos_token = True
            tokenizer.save_pretrained(target)
            tokenizer = AutoTokenizer.from_pretrained(target)
        ids = ids_both_ways(tokenizer._tokenizer, lines)
        starts = [*names[:2], "<s>", "</s>", "<unk>"] if legacy else []
        for i, line in enumerate(lines):
            if "▁" in line or any(s + " " in line for s in starts):
                ids[0][i] = None
        write_lines(folder / f"{kind}.txt", *ids)


def main():
    here = pathlib.Path(__file__).resolve().parent
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output-dir", type=pathlib.Path, default=here / "tokenizers")
    parser.add_argument("--models-dir", type=pathlib.Path, default=here / "hugging_face")
    options = parser.parse_args()
    options.output_dir.mkdir(parents=True, exist_ok=True)
    for kind in ("gpt2", "llama", "mistral"):
        (options.models_dir / kind).mkdir(parents=True, exist_ok=True)
    make_gpt2(options.output_dir, options.models_dir)
    make_llama(options.output_dir, options.models_dir)


if __name__ == "__main__":
    main()
