// SPDX-License-Identifier: MIT
/// @file
/// @brief What a refused call of the CUDA runtime becomes.
#pragma once

#include <cuda_runtime.h>

#include <storylm/core/error.hpp>

namespace storylm {

/// A call of the CUDA runtime or of cuBLASLt failed: out of memory, no device, a kernel that went wrong.
struct CudaError : Error {
  using Error::Error;
};

namespace detail {
/// The cold path of STORYLM_CUDA_CHECK.
inline void expects_cuda_success(cudaError_t code, const char* call, const char* file, int line) {
  if (code == cudaSuccess) [[likely]]
    return;
  static_cast<void>(cudaGetLastError());  // else a later launch, which asks for it, would be blamed
  fail<CudaError>("cuda", cudaGetErrorName(code), ": ", cudaGetErrorString(code), " (", call, ", ", file, ':', line,
                  ')');
}
}  // namespace detail

}  // namespace storylm

/// Every call of the CUDA runtime stands inside this. @throws CudaError naming the call
#define STORYLM_CUDA_CHECK(call) ::storylm::detail::expects_cuda_success((call), #call, __FILE__, __LINE__)
