#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Checks who includes whom in include/storylm, and the rules that a compiler does not know.

    check_layers.py [FOLDER]     FOLDER holds the library's headers (default: include/storylm of this repository)

The rules are those of docs/design: a header sees its own layer and lower ones; Eigen stays in kernels/cpu, OpenMP in
kernels/cpu/parallel.hpp, CUDA in core/cuda_* and kernels/cuda, its hardware in kernels/cuda/primitives.cuh, a third
party's headers in the header of the target that links it.
Prints one line for each breach and exits with 1 if there is any.
"""
import pathlib
import re
import sys

# Each sees itself and all before it.
LADDER = ["core", "tensor", "kernels", "ops", "nn", "optim", "models", "generate", "evaluate", "train"]
BESIDE = {
    "detail": {"core"},
    "text": {"core", "tensor"},
    "data": {"core", "tensor"},
    "distributed": {"core", "tensor"},
    "io": set(LADDER[: LADDER.index("models") + 1]) | {"text"},  # reads the files of tokenizers
}
FOLDERS = set(LADDER) | set(BESIDE)
# Headers of a target of their own: nothing outside that target (and the umbrella) may include them.
OWN_TARGET = {
    "storylm::io": re.compile(r"io/|data/stories|train/run_state"),
    "storylm::sentencepiece": re.compile(r"text/sentencepiece"),
    "storylm::cuda": re.compile(r"core/cuda_|kernels/cuda/"),
}
# Headers that need two of those targets, and what they see beside their layer.
TWO_TARGETS = {"text/hugging_face_tokenizer.hpp": ({"storylm::io", "storylm::sentencepiece"}, {"io"})}
BACKENDS = "kernels/backends.hpp"  # brings CUDA where it is linked
PRIMITIVES = re.compile(r"kernels/cuda/primitives\.cuh$")
VECTORS = re.compile(r"kernels/cpu/vector\w*\.inc\.hpp$")
PARSED_IN_A_NAMESPACE = re.compile(r"kernels/cpu/\w+\.inc\.hpp$")  # once per instruction set, by sets.hpp
# Who may include which third party's headers.
THIRD_PARTY = [
    (re.compile(r"(unsupported/)?Eigen/"), re.compile(r"kernels/cpu/"), "Eigen stays inside kernels/cpu"),
    (re.compile(r"omp\.h$"), re.compile(r"kernels/cpu/parallel\.hpp$"), "OpenMP stays inside kernels/cpu/parallel.hpp"),
    (re.compile(r"boost/"), OWN_TARGET["storylm::io"], "Boost stays inside storylm::io"),
    (re.compile(r"sentencepiece"), OWN_TARGET["storylm::sentencepiece"], "SentencePiece stays inside storylm::sentencepiece"),
    (re.compile(r"(cuda|cublas|curand|cudnn|nccl|cooperative_groups|mma\.h|cub/|thrust/|driver_types|vector_types)"),
     OWN_TARGET["storylm::cuda"], "CUDA stays inside storylm::cuda"),
    (re.compile(r"emulator/"), PRIMITIVES, "only kernels/cuda/primitives.cuh knows of the emulator"),
    (re.compile(r"CLI/"), re.compile(r"$^"), "CLI11 is for the programs"),
]
# Words in code (comments do not count) and the files that may use them.
WORDS = [
    (re.compile(r"__CUDACC__"), re.compile(r".*\.cuh$|kernels/backends\.hpp$|core/host_device\.hpp$"), "__CUDACC__"),
    (re.compile(r"__CUDA_ARCH__"), PRIMITIVES, "__CUDA_ARCH__ (a primitive of kernels/cuda/primitives.cuh)"),
    (re.compile(r"\b(asm|__asm__)\b"), re.compile(f"{PRIMITIVES.pattern}|{VECTORS.pattern}"),
     "an assembler's instruction (kernels/cuda/primitives.cuh and kernels/cpu/vector*.inc.hpp have the few there are)"),
    (re.compile(r"\b_mm\d*_\w+|\bv\w+q_(f32|f16|s32|u32|u16|bf16)\s*\("), VECTORS,
     "an intrinsic (the vector type of kernels/cpu/vector.inc.hpp has what kernels need)"),
    (re.compile(r"\bstd::bit_cast\b"), re.compile(r"(?!kernels/cpu/\w+\.inc\.hpp$)"),
     "std::bit_cast (bits_as: what std compiles knows no target, and vectors would go through memory or be lost)"),
    (re.compile(r"\b(__shared__|threadIdx|blockIdx|blockDim|gridDim|warpSize|extern\s+__shared__)\b"), PRIMITIVES,
     "the hardware itself (a primitive of kernels/cuda/primitives.cuh)"),
    (re.compile(r"<<<|\b(__sync(threads|warp)|__shfl_\w*sync|__(ballot|any|all|activemask|reduce_\w+)_sync|atomic[A-Z]\w*|"
                r"__threadfence\w*|__cvta_\w+|__(float|bfloat|half|int|uint|ll|ull)\w*2\w+|__ldg|__expf|__logf|__fdividef)\s*\("),
     PRIMITIVES, "an intrinsic (a primitive of kernels/cuda/primitives.cuh)"),
    (re.compile(r"\b(__global__|__device__|__launch_bounds__|__forceinline__)\b"),
     re.compile(r"kernels/cuda/.*\.cuh$|core/host_device\.hpp$"), "CUDA's keywords (they stay in .cuh files)"),
    (re.compile(r"STORYLM_WITH_CUDA"), re.compile(r"kernels/backends\.hpp$|storylm\.hpp$"), "STORYLM_WITH_CUDA"),
    (re.compile(r"#\s*pragma\s+omp|_Pragma\(\s*\"omp"), re.compile(r"kernels/cpu/parallel\.hpp$"), "an OpenMP pragma"),
    (re.compile(r"\bkernel\s*<"), re.compile(r"(?!nn/)"), "kernel<> (nn/ calls ops::)"),
    (re.compile(r"\bthread_local\b"), re.compile(r"(?!kernels/)"), "thread_local"),
    (re.compile(r"\b(assert|exit|abort)\s*\("), re.compile(r"$^"), "assert, exit or abort (throw an Error)"),
]
MACROS = {"STORYLM_CUDA_CHECK", "STORYLM_HOST_DEVICE", "STORYLM_LOWEST_SET", "STORYLM_HIGHEST_SET"}
LINES = 500


def sees(layer):
    if layer in BESIDE:
        return BESIDE[layer] | {layer} | ({"detail"} if layer != "detail" else set())
    below = set(LADDER[: LADDER.index(layer) + 1])
    if layer == "train":
        below |= set(BESIDE)
    return below | {"detail"} if layer != "core" else below


def without_comments(text):
    """The code alone, with as many lines."""
    keep = re.compile(r'"(?:\\.|[^"\\\n])*"|//[^\n]*|/\*.*?\*/', re.S)
    return keep.sub(lambda m: m.group() if m.group()[0] == '"' else "\n" * m.group().count("\n"), text)


def check_include(name, target):
    """Breaches of one header's one include; both are paths below include/storylm."""
    layer, other = name.split("/")[0], target.split("/")[0]
    if target == "storylm.hpp":
        yield "includes the umbrella, which is for users"
        return
    if "/" not in target:
        return  # version.hpp
    if other not in FOLDERS:
        yield f"includes {target}, whose folder is no layer"
    elif other not in sees(layer) | TWO_TARGETS.get(name, (set(), set()))[1]:
        yield f"includes {target}: {layer} must not see {other}"
    if target.endswith(".cuh") and not name.endswith(".cuh"):
        yield f"includes {target}; only a .cuh includes a .cuh"
    if target in TWO_TARGETS:
        yield f"includes {target}, which needs two targets"
    if name in TWO_TARGETS:
        owners = TWO_TARGETS[name][0]
    else:
        owners = {"storylm::cuda"} if name == BACKENDS else set()
    for owner, pattern in OWN_TARGET.items():
        if pattern.match(target) and not pattern.match(name) and owner not in owners:
            yield f"includes {target}, which belongs to {owner}"


