// SPDX-License-Identifier: MIT
/// @file
/// @brief op::layer_norm on the CPU.

/// run and backward as op::layer_norm says; a null bias (and dbias) is one of zeros.
template <FloatDtype T>
struct kernel<op::layer_norm, T> : NormRows<true, T> {};
