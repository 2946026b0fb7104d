// SPDX-License-Identifier: MIT
/// @file
/// @brief The one place where --device and --dtype become types: programs are templates over both.
#pragma once

#include <string>
#include <type_traits>

#include <storylm/core/device.hpp>
#include <storylm/core/dtype.hpp>
#include <storylm/core/error.hpp>
#if defined(STORYLM_WITH_CUDA)
#include <storylm/core/cuda_device.hpp>
#endif

#include "program.hpp"

namespace program {

#if defined(STORYLM_WITH_CUDA)
/// The GPU that the flags name. @throws storylm::CudaError in words when there is none
inline storylm::Cuda open_cuda(const ComputeFlags& flags) {
  int count = 0;
  const cudaError_t code = cudaGetDeviceCount(&count);
  storylm::expects<storylm::CudaError>(
      code == cudaSuccess && count > 0, "program", "device ", flags.device, ": no NVIDIA GPU can be used here (",
      code == cudaSuccess ? "there is none" : cudaGetErrorString(code), "); --device cpu works everywhere");
  return storylm::Cuda({.device = flags.gpu(), .tf32 = flags.tf32, .tune_matmul = flags.tune_matmul});
}
#endif

/// Calls f(std::type_identity<dtype>, device) with the dtype and the device that the flags name.
/// @tparam half_on_cpu as in the flags
/// @throws storylm::CudaError when there is no such GPU
template <bool half_on_cpu = false, class F>
decltype(auto) with_device(const ComputeFlags& flags, F&& f) {
#if defined(STORYLM_WITH_CUDA)
  if (flags.on_cuda()) {
    const storylm::Cuda device = open_cuda(flags);
    if (flags.dtype == "bfloat16") return f(std::type_identity<storylm::bf16>{}, device);
    if (flags.dtype == "float16") return f(std::type_identity<storylm::half>{}, device);
    return f(std::type_identity<float>{}, device);
  }
#endif
  const storylm::Cpu device({.threads = flags.threads});
  if (flags.dtype == "bfloat16") return f(std::type_identity<storylm::bf16>{}, device);
  if constexpr (half_on_cpu) {
    if (flags.dtype == "float16") return f(std::type_identity<storylm::half>{}, device);
  }
  return f(std::type_identity<float>{}, device);
}

/// What a run's log says of where it computes.
inline std::string described(const storylm::Cpu& device) {
  return std::to_string(thread_count(device.threads())) + " threads, " +
         std::string(to_string(device.instruction_set()));
}
#if defined(STORYLM_WITH_CUDA)
inline std::string described(const storylm::Cuda& device) { return "on " + device.properties().name; }
#endif

}  // namespace program
