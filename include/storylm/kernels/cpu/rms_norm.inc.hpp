// SPDX-License-Identifier: MIT
/// @file
/// @brief op::rms_norm on the CPU.

/// run and backward as op::rms_norm says; bias and dbias are null.
template <FloatDtype T>
struct kernel<op::rms_norm, T> : NormRows<false, T> {};
