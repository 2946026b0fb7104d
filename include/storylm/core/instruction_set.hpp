// SPDX-License-Identifier: MIT
/// @file
/// @brief The instruction sets that the CPU's kernels are compiled for, and which of them a machine has.
///
/// A translation unit compiles the kernels for the set that its flags promise and for every richer one, and the device
/// picks when the program runs: fast without flags, and at home on old machines. With -DSTORYLM_PINNED, which goes with
/// -march=native, it compiles them for the promised set alone.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include <storylm/core/error.hpp>

/// @def STORYLM_LOWEST_SET
/// The poorest set of the build, as a number of InstructionSet: what the compiler's flags promise. The kernel library
/// is for every machine, whatever the flags of it and of what links it.
#if (defined(STORYLM_WITH_KERNELS) || defined(STORYLM_KERNEL_LIBRARY)) && !defined(STORYLM_PINNED)
#define STORYLM_LOWEST_SET 0
#elif defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512DQ__) && defined(__AVX512VL__)
#if defined(__AVX512BF16__)
#define STORYLM_LOWEST_SET 3
#else
#define STORYLM_LOWEST_SET 2
#endif
#elif defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
#define STORYLM_LOWEST_SET 1
#else
#define STORYLM_LOWEST_SET 0
#endif
/// @def STORYLM_HIGHEST_SET
/// The richest set of the build, as a number of InstructionSet: all there are, unless STORYLM_PINNED.
#if defined(STORYLM_PINNED) || !defined(__x86_64__)
#define STORYLM_HIGHEST_SET STORYLM_LOWEST_SET
#else
#define STORYLM_HIGHEST_SET 3
#endif

namespace storylm {

/// Each includes those before it.
enum class InstructionSet : std::uint8_t {
  baseline,     ///< what every machine of the architecture has: SSE2 or NEON
  avx2,         ///< AVX2, FMA and F16C: x86-64 from 2013 on
  avx512,       ///< AVX-512 F, BW, DQ and VL
  avx512_bf16,  ///< and its dot product of bfloat16
};

inline constexpr auto lowest_instruction_set = static_cast<InstructionSet>(STORYLM_LOWEST_SET);    ///< in this build
inline constexpr auto highest_instruction_set = static_cast<InstructionSet>(STORYLM_HIGHEST_SET);  ///< in this build

/// "avx2"; see to_instruction_set.
[[nodiscard]] constexpr std::string_view to_string(InstructionSet set) {
  constexpr std::string_view names[] = {"baseline", "avx2", "avx512", "avx512_bf16"};
  return names[static_cast<std::size_t>(set)];
}
/// The set of that name. @throws ArgumentError when there is none
[[nodiscard]] inline InstructionSet to_instruction_set(std::string_view name) {
  for (int i = 0; i < 4; ++i) {
    if (to_string(static_cast<InstructionSet>(i)) == name) return static_cast<InstructionSet>(i);
  }
  detail::fail<ArgumentError>("InstructionSet", "\"", name, "\" is none of baseline, avx2, avx512, avx512_bf16");
}

/// The richest set that this machine has, whatever the build.
[[nodiscard]] inline InstructionSet machine_instruction_set() noexcept {
#if defined(__x86_64__)
  __builtin_cpu_init();
  // F16C, which clang 14 cannot ask for, is older than AVX2.
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return InstructionSet::baseline;
  if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") ||
      !__builtin_cpu_supports("avx512dq") || !__builtin_cpu_supports("avx512vl"))
    return InstructionSet::avx2;
  return __builtin_cpu_supports("avx512bf16") ? InstructionSet::avx512_bf16 : InstructionSet::avx512;
#else
  return InstructionSet::baseline;
#endif
}

/// What a Cpu uses unless told: the richest set of machine and build, or what the environment's
/// STORYLM_INSTRUCTION_SET names. @throws ArgumentError when that names none
[[nodiscard]] inline InstructionSet default_instruction_set() {
  if (const char* const name = std::getenv("STORYLM_INSTRUCTION_SET"); name != nullptr && *name != '\0')
    return to_instruction_set(name);
  const InstructionSet here = machine_instruction_set();
  return here < highest_instruction_set ? here : highest_instruction_set;
}

}  // namespace storylm
