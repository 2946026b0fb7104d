// SPDX-License-Identifier: MIT
/// @file
/// @brief The CPU's kernels, compiled once for each instruction set of the build, each in a namespace of its own.
///
/// Everything inside is parsed under the set's target pragma, so that class members, templates and lambdas have it
/// too (a lambda of vectors needs a capture-default: one without converts to a pointer to a function that has not);
/// what is only called from there (std::, parallel_for) is compiled for what the flags promise, and must not be given
/// vectors. Two translation units with different flags therefore never share a kernel that an old machine could not
/// run. Where the kernels are linked (STORYLM_WITH_KERNELS) one set is parsed, for their signatures, and nothing of it
/// compiled.
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

// The target pragma cannot be written once: g++ and clang++ spell it differently, and it wants a literal.
#define STORYLM_PRAGMA(...) _Pragma(#__VA_ARGS__)
#if defined(__clang__)
#define STORYLM_BEGIN_TARGET(features) \
  STORYLM_PRAGMA(clang attribute push(__attribute__((target(features))), apply_to = function))
#define STORYLM_END_TARGET STORYLM_PRAGMA(clang attribute pop)
#else
#define STORYLM_BEGIN_TARGET(features) \
  STORYLM_PRAGMA(GCC push_options)     \
  STORYLM_PRAGMA(GCC target(features ",prefer-vector-width=512"))
#define STORYLM_END_TARGET STORYLM_PRAGMA(GCC pop_options)
#endif
// Whether this translation unit parses a set, by its number.
#if defined(STORYLM_WITH_KERNELS)
#define STORYLM_PARSES(set) (set == STORYLM_LOWEST_SET)
#else
#define STORYLM_PARSES(set) (STORYLM_LOWEST_SET <= set && set <= STORYLM_HIGHEST_SET)
#endif

#if STORYLM_PARSES(0)
namespace storylm::cpu::baseline {
inline constexpr int vector_bytes = 16;
#if defined(__aarch64__)
inline constexpr bool has_fma = true;
inline constexpr bool has_many_registers = true;
#else
inline constexpr bool has_fma = false;
inline constexpr bool has_many_registers = false;
#endif
inline constexpr bool has_bf16_dot = false;
#include <storylm/kernels/cpu/all.inc.hpp>
}  // namespace storylm::cpu::baseline
#endif

#if STORYLM_PARSES(1)
STORYLM_BEGIN_TARGET("avx2,fma,f16c")
namespace storylm::cpu::avx2 {
inline constexpr int vector_bytes = 32;
inline constexpr bool has_fma = true;
inline constexpr bool has_many_registers = false;
inline constexpr bool has_bf16_dot = false;
#include <storylm/kernels/cpu/all.inc.hpp>
}  // namespace storylm::cpu::avx2
STORYLM_END_TARGET
#endif

#if STORYLM_PARSES(2)
STORYLM_BEGIN_TARGET("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")
namespace storylm::cpu::avx512 {
inline constexpr int vector_bytes = 64;
inline constexpr bool has_fma = true;
inline constexpr bool has_many_registers = true;
inline constexpr bool has_bf16_dot = false;
#include <storylm/kernels/cpu/all.inc.hpp>
}  // namespace storylm::cpu::avx512
STORYLM_END_TARGET
#endif

#if STORYLM_PARSES(3)
STORYLM_BEGIN_TARGET("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma,f16c")
namespace storylm::cpu::avx512_bf16 {
inline constexpr int vector_bytes = 64;
inline constexpr bool has_fma = true;
inline constexpr bool has_many_registers = true;
inline constexpr bool has_bf16_dot = true;
#include <storylm/kernels/cpu/all.inc.hpp>
}  // namespace storylm::cpu::avx512_bf16
STORYLM_END_TARGET
#endif

#undef STORYLM_PARSES
#undef STORYLM_END_TARGET
#undef STORYLM_BEGIN_TARGET
#undef STORYLM_PRAGMA

namespace storylm::cpu {
/// The poorest set of the build: the only one that a program may name without asking the machine.
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
