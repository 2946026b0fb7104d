// SPDX-License-Identifier: MIT
/// @file
/// @brief Sinusoidal positions, a table that is computed and not trained.
#pragma once

#include <cmath>
#include <vector>

#include <storylm/tensor/tensor.hpp>

namespace storylm::nn {

/// table[p][2i] = sin(p / 10000^(2i / width)), table[p][2i + 1] = cos(the same): (max_len, width). Vaswani et al.,
/// arXiv:1706.03762. Computed in double, then rounded.
template <FloatDtype T, Device D>
[[nodiscard]] Tensor<T, D> sinusoidal_positions(index_t max_len, index_t width, const D& device) {
  std::vector<T> table(static_cast<std::size_t>(max_len * width));
  for (index_t c = 0; c < width; ++c) {
    const double frequency = std::pow(10000.0, -static_cast<double>(c - c % 2) / static_cast<double>(width));
    for (index_t p = 0; p < max_len; ++p) {
      const double angle = static_cast<double>(p) * frequency;
      const auto value = static_cast<accumulator_t<T>>(c % 2 == 0 ? std::sin(angle) : std::cos(angle));
      table[static_cast<std::size_t>(p * width + c)] = static_cast<T>(value);
    }
  }
  return Tensor<T, D>::from_host({max_len, width}, table, device);
}

}  // namespace storylm::nn
