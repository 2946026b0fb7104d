#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Compares the emulator's stand-in headers with the CUDA toolkit's: values of enumerators and constants, sizes and
offsets of structs, names and types of the members of cudaDeviceProp, signatures of functions.

usage: compare_headers.py WORK_DIR C++_COMPILER TOOLKIT_INCLUDE_DIR...
"""
import pathlib
import re
import subprocess
import sys

stand_ins = pathlib.Path(__file__).resolve().parent / "include"
headers = ("cuda_runtime.h", "cublasLt.h")
partial = ("cudaDeviceProp",)  # the stand-in has some of the members, in an order of its own


def parse():
    """Lines of a program that prints all there is to compare."""
    text = "\n".join((stand_ins / header).read_text() for header in headers)
    text = re.sub(r"//.*", "", text)
    text = text.split("namespace emulator")[0]
    lines = []
    for name, body in re.findall(r"\benum (\w+) \{(.*?)\};", text, re.S):
        lines += [f'print("{e}", {e});' for e in re.findall(r"(\w+)\s*=[^,]*", body)]
    lines += [f'print("{name}", {name});' for name in re.findall(r"constexpr unsigned (\w+) =", text)]
    for name, body in re.findall(r"\bstruct (?:__attribute__\(\(.*?\)\)\) )?(\w+) \{(.*?)\n?\};", text, re.S):
        members = []
        for declaration in re.findall(r"([^;{}()]+);", body):
            kind, names = re.match(r"\s*((?:unsigned char|unsigned short|(?:std::)?\w+)\*?)\s+(.*)", declaration, re.S).groups()
            for member in names.split(","):
                member = member.split("=")[0].strip()
                members.append((kind, *re.fullmatch(r"(\w+)((?:\[\d+\])*)", member).groups()))
        if name not in partial:
            lines.append(f'print("sizeof {name}", sizeof({name}));')
            lines.append(f'print("alignof {name}", alignof({name}));')
        for kind, member, extent in members:
            lines.append(f'print("{name}.{member} is {kind}{extent}", '
                         f'std::is_same_v<decltype({name}::{member}), {kind}{extent}>);')
            if name not in partial:
                lines.append(f'print("offset of {name}.{member}", offsetof({name}, {member}));')
    for result, name, parameters in re.findall(r"^((?:const )?[\w:]+\*?) (cu\w+)\(([^)]*)\);", text, re.M):
        types = []
        for parameter in filter(None, (p.split("=")[0].strip() for p in parameters.split(","))):
            kind, array = re.match(r"(.*?)\s*\w+(\[\])?$", parameter, re.S).groups()
            types.append(kind + ("*" if array else ""))
        lines.append(f'print("{name}", sizeof(static_cast<{result} (*)({", ".join(types)})>(&{name})));')
    return lines


def values(work, compiler, name, folders, lines):
    source = work / f"{name}.cpp"
    source.write_text("#include <cstddef>\n#include <cstdint>\n#include <cstdio>\n#include <type_traits>\n"
                      + "".join(f"#include <{header}>\n" for header in headers)
                      + "static void print(const char* name, long long value) { std::printf(\"%s: %lld\\n\", name, value); }\n"
                      + "int main() {\n  " + "\n  ".join(lines) + "\n}\n")
    # Functions are named in sizeof only, so that there is nothing to link with.
    subprocess.run([compiler, "-std=c++20", "-w", *(f"-I{folder}" for folder in folders), source, "-o", work / name],
                   check=True)
    return subprocess.run([work / name], check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()


def main():
    work = pathlib.Path(sys.argv[1])
    work.mkdir(parents=True, exist_ok=True)
    lines = parse()
    for kind, least in (("is ", 40), ("offset of", 20), ("sizeof(static_cast", 50), ("cudaError", 20), ("CUBLAS", 50)):
        if sum(kind in line for line in lines) < least:
            sys.exit(f"found too little in the stand-ins: fewer than {least} of \"{kind}\"")
    ours = values(work, sys.argv[2], "stand_in", [stand_ins], lines)
    theirs = values(work, sys.argv[2], "toolkit", sys.argv[3:], lines)
    wrong = [f"{a} (stand-in), {b} (toolkit)" for a, b in zip(ours, theirs) if a != b]
    if wrong or len(ours) != len(theirs):
        sys.exit("\n".join(wrong))
    print(f"{len(ours)} values, layouts and signatures agree")


if __name__ == "__main__":
    main()
