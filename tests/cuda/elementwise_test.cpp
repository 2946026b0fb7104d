// SPDX-License-Identifier: MIT
/// @file
/// @brief activation, swiglu, rope, column_sum, scale_to_mean, gather_rows and sum on CUDA against the CPU in double.
#include <storylm/kernels/cpu/dispatch.hpp>
#include <storylm/kernels/cpu/gather_rows.hpp>
#include <storylm/kernels/cuda/activation.hpp>
#include <storylm/kernels/cuda/column_sum.hpp>
#include <storylm/kernels/cuda/gather_rows.hpp>
#include <storylm/kernels/cuda/rope.hpp>
#include <storylm/kernels/cuda/scale_to_mean.hpp>
#include <storylm/kernels/cuda/sum.hpp>
#include <storylm/kernels/cuda/swiglu.hpp>

#include "rows_support.hpp"

namespace {
using namespace storylm;
using namespace storylm::test;

/// A matrix to try an op on.
struct Size {
  index_t rows = 0;  ///< of sequences; more belong to the tail
  index_t cols = 0;
  Layout layout = dense;
  index_t tail = 3;
};
/// Every count of rows and columns of the list, and every layout, but not each with each.
const std::vector<Size> sizes = {
    {0, 32, dense, 0}, {1, 8},          {31, 20},          {33, 64},  {65, 32},          {300, 40}, {7, 256},
    {6, 512},          {5, 1000},       {3, 1600},         {4, 2048}, {3, 2056},         {300, 4},  {10, 64, spaced},
    {9, 20, spaced},   {9, 64, skewed}, {5, 1000, skewed}, {2, 4200}, {3, 40, dense, 40}};

MatrixView<double> matrix(std::vector<double>& values, index_t cols) {
  return {values.data(), static_cast<index_t>(values.size()) / cols, cols};
}
std::string text(const Size& size) {
  return std::to_string(size.rows) + " x " + std::to_string(size.cols) + " gap " + std::to_string(size.layout.gap);
}
void next_schedule() {
#if __has_include(<emulator/engine.hpp>)
  static unsigned seed = 0;
  emulator::set_seed(++seed);
#endif
}

// activation

template <class T>
void check_activation(const Size& size, Activation function, double probability, bool in_place) {
  CAPTURE(text(size));
  CAPTURE(static_cast<int>(function));
  CAPTURE(probability);
  next_schedule();
  using Kernel = kernel<op::activation, Cuda, T>;
  using Reference = kernel<op::activation, Cpu, double>;
  const RowsBatch batch(size.rows, size.tail);
  const TwinDropout dropout(probability);
  const PackedView packed = dropout.device.active() ? batch.device() : PackedView{};
  const index_t rows = batch.rows();
  auto x = normal_values<T>(rows * size.cols, 1, 3.0);
  auto dy = normal_values<T>(rows * size.cols, 2);
  Rows<T> device_x(rows, size.cols, x, size.layout);
  Rows<T> device_dy(rows, size.cols, dy, size.layout);
  Rows<T> own_y(rows, size.cols, size.layout);
  Rows<T> own_dx(rows, size.cols, size.layout);
  Rows<T>& device_y = in_place && !Kernel::needs_input(function) ? device_x : own_y;
  Rows<T>& device_dx = in_place ? device_dy : own_dx;
  const auto only = [](bool there, Rows<T>& m) { return there ? m.view() : MatrixView<T>{}; };

  Kernel::run(cuda_device(), device_y.view(), device_x.view(), function, dropout.device, packed);
  Kernel::backward(cuda_device(), device_dx.view(), device_dy.view(), only(Kernel::needs_input(function), device_x),
                   only(!Kernel::needs_input(function), device_y), function, dropout.device, packed);

  const Cpu cpu({.threads = 1});
  std::vector<double> y(x.size());
  std::vector<double> dx(x.size());
  on_host(batch, dropout.host, [&](index_t first, index_t n, const DropoutSpec& spec, const PackedView& view) {
    const auto part = [&](std::vector<double>& m) { return matrix(m, size.cols).slice_rows(first, n); };
    Reference::run(cpu, part(y), part(x), function, spec, view);
    Reference::backward(cpu, part(dx), part(dy), part(x), part(y), function, spec, view);
  });
  check_rounded<T>("y", device_y.values(), y);
  check_rounded<T>("dx", device_dx.values(), dx);
  CHECK(device_y.gaps_untouched());
  CHECK(device_dx.gaps_untouched());
}

// swiglu

template <class T>
void check_swiglu(const Size& size, double probability, bool in_place) {
  CAPTURE(text(size));
  CAPTURE(probability);
  next_schedule();
  const RowsBatch batch(size.rows, size.tail);
  const TwinDropout dropout(probability);
  const PackedView packed = dropout.device.active() ? batch.device() : PackedView{};
  const index_t rows = batch.rows();
  const index_t width = size.cols;
  auto gate_up = normal_values<T>(rows * 2 * width, 1, 3.0);
  auto dy = normal_values<T>(rows * width, 2);
  Rows<T> device_gate_up(rows, 2 * width, gate_up, size.layout);
  Rows<T> device_dy(rows, width, dy, size.layout);
  Rows<T> device_y(rows, width, size.layout);
  Rows<T> own(rows, 2 * width, size.layout);
  Rows<T>& device_dgate_up = in_place ? device_gate_up : own;
  using Kernel = kernel<op::swiglu, Cuda, T>;
  Kernel::run(cuda_device(), device_y.view(), device_gate_up.view(), dropout.device, packed);
  Kernel::backward(cuda_device(), device_dgate_up.view(), device_dy.view(), device_gate_up.view(), dropout.device,
                   packed);

  const Cpu cpu({.threads = 1});
  std::vector<double> y(dy.size());
  std::vector<double> dgate_up(gate_up.size());
  on_host(batch, dropout.host, [&](index_t first, index_t n, const DropoutSpec& spec, const PackedView& view) {
    const auto part = [&](std::vector<double>& m, index_t cols) { return matrix(m, cols).slice_rows(first, n); };
    using Reference = kernel<op::swiglu, Cpu, double>;
    Reference::run(cpu, part(y, width), part(gate_up, 2 * width), spec, view);
    Reference::backward(cpu, part(dgate_up, 2 * width), part(dy, width), part(gate_up, 2 * width), spec, view);
  });
  check_rounded<T>("y", device_y.values(), y);
  check_rounded<T>("dgate_up", device_dgate_up.values(), dgate_up);
  CHECK(device_y.gaps_untouched());
  CHECK(device_dgate_up.gaps_untouched());
}

// rope

template <class T>
void check_rope(const AttentionSpec& spec, index_t tokens, double theta, RopeLayout order, Layout layout,
                index_t furthest) {
  CAPTURE(spec.head_dim);
  CAPTURE(theta);
  CAPTURE(static_cast<int>(order));
  next_schedule();
  const index_t tail = 4;
  const RowsBatch batch(tokens, tail, 3, furthest);
  const index_t width = spec.qkv_width();
  auto qkv = normal_values<T>(batch.rows() * width, 1);
  for (const bool inverse : {false, true}) {
    Rows<T> device(batch.rows(), width, qkv, layout);
    kernel<op::rope, Cuda, T>::run(cuda_device(), device.view(), spec, theta, order, inverse, batch.device());
    auto expected = qkv;  // the tail stays as it is
    kernel<op::rope, Cpu, double>::run(Cpu({.threads = 1}), matrix(expected, width).slice_rows(0, tokens), spec, theta,
                                       order, inverse, batch.host());
    check_rounded<T>("qkv", device.values(), expected, 2.5e-7);
    CHECK(device.gaps_untouched());
  }
}

}  // namespace

