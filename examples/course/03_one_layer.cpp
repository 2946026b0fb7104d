// SPDX-License-Identifier: MIT
// One layer on its own: memory for its parameters, forward, backward, and its gradients against finite differences.
// Run time: no time at all.
// expected last line: 48 gradients agree with finite differences
#include <cmath>
#include <iostream>

#include <storylm/storylm.hpp>

using namespace storylm;

int main() {
  using Layer = nn::Mlp<double, Cpu>;  // y = down(gelu(up x)); in double, so that differences are worth something
  const Cpu device;
  constexpr index_t tokens = 5, width = 4;
  Layer layer({.width = width, .hidden = 6, .bias = false, .activation = Activation::gelu_erf});

  // The constructor has recorded shapes. allocate() lays out values and gradients and returns who owns them.
  auto store = nn::allocate<double>(layer, device, nn::Gradients::yes);
  RandomStream random(1);
  nn::for_each_parameter(layer, [&](const std::string& name, auto& p) {
    nn::init_normal(p, 0.5, random);
    std::cout << name << ' ' << p.shape() << '\n';
  });
  std::vector<double> values(tokens * width);
  for (double& v : values) v = random.normal();
  auto x = Tensor<double, Cpu>::from_host({tokens, width}, values, device);   // (tokens, width)
  auto dy = Tensor<double, Cpu>::from_host({tokens, width}, values, device);  // (tokens, width)  any will do
  Tensor<double, Cpu> dx({tokens, width}, device);                            // (tokens, width)

  // The cache holds what backward needs; the pass what differs from call to call.
  auto cache = layer.make_cache(device, {.tokens = tokens, .sequences = 1, .longest = tokens});
  const Pass<Cpu> pass{.device = device, .batch = {}};
  const auto loss = [&] {  // sum of dy * y, whose gradient with respect to y is dy
    const auto y = layer.forward(x.matrix(), pass, cache);
    double sum = 0.0;
    for (index_t i = 0; i < tokens * width; ++i) sum += values[static_cast<std::size_t>(i)] * y.data[i];
    return sum;
  };
  loss();
  store.zero_gradients();  // backward adds to gradients
  layer.backward(std::as_const(x).matrix(), dy.matrix(), dx.matrix(), pass, cache);

  int agreeing = 0;
  nn::for_each_parameter(layer, [&](const std::string&, auto& p) {
    std::vector<double> w = p.to_host();
    const std::vector<double> gradient = p.gradient_to_host();
    for (std::size_t i = 0; i < w.size(); ++i) {
      constexpr double h = 1e-5;
      const double kept = w[i];
      const auto loss_at = [&](double value) { return w[i] = value, p.assign(w), loss(); };
      const double difference = (loss_at(kept + h) - loss_at(kept - h)) / (2 * h);
      loss_at(kept);
      agreeing += std::abs(difference - gradient[i]) < 1e-6 * (1 + std::abs(difference)) ? 1 : 0;
    }
  });
  std::cout << agreeing << " gradients agree with finite differences\n";
}
