#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""check_no_cuda.py FOLDER: nothing that was compiled in this build folder opened a file of a CUDA toolkit.

Links are followed: a toolkit's headers may be linked into the system's include folder.
"""
import os
import re
import subprocess
import sys

CUDA = re.compile(r"/cuda(-[\d.]+)?/|/nvidia/|/(cuda|cublas|cudnn|nvcc|nccl)[\w.]*\.h$")

folder = sys.argv[1]
here = os.path.realpath("tests/emulator/include") + "/"  # the stand-ins have CUDA's names
deps = subprocess.run(["ninja", "-C", folder, "-t", "deps"], capture_output=True, text=True, check=True).stdout
objects, files = 0, set()
for line in deps.splitlines():
    if line.startswith("    "):
        files.add(line.strip())
    elif line.rstrip(":"):
        objects += ": #deps" in line
if objects == 0:
    sys.exit("check_no_cuda.py: nothing was compiled")
found = sorted(path for path in files
               for real in [os.path.realpath(os.path.join(folder, path))]
               if not real.startswith(os.path.realpath("include") + "/") and not real.startswith(here)
               and not real.startswith(os.path.realpath("tests") + "/") and (CUDA.search(path) or CUDA.search(real)))
print("\n".join(found) if found else f"{objects} objects, {len(files)} files: none of a CUDA toolkit")
sys.exit(bool(found))
