#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Checks what the pages say against the files beside them.

    docs_test.py [ROOT]     ROOT is the repository (default: the one this file is in)

The program in README.md is the body of the course's first; every relative link leads to a file, and to a heading where it
names one; its table of models is that of the presets; every program of the course has fewer than 60 lines. Prints one line
for each breach and exits with 1 if there is any.
"""
import pathlib
import re
import sys

LINES = 60


def headings(text):
    """Anchors as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S), re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def check_links(page, root):
    text = page.read_text(encoding="utf-8")
    outside_code = re.sub(r"^```.*?^```$|`[^`\n]*`", "", text, flags=re.M | re.S)
    for target in re.findall(r"\]\(([^)\s]+)\)", outside_code):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or root.resolve() not in [file, *file.parents]:
            yield f"{page.relative_to(root)}: links to {target}, which is not there"
        elif anchor and anchor not in headings(file.read_text(encoding="utf-8")):
            yield f"{page.relative_to(root)}: links to {target}, but {file.name} has no such heading"


def check_program(root):
    readme = (root / "README.md").read_text(encoding="utf-8")
    source = root / "examples/course/01_tell_a_story.cpp"
    block = re.search(r"^```cpp\n(.*?)^```$", readme, re.M | re.S)
    body = re.search(r"^#include.*", source.read_text(encoding="utf-8"), re.M | re.S)
    if not block or not body or block.group(1) != body.group():
        yield f"README.md: its program is not the body of {source.relative_to(root)}"


def shapes_of(presets):
    """Name -> fields as they are written, of presets that list all of them or change some of another's."""
    shapes = {}
    for name, listed, other, changes in re.findall(
        r"TransformerConfig (\w+) = (?:\{(.*?)\}|\[\] \{\n\s*TransformerConfig config = (\w+);(.*?)\}\(\));", presets, re.S
    ):
        shapes[name] = shapes.get(other, {}) | dict(re.findall(r"\.(\w+) = ([\w:]+)", listed or changes))
    return shapes


def parameters(shape):
    """As parameter_count in transformer_config.hpp."""
    number = lambda key: int(shape.get(key, 0))  # noqa: E731
    ends_in = lambda key, value: shape.get(key, "").endswith(value)  # noqa: E731
    bias = lambda key: shape.get(key) != "false"  # noqa: E731
    v, d, ff = number("vocab_size"), number("d_model"), number("d_ff")
    head = number("head_dim") or d // number("n_heads")
    q = number("n_heads") * head
    qkv = q + 2 * (number("n_kv_heads") or number("n_heads")) * head
    up = 2 * ff if ends_in("feed_forward", "swiglu") else ff
    norm = d if ends_in("norm", "rms_norm") else 2 * d
    block = qkv * d + bias("qkv_bias") * qkv + d * q + bias("attention_out_bias") * d + up * d + d * ff + 2 * norm
    block += bias("feed_forward_bias") * (up + d)
    positions = number("max_len") * d if ends_in("positions", "learned") else 0
    head_weight = 0 if shape.get("tie_head") == "true" else v * d
    return v * d + positions + number("n_layers") * block + norm + head_weight + bias("head_bias") * v


def check_models(root):
    readme = (root / "README.md").read_text(encoding="utf-8")
    presets = (root / "include/storylm/models/presets.hpp").read_text(encoding="utf-8")
    shapes = shapes_of(presets)
    rows = re.findall(r"^\| `(story_\w+)` \| (.+) \|$", readme, re.M)
    if {name for name, _ in rows} != set(re.findall(r'Preset\{"(\w+)"', presets)):
        yield "README.md: its table of models has other names than presets::trainable"
    for name, row in rows:
        if name not in shapes:
            yield f"README.md: there is no preset {name}"
            continue
        shape = shapes[name]
        wanted = [int(shape[key]) for key in ("vocab_size", "d_model", "d_ff", "n_layers", "n_heads", "max_len")]
        wanted.append(parameters(shape))
        if [int(number.replace(",", "")) for number in row.split(" | ")] != wanted:
            yield f"README.md: {name} is not {row}, but {wanted}"


def check(root):
    pages = [root / "README.md", root / "CONTRIBUTING.md", *sorted((root / "docs").rglob("*.md"))]
    breaches = [breach for page in pages for breach in check_links(page, root)]
    breaches += [*check_program(root), *check_models(root)]
    course = sorted((root / "examples/course").glob("*.cpp"))
    for source in course:
        lines = len(source.read_text(encoding="utf-8").splitlines())
        if lines >= LINES:
            breaches.append(f"{source.relative_to(root)}: has {lines} lines, fewer than {LINES} are the rule")
    if not course:
        breaches.append("examples/course: is empty")
    return breaches, len(pages)


def main():
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent.parent).resolve()
    breaches, pages = check(root)
    print("\n".join(breaches) if breaches else f"{pages} pages: ok")
    return 1 if breaches else 0


if __name__ == "__main__":
    sys.exit(main())
