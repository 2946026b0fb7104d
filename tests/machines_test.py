#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A program compiled without a word about the machine uses what the machine has, and runs on old ones.

    machines_test.py instructions PROGRAM     no AVX instruction outside the kernels of the sets that have it
    machines_test.py sets PROGRAM             on this machine, with each of its instruction sets
    machines_test.py emulated PROGRAM CPU SET on qemu's CPU, where it must pick SET
    machines_test.py aarch64 SOURCE BUILD     the tests of the kernels, cross-compiled in BUILD and run by qemu

PROGRAM is tests/machines, linked with one object that is for new machines only. Exits with 77 (skipped) where the tool
that it needs is not installed.
"""
import os
import re
import shutil
import subprocess
import sys

SETS = ["baseline", "avx2", "avx512", "avx512_bf16"]
TOLERANCE = 1e-3  # of a loss after 30 steps, between sets that round differently


def skip(reason):
    print(f"skipped: {reason}")
    sys.exit(77)


def tool(name):
    return shutil.which(name) or skip(f"no {name} on this machine")


def run(command, **environment):
    """What the program printed, as (set, losses, tokens)."""
    environment = {**os.environ, "OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "passive", **environment}
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    if result.returncode != 0:
        sys.exit(f"{' '.join(command)}: exit status {result.returncode}\n{result.stdout}{result.stderr}")
    losses = [float(loss) for loss in re.findall(r"^loss: (\S+)$", result.stdout, re.M)]
    if len(losses) != 30 or not losses[-1] < 0.5 * losses[0]:
        sys.exit(f"{' '.join(command)}: it has not learnt: {losses}")
    return {"set": re.search(r"^instruction set: (\w+)$", result.stdout, re.M)[1], "losses": losses,
            "tokens": re.search(r"^tokens: (.+)$", result.stdout, re.M)[1], "output": result.stdout}


def expect_equal(one, other):
    if one["tokens"] != other["tokens"]:
        sys.exit(f"{one['set']} wrote {one['tokens']}, {other['set']} {other['tokens']}")
    for step, (a, b) in enumerate(zip(one["losses"], other["losses"])):
        if abs(a - b) > TOLERANCE * abs(b):
            sys.exit(f"loss {step}: {a} with {one['set']}, {b} with {other['set']}")


def sets(program):
    """Each set of this machine; the first that it lacks is refused. The part for new machines too, where this is one."""
    best = run([program])
    for name in SETS:
        if SETS.index(name) > SETS.index(best["set"]):
            refused = subprocess.run([program], env={**os.environ, "STORYLM_INSTRUCTION_SET": name}, capture_output=True)
            if refused.returncode == 0 or b"is not this machine's" not in refused.stderr:
                sys.exit(f"{name} is not this machine's and was not refused: {refused.stderr}")
            continue
        chosen = run([program], STORYLM_INSTRUCTION_SET=name)
        if chosen["set"] != name:
            sys.exit(f"asked for {name}, used {chosen['set']}")
        expect_equal(chosen, best)
        if run([program], STORYLM_INSTRUCTION_SET=name, OMP_NUM_THREADS="1") != chosen:
            sys.exit(f"{name}: one thread computes something else than two")
        print(f"{name}: last loss {chosen['losses'][-1]}, wrote {chosen['tokens']}")
    if best["set"].startswith("avx512"):
        difference = float(re.search(r"^elsewhere: (\S+)$", run([program, "--elsewhere"])["output"], re.M)[1])
        if not difference < 1e-4:
            sys.exit(f"the part for new machines is wrong by {difference}")


def emulated(program, cpu, expected):
    """On a machine of that kind, beside this machine's plainest."""
    there = run([tool("qemu-x86_64"), "-cpu", cpu, program])
    if there["set"] != expected:
        sys.exit(f"{cpu} is a machine with {expected}, but {there['set']} was used")
    expect_equal(there, run([program], STORYLM_INSTRUCTION_SET="baseline"))
    print(f"{cpu}: {there['set']}, last loss {there['losses'][-1]}, wrote {there['tokens']}")


def stray_functions(assembly):
    """Functions of an objdump with VEX or EVEX instructions, that are neither kernels of a set nor made of one."""
    function = None
    for line in assembly.splitlines():
        if head := re.match(r"[0-9a-f]+ <(.*)>:$", line):
            function = head[1]
        elif function and re.match(r"\s+[0-9a-f]+:\s+v(?!err|erw|mcall|mrun)[a-z]", line):
            if not re.search(r"storylm::cpu::avx(2|512|512_bf16)::", function):
                yield function
            function = None


def instructions(program):
    """Of the object for every machine: in the program the linker has mixed it with the one for new machines."""
    result = subprocess.run([tool("objdump"), "-dC", "--no-show-raw-insn", program], capture_output=True, text=True, check=True)
    functions = len(re.findall(r"^[0-9a-f]+ <", result.stdout, re.M))
    kernels = len(re.findall(r"^[0-9a-f]+ <.*storylm::cpu::avx512::", result.stdout, re.M))
    stray = list(stray_functions(result.stdout))
    if stray:
        sys.exit("instructions that old machines lack, in\n  " + "\n  ".join(stray))
    if kernels == 0:
        sys.exit(f"{program} has {functions} functions and no kernel for AVX-512")
    print(f"{functions} functions, {kernels} kernels for AVX-512, no such instruction outside")


def aarch64(source, build):
    """A handful of tests; scripts/check.sh runs all that touch a kernel."""
    for needed in ("aarch64-linux-gnu-g++", "qemu-aarch64", "ninja"):
        tool(needed)
    tests = ["core_instruction_set", "kernels_math", "kernels_dropout", "ops_elementwise", "ops_layer_norm"]
    subprocess.run(["cmake", "-S", source, "-B", build, "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release", "-DSTORYLM_NATIVE=OFF",
                    "-DSTORYLM_CUDA=OFF", "-DSTORYLM_BUILD_EXAMPLES=OFF", "-DSTORYLM_WERROR=ON",
                    "-DSTORYLM_LINK_KERNELS=OFF",  # for five tests each its own are fewer
                    f"-DCMAKE_TOOLCHAIN_FILE={source}/cmake/aarch64.cmake"], check=True)
    subprocess.run(["cmake", "--build", build, "--target", *(f"{test}_test" for test in tests)], check=True)
    subprocess.run(["ctest", "--test-dir", build, "--output-on-failure", "--no-tests=error", "--parallel", "2", "--tests-regex",
                    f"^({'|'.join(tests)})$"], check=True)


if __name__ == "__main__":
    {"instructions": instructions, "sets": sets, "emulated": emulated, "aarch64": aarch64}[sys.argv[1]](*sys.argv[2:])
