// SPDX-License-Identifier: MIT
// Each layer on CUDA beside itself on the CPU in double: outputs, gradients of the input and of every parameter, with
// dropout, with a tail of rows. What ops compute is tested in their own files, what layers make of them here.
#include <cmath>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <storylm/nn/block.hpp>
#include <storylm/nn/embedding.hpp>
#include <storylm/nn/head.hpp>

#include "cuda/support.hpp"

using namespace storylm;
using Values = std::vector<double>;

namespace {

constexpr index_t width = 32;
constexpr index_t vocab_size = 37;
const std::vector<index_t> lengths = {5, 0, 33, 1, 20};

/// A layer and what it needs, on one device.
template <class Layer, Device D>
struct Placed {
  using T = typename Layer::Element;

  template <class... Arguments>
  explicit Placed(const D& where, const Arguments&... arguments)
      : device(where), layer(arguments...), store(nn::allocate<T>(layer, device, nn::Gradients::yes)) {}

  /// Every parameter, in the order of visit, on the host.
  [[nodiscard]] std::vector<std::pair<std::string, Values>> gradients() {
    std::vector<std::pair<std::string, Values>> all;
    nn::for_each_parameter(layer, [&](const std::string& name, auto& p) {
      const auto values = p.gradient_to_host();
      all.emplace_back(name, Values(values.begin(), values.end()));
    });
    return all;
  }

  D device;
  Layer layer;
  nn::ParameterStore<T, D> store;
};

/// The same random values, which T can hold, for the parameters of both.
template <class T, class A, class B>
void randomise_alike(A& a, B& b) {
  std::vector<Values> values;
  std::uint64_t seed = 100;
  nn::for_each_parameter(a, [&](const std::string&, auto& p) {
    values.push_back(test::normal_values<T>(p.size(), seed++, 0.3));
    const std::vector<float> floats(values.back().begin(), values.back().end());
    p.assign(floats);
  });
  std::size_t at = 0;
  nn::for_each_parameter(b, [&](const std::string&, auto& p) { p.assign(values[at++]); });
}

/// A training pass over the same batch on both devices; on CUDA it has a tail.
struct Passes {
  Passes()
      : batch(lengths, vocab_size),
        state({.step = 5, .inverse_targets = 1.0 / 50}),
        cpu{.device = Cpu{}, .batch = batch.host(), .state = state.host(), .seed = 9, .training = true},
        cuda{.device = test::cuda_device(),
             .batch = batch.device(),
             .state = state.device(),
             .seed = 9,
             .training = true} {}

  [[nodiscard]] Capacity capacity() const { return {batch.rows(), batch.host().sequences, batch.host().longest}; }
  /// Values of the batch's rows for CUDA, `tail` in the rows behind.
  [[nodiscard]] Values padded(const Values& values, double tail) const {
    const auto columns = static_cast<index_t>(values.size()) / batch.tokens();
    return test::with_tail(values, (batch.rows() - batch.tokens()) * columns, tail);
  }

