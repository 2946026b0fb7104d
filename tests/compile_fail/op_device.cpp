// EXPECT: storylm: op::layer_norm has no kernel for this dtype on this device
// SPDX-License-Identifier: MIT
#include <storylm/ops/layer_norm.hpp>

/// A device of one's own, without kernels.
struct Abacus : storylm::Cpu {};

void normalise(const Abacus& device, storylm::MatrixView<float> y, storylm::MatrixView<float> stats,
               storylm::MatrixView<const float> x, storylm::MatrixView<const float> weight) {
  storylm::ops::layer_norm(device, y, {}, stats, x, {}, weight, {}, 1e-5);
}
