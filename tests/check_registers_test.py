#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""scripts/check_registers.py and scripts/check_ptx.py refuse what they are there for, and nothing else."""
import pathlib
import sys
import unittest

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "scripts"))
import check_ptx  # noqa: E402
import check_registers  # noqa: E402

OUTPUT = """ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function '_ZN7storylm4cuda10add_kernelINS_4bf16EEEvPT_' for 'sm_80'
ptxas info    : Function properties for helper
    8 bytes stack frame, 8 bytes spill stores, 8 bytes spill loads
ptxas info    : Function properties for _ZN7storylm4cuda10add_kernelINS_4bf16EEEvPT_
    16 bytes stack frame, 4 bytes spill stores, 12 bytes spill loads
ptxas info    : Used 28 registers, used 0 barriers, 417 bytes cmem[0]
"""
PTX = """.shared .align 16 .b8 values[132];
.visible .entry f(
)
{
\tbar.sync \t0;
\tst.shared.f32 \t[%r1], %f1;
}
"""


class Registers(unittest.TestCase):
    def test_parse(self):
        self.assertEqual(check_registers.measure([OUTPUT]), {"80": {"add_kernel<bf16>": [28, 16, 16]}})

    def test_compare(self):
        found = {"80": {"f<bf16>": [28, 0, 0]}}
        exact = (0, 0, 0)
        self.assertEqual(list(check_registers.compare({"f<bf16>": {"80": [28, 0, 0]}}, found, exact)), [])
        self.assertEqual(list(check_registers.compare({"f<bf16>": {"80": [40, 8, 8]}}, found, exact)), [])
        for allowed, numbers in [([27, 0, 0], [28, 0, 0]), ([28, 0, 0], [28, 8, 0]), ([28, 0, 0], [28, 0, 4])]:
            found = {"80": {"f<bf16>": numbers}}
            self.assertEqual(len(list(check_registers.compare({"f<bf16>": {"80": allowed}}, found, exact))), 1)
            self.assertEqual(list(check_registers.compare({"f<bf16>": {"80": allowed}}, found, (8, 64, 64))), [])
        self.assertEqual(len(list(check_registers.compare({"g": {"80": [9, 0, 0]}}, found, exact))), 2)
        self.assertEqual(list(check_registers.compare({"g": {"90": [9, 0, 0]}}, found, exact)), [])

    def test_short_names(self):
        self.assertEqual(check_registers.short("void storylm::cuda::f<storylm::half, (int)4>(int, float*)"), "f<half, (int)4>")
        self.assertEqual(check_registers.short("storylm::cuda::g(int)"), "g")


class Ptx(unittest.TestCase):
    def problems(self, patterns, absent=()):
        return list(check_ptx.compare("f", PTX, patterns, absent))

    def test_compare(self):
        self.assertEqual(self.problems([r"values\[132\]", r"bar\.sync 0;", r"st\.shared"], [r"ld\.shared"]), [])
        self.assertEqual(len(self.problems([r"bar\.sync 1;"])), 1)
        self.assertEqual(len(self.problems([r"st\.shared", r"bar\.sync"])), 1)
        self.assertEqual(len(self.problems([r"bar\.sync"], [r"st\.shared"])), 1)
        self.assertEqual(list(check_ptx.compare("g", PTX, ["x"], [])), ["is not in the PTX"])


if __name__ == "__main__":
    unittest.main()