  test::TwinBatch batch;
  test::TwinState state;
  Pass<Cpu> cpu;
  Pass<Cuda> cuda;
};

/// A layer rounds a few times in a row, and what it sums cancels in part.
template <class T>
void check(const std::string& what, const Values& actual, const Values& expected) {
  test::check_close<T>(what, test::without_tail(actual, static_cast<index_t>(expected.size())), expected, 4.0);
  const Values tail(actual.begin() + static_cast<std::ptrdiff_t>(expected.size()), actual.end());
  CAPTURE(what);
  for (const double v : tail) CHECK(std::isfinite(v));
}
template <class T, class A, class B>
void check_gradients(A& actual, B& expected) {
  const auto ours = actual.gradients();
  const auto theirs = expected.gradients();
  for (std::size_t i = 0; i < ours.size(); ++i) {
    test::check_close<T>(ours[i].first, ours[i].second, theirs[i].second, 6.0);
  }
}

/// Rows of `columns` values that T can hold.
template <class T>
Values rows_of(const Passes& passes, index_t columns, std::uint64_t seed) {
  return test::normal_values<T>(passes.batch.tokens() * columns, seed);
}
template <class T>
Values to_doubles(MatrixView<T> m, const Cuda& device) {
  auto copy = Tensor<std::remove_const_t<T>, Cuda>::uninitialised({m.rows, m.cols}, device);
  REQUIRE(m.stride == m.cols);
  device.copy(copy.data(), m.data, copy.bytes());
  return test::to_doubles(copy);
}
Values to_doubles(MatrixView<const double> m) { return {m.data, m.data + m.rows * m.cols}; }

/// Of the layers with one input.
template <class T, template <class, class> class Layer, class Options>
void compare(const std::string& name, const Options& options) {
  CAPTURE(name);
  test::for_each_schedule(
      [&](unsigned) {
        Passes passes;
        Placed<Layer<T, Cuda>, Cuda> ours(test::cuda_device(), options);
        Placed<Layer<double, Cpu>, Cpu> theirs(Cpu{}, options);
        randomise_alike<T>(ours.layer, theirs.layer);
        const Values x = rows_of<T>(passes, width, 1);
        const Values dy = rows_of<T>(passes, width, 2);
        const Values plus = rows_of<T>(passes, width, 3);
        const Shape shape{passes.batch.tokens(), width};
        const Shape padded{passes.batch.rows(), width};

        auto cpu_cache = theirs.layer.make_cache(theirs.device, passes.capacity());
        const auto cpu_x = test::to_cpu(x, shape);
        auto cpu_dy = test::to_cpu(dy, shape);
        const auto cpu_plus = test::to_cpu(plus, shape);
        auto cpu_dx = test::to_cpu(dy, shape);
        const Values y = to_doubles(theirs.layer.forward(cpu_x.matrix(), passes.cpu, cpu_cache));
        theirs.layer.backward(cpu_x.matrix(), cpu_dy.matrix(), cpu_dx.matrix(), passes.cpu, cpu_cache,
                              cpu_plus.matrix());

        auto cache = ours.layer.make_cache(ours.device, passes.capacity());
        const auto cuda_x = test::to_cuda<T>(passes.padded(x, 1.0), padded);
        auto cuda_dy = test::to_cuda<T>(passes.padded(dy, 0.0), padded);
        const auto cuda_plus = test::to_cuda<T>(passes.padded(plus, 0.0), padded);
        auto cuda_dx = test::poisoned<T>(padded);
        check<T>("y", to_doubles(ours.layer.forward(cuda_x.matrix(), passes.cuda, cache), ours.device), y);
        ours.layer.backward(cuda_x.matrix(), cuda_dy.matrix(), cuda_dx.matrix(), passes.cuda, cache,
                            cuda_plus.matrix());
        check<T>("dx", test::to_doubles(cuda_dx), test::to_doubles(cpu_dx));
        const Values dx = test::to_doubles(cuda_dx);
        for (std::size_t i = cpu_dx.to_host().size(); i < dx.size(); ++i) CHECK(dx[i] == 0.0);
        check_gradients<T>(ours, theirs);
      },
      2);
}

nn::BlockOptions block_options(bool pre_norm) {
  return {.attention = {.width = width,
                        .spec = {.heads = 2, .kv_heads = 1, .head_dim = 16},
                        .rope = nn::RopeOptions{.theta = 100.0},
                        .dropout = {0.1, 21}},
          .feed_forward = {.width = width, .hidden = 48, .activation = Activation::gelu_erf, .dropout = {0.1, 22}},
          .norm = {.width = width},
          .pre_norm = pre_norm,
          .attention_branch = {0.1, 23},
          .feed_forward_branch = {0.1, 24}};
}

/// A block with a stream of a residual and, before norms, a branch.
template <class T, template <class, class> class Norm, template <class, class> class FeedForward>
void compare_block(bool pre_norm) {
  CAPTURE(pre_norm);
  Passes passes;
  Placed<nn::Block<T, Cuda, Norm, FeedForward>, Cuda> ours(test::cuda_device(), block_options(pre_norm));
  Placed<nn::Block<double, Cpu, Norm, FeedForward>, Cpu> theirs(Cpu{}, block_options(pre_norm));
  randomise_alike<T>(ours.layer, theirs.layer);
  const Values residual = rows_of<T>(passes, width, 1);
  const Values branch = rows_of<T>(passes, width, 2);
  const Values dresidual = rows_of<T>(passes, width, 3);
  const Values dbranch = rows_of<T>(passes, width, 4);
  const auto run = [&](auto& placed, auto& pass, const auto& upload, auto&& read) {
    auto cache = placed.layer.make_cache(placed.device, passes.capacity());
    const auto in = upload(residual, 1.0);
    const auto beside = upload(branch, 1.0);
    auto d = upload(dresidual, 0.0);
    auto d_beside = upload(dbranch, 0.0);
    using Element = typename std::remove_cvref_t<decltype(placed)>::T;
    const nn::ResidualStream<const Element> stream{
        in.matrix(), pre_norm ? beside.matrix() : MatrixView<const Element>{}, {0.1, 25}};
    const auto out = placed.layer.forward(stream, pass, cache);
    std::vector<Values> results = {read(out.residual)};
    if (pre_norm) results.push_back(read(out.branch));
    placed.layer.backward(stream, {d.matrix(), d_beside.matrix(), {}}, pass, cache);
    results.push_back(read(MatrixView<const Element>(d.matrix())));
    if (pre_norm) results.push_back(read(MatrixView<const Element>(d_beside.matrix())));
    return results;
  };
  const auto expected = run(
      theirs, passes.cpu,
      [&](const Values& v, double) {
        return test::to_cpu(v, {passes.batch.tokens(), width});
      },
      [](MatrixView<const double> m) { return to_doubles(m); });
  const auto actual = run(
      ours, passes.cuda,
      [&](const Values& v, double tail) {
        return test::to_cuda<T>(passes.padded(v, tail), {passes.batch.rows(), width});
      },
      [&](MatrixView<const T> m) { return to_doubles(m, ours.device); });
  REQUIRE(actual.size() == expected.size());
  for (std::size_t i = 0; i < actual.size(); ++i) check<T>("result " + std::to_string(i), actual[i], expected[i]);
  check_gradients<T>(ours, theirs);
}

}  // namespace

