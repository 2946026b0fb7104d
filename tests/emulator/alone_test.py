#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The emulator and all kernels on it are compiled without a file of the CUDA toolkit, wherever that lies.

usage: alone_test.py C++_COMPILER INCLUDE_DIR...
"""
import pathlib
import re
import subprocess
import sys

root = pathlib.Path(__file__).resolve().parents[2]
sources = sorted(p for p in (root / "tests/emulator").glob("*.cpp") if not p.stem.startswith("asan"))
kernels = root / "include/storylm/kernels/cuda/instantiate.cuh"
toolkit = re.compile(r"cuda|cublas|driver_types|vector_types|/nv")


def main():
    flags = ["-std=c++20", "-DSTORYLM_WITH_CUDA", "-M", "-x", "c++", "-iquote", root / "tests", *(f"-I{folder}" for folder in sys.argv[2:])]
    seen = 0
    for source in [*sources, kernels]:
        rule = subprocess.run([sys.argv[1], *flags, source], check=True, stdout=subprocess.PIPE, text=True).stdout
        for name in rule.replace("\\\n", " ").split()[1:]:
            path = pathlib.Path(name).resolve()
            if root in path.parents:
                seen += path.suffix == ".cuh"
            elif toolkit.search(str(path).lower()) or toolkit.search(name.lower()):
                sys.exit(f"{source.relative_to(root)} includes {name}")
    if seen < 10:
        sys.exit(f"there must be more kernels than {seen}")
    print(f"{len(sources)} sources and {seen} files of kernels need no toolkit")


if __name__ == "__main__":
    main()
