// LINK: io
// The whole model against PyTorch: logits, loss, every gradient, ten steps of Adam with clipping.
#include "model_reference_support.hpp"

using namespace storylm;

TEST_CASE("models agree with PyTorch in float: logits and loss 1e-5, gradients and ten Adam steps 1e-4") {
  for (const auto& name : test::reference_models)
    test::compare_with_pytorch<float>(name, "", Cpu{}, {.logits = 1e-5, .gradient = 1e-4, .training = 1e-4});
}

TEST_CASE("models agree with PyTorch in double, ten Adam steps to 1e-9") {
  for (const auto& name : test::reference_models)
    test::compare_with_pytorch<double>(name, "64", Cpu{}, {.logits = 1e-11, .gradient = 1e-10, .training = 1e-9});
}
