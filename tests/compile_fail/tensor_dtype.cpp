// EXPECT: constraints not satisfied
// SPDX-License-Identifier: MIT
#include <storylm/tensor/tensor.hpp>

storylm::Tensor<bool, storylm::Cpu> flags;