TEST_CASE_TEMPLATE("Linear", T, STORYLM_CUDA_DTYPES) {
  compare<T, nn::Linear>("with bias", nn::LinearOptions{.in = width, .out = width});
  compare<T, nn::Linear>("without", nn::LinearOptions{.in = width, .out = width, .bias = false});
}

TEST_CASE_TEMPLATE("CausalSelfAttention", T, STORYLM_CUDA_DTYPES) {
  nn::AttentionOptions options{
      .width = width, .spec = {.heads = 2, .kv_heads = 2, .head_dim = 16}, .dropout = {0.1, 4}};
  compare<T, nn::CausalSelfAttention>("plain", options);
  options.spec = {.heads = 4, .kv_heads = 2, .head_dim = 8, .window = 7};
  options.rope = nn::RopeOptions{.theta = 100.0, .layout = RopeLayout::interleaved};
  options.qkv_bias = options.out_bias = false;
  compare<T, nn::CausalSelfAttention>("grouped, turned, in a window", options);
}

TEST_CASE_TEMPLATE("Mlp and SwiGlu", T, STORYLM_CUDA_DTYPES) {
  for (const double dropout : {0.0, 0.1}) {
    CAPTURE(dropout);
    nn::FeedForwardOptions options{.width = width, .hidden = 136, .dropout = {dropout, 6}};
    for (const Activation activation : {Activation::relu, Activation::gelu_tanh, Activation::gelu_erf}) {
      options.activation = activation;
      compare<T, nn::Mlp>("activation " + std::to_string(static_cast<int>(activation)), options);
    }
    compare<T, nn::SwiGlu>("gated", options);
  }
}

