// EXPECT: deleted
// SPDX-License-Identifier: MIT
#include <storylm/tensor/tensor.hpp>

storylm::Tensor<float, storylm::Cpu> copy(const storylm::Tensor<float, storylm::Cpu>& tensor) {
  return tensor;  // what copies memory says clone()
}
