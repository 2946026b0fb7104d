#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Checks that each primitive of kernels/cuda/primitives.cuh becomes the instruction that is meant.

    check_ptx.py [NVCC]     NVCC: the compiler (default: nvcc)

Compiles tests/ptx/primitives.cu to PTX for sm_80 and sm_90, and compares each kernel with the patterns above it. For sm_75,
which lacks some of the instructions, it must compile too: there a primitive traps.
"""
import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
SOURCE = ROOT / "tests" / "ptx" / "primitives.cu"
PRIMITIVES = ROOT / "include" / "storylm" / "kernels" / "cuda" / "primitives.cuh"


def compile_to_ptx(nvcc, arch):
    with tempfile.TemporaryDirectory() as folder:
        output = pathlib.Path(folder) / "primitives.ptx"
        subprocess.run([nvcc, "-std=c++20", "--expt-relaxed-constexpr", "-DSTORYLM_WITH_CUDA", "-I", str(ROOT / "include"), "-ptx",
                        f"-arch=compute_{arch}", str(SOURCE), "-o", str(output)], check=True)
        return output.read_text()


def wanted(source):
    """name -> (patterns in order, patterns that must be absent), as the comments of the source say."""
    kernels, found, absent = {}, [], []
    for line in source.splitlines():
        if match := re.match(r"// PTX: (.+)", line):
            found.append(match[1])
        elif match := re.match(r"// NOT: (.+)", line):
            absent.append(match[1])
        elif match := re.match(r'extern "C" __global__ void (\w+)\(', line):
            if match[1] in kernels or not found:
                raise SystemExit(f"{SOURCE.name}: {match[1]} is there twice, or has no PTX line")
            kernels[match[1]] = (found, absent)
            found, absent = [], []
    return kernels


def compare(name, ptx, patterns, absent):
    """What is wrong with one kernel."""
    entry = re.search(rf"\.entry {name}\(.*?^}}", ptx, re.S | re.M)
    if not entry:
        yield "is not in the PTX"
        return
    code = re.sub(r"[ \t]+", " ", entry[0])
    # Shared memory is declared before the kernels.
    code = "\n".join(re.findall(r"^\.shared.*;$", ptx, re.M)) + "\n" + code
    position = 0
    for pattern in patterns:
        match = re.compile(pattern).search(code, position)
        if not match:
            yield f"has no {pattern!r}" + (" after the others" if position else "") + f":\n{code}"
            return
        position = match.end()
    for pattern in absent:
        if match := re.search(pattern, code):
            yield f"has {match[0]!r}:\n{code}"


def main():
    nvcc = sys.argv[1] if len(sys.argv) > 1 else "nvcc"
    source = SOURCE.read_text(encoding="utf-8")
    kernels = wanted(source)
    problems = []
    names = set(re.findall(r"__forceinline__ [\w:]+\*? (\w+)\(", PRIMITIVES.read_text(encoding="utf-8").split("#else\n", 1)[1]))
    for name in sorted(names - set(re.findall(r"cuda::(\w+)[<(]", source))):
        problems.append(f"{SOURCE.name} does not use {name} of primitives.cuh")
    for arch in (80, 90):
        ptx = compile_to_ptx(nvcc, arch)
        for name, (patterns, absent) in kernels.items():
            problems += [f"sm_{arch}: {name} {what}" for what in compare(name, ptx, patterns, absent)]
    old = compile_to_ptx(nvcc, 75)
    for name in ("copy_async16", "commit_copies", "wait_copies", "mma_m16n8k16_bf16"):
        problems += [f"sm_75: {name} {what}" for what in compare(name, old, [r"\btrap;"], [r"cp\.async", r"mma\.sync"])]
    print("\n".join(problems) if problems else f"{len(names)} primitives in {len(kernels)} kernels: as meant")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
