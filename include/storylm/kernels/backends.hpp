// SPDX-License-Identifier: MIT
/// @file
/// @brief The one place that decides which backends a translation unit sees.
#pragma once

// IWYU pragma: begin_exports
#include <storylm/kernels/cpu/column_sum.hpp>
#include <storylm/kernels/cpu/matmul.hpp>
#include <storylm/kernels/cpu/matmul_rows.hpp>
#include <storylm/kernels/cpu/parallel.hpp>
// IWYU pragma: end_exports