TEST_CASE_TEMPLATE("activation agrees with the CPU in double", T, STORYLM_CUDA_DTYPES) {
  for (const Activation function : {Activation::relu, Activation::gelu_tanh, Activation::gelu_erf}) {
    for (const Size& size : sizes) {
      for (const double dropout : {0.0, 0.1}) check_activation<T>(size, function, dropout, size.cols % 3 == 0);
    }
    for (const Size& size : {Size{33, 64}, Size{9, 20}, Size{4, 40, skewed}}) {
      check_activation<T>(size, function, 0.1, true);
    }
  }
}

TEST_CASE_TEMPLATE("activation of extremes: neither NaN nor lost", T, STORYLM_CUDA_DTYPES) {
  const double most = std::is_same_v<T, half> ? 60000.0 : 1e30;
  const std::vector<double> values = {most, -most, 80.0, -80.0, 12.0, -12.0, 1e-4, -1e-4, 0.0, -0.0};
  const auto n = static_cast<index_t>(values.size());
  std::vector<double> x(values);
  for (double& v : x) v = rounded<T>(v);
  for (const Activation function : {Activation::relu, Activation::gelu_tanh, Activation::gelu_erf}) {
    CAPTURE(static_cast<int>(function));
    Rows<T> device_x(1, n, x);
    Rows<T> y(1, n);
    Rows<T> dx(1, n);
    Rows<T> dy(1, n, std::vector<double>(values.size(), 1.0));
    kernel<op::activation, Cuda, T>::run(cuda_device(), y.view(), device_x.view(), function, {}, {});
    kernel<op::activation, Cuda, T>::backward(cuda_device(), dx.view(), dy.view(), device_x.view(), y.view(), function,
                                              {}, {});
    const std::vector<double> found = y.values();
    const std::vector<double> slope = dx.values();
    for (std::size_t i = 0; i < 4; ++i) {
      CHECK(found[i] == (x[i] > 0.0 ? x[i] : 0.0));
      CHECK(slope[i] == (x[i] > 0.0 ? 1.0 : 0.0));
    }
    for (std::size_t i = 4; i < values.size(); ++i) {
      CHECK(std::abs(found[i]) <= std::abs(x[i]) * 1.001);
      CHECK(std::abs(slope[i]) <= 1.01);
    }
  }
}

