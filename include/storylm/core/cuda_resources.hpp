// SPDX-License-Identifier: MIT
/// @file
/// @brief What the CUDA runtime hands out, as types that give it back: streams, events, pinned memory, pools, graphs.
#pragma once

#include <cstddef>
#include <memory>
#include <type_traits>

#include <storylm/core/cuda_error.hpp>

namespace storylm::cuda {

namespace detail {
/// Destroys on scope exit; what a destructor is told of failures it keeps to itself.
template <auto Destroy>
struct Destroyer {
  template <class T>
  void operator()(T* handle) const noexcept {
    static_cast<void>(Destroy(handle));
  }
};
template <class Handle, auto Destroy>
using Unique = std::unique_ptr<std::remove_pointer_t<Handle>, Destroyer<Destroy>>;
}  // namespace detail

using Stream = detail::Unique<cudaStream_t, cudaStreamDestroy>;                ///< an order of work
using Event = detail::Unique<cudaEvent_t, cudaEventDestroy>;                   ///< a point in it
using Pool = detail::Unique<cudaMemPool_t, cudaMemPoolDestroy>;                ///< where device memory comes from
using Graph = detail::Unique<cudaGraph_t, cudaGraphDestroy>;                   ///< recorded work
using GraphExecution = detail::Unique<cudaGraphExec_t, cudaGraphExecDestroy>;  ///< recorded work, ready to run
using PinnedMemory = detail::Unique<void*, cudaFreeHost>;  ///< host memory that copies need not stage

/// A stream that does not wait for the legacy default stream. @throws CudaError
[[nodiscard]] inline Stream make_stream() {
  cudaStream_t stream{};
  STORYLM_CUDA_CHECK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  return Stream(stream);
}

/// True while what the stream is given is recorded instead of done. @throws CudaError
[[nodiscard]] inline bool is_capturing(cudaStream_t stream) {
  cudaStreamCaptureStatus status{};
  STORYLM_CUDA_CHECK(cudaStreamIsCapturing(stream, &status));
  return status != cudaStreamCaptureStatusNone;
}

/// An event without a time. @throws CudaError
[[nodiscard]] inline Event make_event() {
  cudaEvent_t event{};
  STORYLM_CUDA_CHECK(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
  return Event(event);
}

/// An event with a time, for cudaEventElapsedTime. @throws CudaError
[[nodiscard]] inline Event make_timer() {
  cudaEvent_t event{};
  STORYLM_CUDA_CHECK(cudaEventCreate(&event));
  return Event(event);
}

/// Page-locked host memory. @throws CudaError
[[nodiscard]] inline PinnedMemory make_pinned(std::size_t bytes) {
  void* memory{};
  STORYLM_CUDA_CHECK(cudaMallocHost(&memory, bytes));
  return PinnedMemory(memory);
}

/// A pool of a device's memory that keeps what is given back to it. @throws CudaError
[[nodiscard]] inline Pool make_pool(int device) {
  cudaMemPoolProps properties{};
  properties.allocType = cudaMemAllocationTypePinned;
  properties.location.type = cudaMemLocationTypeDevice;
  properties.location.id = device;
  cudaMemPool_t pool{};
  STORYLM_CUDA_CHECK(cudaMemPoolCreate(&pool, &properties));
  Pool owner(pool);
  unsigned long long keep = ~0ULL;
  STORYLM_CUDA_CHECK(cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &keep));
  return owner;
}

}  // namespace storylm::cuda
