// SPDX-License-Identifier: MIT
/// @file
/// @brief Whether the tests of the GPU can run.
#pragma once

#include <cstdlib>
#include <iostream>
#include <string>
#include <string_view>

#include <cuda_runtime.h>

namespace storylm::test {

inline constexpr int skipped = 77;  ///< what CTest takes for "not run"

/// Why there is no GPU to test on; empty where there is one. Any other trouble is no reason, and found by the tests.
inline std::string no_gpu() {
  int count = 0;
  const cudaError_t code = cudaGetDeviceCount(&count);
  if (code == cudaErrorNoDevice || code == cudaErrorInsufficientDriver || (code == cudaSuccess && count == 0)) {
    return std::string("no GPU (") + cudaGetErrorName(code) + ": " + cudaGetErrorString(code) + ')';
  }
  cudaDeviceProp properties{};
  if (code == cudaSuccess && cudaGetDeviceProperties(&properties, 0) == cudaSuccess && properties.major < 8) {
    return std::string(properties.name) + " has compute capability " + std::to_string(properties.major) + '.' +
           std::to_string(properties.minor) + ", needed is 8.0";
  }
  return {};
}

/// 0 where there is a GPU; else says why not and gives `skipped`, or 1 where STORYLM_REQUIRE_GPU is set and not 0.
inline int gpu_gate() {
  const std::string reason = no_gpu();
  if (reason.empty()) return 0;
  const char* const required = std::getenv("STORYLM_REQUIRE_GPU");
  if (required != nullptr && !std::string_view(required).empty() && std::string_view(required) != "0") {
    std::cerr << "failed: " << reason << ", and STORYLM_REQUIRE_GPU is set\n";
    return 1;
  }
  std::cout << "skipped: " << reason << '\n';
  return skipped;
}

}  // namespace storylm::test
