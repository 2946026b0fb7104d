// SPDX-License-Identifier: MIT
/// @file
/// @brief op::layer_norm on the CPU.
#pragma once

#include <storylm/kernels/cpu/norm_rows.hpp>
#include <storylm/kernels/kernel.hpp>

namespace storylm {

/// run and backward as op::layer_norm says; a null bias (and dbias) is one of zeros.
template <cpu::Real T>
struct kernel<op::layer_norm, Cpu, T> : cpu::NormRows<true, T> {};

}  // namespace storylm
