#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Measures how long compilers take for the 20-line program and every other example, and the most memory they have.

    compile_time.py [--compilers g++,clang++] [--repeats 3] [--sources FILE ...] [--output FILE] [--no-page]
                    [--include FOLDER ...]

Each source is compiled to an object with -std=c++20 -O2 -fopenmp, without ccache: for any processor, with -march=native, and for
linking with storylm::kernels, which has the kernels. The first source is compiled several times, and the median counts. FOLDERs
are further ones with headers; a build's examples/generated has the one that programs with presets need (default:
build/examples/generated). Writes FILE (default: docs/benchmarks/compile_time-<processor>-<date>.json), bars beside it, and the
table in docs/benchmarks/README.md. Only on a quiet machine do the times say anything.
"""

import argparse
import datetime
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

import report

FIRST = report.ROOT / "examples" / "course" / "01_tell_a_story.cpp"
VARIANTS = {
    "-O2": ["-O2"],
    "-O2 -march=native": ["-O2", "-march=native"],
    "-O2, kernels linked": ["-O2", "-DSTORYLM_WITH_KERNELS"],
}
SECONDS, BYTES = 8.0, 800e6  # what the 20-line program may take, g++ -O2


def eigen():
    try:
        asked = subprocess.run(["pkg-config", "--cflags", "eigen3"], capture_output=True, text=True, check=True)
        return asked.stdout.split()
    except (OSError, subprocess.CalledProcessError):
        return ["-I/usr/include/eigen3", "-I/usr/local/include/eigen3"]


def compile_once(command, log):
    """(exit code, seconds, processor seconds, bytes): a driver's rest includes that of the compiler it starts."""
    with open(log, "w") as file:
        start = time.monotonic()
        process = subprocess.Popen(command, stdout=file, stderr=file, env=os.environ | {"CCACHE_DISABLE": "1"})
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - start
    process.returncode = os.waitstatus_to_exitcode(status)  # it is waited for; Popen need not do it again
    return process.returncode, seconds, usage.ru_utime + usage.ru_stime, 1024 * usage.ru_maxrss


def measure(compiler, source, options, includes, repeats, folder):
    """Medians, or why it does not compile."""
    command = [compiler, "-std=c++20", *options, "-fopenmp", f"-I{report.ROOT / 'include'}", *eigen()]
    command += [f"-I{include}" for include in includes] + ["-c", str(source), "-o", str(folder / "object.o")]
    runs = []
    for _ in range(repeats):
        code, *run = compile_once(command, folder / "log")
        if code != 0:
            errors = [line for line in (folder / "log").read_text().splitlines() if "error" in line]
            return {"failure": errors[0].split("error: ")[-1] if errors else f"exit code {code}"}
        runs.append(run)
    names = ("seconds", "processor_seconds", "peak_memory")
    return {name: report.median(values) for name, values in zip(names, zip(*runs))}


def name_of(source):
    source = pathlib.Path(source).resolve()
    return source.relative_to(report.ROOT).as_posix() if report.ROOT in source.parents else source.name


def page(results, stem):
    """The table, and the text of the bars."""
    where = results["machine"]
    parts = [f"{where['processor']}, {where['cores']} cores; {results['date']}; numbers in [{stem}.json]({stem}.json)."]
    rows, groups = [], {}
    for one in results["measured"]:
        found = one.get("failure")
        good = None
        if one["source"] == name_of(FIRST) and one["options"] == "-O2" and one["compiler"].startswith("g++") and not found:
            good = one["seconds"] <= SECONDS and one["peak_memory"] <= BYTES
        rows.append(
            [
                one["source"],
                one["compiler"],
                one["options"],
                found or one["seconds"],
                None if found else one["processor_seconds"],
                None if found else one["peak_memory"] / 1e6,
                "" if good is None else f"within {SECONDS:g} s and {BYTES / 1e6:g} MB: {'yes' if good else 'no'}",
            ]
        )
        if not found:
            groups.setdefault(one["source"], []).append((f"{one['compiler']} {one['options']}", one["seconds"]))
    parts.append(f"![seconds of compiling]({stem}.svg)")
    parts.append(report.table(["source", "compiler", "options", "seconds", "of the processor", "peak MB", ""], rows))
    return "\n\n".join(parts), report.bars("Compiling one file", "seconds", list(groups.items()))


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--compilers", default="g++,clang++", help="default: g++,clang++; those that are here")
    parser.add_argument("--repeats", type=int, default=3, help="of the first source, default: 3; others once")
    parser.add_argument("--sources", type=pathlib.Path, nargs="+", help="default: all of examples/, the course's first")
    parser.add_argument("--include", type=pathlib.Path, nargs="*", default=[report.ROOT / "build/examples/generated"])
    parser.add_argument("--output", type=pathlib.Path, help="default: docs/benchmarks/compile_time-<processor>-<date>.json")
    parser.add_argument("--no-page", action="store_true", help="leave docs/benchmarks/README.md as it is")
    flags = parser.parse_args(arguments)
    examples = report.ROOT / "examples"
    sources = flags.sources or [FIRST, *sorted(set(examples.rglob("*.cpp")) - {FIRST})]
    output = (flags.output or report.default_path("compile_time")).resolve()
    measured = []
    compilers = [compiler for compiler in flags.compilers.split(",") if shutil.which(compiler)]
    if not compilers:
        print(f"compile_time: none of {flags.compilers} is here", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="compile_time-") as folder:
        for source in sources:
            for compiler in compilers:
                version = subprocess.run([compiler, "-dumpversion"], capture_output=True, text=True, check=True).stdout.strip()
                for name, options in VARIANTS.items():
                    repeats = flags.repeats if source == sources[0] else 1
                    found = measure(compiler, source, options, flags.include, repeats, pathlib.Path(folder))
                    who = f"{pathlib.Path(compiler).name} {version}"
                    measured.append({"source": name_of(source), "compiler": who, "options": name} | found)
                    said = found.get("failure") or f"{found['seconds']:.1f} s, {found['peak_memory'] / 1e6:.0f} MB"
                    print(f"{name_of(source)}, {who}, {name}: {said}", flush=True)
    results = {"machine": report.machine(), "date": datetime.date.today().isoformat(), "measured": measured}
    report.save(output, results)
    text, svg = page(results, output.stem)
    report.write(output.with_suffix(".svg"), svg)
    if not flags.no_page and output.parent == report.PAGE.parent:
        report.update_page("compile_time", text)
    return 1 if all("failure" in one for one in measured) else 0


if __name__ == "__main__":
    sys.exit(main())
