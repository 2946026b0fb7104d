// SPDX-License-Identifier: MIT
/// @file
/// @brief What travels through a forward and a backward pass besides activations.
#pragma once

#include <cstdint>

#include <storylm/core/device.hpp>
#include <storylm/core/step_state.hpp>
#include <storylm/tensor/packed.hpp>

namespace storylm {

/// Everything that varies from call to call: cheap to make, passed by reference.
template <Device D>
struct Pass {
  D device;                    ///< where to compute
  PackedView batch{};          ///< which row of an activation is which token of which sequence
  StepState* state = nullptr;  ///< in device memory; may be none outside training
  std::uint64_t seed = 0;      ///< of the run's dropout masks
  bool training = false;       ///< dropout is on
  bool row_invariant = false;  ///< matrix products by op::matmul_rows: a row does not depend on its neighbours
};

}  // namespace storylm
