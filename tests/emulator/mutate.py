#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Leaves out each barrier and each wait of the CUDA kernels in turn and shows that some test notices.

usage: mutate.py [--seeds N] [--only TEXT] [--watch-only] TEST...

TEST are programs of tests/cuda built against the emulator. Nothing is built: the emulator leaves out the calls of one
source line when STORYLM_EMULATOR_SKIP names it. A first run finds out which test meets which lines. Then each line is
left out, in every test that meets it, on a few schedules, until one fails: by its results first, then under the watch
for races. Lines that no test meets, and lines that may be missing without notice, fail this program unless
unnoticed.txt beside it gives the reason; so does a line there that is noticed.
"""
import argparse
import os
import pathlib
import re
import subprocess
import sys
import tempfile

here = pathlib.Path(__file__).resolve().parent
kernels = here.parents[1] / "include/storylm/kernels/cuda"
primitive = re.compile(r"\b(sync_block|sync_warp|wait_copies)(?:<[^;]*?>)?\(\)")


def source_sites():
    """{"file.cuh:line": (primitive, "file.cuh n")}, n counting the barriers and waits of the file from 1."""
    sites = {}
    for path in sorted(kernels.glob("*.cuh")):
        if path.name == "primitives.cuh":
            continue
        count = 0
        for number, line in enumerate(path.read_text().splitlines(), 1):
            for found in primitive.finditer(line.split("//")[0]):
                count += 1
                sites[f"{path.name}:{number}"] = (found.group(1), f"{path.name} {count}")
    return sites


def read_reasons():
    reasons = {}
    for line in (here / "unnoticed.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            name, reason = line.split(": ", 1)
            reasons[name] = reason
    return reasons


def run(test, seed, **settings):
    environment = dict(os.environ, STORYLM_EMULATOR_SEED=str(seed), **settings)
    with tempfile.TemporaryDirectory() as folder:
        try:
            result = subprocess.run([test, "--abort-after=1"], cwd=folder, env=environment, stdout=subprocess.PIPE,
                                    stderr=subprocess.STDOUT, timeout=1800)
        except subprocess.TimeoutExpired:
            return False
    return result.returncode == 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=2, help="schedules that each test gets for each line")
    parser.add_argument("--only", default="", help="lines whose file:line contains this")
    parser.add_argument("--watch-only", action="store_true", help="show what the watch for races notices, not results")
    parser.add_argument("tests", nargs="+", metavar="TEST")
    arguments = parser.parse_args()

    sites = source_sites()
    met = {}  # site -> tests
    for test in map(os.path.abspath, arguments.tests):
        with tempfile.NamedTemporaryFile("r", suffix=".sites") as listed:
            if not run(test, 0, STORYLM_EMULATOR_SITES=listed.name):
                sys.exit(f"{test} fails although nothing is left out")
            for line in listed.read().splitlines():
                met.setdefault(line.split()[1], [])
                if test not in met[line.split()[1]]:
                    met[line.split()[1]].append(test)

    if foreign := sorted(met.keys() - sites.keys()):
        sys.exit(f"the tests were built from other sources: nothing to leave out at {', '.join(foreign)}")

    reasons = read_reasons()
    wrong = []
    print(f"{'line':36} {'primitive':12} noticed by", flush=True)
    for site, (name, key) in sites.items():
        if arguments.only not in site:
            continue
        noticed = None
        for watch in ("1",) if arguments.watch_only else ("0", "1"):
            for test in met.get(site, []):
                for seed in range(arguments.seeds):
                    if noticed is None and not run(test, seed, STORYLM_EMULATOR_SKIP=site, STORYLM_EMULATOR_RACES=watch):
                        noticed = os.path.basename(test) + (", watching for races" if watch == "1" else "")
        if noticed is None:
            verdict = "nobody" if site in met else "nobody, as no test comes there"
            if key in reasons:
                verdict += ": " + reasons[key]
            else:
                wrong.append(f"{site} ({key})")
        else:
            verdict = noticed
            if key in reasons:
                wrong.append(f"{site} ({key}), which unnoticed.txt lists, was noticed")
        print(f"{site:36} {name:12} {verdict}", flush=True)
    if wrong:
        sys.exit("wrong:\n  " + "\n  ".join(wrong))


if __name__ == "__main__":
    main()
