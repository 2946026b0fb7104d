// SPDX-License-Identifier: MIT
/// @file
/// @brief op::rms_norm on the CPU.
#pragma once

#include <storylm/kernels/cpu/norm_rows.hpp>
#include <storylm/kernels/kernel.hpp>

namespace storylm {

/// run and backward as op::rms_norm says; bias and dbias are null.
template <cpu::Real T>
struct kernel<op::rms_norm, Cpu, T> : cpu::NormRows<false, T> {};

}  // namespace storylm
