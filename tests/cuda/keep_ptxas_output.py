#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""keep_ptxas_output.py COMPILER ARGUMENTS...: runs it, and puts what ptxas says of kernels into OUTPUT.ptxas, not on the screen.

A launcher for nvcc with -Xptxas=-v; OUTPUT follows -o. scripts/check_registers.py reads those files.
"""
import pathlib
import subprocess
import sys

command = sys.argv[1:]
result = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
said = [line for line in result.stderr.splitlines(True) if not line.startswith(("ptxas info", "    "))]
kept = [line for line in result.stderr.splitlines(True) if line.startswith(("ptxas info", "    "))]
if result.returncode != 0:
    said, kept = [result.stderr], []
sys.stderr.write("".join(said))
if "-o" in command and kept:
    pathlib.Path(command[command.index("-o") + 1] + ".ptxas").write_text("".join(kept), encoding="utf-8")
sys.exit(result.returncode)
