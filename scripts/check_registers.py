#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Holds the registers, stack and spills of every CUDA kernel to tests/cuda/register_budget.json.

    check_registers.py [--update] [--compiler VERSION] OBJECT...

Reads what ptxas said of each OBJECT (OBJECT.ptxas, written by tests/cuda/keep_ptxas_output.py). A kernel that takes more than its
budget, one without a budget, and a budget without a kernel are errors, and so is no budget file at all. --update writes the budget
anew for the architectures that are there. The numbers are one compiler's: with another, 8 registers and 64 bytes more are let pass.
Exit code 77: no budget for any architecture that is here.
"""
import argparse
import collections
import json
import pathlib
import re
import subprocess
import sys

BUDGET = pathlib.Path(__file__).resolve().parent.parent / "tests" / "cuda" / "register_budget.json"
WHAT = ("registers", "bytes of stack", "bytes of spills")


def demangle(names):
    if not names:
        return []
    text = subprocess.run(["c++filt"], input="\n".join(names), capture_output=True, text=True, check=True).stdout
    return text.splitlines()


def short(name):
    """void storylm::cuda::add_kernel<storylm::bf16>(...) -> add_kernel<bf16>"""
    name = name.replace("(anonymous namespace)::", "").removeprefix("void ")
    depth = 0
    for i, c in enumerate(name):
        depth += (c == "<") - (c == ">")
        if c == "(" and depth == 0:
            name = name[:i]
            break
    return re.sub(r"\bstorylm::(cuda::)?", "", name)


def parse(text):
    """(architecture, mangled name) -> [registers, stack, spills] of one compiler's output."""
    found, key, of = {}, None, None
    for line in text.splitlines():
        if match := re.search(r"Compiling entry function '(\w+)' for 'sm_(\w+)'", line):
            key = (match[2], match[1])
            found[key] = [0, 0, 0]
        elif match := re.search(r"Function properties for (\w+)", line):
            of = match[1]
        elif match := re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", line):
            if key and of == key[1]:
                found[key][1:] = [int(match[1]), int(match[2]) + int(match[3])]
        elif (match := re.search(r"Used (\d+) registers", line)) and key:
            found[key][0] = int(match[1])
    return found


def measure(texts):
    """architecture -> name -> [registers, stack, spills]; the largest where several objects have a kernel."""
    found = collections.defaultdict(dict)
    for text in texts:
        kernels = parse(text)
        for (arch, _), name, numbers in zip(kernels, demangle([name for _, name in kernels]), kernels.values()):
            before = found[arch].get(short(name), [0, 0, 0])
            found[arch][short(name)] = [max(a, b) for a, b in zip(before, numbers)]
    return found


def compare(budget, found, slack):
    """What is over the budget, one line each."""
    for arch in sorted(found):
        allowed = {name: of[arch] for name, of in budget.items() if arch in of}
        if not allowed:
            continue
        for name in sorted(set(allowed) | set(found[arch])):
            if name not in found[arch]:
                yield f"sm_{arch}: {name} has a budget, but is not there"
            elif name not in allowed:
                yield f"sm_{arch}: {name} has no budget: it takes {found[arch][name]} ({', '.join(WHAT)})"
            else:
                for what, most, more, number in zip(WHAT, allowed[name], slack, found[arch][name]):
                    if number > most + more:
                        yield f"sm_{arch}: {name} takes {number} {what}, its budget is {most}"


def write(compiler, budget):
    lines = [f'    {json.dumps(name)}: {json.dumps(budget[name], sort_keys=True)}' for name in sorted(budget) if budget[name]]
    BUDGET.write_text('{\n  "compiler": %s,\n  "columns": %s,\n  "kernels": {\n%s\n  }\n}\n'
                      % (json.dumps(compiler), json.dumps(WHAT), ",\n".join(lines)), encoding="utf-8")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--update", action="store_true")
    parser.add_argument("--compiler", default="")
    parser.add_argument("objects", nargs="+", type=pathlib.Path)
    arguments = parser.parse_args()

    found = measure(pathlib.Path(f"{o}.ptxas").read_text(encoding="utf-8") for o in arguments.objects)
    if not found:
        sys.exit("check_registers.py: ptxas said nothing of any kernel")
    if not BUDGET.exists() and not arguments.update:
        sys.exit(f"check_registers.py: {BUDGET} is not there: write it with --update")
    file = json.loads(BUDGET.read_text(encoding="utf-8")) if BUDGET.exists() else {"compiler": "", "kernels": {}}
    budget = file["kernels"]
    if arguments.update:
        for of in budget.values():
            for arch in found:
                of.pop(arch, None)
        for arch, kernels in found.items():
            for name, numbers in kernels.items():
                budget.setdefault(name, {})[arch] = numbers
        write(arguments.compiler, budget)
    same = arguments.compiler == file["compiler"] or arguments.update
    problems = list(compare(budget, found, (0, 0, 0) if same else (8, 64, 64)))
    held = [arch for arch in sorted(found) if any(arch in of for of in budget.values())]
    spilling = sum(numbers[2] > 0 for arch in held for numbers in found[arch].values())
    if problems:
        print("\n".join(problems))
        print("check_registers.py: where it is meant, write the budget anew with --update")
        return 1
    if not held:
        print(f"skipped: no budget for sm_{', sm_'.join(sorted(found))}")
        return 77
    print(f"{len(found[held[0]])} kernels for sm_{', sm_'.join(held)}: within the budget"
          + ("" if same else f" of nvcc {file['compiler']}, with some slack for {arguments.compiler}") + f"; {spilling} spill")
    return 0


if __name__ == "__main__":
    sys.exit(main())