TEST_CASE_TEMPLATE("Block, with LayerNorm and RmsNorm", T, STORYLM_CUDA_DTYPES) {
  for (const bool pre_norm : {false, true}) {
    compare_block<T, nn::LayerNorm, nn::Mlp>(pre_norm);
    compare_block<T, nn::RmsNorm, nn::SwiGlu>(pre_norm);
  }
}

TEST_CASE_TEMPLATE("Embedding", T, STORYLM_CUDA_DTYPES) {
  for (const auto positions : {nn::AddedPositions::none, nn::AddedPositions::sinusoidal, nn::AddedPositions::learned}) {
    const nn::EmbeddingOptions options{
        .vocab_size = vocab_size, .width = width, .max_len = 40, .positions = positions, .scale = true, .dropout = 0.1};
    Passes passes;
    Placed<nn::Embedding<T, Cuda>, Cuda> ours(test::cuda_device(), options, test::cuda_device());
    Placed<nn::Embedding<double, Cpu>, Cpu> theirs(Cpu{}, options, Cpu{});
    randomise_alike<T>(ours.layer, theirs.layer);
    auto cache = ours.layer.make_cache(ours.device, passes.capacity());
    auto cpu_cache = theirs.layer.make_cache(theirs.device, passes.capacity());
    check<T>("y", to_doubles(ours.layer.forward(passes.cuda, cache), ours.device),
             to_doubles(theirs.layer.forward(passes.cpu, cpu_cache)));
    const Values dy = rows_of<T>(passes, width, 2);
    const auto cuda_dy = test::to_cuda<T>(passes.padded(dy, 0.0), {passes.batch.rows(), width});
    const auto cpu_dy = test::to_cpu(dy, {passes.batch.tokens(), width});
    ours.layer.backward(cuda_dy.matrix(), passes.cuda);
    theirs.layer.backward(cpu_dy.matrix(), passes.cpu);
    check_gradients<T>(ours, theirs);
  }
}

TEST_CASE_TEMPLATE("Head", T, STORYLM_CUDA_DTYPES) {
  const nn::HeadOptions options{.width = width, .vocab_size = vocab_size};
  Passes passes;
  Placed<nn::Head<T, Cuda>, Cuda> ours(test::cuda_device(), options);
  Placed<nn::Head<double, Cpu>, Cpu> theirs(Cpu{}, options);
  randomise_alike<T>(ours.layer, theirs.layer);
  const Values hidden = rows_of<T>(passes, width, 1);
  const auto run = [&](auto& placed, auto& pass, const auto& x, StepState* state) {
    auto cache = placed.layer.make_cache(placed.device, passes.capacity());
    placed.layer.loss(x.matrix(), placed.layer.weight->value(), &state->loss_sum, pass, &cache);
    const auto dhidden = placed.layer.backward(x.shape()[0], placed.layer.weight->gradient(), pass, cache);
    if constexpr (std::is_same_v<std::remove_cvref_t<decltype(placed.device)>, Cpu>) {
      return to_doubles(dhidden);
    } else {
      return to_doubles(dhidden, placed.device);
    }
  };
  const auto cuda_x = test::to_cuda<T>(passes.padded(hidden, 1.0), {passes.batch.rows(), width});
  const auto cpu_x = test::to_cpu(hidden, {passes.batch.tokens(), width});
  const Values expected = run(theirs, passes.cpu, cpu_x, passes.state.host());
  const Values actual = run(ours, passes.cuda, cuda_x, passes.state.device());
  check<T>("dhidden", actual, expected);
  for (std::size_t i = expected.size(); i < actual.size(); ++i) CHECK(actual[i] == 0.0);
  check_gradients<T>(ours, theirs);
  const double loss = passes.state.host()->loss_sum;
  CHECK(std::abs(passes.state.read().loss_sum - loss) <= test::tolerance_of<T> * loss);
}