def check_parsed_in_a_namespace(name, code):
    """Breaches in a header of kernels/cpu that sets.hpp parses in the namespace of each instruction set."""
    if name != "kernels/cpu/all.inc.hpp" and re.search(r"^\s*#\s*include\b", code, re.M):
        yield "includes something; it stands inside a namespace (sets.hpp includes for it)"
    if re.search(r"\bnamespace\s+storylm\b", code):
        yield "opens namespace storylm; it stands inside one"
    if re.search(r"^\s*#\s*pragma\s+once", code, re.M):
        yield "has #pragma once; it is parsed once per instruction set"


def check_header(name, text):
    """Breaches in one header, without its name."""
    code = without_comments(text)
    if PARSED_IN_A_NAMESPACE.match(name):
        yield from check_parsed_in_a_namespace(name, code)
    for target in re.findall(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]', code, re.M):
        if target.startswith("storylm/"):
            if "/" in name:
                yield from check_include(name, target.removeprefix("storylm/"))
            continue
        for pattern, allowed, what in THIRD_PARTY:
            if pattern.match(target) and not allowed.match(name):
                yield f"includes {target}: {what}"
    for pattern, allowed, what in WORDS:
        if pattern.search(code) and not allowed.match(name):
            yield f"uses {what}"
    defined = set(re.findall(r"^\s*#\s*define\s+(\w+)", code, re.M))
    undefined = set(re.findall(r"^\s*#\s*undef\s+(\w+)", code, re.M))
    for macro in sorted(defined - undefined - MACROS):
        yield f"leaves the macro {macro} defined"
    if not text.startswith("// SPDX-License-Identifier: MIT\n"):
        yield "does not begin with // SPDX-License-Identifier: MIT"
    if "@file" not in text or "@brief" not in text:
        yield "has no @file or no @brief"
    if not name.endswith(".inc.hpp") and not re.search(r"^#pragma once$", text, re.M):
        yield "has no #pragma once"
    if text.count("\n") > LINES:
        yield f"has {text.count(chr(10))} lines; {LINES} are the most"


