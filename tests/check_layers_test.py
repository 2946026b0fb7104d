#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Every rule of scripts/check_layers.py refuses what it is there for, and nothing else."""
import pathlib
import sys
import unittest

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "scripts"))
import check_layers  # noqa: E402

HEAD = "// SPDX-License-Identifier: MIT\n/// @file\n/// @brief A header.\n#pragma once\n"


def breaches(name, body):
    return list(check_layers.check_header(name, HEAD + body))


class Layers(unittest.TestCase):
    def refused(self, name, body, word):
        found = breaches(name, body)
        self.assertEqual(len(found), 1, found)
        self.assertIn(word, found[0])

    def allowed(self, name, body):
        self.assertEqual(breaches(name, body), [])

    def test_ladder(self):
        self.allowed("nn/linear.hpp", "#include <storylm/ops/matmul.hpp>\n#include <storylm/detail/fixed.hpp>\n")
        self.refused("ops/matmul.hpp", "#include <storylm/nn/linear.hpp>\n", "ops must not see nn")
        self.refused("core/error.hpp", "#include <storylm/detail/fixed.hpp>\n", "core must not see detail")
        self.refused("nn/linear.hpp", "#include <storylm/misc/a.hpp>\n", "no layer")
        self.refused("nn/linear.hpp", "#include <storylm/storylm.hpp>\n", "umbrella")
        self.allowed("io/checkpoint.hpp", "#include <storylm/models/config.hpp>\n")
        self.refused("io/checkpoint.hpp", "#include <storylm/generate/sampler.hpp>\n", "io must not see generate")
        self.refused("data/loader.hpp", "#include <storylm/text/tokenizer.hpp>\n", "data must not see text")
        self.refused("models/config.hpp", "#include <storylm/data/loader.hpp>\n", "models must not see data")
        self.allowed("train/step.hpp", "#include <storylm/data/loader.hpp>\n")

    def test_own_targets(self):
        self.allowed("train/run_state.hpp", "#include <storylm/io/checkpoint.hpp>\n")
        self.refused("train/step.hpp", "#include <storylm/io/checkpoint.hpp>\n", "belongs to storylm::io")
        self.refused("text/tokenizer.hpp", "#include <storylm/text/sentencepiece.hpp>\n", "belongs to storylm::sentencepiece")
        self.allowed("io/tokenizer_files.hpp", "#include <storylm/text/byte_level_bpe.hpp>\n")
        self.refused("io/tokenizer_files.hpp", "#include <storylm/text/sentencepiece.hpp>\n", "belongs to storylm::sentencepiece")

    def test_two_targets(self):
        both = "#include <storylm/io/json.hpp>\n#include <storylm/text/sentencepiece.hpp>\n"
        self.allowed("text/hugging_face_tokenizer.hpp", both)
        self.refused("text/hugging_face_tokenizer.hpp", "#include <storylm/nn/linear.hpp>\n", "text must not see nn")
        self.refused("text/hugging_face_tokenizer.hpp", "#include <storylm/core/cuda_device.hpp>\n", "belongs to storylm::cuda")
        self.refused("io/checkpoint.hpp", "#include <storylm/text/hugging_face_tokenizer.hpp>\n", "needs two targets")
        self.refused("text/sentencepiece.hpp", "#include <storylm/text/hugging_face_tokenizer.hpp>\n", "needs two targets")

    def test_cuda(self):
        self.allowed("kernels/backends.hpp", "#include <storylm/kernels/cuda/matmul.hpp>\n#if defined(STORYLM_WITH_CUDA)\n#endif\n")
        self.allowed("kernels/cuda/matmul.hpp", "#include <storylm/core/cuda_device.hpp>\n#include <cublasLt.h>\n")
        self.allowed("kernels/cuda/matmul.cuh", "#include <storylm/kernels/cuda/primitives.cuh>\n__global__ void f();\n")
        self.allowed("core/cuda_error.hpp", "#include <cuda_runtime.h>\n")
        self.refused("kernels/backends.hpp", "#include <storylm/kernels/cuda/matmul.cuh>\n", ".cuh")
        self.refused("kernels/cuda/matmul.hpp", "#include <storylm/kernels/cuda/primitives.cuh>\n", ".cuh")
        self.refused("kernels/cpu/matmul.hpp", "#include <storylm/kernels/cuda/matmul.hpp>\n", "belongs to storylm::cuda")
        self.refused("ops/matmul.hpp", "#include <storylm/kernels/cuda/matmul.hpp>\n", "belongs to storylm::cuda")
        self.refused("train/step.hpp", "#include <storylm/core/cuda_device.hpp>\n", "belongs to storylm::cuda")
        self.refused("core/device.hpp", "#include <cuda_runtime.h>\n", "CUDA stays")
        self.refused("nn/linear.hpp", "#ifdef __CUDACC__\n#endif\n", "__CUDACC__")
        self.refused("nn/linear.hpp", "#ifdef STORYLM_WITH_CUDA\n#endif\n", "STORYLM_WITH_CUDA")
        self.refused("kernels/cuda/add.hpp", "__global__ void f();\n", "keywords")

    def test_primitives(self):
        hardware = ["__shared__ int x;\n", "const int i = threadIdx.x;\n", "f<<<1, 2>>>();\n", "__syncthreads();\n",
                    "__shfl_xor_sync(m, x, 1);\n", "atomicAdd(p, 1);\n", "#if __CUDA_ARCH__ >= 800\n#endif\n", "__float2half_rn(x);\n",
                    "#include <emulator/primitives.hpp>\n"]
        for code in hardware:
            self.allowed("kernels/cuda/primitives.cuh", code)
            self.refused("kernels/cuda/add.cuh", code, "primitives.cuh")

    def test_instruction_sets(self):
        def found(name, body):
            return " ".join(check_layers.check_header(name, HEAD.replace("#pragma once\n", "") + body))

        self.assertEqual(found("kernels/cpu/add.inc.hpp", "template <class T>\nstruct kernel<op::add, T> {};\n"), "")
        self.assertIn("includes something", found("kernels/cpu/add.inc.hpp", "#include <cmath>\n"))
        self.assertEqual(found("kernels/cpu/all.inc.hpp", "#include <storylm/kernels/cpu/add.inc.hpp>\n"), "")
        self.assertIn("opens namespace", found("kernels/cpu/add.inc.hpp", "namespace storylm::cpu {\n}\n"))
        self.assertEqual(found("kernels/cpu/add.inc.hpp", "namespace detail {\n}  // namespace detail\n"), "")
        self.assertIn("#pragma once", found("kernels/cpu/add.inc.hpp", "#pragma once\n"))
        self.assertIn("has no #pragma once", found("kernels/cpu/parallel.hpp", ""))
        self.assertIn("bits_as", found("kernels/cpu/math.inc.hpp", "std::bit_cast<float>(x);\n"))
        self.allowed("core/dtype.hpp", "std::bit_cast<float>(x);\n")
        for code in ["_mm512_add_ps(x, y);\n", "_mm_sqrt_ps(x);\n", "vaddq_f32(x, y);\n"]:
            self.assertIn("an intrinsic", found("kernels/cpu/add.inc.hpp", code))
            self.assertEqual(found("kernels/cpu/vector.inc.hpp", code), "")
        self.refused("kernels/cpu/parallel.hpp", "asm(\"\");\n", "assembler")
        self.assertEqual(found("kernels/cpu/vector.inc.hpp", "asm(\"\");\n"), "")
        self.allowed("kernels/cuda/primitives.cuh", "asm(\"\");\n")
        self.refused("kernels/cuda/add.cuh", "asm(\"\");\n", "primitives.cuh")

    def test_third_parties(self):
        self.allowed("kernels/cpu/matmul.hpp", "#include <Eigen/Core>\n")
        self.refused("tensor/view.hpp", "#include <Eigen/Core>\n", "Eigen")
        self.allowed("kernels/cpu/parallel.hpp", "#include <omp.h>\n#pragma omp parallel\n")
        self.refused("kernels/cpu/matmul.hpp", "#include <omp.h>\n", "OpenMP")
        self.refused("kernels/cpu/matmul.hpp", "#pragma omp parallel\n", "OpenMP")
        self.refused("train/metrics.hpp", "#include <boost/json.hpp>\n", "Boost")
        self.allowed("io/names.hpp", "#include <boost/json.hpp>\n")
        self.refused("text/tokenizer.hpp", "#include <sentencepiece_processor.h>\n", "SentencePiece")

    def test_words(self):
        self.refused("nn/linear.hpp", "kernel<op::matmul, D>::run();\n", "kernel<>")
        self.allowed("nn/linear.hpp", "// kernel<op::matmul, D> is called by ops\n")
        self.refused("core/error.hpp", "assert(x);\n", "assert")
        self.allowed("core/error.hpp", "static_assert(true);\n")
        self.refused("core/error.hpp", "#define A 1\n", "macro A")
        self.allowed("core/error.hpp", "#define A 1\n#undef A\n")

    def test_umbrella(self):
        good = {
            "storylm.hpp": "#pragma once\n#include <storylm/core/error.hpp>  // why\n",
            "core/error.hpp": "#include <storylm/core/dtype.hpp>\n",
            "core/dtype.hpp": "",
            "detail/hash.hpp": "",
            "kernels/cpu/matmul.hpp": "",
        }
        self.assertEqual(list(check_layers.check_umbrella(good)), [])
        self.assertEqual(list(check_layers.check_umbrella(good | {"nn/linear.hpp": ""})), ["does not bring nn/linear.hpp"])
        declares = good | {"storylm.hpp": good["storylm.hpp"] + "int x;\n"}
        self.assertEqual(len(list(check_layers.check_umbrella(declares))), 1)

    def test_form(self):
        self.assertIn("SPDX", " ".join(check_layers.check_header("core/error.hpp", "/// @file @brief\n#pragma once\n")))
        self.refused("core/error.hpp", "\n" * 501, "lines")


if __name__ == "__main__":
    unittest.main()
