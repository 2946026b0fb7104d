// SPDX-License-Identifier: MIT
/// @file
/// @brief The logistic function and its slope, for all gated and smooth non-linearities.
#pragma once

#include <storylm/kernels/cuda/primitives.cuh>

namespace storylm::cuda {

/// s(x) = 1 / (1 + exp(-x)) and s'(x) = s(x) s(-x).
struct Sigmoid {
  float value;  ///< s
  float slope;  ///< s'
};
/// From exp(-|x|), which neither overflows nor makes a small result the difference of large ones.
__device__ __forceinline__ Sigmoid sigmoid(float x) {
  const float e = fast_exp(x < 0.0F ? x : -x);
  const float inverse = fast_divide(1.0F, 1.0F + e);
  return {x < 0.0F ? e * inverse : inverse, e * inverse * inverse};
}

}  // namespace storylm::cuda