def check_umbrella(texts):
    """The umbrella brings every header that users see, itself or through another, and declares nothing."""
    codes = {name: without_comments(text) for name, text in texts.items()}
    seen, todo = set(), ["storylm.hpp"]
    while todo:
        name = todo.pop()
        if name not in seen:
            seen.add(name)
            todo += re.findall(r"^\s*#\s*include\s*<storylm/([^>]+)>", codes.get(name, ""), re.M)
    for name in sorted(set(texts) - seen):
        if not re.match(r"detail/|kernels/(cpu|cuda)/", name) and not name.endswith((".inc.hpp", ".cuh")):
            yield f"does not bring {name}"
    if re.search(r"^\s*[^#\s]", codes["storylm.hpp"], re.M):
        yield "declares something; it is a list of includes"


def check(root):
    """All breaches below root, each as 'header: what', and the number of headers."""
    paths = sorted(path for path in root.rglob("*") if path.suffix in {".hpp", ".cuh"})
    texts = {path.relative_to(root).as_posix(): path.read_text(encoding="utf-8") for path in paths}
    breaches = []
    for name, text in texts.items():
        if "/" in name and name.split("/")[0] not in FOLDERS:
            breaches.append(f"{name}: its folder is no layer")
            continue
        breaches += [f"{name}: {what}" for what in check_header(name, text)]
    if "storylm.hpp" in texts:
        breaches += [f"storylm.hpp: {what}" for what in check_umbrella(texts)]
    return breaches, len(texts)


def main():
    default = pathlib.Path(__file__).resolve().parent.parent / "include" / "storylm"
    root = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else default
    breaches, headers = check(root)
    if headers == 0:
        breaches.append(f"no header in {root}")
    print("\n".join(breaches) if breaches else f"{headers} headers: layers ok")
    return 1 if breaches else 0


if __name__ == "__main__":
    sys.exit(main())
