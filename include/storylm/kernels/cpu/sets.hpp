// SPDX-License-Identifier: MIT
/// @file
/// @brief The CPU's kernels, compiled once for each instruction set of the build, each in a namespace of its own.
///
/// Everything inside is parsed under the set's target pragma, so that class members, templates and lambdas have it
/// too; what is only called from there (std::, parallel_for) is compiled for what the flags promise. Two translation
/// units with different flags therefore never share a symbol that an old machine could not run.
#pragma once

#if !defined(__GNUC__)
#error "storylm: the CPU's kernels need the vector extensions of g++ or clang++"
#endif

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include <algorithm>
#include <array>
#include <bit>
#include <chrono>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <numbers>
#include <type_traits>
#include <utility>

#include <storylm/core/device.hpp>
#include <storylm/core/instruction_set.hpp>
#include <storylm/core/random.hpp>
#include <storylm/kernels/cpu/parallel.hpp>
#include <storylm/kernels/cpu/pieces.hpp>
#include <storylm/kernels/kernel.hpp>

#if STORYLM_LOWEST_SET <= 0
namespace storylm::cpu::baseline {
inline constexpr int vector_bytes = 16;
inline constexpr bool has_bf16_dot = false;
#if defined(__aarch64__)
inline constexpr bool has_fma = true;
inline constexpr bool has_many_registers = true;
#else
inline constexpr bool has_fma = false;
inline constexpr bool has_many_registers = false;
#endif
#include <storylm/kernels/cpu/all.inc.hpp>
}  // namespace storylm::cpu::baseline
#endif

#if STORYLM_LOWEST_SET <= 1 && STORYLM_HIGHEST_SET >= 1
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c")
#endif
namespace storylm::cpu::avx2 {
inline constexpr int vector_bytes = 32;
inline constexpr bool has_fma = true;
inline constexpr bool has_bf16_dot = false;
inline constexpr bool has_many_registers = false;
#include <storylm/kernels/cpu/all.inc.hpp>
}  // namespace storylm::cpu::avx2
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif

#if STORYLM_LOWEST_SET <= 2 && STORYLM_HIGHEST_SET >= 2
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c"))), \
                             apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c,prefer-vector-width=512")
#endif
namespace storylm::cpu::avx512 {
inline constexpr int vector_bytes = 64;
inline constexpr bool has_fma = true;
inline constexpr bool has_bf16_dot = false;
inline constexpr bool has_many_registers = true;
#include <storylm/kernels/cpu/all.inc.hpp>
}  // namespace storylm::cpu::avx512
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif

#if STORYLM_HIGHEST_SET >= 3
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma,f16c"))), \
                             apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma,f16c,prefer-vector-width=512")
#endif
namespace storylm::cpu::avx512_bf16 {
inline constexpr int vector_bytes = 64;
inline constexpr bool has_fma = true;
inline constexpr bool has_bf16_dot = true;
inline constexpr bool has_many_registers = true;
#include <storylm/kernels/cpu/all.inc.hpp>
}  // namespace storylm::cpu::avx512_bf16
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif

namespace storylm::cpu {
/// The set that the compiler's flags promise: the only one that a program may name without asking the machine.
#if STORYLM_LOWEST_SET == 0
namespace promised = baseline;
#elif STORYLM_LOWEST_SET == 1
namespace promised = avx2;
#elif STORYLM_LOWEST_SET == 2
namespace promised = avx512;
#else
namespace promised = avx512_bf16;
#endif
}  // namespace storylm::cpu
