#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Tests scripts/gpu_check.sh with programs that only pretend: its table, its JSON and its exit code for every way in which a
part can end."""

import json
import os
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
ROW = r'printf "ROW\t%s\t%s\t%s\t%s\t%s\n" '
GOOD = {
    "gpu_determinism": ROW + '"two runs" "every bit equal" "" "" ok',
    "gpu_training": ROW + '"training" 3400000 tokens/s "floor 4400000" info; '
    + ROW + '"step" 38.6 ms "target 39" "${STEP:-ok}"; '
    + 'mkdir -p "$(echo "$@" | sed "s/.*--export //; s/ .*//")"',
    "gpu_generation": ROW + '"generation, batch 1" 9000 tokens/s "target 8000" ok',
}
TEST = 'echo "[doctest] test cases: 7 | 7 passed | 0 failed | 0 skipped"'
failures = []


def check(what, right, detail=""):
    if not right:
        failures.append(what)
        print(f"FAILED: {what}\n{detail}")


def run(programs, *flags, test=TEST, environment=None, sanitizer=None):
    """Exit code, rows of the JSON, and what was printed. With a compute-sanitizer that pretends, not on the emulator."""
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        scripts = {f"bin/emulated/{n}": b for n, b in programs.items()} | {"tests/cuda/bin/emulated_device_test": test}
        if sanitizer is not None:
            scripts |= {f"bin/tests/cuda/bin/cuda_{n}_test": test for n in ("norm", "attention")}
            scripts["path/compute-sanitizer"] = sanitizer
        for path, body in scripts.items():
            file = folder / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f"#!/bin/bash\n{body}\n")
            file.chmod(0o755)
        mode = ["--emulated"] if sanitizer is None else ["--parts", "3"]
        folders = ["--bin", folder / "bin/emulated", "--build", folder / "build", "--output", folder / "out"]
        command = [ROOT / "scripts" / "gpu_check.sh", *mode, *folders, *flags]
        env = os.environ | {"PATH": f"{folder / 'path'}:{os.environ['PATH']}"}
        env = env | {"PYTHON": "/nowhere/python3"} | (environment or {})
        result = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
        file = folder / "out" / "gpu_check.json"
        rows = json.loads(file.read_text())["rows"] if file.exists() else None
        return result.returncode, rows, result.stdout + result.stderr


def verdicts(rows):
    return {(row["part"], row["name"]): row["verdict"] for row in rows}


code, rows, printed = run(GOOD)
check("all is well: exit code 0", code == 0, printed)
check("every part has a row", {row["part"] for row in rows} == {1, 2, 3, 4, 5, 6}, printed)
check("numbers are numbers", any(row["value"] == 3400000 for row in rows), printed)
check("the test cases are counted", any(row["reference"] == "7 test cases" for row in rows), printed)
check("the table ends with the verdict", "gpu_check.sh: 0 wrong, 0 below target" in printed.splitlines()[-1], printed)
check("no PyTorch is no failure", verdicts(rows)[5, "PyTorch"] == "info", printed)
check("the sanitizer is told of", verdicts(rows)[3, "compute-sanitizer"] == "info", printed)

code, rows, printed = run(GOOD, "--parts", "2,6")
check("only the parts that were asked for", code == 0 and {row["part"] for row in rows} == {2, 6}, printed)

faults = {
    "a wrong row": {"gpu_determinism": ROW + '"two runs" "the bits differ" "" "" wrong; exit 1'},
    "a crash": {"gpu_determinism": GOOD["gpu_determinism"] + "; kill -SEGV $$"},
    "an exit code without a word": {"gpu_training": "exit 3"},
    "silence": {"gpu_generation": "true"},
    "a program that is not there": {"gpu_generation": "exec /nowhere/program"},
}
for name, fault in faults.items():
    code, rows, printed = run(GOOD | fault)
    check(f"{name}: exit code 1", code == 1, printed)
    check(f"{name}: one of the rows says so", "wrong" in verdicts(rows).values(), printed)
    check(f"{name}: the other parts run", {row["part"] for row in rows} == {1, 2, 3, 4, 5, 6}, printed)

code, rows, printed = run(GOOD | {"gpu_determinism": "sleep 60"}, "--parts", "2,6", "--part-seconds", "1")
check("a part that does not end is stopped", code == 1 and verdicts(rows)[2, "determinism_bfloat16"] == "wrong", printed)
check("what follows it runs", verdicts(rows)[6, "generation, batch 1"] == "ok", printed)

code, rows, printed = run(GOOD | {"gpu_determinism": "sleep 60"}, "--seconds", "8", environment={"OUT": "/nowhere"})
check("without time left: a row for each part", code == 0 and len(rows) <= 10, printed)
for part, name in ((2, "determinism_bfloat16"), (4, "the rest of this part"), (6, "the rest of this part")):
    check(f"without time left: part {part} says so", verdicts(rows).get((part, name)) == "info", printed)
check("without time left: parts that began", [row["part"] for row in rows].count(2) == 1, printed)
check("without time left: the last line says so", "no time left in" in printed.splitlines()[-1], printed)

code, rows, printed = run(GOOD, "--parts", "1", "--part-seconds", "2", test="sleep 60")
check("tests that do not end", code == 1 and verdicts(rows)[1, "tests"] == "wrong", printed)

told = {name: GOOD[name] + '; ' + ROW + '"arguments" "$*" "" "" info' for name in GOOD}
code, rows, printed = run(told, "--parts", "2,4,6", "--batch", "24")
arguments = [row["value"] for row in rows if row["name"] == "arguments"]
check("all programs get --batch", len(arguments) == 5 and all("--sequences 24" in text for text in arguments), printed)

code, rows, printed = run(GOOD, test="exit 1")
check("a test that fails: exit code 1", code == 1 and verdicts(rows)[1, "emulated_device_test"] == "wrong", printed)

code, rows, printed = run(GOOD, environment={"STEP": "missed"})
check("a missed target is told, and no failure", code == 0 and verdicts(rows)[4, "step"] == "missed", printed)
code, rows, printed = run(GOOD, "--require-speed", environment={"STEP": "missed"})
check("a missed target is one when it is told so", code == 1, printed)

FOUND = 'echo "========= ERROR SUMMARY: 3 errors"'
sanitizers = {  # what it does, and the row of memcheck
    "finds nothing": ("exit 0", "ok", "nothing found"),
    "finds something": (f'case "$*" in *norm_test*) {FOUND}; exit 99; esac', "wrong", " ERROR SUMMARY: 3 errors (exit code 99)"),
    "finds something and is slow": (f"{FOUND}; exec sleep 60", "wrong", " ERROR SUMMARY: 3 errors (exit code 124)"),
    "is slow": ('case "$*" in *attention*) exec sleep 60; esac', "info", "nothing found, cuda_attention_test is too slow for 1 s"),
    "cannot attach": ('echo "Error: Target application terminated"; exit 1', "info", "not possible: Error: Target application terminated"),
    "knows the older flag": ('case "$*" in *--kernel-name*) echo "unrecognised option kernel-name"; exit 1; esac', "ok", "nothing found"),
}
for name, (body, verdict, value) in sanitizers.items():
    code, rows, printed = run(GOOD, "--part-seconds", "1", sanitizer=body)
    row = next(row for row in rows if row["name"] == "memcheck")
    check(f"a sanitizer that {name}", (row["verdict"], row["value"]) == (verdict, value) and code == (verdict == "wrong"), printed)
    check(f"a sanitizer that {name}: each tool has a row", len(rows) == 4, printed)
    if verdict == "ok":
        check("what was run is told", row["reference"] == "in training, generation, norm_test, attention_test; tokens: grammar", printed)

for flags in (["--parts", "7"], ["--parts"], ["--seconds", "soon"], ["--nonsense"]):
    code, rows, printed = run(GOOD, *flags)
    check(f"{flags}: exit code 2 and one line", code == 2 and len(printed.splitlines()) == 1, printed)

print(f"gpu_check_test: {len(failures)} failed")
sys.exit(1 if failures else 0)
