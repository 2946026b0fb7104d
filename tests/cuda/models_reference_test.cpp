// SPDX-License-Identifier: MIT
// LINK: io
// TIMEOUT: 900
// Whole models on CUDA against PyTorch's files: logits, loss, every gradient, ten steps of Adam with clipping.
#include "cuda/support.hpp"
#include "model_reference_support.hpp"

using namespace storylm;

TEST_CASE("models agree with PyTorch in true fp32") {
  for (const auto& name : test::reference_models) {
    test::compare_with_pytorch<float>(name, "", test::cuda_device(),
                                      {.logits = 2e-5, .gradient = 1e-4, .training = 2e-4});
  }
}

// The 16-bit types differ from fp32 by their rounding alone: everywhere by the same factor of 8, which is that of their
// roundings. The ReLU models have few tokens, and a ReLU that rounding switches counts.
TEST_CASE("models agree with PyTorch in bfloat16, as far as it goes") {
  for (const auto& name : test::reference_models) {
    test::compare_with_pytorch<bf16>(name, "", test::cuda_device(),
                                     {.logits = 2e-2, .gradient = 2.5e-1, .training = 3e-2, .zero = 3e-3});
  }
}

TEST_CASE("models agree with PyTorch in half, as far as it goes") {
  for (const auto& name : test::reference_models) {
    test::compare_with_pytorch<half>(name, "", test::cuda_device(),
                                     {.logits = 3e-3, .gradient = 3.2e-2, .training = 1e-2, .zero = 3e-4});
  }
}
