// EXPECT: storylm: op::matmul has no kernel for these dtypes on this device
// SPDX-License-Identifier: MIT
#include <storylm/ops/matmul.hpp>

void multiply(const storylm::Cpu& cpu, storylm::MatrixView<float> c, storylm::MatrixView<float> a,
              storylm::MatrixView<double> b) {
  storylm::ops::matmul(cpu, c, a, b);
}
