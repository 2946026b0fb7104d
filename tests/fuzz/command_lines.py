#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Command lines of an enemy: each program must end by itself, with a message and not by a signal, and write nothing
outside the folder it is run in.

    command_lines.py ROUNDS PROGRAM...     flags are those that PROGRAM --help names; the same lines every time
"""
import os
import pathlib
import random
import re
import resource
import subprocess
import sys
import tempfile

VALUES = ["", "-1", "0", "1", "nan", "inf", "-inf", "1e999", "1e-999", "99999999999999999999", "-9223372036854775808",
          "2147483648", "4294967297", "0x10", "1,2,3", "=", "--", "-", "@", "@none", "../none", "/dev/null", "none",
          ".", "none/none", "a\nb", "\u00e4", "%s%n", "x" * 5000, "--seed", "true", "[1]", "\"", "story_24m:n_layers=99999999"]
SECONDS = 10


def limit():
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 22, 1 << 22))  # a full disk: writing fails
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def flags_of(program):
    text = subprocess.run([program, "--help"], capture_output=True, text=True, timeout=60, check=True).stdout
    found = sorted(set(re.findall(r"(?<![\w-])--?[a-z][\w-]*", text)))
    if len(found) < 2:
        sys.exit(f"command_lines: {program} --help names no flags")
    return [flag for flag in found if flag not in ("--help", "-h")] or ["--none"]


def command_line(random_, flags):
    line = []
    for _ in range(random_.randint(0, 5)):
        flag = random_.choice(flags)
        value = random_.choice(VALUES)
        line += random_.choice([[flag, value], [f"{flag}={value}"], [flag], [value], [flag, value, flag, value],
                                [flag[:-1], value], [flag + "x", value]])
    return line


def contents(folder):
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def check(program, line, work, elsewhere):
    before = contents(elsewhere)
    try:
        done = subprocess.run([program, *line], cwd=work, stdin=subprocess.DEVNULL, capture_output=True, timeout=SECONDS,
                              preexec_fn=limit, restore_signals=False,  # SIGXFSZ stays ignored
                              env={**os.environ, "OMP_NUM_THREADS": "1"})
    except subprocess.TimeoutExpired:
        done = None  # it took the line and is at work
    if contents(elsewhere) != before:
        return "it wrote outside of its folder"
    if done is None:
        return None
    message = done.stderr.decode(errors="replace")
    if done.returncode < 0 or done.returncode >= 128:
        return f"it ended by signal {-done.returncode}: {message[-500:]}"
    if "terminate called" in message or "Sanitizer" in message or "runtime error" in message:
        return message[-2000:]
    if done.returncode != 0 and not (message.strip() or done.stdout.strip()):
        return f"it ended with {done.returncode} and no message"
    return None


def main():
    rounds, programs = int(sys.argv[1]), sys.argv[2:]
    findings = lines = 0
    for program in programs:
        flags = flags_of(program)
        random_ = random.Random(pathlib.Path(program).name)
        for _ in range(rounds):
            line = command_line(random_, flags)
            with tempfile.TemporaryDirectory() as root:
                work, elsewhere = pathlib.Path(root, "work"), pathlib.Path(root, "elsewhere")
                work.mkdir()
                elsewhere.mkdir()
                (elsewhere / "x").write_text("not yours")
                (work / "none.txt").write_text("One story.\n")
                problem = check(program, line, work, elsewhere)
            lines += 1
            if problem:
                findings += 1
                print(f"{pathlib.Path(program).name} {line!r:.600}: {problem}", file=sys.stderr)
    print(f"fuzz: command lines: {lines} of {len(programs)} programs, {findings} findings")
    sys.exit(1 if findings or not lines else 0)


if __name__ == "__main__":
    main()
