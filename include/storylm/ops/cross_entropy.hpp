// SPDX-License-Identifier: MIT
/// @file
/// @brief Softmax cross entropy, its gradient written over the logits.
#pragma once

#include <span>

#include <storylm/kernels/backends.hpp>
#include <storylm/kernels/kernel.hpp>
#include <storylm/ops/checks.hpp>

namespace storylm::ops {

/// loss[r] = -log softmax(logits[r])[targets[r]], in nats; 0 where the target is negative (no_target). With `gradient`
/// each row of logits becomes softmax - onehot, the gradient of the sum of losses; zero without a target.
/// @param loss (rows)
/// @param logits (rows, vocab)
/// @param targets (rows), each less than vocab; in the device's memory, so a span of device pointers
/// @throws ShapeError when numbers of rows differ, or (in host memory) a target is not a column
template <Device D, FloatDtype T>
void cross_entropy(const D& device, std::span<accumulator_t<T>> loss, MatrixView<T> logits,
                   std::span<const token_t> targets, bool gradient) {
  static_assert(Supports<D, op::cross_entropy, T>,
                "storylm: op::cross_entropy has no kernel for this dtype on this device");
  const auto rows = static_cast<std::size_t>(logits.rows);
  expects<ShapeError>(loss.size() == rows, "cross_entropy", "loss has ", loss.size(), " elements, expected ", rows);
  expects<ShapeError>(targets.size() == rows, "cross_entropy", "there are ", targets.size(), " targets, expected ",
                      rows);
  detail::expects_indices("cross_entropy", "target", device, targets.data(), logits.rows, logits.cols, true);
  kernel<op::cross_entropy, D, T>::run(device, loss.data(), logits, targets.data(), gradient);
}

}  // namespace storylm::ops