TEST_CASE_TEMPLATE("swiglu agrees with the CPU in double", T, STORYLM_CUDA_DTYPES) {
  for (const Size& size : sizes) {
    for (const double dropout : {0.0, 0.1}) check_swiglu<T>(size, dropout, size.cols % 3 == 0);
  }
  for (const Size& size : {Size{33, 64}, Size{9, 20}, Size{4, 40, skewed}}) check_swiglu<T>(size, 0.1, true);
}

TEST_CASE_TEMPLATE("rope agrees with the CPU in double, near and far", T, STORYLM_CUDA_DTYPES) {
  for (const RopeLayout order : {RopeLayout::half_split, RopeLayout::interleaved}) {
    for (const index_t head_dim : {2, 6, 16, 20, 32, 64, 80, 128}) {
      check_rope<T>({.heads = 2, .kv_heads = 1, .head_dim = head_dim}, 37, 10000.0, order, dense, 32768);
    }
    check_rope<T>({.heads = 6, .kv_heads = 3, .head_dim = 32}, 33, 1e6, order, spaced, 32768);
    check_rope<T>({.heads = 4, .kv_heads = 4, .head_dim = 16}, 65, 500.0, order, skewed, 1000);
    check_rope<T>({.heads = 1, .kv_heads = 1, .head_dim = 272}, 5, 1e6, order, dense, 32768);  // two launches
    check_rope<T>({.heads = 1, .kv_heads = 1, .head_dim = 16}, 0, 1e4, order, dense, 100);
    check_rope<T>({.heads = 3, .kv_heads = 1, .head_dim = 16}, 300, 1e4, order, dense, 4000);
  }
}

TEST_CASE_TEMPLATE("column_sum adds the sum of each column", T, STORYLM_CUDA_DTYPES) {
  for (const Size& size : sizes) {
    CAPTURE(text(size));
    next_schedule();
    auto x = normal_values<T>(size.rows * size.cols, 1);
    auto expected = normal_values<float>(size.cols, 2);
    Rows<T> device_x(size.rows, size.cols, x, size.layout);
    Rows<float> sum(1, size.cols, expected);
    kernel<op::column_sum, Cuda, T, float>::run(cuda_device(), sum.view().data, device_x.view());
    kernel<op::column_sum, Cpu, double, double>::run(Cpu({.threads = 1}), expected.data(), matrix(x, size.cols));
    check_rounded<float>("dsum", sum.values(), expected, 1e-6);
    CHECK(sum.gaps_untouched());
  }
}

TEST_CASE_TEMPLATE("column_sum of many rows keeps what is small", T, STORYLM_CUDA_DTYPES) {
  const index_t rows = 9000;  // several rounds of the second step
  const index_t cols = 16;
  auto x = normal_values<T>(rows * cols, 1);
  std::vector<double> expected(cols, 0.0);
  Rows<T> device_x(rows, cols, x);
  Rows<float> sum(1, cols, expected);
  kernel<op::column_sum, Cuda, T, float>::run(cuda_device(), sum.view().data, device_x.view());
  kernel<op::column_sum, Cpu, double, double>::run(Cpu({.threads = 1}), expected.data(), matrix(x, cols));
  check_rounded<float>("dsum", sum.values(), expected, 1e-6);
}

namespace {

template <class TX, class TY>
void check_scale_to_mean() {
  TwinState state({.inverse_targets = 1.0 / 37.0, .loss_scale = 64.0});
  using Kernel = kernel<op::scale_to_mean, Cuda, TX, TY>;
  using Reference = kernel<op::scale_to_mean, Cpu, double, double>;
  for (const index_t n : {0, 1, 7, 8, 9, 31, 33, 300, 2048, 2049}) {
    CAPTURE(n);
    for (const bool accumulate : {false, true}) {
      for (const Layout layout : {dense, skewed}) {
        next_schedule();
        const auto x = normal_values<TX>(n, 1);
        auto expected = normal_values<TY>(n, 2);
        Rows<TX> device_x(1, n, x, layout);
        Rows<TY> y = accumulate ? Rows<TY>(1, n, expected, layout) : Rows<TY>(1, n, layout);
        Kernel::run(cuda_device(), y.view().data, device_x.view().data, n, state.device(), accumulate);
        Reference::run(Cpu({.threads = 1}), expected.data(), x.data(), n, state.host(), accumulate);
        check_rounded<TY>("y", y.values(), expected, 2e-7);
        CHECK(y.gaps_untouched());
        if constexpr (std::is_same_v<TX, TY>) {
          if (!accumulate) {
            Kernel::run(cuda_device(), device_x.view().data, device_x.view().data, n, state.device(), false);
            CHECK(device_x.values() == y.values());
          }
        }
      }
    }
  }
}

}  // namespace

