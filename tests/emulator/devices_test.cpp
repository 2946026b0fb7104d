// SPDX-License-Identifier: MIT
/// @file
/// @brief Several GPUs in one host thread: work goes to the GPU it is given to, whichever was made last. The emulator
/// has two, and refuses launches and events that belong to one that is not current, as CUDA does.
#include <cstring>
#include <vector>

#include <storylm/kernels/cuda/add.hpp>
#include <storylm/tensor/tensor.hpp>

#include "cuda/support.hpp"

using namespace storylm;

namespace {

Tensor<float, Cuda> ones(const Cuda& device) {
  return Tensor<float, Cuda>::from_host({2, 8}, std::vector<float>(16, 1.0F), device);
}
void add(const Cuda& device, Tensor<float, Cuda>& to, const Tensor<float, Cuda>& from) {
  kernel<op::add, Cuda, float>::run(device, to.matrix(), from.matrix());
}

}  // namespace

TEST_CASE("launches, marks, copies and recordings of two GPUs take turns") {
  const Cuda first({.device = 0});
  const Cuda second({.device = 1});
  auto a = ones(first);
  auto b = ones(second);
  const auto one_a = ones(first);
  const auto one_b = ones(second);
  Cuda::Recording recordings[2];
  Cuda::Mark marks[2];
  for (int i = 0; i < 4; ++i) {
    recordings[0].run(first, [&] { add(first, a, one_a); });
    recordings[1].run(second, [&] { add(second, b, one_b); });
    first.mark(marks[0]);
    second.mark(marks[1]);
    first.wait_for(marks[1]);
    second.wait_for(first);
  }
  add(first, a, one_a);
  Cuda::Readback of_first(first, sizeof(float));  // made while the other is current
  static_cast<void>(second.stream());
  Cuda::Readback of_second(first, sizeof(float));
  static_cast<void>(second.stream());
  of_first.post(a.data());
  of_second.post(a.data());
  float value = 0.0F;
  std::memcpy(&value, of_second.wait(), sizeof(value));
  CHECK(value == 6.0F);
  CHECK(a.to_host() == std::vector<float>(16, 6.0F));
  CHECK(b.to_host() == std::vector<float>(16, 5.0F));
}
