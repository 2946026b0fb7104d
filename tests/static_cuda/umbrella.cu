// SPDX-License-Identifier: MIT
// A user's .cu: the umbrella under nvcc, an op called on Cuda, and a kernel of one's own beside it.
#include <storylm/storylm.hpp>

namespace {

static_assert(storylm::Device<storylm::Cuda>);
static_assert(storylm::Supports<storylm::Cuda, storylm::op::add, storylm::bf16>);
static_assert(!storylm::Supports<storylm::Cuda, storylm::op::add, double>);

__global__ void negate(float* x, storylm::index_t n) {
  const storylm::index_t i = static_cast<storylm::index_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < n) x[i] = -x[i];
}

}  // namespace

/// y -= x; x becomes -x.
void subtract(const storylm::Cuda& device, storylm::Tensor<float, storylm::Cuda>& y,
              storylm::Tensor<float, storylm::Cuda>& x) {
  const auto blocks = static_cast<unsigned>((x.size() + 255) / 256);
  negate<<<blocks, 256, 0, device.stream()>>>(x.data(), x.size());
  STORYLM_CUDA_CHECK(cudaGetLastError());
  storylm::ops::add(device, y.matrix(), x.matrix());
}