TEST_CASE_TEMPLATE("scale_to_mean scales by what the state says", T, STORYLM_CUDA_DTYPES) {
  check_scale_to_mean<T, T>();
  if constexpr (sizeof(T) == 2) check_scale_to_mean<T, float>();
}

TEST_CASE_TEMPLATE("gather_rows copies bits", T, STORYLM_CUDA_DTYPES) {
  for (const Size& size : sizes) {
    CAPTURE(text(size));
    next_schedule();
    const index_t from = 11;
    auto x = normal_values<T>(from * size.cols, 1);
    x[0] = NAN;
    RandomStream random(4);
    std::vector<std::int32_t> rows(static_cast<std::size_t>(size.rows));
    for (auto& r : rows) r = static_cast<std::int32_t>(random.below(from));
    const auto device_rows = Tensor<std::int32_t, Cuda>::from_host({size.rows}, rows, cuda_device());
    Rows<T> device_x(from, size.cols, x, size.layout);
    Rows<T> y(size.rows, size.cols, size.layout);
    kernel<op::gather_rows, Cuda, T>::run(cuda_device(), y.view(), device_x.view(), device_rows.data());
    std::vector<double> expected;
    for (const std::int32_t r : rows) {
      expected.insert(expected.end(), x.begin() + r * size.cols, x.begin() + (r + 1) * size.cols);
    }
    CHECK(bits_of(y.values()) == bits_of(expected));
    CHECK(y.gaps_untouched());
  }
}

TEST_CASE_TEMPLATE("sum adds to a total in double", T, STORYLM_CUDA_DTYPES) {
  for (const index_t n : {0, 1, 7, 8, 9, 33, 300, 2048, 16384, 16385, 40003}) {
    for (const Layout layout : {dense, skewed}) {
      CAPTURE(n);
      next_schedule();
      auto values = normal_values<T>(n, 1);
      if (n > 16)
        values[3] = rounded<T>(std::is_same_v<T, half> ? 6e4 : 1e7);  // in float the others lose digits beside it
      double expected = 0.25;
      kernel<op::sum, Cpu, double>::run(Cpu({.threads = 1}), &expected, values.data(), n);
      Rows<T> device_values(1, n, values, layout);
      Tensor<double, Cuda> total = Tensor<double, Cuda>::from_host({1}, std::vector<double>{0.25}, cuda_device());
      kernel<op::sum, Cuda, T>::run(cuda_device(), total.data(), device_values.view().data, n);
      CHECK(std::abs(total.to_host()[0] - expected) <= 1e-13 * std::max(1.0, std::abs(expected)));
    }
  }
}

TEST_CASE_TEMPLATE("sums give the same bits in any order of the threads", T, STORYLM_CUDA_DTYPES) {
  for (const index_t cols : {20, 512}) {
    const index_t rows = 300;
    const auto x = normal_values<T>(rows * cols, 1);
    check_same_bits_always([&] {
      Rows<T> device_x(rows, cols, x);
      Rows<float> columns(1, cols, std::vector<double>(static_cast<std::size_t>(cols), 0.5));
      kernel<op::column_sum, Cuda, T, float>::run(cuda_device(), columns.view().data, device_x.view());
      Tensor<double, Cuda> total({1}, cuda_device());
      kernel<op::sum, Cuda, T>::run(cuda_device(), total.data(), device_x.view().data, rows * cols);
      auto bits = columns.bits();
      append(bits, bits_of(total.to_host()));
      return bits;
    });
  }
}

TEST_CASE("elementwise ops whose blocks have several turns") {
  const index_t cols = 2048 * 128 + 8;  // 129 x 33 blocks
  const std::vector<double> x = normal_values<bf16>(cols, 1);
  Rows<bf16> device_x(1, cols, x);
  Rows<bf16> y(33, cols);
  const auto rows = Tensor<std::int32_t, Cuda>({33}, cuda_device());
  kernel<op::gather_rows, Cuda, bf16>::run(cuda_device(), y.view(), device_x.view(), rows.data());
  const std::vector<double> found = y.values();
  std::size_t wrong = 0;
  for (std::size_t i = 0; i < found.size(); ++i) wrong += found[i] == x[i % x.size()] ? 0U : 1U;
  CHECK(wrong == 0);
}
