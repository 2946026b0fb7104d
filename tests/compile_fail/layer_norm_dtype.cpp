// EXPECT: storylm: op::layer_norm has no kernel for this dtype on this device
#include <storylm/ops/layer_norm.hpp>

// A device that nobody has written kernels for.
struct Elsewhere : storylm::Cpu {};

int main() {
  const storylm::MatrixView<storylm::half> x;
  const storylm::MatrixView<float> stats;
  storylm::ops::layer_norm(Elsewhere(), x, {}, stats, x, {}, x, x, 1e-5);
}
